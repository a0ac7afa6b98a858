"""PyTorch's layer, RMS, group and instance norm and ours differ by at most the sum of both error bounds."""

import numpy as np
import pytest
from support.batchnorm_oracle import worst_share
from support.norm_oracle import Instances, Kind

import bnstream

torch = pytest.importorskip("torch")
F = torch.nn.functional
UNIT = {"f4": 2.0**-24, "f8": 2.0**-53}
KINDS = [Kind("layer_norm", (16, 70)), Kind("layer_norm", (3, 4, 5, 9), n_axes=2),
         Kind("layer_norm", (9, 33), affine=False), Kind("rms_norm", (16, 70)), Kind("rms_norm", (3, 5, 9), n_axes=2),
         Kind("group_norm", (4, 6, 5, 7), groups=3), Kind("group_norm", (7, 12), groups=2),
         Kind("group_norm", (2, 8, 40), groups=1), Kind("instance_norm", (4, 6, 5, 7)),
         Kind("instance_norm", (2, 3, 40), affine=False)]


def theirs(kind, x, gamma=None, beta=None, eps=1e-5):
    if kind.name == "instance_norm":
        return F.instance_norm(x, None, None, gamma, beta, eps=eps)
    if kind.name == "group_norm":
        return F.group_norm(x, kind.groups, gamma, beta, eps)
    return F.rms_norm(x, kind.shape, gamma, eps) if kind.about_zero else F.layer_norm(x, kind.shape, gamma, beta, eps)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name} {kind.dims}")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("ratio", [0, 30])
@pytest.mark.parametrize("channels_last", [False, True])
def test_parity(kind, dtype, ratio, channels_last):
    """PyTorch errs by some eps of the largest |x| / sd, as it computes in the dtype of x; see `support.parity`."""
    r = np.random.default_rng(0)
    x, dy = ((r.standard_normal(kind.dims) + offset).astype(dtype) for offset in (ratio, 0))
    parameters = {name: values.astype(dtype) for name, values in kind.parameters().items()}
    tensors = {name: torch.from_numpy(values).requires_grad_() for name, values in parameters.items()}
    t = torch.from_numpy(x.copy())
    if channels_last:
        t = t.transpose(1, -1).contiguous().transpose(1, -1)
    t = t.detach().requires_grad_()
    wanted = theirs(kind, t, **tensors)
    wanted.backward(torch.from_numpy(dy))
    y, backward = kind(t.detach().numpy(), vjp=True, eps=1e-5, **parameters)
    found = [y, *backward(dy)]
    exact = Instances(kind, x, 1e-5, **parameters)
    e = 8 * (np.log2(exact.n) + 8) * UNIT[dtype] * (1 + np.abs(x).max() / (np.sqrt(2) * x.std() / 2))
    h = 1 + np.abs(exact.xhat[0]).max()
    of_gamma = 1 + np.abs(exact.gamma[0]).max()
    spread = np.abs(exact.invstd[0]).max() * np.abs(dy).max() * of_gamma * h**2
    terms = dy.size / np.prod(kind.shape) * np.abs(dy).max() * h
    sizes = [of_gamma * h * 4, spread * 4, terms, terms]
    grads = [t.grad, *(tensors[name].grad if name in tensors else None for name in ("gamma", "beta"))]
    for got, other, size in zip(found, [wanted.detach(), *grads], sizes, strict=True):
        assert (got is None) == (other is None)
        if got is not None:
            assert np.abs(got - other.numpy()).max() <= e * size


@pytest.mark.parametrize("kind", [Kind("group_norm", (2, 16, 16, 32), groups=8, channel_axis=3),
                                  Kind("layer_norm", (30, 1000)), Kind("instance_norm", (4, 8, 30, 30))],
                         ids=lambda kind: kind.name)
def test_pytorch_exceeds_our_bound(kind):
    """At a mean of 1e4 sd; channels-last group norm is off by more than its outputs."""
    x = (np.random.default_rng(0).standard_normal(kind.dims) + 1e4).astype("f4")
    exact = Instances(kind, x, 1e-5)
    t = torch.from_numpy(x)
    last = kind.channel_axis == 3
    y = theirs(kind, t.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if last else theirs(kind, t)
    assert worst_share(kind.table(y.numpy()), exact.y, exact.slack) > 100
    assert worst_share(kind.table(kind(x)), exact.y, exact.slack) <= 1


def test_eps_of_rms_norm_of_half_precision():
    """PyTorch computes in float32, and takes its eps."""
    x = (np.random.default_rng(0).standard_normal((4, 8)) * 1e-3).astype("f2")
    wanted = F.rms_norm(torch.from_numpy(x), (8,)).numpy()
    np.testing.assert_allclose(bnstream.rms_norm(x, 8).astype("f4"), wanted.astype("f4"), rtol=2e-3)
