"""What an output may replace: a state may replace a state, and all else is replaced where the caller insists."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bnstream.statefiles.statefile import is_state

INSIST = "or replace it with force=True (--force)"


def require_replaceable(
    out: Path, inputs: Iterable[str | os.PathLike[str]] = (), *, force: bool = False,
    old: bool | Literal["state"] = "state",
) -> None:
    """Check that an output replaces nothing by mistake. What is no regular file, as /dev/null, may be written to.

    Parameters
    ----------
    out : path
    inputs : iterable of paths
        The files that are read. A link to one of them is the same file.
    force : bool
        Whether the caller insists.
    old : bool or "state"
        Whether an older file that is no input may be replaced; "state": if it is a state file.

    Raises
    ------
    ValueError
        If the output is one of the inputs.
    FileExistsError
        If it exists, and may not be replaced.
    """
    if force or not out.is_file():
        return
    for path in inputs:
        if is_same(out, path):
            raise ValueError(f"{out} is one of the sources and would be replaced; give another name, {INSIST}")
    if not old:
        raise FileExistsError(f"{out} exists; give another name, {INSIST}")
    if old == "state" and not is_state(out):
        raise FileExistsError(f"{out} exists and is not a state file; give another name, {INSIST}")


def is_same(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two names are of one file, through links as well; False if one does not exist."""
    try:
        return Path(path).samefile(other)
    except OSError:
        return False
