"""The checkpoint of a pass of `fit`: when it is written, and what becomes of it when the pass ends midway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnstream.statefiles import read, write
from bnstream.streams.accumulator import Accumulator
from bnstream.streams.cursor import Cursor
from bnstream.streams.sources import SourceError
from bnstream.streams.sources.errors import UnreachableError


class Checkpoint:
    """A file with what a pass has read so far, beside its output; nothing is kept without an output.

    every: seconds between two checkpoints.
    """

    def __init__(self, out: Path | None, total: Accumulator, cursor: Cursor, every: float) -> None:
        self.path = None if out is None else Path(f"{out}.checkpoint")
        self.total, self.cursor, self.every = total, cursor, every
        self.kept_at = time.monotonic()

    def begin(self, *, resume: bool, restart: bool) -> None:
        """Go on from the checkpoint if the pass is to `resume`.

        Raises
        ------
        SourceError
            If it cannot be resumed, or if there is a checkpoint which the pass would replace without `restart`.
        """
        if self.path is None:
            return
        if resume:
            self.require_resumable()
        if resume and self.path.exists():
            self.total.restore(self.cursor.resume(self.path))
        elif not restart and self.path.exists():
            self.cursor.require_other(self.path)

    def require_resumable(self) -> None:
        """Raise SourceError if a source does not tell a resumed pass that it is the same."""
        passing = next((source.name for source in self.cursor.sources if not source.resumable), None)
        if passing is not None:
            raise SourceError(f"{passing} has no version, an ETag or a time, by which a resumed pass could tell that "
                              "it is the same; start again without resume=True (--resume)")

    def keep(self) -> bool:
        """Write what was read so far; return whether a pass can resume from it."""
        if self.path is None or not all(source.resumable for source in self.cursor.sources):
            return False
        write(self.path, self.total.result(), progress=self.cursor.to_json())
        return True

    def keep_in_time(self) -> None:
        """Write what was read so far, if the last checkpoint is old enough."""
        if time.monotonic() - self.kept_at >= self.every:
            self.keep()
            self.kept_at = time.monotonic()

    @contextmanager
    def noting_faults(self) -> Iterator[None]:
        """Keep what was read if a server fails; note it in the checkpoint if the pass ends at a fault in its data."""
        try:
            yield
        except UnreachableError as error:
            how = "the same call with resume=True (--resume) continues" if self.keep() else "start again"
            raise UnreachableError(f"{error}; {how} when the server is back") from error
        except SourceError as error:
            if self.path is not None and self.path.exists():
                file = read(self.path)
                write(self.path, file.state, progress={**file.metadata["progress"], "fault": str(error)})
            raise

    def remove(self) -> None:
        """Remove the checkpoint of a pass whose result is saved."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
