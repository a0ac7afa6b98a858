"""The state files that commands read."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bnstream.core.moments import Moments


def load_with_lacks(path: Path) -> tuple[Any, Sequence[str] | None]:
    """Load a state, and what it lacks if it was imported from another tool, else None. Refuse a checkpoint."""
    from bnstream.statefiles import complete

    file = complete(path)
    return file.state, (file.metadata["lacks"] or ()) if file.metadata["completeness"] == "imported" else None


def load_moments(
    paths: Sequence[Path], done: str, kinds: tuple[type, ...] = (Moments,)
) -> tuple[list[Any], list[str] | None]:
    """Load statistics of one of these kinds, and what they lack if some were imported, else None.

    Raises
    ------
    ValueError
        If a file holds something else, or files hold different kinds. `done` is what the command does to
        statistics, such as "merged".
    """
    states, all_lacks = zip(*map(load_with_lacks, paths), strict=True)
    for path, m in zip(paths, states, strict=True):
        if not isinstance(m, kinds):
            names = " and ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{path} holds a {type(m).__name__}; only {names}, as fit writes, can be {done}")
        if type(m) is not type(states[0]):
            raise ValueError(f"{path} holds a {type(m).__name__}, but {paths[0]} holds a {type(states[0]).__name__}")
    imported = [lacks for lacks in all_lacks if lacks is not None]
    return list(states), list(dict.fromkeys(chain(*imported))) if imported else None
