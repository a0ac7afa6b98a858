"""Compressed text files, under any name: their first bytes tell how they are compressed."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.passes import Stop, stop_after

from bnstream import SourceError, fit, load

pa = pytest.importorskip("pyarrow", minversion="17")
pd = pytest.importorskip("pandas")

from support.formats import zstd  # noqa: E402

ROWS = 300
TEXT = ("a,t,b\n" + "".join(f'{i},"x, {i}\ny",{i / 8}\n' for i in range(ROWS))).encode()


def zipped(raw, *more):
    """What macOS makes: beside the file a folder with its attributes."""
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/", "")
        archive.writestr("data/t.csv", raw)
        archive.writestr("__MACOSX/data/._t.csv", b"\0\0")
        archive.writestr("data/.DS_Store", b"\0\0")
        for name in more:
            archive.writestr(name, raw)
    return file.getvalue()


PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd, "zip": zipped}
# Two streams after each other are one text.
TWICE = {name: PACKED[name](TEXT[:500]) + PACKED[name](TEXT[500:]) for name in ("gz", "bz2", "xz", "zst")}


@pytest.mark.parametrize("name", ["t.csv.{}", "t.tsv.{}", "t.csv", "t.csv.gz"])
@pytest.mark.parametrize("packed", [*PACKED, "plain"])
def test_packed(packed, name, folder):
    path = name.format(packed if packed != "plain" else "zip")
    raw = TEXT.replace(b",", b"\t") if ".tsv" in name else TEXT
    Path(path).write_bytes(PACKED.get(packed, bytes)(raw))
    m = fit(path, columns=["a", "b"], quote='"')
    frame = pd.read_csv(io.BytesIO(TEXT))
    assert m.n.tolist() == [ROWS, ROWS]
    assert m.mean.tolist() == [frame["a"].mean(), frame["b"].mean()]


@pytest.mark.parametrize("packed", TWICE)
def test_packed_twice(packed, folder):
    Path("t.csv").write_bytes(TWICE[packed])
    assert fit("t.csv", columns=["a"]).n == [ROWS]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("packed", PACKED)
def test_a_pass_resumes(packed, encoding, folder):
    """By reading on from the begin: the result has the same bits."""
    Path("t.csv").write_bytes(PACKED[packed](TEXT.decode().encode(encoding)))
    whole = fit("t.csv", columns=["a", "b"])
    for k in (1, 5, 11):
        with pytest.raises(Stop):
            fit("t.csv", "out.npz", columns=["a", "b"], progress=stop_after(k), resume=True)
    assert fit("t.csv", "out.npz", columns=["a", "b"], resume=True) == whole == load("out.npz")


@pytest.mark.parametrize("packed", PACKED)
def test_cut(packed, folder):
    raw = PACKED[packed](np.random.default_rng(0).bytes(5000).hex("\n").encode())
    Path("t.csv").write_bytes(raw[:len(raw) // 2])
    with pytest.raises(SourceError, match=r"^t\.csv"):
        fit("t.csv", header=False)


def test_damaged_xz(folder):
    raw = bytearray(lzma.compress(np.random.default_rng(0).bytes(5000).hex("\n").encode()))
    raw[len(raw) // 2] ^= 1
    Path("t.csv").write_bytes(raw)
    with pytest.raises(SourceError, match=r"^t\.csv: Corrupt input data"):
        fit("t.csv", header=False)


@pytest.mark.parametrize(("members", "message"), [
    (("u.csv",), "t.csv holds 2 files: data/t.csv, u.csv; expected one: unpack it, and give the folder"),
    ([f"{i}.csv" for i in range(9)], "t.csv holds 10 files: data/t.csv, 0.csv, 1.csv, 2.csv, 3.csv, ...; expected one"),
])
def test_several_files_in_a_zip(members, message, folder):
    Path("t.csv").write_bytes(zipped(TEXT, *members))
    with pytest.raises(SourceError, match=f"^{re.escape(message)}"):
        fit("t.csv")


def test_an_empty_zip(folder):
    with zipfile.ZipFile("t.csv.zip", "w"):
        pass
    with pytest.raises(SourceError, match=r"^t\.csv\.zip holds 0 files; expected one"):
        fit("t.csv.zip")


@pytest.mark.parametrize("first", ["BZh9", "PK", "(z"])
def test_text_that_begins_much_like_a_compressed_file(first, folder):
    Path("t.csv").write_text(f"{first},b\n1,2\n")
    assert fit("t.csv").names == (first, "b")
