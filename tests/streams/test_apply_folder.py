"""apply with a folder as output: one file for each file, with the same name, and a pass that is continued."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal, of_dtype
from support.passes import Stop, write

import bnstream
from bnstream import SourceError, apply, fit, normalize
from bnstream.streams.folders import RECORD

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

X = normal((60, 3))


def tree(root="."):
    return sorted(path.relative_to(root).as_posix() for path in Path(root).rglob("*") if path.is_file())


@pytest.fixture
def data(folder):
    """Three files in two folders."""
    Path("data/sub").mkdir(parents=True)
    for stem, part in (("a", X[:20]), ("sub/a", X[20:30]), ("sub/b", X[30:])):
        write(".parquet", part, f"data/{stem}")
    return fit("data")


def columns_of(path):
    return np.stack([column.to_numpy() for column in parquet.read_table(path).columns], axis=1)


@pytest.mark.parametrize("out", ["out/", "out"])
@pytest.mark.parametrize("source", ["data", "data/**/*.parquet", ["data/a.parquet", "data/sub/b.parquet"]],
                         ids=str)
def test_one_output_for_each_file(source, out, data):
    if out == "out":
        Path(out).mkdir()
    seen = []
    assert apply(data, source, out, progress=seen.append) == (50 if isinstance(source, list) else 60)
    names = ["a.parquet", "b.parquet"] if isinstance(source, list) else ["a.parquet", "sub/a.parquet", "sub/b.parquet"]
    assert seen[-1].share == 1
    assert [now.share for now in seen] == sorted(now.share for now in seen)
    assert tree(out) == names
    parts = {"a.parquet": X[:20], "sub/a.parquet": X[20:30], "sub/b.parquet": X[30:], "b.parquet": X[30:]}
    for name in names:
        assert columns_of(f"{out}/{name}").tolist() == normalize(parts[name], data.mean, data.var()).tolist()


def test_two_inputs_of_one_name(data):
    with pytest.raises(SourceError, match=r"data/a\.parquet and data/sub/a\.parquet would both be written to out/a\.p"):
        apply(data, ["data/a.parquet", "data/sub/a.parquet"], "out/")
    assert not Path("out").exists()


@pytest.mark.parametrize(("suffix", "out_format", "wanted"), [
    (".npy", None, "x.npy"), (".npz", None, "x.npy"), (".csv", None, "x.csv"), (".csv.gz", None, "x.csv"),
    (".arrow", None, "x.arrow"), (".parquet", "csv", "x.csv"), (".csv", "parquet", "x.parquet"),
    (".npy", "csv", "x.csv"),
])
def test_formats(suffix, out_format, wanted, folder):
    path = write(suffix, X)
    m = fit(path)
    apply(m, path, "out/", out_format=out_format)
    assert tree("out") == [wanted]
    apply(m, path, wanted.replace("x.", "y."))
    assert Path("out", wanted).read_bytes() == Path(wanted.replace("x.", "y.")).read_bytes()


def test_images_of_any_size(folder):
    image = pytest.importorskip("PIL.Image")
    pictures = {"1": of_dtype("u1", (4, 5, 3)), "2": of_dtype("u1", (6, 2, 3))}
    Path("data").mkdir()
    for name, x in pictures.items():
        image.fromarray(x).save(f"data/{name}.png")
    m = fit("data")
    assert apply(m, "data", "out/", dtype="float16") == 2
    for name, x in pictures.items():
        y = np.load(f"out/{name}.npy")
        assert y.dtype == "f2"
        np.testing.assert_array_max_ulp(y[0], normalize(x.astype("f8"), m.mean, m.var()).astype("f2"))


def test_each_output_has_the_types_of_its_file(folder):
    parquet.write_table(pa.table({"x": np.arange(3, dtype="f4")}), "0.parquet")
    parquet.write_table(pa.table({"x": np.arange(3, dtype="f8"), "c": ["x"] * 3}), "1.parquet")
    m = fit(["0.parquet", "1.parquet"], columns=["x"])
    apply(m, ["0.parquet", "1.parquet"], "out/")
    assert [str(parquet.read_schema(f"out/{i}.parquet").field("x").type) for i in (0, 1)] == ["float", "double"]
    assert parquet.read_schema("out/1.parquet").names == ["x", "c"]


def test_a_file_without_rows(folder):
    files = [write(".parquet", X, "1"), write(".parquet", X[:0], "2")]
    assert apply(fit(files), files, "out/") == 60
    assert parquet.read_table("out/2.parquet").num_rows == 0
    for out_format in (None, "npy"):
        with pytest.raises(SourceError, match=r"2\.parquet: no rows; there is nothing to normalize"):
            apply(fit(files), "2.parquet", "z.parquet" if out_format is None else "z/", out_format=out_format)
    assert not Path("z").exists()


@pytest.mark.parametrize(("source", "message"), [
    (X, r"the array of shape \(60, 3\) is no file, and a folder gets one file for each; give the name of a file as"),
    ([X], "the list is no file"),
], ids=["array", "batches"])
def test_what_is_no_file(source, message, folder):
    with pytest.raises(SourceError, match=message):
        apply(fit(X), source, "out/")
    assert not list(folder.iterdir())


def test_overwriting(data):
    apply(data, "data", "out/")
    before = Path("out/a.parquet").read_bytes()
    with pytest.raises(FileExistsError, match=r"^out/a\.parquet exists; give another name, or replace it with"):
        apply(data, "data", "out", force=False)
    apply(data, "data", "out", clip=1, force=True)
    assert Path("out/a.parquet").read_bytes() != before
    with pytest.raises(ValueError, match=r"^data/a\.parquet is one of 3 sources, and would be normalized again"):
        apply(data, "data", "data", force=True)
    with pytest.raises(ValueError, match=r"^data/out/a\.parquet would lie in data, which is a source"):
        apply(data, "data", "data/out/")
    for _ in range(2):
        assert apply(data, "data", "data/out/", force=True) == 60
    assert tree("data/out") == ["a.parquet", "sub/a.parquet", "sub/b.parquet"]


def stop_in(name):
    def progress(now):
        if now.source == name:
            raise Stop
    return progress


@pytest.mark.parametrize("source", ["data", "data/**/*.parquet"])
def test_resume(source, data):
    apply(data, source, "whole/")
    with pytest.raises(Stop):
        apply(data, source, "out/", progress=stop_in("data/sub/b.parquet"))
    assert tree("out") == [RECORD, "a.parquet", "sub/a.parquet"]
    first = Path("out/a.parquet").stat().st_mtime_ns
    with Path("out", RECORD).open("a") as file:
        file.write('["out/sub/b.parquet", ["da')      # as a process leaves it that is killed
    seen = []
    assert apply(data, source, "out", resume=True, force=False, progress=seen.append) == 30
    assert {now.source for now in seen} == {"data/sub/b.parquet"}
    assert tree("out") == tree("whole")
    assert all(Path("out", name).read_bytes() == Path("whole", name).read_bytes() for name in tree("whole"))
    assert Path("out/a.parquet").stat().st_mtime_ns == first
    assert apply(data, source, "again/", resume=True) == 60     # without a record it begins


def test_record_begins_as_a_whole(data, monkeypatch):
    """A pass that is stopped while it begins the record of a resumed one loses nothing of it."""
    with pytest.raises(Stop):
        apply(data, "data", "out/", progress=stop_in("data/sub/b.parquet"))
    before = Path("out", RECORD).read_bytes()
    assert before.count(b"\n") == 3
    real, stopped = json.dumps, []

    def dumps(value, *arguments, **options):
        if isinstance(value, tuple) and not stopped:      # the line of an output that is complete
            stopped.append(value)
            raise KeyboardInterrupt
        return real(value, *arguments, **options)

    monkeypatch.setattr(json, "dumps", dumps)
    with pytest.raises(KeyboardInterrupt):
        apply(data, "data", "out/", resume=True)
    assert stopped
    assert Path("out", RECORD).read_bytes() == before
    assert apply(data, "data", "out/", resume=True, force=False) == 30


def test_resume_of_an_empty_record(data):
    """An empty record, of a pass that was killed at its beginning, is none."""
    Path("out").mkdir()
    Path("out", RECORD).touch()
    assert apply(data, "data", "out/", resume=True) == 60
    assert RECORD not in tree("out")


def test_resume_of_what_changed(data):
    with pytest.raises(Stop):
        apply(data, "data", "out/", progress=stop_in("data/sub/b.parquet"))
    write(".parquet", X[:5], "data/a")
    Path("out/sub/a.parquet").unlink()
    assert apply(data, "data", "out/", resume=True) == 5 + 10 + 30
    assert len(columns_of("out/a.parquet")) == 5


@pytest.mark.parametrize(("options", "difference"), [
    ({"clip": 2}, "state='[0-9a-f]*', now '[0-9a-f]*'"), ({"keep": []}, r"keep=None, now \[\]"),
    ({"dtype": "float32"}, "state="), ({"inverse": True}, "state="), ({"eps": 1}, "state="),
], ids=str)
def test_resume_with_other_arguments(options, difference, data):
    with pytest.raises(Stop):
        apply(data, "data", "out/", progress=stop_in("data/sub/a.parquet"))
    before = {name: Path("out", name).read_bytes() for name in tree("out")}
    message = (rf"\.apply\.checkpoint was made with {difference}.*; resume with the same arguments, or begin anew with "
               r"force=True \(--force\)")
    with pytest.raises(SourceError, match=message):
        apply(data, "data", "out/", resume=True, **options)
    assert {name: Path("out", name).read_bytes() for name in tree("out")} == before
    apply(data, "data", "out/", force=True, **options)
    assert RECORD not in tree("out")


def test_a_fault_keeps_what_is_complete(data):
    """And nothing else. A pass over the mended file continues."""
    m = fit("data")
    write(".parquet", X[30:], "data/sub/b")
    faulty = bytearray(Path("data/sub/b.parquet").read_bytes())
    faulty[4:60] = bytes(56)
    Path("data/sub/b.parquet").write_bytes(faulty)
    with pytest.raises(SourceError, match=r"data/sub/b\.parquet"):
        apply(m, "data", "out/")
    assert tree("out") == [RECORD, "a.parquet", "sub/a.parquet"]
    assert len(json.loads(Path("out", RECORD).read_text().splitlines()[1])) == 2
    write(".parquet", X[30:], "data/sub/b")
    assert apply(m, "data", "out/", resume=True) == 30
    for path in ("data/a.parquet", "data/sub/a.parquet"):
        Path(path).unlink()
    Path("data/sub/b.parquet").write_bytes(faulty)
    with pytest.raises(SourceError, match=r"data/sub/b\.parquet"):
        apply(m, "data", "empty/")
    assert not Path("empty").exists()


def test_a_folder_that_cannot_be_made(data):
    with pytest.raises(FileNotFoundError, match="cannot write no/such: there is no folder no"):
        apply(data, "data", "no/such/")
    Path("file").touch()
    with pytest.raises(OSError, match="file"):
        apply(data, "data", "file/")
    assert bnstream.fit("data") == data
