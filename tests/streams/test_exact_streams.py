"""Exact statistics of streams: the same bytes for any cut, order and threads, and for any pass that was resumed."""

import itertools
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal, rng
from support.cases import thorough
from support.passes import NAMES, Stop, stop_after, write

import bnstream
from bnstream import Moments, SourceError, fit

pa = pytest.importorskip("pyarrow", minversion="17")
pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")

SUFFIXES = [".npy", ".npz", ".parquet", ".arrow", ".csv", ".csv.gz"]


def wild(n=60):
    """Values of magnitudes from 1e-200 to 1e200, whose sums any rounding would change."""
    return normal((n, 3)) * 10.0 ** rng(1).integers(-200, 200, (n, 3))


def cut(suffix, x, seed):
    """Write the rows, in another order, to files of random sizes, some without rows; return the paths in any order."""
    order, cuts = rng(seed).permutation(len(x)), np.sort(rng(seed).integers(0, len(x), 4))
    files = [write(suffix, part, f"{seed}-{i}") for i, part in enumerate(np.split(x[order], cuts))]
    return rng(seed).permutation(files).tolist()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_cut_and_order(suffix, folder):
    """The law: one state, one digest, one file for equal data; others for data that differs by one ulp."""
    x = wild()
    whole = write(suffix, x, "whole")
    exact = fit(whole, "whole.state", exact=True)
    wanted = Moments(exact=True, names=exact.names).update(x)
    assert exact == wanted
    assert exact.digest() == wanted.digest()
    plain = {fit(whole).mean.tobytes()}
    for seed, n_threads, chunk_rows in ((1, 1, None), (2, 2, 1), (3, 5, 7), (4, 2, 1000)):
        files = cut(suffix, x, seed)
        m = fit(files, "cut.state", exact=True, n_threads=n_threads, chunk_rows=chunk_rows)
        assert m == exact
        assert m.digest() == exact.digest()
        assert Path("cut.state").read_bytes() == Path("whole.state").read_bytes()
        plain.add(fit(files, chunk_rows=chunk_rows).mean.tobytes())
    assert len(plain) > 1
    x[5, 1] = np.nextafter(x[5, 1], np.inf)
    other = fit(write(suffix, x, "other"), "other.state", exact=True)
    assert other.digest() != exact.digest()
    assert Path("other.state").read_bytes() != Path("whole.state").read_bytes()


def test_formats_agree(folder):
    """A digest names the numbers, not the format of the file or the dtype."""
    x = rng().integers(0, 1000, (50, 3))
    digests = {fit(write(suffix, x.astype(dtype), "x"), exact=True, columns=NAMES).digest()
               for suffix, dtype in itertools.product((".parquet", ".arrow", ".csv"), ("i8", "u2", "f4", "f8"))}
    digests.add(Moments(exact=True, names=NAMES).update(x).digest())
    assert len(digests) == 1
    digests = {fit(source, exact=True).digest() for source in (
        x, (part for part in np.split(x, 5)), write(".npy", x.astype("f2")), write(".npz", x.astype("u8")))}
    assert digests == {Moments(exact=True).update(x).digest()}


COLUMNS = {
    "half": pa.array(normal(40).astype("f2")),
    "single": pa.array(normal(40).astype("f4")),
    "double": pa.array(wild(40)[:, 0] * 1e-60, mask=np.arange(40) % 7 == 1),
    "long": pa.array(np.arange(40) + 2**62 + 1, mask=np.arange(40) % 5 == 1),
    "unsigned": pa.array(np.arange(40, dtype="u8") + np.uint64(2**63 + 1)),
    "bool": pa.array(np.arange(40) % 3 == 0),
    "decimal": pa.array([Decimal(i) / 8 for i in range(40)]),
    "NaN": pa.array(np.where(np.arange(40) % 4 == 0, np.nan, np.arange(40) / 3)),
    "inf": pa.array(np.where(np.arange(40) == 9, np.inf, np.where(np.arange(40) == 11, -np.inf, 0.1))),
    "nothing at first": pa.array(np.arange(40) / 10, mask=np.arange(40) < 33),
}


def counted_in(column, policy):
    """The values of a column that count, as floats or ints."""
    values = [np.nan if value is None else value for value in column.to_pylist()]
    return [value for value in values if policy == "propagate" or np.isfinite(float(value))]


@pytest.mark.parametrize("policy", ["omit", "propagate"])
def test_mixed_columns_and_policies(policy, folder):
    """Each column by itself, integers beyond 2**53 among them, and missing values as the policy has them."""
    table = pa.table(COLUMNS)
    parquet.write_table(table, "whole.parquet", row_group_size=7)
    files = []
    for i, (start, stop) in enumerate(itertools.pairwise((0, 13, 20, 33, 40))):
        parquet.write_table(table.slice(start, stop - start), f"{i}.parquet")
        files.append(f"{i}.parquet")
    m = fit("whole.parquet", exact=True, nan_policy=policy)
    assert m == fit(files[::-1], exact=True, nan_policy=policy, chunk_rows=3)
    assert m == fit(table, exact=True, nan_policy=policy)
    for c, column in enumerate(COLUMNS.values()):
        values = counted_in(column, policy)
        assert m.n[c] == len(values)
        if all(np.isfinite(float(value)) for value in values):
            mean = sum(map(Fraction, values)) / len(values)
            assert m.mean[c] == float(mean)
            assert m.var()[c] == float(sum((Fraction(value) - mean)**2 for value in values) / len(values))
        else:
            assert not np.isfinite(m.mean[c])
    plain = fit(files, nan_policy=policy)
    np.testing.assert_allclose(m.mean, plain.mean, rtol=1e-14)
    np.testing.assert_allclose(m.var(), plain.var(), rtol=1e-12)


def test_what_is_not_finite_is_refused(folder):
    x = wild()
    x[7, 1] = np.nan
    for suffix, where in ((".npy", "rows 0 to 60: NaN or inf in 1 of 3"), (".parquet", "rows 0 to 17: column 'b'")):
        with pytest.raises(SourceError, match=where):
            fit(write(suffix, x), exact=True, chunk_rows=1)
    assert fit("x.npy", exact=True, nan_policy="omit").n.tolist() == [60, 59, 60]


@pytest.mark.parametrize("suffix", [*SUFFIXES, "iterable"])
def test_resume_gives_the_same_bytes(suffix, folder):
    """Also where a column had no value before the checkpoint, for tables."""
    x = wild(600)
    x[:400, 2] = np.nan

    def source():
        return (x[i:i + 100] for i in range(0, 600, 100)) if suffix == "iterable" else files

    files = [] if suffix == "iterable" else [write(suffix, x[:250], "1"), write(suffix, x[250:], "2")]
    options = {"exact": True, "nan_policy": "omit", "chunk_rows": 4}
    seen = []
    m = fit(source(), "whole", progress=seen.append, **options)
    for k in thorough(range(1, len(seen)), sorted({1, len(seen) // 2, len(seen) - 1})):
        with pytest.raises(Stop):
            fit(source(), "out", progress=stop_after(k), **options)
        with pytest.raises(Stop):
            fit(source(), "out", resume=True, progress=stop_after(1), **options)
        assert bnstream.statefiles.read("out.checkpoint").state.exact
        assert fit(source(), "out", resume=True, **options) == m
        assert Path("out").read_bytes() == Path("whole").read_bytes()
        Path("out").unlink()


def test_batches_of_wide_arrays(folder):
    """They are large enough that the integers of each batch cost little."""
    path = write(".npy", wild(300))
    for options, rows in (({"exact": True}, [128, 256, 300]), ({}, [*range(16, 300, 16), 300])):
        seen = []
        fit(path, progress=seen.append, **options)
        assert [now.n_rows for now in seen] == rows


def test_images(folder):
    image = pytest.importorskip("PIL.Image")
    images = [rng(i).integers(0, 256, (i + 2, 3, 3), dtype="u1") for i in range(5)]
    for i, values in enumerate(images):
        image.fromarray(values).save(f"{i}.png")
    m = fit([f"{i}.png" for i in (3, 0, 4, 1, 2)], exact=True, columns=["R", "B"], chunk_rows=1)
    rows = np.concatenate([values.reshape(-1, 3) for values in images])[:, [0, 2]]
    assert m == Moments(exact=True).update(rows)


def weighted(policy):
    """A table with holes and a column of weights, and the same with its rows as often as their weights say."""
    holes, weights = np.arange(60) % 7 == 3, rng(4).integers(0, 6, 60)
    weights[holes] *= policy != "raise"         # Rows of weight 0 may hold anything.
    lacks = (np.arange(60) % 9 == 5) & (policy == "omit")
    table = pa.table({"a": wild()[:, 0], "w": pa.array(weights, mask=lacks), "b": pa.array(wild()[:, 1], mask=holes),
                      "long": pa.array(2**62 + np.arange(60), mask=holes)})
    return table, table.take(np.repeat(np.arange(60), np.where(lacks, 0, weights))).drop_columns("w")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
def test_weights(suffix, policy, folder):
    """A row counts as often as its weight says, in any cut and order, and in the file as well."""
    def written(table, stem):
        if suffix == ".csv":
            pa.csv.write_csv(table, f"{stem}.csv")
        elif suffix == ".arrow":
            with pa.ipc.new_file(f"{stem}.arrow", table.schema) as file:
                file.write_table(table, 17)
        else:
            parquet.write_table(table, f"{stem}.parquet", row_group_size=17)
        return f"{stem}{suffix}"

    table, rows = weighted(policy)
    options = {"exact": True, "nan_policy": policy}
    wanted = fit(rows, "rows.state", **options)
    files = [written(table.slice(start, stop - start), str(start)) for start, stop in ((0, 11), (11, 40), (40, 60))]
    for source, chunk_rows, n_threads in ((files, None, 1), (files[::-1], 7, 3), (table, 1, 2)):
        m = fit(source, "w.state", weights="w", chunk_rows=chunk_rows, n_threads=n_threads, **options)
        assert (m.digest(), m.n.dtype) == (wanted.digest(), np.int64)
        assert Path("w.state").read_bytes() == Path("rows.state").read_bytes()
    Path("w.state").unlink()
    for _ in range(2):
        with pytest.raises(Stop):
            fit(files, "w.state", weights="w", chunk_rows=7, resume=True, progress=stop_after(2), **options)
    assert fit(files, "w.state", weights="w", chunk_rows=7, resume=True, **options) == wanted
    assert Path("w.state").read_bytes() == Path("rows.state").read_bytes()


def test_weights_of_arrays():
    x, weights = wild(), rng(4).integers(0, 6, 60)
    rows = Moments(exact=True).update(np.repeat(x, weights, axis=0))
    for dtype in ("u1", "f4", "f8"):
        elements = [{"batch": x[some], "weights": weights[some].astype(dtype)} for some in (slice(20), slice(20, 60))]
        assert fit(elements, exact=True).digest() == rows.digest()


@pytest.mark.parametrize("weights", [np.arange(60) / 4, np.full(60, 2**53 + 1), np.full(60, -1)])
def test_weights_that_are_refused(weights):
    """The message says where, and which weight."""
    x = wild()
    with pytest.raises(ValueError) as refused:
        Moments(exact=True).update(x, weights=weights)
    with pytest.raises(SourceError, match=f"^the Table, rows 0 to 60: column 'w': {re.escape(str(refused.value))}$"):
        fit(pa.table({"a": x[:, 0], "w": weights}), exact=True, weights="w")
    with pytest.raises(SourceError, match=re.escape(str(refused.value))):
        fit([{"batch": x, "weights": weights}], exact=True)


def test_more_values_than_there_is_room_for(folder):
    """They are refused where they are read, or where the pieces come together."""
    table = pa.table({"a": np.ones(1024), "w": np.full(1024, 2**52)})
    m = fit(table, "most", exact=True, weights="w", chunk_rows=100)
    assert (m.n.tolist(), bnstream.load("most")) == ([2**62], m)
    more = pa.concat_tables([table, table.slice(0, 10)]).combine_chunks()
    with pytest.raises(SourceError, match=r"^the Table, rows 0 to 1,034: expected weights that add up to at most 2"):
        fit(more, exact=True, weights="w")
    with pytest.raises(SourceError, match=r"^the Table: expected at most 2\*\*62 values in a channel, got 4,"):
        fit(more, "more", exact=True, weights="w", chunk_rows=100)
    assert not Path("more").exists()


def test_masks(folder):
    x, where = wild(), rng(2).random((60, 3)) < 0.7
    m = fit([{"batch": x[:20], "where": where[:20]}, {"batch": x[20:], "where": where[20:]}], exact=True, chunk_rows=3)
    assert m == Moments(exact=True).update(x, where=where)


def test_order_of_columns(folder):
    """It is that of the first file, unless the columns are given."""
    x = wild()
    write(".parquet", x[:30], "1")
    parquet.write_table(pa.table(dict(zip("cab", x[30:, [2, 0, 1]].T.copy(), strict=True))), "2.parquet")
    files = ["1.parquet", "2.parquet"]
    assert fit(files[::-1], exact=True).names == ("c", "a", "b")
    one, other = (fit(order, exact=True, columns=NAMES) for order in (files, files[::-1]))
    assert one == other
    assert one.digest() == other.digest() == Moments(exact=True, names=NAMES).update(x).digest()


def test_two_equal_files(folder):
    """They count twice."""
    files = [write(".parquet", wild(), stem) for stem in "12"]
    once = fit(files[0], exact=True)
    assert fit(files, exact=True) == once + once
