"""What the page of the history shows of asv's results."""

import inspect
import json
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "asv_bench")
    import history.command

    return history.command


class Found:
    """The results of a commit, as asv has them."""

    def __init__(self, numbers):
        self.numbers = numbers

    def get_all_result_keys(self):
        return [name for name, _ in self.numbers]

    def get_result_value(self, name, parameters):
        return [self.numbers[name, tuple(one for (one,) in parameters)]]


def test_every_reading_is_a_benchmark(command):
    """Each names a function of asv_bench/benchmarks, and parameters that it has."""
    for reading in command.readings():
        module, name, function = reading.benchmark.split(".")
        benchmark = getattr(import_module(f"benchmarks.{module}"), name)
        assert inspect.isfunction(getattr(benchmark, function))
        assert len(reading.parameters) == len(benchmark.params)
        for one, among in zip(reading.parameters, benchmark.params, strict=True):
            assert one in among, reading


def test_the_pattern_selects_the_readings_and_nothing_else(command):
    pattern = re.compile(command.pattern())
    assert pattern.search("throughput.MeanVar.time_mean_var((32768, 256), 'float32', 'NumPy')")
    assert not pattern.search("throughput.MeanVar.time_mean_var((32768, 256), 'float32', 'bnstream, 1 thread')")
    assert not pattern.search("more.throughput.MeanVar.time_mean_var((32768, 256), 'float32', 'NumPy')")


def test_ratios(command):
    from history.areas import per

    line, x, y = per("a.B.time_c", ("x", 1), ("y", 1)), ("a.B.time_c", ("'x'", "1")), ("a.B.time_c", ("'y'", "1"))
    assert command.ratio(Found({x: 3.0, y: 7.0}), line) == 0.429
    assert command.ratio(Found({x: 3.0, y: None}), line) is None
    assert command.ratio(Found({x: float("nan"), y: 1}), line) is None
    assert command.ratio(Found({}), line) is None


def test_the_page_has_what_is_chosen(command):
    """docs/history/results.json has the commits and lines that the files list. After a change it is made again."""
    page = json.loads(command.PAGE.read_text(encoding="utf-8"))
    hashes = command.COMMITS.read_text(encoding="ascii").split()
    assert [commit["hash"] for commit in page["commits"]] == hashes
    assert len(hashes) >= 10
    assert [(area["title"], area["unit"], [*area["lines"]]) for area in page["areas"]] == [
        (area.title, area.unit, [*area.lines]) for area in command.AREAS]
    for area in page["areas"]:
        for name, values in area["lines"].items():
            assert len(values) == len(hashes)
            assert len(values[-1]) >= 3, f"{name}: the last commit was measured {len(values[-1])} times"


def test_commits_are_in_this_history(command):
    page = json.loads(command.PAGE.read_text(encoding="utf-8"))
    first = page["commits"][0]["hash"]
    if subprocess.run(["git", "cat-file", "-e", first], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("not a clone, or not a whole one")
    assert page["commits"] == command.commits()


def test_a_commit_without_results_is_named(command):
    with pytest.raises(SystemExit, match=r"no results here of .*HASHFILE:history/commits\.txt"):
        command.collected("a CPU", {})


class Every(Found):
    """Any result is the same number."""

    def __init__(self, number):
        self.number = number

    def get_all_result_keys(self):
        return ["a.B.time_c"]

    def get_result_value(self, name, parameters):
        return [self.number]


def test_runs_are_shown_together(command, monkeypatch):
    from history.areas import Area, Line, Reading

    line = Line(Reading("a.B.time_c", ("x",)))
    monkeypatch.setattr(command, "AREAS", [Area("Calls", "s", False, {"one": line})])
    monkeypatch.setattr(command, "commits", lambda: [{"hash": "a", "subject": "A"}, {"hash": "b", "subject": "B"}])
    first = command.collected("a CPU", {"a": Every(1.0), "b": Every(2.0)})
    second = command.collected("a CPU", {"a": Every(3.0), "b": Every(None)}, first)
    assert second["areas"][0]["lines"] == {"one": [[1, 3], [2]]}
    with pytest.raises(SystemExit, match="has this run already"):
        command.collected("a CPU", {"a": Every(3.0), "b": Every(None)}, {**second, "areas": [
            {**second["areas"][0], "lines": {"one": [[1, 3], []]}}]})
    other = command.collected("another CPU", {"a": Every(3.0), "b": Every(4.0)}, second)
    assert other["areas"][0]["lines"] == {"one": [[3], [4]]}
