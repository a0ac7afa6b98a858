"""Batch Renormalization against its formulas in NumPy and finite differences."""

import numpy as np
import pytest
from support.arrays import normal, of_dtype

from bnstream import BatchNorm


class Plain:
    """The algorithm of the paper, in double."""

    def __init__(self, gamma, beta, momentum, eps, r_max, d_max, ddof=1):
        self.__dict__.update(gamma=gamma, beta=beta, momentum=momentum, eps=eps, r_max=r_max, d_max=d_max, ddof=ddof)
        self.mean, self.var, self.count = np.zeros_like(gamma), np.ones_like(gamma), 0

    def factors(self, x):
        sd = np.sqrt(self.var + self.eps)
        r = np.clip(np.sqrt(x.var(0) + self.eps) / sd, 1 / self.r_max, self.r_max)
        d = np.clip((x.mean(0) - self.mean) / sd, -self.d_max, self.d_max)
        return (r, d) if self.count else (np.ones_like(r), np.zeros_like(d))

    def apply(self, x, r, d):
        return ((x - x.mean(0)) / np.sqrt(x.var(0) + self.eps) * r + d) * self.gamma + self.beta

    def __call__(self, x):
        self.r, self.d = self.factors(x)
        y = self.apply(x, self.r, self.d)
        self.mean = (1 - self.momentum) * self.mean + self.momentum * x.mean(0)
        sd, batch_sd = np.sqrt(self.var + self.eps), np.sqrt(x.var(0, ddof=self.ddof) + self.eps)
        self.var = ((1 - self.momentum) * sd + self.momentum * batch_sd)**2 - self.eps
        self.count += 1
        return y


def pair(r_max=3.0, d_max=5.0, **options):
    """Return a layer and the plain algorithm with the same settings."""
    gamma, beta = np.array([1.0, -2, 0.5]), np.array([0.1, 0, -3])
    bn = BatchNorm(3, dtype="f8", renorm=True, r_max=r_max, d_max=d_max, momentum=0.2, **options)
    bn.gamma, bn.beta = gamma, beta
    return bn, Plain(gamma, beta, 0.2, 1e-5, r_max, d_max)


def some(i):
    return normal((9, 3), i) * (1 + i % 3) + [1.0, -2 * i, 0.3 * i]


@pytest.mark.parametrize(("r_max", "d_max"), [(3.0, 5.0), (1.0, 0.0), (1.1, 0.05), (1e9, 1e9)])
def test_formulas(r_max, d_max):
    """r and d are clipped, and each batch moves the running estimates after its use."""
    bn, plain = pair(r_max, d_max)
    for i in range(12):
        np.testing.assert_allclose(bn(some(i)), plain(some(i)), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(bn.running_mean, plain.mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(bn.running_var, plain.var, rtol=1e-12)
    assert bn.num_batches_tracked == 12


def test_means_move_as_without():
    bn, plain = BatchNorm(3, renorm=True), BatchNorm(3)
    for i in range(3):
        bn(some(i))
        plain(some(i))
    assert bn.running_mean.tobytes() == plain.running_mean.tobytes()


def test_running_sd_is_an_average_of_sd():
    """As in the paper, and in Keras; the average of the variances of these batches would be 4 times as large."""
    bn = BatchNorm(1, renorm=True, momentum=0.5, eps=0, running_ddof=0)
    bn.running_mean, bn.running_var, bn.num_batches_tracked = [0.0], [0.0], 1
    bn(np.array([[-8.0], [8.0]]))
    assert bn.running_var.tolist() == [16]
    bn(np.zeros((2, 1)))
    assert bn.running_var.tolist() == [4]


def test_without_limits_is_inference():
    """Without limits a batch is normalized by the running estimates before it."""
    bn, _ = pair(1e9, 1e9)
    bn.running_mean, bn.running_var, bn.num_batches_tracked = [1.0, 2, 3], [4.0, 5, 6], 1
    frozen = bn.copy().eval()
    np.testing.assert_allclose(bn(some(1)), frozen(some(1)), rtol=1e-12, atol=1e-12)


def test_limits_of_one_and_nothing_are_plain():
    bn, plain = BatchNorm(3, renorm=True, r_max=1, d_max=0), BatchNorm(3)
    x, dy = of_dtype("f4", (30, 3)), normal((30, 3)).astype("f4")
    for _ in range(3):
        assert bn(x).tobytes() == plain(x).tobytes()
        assert bn.backward(dy).tobytes() == plain.backward(dy).tobytes()
        assert bn.grad_gamma.tobytes() == plain.grad_gamma.tobytes()
        assert bn.grad_beta.tobytes() == plain.grad_beta.tobytes()


def test_first_batch_is_plain():
    """The first batch is normalized by its own statistics, as there are no estimates yet."""
    bn, _ = pair()
    plain = BatchNorm(3, dtype="f8")
    plain.gamma, plain.beta = bn.gamma, bn.beta
    assert bn(some(4)).tobytes() == plain(some(4)).tobytes()


@pytest.mark.parametrize(("r_max", "d_max"), [(3.0, 5.0), (1.1, 0.05), (1e9, 1e9)])
def test_backward(r_max, d_max):
    """Gradients agree with central differences for constant r and d."""
    bn, plain = pair(r_max, d_max)
    bn.running_mean, bn.running_var, bn.num_batches_tracked = plain.mean, plain.var, plain.count = (
        np.array([1.0, 2, 3]), np.array([4.0, 0.5, 1]), 1)
    x, dy, h = some(3), normal((9, 3), 8), 1e-5
    bn(x)
    dx = bn.backward(dy)
    plain(x)

    def slope(values, i):
        kept, ends = values[i], []
        for step in (h, -h):
            values[i] = kept + step
            ends.append((plain.apply(x, plain.r, plain.d) * dy).sum())
        values[i] = kept
        return (ends[0] - ends[1]) / (2 * h)

    for values, grad in ((x, dx), (plain.gamma, bn.grad_gamma), (plain.beta, bn.grad_beta)):
        numeric = np.array([slope(values, i) for i in np.ndindex(values.shape)]).reshape(values.shape)
        np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-7)


def test_out_and_inference():
    bn, plain = pair()
    bn(some(0))
    plain(some(0))
    x = some(1)
    assert bn(x, out=x) is x
    np.testing.assert_allclose(x, plain(some(1)), rtol=1e-12, atol=1e-12)
    bn.eval()
    wanted = (some(2) - plain.mean) / np.sqrt(plain.var + 1e-5) * plain.gamma + plain.beta
    np.testing.assert_allclose(bn(some(2)), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("r_max", "d_max"), [(0.5, 1.0), (0.0, 1.0), (np.nan, 1.0), (2.0, -1.0), (2.0, np.nan)])
def test_limits_that_are_none(r_max, d_max):
    """r_max below 1 and d_max below 0 are refused."""
    with pytest.raises(ValueError, match=r"r_max|d_max"):
        BatchNorm(3, renorm=True, r_max=r_max, d_max=d_max)


def test_a_refused_place_moves_nothing(unchanged):
    bn, _ = pair()
    bn(some(0))
    unchanged(bn, ValueError, "out must have the shape", lambda layer: layer(some(1), np.empty((3, 3))))
    unchanged(bn, ValueError, "NaN or inf", lambda layer: layer(some(1) * np.nan))
