"""Standard input, pipes, and file objects of Python as sources."""

import gzip
import io
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from support.command import main

import bnstream
from bnstream.streams.sources import opening
from bnstream.streams.sources.places import openfiles

pytest.importorskip("pyarrow")

from support.formats import FILES, X, local


def format_of(name):
    return name.partition(".")[2]


@contextmanager
def pipe(content):
    """The end of a pipe to read from, into which a thread writes."""
    end, other = os.pipe()

    def write():
        with suppress(BrokenPipeError), os.fdopen(other, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with os.fdopen(end, "rb") as file:
            yield file
    finally:
        thread.join()


@pytest.mark.parametrize("name", FILES)
def test_a_pipe(folder, name):
    with pipe(FILES[name]) as file:
        m = bnstream.fit(file, format=format_of(name))
    assert m == bnstream.fit(local(name, folder))


@pytest.mark.parametrize("name", FILES)
def test_a_file_object(folder, name):
    """It is read from where it stands, and in any order."""
    m = bnstream.fit(local(name, folder))
    content = io.BytesIO(b"before" + FILES[name])
    content.seek(6)
    assert bnstream.fit(content, format=format_of(name)) == m
    with (folder / name).open("rb") as file:
        assert bnstream.fit(file) == m      # its name says the format
    with gzip.open(io.BytesIO(gzip.compress(FILES[name]))) as file:
        assert bnstream.fit(file, format=format_of(name)) == m


@pytest.mark.parametrize("name", ["x.npy", "x.parquet", "x.arrow", "x.arrows"])
def test_the_first_bytes_name_the_format(folder, name):
    assert bnstream.fit(io.BytesIO(FILES[name])) == bnstream.fit(local(name, folder))
    with pipe(FILES[name]) as file:
        assert bnstream.fit(file) == bnstream.fit(name)


def test_an_image(folder):
    images = pytest.importorskip("PIL.Image")
    content = io.BytesIO()
    images.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(content, "PNG")
    with pipe(content.getvalue()) as file:
        assert bnstream.fit(file).mean.tolist() == [28.5, 29.5, 30.5]


def test_apply(folder):
    m = bnstream.fit(X)
    for name, out in (("x.npy", "y.npy"), ("x.csv", "y.csv"), ("x.parquet", "z.csv")):
        with pipe(FILES[name]) as file:
            state = m if name == "x.npy" else bnstream.fit(local(name, folder))
            assert bnstream.apply(state, file, out, format=format_of(name)) == 900
    y = (X - m.mean) / m.std()
    assert np.load("y.npy") == pytest.approx(y, abs=1e-9)
    for name in ("y.csv", "z.csv"):
        assert np.loadtxt(name, delimiter=",", skiprows=1) == pytest.approx(y, abs=1e-9)


def test_a_long_pipe_is_not_kept(folder, monkeypatch):
    """Only the first bytes stay in memory, and no copy is made on the disk."""
    monkeypatch.setattr(openfiles, "HEAD_BYTES", 1 << 16)
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", None)
    opened = []
    monkeypatch.setattr(opening, "OpenFile", lambda content: opened.append(openfiles.OpenFile(content)) or opened[-1])
    x = np.random.default_rng(0).normal(size=(20_000, 3))
    np.save("x.npy", x)
    np.savetxt("x.csv", x, delimiter=",", header="a,b,c", comments="")
    for name in ("x.npy", "x.csv"):
        with pipe((folder / name).read_bytes()) as stream:
            assert bnstream.fit(stream, format=format_of(name)).n.tolist() == [20_000] * 3
        assert not opened.pop().head


def test_a_pipe_is_read_once(monkeypatch):
    monkeypatch.setattr(openfiles, "HEAD_BYTES", 1 << 16)
    with pipe(bytes(1 << 20)) as stream:
        file = openfiles.OpenFile(stream)
        with file.open() as content:
            assert content.read() == bytes(1 << 20)
        with file.open() as content, pytest.raises(bnstream.SourceError, match=(
                r" is read once, and cannot be read again from byte 0; save it to a file$")):
            content.read()


def test_a_pipe_that_goes_on_or_ends():
    content = FILES["x.npy"]
    with pipe(content + b"0") as file, pytest.raises(bnstream.SourceError, match=(
            r"goes on after the 21,600 bytes of its shape \(900, 3\): something was appended to it$")):
        bnstream.fit(file)
    with pipe(content[:-1]) as file, pytest.raises(bnstream.SourceError, match="ends before its 21,600 bytes of shape"):
        bnstream.fit(file)


@pytest.mark.usefixtures("folder")
def test_nothing_is_resumed(folder):
    def stop(now):
        raise KeyboardInterrupt

    with pipe(FILES["x.csv"]) as file, pytest.raises(KeyboardInterrupt):
        bnstream.fit(file, "out.npz", format="csv", progress=stop)
    assert not list(folder.iterdir())
    with pytest.raises(bnstream.SourceError, match=r"^the BytesIO has no version, an ETag or a time, by which a "
                                                   r"resumed pass could .*; start again without resume=True "):
        bnstream.fit(io.BytesIO(FILES["x.csv"]), "out.npz", format="csv", resume=True)


@pytest.mark.usefixtures("folder")
def test_what_is_refused():
    with pytest.raises(bnstream.SourceError, match=r"^the BytesIO has no supported first bytes; supported are .*; "
                                                   r"name its format with format= or --format$"):
        bnstream.fit(io.BytesIO(b"a,b\n1,2\n"))
    with pytest.raises(bnstream.SourceError, match=r"^the StringIO is a file object of text; open it in mode 'rb', or "
                                                   r"give its \.buffer$"):
        bnstream.fit(io.StringIO("a,b\n1,2\n"), format="csv")
    with pytest.raises(bnstream.SourceError, match=r"^the BytesIO is empty; expected a "):
        bnstream.fit(io.BytesIO(), format="csv")


def test_no_room_for_a_copy(folder, monkeypatch):
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda size: open("/dev/full", "wb"))      # noqa: SIM115, PTH123
    if not os.path.exists("/dev/full"):     # noqa: PTH110
        pytest.skip("there is no /dev/full")
    with pipe(FILES["x.parquet"]) as file, pytest.raises(bnstream.SourceError, match=(
            r": its format is not read in order, and a copy in .* failed: No space left on device; set TMPDIR to")):
        bnstream.fit(file)


def command(*arguments, **stdin):
    return subprocess.run([sys.executable, "-m", "bnstream", *arguments], capture_output=True, check=False, timeout=120,
                          **stdin)


def test_standard_input(folder):
    pytest.importorskip("typer")
    bnstream.fit(local("x.csv", folder), "x.npz", exact=True)
    done = command("fit", "-", "--format", "csv", "-o", "y.npz", "--exact", input=FILES["x.csv"])
    assert (done.returncode, done.stderr) == (0, b"y.npz: 3 channels, n = 900\n")
    with open("x.csv", "rb") as file:       # noqa: PTH123
        done = command("fit", "-", "--format", "csv", "-o", "z.npz", "--exact", stdin=file)
    assert done.returncode == 0
    assert (folder / "x.npz").read_bytes() == (folder / "y.npz").read_bytes() == (folder / "z.npz").read_bytes()
    done = command("fit", "-", "-o", "new.npz", input=FILES["x.csv"])
    assert done.returncode == 1
    assert done.stderr.startswith(b"bnstream: standard input has no supported first bytes; supported are .npy ")
    done = command("fit", "-", "-o", "new.npz", "--format", "csv", "--resume", input=FILES["x.csv"])
    assert done.stderr.startswith(b"bnstream: standard input has no version")


def test_no_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    done = main("fit", "-", "-o", "x.npz")
    assert done.stderr == "bnstream: there is no standard input; give a path in place of -\n"
