"""LayerNorm, RMSNorm, GroupNorm and InstanceNorm as layers: calls, gradients, settings, states, copies, files."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal
from support.states import bits

import bnstream
from bnstream import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

X = normal((6, 4, 5)) + 3
DY = normal((6, 4, 5), 1)


def filled(layer):
    """Give a layer parameters and, if it tracks any, running estimates."""
    for values, seed in ((layer.gamma, 1), (layer.beta, 2)):
        if values is not None:
            values[...] = normal(values.shape, seed)
    layer.vjp(X)
    return layer


LAYERS = {
    "layer": lambda: LayerNorm(5, dtype="f8"),
    "layer of two axes": lambda: LayerNorm((4, 5), eps=1e-3, dtype="f8"),
    "layer without beta": lambda: LayerNorm(5, bias=False, names=list("abcde")),
    "layer without gamma": lambda: LayerNorm(5, scale=False, dtype="f2"),
    "layer without parameters": lambda: LayerNorm(5, elementwise_affine=False),
    "bfloat16": lambda: LayerNorm(5, dtype=BFLOAT16, result_dtype="f4"),
    "rms": lambda: RMSNorm(5, dtype="f8"),
    "rms with eps": lambda: RMSNorm((4, 5), 1e-6, False),
    "group": lambda: GroupNorm(2, 4, dtype="f8"),
    "group last": lambda: GroupNorm(5, 5, 1e-3, channel_axis=-1, bias=False),
    "instance": lambda: InstanceNorm(4),
    "instance with parameters": lambda: InstanceNorm(4, affine=True, dtype="f8", names=list("abcd")),
    "instance, tracked": lambda: InstanceNorm(4, track_running_stats=True),
    "instance, averaged": lambda: InstanceNorm(4, 1e-4, None, True, True),
}
TRACKED = [name for name in LAYERS if name.endswith("ed")]


def function_of(layer, x, **options):
    """The same by a function."""
    parameters = {"gamma": layer.gamma} if isinstance(layer, RMSNorm) else {"gamma": layer.gamma, "beta": layer.beta}
    options |= parameters | {"eps": layer.eps}
    if isinstance(layer, LayerNorm | RMSNorm):
        name = "layer_norm" if isinstance(layer, LayerNorm) else "rms_norm"
        return getattr(bnstream, name + "_vjp")(x, layer.normalized_shape, **options)
    options["channel_axis"] = layer.channel_axis
    if isinstance(layer, GroupNorm):
        return bnstream.group_norm_vjp(x, layer.num_groups, **options)
    return bnstream.instance_norm_vjp(x, **options)


@pytest.mark.parametrize("name", LAYERS)
def test_call_and_backward(name):
    layer = filled(LAYERS[name]())
    y = layer(X)
    wanted, backward = function_of(layer, X)
    assert y.dtype == (X.dtype if layer.result_dtype is None else layer.result_dtype)
    assert np.array_equal(y, wanted.astype(y.dtype))
    assert np.array_equal(layer.vjp(X)[0], y)
    dx = layer.backward(DY)
    of_x, *of_parameters = backward(DY)
    assert np.array_equal(dx, of_x)
    for got, parameter, want in ((layer.grad_gamma, layer.gamma, of_parameters[0]),
                                 (layer.grad_beta, layer.beta, of_parameters[1])):
        assert (got is None) == (parameter is None) == (want is None)
        if got is not None:
            assert (got.shape, got.dtype) == (parameter.shape, layer.dtype)
            assert np.array_equal(got.astype("f8"), want.astype("f8"))
    _, again = layer.vjp(X)
    again(DY, accumulate=True)
    if layer.gamma is not None:
        np.testing.assert_allclose(layer.grad_gamma.astype("f8"), 2 * of_parameters[0].astype("f8"), rtol=0.01)
    layer.zero_grad()
    assert layer.grad_gamma is layer.grad_beta is None
    with pytest.raises(RuntimeError, match=r"got no call since the last backward\(\)"):
        layer.backward(DY)
    out = np.empty_like(y)
    assert layer.eval()(X, out) is out
    if not getattr(layer, "track_running_stats", False):
        assert np.array_equal(out, y)
    with pytest.raises(RuntimeError, match="the layer is in inference mode"):
        layer.backward(DY)


@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_files(name, tmp_path):
    """Equal in every way, independent, in the same mode; a file of equal states has equal bytes."""
    layer = filled(LAYERS[name]()).eval()
    bnstream.save(tmp_path / "a.npz", layer)
    for other in (layer.copy(), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)),
                  bnstream.load(tmp_path / "a.npz")):
        assert type(other) is type(layer)
        assert other == layer
        assert bits(other) == bits(layer)
        assert other.names == layer.names
        assert np.array_equal(other(X), layer(X))
        bnstream.save(tmp_path / "b.npz", other)
        assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "a.npz").read_bytes()
        filled(other.train())(X + 1)
        changed = other.copy()
        if changed.gamma is not None:
            changed.gamma[...] += 1
            assert changed != other
        if name in TRACKED:
            assert other != layer
        assert eval(repr(layer).partition(": ")[0], vars(bnstream) | {"nan": np.nan}) is not None
    fresh = LAYERS[name]()
    fresh.load_state_dict(layer.state_dict())
    assert fresh == layer


def test_equality():
    assert LayerNorm(3) == LayerNorm((3,), names=list("abc"))
    assert LayerNorm(3) != LayerNorm(3, eps=1e-6)
    assert LayerNorm(3) != RMSNorm(3)
    assert BatchNorm(3) != InstanceNorm(3)
    assert GroupNorm(1, 4) != GroupNorm(2, 4)
    assert LayerNorm(3) != LayerNorm(3, bias=False)
    assert len({type(layer()).__hash__ for layer in LAYERS.values()}) == 1      # none


def test_repr_and_html():
    assert repr(LayerNorm(5, bias=False)) == (
        "LayerNorm((5,), eps=1e-05, scale=True, bias=False, dtype='float32', result_dtype=None)")
    assert repr(GroupNorm(2, 4)).startswith("GroupNorm(2, 4, eps=1e-05, scale=True")
    assert repr(InstanceNorm(4, track_running_stats=True)).endswith(": training, 0 batches")
    for make in LAYERS.values():
        html = filled(make())._repr_html_()
        assert html.startswith("<table>")
        assert type(make()).__name__ in html
    assert "<td>1</td>" in LayerNorm((2, 3))._repr_html_()
    assert ">1, 2</th>" in LayerNorm((2, 3))._repr_html_()
    assert "LayerNorm: normalized_shape=(2, 3); eps=1e-05, scale=True" in LayerNorm((2, 3))._repr_html_()
    tracked = LAYERS["instance, tracked"]()._repr_html_()
    assert "InstanceNorm: num_features=4, running estimates after 0 batches; eps=1e-05" in tracked
    assert "running_mean" in tracked


def test_state_dict_of_pytorch_names():
    assert list(LayerNorm((2, 3)).state_dict()) == ["weight", "bias"]
    assert LayerNorm((2, 3)).state_dict()["weight"].shape == (2, 3)
    assert list(InstanceNorm(3, affine=True, track_running_stats=True).state_dict()) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layer = LayerNorm(3)
    layer.load_state_dict({"weight": [1, 2, 3]})
    assert layer.gamma.tolist() == [1, 2, 3]
    before = layer.copy()
    for state, error, message in (
        ({"weight": [1, 2]}, ValueError, r"weight must be numbers of shape \(3,\)"),
        ({"weight": [1, 2, 3], "running_mean": [1, 2, 3]}, ValueError, r"expected \['bias', 'weight'\] in the state"),
        ([1, 2, 3], TypeError, "state must be a mapping"),
    ):
        with pytest.raises(error, match=message):
            layer.load_state_dict(state)
        assert layer == before


# Running estimates of instance norm.

def test_running_estimates():
    """Those of PyTorch, and in inference by them."""
    layer = InstanceNorm(4, momentum=0.25, track_running_stats=True)
    mean, var = np.zeros(4), np.ones(4)
    for i in range(3):
        x = normal((6, 4, 5), i) + i
        assert np.array_equal(layer(x), bnstream.instance_norm(x, mean, var, momentum=0.25))
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-15)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-15)
    assert layer.num_batches_tracked == 3
    y = layer.eval()(X)
    assert np.array_equal(y, bnstream.batch_norm(X, layer.running_mean, layer.running_var))
    dx = layer.vjp(X)[1](DY)[0]
    np.testing.assert_allclose(dx, DY / np.sqrt(layer.running_var + 1e-5)[:, None], rtol=1e-12)
    layer.reset_running_stats()
    assert (layer.num_batches_tracked, layer.running_var.tolist()) == (0, [1] * 4)


def test_averages_are_those_of_one_batch():
    """However the instances were cut into batches; instances of which too little is selected do not count."""
    x, where = normal((60, 4, 9)) * np.arange(1, 5)[:, None] + 7, np.ones((60, 9), bool)
    where[::7, 1:], where[3] = False, False
    wanted = InstanceNorm(4, momentum=None, track_running_stats=True)
    wanted(x, where=where)
    for sizes in ((1, 5, 30), (20, 40), (0, 59)):
        layer = InstanceNorm(4, momentum=None, track_running_stats=True)
        for part, mask in zip(np.split(x, sizes), np.split(where, sizes), strict=True):
            layer(part, where=mask)
        np.testing.assert_allclose(layer.running_mean, wanted.running_mean, rtol=1e-14)
        np.testing.assert_allclose(layer.running_var, wanted.running_var, rtol=1e-14)
    used = where.sum(1) >= 2
    by_hand = [[a[:, mask] for a, mask in zip(x[used], where[used], strict=True)]][0]
    np.testing.assert_allclose(wanted.running_mean, np.mean([a.mean(1) for a in by_hand], 0), rtol=1e-12)
    np.testing.assert_allclose(wanted.running_var, np.mean([a.var(1, ddof=1) for a in by_hand], 0), rtol=1e-12)


def test_momentum_after_averages(tmp_path):
    """The averages go on, and a file keeps them."""
    layer = InstanceNorm(4, momentum=None, track_running_stats=True)
    layer(X)
    layer.momentum = 0.1
    layer(X + 1)
    bnstream.save(tmp_path / "a.npz", layer)
    for other in (bnstream.load(tmp_path / "a.npz"), pickle.loads(pickle.dumps(layer))):
        assert other == layer
        assert bits(other) == bits(layer)
        other.momentum = layer.momentum = None
        other(X + 2)
        np.testing.assert_allclose(other.running_mean, X.mean((0, 2)) + 1, rtol=1e-12)
        layer.momentum = 0.1


def test_threads_share_a_layer():
    """No batch is lost, and no copy has estimates of other batches than its averages."""
    layer, torn = InstanceNorm(4, momentum=None, track_running_stats=True), []

    def train(seed):
        for i in range(40):
            layer(X + 10 * seed + i)
            other = layer.copy()
            torn.append(not np.array_equal(other.running_mean, other.state_dict().pooled.mean[:4]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(train, range(4)))
    assert layer.num_batches_tracked == 160
    assert layer.state_dict().pooled.n.tolist() == [160 * 6] * 8
    assert not any(torn)


def test_refused_state_leaves_averages():
    layer = LAYERS["instance, averaged"]()
    layer(X)
    before = bits(layer)
    for change, message in (({"running_var": [-1, 1, 1, 1]}, "running_var must not be negative"),
                            ({"weight": [1, 2]}, "weight must be numbers of shape"),
                            ({"more": 1}, "in the state, got")):
        with pytest.raises(ValueError, match=message):
            layer.load_state_dict({**layer.state_dict(), **change})
        assert bits(layer) == before


@pytest.mark.parametrize("momentum", [0.1, None])
def test_nan_never_reaches_running_estimates(momentum):
    """The call raises, and leaves the layer and x as they were."""
    layer = InstanceNorm(4, momentum=momentum, track_running_stats=True)
    layer(X)
    before, x = layer.copy(), X.copy()
    x[2, 1, 3] = np.nan
    for out in (None, x):
        kept = x.copy()
        with pytest.raises(ValueError, match="NaN or inf in 1 of 24 channels of instances, which running estimates"):
            layer(x, out)
        assert np.array_equal(x, kept, equal_nan=True)
        assert layer == before
    mean, var = np.zeros(4), np.ones(4)
    with pytest.raises(ValueError, match="NaN or inf"):
        bnstream.instance_norm(x, mean, var)
    assert not mean.any()
    assert np.isnan(InstanceNorm(4)(x)).sum() == 5
    layer.running_var[0] = -1
    with pytest.raises(ValueError, match=r"running_var must not be negative, got -1\.0 in channel 0; set"):
        layer.eval()(X)


FAULTS = {
    "shape": (lambda: LayerNorm(0), ValueError, "normalized_shape must be at least 1, got 0"),
    "no shape": (lambda: LayerNorm(()), ValueError, "normalized_shape must name at least one length"),
    "shape of floats": (lambda: RMSNorm(2.0), TypeError, "normalized_shape must be an integer, got 2.0"),
    "eps": (lambda: LayerNorm(3, -1), ValueError, "eps must be a finite number of at least 0, got -1"),
    "no eps": (lambda: LayerNorm(3, None), TypeError, "eps must be a finite number of at least 0, got None"),
    "groups": (lambda: GroupNorm(3, 4), ValueError, "num_groups must divide num_channels, 4, got 3"),
    "gamma": (lambda: setattr(LayerNorm(3, elementwise_affine=False), "gamma", [1, 2, 3]), ValueError,
              "this layer has no gamma; make it with elementwise_affine=True and scale=True"),
    "gamma of another shape": (lambda: setattr(LayerNorm((2, 3)), "gamma", np.ones(6)), ValueError,
                               r"gamma must have shape \(2, 3\), got \(6,\)"),
    "names": (lambda: LayerNorm(3, names=["a", "b"]), ValueError,
              "expected 3 names, one for each channel or element, got 2"),
    "x": (lambda: LayerNorm(3)(X), ValueError, r"normalized_shape must be the last lengths of x"),
    "channels": (lambda: GroupNorm(1, 3)(X), ValueError, "expected 3 channels along axis 1, got 4"),
    "one value": (lambda: InstanceNorm(4)(X[..., :1]), ValueError, "instance norm needs at least 2 values"),
    "estimates": (lambda: setattr(InstanceNorm(3), "running_mean", [1, 2, 3]), ValueError,
                  "has no running estimates; make it with track_running_stats=True"),
    "momentum": (lambda: setattr(InstanceNorm(3, track_running_stats=True), "momentum", None), ValueError,
                 "momentum=None needs the instances from the first batch on"),
    "large momentum": (lambda: InstanceNorm(3, momentum=2), ValueError, "momentum must be from 0 to 1"),
    "axis of instances": (lambda: GroupNorm(2, 4, channel_axis=0), ValueError,
                          "channel_axis must not be 0, the axis of the instances"),
    "beta of RMS norm": (lambda: setattr(RMSNorm(3), "beta", [1, 2, 3]), ValueError, r"^this layer has no beta$"),
    "dtype": (lambda: LayerNorm(3, dtype="i4"), TypeError, "dtype must be"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_errors(name):
    call, error, message = FAULTS[name]
    with pytest.raises(error, match=message):
        call()
