"""KLL sketches of the package datasketches: made, and read from bytes that are checked first.

The library trusts the bytes that it reads: counts of items that do not fit each other end the process. So bytes are
read only if they are such as the library itself writes.

    8 bytes     ints, version, family, flags, k, m and a zero: all of a sketch without values
    8 bytes     the value, where there is one
    otherwise   n, min_k, n_levels; the first item of every level; min, max; the items of all levels

Each of the items of level i stands for 2**i values.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from bnstream.core.optional import needing

SMALLEST_K, LARGEST_K = 8, 4096
SMALLEST_LEVEL = 8          # The least number of items that a level has room for: m.
LARGEST_COUNT = 2**53       # of values, as in state files; each value of level 53 would be more
EMPTY, ONE, SORTED = 1, 4, 2            # flags
PREAMBLE, COUNTS = struct.Struct("<BBBBHBB"), struct.Struct("<QHBB")
FAMILY = 15


def kll() -> Any:
    """The class of the sketches.

    Raises
    ------
    ModuleNotFoundError
        If datasketches is not installed.
    """
    with needing("estimating quantiles", '"bnstream[quantiles]"'):
        from datasketches import kll_doubles_sketch  # type: ignore[import-untyped]
    return kll_doubles_sketch


def written(sketch: Any) -> bytes:
    """The bytes of a sketch, equal for sketches with equal items.

    The first level is sorted when a sketch is first asked for a rank, which is part of what the library writes.
    """
    if not sketch.is_empty():
        sketch.get_rank(0.0)
    data: bytes = sketch.serialize()
    return data


def read(data: bytes, k: int) -> Any:
    """The sketch with these bytes.

    Raises
    ------
    ValueError
        If `written` does not return them for any sketch with this `k`.
    """
    require_possible(data, k)
    return kll().deserialize(data)


def require_possible(data: bytes, k: int) -> None:
    """Raise ValueError unless `written` may return these bytes for a sketch with this `k`."""
    if len(data) == PREAMBLE.size:
        require(data == PREAMBLE.pack(2, 1, FAMILY, EMPTY, k, SMALLEST_LEVEL, 0), "its preamble")
        return
    if len(data) == PREAMBLE.size + 8:
        require(data.startswith(PREAMBLE.pack(2, 2, FAMILY, ONE | SORTED, k, SMALLEST_LEVEL, 0)), "its preamble")
        require(not np.isnan(np.frombuffer(data, "<f8", 1, PREAMBLE.size)).any(), "its value")
        return
    start = PREAMBLE.size + COUNTS.size
    require(len(data) > start, "its length")
    require(data.startswith(PREAMBLE.pack(5, 1, FAMILY, SORTED, k, SMALLEST_LEVEL, 0)), "its preamble")
    n, min_k, n_levels, zero = COUNTS.unpack_from(data, PREAMBLE.size)
    require(min_k == k and zero == 0 and 1 <= n_levels <= 54, "its number of levels")
    capacity = sum(level_capacity(k, depth) for depth in range(n_levels))
    require(len(data) >= start + 4 * n_levels + 16, "its length")
    firsts = [*np.frombuffer(data, "<u4", n_levels, start).tolist(), capacity]
    sizes = np.diff(firsts)
    n_items = capacity - firsts[0]
    require((sizes >= 0).all() and n_items > 0 and sizes[-1] > 0, "its levels")
    require(len(data) == start + 4 * n_levels + 16 + 8 * n_items, "its length")
    total = sum(size << level for level, size in enumerate(sizes.tolist()))
    require(1 < total == n <= LARGEST_COUNT, "its number of values")
    numbers = np.frombuffer(data, "<f8", 2 + n_items, start + 4 * n_levels)
    least, greatest, items = numbers[0], numbers[1], numbers[2:]
    require(not np.isnan(numbers).any() and least <= items.min() and items.max() <= greatest, "its values")
    descends = items[1:] < items[:-1]
    borders = np.array(firsts[1:-1], np.int64) - firsts[0]  # of levels, where items may descend
    descends[borders[(borders > 0) & (borders < n_items)] - 1] = False
    require(not descends.any(), "the order of its items")


def level_capacity(k: int, depth: int) -> int:
    """How many items the level at this depth below the last one has room for: k * (2/3)**depth, rounded."""
    return max(SMALLEST_LEVEL, ((2 * k << depth) // 3**depth + 1) >> 1)


def require(holds: Any, what: str) -> None:
    if not holds:
        raise ValueError(f"the bytes of a sketch are damaged, or from another program: {what} cannot be; take them "
                         "from Quantiles.to_bytes or a state file")
