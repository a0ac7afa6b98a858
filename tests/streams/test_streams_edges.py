"""Regressions: orders, positions, quotes, axes and types that once gave a wrong result silently."""

import sys

import numpy as np
import pytest

import bnstream
from bnstream import BatchNorm, Moments, SourceError, apply, fit
from bnstream.core.moments import rows_of

pa = pytest.importorskip("pyarrow", minversion="17")
dataset = pytest.importorskip("pyarrow.dataset")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stop_after(k):
    def progress(now):
        nonlocal k
        k -= 1
        if k == 0:
            raise KeyboardInterrupt

    return progress


def interrupted(source, k=1, **options):
    with pytest.raises(KeyboardInterrupt):
        fit(source, "out.npz", progress=stop_after(k), **options)


def test_npz_with_its_arrays_in_another_order():
    np.savez("1.npz", b=[100.0, 200.0], a=[1.0, 2.0])
    np.savez("2.npz", a=[1.0, 2.0], b=[100.0, 200.0])
    m = fit(["1.npz", "2.npz"])
    assert dict(zip(m.names, m.mean.tolist(), strict=True)) == {"a": 1.5, "b": 150.0}


@pytest.mark.parametrize("n_rows", [7, 10, 15, 60])
def test_resume_of_a_table_in_other_batches(n_rows):
    x = np.arange(60.0)
    interrupted(pa.Table.from_batches(pa.table({"a": x}).to_batches(10)), k=2)
    rest = pa.Table.from_batches(pa.table({"a": x}).to_batches(n_rows))
    m = fit(rest, "out.npz", resume=True)
    assert (m.n.tolist(), m.mean.tolist(), m.m2.tolist()) == ([60], [x.mean()], [np.square(x - x.mean()).sum()])


def test_resume_of_another_table():
    interrupted(pa.Table.from_batches(pa.table({"a": [1.0] * 60, "b": [2.0] * 60}).to_batches(10)))
    for other in ({"b": [1.0] * 60, "c": [2.0] * 60}, {"a": [1] * 60, "b": [2.0] * 60}):
        with pytest.raises(SourceError, match=r"out.npz.checkpoint was made from .*Table"):
            fit(pa.table(other), "out.npz", resume=True)


def test_resume_of_a_dataset_whose_file_changed():
    parquet.write_table(pa.table({"a": np.arange(60.0)}), "a.parquet")
    interrupted(dataset.dataset("a.parquet"), chunk_rows=10)
    parquet.write_table(pa.table({"a": np.arange(61.0)}), "a.parquet")
    with pytest.raises(SourceError, match=r"out\.npz\.checkpoint was made from"):
        fit(dataset.dataset("a.parquet"), "out.npz", chunk_rows=10, resume=True)


@pytest.mark.parametrize("n_bytes", [50, 100, 1000, 10**6])
def test_line_breaks_in_quotes(monkeypatch, n_bytes, folder):
    monkeypatch.setattr("bnstream.streams.sources.text.csv.BLOCK_BYTES", n_bytes)
    monkeypatch.setattr("bnstream.streams.sources.text.csv.LOOK_BYTES", n_bytes)
    rows = "".join(f'{i},"{i},6\n{i},""7""\n{i}"\n' for i in range(100))
    (folder / "x.csv").write_text(f"a,text\n{rows}")
    m = fit("x.csv", columns=["a"])
    assert (m.n.tolist(), m.mean.tolist()) == ([100], [49.5])


def test_a_tsv_is_separated_by_tabs(folder):
    (folder / "x.tsv").write_text("x, m\ty, m\n1\t2\n")
    assert fit("x.tsv").names == ("x, m", "y, m")


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_apply_knows_the_axis_of_the_state(axis):
    x = np.random.default_rng(0).normal(size=(6, 4, 4, 4))
    m = fit(x, channel_axis=axis)
    apply(m, x, "y.npy")
    assert np.load("y.npy").tolist() == bnstream.normalize(x, m.mean, m.var(), channel_axis=axis).tolist()


def test_apply_knows_the_axis_of_the_layer():
    x = np.random.default_rng(0).normal(size=(6, 4, 4, 4))
    bn = BatchNorm(4, dtype="f8")
    bn(x)
    apply(bn, x, "y.npy")
    assert np.load("y.npy").tolist() == bn.eval()(x).tolist()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_in_fortran_order(save, monkeypatch):
    x = np.random.default_rng(0).normal(size=(500, 3))
    save("x.npz", np.asfortranarray(x))
    assert set(fit("x.npz", chunk_rows=10).n.tolist()) == {500}
    monkeypatch.setattr("bnstream.streams.sources.arrays.array.MOST_SCATTERED", 1000)
    with pytest.raises(SourceError, match=r"save it in C order with rows first, or as a \.npy file"):
        fit("x.npz")


def test_types_that_differ_from_file_to_file():
    parquet.write_table(pa.table({"a": [1, 2]}), "1.parquet")
    parquet.write_table(pa.table({"a": [3.5, 4.5]}), "2.parquet")
    parquet.write_table(pa.table({"a": pa.nulls(2)}), "3.parquet")
    m = fit("?.parquet", nan_policy="omit")
    apply(m, "?.parquet", "y.parquet")
    y = parquet.read_table("y.parquet")["a"]
    assert y.type == pa.float64()
    assert y.null_count == 2
    assert fit("y.parquet", nan_policy="omit").mean == pytest.approx([0], abs=1e-15)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_booleans_of_csv_and_dictionaries(folder, suffix):
    (folder / "x.csv").write_text("a\ntrue\nfalse\n")
    m = fit("x.csv")
    assert m.mean.tolist() == [0.5]
    assert apply(m, "x.csv", f"y{suffix}") == 2
    words = [pa.array(words).dictionary_encode() for words in (["u", "v"], ["v", "w"])]
    batches = [pa.record_batch({"a": [0.0, 1.0], "word": one}) for one in words]
    assert apply(m, pa.Table.from_batches(batches), f"z{suffix}") == 4


def test_a_column_that_cannot_be_written():
    interval = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    table = pa.table({"a": [1.0], "interval": interval})
    m = Moments(names=["a"]).update([[1.0]])
    with pytest.raises(SourceError, match="the Table, rows 0 to 1: "):
        apply(m, table, "y.parquet")


def test_out_is_a_source():
    np.save("x.npy", np.ones((3, 2)))
    m = fit("x.npy")
    for call in (lambda: fit("x.npy", "./x.npy"), lambda: apply(m, "x.npy", "x.npy")):
        with pytest.raises(ValueError, match=r"x\.npy is one of the sources and would be replaced"):
            call()
    assert np.load("x.npy").shape == (3, 2)


@pytest.mark.parametrize(("source", "message"), [
    ({"a": np.ones(3)}, "got a mapping; make a table of it"),
    ({"train": pa.table({"a": [1.0]})}, "got a dict of tables, with the keys 'train'; give one of the tables"),
    (None, "expected a path, an array, a table or an iterable of these, got NoneType"),
    (3j, "complex"),
    (np.ma.masked_less(np.arange(4), 2), r"got a masked array; leave .* out with x.astype\(float\).filled\(np.nan\)"),
], ids=["dict", "dict of tables", "None", "complex", "masked"])
def test_what_is_not_a_source(source, message):
    with pytest.raises((TypeError, SourceError), match=message):
        fit(source)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError])
def test_errors_of_a_generator_are_not_changed(error):
    def broken():
        yield np.ones((3, 2))
        raise error("broken")

    with pytest.raises(error, match="broken") as caught:
        fit(broken())
    assert caught.type is error


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_series(package):
    package = pytest.importorskip(package)
    assert fit(package.Series([1.0, 2.0, 6.0])).mean.tolist() == [3.0]


def test_frame_with_numbers_for_names():
    pandas = pytest.importorskip("pandas")
    assert fit(pandas.DataFrame(np.arange(6.0).reshape(3, 2)), columns=[1]).mean.tolist() == [3.0]


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"chunk_rows": 2.5}, TypeError, "chunk_rows must be an integer, got 2.5"),
    ({"chunk_rows": 0}, ValueError, "chunk_rows must be at least 1, got 0"),
    ({"n_threads": 0}, ValueError, "the number of threads must be from 1 to 65536, got 0"),
    ({"channel_axis": 1.0}, TypeError, "channel_axis must be an integer, got 1.0"),
    ({"checkpoint_every": -1}, ValueError, "checkpoint_every must be at least 0 seconds, got -1"),
    ({"checkpoint_every": np.nan}, ValueError, "checkpoint_every must be at least 0 seconds, got nan"),
])
def test_arguments(options, error, message):
    with pytest.raises(error, match=message):
        fit(np.ones((3, 2)), **options)


def test_n_threads_agnosticism():
    np.save("x.npy", np.random.default_rng(0).normal(1e6, 1, (300_000, 8)))
    states = {rows_of(fit("x.npy", n_threads=n)).tobytes() for n in (1, 2, 5, None)}
    assert len(states) == 1


def test_what_is_not_installed(folder, monkeypatch):
    pytest.importorskip("PIL.Image").new("L", (2, 2)).save("x.png")
    m = fit("x.png")
    for name in ("pyarrow", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("text.csv", "arrays.images"):
        monkeypatch.delitem(sys.modules, f"bnstream.streams.sources.{name}", raising=False)
    (folder / "x.csv").write_text("a\n1\n")
    for call, needs in ((lambda: fit("x.csv"), "reading tables needs pyarrow"),
                        (lambda: fit("x.png"), "reading images needs Pillow"),
                        (lambda: apply(m, np.ones((2, 1)), "y.parquet"), "writing tables needs pyarrow")):
        with pytest.raises(ModuleNotFoundError, match=rf"{needs}, which is not .* pip install \"bnstream\[streams\]\""):
            call()
    assert not (folder / "y.parquet").exists()
