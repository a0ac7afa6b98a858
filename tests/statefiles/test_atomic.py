"""Files that are written completely or not at all."""

import os
import re
import stat
import sys
from pathlib import Path

import pytest
from support.processes import python
from support.states import holed

from bnstream.statefiles import load, save
from bnstream.statefiles.atomic import replacing


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file(error, path):
    path.write_bytes(b"old")
    parts = []

    def write():
        with replacing(path) as file:
            file.write(b"new")
            file.flush()
            parts.extend(set(path.parent.iterdir()) - {path})
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write()
    assert [re.fullmatch(r"\.state\.[0-9a-f]{8}\.part", part.name) is None for part in parts] == [False]
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_on_the_disk_before_its_name(path, monkeypatch):
    """The bytes are synced, then the name, then the folder. A folder that cannot be synced is no error."""
    calls = []

    def recorded(call):
        def record(*arguments):
            calls.append(call.__name__)
            if len(calls) == 3:
                raise OSError("no folders here")
            return call(*arguments)
        return record

    monkeypatch.setattr(os, "fsync", recorded(os.fsync))
    monkeypatch.setattr(os, "replace", recorded(os.replace))
    save(path, holed())
    assert calls == ["fsync", "replace", "fsync"]
    assert load(path) == holed()


def test_a_part_that_was_made_and_not_opened_is_removed(path, monkeypatch):
    """As where there is no memory for the buffer of a file that exists by then."""
    path.write_bytes(b"old")
    original = Path.open

    def without_memory(self, mode="r", *arguments, **options):
        file = original(self, mode, *arguments, **options)
        if mode == "xb":
            file.close()
            raise MemoryError
        return file

    monkeypatch.setattr(Path, "open", without_memory)
    with pytest.raises(MemoryError):
        save(path, holed())
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_no_memory_in_the_middle_of_a_member(path, monkeypatch):
    """zipfile would tell of an open handle instead."""
    def without_memory(*arguments):
        raise MemoryError("none")

    path.write_bytes(b"old")
    monkeypatch.setattr("zipfile._ZipWriteFile", without_memory)
    with pytest.raises(MemoryError, match="none"):
        save(path, holed())
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_nothing_fails_after_the_rename(path, monkeypatch):
    """Memory for the folder is taken before, so that a call that raises leaves the old file."""
    path.write_bytes(b"old")
    original = os.open

    def without_memory(name, *arguments, **options):
        if name == path.parent:
            raise MemoryError
        return original(name, *arguments, **options)

    monkeypatch.setattr(os, "open", without_memory)
    with pytest.raises(MemoryError):
        save(path, holed())
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_permissions_are_the_usual_ones(path):
    save(path, holed())
    other = path.with_name("other")
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_no_folder(tmp_path):
    path = tmp_path / "no" / "stats.npz"
    with pytest.raises(FileNotFoundError, match=re.escape(f"No such file or directory: {str(path)!r}")):
        save(path, holed())
    with pytest.raises(OSError, match=re.escape(repr(str(tmp_path)))):
        save(tmp_path, holed())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_read_only_folder(path, monkeypatch):
    path.write_bytes(b"old")
    path.parent.chmod(0o500)
    if os.access(path.parent, os.W_OK):         # root may write everywhere
        original = Path.open

        def refuse(self, mode="r", *arguments, **options):
            if mode == "xb":
                raise PermissionError(13, "Permission denied", str(self))
            return original(self, mode, *arguments, **options)

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=re.escape(f"Permission denied: {str(path)!r}")):
        save(path, holed())
    monkeypatch.undo()
    path.parent.chmod(0o700)
    assert path.read_bytes() == b"old"


FULL = """
import resource, sys
from bnstream import Moments
from bnstream.statefiles import save
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
save(sys.argv[1], Moments().update([[1.0] * 1000]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of resources")
def test_full_disk(path):
    """The error names the file. The old file stays, and the part is removed."""
    save(path, holed())
    process = python("-c", FULL, str(path), check=False)
    assert f"OSError: [Errno 27] File too large: {str(path)!r}" in process.stderr
    assert process.returncode == 1
    assert load(path) == holed()
    assert list(path.parent.iterdir()) == [path]


def test_an_error_of_another_file_keeps_its_name(path):
    with pytest.raises(FileNotFoundError, match=r"'source\.csv'"), replacing(path):
        raise FileNotFoundError(2, "No such file or directory", "source.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_stays_one(path):
    link = path.with_name("link")
    link.symlink_to(path)
    save(link, holed())
    assert link.is_symlink()
    assert load(path) == holed()
    assert sorted(path.parent.iterdir()) == [link, path]


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders")
def test_what_is_not_a_regular_file_is_written_and_not_replaced(path):
    """A pipe stands for /dev/null, which a failing test would replace."""
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    save(pipe, holed())
    path.write_bytes(os.read(reader, 1 << 20))
    os.close(reader)
    assert pipe.is_fifo()
    assert load(path) == holed()
    assert sorted(path.parent.iterdir()) == [pipe, path]
