"""Opening any supported object as sources."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnstream.core.batches import batch_of
from bnstream.streams.sources.arrays.array import Array, is_array
from bnstream.streams.sources.arrays.grid import open_grids
from bnstream.streams.sources.arrays.lazyarrays import is_dataset, is_lazy
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.files import is_path, open_all, open_files, reader
from bnstream.streams.sources.iterables import Iterable
from bnstream.streams.sources.options import require_taken
from bnstream.streams.sources.places.openfiles import OpenFile, is_open_file
from bnstream.streams.sources.source import Source, Wanted, require_same

DUCKDB = "duckdb://"        # How a query of DuckDB begins: duckdb://FILE?QUERY.


def open_sources(source: Any, wanted: Wanted) -> list[Source]:
    """Open what `fit` and `apply` accept, as sources with the same channels."""
    if hasattr(source, "require_group"):        # of h5py or zarr
        raise TypeError(f"got the {type(source).__name__} {getattr(source, 'name', '')!r}, which holds arrays; give "
                        "one of them, or the path of the file and their names with variables=")
    if isinstance(source, Mapping) and not is_dataset(source) and any(map(is_table, source.values())):
        raise TypeError(f"got a {type(source).__name__} of tables, with the keys {', '.join(map(repr, source))}; give "
                        "one of the tables")
    if isinstance(source, Mapping) and not is_dataset(source):
        raise TypeError("expected a path, an array, a table or an iterable of these, got a mapping; make a table of it "
                        "with pyarrow.table or pandas.DataFrame, or put a mapping with a batch into a list")
    entries = source if isinstance(source, (list, tuple)) else [source]
    if entries and all(map(is_path, entries)):
        sources = open_paths([*map(os.fspath, entries)], wanted)
    elif is_open_file(source):
        sources = open_all([OpenFile(source)], wanted)
    elif entries is source and source and all(is_lazy(one) or is_dataset(one) for one in source):
        sources = [open_grids(one, wanted) for one in source]
        for index, one in enumerate(sources):
            one.name = f"item {index} of the {type(source).__name__}"
    else:
        sources = [open_data(source, wanted) or Iterable(source, wanted, open_batch)]
    require_meaning(sources[0], wanted)
    for other in sources[1:]:
        require_same(sources[0], other)
    if sources[0].in_blocks and len(sources) > 1 and "diff" in wanted.reading:
        raise SourceError(f"diff={wanted.reading['diff']!r} (--diff) would leave out the steps from one of "
                          f"{len(sources)} sources to the next; open them as one, with xarray.open_mfdataset")
    return sources


def open_paths(paths: Sequence[str], wanted: Wanted) -> list[Source]:
    """Open files, or the results of queries, which are strings in place of paths."""
    if not any(path.startswith(DUCKDB) for path in paths):
        return open_files(paths, wanted)
    for path in paths:
        if not path.startswith(DUCKDB):
            raise SourceError(f"{path} is a file, but other sources are queries of DuckDB; process each separately and "
                              "merge the statistics")
    return [reader("tables.frames", "query_source")(path, wanted) for path in paths]


def open_data(source: Any, wanted: Wanted) -> Source | None:
    """Open a table or an array; None if it is neither."""
    if hasattr(source, "tocsr"):
        raise TypeError(f"expected an array with all of its values, got the sparse {type(source).__name__}; give it to "
                        "bnstream.sklearn.StandardScaler, or make an array of it with toarray()")
    if isinstance(source, np.ma.MaskedArray):
        raise TypeError("got a masked array; leave the masked elements out with x.astype(float).filled(np.nan) and "
                        "nan_policy='omit' (--nan omit), or fill them with x.filled(value)")
    if is_lazy(source) or is_dataset(source):
        return open_grids(source, wanted)
    if is_table(source):
        return reader("tables.frames", "table_source")(source, wanted)
    return Array(source, wanted) if is_array(source) else None


def open_batch(item: Any, wanted: Wanted) -> Source:
    """Open a batch of an iterable: a table, an array, or an array with weights or a mask in a mapping."""
    batch: Any = item
    positions: dict[str, Any] = {}
    if isinstance(item, Mapping) and not is_dataset(item):
        if wanted.whole_rows:
            raise TypeError("expected arrays or tables to normalize, got a mapping; give its batch alone")
        try:
            batch, positions = batch_of(item)
        except ValueError as error:
            raise SourceError(str(error)) from error
        if is_path(batch) or is_table(batch):
            raise SourceError(f"the batch in a mapping must be an array, got {type(batch).__name__}; put the weights "
                              "of a table into a column, and name it with weights=")
    source = Array(batch, wanted, positions) if positions else open_data(batch, wanted)
    if source is None:
        raise TypeError(f"expected an array, a table or a row, got {type(batch).__name__}")
    require_meaning(source, wanted)
    return source


def require_meaning(source: Source, wanted: Wanted) -> None:
    """Raise SourceError if an option is given that does not concern a source."""
    require_taken(wanted.reading, source.takes, source.name)
    if wanted.channel_axis is not None and not hasattr(source, "slicing") and not isinstance(source, Iterable):
        what = "its columns" if source.is_table else "the last axis of its images"
        raise SourceError(f"the channels of {source.name} are {what}; leave out channel_axis={wanted.channel_axis} "
                          "(--channel-axis), which is for arrays")


def is_table(source: Any) -> bool:
    """Whether it gives record batches: an Arrow stream with rows and columns, or a table that is read by parts."""
    if hasattr(source, "__arrow_c_stream__"):
        return len(getattr(source, "shape", (0, 0))) == 2
    of_polars = hasattr(source, "collect") and hasattr(source, "lazy")
    of_hugging_face = hasattr(source, "select_columns") and hasattr(source, "with_format") and hasattr(source, "data")
    return of_polars or of_hugging_face or hasattr(source, "scanner") or hasattr(source, "to_reader")
