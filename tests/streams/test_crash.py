"""A pass that is killed at any moment and resumed gives the bytes of an uninterrupted one; no output is partial."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.cases import thorough

import bnstream
from bnstream.statefiles import read
from bnstream.statefiles import write as write_state
from bnstream.streams.sources.arrays import array

pytest.importorskip("typer")
if os.name == "nt":
    pytest.skip("there is no SIGKILL", allow_module_level=True)

KILLS = thorough(20, 4)
HELD = 10       # dots after which the command waits for its standard input to end
# The command, with a dot printed after each piece, so that a test knows how far it is.
COMMAND = f"""
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)       # which is ignored in jobs of the background
from bnstream import cli
from bnstream.streams import applying
from bnstream.streams import fitting
from bnstream.streams.sources.arrays import array
array.CHUNK_BYTES = array.PIECE_BYTES = 1 << 12
map_pieces = fitting.map_pieces
def dotted(*arguments):
    for i, part in enumerate(map_pieces(*arguments), 1):
        print(end=".", flush=True)
        if i == {HELD}:
            sys.stdin.read()
        yield part
fitting.map_pieces = applying.map_pieces = dotted
cli.main()
"""
N_PIECES = 200


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A file of `N_PIECES` pieces."""
    monkeypatch.setattr(array, "CHUNK_BYTES", 1 << 12)
    monkeypatch.setattr(array, "PIECE_BYTES", 1 << 12)
    path = tmp_path / "data.npy"
    np.save(path, np.random.default_rng(0).normal(1e6, 1.0, (N_PIECES * 128, 4)))
    return path


def start(*arguments, stdin=subprocess.DEVNULL):
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def interrupted(number, *arguments):
    """What a command that gets a signal in the middle prints to its standard error."""
    process = start(*arguments, stdin=subprocess.PIPE)
    assert process.stdout.read(HELD) == b"." * HELD
    process.send_signal(number)
    _, message = process.communicate()
    assert process.returncode == 130, message
    assert b"Traceback" not in message
    return message


def kill_after(process, n_dots, delay):
    """Kill a process after a number of dots and a delay; return whether it was still running."""
    while n_dots and process.stdout.read(1):
        n_dots -= 1
    time.sleep(delay)       # waits for nothing: it varies the moment of the kill
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("place", ["file", "web"])
def test_fit_is_killed_and_resumed(request, data, tmp_path, place):
    source = data
    if place == "web":
        web = request.getfixturevalue("web")
        web.files["/data.npy"] = data.read_bytes()
        source = f"{web.url}/data.npy"
    whole, out = tmp_path / "whole.npz", tmp_path / "out.npz"
    bnstream.fit(data, whole)
    rng = np.random.default_rng(1)
    n_killed = 0
    for _ in range(KILLS):
        process = start("fit", source, "-o", out, "--checkpoint-every", "0", "--resume")
        killed = kill_after(process, int(rng.integers(0, N_PIECES // 8)), rng.exponential(0.002))
        n_killed += killed
        assert not killed or not out.exists()
        if not killed:      # it ended before the kill, so the next one starts again
            out.unlink()
    checkpoint = tmp_path / "out.npz.checkpoint"
    assert n_killed >= KILLS // 2
    assert checkpoint.exists()
    process = start("fit", source, "-o", out, "--resume")
    dots, message = process.communicate()
    assert process.returncode == 0, message
    assert 0 < len(dots) < N_PIECES
    assert not checkpoint.exists()
    assert out.read_bytes() == whole.read_bytes()


def test_apply_is_killed(data, tmp_path):
    """The output is absent or complete. What a killed process leaves is hidden and named .part."""
    stats, out = tmp_path / "stats.npz", tmp_path / "y.npy"
    bnstream.fit(data, stats)
    bnstream.apply(stats, data, tmp_path / "whole.npy")
    for n_dots in thorough((0, 1, N_PIECES // 2, N_PIECES - 1, N_PIECES), (1, N_PIECES // 2, N_PIECES)):
        killed = kill_after(start("apply", stats, data, "-o", out), n_dots, 0)
        assert out.exists() or killed
        if out.exists():
            assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
            out.unlink()
    left = {path.suffix for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert left <= {".part"}


@pytest.mark.parametrize("progress", [
    {}, {"at": [0, 128]}, {"n_rows": 128}, {"at": [0], "n_rows": 128}, {"at": 0, "n_rows": 128},
    {"at": [1, 0], "n_rows": 128}, {"at": [-1, 0], "n_rows": 128}, {"at": [0, -1], "n_rows": 128},
    {"at": [0, 128], "n_rows": -1}, {"at": [0, 0.5], "n_rows": 128}, {"at": [0, 128], "n_rows": "many"},
], ids=str)
def test_checkpoint_without_a_position_is_refused(data, tmp_path, progress):
    checkpoint = tmp_path / "out.npz.checkpoint"

    def stop(now):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnstream.fit(data, tmp_path / "out.npz", progress=stop)
    file = read(checkpoint)
    plan = {key: value for key, value in file.metadata["progress"].items() if key not in ("at", "n_rows")}
    write_state(checkpoint, file.state, progress={**plan, **progress})
    before = checkpoint.read_bytes()
    with pytest.raises(bnstream.SourceError, match=r"checkpoint records no place in the sources, got at=.*, "
                                                   "n_rows=.*; delete it to start again"):
        bnstream.fit(data, tmp_path / "out.npz", resume=True)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupt(data, tmp_path, number):
    """Ctrl-C leaves a checkpoint, and the message says how to resume."""
    out = tmp_path / "out.npz"
    assert b"--resume" in interrupted(number, "fit", data, "-o", out)
    assert not out.exists()
    assert bnstream.fit(data, out, resume=True) == bnstream.fit(data)
    assert not (tmp_path / "out.npz.checkpoint").exists()


def test_interrupt_of_apply(data, tmp_path):
    out = tmp_path / "y.npy"
    bnstream.fit(data, tmp_path / "stats.npz")
    assert b"is as it was" in interrupted(signal.SIGINT, "apply", tmp_path / "stats.npz", data, "-o", out)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part" or path == out] == []
