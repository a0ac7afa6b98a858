"""Random calls: nothing crashes, whatever comes, and what is valid is right.

100,000 calls take some seconds; BNSTREAM_FUZZ_CALLS=10000000 makes it a long run, BNSTREAM_FUZZ_SEED another one.
"""

import contextlib
import os
import pickle
import random

import numpy as np
from arrays import DTYPES, of_dtype, swapped, unaligned

from bnstream import Moments, get_num_threads, mean_var, set_num_threads

CALLS = int(os.environ.get("BNSTREAM_FUZZ_CALLS", "100000"))
SEED = int(os.environ.get("BNSTREAM_FUZZ_SEED", "0"))
POLICIES = ("propagate", "raise", "omit")
GARBAGE = [
    None, 0, 1, -1, 63, 64, -64, 2**31, 2**63, -2**63, 10**30, 1.5, float("nan"), float("inf"), True, "", "omit",
    "f4", b"x", (), (0,), (0, 0), [1], {}, {0}, [[1], [1, 2]], [object()], object(), type, len, lambda: 0, slice(None),
    Ellipsis, range(3), iter([1, 2]), np.float64(1), np.int8(1), np.array(1), np.array([1, 2]), np.ones((2, 3)),
    np.zeros((0, 4)), np.ma.array([1.0]), np.array([1j]), np.array(["a"]), np.zeros(2, "M8[s]"),
    np.zeros(3, [("a", "i4")]), np.dtype("f4"), "complex64", Moments(),
]
EXPECTED = (TypeError, ValueError, OverflowError)


def pool():
    """Arrays to take views of."""
    shapes = [(40,), (300,), (17, 9), (64, 33), (5, 6, 7), (4, 3, 40), (3, 4, 5, 6), (2, 3, 2, 3, 4), (1, 8), (8, 1)]
    for i, dtype in enumerate(DTYPES):
        for shape in shapes:
            x = of_dtype(dtype, shape, i)
            if dtype.kind in "iu" and dtype.itemsize > 2:
                x = (x >> (8 * dtype.itemsize - 20)).astype(dtype)
            yield from (x, np.asfortranarray(x), swapped(x), unaligned(x))
            if dtype.kind == "f" and dtype.itemsize > 2:
                bad = x.copy()
                bad.flat[:: max(3, x.size // 5)] = np.nan
                bad.flat[1 :: max(4, x.size // 3)] = np.inf
                yield bad


def some_view(x, r):
    """Slices, steps, turned axes, single axes, broadcasts."""
    index = []
    for n in x.shape:
        step = r.choice((1, 1, 1, 2, 3, -1, -2))
        start, stop = (r.randrange(n), None) if r.random() < 0.4 else (None, None)
        index.append(slice(start, stop, step))
    x = x[tuple(index)]
    if r.random() < 0.5:
        axes = list(range(x.ndim))
        r.shuffle(axes)
        x = x.transpose(axes)
    if r.random() < 0.15:
        x = x[r.choice((None, slice(0, 1), slice(0, 0), slice(None)))]
    if r.random() < 0.1:
        x = np.broadcast_to(x, (3, *x.shape))
    return x


def some_axis(ndim, r):
    chosen = tuple(a - ndim * (r.random() < 0.3) for a in range(ndim) if r.random() < 0.5)
    return r.choice((chosen, chosen, 0, -1, r.randrange(ndim), None))


def reference(x, axis, omit):
    """In double and two passes, which is good to many digits for what the pool holds."""
    x = x.astype(np.float64)
    good = np.isfinite(x) if omit else np.ones(x.shape, bool)
    n = good.sum(axis, keepdims=True)
    with np.errstate(all="ignore"):
        mean = np.where(good, x, 0).sum(axis, keepdims=True) / n
        d = np.where(good, x - mean, 0)
        return mean, (d * d).sum(axis, keepdims=True) / n


def assert_close(got, wanted, scale):
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=scale * 1e-13, equal_nan=True)


def compare(x, axis, policy, mean, var):
    wanted_mean, wanted_var = reference(x, axis, policy == "omit")
    scale = float(np.abs(x[np.isfinite(x)].astype(np.float64)).max(initial=0))
    finite = np.isfinite(wanted_mean)
    assert mean.shape == wanted_mean.shape
    assert not np.isfinite(mean[~finite]).any()
    assert not np.isfinite(var[~finite]).any()
    assert_close(mean[finite], wanted_mean[finite], scale)
    assert_close(var[finite], wanted_var[finite], scale * scale)


def one_mean_var(arrays, r, check):
    x = some_view(r.choice(arrays), r)
    axis, policy = some_axis(x.ndim, r), r.choice(POLICIES)
    try:
        mean, var = mean_var(x, axis, dtype="f8", keepdims=True, nan_policy=policy, n_threads=r.choice((None, 1, 2, 3)))
    except ValueError as error:
        if policy == "raise" and "NaN or inf" in str(error):
            return
        raise
    if check:
        compare(x, axis, policy, mean, var)


def one_update(arrays, states, r):
    """On a state that may have other channels: it takes the batch in, or stays as it was."""
    m = r.choice(states)
    x = some_view(r.choice(arrays), r)
    before, n = (pickle.dumps(m), m.n) if r.random() < 0.1 else (None, None)
    try:
        if r.random() < 0.2:
            m.merge(r.choice(states))
            if np.max(m.n, initial=0) > 10**12:     # merges double it, and counts end at 2**53
                states[states.index(m)] = Moments(m.axis, nan_policy=m.nan_policy)
        else:
            m.update(x)
    except ValueError:
        assert before is None or pickle.dumps(m) == before
        if r.random() < 0.3:
            states[states.index(m)] = Moments(some_axis(x.ndim, r), nan_policy=r.choice(POLICIES))
        return
    assert n is None or np.all(m.n >= n)
    if r.random() < 0.02:
        assert pickle.loads(pickle.dumps(m)) == m
        assert np.all(np.isnan(m.var()) | (m.var() >= 0))
        assert repr(m)


def one_of_garbage(arrays, states, r):
    x = r.choice(GARBAGE) if r.random() < 0.5 else some_view(r.choice(arrays), r)
    options = ("axis", "ddof", "dtype", "keepdims", "nan_policy", "n_threads")
    given = {name: r.choice(GARBAGE) for name in options if r.random() < 0.3}
    m = r.choice(states).copy()
    call = r.choice((lambda: mean_var(x, **given), lambda: Moments(r.choice(GARBAGE)), lambda: m.update(x),
                     lambda: Moments(nan_policy=r.choice(GARBAGE)), lambda: m.merge(x), lambda: m + x, lambda: m == x,
                     lambda: m.var(r.choice(GARBAGE)), lambda: Moments(some_axis(3, r), nan_policy="omit").update(x)))
    with contextlib.suppress(*EXPECTED):
        call()


def test_random_calls():
    r = random.Random(SEED)
    arrays = list(pool())
    states = [Moments(r.choice((0, 1, (0, 1), None)), nan_policy=r.choice(POLICIES)) for _ in range(12)]
    threads = get_num_threads()
    for i in range(CALLS):
        kind = i % 10
        if kind < 5:
            one_mean_var(arrays, r, check=kind == 0)
        elif kind < 8:
            one_update(arrays, states, r)
        else:
            one_of_garbage(arrays, states, r)
    assert get_num_threads() == threads


def test_garbage_for_set_num_threads():
    for value in GARBAGE:
        try:
            set_num_threads(value)
        except (TypeError, ValueError):
            continue
        assert get_num_threads() >= 1
