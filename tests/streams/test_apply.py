"""apply gives the values of normalize for any source and any format, and leaves a complete file or the old one."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal, of_dtype
from support.cases import pairwise
from support.memory import measured
from support.passes import NAMES, Stop, stop_after, write
from support.processes import python

import bnstream
from bnstream import BatchNorm, Moments, SourceError, apply, fit, normalize

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")
feather = pytest.importorskip("pyarrow.feather")

X = (normal((200, 3)) * [1, 10, 0.1] + [1e3, 0, 5]).astype("f4")
KINDS = [".npy", ".parquet", ".arrow", ".csv"]


def table_in(path):
    if path.endswith(".parquet"):
        return parquet.read_table(path)
    return csv.read_csv(path) if path.endswith(".csv") else pa.ipc.open_file(path).read_all()


def array_in(path):
    return np.load(path) if path.endswith(".npy") else np.stack([c.to_numpy() for c in table_in(path).columns], 1)


def equal(got, wanted):
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    assert got.tobytes() == wanted.tobytes()


def named(x=X, **others):
    return pa.table({**dict(zip(NAMES, np.ascontiguousarray(x.T), strict=True)), **others})


SOURCES = [".npy", ".npz", ".parquet", ".arrow", ".csv", "array", "memmap", "table", "batches"]


@pytest.mark.parametrize(("suffix", "out", "chunk_rows"), pairwise(SOURCES, KINDS, [1, 7, None]))
def test_every_source_to_every_file(suffix, out, chunk_rows, folder):
    path = write(suffix, X) if suffix[0] == "." else write(".npy", X)
    source = {"array": X, "memmap": np.load("x.npy", mmap_mode="r") if path == "x.npy" else None, "table": named(),
              "batches": [X[:50], X[50:]]}.get(suffix, path)
    m = fit(source)
    wanted = normalize(array_in(path) if suffix == ".csv" else X, m.mean, m.var())
    seen = []
    assert apply(m, source, f"y{out}", chunk_rows=chunk_rows, progress=seen.append) == 200
    assert seen[-1].n_rows == 200
    y = array_in(f"y{out}")
    assert out != ".csv" or y.dtype == np.float64
    equal(y.astype(wanted.dtype), wanted)       # CSV keeps all digits
    if out != ".npy":
        names = NAMES if m.names else ("0", "1", "2")
        assert tuple(table_in(f"y{out}").column_names) == names


@pytest.mark.parametrize("dtype", ["i8", "u8", ">i8"])
@pytest.mark.parametrize("values", [
    [[1_700_000_000_000_000_000 + 100 * i, 3 * i, 2**53 + i] for i in range(5)],
    [[2**63 - 1, 2**62, 0], [0, 2**62, 2**63 - 1], [5, 2**62, 1]],
], ids=["timestamps", "extremes"])
def test_integers_far_from_zero(values, dtype, folder):
    x = np.array(values, dtype)
    if dtype == "u8":
        x[:, 0] += np.uint64(2**63)
    m = fit(x)
    wanted = np.zeros(x.shape)
    for j, column in enumerate(x.T.tolist()):
        mean = Fraction(sum(column), len(column))
        wanted[:, j] = [float(v - mean) / (m.std()[j] or 1) for v in column]
    apply(m, x, "y.npy", chunk_rows=2)
    np.testing.assert_array_max_ulp(np.load("y.npy"), wanted.astype("f4"))
    table = named(x.astype(dtype[-2:]), gap=pa.array([None, *x[1:, 0].tolist()], pa.uint64()))
    m = fit(table, nan_policy="omit")
    apply(m, table, "y.parquet")
    y = table_in("y.parquet")
    np.testing.assert_allclose(np.stack([y[name].to_numpy() for name in NAMES], 1), wanted, rtol=1e-15, atol=1e-15)
    mean = Fraction(sum(x[1:, 0].tolist()), len(x) - 1)
    gap = [None, *(float(v - mean) / m.std()[-1] for v in x[1:, 0].tolist())]
    assert y["gap"].null_count == 1
    np.testing.assert_allclose(y["gap"].to_pylist()[1:], gap[1:], rtol=1e-15)


def test_integers_and_a_state_elsewhere(folder):
    """The mean may be anything, as that of other data is."""
    x = np.array([[-2**63, 2**63 - 1], [0, 1]])
    for mean in (-1e30, 1e19, 2.0**63, -2.0**63):
        bn = BatchNorm(2, eps=0, affine=False)
        bn.running_mean, bn.running_var = np.full(2, mean), np.full(2, mean**2)
        apply(bn, x, "y.npy", channel_axis=1)
        np.testing.assert_allclose(np.load("y.npy"), (x - mean) / np.sqrt(bn.running_var), rtol=2e-7, atol=1e-18)


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16, "f4", "f8", ">f8", "u1", "i2", "i8", "?"], ids=str)
def test_dtypes(dtype, folder):
    x = of_dtype(np.dtype(dtype).newbyteorder("="), (50, 3)).astype(dtype)
    if dtype == "i8":
        x >>= 32        # Those far from 0 have a test of their own.
    m = fit(x)
    apply(m, x, "y.npy", chunk_rows=9)
    wanted = normalize(x.astype("f4") if dtype == BFLOAT16 else x, m.mean, m.var())     # .npy knows no bfloat16
    equal(np.load("y.npy").view(wanted.dtype), wanted.astype(wanted.dtype.newbyteorder("=")))
    if dtype not in (BFLOAT16, ">f8"):
        table = named(x)
        apply(m := fit(table), table, "y.parquet")
        in_doubles = x if x.dtype.kind == "f" else x.astype("f8")       # the types of a column may differ between files
        equal(array_in("y.parquet"), normalize(in_doubles, m.mean, m.var()))


@pytest.mark.parametrize(("shape", "channel_axis"), [((7,), None), ((20, 4), 1), ((6, 3, 5), 1), ((6, 3, 5, 2), -1)])
def test_arrays(shape, channel_axis, folder):
    x = normal(shape).astype("f4")
    np.save("x.npy", x)
    m = fit("x.npy", channel_axis=channel_axis)
    apply(m, "x.npy", "y.npy", channel_axis=channel_axis, chunk_rows=2)
    x = x[:, None] if x.ndim == 1 else x
    equal(np.load("y.npy"), normalize(x, m.mean, m.var(), channel_axis=-1 if channel_axis is None else channel_axis))


@pytest.mark.parametrize(("axis", "shape"), [(None, (40, 3)), (None, (40,)), ((0, 1), (40, 3)), (0, (40, 3, 2)),
                                             (0, (40, 1, 1, 2)), ((0, 2), (6, 3, 5, 2)), (0, (40,))])
@pytest.mark.parametrize("kind", ["file", "array", "batches"])
def test_states_with_several_channel_axes_or_none(axis, shape, kind, folder):
    x = normal(shape).astype("f4")
    np.save("x.npy", x)
    m = Moments(axis).update(x)
    assert m.shape is not None
    assert len(m.shape) != 1
    options = {"item": "batch"} if kind == "batches" and x.ndim == 1 else {}
    apply(m, {"file": "x.npy", "array": x, "batches": [x[:2], x[2:]]}[kind], "y.npy", chunk_rows=3, **options)
    keep = {"axis": axis, "keepdims": True}
    wanted = normalize(x, *(v.astype("f8") for v in bnstream.mean_var(x, dtype="f8", **keep)))
    equal(np.load("y.npy"), wanted.reshape(-1, 1) if x.ndim == 1 else wanted)


def test_states_whose_channels_do_not_fit(folder):
    m = Moments(0).update(normal((5, 3, 2)))
    for x, message in ((normal((5, 2, 3)), r"expected channels of shape \(3, 2\) as in the statistics, got \(2, 3\) "
                                           r"along axes \(1, 2\) of shape \(5, 2, 3\)"),
                       (normal((5, 4)), "expected 6 channels as in the statistics, got 4 along axis 1")):
        with pytest.raises(SourceError, match=message):
            apply(m, x, "y.npy")
    with pytest.raises(SourceError, match="the channel axis cannot be the first"):
        apply(Moments(1).update(x := normal((5, 3, 2))), x, "y.npy")
    with pytest.raises(SourceError, match="expected 1 channel as in the statistics, got 4 along axis 1"):
        apply(Moments(None).update(normal((5, 4))), normal((5, 4)), "y.npy", channel_axis=1)
    assert not list(Path().iterdir())


def test_layers(folder):
    bn = BatchNorm(3, names=NAMES)
    bn(normal((90, 3)))
    bn.gamma, bn.beta = [1, 2, 3], [4, 5, 6]
    bnstream.save("bn", bn)
    for state, options, eps in ((bn, {}, bn.eps), ("bn", {"eps": 0.5}, 0.5), (BatchNorm(3, affine=False), {}, bn.eps)):
        layer = bnstream.load(state) if isinstance(state, str) else state
        wanted = normalize(X, layer.running_mean, layer.running_var, layer.gamma, layer.beta, eps=eps)
        apply(state, X, "y.npy", **options)
        equal(np.load("y.npy"), wanted)
        if layer.names:
            apply(state, named(), "y.parquet", **options)
            equal(array_in("y.parquet"), wanted)


def test_constant_channels(folder):
    x = np.array([[1.0, 7], [3, 7]])
    apply(fit(x), x, "y.npy")
    assert np.load("y.npy").tolist() == [[-1, 0], [1, 0]]
    apply(fit(x), x, "y.npy", eps=3)
    assert np.load("y.npy").tolist() == [[-0.5, 0], [0.5, 0]]


@pytest.mark.parametrize("out", [".parquet", ".arrow", ".csv"])
@pytest.mark.parametrize("suffix", ["table", ".parquet", ".arrow", ".csv"])
def test_other_columns_are_copied(suffix, out, folder):
    others = {"text": ["x,y", "", "\u00fc"] * 2, "i": [1, None, 3, 4, 5, 6]}
    source = pa.table({
        "text": others["text"], "b": [1.0, 3, None, 1, 3, None], "when": pa.array(range(6), pa.date32()),
        "i": others["i"], "a": pa.array([5, 7] * 3, pa.int32()),
    })
    if suffix != "table":
        write_as = {".parquet": parquet.write_table, ".csv": csv.write_csv, ".arrow": feather.write_feather}
        write_as[suffix](source, f"x{suffix}")
    m = fit(source, columns=["a", "b"], nan_policy="omit")
    assert apply(m, source if suffix == "table" else f"x{suffix}", f"y{out}", chunk_rows=4) == 6
    y = table_in(f"y{out}")
    assert y.column_names == ["text", "b", "when", "i", "a"]
    assert y["a"].to_pylist() == [-1, 1] * 3
    assert y["b"].to_pylist() == [-1, 1, None] * 2
    assert y["text"].to_pylist() == others["text"]
    assert [str(value) for value in y["when"].to_pylist()] == [f"1970-01-0{i}" for i in range(1, 7)]
    assert [None if v in (None, "") else int(v) for v in y["i"].to_pylist()] == others["i"]
    if out != ".csv" and suffix != ".csv":
        assert y.schema.field("a").type == pa.float64()
        assert y.schema.field("i").type == pa.int64()


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint64", "bool_", "null"])
def test_missing_values_stay_missing(kind, folder):
    values = [None] * 4 if kind == "null" else [False, None, True, None]
    m = Moments(names=["x"]).update([[0.0], [1.0]])
    column = pa.nulls(4) if kind == "null" else pa.array(values).cast(pa.int8()).cast(getattr(pa, kind)())
    table = pa.table({"x": column})
    apply(m, table, "y.parquet")
    assert parquet.read_table("y.parquet")["x"].to_pylist() == [None if v is None else 2.0 * v - 1 for v in values]
    apply(m, table, "y.npy")
    assert np.isnan(np.load("y.npy")[:, 0]).tolist() == [v is None for v in values]
    apply(m, table, "y.csv")        # whose blank lines would be no rows
    assert Path("y.csv").read_text().splitlines() == ['"x"', *('""' if v is None else str(2 * v - 1) for v in values)]
    if kind != "null":
        assert fit("y.csv", nan_policy="omit", track="missing").missing == 2


def test_images(folder):
    image = pytest.importorskip("PIL.Image")
    x = of_dtype("u1", (4, 5, 6, 3))
    for i, pixels in enumerate(x):
        image.fromarray(pixels).save(f"{i}.png")
    m = fit("*.png")
    assert apply(m, "*.png", "y.npy") == 4
    equal(np.load("y.npy"), normalize(x, m.mean, m.var()))
    with pytest.raises(SourceError, match=r"image 0\.png: a table has two axes, but the data has 4"):
        apply(m, "*.png", "y.csv")
    image.fromarray(x[0, :2]).save("5.png")
    with pytest.raises(SourceError, match=r"5\.png: rows of shape \(2, 6, 3\) follow .* \(5, 6, 3\); .* the same size"):
        apply(m, "*.png", "y.npy")
    equal(np.load("y.npy"), normalize(x, m.mean, m.var()))


@pytest.mark.parametrize("out", KINDS)
def test_many_pieces_are_one(out, tmp_path, monkeypatch):
    """A million rows, in Parquet in row groups of a useful size."""
    monkeypatch.chdir(tmp_path)
    x = of_dtype("f4", (1_000_000, 1)) if out != ".csv" else of_dtype("f8", (100_000, 1))
    m = fit(x)
    names = ["0"]
    apply(m, x, f"one{out}", chunk_rows=len(x))
    parquet.write_table(pa.table({"0": x[:, 0]}), "x.parquet", row_group_size=30_000)
    m.names = names
    apply(m, "x.parquet", f"many{out}", chunk_rows=7000)
    equal(array_in(f"many{out}"), array_in(f"one{out}"))
    if out == ".parquet":
        assert parquet.read_metadata("many.parquet").num_row_groups == 1


def test_columns_in_another_order(folder):
    files = [write(".parquet", X[:90], "1"), "2.parquet"]
    parquet.write_table(named(X[90:]).select(["c", "a", "b"]), "2.parquet")
    m = fit(files)
    for out in KINDS[:3]:
        apply(m, files, f"y{out}")
        equal(array_in(f"y{out}"), normalize(X, m.mean, m.var()))


FAILURES = {
    "out": (lambda: (fit(X), X, "y.txt"), {}, ValueError,
            r"out must end in \.npy, \.parquet, \.arrow or \.csv, or be a folder, got 'y\.txt'"),
    "empty state": (lambda: (Moments(), X, "y"), {}, ValueError,
                    "the state has channels without a value; fit it first"),
    "no state": (lambda: (write(".npy", X), X, "y"), {}, bnstream.StateError, r"x\.npy is not a bnstream state file"),
    "channels": (lambda: (fit(X[:, :2]), X, "y"), {}, SourceError,
                 "expected 2 channels as in the statistics, got 3 along"),
    "no names": (lambda: (fit(X), named(), "y"), {}, SourceError,
                 "the statistics have no column names; fit them from"),
    "column": (lambda: (fit(named()), named().drop(["b"]), "y"), {}, SourceError, "the Table has no column 'b'; its"),
    "text": (lambda: (fit(named()), pa.table({n: ["x"] for n in NAMES}), "y"), {}, SourceError,
             "'a' is of type string"),
    "channels first": (lambda: (fit(X, channel_axis=0), X, "y"), {"channel_axis": 0}, SourceError,
                       "the channel axis cannot be the first"),
    "no rows": (lambda: (fit(X), X[:0], "y"), {}, SourceError,
                r"the array of shape \(0, 3\): no rows; there is nothing to"),
    "chunk_rows": (lambda: (fit(X), X, "y"), {"chunk_rows": 0}, ValueError, "chunk_rows must be at least 1, got 0"),
}


@pytest.mark.parametrize("out", KINDS)
@pytest.mark.parametrize("name", FAILURES)
def test_failures_leave_the_old_file(name, out, folder):
    make, options, error, message = FAILURES[name]
    state, source, path = make()
    path = f"y{out}" if path == "y" else path
    Path(path).write_text("old")
    there = sorted(Path().iterdir())
    with pytest.raises(error, match=message):
        apply(state, source, path, **options)
    assert sorted(Path().iterdir()) == there
    assert Path(path).read_text() == "old"


@pytest.mark.parametrize("out", KINDS)
@pytest.mark.parametrize("trouble", ["stopped", "cut", "changed"])
def test_trouble_midway(trouble, out, folder):
    path = write(".npy", np.tile(X, (5, 1)))
    Path(f"y{out}").write_text("old")
    calls = []

    def progress(now):
        calls.append(now)
        if len(calls) == 2:
            if trouble == "cut":
                Path(path).write_bytes(Path(path).read_bytes()[:500])
            elif trouble == "changed":
                np.save(path, X)

    error, message = (Stop, None) if trouble == "stopped" else (SourceError, r"x\.npy")
    with pytest.raises(error, match=message):
        apply(fit(path), path, f"y{out}", progress=stop_after(3) if trouble == "stopped" else progress)
    assert sorted(map(str, Path().iterdir())) == ["x.npy", f"y{out}"]
    assert Path(f"y{out}").read_text() == "old"


def test_onto_itself(folder):
    path = write(".npy", X)
    m = fit(path)
    with pytest.raises(ValueError, match="is one of the sources and would be replaced"):
        apply(m, path, path, chunk_rows=7)
    equal(np.load(path), X)


FULL = """
import os, resource
import numpy as np
import bnstream
os.chdir(FOLDER)
x = np.random.default_rng(0).normal(size=(100_000, 3))
m = bnstream.fit(x)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for out in (".npy", ".parquet", ".arrow", ".csv"):
    try:
        bnstream.apply(m, x, f"y{out}")
    except OSError as error:
        print(error, os.listdir("."))
"""


def test_a_full_disk(folder):
    pytest.importorskip("resource")
    done = python("-c", FULL.replace("FOLDER", repr(str(folder))))
    assert done.stdout.splitlines() == [f"[Errno 27] File too large: 'y{out}' []" for out in KINDS]
    assert not done.stderr


MEMORY = """
import os
import pyarrow.parquet as parquet, pyarrow as pa, pyarrow.csv
os.chdir(FOLDER)
with open("x.npy", "wb") as file:       # 0.4 GB of zeros, a sparse file
    header = {"descr": "<f4", "fortran_order": False, "shape": (6_250_000, 16)}
    np.lib.format.write_array_header_1_0(file, header)
    file.truncate(file.tell() + 400_000_000)
with open("image.npy", "wb") as file:
    header = {"descr": "|u1", "fortran_order": False, "shape": (1, 5_000, 10_000, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    file.truncate(file.tell() + 150_000_000)
table = pa.table({str(i): np.zeros(1 << 20, "f8") for i in range(8)})
with parquet.ParquetWriter("x.parquet", table.schema) as writer:
    for _ in range(4):          # 0.25 GB
        writer.write_table(table)
small = pa.table({str(i): np.arange(10.0) for i in range(8)})
del table
pa.default_memory_pool().release_unused()
m = bnstream.fit(small)

def work(call):
    before = start()
    call()
    pa.default_memory_pool().release_unused()
    print(peak() - before)
"""
MOST = {        # MiB
    "bnstream.fit('x.npy')": 40,
    "bnstream.fit('image.npy')": 40,
    "bnstream.fit('x.parquet')": 60,
    "bnstream.fit('x.parquet', columns=['3', '1'])": 30,
    "bnstream.apply(m, 'x.parquet', 'y.parquet')": 120,
}


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    setup = MEMORY.replace("FOLDER", repr(str(tmp_path_factory.mktemp("memory"))))
    return measured(setup, {work: f"work(lambda: {work})" for work in MOST})


@pytest.mark.parametrize("work", MOST)
def test_memory(work, peaks):
    """A file of any size takes some MiB."""
    (extra,) = peaks[work]
    assert extra < MOST[work] << 20, f"{extra / 2**20:.0f} MiB more"
