"""Wide tables: several columns are read together, by few readers, and the statistics are those of each column."""

from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal
from support.oracle import assert_within, exact_states, exact_weighted
from support.passes import Stop, stop_after

from bnstream import Moments, SourceError, fit, load
from bnstream.streams.sources.tables.table import COLUMN_ROWS, TABLE_VALUES, table_rows

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

X = normal((40, 70)) + np.arange(70)
NAMES = tuple(f"c{i}" for i in range(70))


@pytest.fixture
def table(folder, monkeypatch):
    """The path of a Parquet file of 70 columns in three row groups, of which 8 columns are read together."""
    monkeypatch.setattr("bnstream.streams.sources.tables.parquet.PIECE_VALUES", 8 * 15)
    parquet.write_table(pa.table(dict(zip(NAMES, X.T.copy(), strict=True))), "t.parquet", row_group_size=15)
    return "t.parquet"


@pytest.mark.parametrize("n_threads", [1, 2])
def test_columns_together(table, n_threads):
    m = fit(table, n_threads=n_threads)
    assert m.names == NAMES
    assert_within(m.mean, m.var(), exact_states(X))
    some = NAMES[::-3]
    assert fit(table, columns=some, n_threads=n_threads).mean.tolist() == m.mean[::-3].tolist()
    assert fit(table, exact=True, n_threads=n_threads) == Moments(exact=True, names=NAMES).update(X)
    weighted = fit(table, weights="c69", columns=NAMES[:69], n_threads=n_threads)
    assert_within(weighted.mean, weighted.var(), [exact_weighted(x, X[:, 69]) for x in X.T[:69]])


def test_bits_do_not_depend_on_what_is_read_together(table, monkeypatch):
    together = fit(table)
    monkeypatch.setattr("bnstream.streams.sources.tables.parquet.PIECE_VALUES", 1)
    assert fit(table) == together


@pytest.mark.parametrize("calls", [1, 2])
def test_resume(table, calls):
    """A pass resumes where all columns of a span are done."""
    with pytest.raises(Stop):
        fit(table, "out", progress=stop_after(calls))
    fit(table, "out", resume=True)
    assert load("out") == fit(table)


def test_few_readers(table, monkeypatch):
    """Opening a file takes time for each of its columns, so the threads open it once each."""
    opened = []
    real = parquet.ParquetFile
    monkeypatch.setattr("bnstream.streams.sources.tables.parquet.parquet.ParquetFile",
                        lambda *args, **options: opened.append(args) or real(*args, **options))
    fit(table, n_threads=2)
    assert len(opened) <= 3         # one more to inspect it


def test_csv(folder, monkeypatch):
    csv.write_csv(pa.table(dict(zip(NAMES, X.T.copy(), strict=True))), "t.csv")
    m = fit("t.csv")
    assert m.names == NAMES
    assert_within(m.mean, m.var(), exact_states(X))


def test_rows_of_all_columns():
    """Where all columns are read together, they take some MiB, but have some rows."""
    assert table_rows(1) == 4 * COLUMN_ROWS
    assert table_rows(500) == 1 << 12
    assert table_rows(10_000) == TABLE_VALUES // 10_000
    assert table_rows(10**6) == 128


def test_many_names_in_messages(folder):
    """Of many names a message has the first ones."""
    parquet.write_table(pa.table({f"c{i}": ["text"] for i in range(100)}), "t.parquet")
    with pytest.raises(SourceError, match=r"'c19' is of type string; \.\.\. \(100 in all\); there are no numeric") as e:
        fit("t.parquet")
    assert "c20" not in str(e.value)
    with pytest.raises(SourceError, match=r"no column 'x'; its columns are c0, .*, c19, \.\.\. \(100 in all\)$"):
        fit("t.parquet", columns=["x"])


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_page_checksums(compression, folder):
    """A flipped bit that leaves the file readable is found where there are checksums."""
    table = pa.table({"a": np.ones(1000), "b": np.arange(1000.0)})
    parquet.write_table(table, "t.parquet", write_page_checksum=True, use_dictionary=False, compression=compression)
    assert fit("t.parquet").mean.tolist() == [1, 499.5]
    column = parquet.read_metadata("t.parquet").row_group(0).column(0)
    raw = bytearray(Path("t.parquet").read_bytes())
    raw[column.data_page_offset + column.total_compressed_size - 1] ^= 0x40
    Path("t.parquet").write_bytes(raw)
    with pytest.raises(SourceError, match=r"t\.parquet, rows 0 to 1,000: .*CRC checksum verification failed"):
        fit("t.parquet")
    assert fit("t.parquet", columns=["b"]).mean == 499.5
