"""What the wheel and the source distribution hold. BNSTREAM_DIST names the folder that `python -m build` has filled."""

import json
import os
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bnstream"
LICENSES = {"LICENSE", *(f"licenses/{path.name}" for path in (ROOT / "licenses").iterdir())}
DIST = os.environ.get("BNSTREAM_DIST")

pytestmark = pytest.mark.skipif(not DIST, reason="BNSTREAM_DIST does not name a folder with a wheel")


def sources(*suffixes):
    return {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.suffix in suffixes}


def test_wheel():
    """All modules, stubs and py.typed; each extension once; no sources of them, no tests."""
    (path,) = Path(DIST).glob("bnstream-*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    assert {name.partition(".dist-info/licenses/")[2] for name in names} - {""} == LICENSES
    names = {name for name in names if ".dist-info/" not in name and not name.startswith("bnstream.libs/")}
    compiled = {name for name in names if name.endswith((".so", ".pyd"))}
    assert names - compiled == sources(".py", ".pyi", ".typed")
    levels = {"bnstream/_kernels/_x86_64_v3", "bnstream/_kernels/_x86_64_v4"}      # built where the compiler knows them
    stems = [re.sub(r"\..*", "", name) for name in compiled]
    assert len(set(stems)) == len(stems)
    assert set(stems) | levels == {name.removesuffix(".pyx") for name in sources(".pyx")} | levels


def test_source_distribution():
    """All that a build needs, and nothing that a build has made."""
    (path,) = Path(DIST).glob("bnstream-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = sources(".py", ".pyi", ".typed", ".pyx", ".pxd", ".pxi", ".h")
    assert wanted | LICENSES | {"pyproject.toml", "setup.py", "README.md"} <= names
    assert not [name for name in names if name.endswith((".c", ".so", ".pyd", ".o"))]


def test_repaired_wheel():
    """A wheel for any Linux holds the runtime of OpenMP, and a bill of materials that names it."""
    (path,) = Path(DIST).glob("bnstream-*.whl")
    if sys.platform != "linux":
        pytest.skip("auditwheel repairs the wheels of Linux")
    assert "manylinux" in path.name or "musllinux" in path.name
    with zipfile.ZipFile(path) as wheel:
        (library,) = [name for name in wheel.namelist() if name.startswith("bnstream.libs/lib")]
        (bill,) = [name for name in wheel.namelist() if name.endswith(".cdx.json")]
        components = json.loads(wheel.read(bill))["components"]
    assert re.fullmatch(r"bnstream\.libs/libgomp-\w+\.so[.\d]*", library)
    assert "libgomp" in "".join(component["name"] for component in components)
