"""The public face: names, docstrings, their examples."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest
from support.examples import run_examples
from support.frameworks import require
from support.processes import python

import bnstream

PUBLIC = {name: getattr(bnstream, name) for name in bnstream.__all__}
METHODS = {f"{kind.__name__}.{name}": getattr(kind, name) for kind, names in (
    (bnstream.Moments, "update merge unmerge digest var std copy plot to_sklearn"),
    (bnstream.BatchNorm, "train eval backward recalibrate fold diagnose state_dict load_state_dict copy "
                         "reset_running_stats plot vjp zero_grad"),
    (bnstream.LayerNorm, "__call__ backward state_dict load_state_dict copy vjp zero_grad"),
    (bnstream.GroupNorm, "__call__"),
    (bnstream.InstanceNorm, "state_dict load_state_dict reset_running_stats")) for name in names.split()}
FRAMEWORKS = {f"BatchNorm.{way}_{name}": name for name in ("torch", "keras", "flax", "onnx") for way in ("from", "to")}
FRAMEWORKS |= dict.fromkeys(["BatchNorm.to_linen", "LayerNorm.to_linen"], "flax")
FRAMEWORKS |= {f"LayerNorm.{way}_{name}": name for name in ("torch", "keras", "flax", "onnx")
               for way in ("from", "to")}
METHODS |= {name: getattr(getattr(bnstream, name.partition(".")[0]), name.partition(".")[2]) for name in FRAMEWORKS}
FRAMEWORKS["Moments.to_sklearn"] = "sklearn"
WITHOUT_PARAMETERS = {"get_num_threads", "SourceError", "StateError", "Moments.copy", "Moments.digest",
                      "Moments.to_sklearn",
                      *(f"{layer}.{name}" for layer in ("BatchNorm", "LayerNorm", "InstanceNorm") for name in (
    "eval", "diagnose", "state_dict", "copy", "reset_running_stats", "zero_grad"))}
ROOT = Path(__file__).parents[2]


def test_names():
    assert sorted(bnstream.__all__) == bnstream.__all__
    assert {"BatchNorm", "Moments", "apply", "batch_norm", "batch_norm_vjp", "fit", "get_num_threads", "load",
            "mean_var", "normalize", "save", "set_num_threads", "show_config"} <= set(bnstream.__all__)
    public = {name for name in dir(bnstream) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(bnstream, name))}
    assert public - modules == set(bnstream.__all__)
    members = {name for name in dir(bnstream.Moments) if not name.startswith("_")}
    assert members == {"axis", "copy", "digest", "effective_n", "exact", "m2", "mean", "merge", "n", "names",
                       "nan_policy", "plot", "shape", "std", "to_sklearn", "unmerge", "update", "var",
                       "track", "min", "max", "missing", "skewness", "kurtosis", "quantile", "histogram",
                       "rank_error"}
    members = {name for name in dir(bnstream.BatchNorm(3)) if not name.startswith("_")}
    assert members == {name.partition(".")[2] for name in METHODS if name.startswith("BatchNorm.")} | {
        "affine", "beta", "bias", "channel_axis", "d_max", "dtype", "eps", "gamma", "grad_beta", "grad_gamma",
        "momentum", "names", "nan_policy", "num_batches_tracked", "num_features", "pooled", "r_max", "renorm",
        "result_dtype", "running_ddof", "running_mean", "running_var", "scale", "track_pooled", "training",
        "virtual_batch"}


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_docstring(name):
    """numpydoc, with an example that runs."""
    if name in FRAMEWORKS:
        require(FRAMEWORKS[name])
    text = {**PUBLIC, **METHODS}[name].__doc__
    run_examples(text, name)
    assert re.search(r"\n *Examples\n *-{8}\n", text)
    if name not in WITHOUT_PARAMETERS:
        assert re.search(r"\n *Parameters\n *-{10}\n", text)


def test_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bnstream.__version__ == project["version"]
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        _ = bnstream.version


def test_signatures():
    assert str(inspect.signature(bnstream.mean_var)).replace("bint ", "") == (
        "(x, axis=0, *, ddof=0, dtype=None, keepdims=False, nan_policy='propagate', weights=None, where=None, "
        "n_threads=None, exact=False)")
    assert str(inspect.signature(bnstream.normalize)).replace("double ", "") == (
        "(x, mean, var, gamma=None, beta=None, *, eps=0.0, channel_axis=None, out=None, n_threads=None)")
    plain = re.sub("double |bint ", "", str(inspect.signature(bnstream.batch_norm)))
    assert plain == (
        "(x, running_mean, running_var, gamma=None, beta=None, *, training=False, momentum=0.1, eps=1e-05, "
        "channel_axis=1, out=None, running_ddof=1, nan_policy='raise', where=None, n_threads=None)")
    assert ", ".join(inspect.signature(bnstream.BatchNorm).parameters) == (
        "num_features, eps, momentum, affine, scale, bias, channel_axis, dtype, result_dtype, running_ddof, "
        "nan_policy, track_pooled, renorm, r_max, d_max, virtual_batch, names")
    for name, wanted in {       # those of PyTorch, and then ours
        "layer_norm": "x, normalized_shape, gamma, beta, eps, out, n_threads",
        "rms_norm": "x, normalized_shape, gamma, eps, out, n_threads",
        "group_norm": "x, num_groups, gamma, beta, eps, channel_axis, where, out, n_threads",
        "instance_norm": "x, running_mean, running_var, gamma, beta, use_input_stats, momentum, eps, channel_axis, "
                         "where, out, n_threads",
        "LayerNorm": "normalized_shape, eps, elementwise_affine, bias, scale, dtype, result_dtype, names",
        "RMSNorm": "normalized_shape, eps, elementwise_affine, dtype, result_dtype, names",
        "GroupNorm": "num_groups, num_channels, eps, affine, bias, scale, channel_axis, dtype, result_dtype, names",
        "InstanceNorm": "num_features, eps, momentum, affine, track_running_stats, bias, scale, channel_axis, dtype, "
                        "result_dtype, names",
    }.items():
        assert ", ".join(inspect.signature(getattr(bnstream, name)).parameters) == wanted


def test_methods_of_missing_packages():
    """They are there to look at, and raise when they are called."""
    code = ("import sys, inspect; sys.modules['matplotlib'] = None; import bnstream; "
            "assert hasattr(bnstream.BatchNorm, 'plot'); "
            "[inspect.getmembers(each) for each in (bnstream.Moments(), bnstream.BatchNorm(3), bnstream.Moments)]; "
            "bnstream.Moments().plot()")
    done = python("-c", code, check=False)
    assert "ModuleNotFoundError: bnstream.plots needs matplotlib, which is not installed" in done.stderr


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {bnstream.__version__}\n" in text
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert f"\nlicense: {tomllib.load(file)['project']['license']}\n" in text
