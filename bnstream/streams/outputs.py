"""A file that `apply` writes: its sources, how they are normalized, and the pass that writes it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bnstream.core.affine import Affine
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.groups.affine import GroupAffine
from bnstream.core.moments import Moments
from bnstream.statefiles.atomic import replacing
from bnstream.streams.cursor import Cursor, Progress
from bnstream.streams.normalizing import normalized_array, normalized_batch
from bnstream.streams.ordered import ordered_map
from bnstream.streams.sources import Piece, Source, SourceError
from bnstream.streams.sources.errors import reading
from bnstream.streams.sources.source import names_of
from bnstream.streams.writers import Writer, writing

Part = tuple[int, Piece, list[Any]]


class Output:
    """A file to write. Its dtypes are decided from all of its sources.

    state: the statistics, whose channel axes are those of arrays; None if the caller chose the axis.
    needs_rows: whether an output without rows is an error. It always is if the types of the columns are unknown.
    """

    def __init__(
        self, path: Path, sources: Sequence[Source], affine: Affine | GroupAffine, state: Moments | BatchNorm | None,
        keep: Sequence[str] | None, *, needs_rows: bool = False,
    ) -> None:
        self.path, self.sources, self.state, self.needs_rows = path, sources, state, needs_rows
        self.keep = [] if path.suffix == ".npy" else keep
        self.affine: Any = affine if affine.dtype is not None else with_widest(affine, sources)
        self.schema: Any = None
        if sources[0].is_table:
            if affine.names is None:
                raise SourceError(f"{names_of(sources)}: the statistics have no column names; fit them from a table, "
                                  "or set the names of the state")
            if all(source.schema is not None for source in sources):
                self.schema = self.schema_of({source.name: source.schema for source in sources}, sources[0])
                keys = [name for name in by_of(affine) if name not in self.schema.names]
                for source in sources:
                    source.select([*self.schema.names, *keys])

    def schema_of(self, schemas: dict[str, Any], source: Source) -> Any:
        from bnstream.streams.schema import output_schema

        return output_schema(schemas, source.fields, self.keep, self.affine.dtype,
                             dictionaries=self.path.suffix == ".parquet")

    def normalized(self, source: Source, piece: Piece) -> list[Any]:
        with reading(f"{source.name}, {piece.place}"):
            if not source.is_table:
                return [normalized_array(values, source, self.affine, self.state) for values in piece.load()]
            batches = []
            for batch in piece.load():
                schema = self.schema or self.schema_of({source.name: batch.schema}, source)
                batches.append(normalized_batch(batch, source, self.affine, schema))
            return batches

    def write(
        self, parts: Iterable[Part], sources: Sequence[Source], cursor: Cursor,
        progress: Callable[[Progress], object] | None,
    ) -> None:
        """Write the parts of a pass in their order.

        One thread writes while others load and normalize, unless the sources share their buffers.
        """
        n_rows = cursor.n_rows
        with replacing(self.path) as file, writing(file, self.path.suffix, self.affine.names, self.schema) as writer:
            with closing(written(writer, sources, parts)) as done:
                for index, piece, n in done:
                    cursor.advance(index, piece, n)
                    if progress is not None:
                        progress(cursor.progress())
            if cursor.n_rows == n_rows and (self.needs_rows or self.schema is None or self.path.suffix == ".npy"):
                raise SourceError(f"{names_of(self.sources)}: no rows; there is nothing to normalize")


def written(
    writer: Writer, sources: Sequence[Source], parts: Iterable[Part]
) -> Generator[tuple[int, Piece, int], None, None]:
    """Write parts; yield the index of the source, the piece and the number of rows of each."""
    def write(part: Part) -> tuple[int, Piece, int]:
        index, piece, batches = part
        try:
            for batch in batches:
                writer.write(batch)
        except (RuntimeError, TypeError, ValueError) as error:      # all errors of pyarrow are among these
            raise SourceError(f"{sources[index].name}, {piece.place}: {error}") from error
        return index, piece, sum(map(len, batches))

    yield from map(write, parts) if any(source.in_turn for source in sources) else ordered_map(write, parts, 1)


def by_of(affine: Affine | GroupAffine) -> Sequence[str]:
    """The columns that hold the keys of rows."""
    return affine.by if isinstance(affine, GroupAffine) else ()


def with_widest(affine: Any, sources: Sequence[Source]) -> Any:
    """The map, with the widest dtype of its results for several arrays that differ."""
    dtypes = {source.dtype if source.dtype.kind == "f" else np.dtype(np.float32) for source in sources
              if source.dtype is not None}
    if len(dtypes) < 2:
        return affine
    affine = copy.copy(affine)
    affine.dtype = np.result_type(*dtypes)
    return affine
