"""The build: what its probes find, with flags of the caller as well, and what is left of an earlier one."""

import runpy
import shutil
from pathlib import Path

import pytest

pytest.importorskip("Cython")
setuptools = pytest.importorskip("setuptools")
if shutil.which("cc") is None:
    pytest.skip("there is no C compiler", allow_module_level=True)

SETUP = Path(__file__).parents[2] / "setup.py"
LEVELS = {"_x86_64_v3", "_x86_64_v4"}


@pytest.fixture
def build(monkeypatch):
    """A function that returns the command of the build, set up in an environment."""
    def make(command="build_ext", **environment):
        for name in ("CFLAGS", "LDFLAGS", "BNSTREAM_OPENMP", "BNSTREAM_LEVELS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = {}
        monkeypatch.setattr("setuptools.setup", given.update)
        monkeypatch.setattr("Cython.Build.cythonize", lambda *arguments, **options: [])
        monkeypatch.chdir(SETUP.parent)
        runpy.run_path(str(SETUP))
        found = given["cmdclass"][command](setuptools.Distribution())
        if command == "build_ext":
            distutils = setuptools._distutils       # as build_ext makes its compiler, before it runs
            found.compiler = distutils.ccompiler.new_compiler()
            distutils.sysconfig.customize_compiler(found.compiler)
        return found
    return make


def test_probes(build):
    plain = build()
    if plain.compiler.compiler_type != "unix" or not plain.openmp_flags(False)[0]:
        pytest.skip("this compiler has no OpenMP")
    assert plain.openmp_flags(False)[2] == ""
    flags = build(BNSTREAM_OPENMP="off").openmp_flags(False)
    assert flags == ([], [], "built with BNSTREAM_OPENMP=off")
    assert build(BNSTREAM_LEVELS="baseline").levels(False) == {}


@pytest.mark.parametrize("flags", ["-fsanitize=address", "-fsanitize=undefined", "-fsanitize=thread", "--coverage"])
def test_flags_of_a_sanitizer_hide_nothing(build, flags):
    plain, found = build(), build(CFLAGS=flags)
    if not found.probe("int main(void) { return 0; }"):
        pytest.skip(f"this compiler has no {flags}")
    assert found.openmp_flags(False) == plain.openmp_flags(False)
    assert found.levels(False) == plain.levels(False)


def test_what_is_required_and_not_there_ends_the_build(build, capsys):
    nonsense = {"CFLAGS": "-no-such-flag"}
    with pytest.raises(SystemExit, match="BNSTREAM_OPENMP=require, but no OpenMP program compiles"):
        build(BNSTREAM_OPENMP="require", **nonsense).openmp_flags(False)
    reason = "no OpenMP program compiled, linked and ran where it was built"
    assert build(**nonsense).openmp_flags(False) == ([], [], reason)
    found = build(BNSTREAM_LEVELS="all", **nonsense)
    if build().levels(False).keys() == LEVELS:
        with pytest.raises(SystemExit, match=r"BNSTREAM_LEVELS=all, but no program for _x86_64_v., _x86_64_v. comp"):
            found.levels(False)
    assert "probe failed" in capsys.readouterr().err


def test_modules_of_an_earlier_build_are_gone(build, tmp_path, monkeypatch):
    command = build("build")
    command.build_lib = str(tmp_path / "lib")
    stale = tmp_path / "lib" / "bnstream" / "core" / "grouping.cpython-311-x86_64-linux-gnu.so"
    stale.parent.mkdir(parents=True)
    stale.touch()
    command.build_base = str(tmp_path / "base")
    command.ensure_finalized()
    command.run()
    assert not stale.exists()
