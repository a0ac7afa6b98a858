"""scikit-learn's own tests of its StandardScaler, run with ours: its test_data.py with only the import changed."""

import importlib.util
import inspect
import sys

import pytest

preprocessing = pytest.importorskip("sklearn.preprocessing")
scaler = pytest.importorskip("bnstream.sklearn").StandardScaler


def imported_with(scaler):
    """scikit-learn's test module, imported anew, so that parametrizations also have our class."""
    installed = importlib.util.find_spec("sklearn.preprocessing.tests.test_data")
    spec = importlib.util.spec_from_file_location("sklearn_test_data", installed.origin)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        patch.setattr(preprocessing, "StandardScaler", scaler)
        spec.loader.exec_module(module)
    return module


def listed(mark):
    """The mark with a list in place of a generator, which pytest deprecates."""
    if mark.name != "parametrize":
        return mark
    names, values = mark.args
    return pytest.mark.parametrize(names, list(values), **mark.kwargs).mark


CASES = {
    name: case for name, case in vars(imported_with(scaler)).items()
    if name.startswith("test_") and inspect.isfunction(case) and "StandardScaler" in inspect.getsource(case)
}
for case in CASES.values():
    case.pytestmark = [listed(mark) for mark in getattr(case, "pytestmark", [])]
globals().update(CASES)

# The warnings of these tests are not ours: they come from other transformers and from deprecations elsewhere.
pytestmark = pytest.mark.filterwarnings("default")


def test_the_cases_are_there():
    assert CASES.keys() >= {
        "test_standard_scaler_sample_weight", "test_standard_scaler_dtype", "test_standard_scaler_constant_features",
        "test_standard_scaler_near_constant_features", "test_standard_scaler_1d", "test_scaler_float16_overflow",
        "test_standard_scaler_partial_fit", "test_standard_scaler_partial_fit_numerical_stability", "test_scaler_int",
        "test_partial_fit_sparse_input", "test_scaler_n_samples_seen_with_nan", "test_scaler_without_copy",
        "test_scale_sparse_with_mean_raise_exception", "test_standard_scaler_sparse_partial_fit_finite_variance",
        "test_one_to_one_features_pandas", "test_fit_cold_start",
    }
    assert all(case.__globals__["StandardScaler"] is scaler for case in CASES.values())
