"""GroupedMoments as named arrays and a dict for JSON, and back. What comes back is checked, not trusted.

The arrays are those of a `Moments` whose channels are (groups, \\*channels). The keys are in the description.
"""

from __future__ import annotations

from types import NoneType
from typing import Any

from bnstream.core.dtypes import NamedArrays
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.groups.keycolumns import LARGEST, LEAST
from bnstream.statefiles.description import MEANINGS_OF_MOMENTS, Fields, describe_moments, meanings, restore_moments

MEANINGS = {
    "keys": "the keys of the groups, in the order of the first axis of the arrays; a list where a key has several "
            "columns; null: missing",
    "weighted": "the places of the groups whose n is a sum of weights; of the others sum_of_squared_weights is n",
    "missing_keys": "what is done about rows without a key: raise, omit, or keep them as the group of the key null",
}
KINDS = {"int": int, "bool": bool, "str": str, "missing": NoneType}


def meanings_of_groups(arrays: NamedArrays) -> dict[str, str]:
    """What a file says about its arrays and settings."""
    return meanings("moments", arrays) | MEANINGS_OF_MOMENTS | MEANINGS


def describe_groups(g: GroupedMoments) -> tuple[dict[str, Any], NamedArrays]:
    """Describe a GroupedMoments in a dict, and return its rows as arrays."""
    g = g.copy()            # consistent even if another thread updates g
    whole, weighted = g._stacked()
    description, arrays = describe_moments(whole)
    keys: list[Any] = [list(key) if isinstance(key, tuple) else key for key in g]
    return description | {
        "names": g.names, "keys": keys, "kinds": g.kinds if keys else None, "key_names": g.key_names,
        "missing_keys": g.missing_keys, "weighted": weighted,
    }, arrays


def restore_groups(fields: Fields, arrays: NamedArrays) -> GroupedMoments:
    """Restore what `describe_groups` returned. Its arrays are removed from `arrays`."""
    whole = restore_moments(Fields({**fields.values, "names": None}), arrays)
    kinds, key_names = fields.all_of("kinds", str), fields.all_of("key_names", str)
    keys = checked_keys(fields.get("keys", list), kinds)
    if (whole.shape is None) != (not keys) or (whole.shape is not None and whole.shape[:1] != (len(keys),)):
        raise ValueError(f"expected one key for each group of arrays of shape {whole.shape}, got {len(keys)}")
    if key_names is not None and kinds is not None and len(key_names) != len(kinds):
        raise ValueError(f"key_names must name {len(kinds)} columns of keys, got {len(key_names)}")
    weighted = fields.all_of("weighted", int)
    if any(not 0 <= place < len(keys) for place in weighted or ()):
        raise ValueError("weighted must hold places of groups")
    g = GroupedMoments(
        fields.axis(), nan_policy=whole.nan_policy, missing_keys=fields.one_of("missing_keys", "raise", "omit", "keep"),
        names=fields.all_of("names", str), key_names=key_names, exact=whole.exact, track=whole.track,
    )
    g._fill(whole, weighted or (), keys, kinds)
    g.names = g.names       # checks that there is one for each channel
    return g


def checked_keys(keys: list[Any], kinds: tuple[str, ...] | None) -> list[Any]:
    """The keys in a file; raise ValueError unless they differ and are of these kinds."""
    if not keys:
        return []
    if not kinds or any(kind not in KINDS for kind in kinds):
        raise ValueError(f"kinds must be a list of {', '.join(KINDS)}, got {kinds!r:.60}")
    found = []
    for key in keys:
        parts = key if len(kinds) > 1 else [key]
        if type(parts) is not list or len(parts) != len(kinds):
            raise ValueError(f"a key must have {len(kinds)} parts, got {key!r:.60}")
        for part, kind in zip(parts, kinds, strict=True):
            if part is not None and not is_key(part, KINDS[kind]):
                raise ValueError(f"a key must be of kind {kind}, got {part!r:.60}")
        found.append(tuple(parts) if len(kinds) > 1 else key)
    if len(set(found)) < len(found):
        raise ValueError("keys must differ")
    return found


def is_key(value: object, *kinds: type) -> bool:
    """Whether a value in a file is a key, or a part of one, of one of these kinds."""
    return type(value) in kinds and (type(value) is not int or LEAST <= value <= LARGEST)
