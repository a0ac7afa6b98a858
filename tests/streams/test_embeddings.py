"""Columns of lists: one channel an element, or all elements in one channel."""

import re

import numpy as np
import pytest
from support.arrays import normal, rng
from support.command import invoke
from support.oracle import assert_within, exact_states, exact_weighted
from support.passes import Stop, stop_after

from bnstream import Moments, SourceError, apply, fit, load

pa = pytest.importorskip("pyarrow", minversion="21")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

N, WIDTH = 90, 6
X = normal((N, WIDTH)) * [1, 10, 0.1, 1, 1, 1] + [1e3, 0, 5, -3, 0, 0]
Y = normal(N, 7)
W = rng(5).integers(0, 4, N)
NAMES = tuple(f"emb[{i}]" for i in range(WIDTH))
SOURCES = ("table", "batches", ".parquet", ".arrow")


def column(kind, x=X):
    """The rows of an array as a column of lists."""
    flat = pa.array(x.ravel())
    match kind:
        case "fixed":
            return pa.FixedSizeListArray.from_arrays(flat, WIDTH)
        case "list":
            return pa.ListArray.from_arrays(np.arange(len(x) + 1, dtype="i4") * WIDTH, flat)
        case "large":
            return pa.LargeListArray.from_arrays(np.arange(len(x) + 1) * WIDTH, flat)
        case "nested":
            return pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 2), WIDTH // 2)
        case "list of fixed":
            return pa.array(x.reshape(-1, 3, 2).tolist(), pa.list_(pa.list_(pa.float64(), 2)))
        case "fixed of lists":
            return pa.array(x.reshape(-1, 3, 2).tolist(), pa.list_(pa.list_(pa.float64()), 3))
        case "tensor":
            return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x.reshape(-1, 2, 3)))
    raise ValueError(kind)


KINDS = ("fixed", "list", "large", "nested", "list of fixed", "fixed of lists", "tensor")


def stored(where, table):
    """The table itself, in slices, or the path of its file, in parts of 20 rows."""
    if where == "batches":
        return (table.slice(first, 20) for first in range(0, len(table), 20))
    if where == ".parquet":
        parquet.write_table(table, "t.parquet", row_group_size=20)
    elif where == ".arrow":
        feather.write_feather(table, "t.arrow", chunksize=20)
    return table if where == "table" else f"t{where}"


def table_of(kind, x=X):
    return pa.table({"emb": column(kind, x), "y": Y[:len(x)], "w": W[:len(x)]})


@pytest.mark.parametrize("where", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_elements_are_channels(kind, where, folder):
    table = table_of(kind)
    m = fit(stored(where, table), columns=["y", "emb"])
    assert m.names == ("y", *NAMES)
    assert_within(m.mean, m.var(), exact_states(np.column_stack([Y, X])))
    assert fit(stored(where, table), weights="w").names == (*NAMES, "y")
    weighted = fit(stored(where, table), columns=["emb"], weights="w")
    assert_within(weighted.mean, weighted.var(), [exact_weighted(x, W) for x in X.T])
    exact = fit(stored(where, table), columns=["emb"], exact=True, chunk_rows=7)
    assert exact == Moments(exact=True, names=NAMES).update(X)


@pytest.mark.parametrize("where", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_elements_are_pooled(kind, where, folder):
    m = fit(stored(where, table_of(kind)), columns=["emb", "y"], element_axis="pooled")
    assert m.names == ("emb", "y")
    assert m.n.tolist() == [N * WIDTH, N]
    assert_within(m.mean[:1], m.var()[:1], exact_states(X.reshape(-1, 1)))
    weighted = fit(stored(where, table_of(kind)), columns=["emb"], element_axis="pooled", weights="w")
    assert_within(weighted.mean, weighted.var(), [exact_weighted(X.ravel(), np.repeat(W, WIDTH))])


def with_holes(kind):
    """Lists without some elements and without rows 0, 5 and 70; their values, and which are present."""
    mask = rng(3).random(X.shape) < 0.9
    mask[[0, 5, 70]] = False
    rows = [None if i in (0, 5, 70) else [x if there else None for x, there in zip(*row, strict=True)]
            for i, row in enumerate(zip(X.tolist(), mask.tolist(), strict=True))]
    if kind in ("nested", "list of fixed", "fixed of lists"):
        rows = [row and [row[i:i + 2] for i in (0, 2, 4)] for row in rows]
        mask[7, 2:4] = False
        rows[7][1] = None if kind != "fixed of lists" else [None, None]
    if kind == "tensor":
        storage = pa.array(rows, pa.list_(pa.float64(), WIDTH))
        return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), (2, 3)), storage), mask
    return pa.array(rows, column(kind).type), mask


def require_holes_in_parquet(kind):
    """Skip a test where pyarrow does not write a missing list of a fixed size to Parquet, or read it again."""
    if kind not in ("list", "large") and int(pa.__version__.partition(".")[0]) < 26:
        pytest.skip("pyarrow 26 is the first that keeps missing lists of a fixed size in Parquet")


@pytest.mark.parametrize("where", ["table", "sliced", ".parquet", ".arrow"])
@pytest.mark.parametrize("kind", KINDS)
def test_missing(kind, where, folder):
    """Missing lists are missing elements."""
    if where == ".parquet":
        require_holes_in_parquet(kind)
    lists, mask = with_holes(kind)
    table = pa.table({"emb": lists, "w": W})
    if where == "sliced":       # offsets and validity do not begin at 0
        table = pa.concat_tables([table.slice(N - 3), table]).combine_chunks().slice(3)
    source = stored("table" if where == "sliced" else where, table)
    for options in ({}, {"exact": True}, {"weights": "w"}):
        m = fit(source, columns=["emb"], nan_policy="omit", **options)
        weights = W if options == {"weights": "w"} else np.ones(N)
        states = [exact_weighted(x[there], weights[there]) for x, there in zip(X.T, mask.T, strict=True)]
        assert_within(m.mean, m.var(), states)
        np.testing.assert_array_equal(m.n, (mask * weights[:, None]).sum(0))
        pooled = fit(source, columns=["emb"], nan_policy="omit", element_axis="pooled", **options)
        everywhere = np.broadcast_to(weights[:, None], X.shape)[mask]
        assert_within(pooled.mean, pooled.var(), [exact_weighted(X[mask], everywhere)])
    assert np.isnan(fit(source, columns=["emb"], nan_policy="propagate").mean).all()
    with pytest.raises(SourceError, match=r"column 'emb' has \d+ missing values; omit missing values with nan_policy="):
        fit(source, columns=["emb"])
    pooled = fit(source, columns=["emb"], nan_policy="propagate", element_axis="pooled")
    assert np.isnan(pooled.mean)


def test_missing_elements_of_weight_0_do_not_matter():
    table = pa.table({"emb": [[1.0, None], None, [3.0, 4.0]], "w": [0, 0, 1]})
    for options in ({}, {"element_axis": "pooled"}):
        assert fit(table, weights="w", **options).mean.tolist() == ([3.5] if options else [3, 4])
    table = pa.table({"emb": [[1.0, 2.0], None, [3.0, 4.0]], "w": [0, 1, 1]})
    with pytest.raises(SourceError, match="column 'emb' has 2 missing values"):
        fit(table, weights="w")
    with pytest.raises(SourceError, match="column 'emb' has 1 missing values"):
        fit(table, weights="w", element_axis="pooled")


def test_missing_lists_that_hold_something(folder):
    """A missing list may span values, which are not read."""
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 5, 7], pa.int32()), pa.array([1.0, 2, 99, 99, 99, 3, 6]),
                                     mask=pa.array([False, True, False]))
    table = pa.table({"emb": lists})
    assert fit(table, nan_policy="omit").mean.tolist() == [2, 4]
    assert fit(table, nan_policy="omit", element_axis="pooled").n.tolist() == [4]
    apply(fit(table, nan_policy="omit"), table, "y.arrow")
    assert feather.read_table("y.arrow")["emb"].to_pylist() == [[-1, -1], None, [1, 1]]


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4"])
def test_dtypes(dtype, folder):
    x = (X > 0 if dtype == "?" else np.abs(X)).astype(dtype)
    parquet.write_table(pa.table({"emb": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), WIDTH)}), "t.parquet")
    m = fit("t.parquet")
    assert_within(m.mean, m.var(), exact_states(x))


def test_read_in_place(monkeypatch):
    """Lists without missing values are not copied."""
    seen = []
    table = table_of("fixed").select(["emb"])
    real = Moments.update
    monkeypatch.setattr("bnstream.streams.accumulator.Moments", type("Spy", (Moments,), {
        "update": lambda self, x, **options: seen.append(x) or real(self, x, **options)}))
    fit(table.slice(4, 50))
    buffer = table["emb"].chunk(0).values.buffers()[1]
    assert [x.shape for x in seen] == [(50, WIDTH)]
    assert seen[0].__array_interface__["data"][0] == buffer.address + 4 * WIDTH * 8


RAGGED = [[1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0]]


@pytest.mark.parametrize("where", SOURCES)
def test_ragged(where, folder):
    table = pa.table({"emb": RAGGED})
    with pytest.raises(SourceError, match=r"column 'emb': the list in row 2 of these has 1 elements, expected 2 as in "
                                          r"the first; .* element_axis='pooled' \(--element-axis pooled\)"):
        fit(stored(where, table))
    m = fit(stored(where, table), element_axis="pooled")
    assert (m.names, m.n.tolist(), m.mean.tolist()) == (("emb",), [7], [4])


def test_the_length_is_that_of_the_first_list(folder):
    lists = pa.array([None] * 50 + [[1.0, 2.0]] * 5, pa.list_(pa.float64()))
    for where in ("table", ".parquet", ".arrow"):
        assert fit(stored(where, pa.table({"emb": lists})), nan_policy="omit").n.tolist() == [5, 5]


@pytest.mark.parametrize(("lists", "options", "message"), [
    (pa.nulls(3, pa.list_(pa.float64())), {}, "column 'emb' begins with no list, so its number of channels is unknown"),
    (pa.array([[], [1.0]], pa.list_(pa.float64())), {}, "column 'emb' begins with empty lists, so its number of"),
    (pa.array([["x"]]), {}, "'emb' is of type list<item: string>; there are no numeric columns"),
    (pa.array([[1.0]]), {"element_axis": "x"}, "element_axis must be 'channels' or 'pooled', got 'x'"),
])
def test_refused(lists, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(pa.table({"emb": lists}), nan_policy="omit", **options)


def test_files_of_other_lengths(folder):
    for stem, width in (("1", 2), ("2", 3)):
        parquet.write_table(pa.table({"emb": [[1.0] * width] * 3}), f"{stem}.parquet")
    with pytest.raises(SourceError, match=r"2\.parquet has 'emb\[2\]', unlike 1\.parquet"):
        fit(["1.parquet", "2.parquet"])


def test_resume(folder):
    stored(".parquet", table_of("list"))
    with pytest.raises(Stop):
        fit("t.parquet", "out", progress=stop_after(2))
    assert fit("t.parquet", "out", resume=True) == fit("t.parquet")
    with pytest.raises(Stop):
        fit("t.parquet", "pooled", element_axis="pooled", progress=stop_after(2))
    with pytest.raises(SourceError, match="was made with element_axis='pooled', now None"):
        fit("t.parquet", "pooled", resume=True)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_apply(kind, pooled, folder):
    """The output has the same kind of lists; what is missing stays so."""
    require_holes_in_parquet(kind)
    lists, mask = with_holes(kind)
    parquet.write_table(pa.table({"emb": lists, "text": ["x"] * N}), "t.parquet", row_group_size=20)
    source = pa.table({"emb": lists, "text": ["x"] * N}) if kind == "tensor" else "t.parquet"
    m = fit(source, "out", columns=["emb"], nan_policy="omit", element_axis="pooled" if pooled else None)
    assert apply("out", source, "y.arrow") == N
    y = feather.read_table("y.arrow")
    expected = (X - m.mean) / m.std()
    kept = y["emb"].type
    assert kept.equals(lists.type) or str(kept).replace("element", "item") == str(lists.type)
    assert y["emb"].is_null().to_pylist() == lists.is_null().to_pylist()
    got = [np.full(WIDTH, np.nan) if row is None else flat(row) for row in y["emb"].to_pylist()]
    np.testing.assert_allclose(got, np.where(mask, expected, np.nan), rtol=1e-9, atol=1e-12)
    if not pooled:
        apply("out", source, "y.npy")
        np.testing.assert_allclose(np.load("y.npy"), np.where(mask, expected, np.nan), rtol=1e-9, atol=1e-12)


def flat(row):
    """The elements of nested lists, NaN where they are missing."""
    row = [None, None] if row is None else row
    return np.concatenate([flat(x) if isinstance(x, list) or (x is None and isinstance(row[0], list)) else [x]
                           for x in row]).astype(float)


def test_apply_refuses(folder):
    table = pa.table({"emb": [[1.0, 2.0], [3.0, 5.0]]})
    m = fit(table)
    with pytest.raises(SourceError, match=r"the lists have other elements than the statistics; 'emb\[2\]' is in one of "
                                          "them alone") as error:
        apply(m, pa.table({"emb": [[1.0, 2.0, 3.0]]}), "y.parquet")
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="the list in row 1 of these has 1 elements, expected 2"):
        apply(m, pa.table({"emb": [[1.0, 2.0], [1.0]]}), "y.parquet")
    m.names = ("emb[1]", "emb[0]")
    apply(m, table, "y.arrow")      # by the names of the elements, not by their order
    assert feather.read_table("y.arrow")["emb"].to_pylist() == [
        [pytest.approx((1 - 3.5) / 1.5), 0], [pytest.approx((3 - 3.5) / 1.5), 3]]


def test_frames(folder):
    pandas = pytest.importorskip("pandas", "2.2")
    m = fit(pandas.DataFrame({"emb": [*X.astype("f4")], "y": Y}))
    assert m.names == (*NAMES, "y")
    assert_within(m.mean, m.var(), exact_states(np.column_stack([X.astype("f4"), Y])))
    polars = pytest.importorskip("polars", "1.24")
    for kind in (polars.Array(polars.Float64, WIDTH), polars.List(polars.Float64)):
        frame = polars.DataFrame({"emb": polars.Series(X.tolist(), dtype=kind)})
        m = fit(frame)
        assert m.names == NAMES
        assert_within(m.mean, m.var(), exact_states(X))


def test_command(folder):
    stored(".parquet", table_of("fixed"))
    assert invoke("fit", "t.parquet", "-o", "a.npz", "--columns", "emb").exit_code == 0
    assert load("a.npz") == fit("t.parquet", columns=["emb"])
    assert invoke("fit", "t.parquet", "-o", "b.npz", "--columns", "emb", "--element-axis", "pooled").exit_code == 0
    assert load("b.npz").names == ("emb",)
