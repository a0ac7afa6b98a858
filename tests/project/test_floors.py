"""The floors of the benchmarks do the work whose time they stand for."""

import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EPS = 1e-5

pytestmark = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler")


@pytest.fixture
def floor(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "asv_bench")
    from benchmarks import floor

    return floor


@pytest.fixture
def levels(floor):
    from benchmarks import levels

    return levels


def numbers(n):
    rng = np.random.default_rng(n)
    return rng.standard_normal(n, dtype="float32") + np.float32(100), rng.standard_normal(n, dtype="float32")


@pytest.mark.parametrize("n", [1, 3, 64, 1001, 2**15 + 9])
def test_the_arithmetic_is_that_of_batch_normalization(floor, levels, n):
    x, dy = numbers(n)
    double, slope = x.astype("float64"), dy.astype("float64")
    mean, var, gamma, beta = double.mean(), double.var(), 2.0, 0.5
    xhat = (double - mean) / np.sqrt(var + EPS)
    y = gamma * xhat + beta
    dx = gamma / np.sqrt(var + EPS) * (slope - slope.mean() - xhat * (slope * xhat).mean())
    for level in {*levels.levels(), "baseline"}:
        for operation, state, expected in [
                ("moments", (0, 0), None), ("training", (0, 0), y), ("inference", (mean, var), y),
                ("backward", (mean, var), dx)]:
            channel, out = np.array([*state, gamma, beta]), np.zeros_like(x)
            floor.arithmetic(operation, x, dy, out, channel, level, times=2)
            np.testing.assert_allclose(channel, [mean, var, gamma, beta], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(out, 0 if expected is None else expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", ["baseline", "the highest"])      # The widths of a vector have loads of their own.
def test_every_kind_of_copy_copies_every_byte(floor, levels, monkeypatch, level):
    if level == "baseline":
        monkeypatch.setattr(levels, "levels", lambda: ["baseline"])
    memory = floor._memory.__wrapped__()
    source = np.random.default_rng(0).integers(0, 256, 100_001, "uint8")
    for kind in floor.COPIES:
        for n_threads in (1, 2):
            target = np.zeros_like(source)
            memory.bn_copy(source[3:].ctypes.data, target[5:].ctypes.data, 99_000, n_threads, kind)
            np.testing.assert_array_equal(target[5:99_005], source[3:99_003])
            assert not target[:5].any()
            assert not target[99_005:].any()


def test_a_copy_is_made_in_the_fastest_way(floor, monkeypatch):
    x, y = np.ones(1000), np.zeros(1000)
    monkeypatch.setattr(floor, "_fastest", {})
    floor.copy(x, y, 1)
    np.testing.assert_array_equal(x, y)
    (chosen, kind), = floor._fastest.items()
    assert chosen == (8000, 1)
    assert kind in floor.COPIES


def test_the_read_reads_every_byte(floor):
    x = np.random.default_rng(0).integers(-1000, 1000, 2**14)
    assert floor.read(x, 1) == floor.read(x, 2) == x.sum()
    assert floor.read(x, 1, times=3) == 3 * x.sum()


def test_a_process_has_the_level_asked_for(levels, monkeypatch):
    monkeypatch.setenv(levels.VARIABLE, "")
    for name in levels.levels():
        with levels.process(name) as process:
            assert process.submit(levels.level).result() == name
    assert levels.os.environ[levels.VARIABLE] == ""
