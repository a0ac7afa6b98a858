"""The law of exact statistics: equal data gives equal states, however it was cut, ordered, laid out or computed."""

import ml_dtypes
import numpy as np
import pytest
from support.arrays import DTYPES, LAYOUTS, rng
from support.cases import thorough

from bnstream import Moments

KINDS = ("normal", "offset", "any size", "whole numbers", "few zeros", "many zeros", "NaN and inf")


def numbers(kind, dtype, shape, random):
    """Real numbers of a dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.3
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        if kind in ("normal", "many zeros"):
            return random.integers(0, 100, shape).astype(dtype) * (random.random(shape) < 0.1)
        return random.integers(ends.min, ends.max, shape, dtype=dtype, endpoint=True)
    x = random.normal(size=shape)
    ends = ml_dtypes.finfo(dtype)
    if kind == "offset":
        x += 2.0 ** random.integers(-10, 10)
    elif kind == "any size":
        x *= np.exp2(random.uniform(np.log2(float(ends.smallest_subnormal)), np.log2(float(ends.max)) - 3, shape))
    elif kind == "whole numbers":
        x = np.rint(100 * x)
    elif kind in ("few zeros", "many zeros"):
        x *= random.random(shape) < (0.99 if kind == "few zeros" else 0.01)     # 0 and -0
    elif kind == "NaN and inf":
        x[random.random(shape) < 0.1] = random.choice([np.nan, np.inf, -np.inf])
    with np.errstate(all="ignore"):
        return x.astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(thorough(400, 12)))
def test_laws(kind, seed):
    """A random dtype, shape, layout, mask, cut, order and number of threads, and parts as float64."""
    random = rng([seed, KINDS.index(kind)])
    dtype = np.dtype(DTYPES[random.integers(len(DTYPES))])
    n, c = int(np.exp2(random.uniform(0, 12))), int(np.exp2(random.uniform(0, 6)))
    x = numbers(kind, dtype, (n, c), random)
    where = random.random((n, c)) < 0.8 if seed % 3 == 0 else None
    whole = Moments(exact=True, nan_policy="propagate").update(x, where=where)
    wide = x.astype(dtype if dtype.kind in "iu" else np.float64)
    parts = []
    for rows in np.split(random.permutation(n), np.sort(random.integers(0, n, 5))):
        layout = LAYOUTS[[*LAYOUTS][random.integers(len(LAYOUTS))]]
        part, used = (wide if random.random() < 0.3 else x)[rows], None if where is None else where[rows]
        parts.append(Moments(exact=True, nan_policy="propagate").update(
            layout(part) if len(part) else part, where=used, n_threads=int(random.integers(1, 4))))
    random.shuffle(parts)
    merged = sum(parts, Moments(exact=True, nan_policy="propagate"))
    assert merged == whole
    assert merged.digest() == whole.digest()
    assert (merged - whole).n.max() == 0
    by_runs = Moments(1, exact=True, nan_policy="propagate").update(np.ascontiguousarray(x.T), where=(
        None if where is None else where.T))
    assert by_runs == whole
    for values in (merged.mean, merged.std(1)):
        assert values.shape == (c,)


UNIT = 2.0**-43     # of the bins of a column with |x| < 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("columns", [1, 20])
def test_full_bins(columns, sign):
    """256 elements that fill the bins of a column to the last unit, after smaller ones that have chosen the window."""
    full = np.array([1 + UNIT / 2 + 2.0**-52] * 127 + [1 - UNIT / 4 - 2.0**-53] * 129) * sign
    small = rng().uniform(0.126, 0.249, 16384)
    if columns == 1:
        x = np.concatenate([small, np.repeat(full, 8), np.zeros(14336)])[:, np.newaxis]
    else:
        x = np.tile(np.concatenate([small[:256], full, small[:256], full])[:, np.newaxis], columns)
    one_by_one = Moments(exact=True)
    for part in np.array_split(x, len(x) // 100):
        one_by_one.update(part)
    assert Moments(exact=True).update(x) == one_by_one


@pytest.mark.parametrize("e", [-438, -425, -300, -3, 0, 1, 400, 495])
def test_columns_at_the_end_of_their_window(e):
    """Blocks at a fifth of 2**e choose a window; blocks beside 2**e fill it."""
    random = rng(abs(e))
    x = (1 + random.normal(size=(16384, 130)) * 2e-13) * random.choice([-1, 1], 130)
    x.reshape(64, 256, 130)[::2] = 0.2
    x *= 2.0**e
    parts = Moments(exact=True)
    for part in np.split(x, 64):
        parts.update(part)
    assert Moments(exact=True).update(x) == parts


def test_totals_of_long_tasks():
    """Totals in 64 bits are added to the limbs before they overflow."""
    n = 2**25
    m = Moments(exact=True).update(np.broadcast_to(np.uint8(255), n))
    assert (m.n, m.mean, m.m2) == (n, 255, 0)
    assert Moments(exact=True).update(np.full(n, 255, np.uint8), n_threads=1) == m


@pytest.mark.parametrize("shape", [(513, 9000), (2048, 1500), (60, 40, 500)], ids=str)
def test_threads_that_share_channels(shape):
    x = rng().normal(size=shape)
    x[rng(1).random(shape) < 1e-4] = np.nan
    alone, together = (Moments(exact=True, nan_policy="propagate").update(x, n_threads=n) for n in (1, 3))
    halves = [Moments(exact=True, nan_policy="propagate").update(half, n_threads=1) for half in np.array_split(x, 2)]
    assert alone == together == halves[1] + halves[0]


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ml_dtypes.bfloat16], ids=str)
def test_one_ulp(dtype):
    """A digest differs where one element does, by the least that it can."""
    x = numbers("normal", dtype, (500, 3), rng())
    whole = Moments(exact=True).update(x)
    for row in (0, 255, 499):
        other = x.copy()
        other[row, 1] = np.nextafter(x[row, 1], np.asarray(np.inf, x.dtype))
        assert other[row, 1] != x[row, 1]
        assert Moments(exact=True).update(other).digest() != whole.digest()


def test_a_thousand_million_rows():
    """By merges of what was merged: counts and sums are those of the data repeated."""
    arrays = [numbers("any size", dtype, (1000, 2), rng()) for dtype in ("f8", "f4")]
    repeats = (600_000, 400_000)
    total, weighted = Moments(exact=True), Moments(exact=True)
    for x, n in zip(arrays, repeats, strict=True):
        weighted.update(x, weights=np.full(1000, n))
        doubled = Moments(exact=True).update(x)
        for bit in range(n.bit_length()):
            if n >> bit & 1:
                total.merge(doubled)
            doubled.merge(doubled)
    assert total.n.tolist() == [1_000_000_000] * 2
    assert total == weighted
