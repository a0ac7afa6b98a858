"""The level of the kernels, which is chosen once at import, and what show_config reports."""

import platform
import sys
from importlib import metadata

import numpy as np
import pytest
from support.processes import python

import bnstream
from bnstream import _kernels
from bnstream._kernels import _runtime

LEVEL = "import bnstream; print(bnstream.show_config('dicts')['level'])"


def test_levels():
    levels = _runtime.cpu_levels()
    assert levels[-1] == "baseline"
    assert set(levels) <= set(_kernels.LEVELS)
    assert levels == [level for level in _kernels.LEVELS if level in levels]    # highest first
    assert _kernels.level in levels


@pytest.mark.parametrize("value", [None, ""])
def test_chosen_by_cpu(value):
    assert python("-c", LEVEL, BNSTREAM_ISA=value).stdout.strip() == _kernels._choose(None)


@pytest.mark.parametrize("level", _kernels.LEVELS)
def test_forced(level):
    if level in _runtime.cpu_levels():
        assert python("-c", LEVEL, BNSTREAM_ISA=level).stdout.strip() == level
    else:
        done = python("-c", LEVEL, BNSTREAM_ISA=level, check=False)
        assert f"ImportError: BNSTREAM_ISA is '{level}', but this " in done.stderr


@pytest.mark.parametrize("value", ["avx2", "x86-64-v9", "BASELINE", " "])
def test_forced_to_unknown_level(value):
    done = python("-c", LEVEL, BNSTREAM_ISA=value, check=False)
    assert done.returncode == 1
    message = f"ValueError: BNSTREAM_ISA is {value!r}; expected one of x86-64-v4, x86-64-v3, baseline, or unset"
    assert message in done.stderr


def test_forced_to_unusable_level(monkeypatch):
    """A level that the CPU does not support, and one that the build does not include."""
    monkeypatch.setattr(_runtime, "cpu_levels", lambda: ["baseline"])
    assert _kernels._choose(None) == "baseline"
    message = r"BNSTREAM_ISA is 'x86-64-v4', but this (CPU|build) does not .*; usable here: "
    with pytest.raises(ImportError, match=message + "baseline"):
        _kernels._choose("x86-64-v4")
    monkeypatch.setattr(_runtime, "cpu_levels", lambda: list(_kernels.LEVELS))
    monkeypatch.setitem(_kernels.LEVELS, "x86-64-v4", "_not_built")
    with pytest.raises(ImportError, match=message.replace("(CPU|build)", "build")):
        _kernels._choose("x86-64-v4")
    assert _kernels._choose(None) != "x86-64-v4"


def test_broken_variant():
    """Only missing variants are skipped. A variant that does not load raises its own error."""
    script = """
import importlib.util, sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("bnstream._kernels._") and not name.endswith("_runtime"):
            return importlib.util.spec_from_loader(name, self)
    def create_module(self, spec):
        raise ImportError("broken on purpose")
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Broken())
import bnstream
"""
    done = python("-c", script, check=False)
    assert done.returncode == 1
    assert "ImportError: broken on purpose" in done.stderr


def test_core_needs_numpy_alone():
    script = """
import sys, numpy
before = set(sys.modules)
import bnstream
print(*{name.split(".")[0] for name in set(sys.modules) - before})
"""
    loaded = set(python("-c", script).stdout.split()) - sys.stdlib_module_names
    loaded -= {name for name in loaded if name.startswith(("_cython", "cython_runtime", "_sysconfig"))}
    assert loaded <= {"bnstream", "numpy"}


def test_config(capsys):
    config = bnstream.show_config("dicts")
    assert config["bnstream"] == bnstream.__version__
    assert config["numpy"] == np.__version__
    assert config["level"] == _kernels.level
    assert config["compiler"]
    assert config["openmp"].startswith("off: ") or config["openmp"].isdecimal()
    assert config["built_levels"].split(", ") == [name for name in _kernels.LEVELS if name in config["built_levels"]]
    assert config["built_levels"].endswith("baseline")
    assert config["threads"] == bnstream.get_num_threads()
    assert config["python"].startswith(platform.python_version())
    assert platform.machine() in config["system"]
    assert f"ml_dtypes {metadata.version('ml_dtypes')}" in config["packages"].split(", ")
    assert not [one for one in config["packages"].split(", ") if one.startswith(("numpy ", "bnstream ", "ruff "))]
    assert bnstream.show_config() is None
    printed = capsys.readouterr().out
    for name, value in config.items():
        assert f"{name} " in printed
        assert str(value) in printed


def test_no_openmp_is_serial():
    if bnstream.show_config("dicts")["openmp"].isdecimal():
        pytest.skip("built with OpenMP")
    bnstream.set_num_threads(8)
    assert bnstream.get_num_threads() == 1


def test_the_modules_of_all_levels_can_be_imported_or_say_why_not():
    """Tools import every module of a package. One of a level that the CPU lacks must not end the process."""
    code = """
import importlib
from bnstream import _kernels
from bnstream._kernels import _runtime
for level in _kernels.built_levels():
    try:
        importlib.import_module(f"bnstream._kernels.{_kernels.LEVELS[level]}")
        assert level in _runtime.cpu_levels(), level
    except ImportError as error:
        assert level not in _runtime.cpu_levels(), level
        assert str(error).startswith(f"this CPU does not support {level}; "), error
    print(level)
"""
    assert python("-c", code).stdout.split() == _kernels.built_levels()
