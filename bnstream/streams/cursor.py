"""Where a pass over sources is: its progress, and what a checkpoint records."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.labels import counted
from bnstream.core.moments import Moments
from bnstream.statefiles import read
from bnstream.streams.sources import Piece, Source, SourceError


class Progress(NamedTuple):
    """How far a pass over sources is."""

    share: float | None
    """From 0 to 1; None if the size of the source is unknown."""
    n_rows: int
    """Rows, or images, so far."""
    source: str
    """Name of the source that is being read."""


class Cursor:
    """Where a pass is, and the sources and arguments that a pass must share to resume there."""

    def __init__(self, sources: Sequence[Source], arguments: dict[str, Any]) -> None:
        self.sources = sources
        plan = {"arguments": arguments, "sources": [source.mark for source in sources]}
        self.plan = json.loads(json.dumps(plan, default=operator.index))
        self.sizes = [source.size for source in sources]
        self.index = self.start = 0     # the source, and where its next piece starts
        self.n_rows = 0

    def advance(self, index: int, piece: Piece, n_rows: int) -> bool:
        """Move past a piece; return whether a pass could resume from there."""
        self.n_rows += n_rows
        if piece.stop is None:
            return False
        self.index, self.start = index, piece.stop
        return True

    def progress(self) -> Progress:
        source = self.sources[self.index]
        if source.extent is None and len(self.sources) == 1:
            return Progress(None, self.n_rows, source.name)
        part = self.start / source.extent if source.extent else 0.0
        done = sum(self.sizes[:self.index]) + part * self.sizes[self.index]
        return Progress(done / max(sum(self.sizes), 1), self.n_rows, source.name)

    def to_json(self) -> dict[str, Any]:
        return {**self.plan, "at": [self.index, self.start], "n_rows": self.n_rows}

    def resume(self, checkpoint: Path) -> Moments | GroupedMoments:
        """Move to where a checkpoint was made and return its moments.

        Raises
        ------
        SourceError
            If the checkpoint is not one of the same pass. Where the pass ended at a fault in its data, the sources that
            it had not begun may differ.
        """
        file = read(checkpoint)
        saved = file.metadata.get("progress")
        if not isinstance(saved, dict) or not isinstance(file.state, Moments | GroupedMoments):
            raise SourceError(f"{checkpoint} is not a checkpoint of an unfinished fit; delete it to start again, with "
                              "restart=True (--restart)")
        match saved:
            case {"at": [int(index), int(start)], "n_rows": int(n_rows)} if (
                0 <= index < len(self.sources) and start >= 0 and n_rows >= 0
            ):
                n_begun = index + (start > 0)
            case _:
                raise SourceError(f"{checkpoint} records no place in the sources, got at={saved.get('at')!r:.60}, "
                                  f"n_rows={saved.get('n_rows')!r:.60}; delete it to start again, with restart=True "
                                  "(--restart)")
        difference = self.difference(saved, n_begun if "fault" in saved else None)
        if difference:
            raise SourceError(f"{checkpoint} was made {difference}, or begin anew with restart=True (--restart)")
        self.index, self.start, self.n_rows = index, start, n_rows
        return file.state

    def difference(self, saved: dict[str, Any], n_begun: int | None = None) -> str:
        """Describe how the pass of a checkpoint differs in its arguments or its first sources; "" if it does not."""
        if saved.get("arguments") != self.plan["arguments"]:
            found = difference(saved.get("arguments"), self.plan["arguments"])
            return f"with {found}; resume with the same arguments"
        before, now = saved.get("sources"), self.plan["sources"]
        if n_begun is not None and isinstance(before, list):
            before, now = before[:n_begun], now[:n_begun]
        return "" if before == now else f"from {difference(before, now)}; resume with the same sources"

    def require_other(self, checkpoint: Path) -> None:
        """Raise SourceError if this pass might go on from a checkpoint, or the pass of the checkpoint might.

        A pass that ended at a fault does not go on as it was; another one need not wait for it.
        """
        saved = read(checkpoint).metadata.get("progress") or {}
        fault = saved.get("fault")
        if fault is not None and self.difference(saved):
            return
        ended = "" if fault is None else f", of a pass that ended at a fault ({fault})"
        raise SourceError(f"there is a checkpoint, {checkpoint}{ended}; resume from it with resume=True (--resume), or "
                          "begin anew with restart=True (--restart)")


def difference(saved: Any, now: Any) -> str:
    """Describe what differs between the arguments or sources of a checkpoint and those of this pass."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return "; ".join(f"{key}={saved.get(key)!r}, now {now.get(key)!r}" for key in {**now, **saved}
                         if saved.get(key) != now.get(key))
    if not isinstance(saved, list) or len(saved) != len(now):
        return f"{counted(len(saved) if isinstance(saved, list) else 0, 'source', 'sources')}, now {len(now)}"
    return next(f"{old} (path, size, time), now {new}" for old, new in zip(saved, now, strict=True) if old != new)
