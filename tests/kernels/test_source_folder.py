"""Importing bnstream from a source folder that has not been compiled."""

import shutil
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from support.processes import python

import bnstream


@pytest.fixture
def source_folder(tmp_path):
    """A folder that holds the package without its compiled modules."""
    compiled = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(Path(bnstream.__file__).parent, tmp_path / "bnstream", ignore=compiled)
    return tmp_path


@pytest.mark.parametrize("arguments", [("-c", "import bnstream"), ("-c", "import bnstream.dask"), ("-m", "bnstream")],
                         ids=" ".join)
def test_not_compiled(arguments, source_folder):
    """The source folder hides the compiled package that is further along the path."""
    done = python(*arguments, cwd=source_folder, check=False)
    assert done.returncode == 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    message = (f"ImportError: Python is importing bnstream from the source folder {source_folder}, which has not been "
               f"compiled for Python {version}. An installed bnstream is hidden by it. Start Python in another folder, "
               "or build in place: run `pip install -e .` in the source folder\n")
    assert done.stderr.endswith(message)
    assert done.stderr.count("Traceback") == 1


def test_compiled_module_that_does_not_load(source_folder):
    """Its own error comes through."""
    broken = source_folder / "bnstream" / "_kernels" / f"_runtime{EXTENSION_SUFFIXES[0]}"
    broken.write_bytes(b"no shared library " * 100)
    done = python("-c", "import bnstream", cwd=source_folder, check=False)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ImportError: ")
    assert "_runtime" in error
    assert "source folder" not in done.stderr
