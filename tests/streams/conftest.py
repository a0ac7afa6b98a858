"""A folder for the tests of streams."""

import pytest

from bnstream.streams.sources import arrays, tables


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder, and pieces so small that a short file has many."""
    monkeypatch.chdir(tmp_path)
    for module, name in ((arrays, "PIECE_BYTES"), (arrays, "CHUNK_BYTES"), (tables, "SPAN_ROWS")):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(tables, "BLOCK_BYTES", 300)
    monkeypatch.setattr(tables, "LOOK_BYTES", 300)
    return tmp_path
