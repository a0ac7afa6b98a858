"""Exact statistics whose rounding 100 bits do not decide: ties, and fractions just beside them."""

from fractions import Fraction

import numpy as np
import pytest
from support.arrays import rng
from support.cases import thorough

from bnstream import Moments

TINY = 2.0**-300


def fraction_of(m, ddof=0):
    """Mean and variance of the state's one channel as fractions, from the integers that are pickled."""
    _, counts, s, s_unit, q, q_unit = m.__getstate__()["exact"]
    n, total, squares = int(counts[0, 0]), *(
        Fraction(int.from_bytes(row.astype("<u8").tobytes(), "little", signed=True)) * Fraction(2)**unit
        for row, unit in ((s[0], s_unit), (q[0], q_unit)))
    return total / n, (n * squares - total**2) / (n * (n - Fraction(ddof)))


def of(*values):
    return Moments(exact=True).update(np.array(values)[:, np.newaxis])


@pytest.mark.parametrize("bits", [2**52, 2**52 + 1, 2**53 - 2, 2**53 - 1])
@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-60, 1.0, 2.0**900], ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_means(bits, scale, sign):
    """The mean of two neighboring numbers is a tie. Another number, however small, decides it."""
    a, b = sign * bits * scale, sign * (bits + 1) * scale
    even = a if bits % 2 == 0 else b
    tiny = max(scale * TINY, 5e-324)
    assert of(a, b).mean.item() == of(*[a, b] * 50).mean.item() == even
    assert of(2 * a, 2 * b, tiny, -tiny).mean.item() == even
    assert of(2 * a, 2 * b, tiny, 0).mean.item() == max(a, b)
    assert of(2 * a, 2 * b, -tiny, 0).mean.item() == min(a, b)


@pytest.mark.parametrize("root", [94906267, 2**27 - 1, 2**27 - 3, 100000001])
@pytest.mark.parametrize("scale", [2.0**-500, 2.0**-60, 1.0, 2.0**450], ids=str)
def test_variances(root, scale):
    """The square of an odd number of 54 bits is a tie. A second pair, or a small part of ddof, decides it."""
    x = root * scale
    assert (root * root).bit_length() == 54
    below, above = (float(Fraction(root * root + d) * Fraction(scale)**2) for d in (-1, 1))
    even = float(Fraction(root * root) * Fraction(scale)**2)
    assert even in (below, above)
    assert of(x, -x).var().item() == of(*[x, -x] * 50).var().item() == even
    assert of(x, -x, x, -x, x, -x).var(-TINY).item() == of(x, -x).var(-2.0**-90).item() == below
    assert of(x, -x, x, -x, x * TINY, -x * TINY).var(2).item() == above


@pytest.mark.parametrize("e", range(-460, 511, 11))
def test_digits_of_every_window(e):
    """Numbers whose squares, and what these lose, have digits in every bin of their column."""
    x = np.array([1, -1 - 2.0**-52, 2.0**-20 * (1 + 2.0**-51), 2.0**-25 * (1 + 2.0**-50)]) * 2.0**e
    numbers = list(map(Fraction, x.tolist()))
    mean = sum(numbers) / 4
    assert fraction_of(of(*x)) == (mean, sum(value**2 for value in numbers) / 4 - mean**2)


def test_any_data():
    """Mean, variance and standard deviation of data of all kinds, against fractions."""
    for seed in range(thorough(3000, 300)):
        random = rng(seed)
        n = int(random.integers(2, 40))
        x = random.normal(size=n) * np.exp2(random.integers(-200, 200) + random.integers(-30, 30, n))
        x = np.round(x, 3) if seed % 3 == 0 else (x + 2.0**int(random.integers(-60, 60)) if seed % 3 == 1 else x)
        m, ddof = Moments(exact=True).update(x[:, np.newaxis]), float(random.choice([0, 1, 0.3, -2.5]))
        mean, var = fraction_of(m, ddof)
        assert m.mean.item() == float(mean)
        assert m.var(ddof).item() == float(var)
        std = m.std(ddof).item()
        if 0 < std < np.inf:
            below, above = ((Fraction(std) + Fraction(float(np.nextafter(std, end)))) / 2 for end in (0.0, np.inf))
            assert below**2 <= var <= above**2


def test_counts_of_more_than_53_bits():
    """n and n - ddof are no doubles then."""
    m = Moments(exact=True).update(np.array([[0.1], [0.3], [0.7]]))
    for _ in range(60):
        m.merge(m)
    mean, var = fraction_of(m, 1)
    assert m.n.item() == 3 * 2**60
    assert (m.mean.item(), m.var(1).item()) == (float(mean), float(var))
    with pytest.raises(OverflowError, match=r"expected at most 2\*\*62 values in a channel, got 6,917,"):
        m.merge(m)
    assert m.n.item() == 3 * 2**60
