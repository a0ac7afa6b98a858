"""The sweep over layouts and sizes, and its tables."""

import math

import numpy as np
import pytest


def found(compare, ratios, operation="training", layout="one channel", size=2**10, level="x86-64-v3", n_threads=1):
    return compare.sweep.Found(operation, layout, size, level, n_threads, 2e-6, ratios)


def test_a_cell_has_the_peer_that_comes_closest(compare):
    cells = compare.sweep.cells([
        found(compare, {"NumPy": 12.4, "PyTorch": 30.0}),
        found(compare, {"NumPy": 14.0}, level="x86-64-v4"),
        found(compare, {"NumPy": 5.0, "PyTorch": 1.254}, size=2**20),
        found(compare, {"PyTorch": 0.996, "ONNX Runtime": 2.0}, size=2**20, n_threads=2),
        found(compare, {"ONNX Runtime": 1.0}, size=2**30),
    ])
    assert cells == {"1 KB": "12 N", "1 MB": "**1.00 P**", "1 GB": "1.00 O"}


def test_the_calls_that_a_peer_makes_faster_are_listed(compare):
    slower = [found(compare, {"NumPy": 3, "PyTorch": ratio}, size=size)
              for ratio, size in ((0.9, 2**12), (0.5, 2**20), (0.7, 2**30))]
    lines = compare.sweep.faster([*slower, found(compare, {"NumPy": 1.0})], 2).splitlines()
    assert lines == [
        "A peer is faster in 3 of 4 calls.", "The worst 2:", "",
        "| call | array | level | threads | us | fastest peer | takes |", "|---|---|---|---|---|---|---|",
        "| training | one channel, 1 MB | x86-64-v3 | 1 | 2.0 | PyTorch | 0.50x |",
        "| training | one channel, 1 GB | x86-64-v3 | 1 | 2.0 | PyTorch | 0.70x |"]
    assert compare.sweep.faster([found(compare, {"NumPy": 1.0})], 2) == "A peer is faster in 0 of 1 calls."


def test_a_peer_far_behind_is_left_out_of_greater_sizes(compare):
    names = list(compare.grid.PEERS)
    racing = {(operation, 1): names for operation in compare.grid.OPERATIONS}
    of_size = {("mean_var", 1): found(compare, {"NumPy": 12.0, "PyTorch": 13.0}),
               ("training", 1): found(compare, {"NumPy": 12.1, "PyTorch": 4.0}),
               ("inference", 1): found(compare, {"NumPy": 2.2, "PyTorch": 0.7, "ONNX Runtime": 0.8})}
    assert compare.sweep.raced(racing, of_size) == {
        ("mean_var", 1): ["NumPy", "ONNX Runtime"],
        ("training", 1): ["PyTorch", "ONNX Runtime"], ("inference", 1): ["PyTorch", "ONNX Runtime"],
        ("backward", 1): names}


def test_sizes_that_do_not_fit_the_memory_are_left_out(compare, monkeypatch, capsys):
    monkeypatch.setattr(compare.sweep, "available", lambda: 2**24)
    assert compare.sweep.fitting([2**20, 2**22, 2**10]) == [2**10, 2**20]
    assert capsys.readouterr().err == "4 MB is left out: there is too little memory\n"


def test_every_layout_fills_its_size(compare):
    for layout, (channels, order) in compare.grid.LAYOUTS.items():
        for size in compare.mean_var.SIZES:
            shape = compare.grid.shape_of(layout, size)
            if shape is None:
                assert layout == "4097 channels"
                assert size < 2 * 4097 * 4
                continue
            row = math.prod(shape[1:]) * 4
            assert size - row < math.prod(shape) * 4 <= size
            if size == 2**16:
                x, dy, out = compare.grid.arrays(shape, order)
                assert x.shape == dy.shape == out.shape == shape
                assert {a.dtype for a in (x, dy, out)} == {np.dtype("float32")}
                assert all(a.flags.f_contiguous if order == "F" else a.flags.c_contiguous for a in (x, dy, out))
                assert not np.shares_memory(x, dy)
                assert not np.shares_memory(dy, out)
                assert isinstance(channels, str) or shape[1] == channels


@pytest.mark.parametrize("layout", ["(N, 64), Fortran order", "channels last images", "4097 channels"])
def test_each_operation_is_measured_beside_a_peer(compare, layout):
    n_threads = (1, 2)
    racing = {(operation, n): ["NumPy"] for operation in compare.grid.OPERATIONS for n in n_threads}
    seconds = compare.grid.of_size(layout, 2**16, racing, 2)
    assert seconds.keys() == racing.keys()
    assert all(of_one.keys() == {"bnstream", "NumPy"} and min(of_one.values()) > 0 for of_one in seconds.values())


def test_the_sweep(tmp_path, command):
    printed = command(tmp_path, "sweep", "--rounds", "1", "--threads", "1", "--sizes", "1KB", "16KB", "--only",
                      "one channel", "--csv", "sweep.csv")
    assert "| float32, 1 thread | 1 KB | 16 KB |\n|---|---|---|\n| mean_var, one channel | " in printed
    assert printed.count(", one channel | ") >= 4
    assert "\nA peer is faster in " in printed
    header, *rows = (tmp_path / "sweep.csv").read_text(encoding="utf-8").splitlines()
    assert header == "operation,layout,bytes,level,threads,bnstream seconds,NumPy,PyTorch,ONNX Runtime"
    assert any(row.startswith("backward,one channel,16384,") for row in rows)


def test_the_published_sweep_names_its_command(compare):
    parser = compare.command.parser()
    asked = parser.parse_args(["sweep", "--rounds", "3", "--sizes", "1KB", "1MB", "--write"])
    assert compare.sweep.command(asked) == "sweep --rounds 3 --threads 1 2 --sizes 1KB 1MB --write"
    assert compare.sweep.command(parser.parse_args(["sweep"])) == "sweep --rounds 5 --threads 1 2 --write"


@pytest.mark.parametrize(("arguments", "message"), [
    (["--sizes", "2KB"], "argument --sizes: got 2KB, expected one of 1KB, 4KB, "),
    (["--write", "--only", "x"], "argument --write: not allowed with argument --only"),
])
def test_wrong_options_are_refused(compare, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["compare", "sweep", *arguments])
    with pytest.raises(SystemExit):
        compare.command.main()
    assert message in capsys.readouterr().err
