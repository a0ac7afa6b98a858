"""PyTorch's module samples of BatchNorm1d to 3d, each through the checks of its module tests, with ours beside it.

`SAMPLES` has the constructor arguments and the shape of x of every sample of PyTorch 2.13. A check that does not hold
has its reason in `reason`, and the contract that takes its place is checked instead.
"""

import pickle
import warnings

import numpy as np
import pytest
from support.parity import compare

from bnstream import BatchNorm

torch = pytest.importorskip("torch")

# Arguments, options and the shape of x. The arguments are num_features, eps, momentum, affine, track_running_stats.
SAMPLES = {
    "1d affine": ((10,), {}, (4, 10)),
    "1d 3d_input": ((5,), {}, (4, 5, 3)),
    "1d affine_simple_average": ((10, 1e-3, None), {}, (4, 10)),
    "1d not_affine": ((10, 1e-3, 0.3, False), {}, (4, 10)),
    "1d not_tracking_stats": ((10, 1e-3, 0.3, True, False), {}, (4, 10)),
    "1d 3d_input_not_affine": ((5, 1e-3, 0.3, False), {}, (4, 5, 3)),
    "1d zero_batch": ((5, 1e-3, 0.3, False), {}, (0, 5, 9)),
    "1d affine_not_bias": ((10,), {"bias": False}, (4, 10)),
    "2d": ((3,), {}, (2, 3, 6, 6)),
    "2d 2d_simple_average": ((3, 1e-3, None), {}, (2, 3, 6, 6)),
    "2d momentum": ((3, 1e-3, 0.8), {}, (2, 3, 6, 6)),
    "2d not_affine": ((3, 1e-3, 0.8, False), {}, (2, 3, 6, 6)),
    "2d not_tracking_stats": ((3, 1e-3, 0.8, True, False), {}, (2, 3, 6, 6)),
    "2d zero_batch": ((5, 1e-3, 0.3, False), {}, (0, 5, 2, 2)),
    "2d affine_not_bias": ((3,), {"bias": False}, (2, 3, 6, 6)),
    "3d": ((3,), {}, (2, 3, 4, 4, 4)),
    "3d 3d_simple_average": ((3, 1e-3, None), {}, (2, 3, 4, 4, 4)),
    "3d momentum": ((3, 1e-3, 0.7), {}, (2, 3, 4, 4, 4)),
    "3d not_affine": ((3, 1e-3, 0.7, False), {}, (2, 3, 4, 4, 4)),
    "3d not_tracking_stats": ((3, 1e-3, 0.7, True, False), {}, (2, 3, 4, 4, 4)),
    "3d zero_batch": ((5, 1e-3, 0.3, False), {}, (0, 5, 2, 2, 2)),
    "3d affine_not_bias": ((3,), {"bias": False}, (2, 3, 4, 4, 4)),
}
KINDS = {"1d": torch.nn.BatchNorm1d, "2d": torch.nn.BatchNorm2d, "3d": torch.nn.BatchNorm3d}


class Sample:
    """A sample in one dtype and mode: PyTorch's layer, ours, and seeded arrays of the shape of x."""

    def __init__(self, name, dtype, training):
        args, options, self.shape = SAMPLES[name]
        self.dtype, self.training = dtype, training
        options = dict(options)
        without_bias = not options.pop("bias", True)        # an argument of PyTorch from 2.13 on
        self.theirs = KINDS[name[:2]](*args, dtype={"f4": torch.float32, "f8": torch.float64}[dtype], **options)
        if without_bias:
            self.theirs.bias = None
        with torch.no_grad():
            for parameter, start in ((self.theirs.weight, -1), (self.theirs.bias, 1)):
                if parameter is not None:
                    parameter.copy_(torch.linspace(start, 2.5, args[0]))
        self.theirs.train(training)
        self.tracks = self.theirs.track_running_stats
        if self.tracks:
            self.ours = BatchNorm.from_torch(self.theirs)
            return
        # Without running statistics PyTorch uses those of the batch in both modes, so ours stays in training.
        self.ours = BatchNorm(args[0], eps=self.theirs.eps, momentum=0, dtype=dtype)
        self.ours.gamma, self.ours.beta = self.theirs.weight, self.theirs.bias

    def array(self, seed):
        return np.random.default_rng(seed).uniform(-9, 9, self.shape).astype(self.dtype)

    def compare(self, x, dy, layout="contiguous"):
        """Forward, backward and running estimates within the bounds of both."""
        if not x.size:
            y, backward = self.ours.vjp(x)
            assert y.shape == tuple(self.theirs(torch.from_numpy(x)).shape)
            assert backward(dy)[0].shape == x.shape
        elif self.tracks:
            compare(self.ours, self.theirs, x, dy, layout, self.dtype)
        else:
            twin = KINDS[f"{max(1, x.ndim - 2)}d"](x.shape[1], self.theirs.eps, 0.0, dtype=self.theirs.weight.dtype)
            twin.load_state_dict(self.theirs.state_dict(), strict=False)
            compare(self.ours, twin, x, dy, layout, self.dtype)
            t = torch.from_numpy(x.copy())
            assert torch.equal(twin(t), self.theirs(t))


def forward_and_gradients(sample):
    sample.compare(sample.array(0), sample.array(1))


def non_contiguous(sample):
    """Every second element along each axis, forwards and backwards, gives the result of a copy."""
    large = np.zeros([2 * extent for extent in sample.shape], sample.dtype)
    for x in (large[tuple([slice(None, None, 2)] * large.ndim)], np.flip(np.empty_like(sample.array(0)))):
        x[...] = sample.array(0)
        (y, backward), (wanted, of_copy) = sample.ours.copy().vjp(x), sample.ours.vjp(sample.array(0))
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(backward(x)[0], of_copy(sample.array(0))[0], rtol=1e-5, atol=1e-5)


def memory_format(sample):
    """The layout of x is that of the result."""
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(sample.array(0), 1, -1)), -1, 1)
    y = sample.ours.copy()(x)
    assert x.size == 0 or y.strides == x.strides
    sample.compare(x, sample.array(1), "channels_last" if x.size else "contiguous")


def gradients_by_differences(sample):
    """backward is the derivative of the call, by central differences in float64."""
    ours, x, dy = sample.ours, sample.array(0).astype("f8"), sample.array(1).astype("f8")
    dx = ours.copy().vjp(x)[1](dy)[0]
    for index in list(np.ndindex(x.shape))[::max(1, x.size // 8)]:
        step = np.zeros_like(x)
        step[index] = 1e-5
        slope = sum(side * (dy * ours.copy()(x + side * step)).sum() for side in (1, -1)) / 2e-5
        assert slope == pytest.approx(dx[index], rel=1e-4, abs=1e-5)


def pickles(sample):
    """A pickle, and a state dict in both directions, hold the whole layer."""
    assert pickle.loads(pickle.dumps(sample.ours)) == sample.ours
    if sample.tracks:
        state = {name: torch.from_numpy(np.array(values)) for name, values in sample.ours.state_dict().items()}
        sample.theirs.load_state_dict(state)
        other = sample.ours.copy()
        other.load_state_dict(sample.theirs.state_dict())
        assert other == sample.ours


def representation(sample):
    """Ours makes the layer again; theirs comes back from a round trip."""
    new = eval(repr(sample.ours).partition("): ")[0] + ")")
    assert repr(new).partition("): ")[0] == repr(sample.ours).partition("): ")[0]
    if sample.tracks:
        assert repr(sample.ours.to_torch(ndim=len(sample.shape))) == repr(sample.theirs)


CHECKS = (forward_and_gradients, non_contiguous, memory_format, gradients_by_differences, pickles, representation)
CASES = [(name, dtype, training, check) for name in SAMPLES for dtype in ("f4", "f8") for training in (True, False)
         for check in CHECKS]


def reason(name, training, check):
    """Why a check cannot hold, or None."""
    if "zero_batch" in name and training and check not in (pickles, representation):
        return "an empty batch has no mean: in training it is refused, where PyTorch returns an empty result"
    return None


@pytest.mark.parametrize(("name", "dtype", "training", "check"), CASES, ids=lambda value: getattr(
    value, "__name__", {True: "training", False: "inference"}.get(value, value)))
def test_sample(name, dtype, training, check):
    sample = Sample(name, dtype, training)
    if reason(name, training, check) is None:
        check(sample)
        return
    before = sample.ours.copy()
    with pytest.raises(ValueError, match=r"at least 2 values in each channel, got an empty batch from x of shape \(0,"):
        sample.ours(sample.array(0))
    assert sample.ours == before


@pytest.mark.parametrize("name", ["1d affine", "2d", "3d"])
def test_errors(name):
    """eps of -1 is refused as in PyTorch. eps of 0 is not: a channel of variance 0 is centered and not divided."""
    args, _, shape = SAMPLES[name]
    with pytest.raises(ValueError, match="eps must be a finite number of at least 0, got -1"):
        BatchNorm(args[0], eps=-1.0)
    assert not BatchNorm(args[0], eps=0.0)(np.ones(shape)).any()


def test_samples_are_those_of_pytorch():
    """Where PyTorch's own list can be imported, which needs expecttest, ours has all of it."""
    pytest.importorskip("expecttest")
    with warnings.catch_warnings(action="ignore"):
        from torch.testing._internal.common_modules import module_db
    found = {}
    for info in module_db:
        kind = info.module_cls.__name__.removeprefix("BatchNorm")
        if KINDS.get(kind) is info.module_cls:
            for each in info.module_inputs_func(info, "cpu", torch.float32, False, True):
                call = each.constructor_input
                found[f"{kind} {each.desc}".strip()] = (call.args, call.kwargs, tuple(each.forward_input.args[0].shape))
    assert found
    assert found.items() <= SAMPLES.items()
