"""BatchNorm as an object: refused arguments, state dict, folding, copies, pickles, ==, repr."""

import copy
import pickle

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal, of_dtype

from bnstream import BatchNorm, Moments

X = of_dtype("f4", (20, 3))


def trained(**options):
    """Return a layer in which every attribute differs from its initial value."""
    bn = BatchNorm(3, **options)
    if bn.gamma is not None:
        bn.gamma = [1.5, -2, 0.25]
    if bn.beta is not None:
        bn.beta = [0, 1, -3]
    for i in range(3):
        bn.backward(bn(X * (i + 1) + i))
    return bn


OPTIONS = [{}, {"momentum": None}, {"track_pooled": True, "dtype": "f8"}, {"track_pooled": "exact", "momentum": None},
           {"affine": False}, {"bias": False},
           {"scale": False, "result_dtype": "f2"},
           {"dtype": "f2", "eps": 0.1},
           {"dtype": BFLOAT16, "running_ddof": 0, "nan_policy": "omit", "momentum": None},
           {"renorm": True, "r_max": 2.0, "d_max": 1.0}]


def test_at_first():
    bn = BatchNorm(3)
    assert bn.training
    assert (bn.gamma.tolist(), bn.beta.tolist()) == ([1] * 3, [0] * 3)
    assert (bn.running_mean.tolist(), bn.running_var.tolist()) == ([0] * 3, [1] * 3)
    assert bn.gamma.dtype == bn.beta.dtype == np.float32
    assert bn.running_mean.dtype == bn.running_var.dtype == np.float64
    assert (bn.num_batches_tracked, bn.pooled, bn.grad_gamma, bn.grad_beta) == (0, None, None, None)
    bare = BatchNorm(3, affine=False)
    assert bare.gamma is bare.beta is None
    assert bn.eval() is bn.train() is bn.train(False) is bn
    assert not bn.training


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"eps": -1e-5}, ValueError, r"eps must be a finite number of at least 0, got -1e-05"),
    ({"eps": np.nan}, ValueError, "eps must be a finite number of at least 0, got nan"),
    ({"eps": np.inf}, ValueError, "eps must be a finite number of at least 0, got inf"),
    ({"eps": None}, TypeError, None), ({"eps": "1"}, TypeError, None),
    ({"momentum": -0.1}, ValueError, "momentum must be from 0 to 1, the weight of the new batch, or None .*, got -0.1"),
    ({"momentum": 1.1}, ValueError, "momentum must be from 0 to 1, .* got 1.1"),
    ({"momentum": np.nan}, ValueError, "momentum must be from 0 to 1, .* got nan"),
    ({"momentum": "0.1"}, TypeError, None),
    ({"dtype": "i4"}, TypeError, "dtype must be float16, bfloat16, float32 or float64, got 'i4'"),
    ({"dtype": "c8"}, TypeError, "dtype must be .*, got 'c8'"), ({"dtype": object}, TypeError, "got object"),
    ({"channel_axis": 1.0}, TypeError, "integer"), ({"channel_axis": None}, TypeError, "integer"),
    ({"channel_axis": (1, 2)}, TypeError, "integer"),
    ({"nan_policy": "ignore"}, ValueError, "nan_policy must be 'propagate', 'raise' or 'omit', got 'ignore'"),
])
def test_options(options, error, message):
    with pytest.raises(error, match=message):
        BatchNorm(3, **options)


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("3", TypeError)])
def test_num_features(n, error):
    with pytest.raises(error, match=r"num_features must be at least 1|integer"):
        BatchNorm(n)


def test_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        BatchNorm(3, 1e-5)


@pytest.mark.parametrize("name", ["gamma", "beta", "running_mean", "running_var"])
@pytest.mark.parametrize(("values", "error"), [
    ([1, 2], ValueError), ([[1, 2, 3]], ValueError), (1.0, ValueError), ([1j, 2, 3], TypeError),
    (np.array([1j, 2, 3]), TypeError), (["a", "b", "c"], (TypeError, ValueError)), (["1", "2", "3"], TypeError),
    (None, (TypeError, ValueError)), ([None, 1, 2], TypeError),
])
def test_parameters(name, values, error, unchanged):
    """Parameters of another shape, or that are not numbers, are refused."""
    unchanged(trained(), error, None, lambda bn: setattr(bn, name, values))


def test_negative_variance(unchanged):
    unchanged(trained(), ValueError, "must not be negative, got -1", lambda bn: setattr(bn, "running_var", [1, -1, 1]))


@pytest.mark.parametrize(("name", "value"), [("eps", -1), ("momentum", 2), ("momentum", None), ("gamma", [1]),
                                             ("eps", np.nan), ("beta", np.ones((3, 1)))])
def test_settings_that_are_refused(name, value, unchanged):
    unchanged(trained(), ValueError, name, lambda bn: setattr(bn, name, value))


def test_no_gamma_without_affine(unchanged):
    for name in ("gamma", "beta"):
        message = f"this layer has no {name}; make it with affine=True"
        unchanged(BatchNorm(3, affine=False), ValueError, message, lambda bn, n=name: setattr(bn, n, [1, 2, 3]))


def test_parameters_are_copies():
    """Setting a parameter copies it; the array that is read may be written to."""
    bn, gamma, mean = BatchNorm(3), np.array([1.0, 2, 3]), np.zeros(3)
    bn.gamma, bn.running_mean = gamma, mean
    gamma[:] = mean[:] = 7
    assert (bn.gamma.tolist(), bn.running_mean.tolist()) == ([1, 2, 3], [0, 0, 0])
    bn.gamma[:] = bn.running_mean[:] = 5
    bn.eval()
    np.testing.assert_allclose(bn([[5, 6, 7]]), [[0, 5, 10]], rtol=1e-4)


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16])
def test_large_gradients_of_half_precision(dtype):
    """Gradients that overflow their dtype are inf, without a warning."""
    bn = BatchNorm(3, dtype=dtype)
    bn(X)
    bn.backward(np.full((20, 3), 3e38, "f4"))
    assert np.isinf(bn.grad_beta.astype("f8")).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_state_dict(options):
    bn = trained(**options)
    state = bn.state_dict()
    parameters = {"weight": bn.gamma, "bias": bn.beta}
    names = {name for name, values in parameters.items() if values is not None}
    assert state.keys() == names | {"running_mean", "running_var", "num_batches_tracked"}
    assert state.pooled == bn.pooled
    assert state["num_batches_tracked"].dtype == np.int64
    new = BatchNorm(3, **options)
    new.load_state_dict(state)
    assert new == bn
    assert new.eval()(X).tobytes() == bn.eval()(X).tobytes()
    assert (new.pooled is None) == (bn.pooled is None)
    new.train()(X)
    bn.train()(X)
    assert new == bn
    for values in state.values():       # copies in both directions
        values[...] = 9
    assert new == bn


STATE = trained().state_dict()


@pytest.mark.parametrize("change", [
    {"extra": 1}, {"weight": None, "bias": None}, {"running_mean": None}, {"weight": np.ones(4)},
    {"running_mean": np.ones((3, 1))}, {"running_var": 1.0}, {"running_var": [1, -1, 1]}, {"bias": ["a", "b", "c"]},
    {"weight": [1j, 2, 3]}, {"num_batches_tracked": [3]}, {"num_batches_tracked": np.nan},
    {"num_batches_tracked": np.inf}, {"num_batches_tracked": 1.5}, {"num_batches_tracked": -1},
    {"pooled": np.ones((5, 3))},
], ids=str)
@pytest.mark.parametrize("options", [{}, {"momentum": None}], ids=str)
def test_states_that_are_refused(change, options, unchanged):
    """Unknown or missing names (None), wrong shapes, dtypes and counts are refused; the layer is unchanged."""
    state = {name: a for name, a in (STATE | change).items() if a is not None}
    unchanged(trained(**options), ValueError, None, lambda bn: bn.load_state_dict(state))


@pytest.mark.parametrize(("pooled", "error", "message"), [
    (np.ones((5, 3)), TypeError, "pooled must be a Moments or None, got ndarray"),
    (Moments().update(X[:, :2]), ValueError, r"pooled must have channels of shape \(3,\), got \(2,\)"),
])
def test_pooled_statistics_that_are_none(pooled, error, message, unchanged):
    state = trained(momentum=None).state_dict()
    state.pooled = pooled
    unchanged(trained(momentum=None), error, message, lambda bn: bn.load_state_dict(state))


def test_copies_of_a_state():
    """They keep the pooled statistics; a plain dict does not, and these then start anew."""
    bn = trained(momentum=None)
    state = bn.state_dict()
    for twin in (state.copy(), copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert twin.keys() == state.keys()
        new = BatchNorm(3, momentum=None)
        new.load_state_dict(twin)
        assert new == bn
    new.load_state_dict(dict(state))
    assert (new.pooled.shape, new.num_batches_tracked) == (None, 0)
    assert new.running_var.tolist() == bn.running_var.tolist()
    assert new != bn


@pytest.mark.parametrize("empty", [Moments(), None])
def test_equal_layers_have_the_same_pooled_statistics(empty):
    bn, other = trained(track_pooled=True), trained(track_pooled=True)
    assert bn == other
    other.pooled = empty
    assert bn != other


def test_a_state_without_the_number_of_batches():
    """As of PyTorch before 0.4: the layer keeps its own, and the estimates do not count as initial."""
    state = dict(STATE)
    del state["num_batches_tracked"]
    bn = trained()
    bn.load_state_dict(state)
    assert bn == trained()
    new = BatchNorm(3)
    new.load_state_dict(state)
    assert (new.num_batches_tracked, new.diagnose().initial_weight) == (0, 0)
    exact = trained(momentum=None)
    exact.load_state_dict(state)
    assert (exact.num_batches_tracked, exact.diagnose().initial_weight) == (0, 1)


def test_a_state_with_one_parameter():
    """The other one stands for 1 or 0. A layer without it refuses it."""
    for name, attribute, rest in (("weight", "gamma", 1), ("bias", "beta", 0)):
        state = dict(STATE)
        del state[name]
        bn = trained()
        bn.load_state_dict(state)
        assert getattr(bn, attribute).tolist() == [rest] * 3
        other = BatchNorm(3, scale=name != "weight", bias=name != "bias")
        with pytest.raises(ValueError, match=r"for a state with weight and bias, with scale=False or bias=False for"):
            other.load_state_dict(STATE)
        other.load_state_dict(state)
        assert other.eval()(X).tobytes() == bn.eval()(X).tobytes()


@pytest.mark.parametrize("ddof", ["1", None, [1]])
def test_running_ddof_that_is_no_number(ddof):
    with pytest.raises(TypeError):
        BatchNorm(3, running_ddof=ddof)(X)


def test_state_of_the_other_kind():
    message = "in the state, got .*; make the layer with affine=True for a state with weight and bias, with"
    with pytest.raises(ValueError, match=message):
        BatchNorm(3).load_state_dict(BatchNorm(3, affine=False).state_dict())
    with pytest.raises(ValueError, match=message):
        BatchNorm(3, affine=False).load_state_dict(BatchNorm(3).state_dict())


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_tensors(dtype):
    """A PyTorch state, including parameters that require gradients, loads; and the way back."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm1d(3, dtype=getattr(torch, dtype))
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor([1.5, -2, 0.25]))
    for state in (theirs.state_dict(), {**theirs.state_dict(), **dict(theirs.named_parameters())},
                  theirs.state_dict(keep_vars=True)):
        bn = BatchNorm(3, dtype="f8")
        bn.load_state_dict(state)
        assert bn.gamma.tolist() == [1.5, -2, 0.25]
        assert bn.num_batches_tracked == 0
    bn.gamma, bn.running_var = theirs.weight, theirs.running_var
    weight, bias = bn.fold(torch.ones(3, 2, requires_grad=True), theirs.bias)
    assert (weight.shape, bias.shape) == ((3, 2), (3,))
    for momentum in (0.1, None):
        state = trained(momentum=momentum).state_dict()
        theirs.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()}, strict=True)
        assert int(theirs.num_batches_tracked) == 3


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_pickle_and_copies(options):
    bn = trained(**options)
    bn(X)
    twins = [pickle.loads(pickle.dumps(bn, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (*twins, bn.copy(), copy.copy(bn), copy.deepcopy(bn)):
        assert twin == bn
        assert twin.training == bn.training
        assert repr(twin) == repr(bn)
        assert str(twin.diagnose()) == str(bn.diagnose())
        with pytest.raises(RuntimeError, match=r"backward\(\) belongs to one call"):
            twin.backward(X)
        before = pickle.dumps(bn)
        twin(X + 1)
        twin.running_mean[:] = 3
        if twin.gamma is not None:
            twin.gamma[:] = 4
            twin.grad_gamma[:] = 5
        assert twin != bn
        assert pickle.dumps(bn) == before
    bn.backward(X)      # the argument keeps its entries
    assert BatchNorm(3, **options).eval().copy().training is False


def test_equality():
    bn = trained()
    assert bn == trained()
    assert (bn != trained()) is False
    assert bn != 1
    assert bn != BatchNorm(3)
    assert bn != trained(eps=1e-4)
    assert bn != trained(momentum=0.2)
    assert trained(affine=False) != trained()
    assert bn != trained(track_pooled=True)
    for name in ("gamma", "beta", "running_mean", "running_var"):
        other = trained()
        getattr(other, name)[1] += 0.5
        assert bn != other
        for layer in (bn.copy(), other):
            getattr(layer, name)[1] = np.nan
        assert other == other.copy()
    with pytest.raises(TypeError, match="unhashable"):
        hash(bn)


def test_repr():
    assert repr(BatchNorm(3, dtype="f8", momentum=None).eval()) == (
        "BatchNorm(3, eps=1e-05, momentum=None, scale=True, bias=True, channel_axis=1, dtype='float64', "
        "result_dtype=None, running_ddof=1, nan_policy='raise', renorm=False, r_max=3.0, d_max=5.0, "
        "virtual_batch=None): inference, 0 batches")
    assert repr(trained()).endswith("): training, 3 batches")
    for options in ({"eps": 0.5, "renorm": True}, {"bias": False, "result_dtype": "f2"}):
        text = repr(trained(**options))
        assert eval(text.partition("): ")[0] + ")") == BatchNorm(3, **options)


def linear(x, weight, bias):
    return x @ weight.T + bias


def convolution(x, weight, bias):
    """Return the convolution of (N, C, H, W) with weights (out, in, 3, 3), without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]


def dense(x, weight, bias):
    """Return the dense layer of Keras, whose weights are (in, out)."""
    return x @ weight + bias


FOLDS = {"linear": (linear, (7, 5), (3, 5), 0, 1), "convolution": (convolution, (2, 4, 6, 7), (3, 4, 3, 3), 0, 1),
         "dense": (dense, (7, 5), (5, 3), -1, 1), "images": (dense, (2, 6, 6, 5), (5, 3), 1, -1)}


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_fold(name, affine, with_bias):
    """The folded layer includes the inference of this one, for gamma of either sign."""
    apply, shape, of_weight, axis, channel_axis = FOLDS[name]
    x, weight, bias = normal(shape), normal(of_weight, 1), normal(3, 2) if with_bias else None
    bn = BatchNorm(3, dtype="f8", affine=affine, channel_axis=channel_axis).eval()
    if affine:
        bn.gamma, bn.beta = [1.5, -2, 0.0], [0.5, -1, 3]
    bn.running_mean, bn.running_var = [0.1, -1, 2], [0.5, 4, 1e-3]
    before = weight.copy()
    wanted = bn(apply(x, weight, np.zeros(3) if bias is None else bias))
    folded = bn.fold(weight, bias, output_axis=axis)
    np.testing.assert_allclose(apply(x, *folded), wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(weight, before)
    assert not np.shares_memory(folded[0], weight)
    for dtype in ("f2", BFLOAT16, "f4"):
        for got, exact in zip(bn.fold(weight.astype(dtype), bias, output_axis=axis), folded, strict=True):
            assert got.dtype == np.dtype(dtype)
            np.testing.assert_allclose(got.astype("f8"), exact, rtol=0.01, atol=0.01)


def test_fold_integers():
    weight, bias = BatchNorm(3, eps=0).fold(np.array([[2], [4], [6]]), [1, 2, 3])
    assert weight.dtype == bias.dtype == np.float32
    assert (weight.tolist(), bias.tolist()) == ([[2], [4], [6]], [1, 2, 3])


@pytest.mark.parametrize(("weight", "bias", "axis", "error", "message"), [
    (np.ones((4, 3)), None, 0, ValueError, r"weight must have 3 output channels along axis 0, got shape \(4, 3\)"),
    (np.ones((3, 4)), None, 2, np.exceptions.AxisError, r"output_axis 2 is out of range for weight of shape \(3, 4\)"),
    (np.array(1.0), None, 0, ValueError, r"weight must have 3 output channels along axis 0, got shape \(\)"),
    (np.ones((3, 4)), None, -1, ValueError, r"along axis -1, got shape \(3, 4\); output_axis says which axis"),
    (np.float64(1), None, 0, ValueError, r"got shape \(\)"),
    (np.ones((3, 4)), np.ones(4), 0, ValueError, r"bias must have shape \(3,\), got \(4,\)"),
    (np.ones((3, 4)), 1.0, 0, ValueError, r"bias must have shape \(3,\), got \(\)"),
    (np.ones((3, 4), "c8"), None, 0, TypeError, "weight must be of real numbers, got dtype complex64"),
    ([["a"]] * 3, None, 0, TypeError, "weight must be of real numbers, got dtype <U1"),
    (np.ones((3, 4)), np.ones(3, "c8"), 0, TypeError, "bias"),
])
def test_fold_refuses(weight, bias, axis, error, message):
    with pytest.raises(error, match=message):
        BatchNorm(3).fold(weight, bias, output_axis=axis)


def test_deepcopy_of_a_subclass():
    class Logged(BatchNorm):
        pass

    bn = Logged(3)
    bn.log = []
    other = copy.deepcopy(bn)
    other.log.append(1)
    assert (type(other), other == bn, bn.log) == (Logged, True, [])


def test_diagnosis_tells_of_channels_that_are_nan():
    bn = BatchNorm(3)
    bn.running_mean = [np.nan, 1, 2]
    assert "NaN or inf in 1 of 3" in str(bn.diagnose())


def test_n_threads_of_a_call():
    """n_threads changes no bit, and invalid values are refused."""
    x = np.random.default_rng(0).normal(size=(4000, 16))
    results = []
    for n in (1, 2, 5, None):
        bn = BatchNorm(16)
        y, dx = bn(x, n_threads=n), bn.backward(x, n_threads=n)
        m = bn.recalibrate([x], n_threads=n)
        results.append([each.tobytes() for each in (y, dx, m.mean, bn.running_var, bn.eval()(x, n_threads=n))])
    assert all(result == results[0] for result in results)
    for call in (lambda bn: bn(x, n_threads=0), lambda bn: bn.eval()(x, n_threads=0),
                 lambda bn: bn.recalibrate([x], n_threads=0)):
        with pytest.raises(ValueError, match="the number of threads must be from 1 to 65536, got 0"):
            call(BatchNorm(16))
    bn = BatchNorm(16)
    bn(x)
    with pytest.raises(ValueError, match="the number of threads must be from 1 to 65536, got 0"):
        bn.backward(x, n_threads=0)


@pytest.mark.parametrize("name", ["eps", "running_ddof", "r_max", "d_max"])
@pytest.mark.parametrize("value", ["1", None, [1.0]])
def test_settings_that_are_no_numbers(name, value, unchanged):
    unchanged(BatchNorm(3), TypeError, f"{name} must be .*, got ", lambda bn: setattr(bn, name, value))
