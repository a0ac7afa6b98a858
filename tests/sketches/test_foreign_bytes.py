"""Bytes from a stranger are refused, or read as a sketch that can be used: the library alone would end the process."""

import struct

import numpy as np
import pytest
from support.cases import thorough
from support.processes import python

from bnstream.sketches import Quantiles
from bnstream.sketches.kll import COUNTS, PREAMBLE, level_capacity
from bnstream.sketches.quantiles import HEADER, MAGIC

pytest.importorskip("datasketches")

# Values, k and channels.
SIZES = [(0, 200, 1), (1, 200, 2), (2, 200, 1), (200, 200, 1), (1000, 200, 1), (50_000, 200, 2), (100_000, 8, 1)]


def some_bytes(n, k, n_channels):
    return Quantiles(n_channels, k=k).update(np.random.default_rng(n).normal(size=(n, n_channels))).to_bytes()


def forged(k, sizes, *, n=None, first=None, n_levels=None, order=1, flags=2, zero=0, min_k=None, least=None):
    """The bytes of a sketch of one channel whose levels have these sizes."""
    n_levels = len(sizes) if n_levels is None else n_levels
    n = sum(size << level for level, size in enumerate(sizes)) if n is None else n
    first = sum(level_capacity(k, depth) for depth in range(len(sizes))) - sum(sizes) if first is None else first
    items = np.concatenate([np.sort(np.random.default_rng(i).normal(size=s))[::order] for i, s in enumerate(sizes)])
    firsts = (first + np.cumsum([0, *sizes[:-1]])).astype("<u4")
    counts = COUNTS.pack(n, k if min_k is None else min_k, n_levels, 0)
    extremes = np.array([items.min() if least is None else least, items.max()])
    data = b"".join([PREAMBLE.pack(5, 1, 15, flags, k, 8, zero), counts, firsts.tobytes(), extremes.tobytes(),
                     items.tobytes()])
    return HEADER.pack(MAGIC, k, 1) + b"\0" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("sizes", SIZES)
def test_what_is_written_is_read(sizes):
    data = some_bytes(*sizes)
    assert Quantiles.from_bytes(data).to_bytes() == data
    assert Quantiles.from_bytes(bytearray(data)).to_bytes() == data


def test_what_merges_write_is_read():
    """Of as many levels as a count below 2**53 has."""
    found = Quantiles(1, k=8).update(np.arange(1000.0)[:, np.newaxis])
    for _ in range(42):
        found.merge(found)
        assert Quantiles.from_bytes(found.to_bytes()) == found


def test_forged_levels_can_be_used():
    found = Quantiles.from_bytes(forged(20, [3, 0, 10, 5]))
    assert found.n.tolist() == [3 + 40 + 40]
    assert found.merge(Quantiles(1, k=20).update(np.zeros((999, 1)))).n.tolist() == [999 + 83]


FORGED = {
    "header": lambda: b"other" + some_bytes(5, 8, 1)[5:],
    "k": lambda: HEADER.pack(MAGIC, 1 << 40, 0),
    "k of the sketch": lambda: HEADER.pack(MAGIC, 9, 1) + forged(8, [3])[HEADER.size:],
    "channels": lambda: HEADER.pack(MAGIC, 8, 1 << 62),
    "nothing": lambda: b"",
    "n": lambda: forged(20, [3, 4], n=12),
    "n beyond 2**53": lambda: forged(20, [0] * 53 + [3]),
    "levels of no items": lambda: forged(20, [3, 0]),
    "first item": lambda: forged(20, [3, 4], first=1),
    "first item beyond": lambda: forged(20, [3, 4], first=2**32 - 100),
    "too many levels": lambda: forged(20, [3, 4], n_levels=255),
    "no levels": lambda: forged(20, [3, 4], n_levels=0),
    "order": lambda: forged(20, [3, 4], order=-1),
    "flags": lambda: forged(20, [3, 4], flags=3),
    "zero": lambda: forged(20, [3, 4], zero=1),
    "min_k": lambda: forged(20, [3, 4], min_k=0),
    "min": lambda: forged(20, [3, 4], least=5.0),
    "NaN": lambda: forged(20, [3, 4], least=np.nan),
    "one value in the long form": lambda: forged(20, [1]),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_bytes_are_refused(kind):
    with pytest.raises(ValueError, match=r"the bytes of a sketch are damaged, or from another program: .* cannot be; "):
        Quantiles.from_bytes(FORGED[kind]())


def test_truncated_bytes_are_refused():
    data = some_bytes(1000, 50, 2)
    for n in range(len(data)):
        with pytest.raises(ValueError, match="cannot be"):
            Quantiles.from_bytes(data[:n])
    with pytest.raises(ValueError, match="cannot be"):
        Quantiles.from_bytes(data + b"\0")


USE = f"""
import sys, numpy as np
from bnstream.sketches import Quantiles
rng, read = np.random.default_rng(int(sys.argv[1])), 0
bases = [Quantiles(c, k=k).update(rng.normal(size=(n, c))).to_bytes() for n, k, c in {SIZES}]
for _ in range(int(sys.argv[2])):
    data = bytearray(bases[rng.integers(len(bases))])
    for _ in range(rng.integers(1, 4)):
        data[min(rng.integers(len(data)), rng.integers(200))] = rng.integers(256)
    try:
        m = Quantiles.from_bytes(bytes(data))
    except ValueError:
        continue
    read += 1
    assert m.to_bytes() == data
    m.quantile([0, 0.5, 1]), m.rank_error, m.n, m.copy()
    m.update(rng.normal(size=(999, m.n_channels))).merge(m).quantile([0.5])
print(read)
"""


def test_damaged_bytes_never_end_the_process():
    done = python("-c", USE, "0", str(thorough(20_000, 2000)))
    assert int(done.stdout) > 20
