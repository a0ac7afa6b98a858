"""Files of the IPC formats of Arrow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import ipc

from bnstream.streams.sources.tables.batches import Batches, BatchFile


class ArrowFile(BatchFile):
    """A file of the Arrow IPC formats: .arrow, .feather, or the stream .arrows. Only the selected columns are read."""

    @contextmanager
    def open(self) -> Iterator[Batches]:
        place = self.file.for_library()
        with pa.OSFile(str(place)) if isinstance(place, Path) else pa.PythonFile(place, "r") as file:
            open_as = ipc.open_file if file.read(6) == b"ARROW1" else ipc.open_stream

            def reader(**options: Any) -> Any:
                file.seek(0)
                return open_as(file, options=ipc.IpcReadOptions(**options))

            def read(columns: list[str], rows: int) -> Iterator[Any]:
                chosen = set(columns)
                fields = [i for i, name in enumerate(schema.names) if name in chosen]
                return (batch.select(columns) for batch in batches_of(reader(included_fields=fields)))

            try:
                schema = reader().schema if self.schema is None else self.schema
                yield Batches(schema, read)
            except (OSError, pa.ArrowException) as error:
                if self.file.fault is None:
                    raise
                raise self.file.fault from error


def batches_of(reader: Any) -> Iterator[Any]:
    """The record batches of an open file of an IPC format."""
    if hasattr(reader, "get_batch"):
        return map(reader.get_batch, range(reader.num_record_batches))
    return iter(reader)
