"""Scalers and statistics as plain scalers of scikit-learn, and as ONNX models by skl2onnx."""

import copy
import pickle

import numpy as np
import pytest
from support.arrays import rng
from support.copies import COPIES
from support.examples import run_examples
from support.processes import python

from bnstream import Moments

preprocessing = pytest.importorskip("sklearn.preprocessing")
make_pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline
NotFittedError = pytest.importorskip("sklearn.exceptions").NotFittedError
StandardScaler = pytest.importorskip("bnstream.sklearn").StandardScaler

ATTRIBUTES = ["mean_", "var_", "scale_", "n_samples_seen_"]
X = rng().standard_normal((60, 3)) * [1, 10, 0] + [0, 5, -1e3]
GAPS = np.where(rng(1).random(X.shape) < 0.1, np.nan, X)
OPTIONS = [{"with_mean": with_mean, "with_std": with_std} for with_mean in (True, False) for with_std in (True, False)]


def assert_same(plain, scaler):
    assert type(plain) is preprocessing.StandardScaler
    assert {**plain.get_params(), "exact": scaler.exact} == scaler.get_params()
    for name in ATTRIBUTES:
        got, wanted = getattr(plain, name), getattr(scaler, name)
        assert (got is None) == (wanted is None)
        if wanted is not None:
            assert (got.dtype, np.shape(got), got.tobytes()) == (wanted.dtype, np.shape(wanted), wanted.tobytes())
            assert np.ndim(got) == 0 or not np.shares_memory(got, wanted)


# to_sklearn

@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("x", [X, GAPS], ids=["plain", "gaps"])
@pytest.mark.parametrize("weights", [None, np.linspace(0, 1, 60)], ids=["plain", "weighted"])
def test_of_a_scaler(options, x, weights):
    scaler = StandardScaler(copy=False, **options).fit(x, sample_weight=weights)
    plain = scaler.to_sklearn()
    assert_same(plain, scaler)
    np.testing.assert_allclose(plain.transform(x.copy()), scaler.transform(x.copy()), rtol=1e-12, atol=1e-12)
    assert plain.partial_fit(x).n_samples_seen_.max() > scaler.n_samples_seen_.max()
    assert StandardScaler(copy=False, **options).merge(scaler.to_sklearn()).n_features_in_ == 3


def test_settings_of_a_scaler():
    """Names of features, the container of the output, requests of metadata, and attributes that were set."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abc"))
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    scaler.scale_ = np.array([1.0, 2.0, 4.0])
    plain = scaler.to_sklearn()
    assert_same(plain, scaler)
    pd.testing.assert_frame_equal(plain.transform(frame), scaler.transform(frame))
    assert plain.get_feature_names_out().tolist() == list("abc")
    del scaler.var_
    assert not hasattr(scaler.to_sklearn(), "var_")


@pytest.mark.parametrize("x", [X, GAPS], ids=["plain", "gaps"])
@pytest.mark.parametrize("names", [None, ["a", "b", "c"]])
def test_of_moments(x, names):
    plain = Moments(nan_policy="omit", names=names).update(x).to_sklearn()
    assert_same(plain, StandardScaler().fit(x))
    assert plain.n_features_in_ == 3
    assert getattr(plain, "feature_names_in_", None) is None or plain.feature_names_in_.tolist() == names
    assert hasattr(plain, "feature_names_in_") == (names is not None)
    assert plain.scale_[2] == 1
    if names:
        del plain.feature_names_in_
    whole = plain.partial_fit(x)
    assert (whole.n_samples_seen_ == 2 * StandardScaler().fit(x).n_samples_seen_).all()


def test_of_moments_of_other_axes():
    images = rng().standard_normal((5, 3, 4, 4))
    plain = Moments((0, 2, 3)).update(images).to_sklearn()
    wanted = StandardScaler().fit(np.moveaxis(images, 1, -1).reshape(-1, 3))
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(plain, name), getattr(wanted, name), rtol=1e-13, atol=1e-15)


def test_what_has_no_plain_scaler():
    for scaler in (StandardScaler(), StandardScaler().fit(X)):
        scaler._reset()
        with pytest.raises(NotFittedError):
            scaler.to_sklearn()
    with pytest.raises(ValueError, match="the statistics are empty; update them with a batch first"):
        Moments().to_sklearn()
    with pytest.raises(ValueError, match="expected statistics with channels along one axis, got channels of shape"):
        Moments().update(np.ones((2, 3, 4))).to_sklearn()


def test_plain_scalers_need_no_bnstream():
    scaler = StandardScaler().fit(X)
    for plain in (scaler.to_sklearn(), Moments(names=["a", "b", "c"]).update(X).to_sklearn()):
        code = ("import sys; sys.modules['bnstream'] = None; import pickle; "
                f"print(pickle.loads({pickle.dumps(plain)!r}).mean_.tolist())")
        assert python("-c", code).stdout.strip() == str(scaler.mean_.tolist())


def test_docstring_of_to_sklearn():
    run_examples(Moments.to_sklearn.__doc__, "to_sklearn")
    assert StandardScaler.to_sklearn.__doc__ == Moments.to_sklearn.__doc__


def test_to_sklearn_without_scikit_learn():
    code = ("import sys; sys.modules['sklearn'] = None; import bnstream; m = bnstream.Moments(); "
            "assert hasattr(m, 'to_sklearn'); m.to_sklearn()")
    done = python("-c", code, check=False)
    assert "bnstream.sklearn needs scikit-learn, which is not installed; install it" in done.stderr.splitlines()[-1]


# Copies

@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.filterwarnings("default")      # those of skops
def test_copies(way, options):
    """A scaler comes back whole from every copier and serializer, and so does one within a pipeline."""
    if way in ("joblib", "cloudpickle", "skops"):
        pytest.importorskip(way)
    for scaler in (StandardScaler(**options), StandardScaler(**options).fit(X),
                   StandardScaler(**options).fit(GAPS, sample_weight=np.full(60, 1e-200))):
        twin = COPIES[way](scaler)
        assert pickle.dumps(twin.__getstate__()) == pickle.dumps(scaler.__getstate__())
        assert pickle.dumps(twin.partial_fit(X).__getstate__()) == pickle.dumps(
            copy.deepcopy(scaler).partial_fit(X).__getstate__())
        assert pickle.dumps(twin.__getstate__()) != pickle.dumps(scaler.__getstate__())
    if way != "copy.copy":
        pipe = make_pipeline(StandardScaler(**options).fit(X))
        assert COPIES[way](pipe).transform(X).tobytes() == pipe.transform(X).tobytes()


def test_trusted_types():
    """skops asks for trust in the two public classes alone."""
    io = pytest.importorskip("skops.io")
    data = io.dumps(StandardScaler().fit(X))
    assert io.get_untrusted_types(data=data) == [
        "bnstream.core.moments.Moments", "bnstream.sklearn.scaler.StandardScaler"]


# ONNX

@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
@pytest.mark.parametrize("form", ["alone", "pipeline", "subclass"])
@pytest.mark.filterwarnings("default")
def test_skl2onnx(options, dtype, form):
    """The graph is that of scikit-learn's scaler, and its results are ours."""
    skl2onnx, onnxruntime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    x = (rng().standard_normal((20, 3)) * 9).astype(dtype)
    kind = type("Sub", (StandardScaler,), {}) if form == "subclass" else StandardScaler
    ours, theirs = kind(**options).fit(x), preprocessing.StandardScaler(**options).fit(x)
    models = [make_pipeline(scaler, preprocessing.MaxAbsScaler()).fit(x) if form == "pipeline" else scaler
              for scaler in (ours, theirs)]
    graphs = [skl2onnx.to_onnx(model, x[:1]) for model in models]
    assert [node.op_type for node in graphs[0].graph.node] == [node.op_type for node in graphs[1].graph.node]
    assert [out.type for out in graphs[0].graph.output] == [out.type for out in graphs[1].graph.output]
    if dtype == "i8" and not any(options.values()):
        return      # skl2onnx makes an identity from int64 to float of either scaler, which ONNX Runtime refuses
    session = onnxruntime.InferenceSession(graphs[0].SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": x})[0], models[0].transform(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("div", ["std", "div", "div_cast"])
@pytest.mark.filterwarnings("default")
def test_options_of_skl2onnx(div):
    skl2onnx = pytest.importorskip("skl2onnx")
    x = X.astype("f4")
    graphs = [skl2onnx.to_onnx(scaler, x[:1], options={id(scaler): {"div": div}})
              for scaler in (StandardScaler().fit(x), preprocessing.StandardScaler().fit(x))]
    assert [node.op_type for node in graphs[0].graph.node] == [node.op_type for node in graphs[1].graph.node]
