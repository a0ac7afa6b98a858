"""The public face: names, docstrings, their examples."""

import doctest
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import bnstream

PUBLIC = {name: getattr(bnstream, name) for name in bnstream.__all__}
METHODS = {f"Moments.{name}": getattr(bnstream.Moments, name) for name in ("update", "merge", "var", "std", "copy")}
ROOT = Path(__file__).parents[1]


def test_names():
    assert sorted(bnstream.__all__) == bnstream.__all__
    assert {"Moments", "get_num_threads", "mean_var", "set_num_threads", "show_config"} <= set(bnstream.__all__)
    public = {name for name in dir(bnstream) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(bnstream, name))}
    assert public - modules == set(bnstream.__all__)
    members = {name for name in dir(bnstream.Moments) if not name.startswith("_")}
    assert members == {"axis", "copy", "m2", "mean", "merge", "n", "nan_policy", "shape", "std", "update", "var"}


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_docstring(name):
    """numpydoc, with an example that runs."""
    text = {**PUBLIC, **METHODS}[name].__doc__
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(text), {}, name, None, None)
    assert test.examples
    report = []
    result = doctest.DocTestRunner().run(test, out=report.append)
    assert result.failed == 0, "".join(report)
    assert re.search(r"\n *Examples\n *-{8}\n", text)
    if name not in ("get_num_threads", "Moments.copy"):
        assert re.search(r"\n *Parameters\n *-{10}\n", text)


def test_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bnstream.__version__ == project["version"]


def test_signatures():
    assert str(inspect.signature(bnstream.mean_var)).replace("bint ", "") == (
        "(x, axis=0, *, ddof=0, dtype=None, keepdims=False, nan_policy='propagate', n_threads=None)")
