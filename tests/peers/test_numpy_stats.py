"""NumPy's TestStats, for what `mean_var` offers: the same calls, values, dtypes and tolerances.

What differs is tested as it is here: no warning where n - ddof <= 0, and complex numbers and Decimals are refused.
`mean_var` has no `out=`, and returns plain arrays for subclasses.
"""

from decimal import Decimal

import numpy as np
import pytest

from bnstream import mean_var

FLOATS = list("efd")
INTEGERS = list(np.typecodes["AllInteger"])


def data():
    return np.random.default_rng(range(3)).random((4, 5))


@pytest.mark.parametrize("value", [np.float16(1), 1, 1.0, True], ids=str)
def test_python_types(value):
    mean, var = mean_var([value])
    assert (mean, var) == (1, 0)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_keepdims(axis):
    for result, wanted in zip(mean_var(np.eye(3), axis, keepdims=True), (np.mean, np.var), strict=True):
        assert result.shape == wanted(np.eye(3), axis=axis, keepdims=True).shape


@pytest.mark.parametrize("code", FLOATS + INTEGERS)
@pytest.mark.parametrize("axis", [1, None])
def test_dtype_from_input(code, axis):
    for result, wanted in zip(mean_var(np.eye(3, dtype=code), axis), (np.mean, np.var), strict=True):
        assert result.dtype == wanted(np.eye(3, dtype=code), axis=axis).dtype


@pytest.mark.parametrize("code", FLOATS)
@pytest.mark.parametrize("axis", [1, None])
def test_dtype_from_dtype(code, axis):
    for result in mean_var(np.eye(3), axis, dtype=code):
        assert result.dtype == code


@pytest.mark.parametrize("ddof", range(3))
def test_ddof(ddof):
    x = data()
    np.testing.assert_allclose(mean_var(x, 1, ddof=ddof)[1] * (5 - ddof), mean_var(x, 1)[1] * 5, rtol=1e-14)
    np.testing.assert_allclose(mean_var(x, 1, ddof=ddof)[1], x.var(1, ddof=ddof), rtol=1e-14)


@pytest.mark.parametrize("ddof", [5, 6])
def test_ddof_too_big(ddof):
    """NumPy warns, and returns inf or a negative number as 0 or inf. Here it is NaN."""
    mean, var = mean_var(data(), 1, ddof=ddof)
    assert np.isnan(var).all()
    np.testing.assert_allclose(mean, data().mean(1), rtol=1e-15)


def test_empty():
    """NaN without a warning, or no channel."""
    x = np.zeros((0, 3))
    for axis in (0, None):
        assert all(np.isnan(result).all() for result in mean_var(x, axis))
    assert [result.shape for result in mean_var(x, 1)] == [(0,), (0,)]


@pytest.mark.parametrize("axis", [0, 1, None, -1, (0, 1)])
def test_values(axis):
    x = data()
    mean, var = mean_var(x, axis)
    np.testing.assert_allclose(mean * (x.size // mean.size), x.sum(axis), rtol=1e-14)
    np.testing.assert_allclose(var, (x * x).mean(axis) - x.mean(axis) ** 2, rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(var), x.std(axis), rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
def test_higher_dimensions(axis):
    x = np.stack([data()] * 3)
    for result, wanted in zip(mean_var(x, axis), (x.mean(axis), x.var(axis)), strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-13, atol=1e-30)


def test_byte_order():
    x = data()
    for one, other in zip(mean_var(x, None), mean_var(x.astype(">f8"), None), strict=True):
        assert one == other


def test_float16_is_not_summed_in_float16():
    mean, var = mean_var(np.ones(100000, "f2"))
    assert (mean, var) == (1, 0)


@pytest.mark.parametrize("axis", [1, 2, -2])
def test_axis_out_of_range(axis):
    with pytest.raises(np.exceptions.AxisError, match=rf"axis {axis} is out of "):
        mean_var(np.arange(10), axis)


@pytest.mark.parametrize(("x", "message"), [
    (data() * (1 + 1j), "complex128"), (np.array([[Decimal(1)] * 3] * 3), "object|Decimal"),
    (data().astype("c8"), "complex64"),
], ids=["complex", "Decimal", "complex64"])
def test_numbers_that_are_refused(x, message):
    with pytest.raises(TypeError, match=message):
        mean_var(x)


FOUR = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]], bool)
FIVE = np.array([[0, 1, 0, 1, 1], [1, 0, 1, 1, 0], [1, 1, 0, 0, 1], [0, 1, 1, 0, 1], [1, 0, 1, 1, 0]], bool)
ROWS = np.array([[False], [True], [True], [False]])
SQUARE = np.arange(16).reshape(4, 4)


@pytest.mark.parametrize(("x", "axis", "where"), [
    (SQUARE, 1, True), (SQUARE, 0, FOUR), (SQUARE, 1, FOUR), (SQUARE, 0, ROWS), (SQUARE, 0, True),
    (SQUARE.reshape(2, 2, 4), 2, np.array([False, True, True, False])), (SQUARE, None, FOUR), (SQUARE, None, ROWS),
    *((x, axis, FIVE) for x in (np.arange(25).reshape(5, 5), np.arange(25).reshape(5, 5)[::-1]) for axis in (0, 1)),
    (np.arange(25).reshape(5, 5), 0, np.array([[False], [True], [True], [False], [True]])),
], ids=str)
def test_where(x, axis, where):
    for result, wanted in zip(mean_var(x, axis, where=where), (np.mean, np.var), strict=True):
        np.testing.assert_allclose(result, wanted(x, axis=axis, where=where), rtol=1e-14)


@pytest.mark.parametrize(("axis", "where", "n_nan"), [(1, ROWS, 2), (0, False, 4), (None, False, 1)])
def test_where_of_nothing(axis, where, n_nan):
    """NaN, without a warning, where no element is selected."""
    for result in mean_var(SQUARE, axis, where=where):
        assert np.isnan(result).sum() == n_nan
