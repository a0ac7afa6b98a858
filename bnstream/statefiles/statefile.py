"""State files: Moments and layers on disk, to the last bit, in a .npz file that is safe to open.

    Moments     n, mean, mean_lo, m2, m2_lo: the rows of its state, each with the shape of the channels; further
                rows where there are weights, or an m2 that exceeds the largest float; min, max, missing, m3,
                m3_lo, m4, m4_lo, what of them is tracked
    GroupedMoments      the same rows, each with the shape (groups, *channels); the keys are in bnstream.json
    BatchNorm   running_mean, running_var and four more rows; gamma and beta; pooled_n, ... if it has `pooled`
    DomainBatchNorm     those of the layer of each domain, which begin with 0_, 1_, ...; of the next new one, with new_
    others      gamma and beta; running_mean, running_var and averages_n, ... of instance norm that has them

``numpy.load`` reads the arrays. The member bnstream.json holds their meaning and all settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.checks import path_of
from bnstream.core.config import version
from bnstream.core.dtypes import NamedArrays
from bnstream.core.groups.domainbatchnorm import DomainBatchNorm
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.labels import listed
from bnstream.core.layer import NormLayer
from bnstream.core.moments import Moments
from bnstream.statefiles.archive import StateError, has_description, read_archive, write_archive
from bnstream.statefiles.atomic import replacing
from bnstream.statefiles.description import (
    Fields,
    describe_batchnorm,
    describe_moments,
    meanings,
    restore_batchnorm,
    restore_moments,
)
from bnstream.statefiles.domains import describe_domains, meanings_of_domains, restore_domains
from bnstream.statefiles.groups import describe_groups, meanings_of_groups, restore_groups
from bnstream.statefiles.norms import MEANINGS, NORMS, describe_norm, restore_norm

__all__ = ["StateError", "StateFile", "complete", "is_state", "load", "read", "save", "write"]

VERSION = 2     # of the format; 1 where nothing is tracked
# Members of the description, and their types, that are not those of the state: which may have any value, ...
FREE: dict[str, type] = {"bnstream": str, "conventions": dict}
MORE: dict[str, dict[str, type]] = {"complete": {}, "partial": {"progress": dict}, "imported": {"lacks": list}}
EARLIER = {"per_channel"}       # ... and which earlier versions wrote, and which have no meaning any more.

State = Moments | GroupedMoments | NormLayer | DomainBatchNorm


class Kind(NamedTuple):
    """How states of one kind are written and read."""

    of: type
    describe: Callable[[Any], tuple[dict[str, Any], NamedArrays]]
    restore: Callable[[Fields, NamedArrays], State]
    meanings: Callable[[NamedArrays], Mapping[str, str]]


KINDS = {
    "moments": Kind(Moments, describe_moments, restore_moments, partial(meanings, "moments")),
    "batchnorm": Kind(BatchNorm, describe_batchnorm, restore_batchnorm, partial(meanings, "batchnorm")),
    **{name: Kind(norm, describe_norm, partial(restore_norm, norm), lambda arrays: MEANINGS)
       for name, norm in NORMS.items()},
    "groups": Kind(GroupedMoments, describe_groups, restore_groups, meanings_of_groups),
    "domainbatchnorm": Kind(DomainBatchNorm, describe_domains, restore_domains, meanings_of_domains),
}


@dataclass(frozen=True)
class StateFile:
    """The content of a state file, as `read` returns it."""

    state: State
    metadata: dict[str, Any]
    """What the file says about itself: "kind", "completeness", "progress", "lacks", the version "bnstream", ..."""


def save(path: str | os.PathLike[str], state: State) -> None:
    """Write a state to a file.

    Parameters
    ----------
    path : path
        As given; the usual suffix is .npz, which is not added. An old file is replaced when the new one is complete on
        the disk.
    state : Moments, GroupedMoments, BatchNorm, DomainBatchNorm, LayerNorm, RMSNorm, GroupNorm or InstanceNorm

    Raises
    ------
    TypeError
        If `path` is not a path, or `state` is none of these.
    ValueError
        If the `running_var` of a layer was set to negative values in place, or merges have brought a count of values
        past 2**53, up to which counts are exact, or 2**62 for exact statistics.
    OSError
        If the file cannot be written. It names `path`; an old file is then as it was.

    See Also
    --------
    load : read the state again.

    Notes
    -----
    The file is a .npz file without pickle, which ``numpy.load`` also reads. It holds the whole state, for a layer also
    its mode and pooled statistics, but not its gradients and last x. Equal states give equal bytes.

    Examples
    --------
    >>> import bnstream, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bnstream.save(f"{folder}/stats.npz", bnstream.Moments(names=["height", "weight"]))
    ...     bnstream.load(f"{folder}/stats.npz").names
    ('height', 'weight')
    """
    write(path, state)


def write(
    path: str | os.PathLike[str],
    state: State,
    *,
    progress: Mapping[str, Any] | None = None,
    lacks: Sequence[str] | None = None,
) -> None:
    """Write a state to a file, with what `read` returns beside it.

    Parameters
    ----------
    path, state
        As for `save`.
    progress : dict, optional
        For a checkpoint: the position of an unfinished pass, in values that JSON can hold.
    lacks : sequence of str, optional
        For a state converted from the arrays of another tool: what these do not record.

    Raises
    ------
    TypeError, OSError
        As for `save`, and if `progress` holds what JSON cannot.

    Examples
    --------
    >>> import bnstream, tempfile
    >>> from bnstream.statefiles import read, write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/stats.npz", bnstream.Moments(), lacks=["n"])
    ...     read(f"{folder}/stats.npz").metadata["lacks"]
    ['n']
    """
    kind = next((kind for kind, one in KINDS.items() if isinstance(state, one.of)), None)
    if kind is None:
        raise TypeError(f"expected a Moments, a GroupedMoments or a layer to save, got {type(state).__name__}")
    completeness = "partial" if progress is not None else "complete" if lacks is None else "imported"
    description, arrays = KINDS[kind].describe(state)
    metadata: dict[str, Any] = {
        **heading(kind, description, completeness), "bnstream": version(), **description,
        "conventions": KINDS[kind].meanings(arrays),
    }
    if progress is not None:
        metadata["progress"] = progress
    if lacks is not None:
        metadata["lacks"] = list(lacks)
    with replacing(path_of("path", path)) as file:
        write_archive(file, arrays, metadata)


def heading(kind: str, description: Mapping[str, Any], completeness: str) -> dict[str, Any]:
    """How a file begins."""
    return {"format": "bnstream", "version": VERSION if tracks(description) else 1, "kind": kind,
            "completeness": completeness}


def tracks(described: object) -> bool:
    """Whether any statistics that are described here track something, those of a layer within it included."""
    if not isinstance(described, Mapping):
        return False
    layers = described.get("layers")
    within = [described.get(name) for name in ("pooled", "averages", "new")]
    return "track" in described or any(map(tracks, [*within, *(layers if isinstance(layers, list) else ())]))


def load(path: str | os.PathLike[str]) -> Any:
    """Read a state from a file that `save` of this version or an earlier one wrote.

    Parameters
    ----------
    path : path
        The file need not be trusted: no code in it is run, and an impossible state is refused.

    Returns
    -------
    Moments, GroupedMoments, BatchNorm, DomainBatchNorm, LayerNorm, RMSNorm, GroupNorm or InstanceNorm
        Equal to the saved state. Further updates give the same bits.

    Raises
    ------
    StateError
        A ValueError: if the file is damaged, truncated, from a newer bnstream, or not a state file.
    ValueError
        If the file is the checkpoint of an unfinished pass.
    TypeError
        If `path` is not a path.
    OSError
        If the file cannot be opened or read.

    See Also
    --------
    save : write a state.

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
    """Like `read`, but refuse checkpoints."""
    file = read(path)
    if file.metadata["completeness"] == "partial":
        raise ValueError(f"{path} is the checkpoint of an unfinished pass; resume it with bnstream fit ... --resume")
    return file


def read(path: str | os.PathLike[str]) -> StateFile:
    """Read the state in a file, which may be a checkpoint, and what the file says about it.

    Parameters
    ----------
    path : path

    Returns
    -------
    StateFile

    Raises
    ------
    StateError, TypeError, OSError
        As for `load`.

    Examples
    --------
    >>> import bnstream, tempfile
    >>> from bnstream.statefiles import read, write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/stats.npz", bnstream.Moments(), progress={"row": 100})
    ...     read(f"{folder}/stats.npz").metadata["progress"]
    {'row': 100}
    """
    arrays, metadata = read_archive(path_of("path", path))
    if metadata.get("format") != "bnstream":
        raise StateError(f"{path} is not a bnstream state file: its format is {metadata.get('format')!r:.60}")
    found = metadata.get("version")
    if type(found) is not int or found < 1:
        raise StateError(f"{path}: the version of the format must be a positive integer, got {found!r:.60}")
    if found > VERSION:
        raise StateError(f"{path} was written by a newer bnstream: it has version {found!r:.60} of the format, and "
                         f"this one reads up to {VERSION}; upgrade with: pip install --upgrade bnstream")
    try:
        fields = Fields(metadata)
        kind = fields.one_of("kind", *KINDS)
        completeness = fields.one_of("completeness", "complete", "partial", "imported")
        for name in (free := FREE | MORE[completeness]):
            fields.get(name, free[name])
        if completeness == "imported":
            fields.all_of("lacks", str)
        file = restored(kind, fields, arrays)
    except (TypeError, ValueError, OverflowError) as error:
        raise StateError(f"{path} holds no valid state: {error!s:.1000}") from error
    return file


def restored(kind: str, fields: Fields, arrays: NamedArrays) -> StateFile:
    """The content of a file; raise an error if no state has it."""
    left = dict(arrays)
    with np.errstate(all="ignore"):         # A stranger's numbers may overflow in the checks, or be signaling NaN.
        file = StateFile(KINDS[kind].restore(fields, left), fields.values)
        if left:
            raise ValueError(f"a state of kind {kind!r} does not have the arrays {in_brackets(left)}")
        require_as_written(file, arrays)
    return file


def require_as_written(file: StateFile, arrays: NamedArrays) -> None:
    """Raise ValueError unless a file holds what `write` writes of its state, to the last bit.

    So nothing in a file is rounded, overruled or left out in silence.
    """
    found = file.metadata
    expected, own = KINDS[found["kind"]].describe(file.state)
    expected |= heading(found["kind"], expected, found["completeness"])
    unknown = found.keys() - expected.keys() - FREE.keys() - MORE[found["completeness"]].keys() - EARLIER
    if unknown:
        raise ValueError(f"a state of kind {found['kind']!r} does not have the members {in_brackets(unknown)}")
    for name, value in expected.items():
        text = json.dumps(value, sort_keys=True)
        other = json.dumps(found[name], sort_keys=True) if name in found else "nothing"
        if text != other:
            raise ValueError(f"{name} of this state is {text:.60}, got {other:.60}")
    for name, array in arrays.items():
        if name not in own or own[name].shape != array.shape or own[name].tobytes() != array.tobytes():
            raise ValueError(f"{name} has values that this state does not keep, such as those that its dtype rounds")


def in_brackets(names: Iterable[str]) -> str:
    return f"[{listed([f'{name!r:.60}' for name in sorted(names)])}]"


def is_state(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a state file or a checkpoint, by the names of its members.

    Parameters
    ----------
    path : path

    Raises
    ------
    TypeError
        If `path` is not a path.
    OSError
        If the file cannot be opened or read.

    Examples
    --------
    >>> import bnstream
    >>> from bnstream.statefiles import is_state
    >>> is_state(bnstream.__file__)
    False
    """
    with path_of("path", path).open("rb") as file:
        return has_description(file)
