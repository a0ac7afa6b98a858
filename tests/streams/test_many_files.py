"""Folders of many small tables, which are opened when their turn comes, some together."""

import numpy as np
import pytest
from support.passes import Stop, stop_after

from bnstream import Moments, SourceError, apply, fit
from bnstream.streams.sources import smallfiles
from bnstream.streams.sources.tables import parquet as parquet_files
from bnstream.streams.sources.tables.parquet import ParquetFile
from bnstream.streams.sources.text.csv import CsvFile

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
X = np.random.default_rng(0).normal(size=(40, 5, 2))
CLASSES = {"parquet": ParquetFile, "csv": CsvFile}


def text_of(x, end="\n"):
    return "".join([f"a,b{end}", *(f"{a!r},{b!r}{end}" for a, b in x.tolist())])


def write(suffix, x, path):
    if suffix == "csv":
        path.write_text(text_of(x))
    else:
        parquet.write_table(pa.table({"a": x[:, 0], "b": x[:, 1]}), path)


@pytest.fixture
def data(folder, monkeypatch):
    """A folder for more files than are opened before the pass, some of which make a piece."""
    monkeypatch.setattr("bnstream.streams.sources.files.MANY", 10)
    monkeypatch.setattr(smallfiles, "TOGETHER_BYTES", 3000)
    monkeypatch.setattr(parquet_files, "PIECE_VALUES", 1000)
    (folder / "data").mkdir()
    return folder / "data"


@pytest.fixture(params=["parquet", "csv"])
def suffix(request):
    return request.param


@pytest.fixture
def many(data, suffix):
    for i, x in enumerate(X):
        write(suffix, x, data / f"{i:02}.{suffix}")
    return data


@pytest.fixture
def opened(monkeypatch, suffix):
    """The names of the files that are inspected, one by one."""
    names, inspect = [], CLASSES[suffix].inspect
    monkeypatch.setattr(CLASSES[suffix], "inspect",
                        lambda self, wanted: names.append(self.name) or inspect(self, wanted))
    return names


def test_the_same_numbers(many, suffix, opened, monkeypatch):
    """Only the first file and large ones are inspected, and threads, pieces and sizes change no bit."""
    m = fit("data", exact=True)
    assert m == fit(X.reshape(-1, 2), exact=True, columns=["a", "b"])
    assert opened == [f"data/00.{suffix}"]
    assert fit("data", n_threads=1) == fit("data", n_threads=3)
    monkeypatch.setattr(parquet_files, "PIECE_VALUES", 1)       # not many values are read together
    assert fit("data", exact=True) == m
    monkeypatch.setattr(parquet_files, "PIECE_VALUES", 1000)
    write(suffix, X[:8].reshape(-1, 2), many / f"20.{suffix}")
    monkeypatch.setattr(smallfiles, "SMALL_BYTES", (many / f"20.{suffix}").stat().st_size - 1)
    opened.clear()
    rows = np.concatenate([*X[:20], *X[:8], *X[21:]])
    assert fit("data", exact=True) == fit(rows, exact=True, columns=["a", "b"])
    assert opened == [f"data/00.{suffix}", f"data/20.{suffix}"]


def test_a_file_that_differs(many, suffix):
    one = pa.table({"a": [1.0]})
    (many / "20.csv").write_text("a\n1.0\n") if suffix == "csv" else parquet.write_table(one, many / "20.parquet")
    with pytest.raises(SourceError, match=rf"20\.{suffix} lacks 'b', unlike data/00\.{suffix}; select columns that"):
        fit("data")
    assert fit("data", columns=["a"]).n.tolist() == [len(X) * 5 - 4]
    (many / f"20.{suffix}").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=rf"20\.{suffix}"):
        fit("data", "out.npz")


def test_columns_in_another_order(many, suffix):
    x = X[20][:, ::-1]
    if suffix == "csv":
        (many / "20.csv").write_text(text_of(x).replace("a,b", "b,a"))
    else:
        parquet.write_table(pa.table({"b": x[:, 0], "a": x[:, 1]}), many / "20.parquet")
    seen = []
    m = fit("data", exact=True, progress=seen.append)
    assert m == fit(X.reshape(-1, 2), exact=True, columns=["a", "b"])
    assert seen[-1].n_rows == 200


@pytest.mark.parametrize("n_opened", [10, 100])
def test_a_column_of_text_in_one_file(many, suffix, n_opened, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.files.MANY", n_opened)
    if suffix == "csv":
        (many / "20.csv").write_text("a,b\n1.0,x\n")
    else:
        parquet.write_table(pa.table({"a": [1.0], "b": ["x"]}), many / "20.parquet")
    with pytest.raises(SourceError, match=rf"20\.{suffix} has no numbers in 'b', unlike data/00\.{suffix}; select"):
        fit("data", numeric=True)
    with pytest.raises(SourceError, match=rf"20\.{suffix}: 'b' is of type string; leave out the .* --exclude"):
        apply(Moments(names=["a", "b"]).update(X[0]), "data", "y.npy")


def test_a_column_more(many, suffix):
    if suffix == "csv":
        (many / "20.csv").write_text("a,b,c\n1.0,2.0,3.0\n")
    else:
        parquet.write_table(pa.table({"a": [1.0], "b": [2.0], "c": [3.0]}), many / "20.parquet")
    with pytest.raises(SourceError, match=rf"20\.{suffix} has 'c', unlike data/00\.{suffix}"):
        fit("data")


def test_a_value_that_is_missing(many, suffix):
    x = X[20].copy()
    x[3, 1] = np.nan
    write(suffix, x, many / f"20.{suffix}")
    with pytest.raises(SourceError, match=rf"20\.{suffix}, .*column 'b'"):
        fit("data")
    assert fit("data", nan_policy="omit").n.tolist() == [200, 199]


@pytest.mark.parametrize("text", [
    text_of(X[20], "\r\n"), text_of(X[20])[:-1], text_of(X[20], "\r"), "\ufeff" + text_of(X[20]),
    text_of(X[20]).replace(",", "\t"), text_of(X[20]).replace("a,b", '"a","b"'), text_of(X[20]) + "\n\n",
])
def test_texts_of_the_same_table(data, text):
    for i, x in enumerate(X):
        write("csv", x, data / f"{i:02}.csv")
    (data / "20.csv").write_bytes(text.encode())
    assert fit("data", exact=True) == fit(X.reshape(-1, 2), exact=True, columns=["a", "b"])


@pytest.mark.parametrize(("row", "message"), [
    ('"1,2', r"20\.csv, line 7: this quote is never closed"),
    ("x,2", r"20\.csv: .a. is of type string; .* .a. has .x. in line 7"),
    ("1,2,3", r"20\.csv, line 7: 3 fields, expected 2"),
])
def test_a_row_that_is_wrong(data, row, message):
    for i, x in enumerate(X):
        write("csv", x, data / f"{i:02}.csv")
    (data / "20.csv").write_text(text_of(X[20]) + row + "\n")
    with pytest.raises(SourceError, match=message):
        fit("data")


@pytest.mark.parametrize(("row", "message"), [('"b', r"20\.csv, line 2: this quote is never closed"),
                                              ("\0,1", r"20\.csv holds zero bytes")])
def test_text_beside_the_channels(data, row, message):
    """A quote that is not closed swallows no row of the next file."""
    for i in range(40):
        (data / f"{i:02}.csv").write_text('t,a\nb,1\nb",2\n')
    (data / "20.csv").write_text(f"t,a\n{row}")
    with pytest.raises(SourceError, match=message):
        fit("data", columns=["a"])


def test_texts_without_a_last_line_end(data):
    for i in range(40):
        (data / f"{i:02}.csv").write_text(f"a\n{i}\n1")
    assert fit("data").mean == (np.arange(40).sum() + 40) / 80


@pytest.mark.parametrize("options", [{}, {"short_rows": "pad", "nan_policy": "omit"}])
def test_a_first_file_that_ends_with_its_names(data, options):
    """The names of another file may begin with them."""
    for i in range(40):
        (data / f"{i:02}.csv").write_text("a,b\n1,2\n")
    (data / "00.csv").write_text("a,b")
    assert fit("data", **options).mean.tolist() == [1, 2]
    (data / "20.csv").write_text("a,b2\n1,2\n")
    with pytest.raises(SourceError, match=r"20\.csv lacks 'b', unlike data/00\.csv"):
        fit("data", **options)


def test_a_mark_before_a_key(data):
    for i in range(40):
        (data / f"{i:02}.csv").write_bytes(b"\xef\xbb\xbf" * (i % 2) + b"AA,1\nUA,2\n")
    groups = fit("data", header=False, names=["k", "x"], by="k")
    assert [*groups.keys()] == ["AA", "UA"]
    assert groups.n.ravel().tolist() == [40, 40]


def test_keys_of_another_kind(data):
    for i in range(40):
        (data / f"{i:02}.csv").write_text("k,x\n1,1\n2,1\n")
    (data / "20.csv").write_text("k,x\nAA,1\n")
    with pytest.raises(TypeError, match=r"^data/20\.csv: expected keys of int as before, got str; convert them$"):
        fit("data", by="k")


@pytest.mark.parametrize("every", [1, 2])
def test_rows_with_names(data, every):
    """Each file shows whether its rows have names for which the header has none, or end with a delimiter."""
    for i, x in enumerate(X):
        rows = (f"r{k}," * (i % every == 0) + f"{a!r},{b!r}" for k, (a, b) in enumerate(x.tolist()))
        (data / f"{i:02}.csv").write_text("\n".join(["a,b", *rows]))
    assert fit("data", exact=True) == fit(X.reshape(-1, 2), exact=True, columns=["a", "b"])
    (data / "20.csv").write_text(text_of(X[20], ",\n").replace("a,b,", "a,b"))
    with pytest.raises(SourceError, match=r"^data/20\.csv, line 2: 3 fields, expected 2"):
        fit("data", nan_policy="omit")


def test_lists(data):
    for i, x in enumerate(X):
        parquet.write_table(pa.table({"v": [*x]}), data / f"{i:02}.parquet")
    assert fit("data", exact=True) == fit(X.reshape(-1, 2), exact=True, columns=["v[0]", "v[1]"])
    parquet.write_table(pa.table({"v": [[1.0], [2.0]]}), data / "20.parquet")
    with pytest.raises(SourceError, match=r"20\.parquet lacks 'v\[1\]', unlike data/00\.parquet"):
        fit("data")


def test_resume(many):
    m = fit("data")
    with pytest.raises(Stop):
        fit("data", "out.npz", progress=stop_after(4), checkpoint_every=0)
    assert fit("data", "out.npz", resume=True) == m
    with pytest.raises(Stop):
        fit("data", "out.npz", progress=stop_after(4), checkpoint_every=0)
    next(iter(sorted(many.iterdir()))).touch()
    with pytest.raises(SourceError, match="resume with the same sources"):
        fit("data", "out.npz", resume=True)


def test_resume_after_a_fault(many, suffix):
    """What was read of the other small files is not lost, once the file at fault is mended."""
    m = fit("data")
    bad = many / f"30.{suffix}"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(SourceError, match=rf"30\.{suffix}"):
        fit("data", "out.npz", checkpoint_every=0)
    bad.write_bytes(good)
    seen = []
    assert fit("data", "out.npz", resume=True, progress=seen.append) == m
    assert seen[0].n_rows > 50
    assert seen[-1].n_rows == 200


def test_files_without_rows(many, suffix):
    for i in range(40):
        write(suffix, X[0][:0], many / f"{i:02}.{suffix}")
    with pytest.raises(SourceError, match=rf"^data/00\.{suffix} to data/39\.{suffix}, 40 files: no rows; there is"):
        fit("data")


def test_a_file_that_changes(many, suffix, monkeypatch):
    read = CLASSES[suffix].together

    def changed(self, files, chunk_rows):
        write(suffix, X[0], many / f"39.{suffix}")
        return read(self, files, chunk_rows)

    monkeypatch.setattr(CLASSES[suffix], "together", changed)
    with pytest.raises(SourceError, match="a file in data changed while the files were read"):
        fit("data")


def test_partitions_and_apply(many, suffix):
    assert apply(fit("data"), "data", "y.parquet") == X.shape[0] * X.shape[1]
    for i in range(40):
        (target := many / f"k={i % 3}").mkdir(exist_ok=True)
        (many / f"{i:02}.{suffix}").rename(target / f"{i:02}.{suffix}")
    assert fit("data", columns=["a", "k"]).mean[1] == np.mean([i % 3 for i in range(40)])
