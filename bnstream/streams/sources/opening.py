"""Opening any supported object as sources."""

import os
from collections.abc import Mapping
from typing import Any

from bnstream.core.batches import batch_of
from bnstream.streams.sources.arrays import Array, is_array
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.files import is_path, open_files, reader
from bnstream.streams.sources.iterables import Iterable
from bnstream.streams.sources.options import require_taken
from bnstream.streams.sources.source import Source, Wanted, require_same


def open_sources(source: Any, wanted: Wanted) -> list[Source]:
    """Open what `fit` and `apply` accept, as sources with the same channels."""
    if isinstance(source, Mapping):
        raise TypeError("expected a path, an array, a table or an iterable of these, got a mapping; make a table of it "
                        "with pyarrow.table or pandas.DataFrame, or put a mapping with a batch into a list")
    if hasattr(source, "collect") and hasattr(source, "lazy"):
        raise TypeError(f"the {type(source).__name__} is lazy; collect() it, or give the path of its file")
    if is_path(source):
        sources = open_files([os.fspath(source)], wanted)
    elif isinstance(source, (list, tuple)) and source and all(is_path(entry) for entry in source):
        sources = open_files([os.fspath(entry) for entry in source], wanted)
    elif is_table(source):
        sources = [reader("arrow", "ArrowStream")(source, wanted)]
    elif is_array(source):
        sources = [Array(source, wanted)]
    else:
        sources = [Iterable(source, wanted, open_item)]
    require_taken(wanted.reading, sources[0].takes, sources[0].name)
    if wanted.channel_axis is not None and not hasattr(sources[0], "slicing") and not isinstance(sources[0], Iterable):
        what = "its columns" if sources[0].batch_axes is None else "the last axis of its images"
        raise SourceError(f"the channels of {sources[0].name} are {what}; leave out channel_axis={wanted.channel_axis} "
                          "(--channel-axis), which is for arrays")
    for other in sources[1:]:
        require_same(sources[0], other)
    return sources


def open_item(item: Any, wanted: Wanted) -> list[Source]:
    """Open an item of an iterable: what `open_sources` accepts, or an array with weights or a mask in a mapping."""
    if not isinstance(item, Mapping):
        return open_sources(item, wanted)
    if wanted.whole_rows:
        raise TypeError("expected arrays or tables to normalize, got a mapping; give its batch alone")
    try:
        batch, positions = batch_of(item)
    except ValueError as error:
        raise SourceError(str(error)) from error
    if is_path(batch) or is_table(batch):
        raise SourceError(f"the batch in a mapping must be an array, got {type(batch).__name__}; put the weights of a "
                          "table into a column, and name it with weights=")
    return [Array(batch, wanted, positions)]


def is_table(source: Any) -> bool:
    """Whether pyarrow can read it: an Arrow stream with rows and columns, or a dataset."""
    is_stream = hasattr(source, "__arrow_c_stream__") and len(getattr(source, "shape", (0, 0))) == 2
    return is_stream or hasattr(source, "scanner")
