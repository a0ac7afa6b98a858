"""Small files of every format, and passes that are stopped midway."""

import itertools

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

NAMES = ("a", "b", "c")
N = 200


def write(suffix, x, stem="x"):
    """Write an array to a file, a table with columns `NAMES` if the format is one of tables; return the path."""
    path = f"{stem}{suffix}"
    table = pa.table(dict(zip(NAMES, np.ascontiguousarray(x.T), strict=False)))
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez_compressed(path, x=x)
    elif suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=17)
    elif suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, 17)
    elif suffix == ".csv":
        csv.write_csv(table, path)
    else:
        csv.write_csv(table, pa.CompressedOutputStream(path, "gzip"))
    return path


class Stop(Exception):  # noqa: N818
    """Ends a pass midway."""


def stop_after(k, seen=None):
    """A progress callback that raises `Stop` at the k-th call."""
    calls = itertools.count(1)

    def progress(now):
        if seen is not None:
            seen.append(now)
        if next(calls) == k:
            raise Stop

    return progress
