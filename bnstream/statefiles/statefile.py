"""State files: Moments and BatchNorm on disk, to the last bit, in one .npz file that is safe to open.

    Moments     n, mean, mean_lo, m2, m2_lo: the rows of its state, each of the shape of the channels
    BatchNorm   running_mean, running_var and four more rows, gamma and beta; pooled_n, ... where it has `pooled`

The arrays are readable by ``numpy.load``; what they mean and all settings are in the member bnstream.json.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bnstream
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.moments import Moments
from bnstream.statefiles import archive
from bnstream.statefiles.archive import StateError
from bnstream.statefiles.atomic import replacing
from bnstream.statefiles.description import (
    CONVENTIONS,
    Fields,
    describe_batchnorm,
    describe_moments,
    restore_batchnorm,
    restore_moments,
)

__all__ = ["StateError", "StateFile", "load", "read", "save"]

VERSION = 1


@dataclass(frozen=True)
class StateFile:
    """What `read` finds in a state file."""

    state: Moments | BatchNorm
    metadata: dict[str, Any]
    """What the file says of itself: "completeness", "progress", "lacks", "bnstream" (the version that wrote it), ..."""


def save(
    path: str | os.PathLike[str],
    state: Moments | BatchNorm,
    *,
    progress: Mapping[str, Any] | None = None,
    lacks: Sequence[str] | None = None,
) -> None:
    """Write a state to a file.

    Parameters
    ----------
    path : path
        As given; .npz is usual, and not added. An old file is replaced once the new one is complete on the disk.
    state : Moments or BatchNorm
    progress : dict, optional
        For a checkpoint: how far an unfinished pass is, in what JSON can hold.
    lacks : sequence of str, optional
        For a state made from the arrays of another tool: what these did not tell.

    Raises
    ------
    TypeError
        If `state` is something else, or `progress` not for JSON.
    OSError
        If the file cannot be written. It names `path`; an old file is then as it was.

    See Also
    --------
    load : the way back.

    Notes
    -----
    A .npz file without pickle, for ``numpy.load``, too. All is kept in full, the running estimates of a layer, its mode
    and what it pooled; only its gradients and its last x are not. The same state gives the same bytes.

    Examples
    --------
    >>> import bnstream, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bnstream.save(f"{folder}/stats.npz", bnstream.Moments(names=["height", "weight"]))
    ...     bnstream.load(f"{folder}/stats.npz").names
    ('height', 'weight')
    """
    if isinstance(state, Moments):
        kind, (told, arrays) = "moments", describe_moments(state)
    elif isinstance(state, BatchNorm):
        kind, (told, arrays) = "batchnorm", describe_batchnorm(state)
    else:
        raise TypeError(f"expected a Moments or a BatchNorm to save, got {type(state).__name__}")
    metadata: dict[str, Any] = {
        "format": "bnstream", "version": VERSION, "bnstream": bnstream.__version__, "kind": kind,
        "completeness": "partial" if progress is not None else "complete" if lacks is None else "imported",
        **told, "conventions": CONVENTIONS[kind],
    }
    if progress is not None:
        metadata["progress"] = progress
    if lacks is not None:
        metadata["lacks"] = list(lacks)
    with replacing(path) as file:
        archive.write(file, arrays, metadata)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a state from a file that `save` wrote, this version or any one before.

    Parameters
    ----------
    path : path
        It need not be trusted: nothing in it is run, and a state that could not be is refused.

    Returns
    -------
    Moments or BatchNorm
        Equal to what was saved, and going on with the same bits.

    Raises
    ------
    StateError
        A ValueError: the file is damaged, cut, of a newer bnstream, or no state file.
    ValueError
        If it is the checkpoint of an unfinished pass.
    OSError
        If it cannot be opened or read.

    See Also
    --------
    save : the way there.

    Examples
    --------
    >>> import bnstream, tempfile
    >>> bn = bnstream.BatchNorm(3).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bnstream.save(f"{folder}/bn.npz", bn)
    ...     bnstream.load(f"{folder}/bn.npz") == bn
    True
    """
    return complete(path).state


def complete(path: str | os.PathLike[str]) -> StateFile:
    """As `read`, but for checkpoints, which are refused."""
    file = read(path)
    if file.metadata["completeness"] == "partial":
        raise ValueError(f"{path} is a checkpoint, of a pass over sources that has not ended; bnstream fit ... "
                         "--resume goes on with it")
    return file


def read(path: str | os.PathLike[str]) -> StateFile:
    """The state in a file and what the file says of it, of checkpoints, too.

    Parameters
    ----------
    path : path

    Returns
    -------
    StateFile

    Raises
    ------
    StateError, OSError
        As `load`.

    Examples
    --------
    >>> import bnstream, tempfile
    >>> from bnstream.statefiles import read
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bnstream.save(f"{folder}/stats.npz", bnstream.Moments(), progress={"row": 100})
    ...     read(f"{folder}/stats.npz").metadata["progress"]
    {'row': 100}
    """
    arrays, metadata = archive.read(Path(path))
    if metadata.get("format") != "bnstream":
        raise StateError(f"{path} is no state file of bnstream: its format is {metadata.get('format')!r}")
    version = metadata.get("version")
    if type(version) is not int or version < 1:
        raise StateError(f"{path}: the version of the format must be a whole number from 1 on, got {version!r}")
    if version > VERSION:
        raise StateError(f"{path} was written by a newer bnstream, version {version} of the format, where this one "
                         f"knows {VERSION}; update it: pip install --upgrade bnstream")
    try:
        fields = Fields(metadata)
        kind = fields.one_of("kind", "moments", "batchnorm")
        completeness = fields.one_of("completeness", "complete", "partial", "imported")
        if completeness == "partial":
            fields.get("progress", dict)
        if completeness == "imported":
            fields.all_of("lacks", str)
        restore: Any = restore_moments if kind == "moments" else restore_batchnorm
        state = restore(fields, arrays)
        if arrays:
            raise ValueError(f"there are arrays that a state of kind {kind!r} does not have: {sorted(arrays)}")
    except (TypeError, ValueError, OverflowError) as error:
        raise StateError(f"{path} holds no state of bnstream: {error}") from error
    return StateFile(state, metadata)
