"""The elements of a stream: batches, or mappings of the arguments of `Moments.update`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = ("batch", "weights", "where")


def batch_of(element: Any) -> tuple[Any, dict[str, Any]]:
    """The batch in an element of a stream, and the `weights` and `where` for `Moments.update`, as far as given.

    Parameters
    ----------
    element : array_like or mapping
        A batch, or a mapping with the key "batch" and, optionally, "weights" and "where".

    Returns
    -------
    batch : array_like
    positions : dict
        At most "weights" and "where".

    Raises
    ------
    ValueError
        If a mapping lacks "batch" or has other keys.
    """
    if not isinstance(element, Mapping):
        return element, {}
    unknown = [repr(key) for key in element if key not in KEYS]
    if unknown or "batch" not in element:
        found = f"with the unknown key{'s' * (len(unknown) > 1)} {', '.join(unknown)}" if unknown else "without 'batch'"
        raise ValueError(f"got a mapping {found}; expected 'batch' and, optionally, 'weights' and 'where', the "
                         "arguments of Moments.update")
    return element["batch"], {key: element[key] for key in KEYS[1:] if element.get(key) is not None}
