"""Bad input, and trouble midway: the error says where it is, and existing files are unchanged."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.arrays import of_dtype
from support.cases import pairwise
from support.passes import N, write
from support.processes import python

import bnstream
from bnstream import SourceError, fit
from bnstream.statefiles import read

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")


def truncated(path, share=0.5):
    raw = Path(path).read_bytes()
    Path(path).write_bytes(raw[:int(len(raw) * share)])
    return path


def text(content, name="x.csv"):
    Path(name).write_text(content)
    return name


def zipped(path="x.csv.zip", members=("1.csv", "2.csv")):
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "a\n1\n")
    return path


def images(*makers):
    image = pytest.importorskip("PIL.Image")
    for i, mode in enumerate(makers):
        image.new(mode, (40, 30)).save(f"{i}.png")
    return "."


def cut_image():
    image = pytest.importorskip("PIL.Image")
    for i in range(2):
        image.fromarray(of_dtype("u1", (40, 30, 3), i)).save(f"{i}.png")
    truncated("1.png")
    return "."


def utf16():
    Path("x.csv").write_bytes("a,b\n".encode("utf-16-le"))        # without a byte-order mark
    return "x.csv"


def latin1():
    Path("x.csv").write_bytes("größe\n1\n".encode("latin-1"))
    return "x.csv"


def cube(path):
    np.save(path, X3[None])
    return path


X3 = of_dtype("f8", (50, 3))
BAD = {
    "empty folder": (lambda: ".", r"the folder \. holds no file with a supported suffix: \.npy"),
    "no match": (lambda: "*.npy", r"no file matches \*\.npy"),
    "no file": (lambda: "no.npy", r"there is no file no\.npy"),
    "no path": (lambda: "", "a path is empty"),
    "unknown format": (lambda: text("1", "x.txt"), r"x\.txt has no supported suffix; supported are \.npy"),
    "mixed formats": (lambda: [write(".npy", X3), write(".csv", X3)],
                      r"different formats, such as x\.\w+ and x\.\w+; process"),
    "lacks a column": (lambda: [write(".csv", X3, "1"), write(".csv", X3[:, :2], "2")],
                       r"2\.csv lacks 'c', unlike 1\.csv"),
    "another column": (lambda: [write(".csv", X3[:, :2], "1"), write(".csv", X3, "2")],
                       r"2\.csv has 'c', unlike 1\.csv"),
    "channels": (lambda: [write(".npy", X3, "1"), write(".npy", X3[:, :2], "2")],
                 r"2\.npy has 2 channels, but 1\.npy has 3; select"),
    "axes": (lambda: [write(".npy", X3, "1"), cube("2.npy")], r"2\.npy holds arrays with 3 axes, but 1\.npy"),
    "tables and arrays": (lambda: [pa.table({"a": [1.0]}), X3],
                          "item 1 of the list holds arrays with 2 axes, but item 0 of the list holds a table"),
    "text": (lambda: text("a,b\n1,x\n"), r"x\.csv: 'b' is of type string; select numeric columns .*: a"),
    "only text": (lambda: text("a\nx\n"), r"x\.csv: 'a' is of type string; there are no numeric columns"),
    "dates": (lambda: text("a\n2020-01-01\n"), r"x\.csv: 'a' is of type date32"),
    "text later": (lambda: text("a,b\n" + "1,2\n" * 200 + "3,x1\n"),
                   r"x\.csv, line 202: column 'b' is of type string, not numeric, such as 'x1'; pass na_values=\["),
    "short row": (lambda: text("a,b\n" + "1,2\n" * 200 + "3\n"),
                  r"x\.csv, line 202: 1 field, expected 2: '3'"),
    "no names": (lambda: text("1,2\n3,4\n"), r"x\.csv: its first row, '1,2', may be data or names of columns; pass h"),
    "empty csv": (lambda: text("\n"), r"x\.csv is empty; expected a header"),
    "names alone": (lambda: text("a,b\n"), r"x\.csv: no rows"),
    "UTF-16": (utf16, r"x\.csv holds zero bytes, expected text; give its encoding with encoding= \(--encoding\)"),
    "Latin-1": (latin1, r"x\.csv: its first row is not UTF-8: .*; give its encoding with encoding= \(--encoding\)"),
    "twice the same name": (lambda: text("a,a\n1,2\n"), r"x\.csv has more than one column 'a'"),
    "no rows": (lambda: write(".npy", X3[:0]), r"x\.npy: no rows; there is nothing"),
    "no rows in many": (lambda: [write(".parquet", X3[:0], s) for s in "12"],
                        r"1\.parquet to 2\.parquet, 2 files: no rows"),
    "no values": (lambda: write(".npy", X3[:, :0]), r"x\.npy has no values in its rows, got shape \(50, 0\)"),
    "all missing": (lambda: text("a,b\nNA,\nNA,\n"), r"x\.csv: every value is missing or left out in column 'a', 'b'"),
    "all NaN": (lambda: X3 * np.nan, r"every value is missing or left out in channel 0, 1, 2; give data"),
    "number": (lambda: 3.0, "is a single number"),
    "None": (lambda: None, "expected a path, an array, a table or an iterable of these, got NoneType"),
    "empty iterable": (lambda: iter([]), "the list_iterator is empty; expected at least one array, table or row"),
    "paths of a generator": (lambda: (Path(p) for p in "ab"), "item 0 of the generator is a path, 'a'; give a list"),
    "series": (lambda: pa.chunked_array([[1.0]]), "the ChunkedArray is not a table"),
    "cut .npy": (lambda: truncated(write(".npy", X3)),
                 r"x\.npy has [\d,]+ bytes of data, but its shape .* needs 1,200: it is truncated"),
    "cut header": (lambda: truncated(write(".npy", X3), 0.01), r"x\.npy is not an array of numbers .* truncated"),
    "cut .npz": (lambda: truncated(write(".npz", X3)), r"x\.npz is not a \.npz file, or is truncated"),
    "cut .parquet": (lambda: truncated(write(".parquet", X3)), r"x\.parquet.*Parquet magic bytes"),
    "cut .arrow": (lambda: truncated(write(".arrow", X3)), r"x\.arrow"),
    "cut .csv.gz": (lambda: truncated(write(".csv.gz", X3)), r"x\.csv\.gz: Compressed file ended"),
    "two in a zip": (lambda: zipped(), r"x\.csv\.zip holds 2 files: 1\.csv, 2\.csv; expected one: unpack it"),
    "modes": (lambda: images("RGB", "L"), r"1\.png has mode L, but 0\.png has RGB; convert all of"),
    "palette": (lambda: images("P"), r"0\.png has mode P; convert it to"),
    "cut image": (cut_image, r"1\.png cannot be (decoded|read)"),
    "no image": (lambda: text("x", "0.png") and ".", r"0\.png cannot be read as an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, folder):
    """The message says which file and which column. No checkpoint is lost."""
    make, message = BAD[name]
    source = make()
    for out in (None, "out"):
        with pytest.raises(TypeError if source is None else SourceError, match=f"(?s){message}"):
            fit(source if name != "paths of a generator" else make(), out, nan_policy="omit", checkpoint_every=0)
    assert not Path("out").exists()
    if Path("out.checkpoint").exists():
        assert "progress" in read("out.checkpoint").metadata


@pytest.mark.parametrize(("suffix", "change", "k"), pairwise(
    [".npy", ".npz", ".parquet", ".arrow", ".csv", ".csv.gz", "images"],
    ["vanishes", "is cut", "grows", "of another shape", "touched"], [2, "last"],
))
def test_a_file_that_changes_midway(suffix, change, k, folder):
    """The change is found after the second piece, and even if the last byte was already read ahead."""
    if suffix == "images":
        image = pytest.importorskip("PIL.Image")
        for i in range(5):
            image.fromarray(of_dtype("u1", (20, 30, 3), i)).save(f"{i}.png")
        source, path = "*.png", "4.png"
    else:
        source = path = write(suffix, of_dtype("f8", (N, 3)))

    def work():
        if change == "vanishes":
            Path(path).unlink()
        elif change == "is cut":
            truncated(path)
        elif change == "grows":
            with Path(path).open("ab") as file:
                file.write(b"1,2,3\n")
        elif change == "touched":
            os.utime(path, ns=(1, 1))
        elif suffix == "images":
            shutil.copy("3.png", path)
            os.utime(path, ns=(1, 1))
        else:
            write(suffix, of_dtype("f8", (N // 2, 2)))

    calls, seen = [], []
    fit(source, progress=calls.append)
    at = len(calls) if k == "last" else k

    def progress(now):
        seen.append(now)
        if len(seen) == at:
            work()

    with pytest.raises(SourceError, match=rf"{path if suffix != 'images' else r'4.png|a file in .'}"):
        fit(source, "out", progress=progress, checkpoint_every=0)
    assert not Path("out").exists()
    assert read("out.checkpoint").metadata["progress"]["n_rows"] > 0
    with pytest.raises(SourceError, match=rf"out\.checkpoint was made from|{path}|there is no file"):
        fit(source, "out", resume=True)


def test_pages_that_end_too_early(folder, monkeypatch):
    """pyarrow may take the end of a file that is truncated meanwhile for the end of a column."""
    path = write(".parquet", X3)
    m = fit(path)
    original = parquet.ParquetFile.iter_batches
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", lambda *args, **options: (
        batch.slice(0, 9) for batch in original(*args, **options)))
    for call in (lambda: fit(path), lambda: bnstream.apply(m, path, "y.npy")):
        with pytest.raises(SourceError, match=r"x\.parquet has \d+ rows, expected \d+: it is truncated"):
            call()


def test_checkpoint_stays_when_a_later_file_is_bad(folder):
    files = [write(".csv", X3, stem) for stem in "12"]
    with Path("2.csv").open("a") as file:
        file.write("1,2,x\n")
    with pytest.raises(SourceError, match=r"2\.csv, line \d+: column 'c' is of type string, not numeric, such as 'x'"):
        fit(files, "out", checkpoint_every=0)
    kept = read("out.checkpoint")
    assert kept.metadata["progress"]["at"][0] == 1
    assert np.all(kept.state.n > 50)


def test_no_place_for_the_result(folder, monkeypatch):
    path = write(".npy", X3)
    Path("there").mkdir()
    with pytest.raises(FileNotFoundError, match="cannot write no/out: there is no folder no"):
        fit(path, "no/out")
    with pytest.raises(IsADirectoryError, match="cannot write there: it is a folder"):
        fit(path, "there")
    monkeypatch.setattr(os, "access", lambda path, mode: False)     # root may write everywhere
    for call in (lambda: fit(path, "there/out"), lambda: bnstream.apply(fit(path), path, "there/out.npy")):
        with pytest.raises(PermissionError, match=r"cannot write there/out.*: the folder there is read-only"):
            call()
    assert not list(Path("there").iterdir())


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
import bnstream

def limit(n_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

n_calls = 0
def progress(now):
    global n_calls
    n_calls += 1
    if n_calls == 2:
        before.append(Path("out.checkpoint").read_bytes())
        limit(100)

x, before = np.ones((500, 500)), []
try:
    bnstream.fit((x for _ in range(3)), "out", chunk_rows=100, checkpoint_every=0, progress=progress)
except OSError as error:
    print(error)
limit(-1)
print(before == [Path("out.checkpoint").read_bytes()], sorted(path.name for path in Path(".").iterdir()))
"""


def test_a_full_disk(folder):
    pytest.importorskip("resource")
    done = python("-c", f"import os; os.chdir({str(folder)!r})\n{FULL}")
    assert done.stdout == "[Errno 27] File too large: 'out.checkpoint'\nTrue ['out.checkpoint']\n"
