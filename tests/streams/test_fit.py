"""fit is exact for any chunks, and gives the same bits after any interruption; errors say where they are."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.arrays import HARD, normal, of_dtype, random_cuts, rng
from support.cases import thorough
from support.oracle import assert_within, exact_states
from support.passes import NAMES, N, Stop, stop_after, write

import bnstream
from bnstream import Moments, SourceError, fit, load
from bnstream.statefiles import read

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

SUFFIXES = [".npy", ".npz", ".parquet", ".arrow", ".csv", ".csv.gz"]


def bits(m):
    return np.concatenate([np.atleast_1d(m.n), m.mean, m.m2, m.var(1)]).tobytes()


@pytest.mark.parametrize(
    "name", ["offset 1e15", "steps", "first row 1e30", "mean 1e6 float32", "denormals", "lognormal", "1e200 beside 1"]
)
def test_any_chunks_and_any_order_of_files(name, folder):
    x = HARD[name]
    states = exact_states(x)
    files = [write(".npy", x[i:j], f"{i}") for i, j in random_cuts(len(x), rng(1))]
    for chunk_rows in thorough((1, 3, 1000, 10**6, None), (3, 1000, None)):
        bnstream.set_num_threads(1 + bool(chunk_rows))
        m = fit(list(rng(chunk_rows or 0).permutation(files)), chunk_rows=chunk_rows)
        assert_within(m.mean, m.var(), states)
    m = fit(pa.table(dict(zip(NAMES, x.T.copy(), strict=True))), chunk_rows=11)
    assert_within(m.mean, m.var(), states)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "i8", "?"])
def test_integers_agree_in_every_bit(dtype, folder):
    x = of_dtype(dtype, (1000, 3), 5)
    if x.dtype.itemsize > 2:        # the sums must be exact in double
        x = x % 1000
    wanted = bits(Moments().update(x))
    cuts = random_cuts(len(x), rng(2))
    for suffix in (".npy", ".parquet"):
        files = [write(suffix, x[i:j], f"{i}") for i, j in cuts]
        for chunk_rows in thorough((1, 7, 500, 10**6), (1, 500) if suffix == ".npy" else (7, 10**6)):
            assert bits(fit(list(rng(chunk_rows).permutation(files)), chunk_rows=chunk_rows)) == wanted


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_n_threads_agnosticism(suffix, folder):
    files = [write(suffix, HARD["steps"][900:1200], stem) for stem in "12"]
    found = set()
    for n_threads in (1, 2, 5):
        bnstream.set_num_threads(n_threads)
        found.add(bits(fit(files)))
    assert len(found) == 1


def with_holes(suffix):
    """A file with missing values: NaN in arrays, null in tables."""
    x = np.arange(60.0).reshape(20, 3)
    x[3, 0] = x[7, 1] = x[8, 1] = np.nan
    if suffix in (".npy", ".npz"):
        return write(suffix, x)
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in zip(NAMES, x.T, strict=True)})
    return write_table(suffix, table)


def write_table(suffix, table, stem="x"):
    path = f"{stem}{suffix}"
    csv.write_csv(table, path) if suffix == ".csv" else parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".csv"])
def test_policies(suffix, folder):
    path = with_holes(suffix)
    m = fit(path, nan_policy="omit", chunk_rows=4)
    assert m.n.tolist() == [19, 18, 20]
    assert m.mean.tolist() == [(570 - 9) / 19, (590 - 22 - 25) / 18, 30.5]
    m = fit(path, nan_policy="propagate", chunk_rows=4)
    assert np.all(m.n == 20)
    assert np.isnan(m.mean).tolist() == np.isnan(m.var()).tolist() == [True, True, False]
    where = r"NaN or inf in 2 of 3 channels" if suffix[:3] == ".np" else r"column 'a' has 1 missing values"
    with pytest.raises(SourceError, match=rf"x\{suffix}, (rows|bytes) [\d,]+ to [\d,]+: {where}"):
        fit(path)
    if suffix[:3] != ".np":
        assert fit(path, columns=["c"]).n.tolist() == [20]


def test_nan_that_is_not_null(folder):
    path = write_table(".parquet", pa.table({"a": [1.0, 2.0], "b": [np.nan, np.inf]}))
    with pytest.raises(SourceError, match=r"x\.parquet, rows 0 to 2: column 'b': NaN or inf"):
        fit(path)
    with pytest.raises(ValueError, match=r"nan_policy must be .*, got 'ignore'"):
        fit(path, nan_policy="ignore")


@pytest.mark.parametrize("suffix", [*SUFFIXES, "images", "iterable", "stream"])
def test_resume_gives_the_same_bytes(suffix, folder):
    """The pass is stopped after each piece, and once more after it was resumed."""
    x = of_dtype("f4", (N, 3)) * np.array([1e6, 1, 1], "f4")
    if suffix == "images":
        image = pytest.importorskip("PIL.Image")
        for i in range(7):
            image.fromarray(of_dtype("u1", (i + 2, 3, 3), i)).save(f"{i}.png")
    elif suffix not in ("iterable", "stream"):
        files = [write(suffix, x[:120], "1"), write(suffix, x[120:], "2")]

    def source():
        if suffix == "stream":
            return pa.Table.from_arrays(list(x.T.copy()), NAMES).to_reader(17)
        if suffix == "iterable":
            return (x[i:i + 20] for i in range(0, N, 20))
        return "*.png" if suffix == "images" else files

    seen = []
    m = fit(source(), "whole", progress=seen.append, chunk_rows=7)
    assert len(seen) >= 7
    assert seen[-1].n_rows == (7 if suffix == "images" else N)
    shares = [now.share for now in seen]
    assert shares == sorted(shares) if suffix not in ("iterable", "stream") else set(shares) == {None}
    assert suffix in ("iterable", "stream", ".csv.gz", ".arrow") or shares[-1] == 1     # these do not know their size
    for k in thorough(range(1, len(seen)), sorted({1, 2, len(seen) // 2, len(seen) - 1})):
        with pytest.raises(Stop):
            fit(source(), "out", progress=stop_after(k), chunk_rows=7)
        assert not Path("out").exists()
        metadata = read("out.checkpoint").metadata
        assert (metadata["completeness"], metadata["progress"]["n_rows"]) == ("partial", seen[k - 1].n_rows)
        with pytest.raises(Stop):
            fit(source(), "out", resume=True, progress=stop_after(1, again := []), chunk_rows=7)
        assert again == [seen[k]]
        assert fit(source(), "out", resume=True, chunk_rows=7) == m
        assert Path("out").read_bytes() == Path("whole").read_bytes()
        assert not Path("out.checkpoint").exists()
        Path("out").unlink()


def test_checkpoints_while_it_lasts(folder):
    path = write(".npy", of_dtype("f8", (N, 3)))
    rows = []

    def progress(now):
        if rows:
            rows.append((now.n_rows, read("out.checkpoint").metadata["progress"]["n_rows"]))
        else:
            rows.append((now.n_rows, now.n_rows - 16))

    fit(path, "out", checkpoint_every=0, progress=progress)
    assert len(rows) == 13
    assert all(done - kept == 16 for done, kept in rows[1:-1])
    assert np.all(load("out").n == N)
    assert set(fit(path, "out", resume=True).n.tolist()) == {N}      # without a checkpoint it starts from the beginning
    there = []
    fit(path, "out", checkpoint_every=1e9, progress=lambda now: there.append(Path("out.checkpoint").exists()))
    assert not any(there)


@pytest.fixture
def stopped(folder):
    """The files of a pass that left a checkpoint."""
    files = [write(".parquet", of_dtype("f8", (60, 3)), stem) for stem in ("1", "2")]
    with pytest.raises(Stop):
        fit(files, "out", progress=stop_after(2))
    return files


REFUSED = {
    "columns": ({"columns": ["a"]}, r"was made with columns=None, now \['a'\]"),
    "chunk_rows": ({"chunk_rows": 9}, "was made with chunk_rows=None, now 9"),
    "nan_policy": ({"nan_policy": "omit"}, "was made with nan_policy='raise', now 'omit'"),
    "exact": ({"exact": True}, "was made with exact=False, now True"),
    "no resume": ({"resume": False}, r"there is a checkpoint, out\.checkpoint; resume from it with resume=True"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_arguments_than_the_checkpoint(name, stopped):
    options, message = REFUSED[name]
    before = Path("out.checkpoint").read_bytes()
    with pytest.raises(SourceError, match=message):
        fit(stopped, "out", **{"resume": True, **options})
    assert Path("out.checkpoint").read_bytes() == before
    assert set(fit(stopped, "out", resume=True).n.tolist()) == {120}


def test_another_channel_axis_than_that_of_the_checkpoint(folder):
    files = [write(".npy", of_dtype("f8", (60, 3)), stem) for stem in ("1", "2")]
    with pytest.raises(Stop):
        fit(files, "out", progress=stop_after(1))
    with pytest.raises(SourceError, match="was made with channel_axis=None, now 0"):
        fit(files, "out", resume=True, channel_axis=0)
    assert set(fit(files, "out", resume=True).n.tolist()) == {120}


def test_the_default_channel_axis_is_the_last(folder):
    """A checkpoint of a pass with the default resumes with the default."""
    x = normal((20, 3, 4))
    files = ["1.npy", "2.npy"]
    for path, part in zip(files, np.split(x, 2), strict=True):
        np.save(path, part)
    with pytest.raises(Stop):
        fit(files, "out", progress=stop_after(2))
    assert read("out.checkpoint").metadata["progress"]["arguments"]["channel_axis"] is None
    m = fit(files, "out", resume=True)
    assert m.shape == (4,)
    assert m == fit(files, channel_axis=-1) == fit(files, channel_axis=2)


@pytest.mark.parametrize("change", ["order", "fewer", "touched", "rewritten"])
def test_other_files_than_the_checkpoint(change, stopped):
    before = Path("out.checkpoint").read_bytes()
    files = {"order": stopped[::-1], "fewer": stopped[:1]}.get(change, stopped)
    if change == "touched":
        os.utime("1.parquet", ns=(1, 1))
    elif change == "rewritten":
        write(".parquet", of_dtype("f8", (61, 3)), "2")
    difference = "2 sources, now 1" if change == "fewer" else r"\['[12]\.parquet', .* \(path, size, time\), now \["
    with pytest.raises(SourceError, match=rf"out\.checkpoint was made from {difference}"):
        fit(files, "out", resume=True)
    assert Path("out.checkpoint").read_bytes() == before


def test_what_is_not_a_checkpoint(stopped):
    bnstream.save("out.checkpoint", Moments().update(np.ones((3, 3))))
    with pytest.raises(SourceError, match=r"out\.checkpoint is not a checkpoint of an unfinished fit; delete it"):
        fit(stopped, "out", resume=True)
    Path("out.checkpoint").write_bytes(b"PK")
    with pytest.raises(bnstream.StateError, match=r"out\.checkpoint is damaged or truncated"):
        fit(stopped, "out", resume=True)
    with pytest.raises(ValueError, match="out is missing; give it"):
        fit(stopped, resume=True)
