"""mean and var against exact arithmetic, on hard data sets, for every way to pass the data."""

import functools

import numpy as np
import pytest
from support import nist
from support.arrays import CANCEL, HARD, SINGLE, every_other, normal, random_cuts, rng, with_gaps
from support.cases import thorough
from support.oracle import Exact, assert_within, errors, exact, exact_states, single_precision, sum_of_squares
from support.states import state

from bnstream import Moments, mean_var


@functools.cache
def hard_states(name):
    return exact_states(HARD[name])


def answer(m, ddof=0):
    return m.mean, m.var(ddof)


def merged(parts, generator):
    """Merge random pairs until one state is left."""
    while len(parts) > 1:
        a, b = (parts.pop(generator.integers(len(parts))) for _ in range(2))
        parts.append(a.merge(b))
    return parts[0]


def chunked(x):
    return answer(state(*(x[a:b] for a, b in random_cuts(len(x), rng(4)))))


def shuffled_tree(x):
    generator = rng(5)
    x = x[generator.permutation(len(x))]
    return answer(merged([state(x[a:b]) for a, b in random_cuts(len(x), generator)], generator))


def row_by_row(x):
    return answer(state(*x[:, None]))


def gaps(x):
    return mean_var(with_gaps(x), nan_policy="omit")


def gaps_chunked(x):
    x = with_gaps(x)
    return answer(state(*(x[a:b] for a, b in random_cuts(len(x), rng(6))), nan_policy="omit"))


def channel_first(x, run):
    """(batch, channels, run)"""
    n, channels = x.shape
    return np.ascontiguousarray(x.reshape(n // run, run, channels).transpose(0, 2, 1))


WAYS = {
    "columns": mean_var,
    "columns in double": lambda x: mean_var(x, dtype="float64"),
    "rows": lambda x: mean_var(np.ascontiguousarray(x.T), 1),
    "channels first": lambda x: mean_var(channel_first(x, len(x) // 7), (0, 2)),
    "channels first, short runs": lambda x: mean_var(channel_first(x, 11), (0, 2)),
    "many columns": lambda x: [y[300:303] for y in mean_var(np.tile(x, (1, 201)))],
    "sliced": lambda x: mean_var(every_other(x, 1)),
    "sliced rows": lambda x: mean_var(every_other(np.ascontiguousarray(x.T), 1), 1),
    "backwards": lambda x: mean_var(x[::-1]),
    "gaps": gaps,
    "gaps in rows": lambda x: mean_var(np.ascontiguousarray(with_gaps(x).T), 1, nan_policy="omit"),
    "gaps, chunked": gaps_chunked,
    "one update": lambda x: answer(state(x)),
    "chunked": chunked,
    "row by row": row_by_row,
    "shuffled tree": shuffled_tree,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HARD)
def test_hard_sets(name, way):
    assert_within(*WAYS[way](HARD[name]), hard_states(name))


@pytest.mark.parametrize("name", CANCEL)
def test_sum_of_squares_fails(name):
    """The textbook formula exceeds the bound on every set where it is known to fail."""
    assert errors(*sum_of_squares(HARD[name]), hard_states(name))[1] > 1


@pytest.mark.parametrize("name", SINGLE)
def test_single_precision_fails(name):
    assert errors(*single_precision(HARD[name]), hard_states(name))[1] > 1


@pytest.mark.parametrize("ddof", [0, 1, 2.5])
@pytest.mark.parametrize("name", ["offset 1e8", "mean 1e4 float32"])
def test_ddof(name, ddof):
    x = HARD[name]
    assert_within(*mean_var(x, ddof=ddof), hard_states(name), ddof)
    assert_within(*answer(state(x), ddof), hard_states(name), ddof)


@pytest.mark.parametrize("name", nist.SETS)
def test_nist(name):
    """Within the bound, and as close to the certified values as the doubles are to the published decimals."""
    x, mean, sd = nist.SETS[name]
    whole = state(x.reshape(-1, 1))
    tree = merged([state(part[:, None]) for part in np.array_split(x, 7) if len(part)], rng(7))
    for got in (mean_var(x, ddof=1), mean_var(x[:, None], ddof=1), answer(whole, 1), answer(tree, 1)):
        got = [np.ravel(part) for part in got]
        assert_within(*got, exact_states(x[:, None]), 1)
        assert got[0][0] == pytest.approx(mean, rel=1e-14)
        assert np.sqrt(got[1][0]) == pytest.approx(sd, rel=1e-14 + 2.0**-51 * abs(mean) / sd)


def test_many_channels():
    """More channels than fit in one block, and a number with no convenient divisor."""
    x = normal((137, 1201)) * np.logspace(-3, 3, 1201) + np.logspace(12, -12, 1201)
    states = exact_states(x)
    for ddof in (0, 1):
        assert_within(*mean_var(x, ddof=ddof), states, ddof)
        assert_within(*mean_var(np.ascontiguousarray(x.T), 1, ddof=ddof), states, ddof)
        assert_within(*answer(state(x[:50], x[50:51], x[51:]), ddof), states, ddof)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 255, 257, 511, 513, 4097])
@pytest.mark.parametrize("channels", [1, 2, 5, 64, 65])
def test_sizes(n, channels):
    """Sizes around those where a vectorized loop hands over to its tail."""
    x = (normal((n, channels), n) + 1e6).astype(np.float32)
    states = exact_states(x)
    assert_within(*mean_var(x), states)
    assert_within(*mean_var(np.ascontiguousarray(x.T), 1), states)
    half = (x - 999_000).astype("f2")
    assert_within(*mean_var(half, dtype="f8"), exact_states(half))
    assert_within(*mean_var(x, nan_policy="omit"), states)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.7, 1e15 + 0.125, 1e30, 1e-300, 5e-324, 0.0, 12345.678])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 8, 11, 100, 1000, 6007])
def test_constant(n, dtype, value):
    """The variance of equal numbers is exactly 0 for any n and any way to pass them."""
    x = np.full((n, 3), value, dtype)
    gapped = np.insert(x, [0, n // 2, n], np.nan, axis=0)
    chunks = [x[a:b] for a, b in random_cuts(n, rng(n))]
    odd = [gapped[:1], gapped[1:3], gapped[3:]]
    answers = [mean_var(x), mean_var(np.ascontiguousarray(x.T), 1), mean_var(every_other(x, 1)),
               mean_var(np.full((n, 530), value, dtype)), mean_var(gapped, nan_policy="omit"),
               mean_var(np.ascontiguousarray(gapped.T), 1, nan_policy="omit"),
               mean_var(np.full((2, 3, n), value, dtype), (0, 2)),
               answer(state(*chunks)), answer(state(*x[:, None])), answer(state(*odd, nan_policy="omit")),
               answer(merged([state(chunk) for chunk in chunks], rng(n))),
               answer(merged([state(x), state(x[:1]), state(x)], rng(n)))]
    for mean, var in answers:
        np.testing.assert_allclose(mean, x.dtype.type(value), rtol=2.0**-49, atol=0)
        np.testing.assert_array_equal(var, 0.0)


@pytest.mark.parametrize("way", ["columns", "rows", "channels first", "chunked", "row by row", "shuffled tree"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_small_integers(dtype, way):
    """Sums of small integers are exact, so the variance is within 1 eps."""
    info = np.iinfo(dtype)
    columns = [rng(8).integers(info.min, info.max, 6006, dtype=dtype, endpoint=True),
               rng(9).integers(info.max - 1, info.max, 6006, dtype=dtype, endpoint=True),
               np.full(6006, info.max, dtype)]
    x = np.stack(columns, axis=1)
    mean, var = WAYS[way](x)
    assert_within(mean, var, exact_states(x), var_eps=1)
    assert var[2] == 0


@pytest.mark.parametrize("shape", [(70001, 3), (3, 70001), (40000, 40), (17, 3, 5000)])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2"])
def test_many_small_integers(dtype, shape):
    """Enough values to overflow any partial sum that is too narrow."""
    info = np.iinfo(dtype)
    axis = {2: 0 if shape[0] > shape[1] else 1}.get(len(shape), (0, 2))
    for x in (np.full(shape, info.max, dtype), np.full(shape, info.min, dtype),
              rng(10).integers(info.max - 2, info.max, shape, dtype)):
        assert_within(*mean_var(x, axis), exact_states(x, axis), var_eps=1)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_large_integers(dtype):
    """Deviations keep all digits at 2**62, where adjacent doubles differ by 1024."""
    offset = 2**62 if dtype == "i8" else 2**64 - 2000
    x = (rng(11).integers(0, 1000, (6006, 3)).astype(object) + offset).astype(dtype)
    states = exact_states(x)
    for name in ("columns", "rows", "channels first", "sliced", "chunked", "row by row", "shuffled tree"):
        assert_within(*WAYS[name](x), states)


@pytest.mark.parametrize(("dtype", "low", "high"), [
    ("?", 0, 1), ("i1", -128, 127), ("u2", 0, 65535), ("i4", -1000, 10**6), ("i4", -2**31, 2**31 - 1),
    ("u4", 0, 2**32 - 1), ("i8", -10**6, 10**6), ("i8", -2**52, 2**52), ("i8", 2**60, 2**60 + 2**52),
    ("u8", 2**63, 2**63 + 2**52),
])
@pytest.mark.parametrize("shape", [(4001, 3), (611, 70), (9000, 1)])
def test_integers_to_the_last_bit(shape, dtype, low, high):
    """mean and m2 are the correctly rounded exact values for any chunks in any order."""
    x = rng(15).integers(low, high, shape, dtype=dtype, endpoint=True)
    states = exact_states(x)
    mean, m2 = ([float(value) for value in values] for values in zip(*((s.mean, s.m2) for s in states), strict=True))
    for way in (x, np.asfortranarray(x)):
        for rows in (1, 7, 500, len(x)):
            parts = [way[i:i + rows] for i in range(0, len(x), rows)]
            rng(rows).shuffle(parts)
            m = state(*parts)
            assert (m.mean.tolist(), m.m2.tolist()) == (mean, m2)


def test_ends_of_int64():
    x = np.array([[-2**63, 2**63 - 1], [2**63 - 1, 2**63 - 2], [-1, 2**63 - 1]], np.int64)
    assert_within(*mean_var(x), exact_states(x))
    assert_within(*answer(state(x[:1], x[1:])), exact_states(x))


def test_a_thousand_million_rows():
    """A state that is merged with itself repeatedly, and with others in between, reaches so many rows quickly."""
    x = np.rint(1e9 + 1e4 * normal((1000, 3), 12)) / 64 + np.array([0, 1e9, -1e12])
    m, states = state(x), exact_states(x)
    for i in range(21):
        m.merge(m)
        states = states + states
        part = x[: 1 + 37 * i] - i
        m.merge(state(part))
        states = states + exact_states(part)
        if i % 5 == 0:
            assert_within(m.mean, m.var(), states)
    assert states[0].n > 10**9
    assert np.all(m.n == states[0].n)
    assert_within(m.mean, m.var(), states)
    assert_within(m.mean, m.var(1), states, 1)


def test_many_tiny_updates():
    """Updates of 8 rows, mean 1e6, sd 1. The data are multiples of 2**-20, so exact sums are cheap."""
    updates, rows, channels, unit = thorough(200_000, 40_000), 8, 2, 2.0**-20
    steps = np.rint(normal((updates, rows, channels), 13) / unit).astype(np.int64)
    batches = 1e6 + steps * unit
    m = Moments()
    for batch in batches:
        m.update(batch)
    flat = steps.reshape(-1, channels)
    states = np.empty(channels, object)
    for c in range(channels):
        d = flat[:, c]
        q = sum(int(part @ part) for part in np.array_split(d, 1000))
        n, s, k = len(d), int(d.sum()), 10**6 * 2**20
        one = exact([unit])
        states[c] = Exact(n, one.s * (s + n * k), one.q * (q + 2 * k * s + n * k * k))
    assert np.all(m.n == updates * rows)
    assert_within(m.mean, m.var(), states)
    mean, m2, n = np.zeros(channels), np.zeros(channels), 0     # Welford's update in plain doubles exceeds the bound.
    for batch in batches[:, 0]:
        n += 1
        delta = batch - mean
        mean = mean + delta / n
        m2 = m2 + delta * (batch - mean)
    first = exact_states(batches[:, 0])
    assert errors(mean, m2 / n, first)[1] > 1


@pytest.mark.parametrize("run", [1, 2, 3, 4, 8, 33, 63, 64, 100])
@pytest.mark.parametrize("amplitude", [0.55, 0.1, 1 / 3])
def test_two_values_in_short_runs(run, amplitude):
    """Equal terms all round in the same direction, so the sums within a block must be short for any layout of runs."""
    n = 40000 // run
    base = np.where(np.arange(n * (run + 1)).reshape(n, run + 1) % 2, amplitude, -amplitude)
    for x in (base[:, :run], np.ascontiguousarray(base[:, :run])):
        assert_within(*map(np.atleast_1d, mean_var(x, None)), exact_states(x.reshape(-1, 1)))
        stacked = np.stack([x, x, x], 1)
        assert_within(*mean_var(stacked, (0, 2)), exact_states(x.reshape(-1, 1).repeat(3, 1)))


@pytest.mark.parametrize("order", ["=", ">"])
@pytest.mark.parametrize("shape", [(512, 300), (512, 2, 256), (32768, 3)])
def test_few_values_far_from_the_others(shape, order):
    """The first shift comes from a few values just close enough to the mean to be kept.

    Most deviations are then equal, and their sums all round in the same direction.
    """
    index = np.arange(shape[0])
    few = np.isin(index % 64, [0, 4, *range(8, 64, 8)]) if shape[1] == 3 else index < 72   # runs are sampled in eighths
    distance = 1 + rng(0).random((40, shape[1]))
    rows = np.where(few[:, None, None], 0, distance) - 55 / 64 * distance                  # (rows, draws, channels)
    for k in range(thorough(40, 10) if shape[1] < 300 else 1):
        if len(shape) == 3:
            x = np.broadcast_to(rows[:, k, :, None], shape)
            answers = mean_var(x.astype(f"{order}f8"), (0, 2))
            rows_of_x = np.moveaxis(x, 1, -1).reshape(-1, shape[1])
        else:
            rows_of_x = rows[:, k]
            x = rows_of_x.astype(f"{order}f8")
            answers = mean_var(np.ascontiguousarray(x.T), 1) if shape[1] == 3 else mean_var(x)
        assert_within(*answers, exact_states(rows_of_x))


@pytest.mark.parametrize(("shape", "axis"), [
    ((2100, 2100), 0), ((9000, 500), 0), ((40, 150, 27, 27), (0, 2, 3)), ((300, 300, 7, 7), (0, 2, 3)),
    ((33, 1100, 130), (0, 2)), ((5, 70000, 13), (0, 2)),
])
def test_past_the_cache(shape, axis):
    """Arrays larger than the cache have wider tasks; the results agree with those of small parts."""
    x = (normal(shape) + 100).astype(np.float32)
    assert x.nbytes >= 1 << 24
    parts = state(*np.array_split(x, 5), axis=axis)
    mean, var = mean_var(x, axis, dtype="float64", ddof=1)
    eps = np.finfo(float).eps
    np.testing.assert_allclose(mean, parts.mean, rtol=0, atol=16 * eps * 100)      # twice the bound: both may err
    np.testing.assert_allclose(var, parts.var(1), rtol=32 * eps * np.log2(x.size / mean.size))
