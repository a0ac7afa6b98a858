"""The folder in which the tests of streams work."""

import os

import pytest

from bnstream.streams.sources.arrays import array
from bnstream.streams.sources.places import retrying
from bnstream.streams.sources.tables import parquet
from bnstream.streams.sources.text import content, csv


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder. Pieces are so small that a short file has many, and nothing waits for the disk."""
    monkeypatch.chdir(tmp_path)
    for module, name in ((array, "PIECE_BYTES"), (array, "CHUNK_BYTES"), (parquet, "SPAN_ROWS"),
                         (parquet, "PIECE_VALUES")):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(csv, "BLOCK_BYTES", 300)
    monkeypatch.setattr(csv, "LOOK_BYTES", 300)
    monkeypatch.setattr(content, "HEAD_BYTES", 300)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    return tmp_path


@pytest.fixture
def web(monkeypatch):
    """A web server on this machine; what failed is tried again at once."""
    pytest.importorskip("aiohttp")
    from support.webserver import serving

    monkeypatch.setattr(retrying, "PAUSES", (0.0,) * 3)
    with serving() as server:
        yield server
