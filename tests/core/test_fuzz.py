"""Random calls: no input crashes, and the results of valid calls are right.

BNSTREAM_FUZZ_CALLS sets the number of calls, BNSTREAM_FUZZ_SEED the seed.
"""

import contextlib
import os
import pickle
import random
import warnings

import numpy as np
from support.arrays import DTYPES, of_dtype, swapped, unaligned
from support.cases import thorough

from bnstream import BatchNorm, Moments, batch_norm, get_num_threads, mean_var, normalize, set_num_threads

CALLS = int(os.environ.get("BNSTREAM_FUZZ_CALLS", thorough(100_000, 20_000)))
SEED = int(os.environ.get("BNSTREAM_FUZZ_SEED", "0"))
POLICIES = ("propagate", "raise", "omit")
GARBAGE = [
    None, 0, 1, -1, 63, 64, -64, 2**31, 2**63, -2**63, 10**30, 1.5, float("nan"), float("inf"), True, "", "omit",
    "f4", b"x", (), (0,), (0, 0), [1], {}, {0}, [[1], [1, 2]], [object()], object(), type, len, lambda: 0, slice(None),
    Ellipsis, range(3), iter([1, 2]), np.float64(1), np.int8(1), np.array(1), np.array([1, 2]), np.ones((2, 3)),
    np.zeros((0, 4)), np.ma.array([1.0]), np.array([1j]), np.array(["a"]), np.zeros(2, "M8[s]"),
    np.zeros(3, [("a", "i4")]), np.dtype("f4"), "complex64", Moments(), BatchNorm(3),
]
EXPECTED = (TypeError, ValueError, OverflowError)


def pool():
    """Yield the arrays to take views of."""
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
    """Return a random view: slices, steps, transposed, new and broadcast axes."""
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
    """Return mean and var of a two-pass algorithm in double, accurate enough for the arrays of the pool."""
    x = x.astype(np.float64)
    good = np.isfinite(x) if omit else np.ones(x.shape, bool)
    n = good.sum(axis, keepdims=True)
    with np.errstate(all="ignore"):
        mean = np.where(good, x, 0).sum(axis, keepdims=True) / n
        d = np.where(good, x - mean, 0)
        return mean, (d * d).sum(axis, keepdims=True) / n


def assert_close(got, wanted, rtol, atol):
    """Like `assert_allclose`, which is slow and is called only where the quick comparison fails."""
    if got.shape == wanted.shape:
        with np.errstate(all="ignore"):
            near = (np.abs(got - wanted) <= atol + rtol * np.abs(wanted)) & np.isfinite(wanted)
        if near.all():
            return
    np.testing.assert_allclose(got, wanted, rtol, atol)


def compare(x, axis, policy, mean, var):
    wanted_mean, wanted_var = reference(x, axis, policy == "omit")
    scale = float(np.abs(x[np.isfinite(x)].astype(np.float64)).max(initial=0))
    finite = np.isfinite(wanted_mean)
    assert mean.shape == wanted_mean.shape
    assert not np.isfinite(mean[~finite]).any()
    assert not np.isfinite(var[~finite]).any()
    assert_close(mean[finite], wanted_mean[finite], 1e-12, scale * 1e-13)
    assert_close(var[finite], wanted_var[finite], 1e-12, scale * scale * 1e-13)


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
    """Update a state that may have other channels: it takes the batch in or stays unchanged."""
    m = r.choice(states)
    x = some_view(r.choice(arrays), r)
    before, n = (pickle.dumps(m), m.n) if r.random() < 0.1 else (None, None)
    try:
        if r.random() < 0.2:
            m.merge(r.choice(states))
            if np.max(m.n, initial=0) > 10**12:     # merges may double n, and counts are exact up to 2**53
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


def some_out(x, y, r):
    """Return an out for y: None, x itself, a view of a larger array in either order, or an invalid one."""
    kind = r.random()
    if kind < 0.4:
        return None
    if kind < 0.6:
        return x
    if kind < 0.9:
        full = np.empty([n + r.choice((0, 0, 3)) for n in y.shape], y.dtype)
        full = np.asfortranarray(full) if r.random() < 0.3 else full
        out = full[tuple(slice(-n, None) if n else slice(0, 0) for n in y.shape)]
        return np.flip(out) if r.random() < 0.3 else out
    return some_view(r.choice((y, x)), r)


def one_normalization(arrays, r):
    """Compare normalize, by the statistics of the array itself, with a reference."""
    x = some_view(r.choice(arrays), r)
    channel_axis = r.choice((-1, 0, r.randrange(x.ndim), tuple(a for a in range(x.ndim) if r.random() < 0.5)))
    kept = channel_axis if isinstance(channel_axis, tuple) else (channel_axis % x.ndim,)
    axes = tuple(a for a in range(x.ndim) if a not in kept)
    mean, var = reference(x, axes, True)
    given = [np.squeeze(np.nan_to_num(a), axes) for a in (mean, var)]
    options = {"eps": 0.5, "channel_axis": channel_axis}
    y = normalize(x, *given, **options)
    with np.errstate(all="ignore"):
        wanted = (x.astype("f8") - np.nan_to_num(mean)) / np.sqrt(np.nan_to_num(var) + 0.5)
    assert_close(y.astype("f8"), wanted, 0.01, 0.02 if y.itemsize == 2 else 1e-5)
    source = np.array(x)        # some_out may return it or y
    try:
        out = normalize(source, *given, **options, out=some_out(source, y.copy(), r))
    except ValueError:
        assert source.tobytes() == np.array(x).tobytes()
        return
    assert_close(out.astype("f8"), y.astype("f8"), 1e-5, 1e-5)


def one_layer(arrays, layers, r):
    """Call a layer in either mode, often with a wrong shape. Refused calls leave it unchanged."""
    bn = r.choice(layers)
    x = some_view(r.choice(arrays), r)
    before = pickle.dumps(bn) if r.random() < 0.1 else None
    try:
        y = bn.train(r.random() < 0.7)(x)
    except ValueError:
        assert before is None or pickle.dumps(bn.train(pickle.loads(before).training)) == before
        if r.random() < 0.3 and x.ndim > 1:
            axis = r.randrange(-x.ndim, x.ndim)
            layers[layers.index(bn)] = BatchNorm(
                max(1, x.shape[axis]), channel_axis=axis, momentum=r.choice((0.1, None)), affine=r.random() < 0.8,
                nan_policy=r.choice(POLICIES), renorm=r.random() < 0.2, dtype="f8", track_pooled=r.random() < 0.2)
        return
    assert y.shape == x.shape
    if r.random() < 0.7:
        with contextlib.suppress(ValueError, RuntimeError):
            dx = bn.backward(r.choice((y, y[::-1], np.ones(x.shape), r.choice(arrays))), some_out(x, y, r))
            assert dx.shape == x.shape


def garbage_for_layers(arrays, layers, r):
    x = r.choice(GARBAGE) if r.random() < 0.5 else some_view(r.choice(arrays), r)
    bn = r.choice(layers).copy()
    names = ("eps", "momentum", "affine", "channel_axis", "dtype", "running_ddof", "nan_policy", "renorm", "r_max")
    given = {name: r.choice(GARBAGE) for name in names if r.random() < 0.2}
    others = {name: r.choice(GARBAGE) for name in ("gamma", "beta", "eps", "channel_axis", "out") if r.random() < 0.3}
    a, b = r.choice(GARBAGE), r.choice(GARBAGE)
    name = r.choice(("gamma", "beta", "running_mean", "running_var", "eps", "momentum"))
    call = r.choice((lambda: normalize(x, a, b, **others), lambda: batch_norm(x, a, b, **others),
                     lambda: batch_norm(x, a, b, **others, training=True), lambda: bn(x, a),
                     lambda: BatchNorm(3, **given)(x), lambda: bn.backward(x, a),
                     lambda: bn.recalibrate(a), lambda: bn.fold(a, b), lambda: bn.load_state_dict({"weight": a}),
                     lambda: setattr(bn, name, a), lambda: bn == a, lambda: repr(bn), lambda: str(bn.diagnose())))
    with contextlib.suppress(*EXPECTED, RuntimeError, AttributeError), warnings.catch_warnings(action="ignore"):
        call()


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


def test_random_normalizations():
    r = random.Random(SEED)
    arrays = list(pool())
    layers = [BatchNorm(r.choice((1, 3, 7, 9, 33, 40)), channel_axis=r.choice((0, 1, -1)), dtype="f8",
                        nan_policy=r.choice(POLICIES), momentum=r.choice((0.1, None))) for _ in range(12)]
    for i in range(CALLS // 5):
        if i % 10 < 3:
            one_normalization(arrays, r)
        elif i % 10 < 8:
            one_layer(arrays, layers, r)
        else:
            garbage_for_layers(arrays, layers, r)


def test_garbage_for_set_num_threads():
    for value in GARBAGE:
        try:
            set_num_threads(value)
        except (TypeError, ValueError):
            continue
        assert get_num_threads() >= 1
