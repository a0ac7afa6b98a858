"""Integers of 32 and 64 bits, read in place or from a tile: exact sums over the whole range, and normalization."""

from fractions import Fraction

import numpy as np
import pytest
from support.arrays import every_other, rng, swapped
from support.oracle import exact

from bnstream import BatchNorm, Moments, mean_var, normalize
from bnstream.core.moments import rows_of
from bnstream.core.rows import M2, M2_LO

SHAPES = {"columns": ((700, 70), 0), "wide": ((300, 1300), 0), "fold": ((5000, 3), 0), "one column": ((9001, 1), 0),
          "runs": ((3, 20011), 1), "images": ((4, 5, 13, 17), (0, 2, 3)), "short runs": ((90, 33, 7), (0, 2)),
          "few": ((3, 2), 0)}
LAYOUTS = {"in place": lambda x: x, "Fortran": np.asfortranarray, "swapped": swapped,
           "sliced": lambda x: every_other(x, x.ndim - 1)}


def integers(dtype, shape, axis, span):
    """Return integers within `span` bits: at the lower end of the dtype, and in every other channel at its upper."""
    info = np.iinfo(dtype)
    span = min(span, info.bits)
    x = rng().integers(0, 2**span, shape, np.uint64)
    x[np.s_[::2] if axis == 1 else np.s_[:, ::2]] += np.uint64(info.max - info.min - (2**span - 1))
    return (x + np.uint64(info.min % 2**64)).astype(dtype)      # modulo 2**64


def assert_exact(m, x, axis):
    """The mean is correctly rounded. m2, a pair of doubles, has 57 digits, less what means of 2**63 as pairs cost."""
    m2, m2_lo = rows_of(m)[[M2, M2_LO]]
    for c in range(0, m.n.size, 7):
        wanted = exact(x[c] if axis == 1 else x[:, c])
        assert m.mean[c] == float(wanted.mean), (x.shape, c)
        error = abs(Fraction(m2[c]) + Fraction(m2_lo[c]) - wanted.m2)
        assert error <= wanted.m2 / 2**57 + Fraction(wanted.n, 2**36), (x.shape, c)


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("span", [8, 24, 32, 50])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_exact_over_the_whole_range(dtype, span, layout):
    for shape, axis in SHAPES.values():
        x = LAYOUTS[layout](integers(dtype, shape, axis, span))
        assert_exact(Moments(axis).update(x), x, axis)


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("span", [8, 40, 63])
def test_in_place_as_from_a_tile(dtype, span):
    """The sums differ in their order, not beyond rounding; each element is normalized alike."""
    for shape, axis in SHAPES.values():
        x = integers(dtype, shape, axis, span)
        for ours, theirs in zip(mean_var(x, axis), mean_var(swapped(x), axis), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-15)
        mean, var = mean_var(x, axis, keepdims=True)
        assert np.array_equal(normalize(x, mean, var), normalize(swapped(x), mean, var))
        where = rng(1).random(shape) < 0.7
        for ours, theirs in zip(mean_var(x, axis, where=where), mean_var(swapped(x), axis, where=where), strict=True):
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_layer(dtype):
    for shape, axis in SHAPES.values():
        if axis != 1:
            x = integers(dtype, shape, axis, 12)
            lowest = x.min(axis, keepdims=True)
            y, of_small = BatchNorm(shape[1])(x), BatchNorm(shape[1])((x - lowest).astype("f8"))
            assert y.dtype == np.float32
            np.testing.assert_allclose(y, of_small, rtol=1e-6, atol=1e-7)


def test_blocks_after_the_first_that_is_large():
    """Squares fit at first, later they do not, and then they do again."""
    x = rng(0).integers(-9, 9, (3000, 40))
    x[1000:1100] *= 10**9
    assert_exact(Moments().update(x), x, 0)


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_mask_that_leaves_out_the_first_elements(dtype):
    """The shift is then far from the data, and the squares about it are of 62 bits and more."""
    x = (rng().integers(0, 32, (250, 3)) + 2**31 - 40).astype(dtype)
    where = rng(1).random(x.shape) < 0.6
    where[:8] = False
    mean, var = mean_var(x, where=where)
    for c in range(3):
        wanted = exact(x[where[:, c], c])
        assert mean[c] == float(wanted.mean)
        assert var[c] == pytest.approx(float(wanted.m2 / wanted.n), rel=1e-15, abs=0)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_element_that_is_an_outlier(dtype, layout):
    """Deviations from it would round away what is small."""
    for shape, axis in SHAPES.values():
        x = np.full(shape, 200, dtype)
        x[(slice(None), 0) if axis == 1 else 0] = 2**62
        m = Moments(axis).update(LAYOUTS[layout](x))
        for c in range(m.n.size):
            wanted = exact((x if axis == 1 else np.moveaxis(x, 1, 0))[c].ravel())
            assert abs(m.mean[c] - float(wanted.mean)) <= 2**-49 * max(abs(m.mean[c]), m.std()[c]), (shape, c)
            assert m.var()[c] == pytest.approx(float(wanted.m2 / wanted.n), rel=2**-48, abs=0)


@pytest.mark.parametrize(("dtype", "base"), [("i8", 2**61 + 2**57), ("u8", 2**63 + 2**57), ("i8", -2**61 - 2**57)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("axis", [0, 1])
def test_first_element_near_zero_of_large_ones(dtype, base, channels, axis):
    """Their differences from it would all be rounded to the same side."""
    values = np.array([base + sign * (base // 2**20 * 512 + 255) for sign in (1, -1)] * 2**16, dtype)
    values[0] = 0
    wanted = exact(values)
    for m in (Moments(axis).update(np.stack([values] * channels, axis=1 - axis)),
              Moments((axis, 2)).update(np.stack([values.reshape(2, -1)] * channels, axis=1 - axis))):
        assert (abs(m.mean - float(wanted.mean)) <= 2**-51 * abs(float(wanted.mean))).all()
        assert m.var() == pytest.approx(float(wanted.m2 / wanted.n), rel=2**-50, abs=0)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_first_element_that_weighs_little(dtype):
    x = np.array([2**62, 3, 5], dtype)
    assert [float(value) for value in mean_var(x, weights=[1e-100, 1, 1])] == [4, 1]


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("n", [171, 4000])
def test_mask_that_leaves_out_the_sample(dtype, n):
    """No element that the shift is taken from is selected, in the first block or in several."""
    top = np.iinfo(dtype).max
    x, where = np.zeros((n, 2), dtype), np.zeros((n, 2), bool)
    x[[20, 100, n - 3], 0] = [top - 1, top - 1, top]
    where[[20, 100, n - 3], 0] = True
    mean, var = mean_var(x, where=where)
    wanted = exact(x[where[:, 0], 0])
    assert mean[0] == float(wanted.mean)
    assert var[0] == pytest.approx(2 / 9, rel=1e-15, abs=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_normalize_does_not_depend_on_the_first_element(layout):
    """Deviations from a mean of 2**62 are exact whatever else is in the array."""
    x = 2**62 + np.arange(64)[:, None] * [1, 2]
    x[0] = -2**63
    y = normalize(LAYOUTS[layout](x), [2.0**62] * 2, [100.0] * 2)
    assert np.array_equal(y[1:], (np.arange(1, 64)[:, None] * [0.1, 0.2]).astype("f4"))


@pytest.mark.parametrize("mean", [np.nan, np.inf, -np.inf, 1e30, -1e30, -0.5, 2.0**63, -(2.0**63), 2.0**64])
@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_normalize_by_any_mean(dtype, mean):
    x = np.array([[0], [7], [np.iinfo(dtype).max], [np.iinfo(dtype).min]], dtype)
    wanted = [float(Fraction(int(v)) - Fraction(mean)) if np.isfinite(mean) else -mean for v in x.ravel()]
    assert np.array_equal(normalize(x, [mean], [1.0]).ravel(), np.float32(wanted), equal_nan=True)
