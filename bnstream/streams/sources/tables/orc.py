"""ORC files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyarrow import orc  # type: ignore[import-untyped]

from bnstream.streams.sources.tables.batches import Batches, BatchFile


class OrcFile(BatchFile):
    """An ORC file, of which only the selected columns are read, a stripe at a time."""

    @contextmanager
    def open(self) -> Iterator[Batches]:
        with self.file.open() as content:
            file = orc.ORCFile(content)

            def read(columns: list[str], rows: int) -> Iterator[Any]:
                return (file.read_stripe(i, columns).select(columns) for i in range(file.nstripes))

            yield Batches(file.schema, read)
