"""The state files that commands read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def load_with_lacks(path: Path) -> tuple[Any, Sequence[str] | None]:
    """Load a state, and what it lacks if it was imported from another tool, else None. Refuse a checkpoint."""
    from bnstream.statefiles import complete

    file = complete(path)
    return file.state, (file.metadata["lacks"] or ()) if file.metadata["completeness"] == "imported" else None
