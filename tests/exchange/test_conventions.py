"""States as the arrays of PyTorch, Keras, Flax, ONNX and scikit-learn: names, meanings and equal results."""

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal

from bnstream import BatchNorm, Moments
from bnstream.exchange.conventions import from_arrays, import_arrays, to_arrays
from bnstream.exchange.names import LAYERS

X = normal((40, 3)) * [1, 2, 5] + [0, 10, -1]
NAMES = {
    "pytorch": ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
    "keras": ["gamma", "beta", "moving_mean", "moving_variance", "momentum", "epsilon"],
    "flax": ["scale", "bias", "mean", "var", "momentum", "epsilon"],
    "onnx": ["scale", "B", "input_mean", "input_var", "momentum", "epsilon"],
}


def trained(**options):
    bn = BatchNorm(3, **{"eps": 0.001, "momentum": 0.25, "dtype": "float64", **options})
    if bn.affine:
        bn.gamma, bn.beta = [1.5, -2, 0.25], [0.5, 1, -3]
    for i in range(3):
        bn(X * (i + 1) + i)
    return bn.eval()


def by_formula(arrays, convention, x, eps=None):
    """Inference as the documentation of Keras, Flax and ONNX defines it."""
    gamma, beta, mean, var = (arrays[name] for name in NAMES[convention][:4])
    return (x - mean) / np.sqrt(var + (arrays["epsilon"] if eps is None else eps)) * gamma + beta


def moments(x=X, **options):
    return Moments(**options).update(x)


@pytest.mark.parametrize("convention", NAMES)
def test_names_and_meanings(convention):
    bn = trained()
    arrays = to_arrays(bn, convention)
    assert sorted(arrays) == sorted(NAMES[convention])
    gamma, beta, mean, var = (arrays[name] for name in NAMES[convention][:4])
    assert (gamma.tolist(), beta.tolist()) == ([1.5, -2, 0.25], [0.5, 1, -3])
    assert mean.tolist() == bn.running_mean.tolist()
    assert var.tolist() == bn.running_var.tolist()          # n is unknown, so the variance is copied
    if convention == "pytorch":
        assert arrays["num_batches_tracked"].dtype == np.int64
        assert arrays["num_batches_tracked"].tolist() == 3
    else:
        assert (arrays["momentum"].tolist(), arrays["epsilon"].tolist()) == (0.75, 0.001)
        np.testing.assert_allclose(by_formula(arrays, convention, X), bn(X), rtol=1e-12, atol=1e-12)
    for values in arrays.values():      # copies
        values[...] = 7
    assert bn == trained()


@pytest.mark.parametrize("convention", NAMES)
@pytest.mark.parametrize("affine", [True, False])
def test_round_trip(convention, affine):
    bn = trained(affine=affine, running_ddof=int(convention == "pytorch"))
    settings = {"eps": 0.001, "momentum": 0.25} if convention == "pytorch" else {}
    back, lacks = import_arrays(to_arrays(bn, convention), convention, **settings)
    assert isinstance(back, BatchNorm)
    assert back.eval()(X).tobytes() == bn(X).tobytes()
    assert (back.eps, back.momentum, back.running_ddof) == (0.001, 0.25, bn.running_ddof)
    assert back.affine == (affine or convention == "onnx")
    assert lacks == (["n"] if convention == "pytorch" else ["n", "num_batches_tracked"])
    assert back.num_batches_tracked == (3 if convention == "pytorch" else 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum", [0.1, 0.01, 0.001, 1 / 3, 0.0, 1.0])
def test_momentum_to_the_last_digit(momentum, dtype):
    """1 - 0.9 is exactly 0.1, although it is not in binary arithmetic."""
    arrays = to_arrays(BatchNorm(3, momentum=momentum), "keras")
    if momentum != 1 / 3:
        arrays = {name: values.astype(dtype) for name, values in arrays.items()}
    back = from_arrays(arrays, "keras")
    assert back.momentum == pytest.approx(momentum, rel=1e-15)
    if momentum != 1 / 3:
        assert back.momentum == momentum
        assert back.eps == 1e-5


@pytest.mark.parametrize(("convention", "eps", "momentum"), [
    ("pytorch", 1e-5, 0.1), ("keras", 1e-3, 0.01), ("flax", 1e-5, 0.01), ("onnx", 1e-5, 0.1)])
def test_defaults_of_the_tool(convention, eps, momentum):
    """Settings that the arrays lack are the defaults of the tool, and are listed."""
    arrays = {name: values for name, values in to_arrays(trained(), convention).items()
              if name in (*NAMES[convention][:4], "num_batches_tracked")}
    bn, lacks = import_arrays(arrays, convention)
    assert (bn.eps, bn.momentum) == (eps, momentum)
    assert lacks[-2:] == ["eps", "momentum"]
    bn, lacks = import_arrays(arrays, convention, eps=0.5, momentum=0.5, channel_axis=-1, names=["a", "b", "c"])
    assert (bn.eps, bn.momentum, bn.channel_axis, bn.names) == (0.5, 0.5, -1, ("a", "b", "c"))
    assert not {"eps", "momentum"} & set(lacks)


@pytest.mark.parametrize("convention", NAMES)
def test_statistics_to_a_layer(convention):
    m = moments(names=["a", "b", "c"])
    arrays = to_arrays(m, convention)
    gamma, beta, mean, var = (arrays[name] for name in NAMES[convention][:4])
    assert (gamma.tolist(), beta.tolist()) == ([1, 1, 1], [0, 0, 0])
    assert (mean.tolist(), var.tolist()) == (m.mean.tolist(), m.var(ddof=int(convention == "pytorch")).tolist())
    assert sorted(arrays) == sorted([*NAMES[convention][:4], *(["num_batches_tracked"] * (convention == "pytorch"))])
    bn = from_arrays(arrays, convention).eval()
    np.testing.assert_allclose(bn(X), (X - mean) / np.sqrt(var + bn.eps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"momentum": None}, {"momentum": None, "running_ddof": 0}])
def test_variance_where_n_is_known(options):
    """Each tool gets exactly its ddof."""
    bn = trained(**options)
    for convention in NAMES:
        var = to_arrays(bn, convention)[NAMES[convention][3]]
        assert var.tolist() == bn.pooled.var(int(convention == "pytorch")).tolist()
    bn.running_var = bn.running_var * 2     # no longer those of the pooled values
    assert to_arrays(bn, "keras")["moving_variance"].tolist() == bn.running_var.tolist()
    bn = trained(track_pooled=True)
    assert to_arrays(bn, "keras")["moving_variance"].tolist() == bn.running_var.tolist()


def test_momentum_none_is_omitted():
    assert "momentum" not in to_arrays(trained(momentum=None), "keras")
    assert from_arrays(to_arrays(trained(), "pytorch"), "pytorch", momentum=None).momentum is None


def test_without_gamma_and_beta():
    """affine=False has neither, ONNX needs both, and the others may have one of them."""
    bn = trained(affine=False)
    assert sorted(to_arrays(bn, "pytorch")) == ["num_batches_tracked", "running_mean", "running_var"]
    assert to_arrays(bn, "onnx")["scale"].tolist() == [1, 1, 1]
    assert to_arrays(bn, "onnx")["B"].tolist() == [0, 0, 0]
    arrays = {"gamma": np.float32([1, 2, 3]), "moving_mean": np.zeros(3, "f4"), "moving_variance": np.ones(3, "f4")}
    one = from_arrays(arrays, "keras")
    assert (one.gamma.tolist(), one.beta, one.dtype) == ([1, 2, 3], None, np.float32)
    assert sorted(to_arrays(one, "keras")) == ["epsilon", "gamma", "momentum", "moving_mean", "moving_variance"]
    assert to_arrays(one, "onnx")["B"].tolist() == [0, 0, 0]
    one = from_arrays(arrays, "keras", affine=True)
    assert (one.gamma.tolist(), one.beta.tolist()) == ([1, 2, 3], [0, 0, 0])
    arrays["beta"] = arrays.pop("gamma")
    one = from_arrays(arrays, "keras")
    assert (one.gamma, one.beta.tolist()) == (None, [1, 2, 3])
    with pytest.raises(ValueError, match="expected the arrays input_mean, input_var, scale, B, and optionally"):
        from_arrays({"input_mean": [1.0], "input_var": [1.0]}, "onnx")


@pytest.mark.parametrize(("dtype", "kept"), [("float16", "float16"), ("float32", "float32"), (BFLOAT16, "float32")])
def test_dtypes(dtype, kept):
    """gamma keeps its dtype if NumPy can save it. The estimates stay float64 unless a dtype is given."""
    arrays = to_arrays(trained(dtype=dtype), "onnx")
    assert (arrays["scale"].dtype, arrays["input_mean"].dtype, arrays["epsilon"].dtype) == (kept, "float64", "float64")
    assert arrays["scale"].tolist() == [1.5, -2, 0.25]
    arrays = to_arrays(trained(dtype=dtype), "onnx", dtype="float32")
    assert {arrays[name].dtype for name in NAMES["onnx"][:4]} == {np.dtype("float32")}
    assert arrays["epsilon"].dtype == np.float64
    assert to_arrays(trained(), "pytorch", dtype="float32")["num_batches_tracked"].dtype == np.int64
    with pytest.raises(TypeError, match="dtype must be float16, bfloat16, float32 or float64, got 'int32'"):
        to_arrays(trained(), "onnx", dtype="int32")
    assert from_arrays(to_arrays(trained(dtype=dtype), "keras"), "keras").dtype == kept


@pytest.mark.parametrize("separator", [".", "/"])
def test_layer_of_a_network(separator):
    """It is selected by its prefix, which may be omitted if there is only one."""
    state = {"conv1.weight": np.ones((3, 1, 2, 2)), "conv1.bias": np.ones(3), "running_mean": np.ones(3)}
    state |= {f"a{separator}bn1{separator}{name}": values for name, values in to_arrays(trained(), "pytorch").items()}
    bn = from_arrays(state, "pytorch", eps=0.001, momentum=0.25).eval()
    assert bn == trained()
    state |= {f"bn2{separator}{name}": values for name, values in to_arrays(moments(), "pytorch").items()}
    message = ("the arrays are those of several layers; choose one with prefix=, one of "
               f"'a{separator}bn1{separator}', 'bn2{separator}'")
    with pytest.raises(ValueError, match=message):
        from_arrays(state, "pytorch")
    assert from_arrays(state, "pytorch", prefix=f"bn2{separator}").gamma.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"expected the arrays running_mean, running_var, .*, got weight, bias$"):
        from_arrays(state, "pytorch", prefix="conv1.")
    with pytest.raises(ValueError, match=r"expected the arrays .*, got none"):
        from_arrays(state, "pytorch", prefix="bn3.")


GIVEN = {"gamma": np.ones(3), "beta": np.zeros(3), "moving_mean": np.zeros(3), "moving_variance": np.ones(3)}


@pytest.mark.parametrize(("change", "message"), [
    ({"moving_mean": None}, r"expected the arrays moving_mean, moving_variance, and optionally gamma, beta, epsilon, "
                            r"momentum, got gamma, beta, moving_variance"),
    ({"running_mean": np.ones(3)}, "and optionally .*, got gamma, beta, moving_mean, moving_variance, running_mean"),
    ({"gamma": np.ones(4)}, r"expected gamma, beta, moving_mean, moving_variance of one shape \(channels,\), got gamma "
                            r"float64 \(4,\), beta float64 \(3,\), moving_mean float64 \(3,\)"),
    ({"moving_mean": np.ones((3, 1))}, "of one shape"), ({"moving_variance": 1.0}, "of one shape"),
    (dict.fromkeys(GIVEN, 1.0), "of one shape"), (dict.fromkeys(GIVEN, np.ones(0)), "of one shape"),
    ({"beta": np.ones(3, "c8")}, "beta must hold real numbers, got gamma float64 .*, beta complex64"),
    ({"beta": ["a", "b", "c"]}, "beta must hold real numbers"), ({"beta": np.ones(3, "?")}, "beta must hold real"),
    ({"moving_variance": [1.0, -1.0, 1.0]}, "running_var must not be negative, got -1.0"),
    ({"epsilon": [1.0, 2.0]}, "epsilon must be one number, got .*epsilon float64"),
    ({"epsilon": -1}, "eps must be a finite"),
    ({"epsilon": "1"}, "epsilon must hold real numbers"), ({"momentum": np.nan}, "momentum must be from 0 to 1"),
    ({"momentum": 1.5}, "momentum must be from 0 to 1"), ({"momentum": np.ones(3)}, "momentum must be one number"),
])
def test_invalid_arrays(change, message):
    arrays = {name: values for name, values in (GIVEN | change).items() if values is not None}
    with pytest.raises(ValueError, match=message):
        from_arrays(arrays, "keras")


def test_long_lists_of_arrays_are_cut():
    with pytest.raises(ValueError, match=r"got 0, 1, .*, 19 and 80 more$"):
        from_arrays({str(i): 0.0 for i in range(100)}, "flax")


@pytest.mark.parametrize("count", [-1, 1.5, [1, 2]])
def test_invalid_counts(count):
    with pytest.raises(ValueError, match="num_batches_tracked must be"):
        from_arrays({"running_mean": [0.0], "running_var": [1.0], "num_batches_tracked": count}, "pytorch")


def test_invalid_states():
    for convention in NAMES:
        with pytest.raises(ValueError, match="the statistics are empty; update them with a batch first"):
            to_arrays(Moments(), convention)
        with pytest.raises(ValueError, match=r"channels along one axis, got channels of shape \(2, 2\)"):
            to_arrays(moments(np.ones((3, 2, 2))), convention)
    with pytest.raises(ValueError, match="ddof 1 and needs n > 1 in every channel, got n = 1; give more data"):
        to_arrays(moments(np.ones((1, 2))), "pytorch")
    assert to_arrays(moments(np.ones((1, 2))), "keras")["moving_variance"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="has ddof 0 and needs n > 0 in every channel, got n = 0"):
        to_arrays(moments([[1.0, np.nan]], nan_policy="omit"), "keras")
    with pytest.raises(TypeError, match="expected a Moments or a BatchNorm, got dict"):
        to_arrays({}, "keras")
    for call in (lambda: to_arrays(moments(), "caffe"), lambda: from_arrays({}, "caffe")):
        with pytest.raises(ValueError, match="onnx, scikit-learn, lerobot, transformers, got 'caffe'"):
            call()


def test_scaler_round_trip():
    m = moments(names=["a", "b", "c"])
    arrays = to_arrays(m, "scikit-learn")
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "mean_": m.mean.tolist(), "var_": m.var().tolist(), "scale_": m.std().tolist(), "n_samples_seen_": 40,
        "feature_names_in_": ["a", "b", "c"]}
    back, lacks = import_arrays(arrays, "scikit-learn")
    assert (set(back.n.tolist()), back.names, back.nan_policy, lacks) == ({40}, m.names, "raise", ["mean_lo", "m2_lo"])
    assert back.mean.tolist() == m.mean.tolist()
    np.testing.assert_allclose(back.m2, m.m2, rtol=1e-15)
    back.update(X)
    np.testing.assert_allclose(back.var(), m.var(), rtol=1e-14)


def test_scaler_of_large_data():
    """A variance beyond float64 goes into scale_ alone. A layer cannot hold it."""
    m = Moments().update(np.array([[1e200, 1.0], [-1e200, 3.0]]))
    arrays = to_arrays(m, "scikit-learn")
    assert (arrays["var_"].tolist(), arrays["scale_"].tolist()) == ([np.inf, 1], [1e200, 1])
    with pytest.raises(ValueError, match="the variance of channel 0 exceeds float64, and a layer cannot hold it"):
        to_arrays(m, "pytorch")
    arrays |= {"var_": np.array([1e308, 1.0]), "n_samples_seen_": np.array(10**6)}
    back = from_arrays(arrays, "scikit-learn")
    assert (back.var().tolist(), back.n.tolist()) == ([1e308, 1], [10**6] * 2)


def test_scaler_of_missing_values():
    m = moments([[1.0, np.nan, np.nan], [5.0, 7.0, np.nan]], nan_policy="omit")
    arrays = to_arrays(m, "scikit-learn")
    assert arrays["n_samples_seen_"].tolist() == [2, 1, 0]
    assert arrays["scale_"][:2].tolist() == [2, 1]
    back = from_arrays(arrays, "scikit-learn")
    assert back == m
    assert back.nan_policy == "omit"
    assert back.n.tolist() == [2, 1, 0]


def test_scaler_of_a_layer():
    """A scaler gets the pooled statistics, as running estimates have no count of values."""
    with pytest.raises(ValueError, match=r"n_samples_seen_ is a count .*; make the layer with track_pooled=True, or"):
        to_arrays(trained(), "scikit-learn")
    bn = trained(track_pooled=True, names=["a", "b", "c"])
    arrays = to_arrays(bn, "scikit-learn")
    assert arrays["n_samples_seen_"].tolist() == 120
    assert arrays["var_"].tolist() == bn.pooled.var().tolist()
    assert arrays["feature_names_in_"].tolist() == ["a", "b", "c"]


SCALER = {"mean_": np.zeros(2), "var_": np.ones(2), "n_samples_seen_": np.array(5)}


@pytest.mark.parametrize(("change", "message"), [
    ({"var_": None}, "expected the arrays mean_, var_, n_samples_seen_, and optionally .*, got mean_, n_samples_seen_"),
    ({"with_mean": True}, "got mean_, var_, n_samples_seen_, with_mean"),
    ({"var_": np.ones(3)}, r"expected mean_ and var_ of one shape \(features,\), and n_samples_seen_ of this shape or "
                           r"\(\), got mean_ float64 \(2,\), var_ float64 \(3,\)"),
    ({"n_samples_seen_": [5, 5, 5]}, "of this shape"), ({"mean_": 1.0, "var_": 1.0}, "of one shape"),
    ({"n_samples_seen_": np.inf}, "n_samples_seen_ must be from 0 to 2\\*\\*53, got inf"),
    ({"n_samples_seen_": -1}, "must be from 0"), ({"n_samples_seen_": [5.0, np.nan]}, "must be from 0"),
    ({"n_samples_seen_": 2.0**53}, "must be from 0"), ({"var_": [1.0, -1.0]}, "must not be negative, got -1.0"),
    ({"mean_": [0.0, np.nan]}, "mean_ and var_ must be finite where n_samples_seen_ is not 0"),
    ({"var_": [1.0, np.inf]}, "must be finite"), ({"mean_": ["a", "b"]}, "mean_ must hold real numbers"),
    ({"feature_names_in_": ["a"]}, r"names must fit channels of shape \(2,\), got 1 name"),
])
def test_invalid_scalers(change, message):
    arrays = {name: values for name, values in (SCALER | change).items() if values is not None}
    with pytest.raises(ValueError, match=message):
        from_arrays(arrays, "scikit-learn")


def test_scaler_takes_no_settings():
    with pytest.raises(ValueError, match="scikit-learn's arrays become Moments, which have no eps"):
        from_arrays(SCALER, "scikit-learn", eps=1.0)


@pytest.mark.parametrize("state", [moments(), trained(), trained(momentum=None)], ids=["Moments", "layer", "pooled"])
def test_pytorch(state):
    """A layer of PyTorch loads the arrays and returns what ours does, and vice versa."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm1d(3, eps=0.001, momentum=0.25, dtype=torch.float64)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in to_arrays(state, "pytorch").items()})
    wanted = theirs.eval()(torch.from_numpy(X)).detach().numpy()
    ours = from_arrays(to_arrays(state, "pytorch"), "pytorch", eps=0.001)
    np.testing.assert_allclose(ours.eval()(X), wanted, rtol=1e-12, atol=1e-12)
    theirs.train()(torch.from_numpy(X * 3))
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), theirs.eval())
    ours = from_arrays(network.state_dict(), "pytorch", eps=0.001, momentum=0.25)
    np.testing.assert_allclose(ours.eval()(X), theirs(torch.from_numpy(X)).detach().numpy(), rtol=1e-12, atol=1e-12)
    theirs.train()(torch.from_numpy(X))
    ours.train()(X)
    np.testing.assert_allclose(ours.running_var, theirs.running_var.numpy(), rtol=1e-12)
    assert ours.num_batches_tracked == int(theirs.num_batches_tracked)


def test_onnx():
    """ONNX Runtime normalizes by the arrays, with the results of the layer."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    bn = trained()
    arrays = to_arrays(bn, "onnx", dtype="float32")
    inputs = [onnx.numpy_helper.from_array(arrays[name], name) for name in NAMES["onnx"][:4]]
    node = onnx.helper.make_node("BatchNormalization", ["x", *NAMES["onnx"][:4]], ["y"],
                                 epsilon=float(arrays["epsilon"]), momentum=float(arrays["momentum"]))
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (40, 3)) for name in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "bn", [x], [y], inputs),
                                   opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [got] = session.run(None, {"x": X.astype("f4")})
    np.testing.assert_allclose(got, bn(X.astype("f4")), rtol=1e-5, atol=1e-5)


def test_scikit_learn():
    """A StandardScaler takes the arrays as attributes and continues from them, and vice versa."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    theirs = preprocessing.StandardScaler()
    for name, values in to_arrays(moments(names=["a", "b", "c"]), "scikit-learn").items():
        setattr(theirs, name, values if values.ndim else values[()])
    del theirs.feature_names_in_
    np.testing.assert_allclose(theirs.transform(X), (X - X.mean(0)) / X.std(0), rtol=1e-12, atol=1e-12)
    theirs.partial_fit(X * 2)
    back = from_arrays({name: value for name, value in vars(theirs).items() if name.endswith("_")}, "scikit-learn")
    exact = moments(np.concatenate([X, X * 2]))
    assert back.n.tolist() == exact.n.tolist()
    assert set(back.n.tolist()) == {80}
    np.testing.assert_allclose(back.mean, exact.mean, rtol=1e-12)
    np.testing.assert_allclose(back.var(), exact.var(), rtol=1e-12)


def test_scikit_learn_with_missing_values():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = X.copy()
    x[:7, 1] = np.nan
    theirs = preprocessing.StandardScaler().fit(x)
    back = from_arrays({name: value for name, value in vars(theirs).items() if name.endswith("_")}, "scikit-learn")
    exact = moments(x, nan_policy="omit")
    assert back.n.tolist() == exact.n.tolist() == [40, 33, 40]
    np.testing.assert_allclose(back.var(), exact.var(), rtol=1e-12)


def test_every_convention_is_tested():
    assert LAYERS.keys() == NAMES.keys()
