"""Every benchmark of asv_bench/benchmarks runs once where NumPy alone is installed, as in the environments of asv."""

from pathlib import Path

import pytest
from support.processes import HERE, python

FOLDER = HERE.parent / "asv_bench"
NAMES = [path.stem for path in sorted((FOLDER / "benchmarks").glob("[!_]*.py"))]
NEED_MORE = {"dask_streams", "rl", "sklearn_scaler"}        # All that they measure needs another package.
PARTS = {"base", "data", "files", "floor", "layers", "levels", "reductions", "timing"}        # without a benchmark


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks_run_or_are_skipped_with_numpy_alone(name):
    done = python(Path("support", "benchmarks.py"), FOLDER, name)
    run, _, skipped, _ = done.stdout.split()
    assert (int(run) > 0) == (name not in NEED_MORE | PARTS)
    assert (int(skipped) > 0) or name not in NEED_MORE
    assert name not in PARTS or (run, skipped) == ("0", "0")


def test_the_runner_hides_other_packages_and_reports_errors(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    for name in ("__init__", "base", "data", "bandwidth", "cache", "streams", "outofcore"):
        text = "array = CALLS = ROUNDS = SHAPE = None"
        (tmp_path / "benchmarks" / f"{name}.py").write_text(text, encoding="utf-8")
    code = """
class Skipped:
    params = [1, 2]
    def setup(self, i):
        try:
            import pytest
        except ModuleNotFoundError:
            raise NotImplementedError("no pytest")
    def time_it(self, i): 1 / 0

class Fails:
    params = (["a", "b"], [3])
    def time_it(self, letter, i): 1 / (letter == "a")
"""
    (tmp_path / "benchmarks" / "some.py").write_text(code, encoding="utf-8")
    done = python(Path("support", "benchmarks.py"), tmp_path, "some", check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero\nin some.Fails.time_it('b', 3)")
