"""Files of numbers, and mean and variance of their columns by bnstream and its peers, as calls that can be repeated.
They have just been written, so they come from the system's cache: the disk is not measured."""

import functools
import gzip
import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import bnstream

from .data import array, need
from .reductions import installed

COLUMNS = 16
BUFFER = 1 << 20        # bytes


def make_npy(path, shape):
    """Write float32, the same block of numbers repeated."""
    x = np.lib.format.open_memmap(path, "w+", "float32", shape)
    part = array((min(len(x), 4096), *shape[1:]), "float32")
    for start in range(0, len(x), len(part)):
        x[start:start + len(part)] = part[:len(x) - start]
    x.flush()


def table(n_rows, missing=0.0):
    """Four kinds of columns in turn: two decimals, integers, a share of missing values, all digits."""
    arrow, rng = installed("pyarrow"), np.random.default_rng(0)
    columns = {}
    for i in range(COLUMNS):
        x = rng.normal(1000, 1, n_rows)
        x = (x.round(2), rng.integers(0, 1000, n_rows), x, x)[i % 4]
        columns[f"c{i}"] = arrow.array(x, mask=rng.random(n_rows) < missing if i % 4 == 2 else None)
    return arrow.table(columns)


def make_parquet(path, n_rows, missing=0.0):
    """Write Parquet with the defaults of pyarrow."""
    installed("pyarrow.parquet").write_table(table(n_rows, missing), path)
    sync(path)


def make_csv(path, n_rows):
    """Write CSV, compressed if the name ends in .gz."""
    text = Path(path).with_suffix(".text")
    installed("pyarrow.csv").write_csv(table(n_rows), text)
    if Path(path).suffix == ".gz":
        with text.open("rb") as plain, gzip.open(path, "wb", compresslevel=1) as packed:
            shutil.copyfileobj(plain, packed, BUFFER)
        text.unlink()
    else:
        text.rename(path)
    sync(path)


def make_small(folder, suffix, n_files, n_rows):
    """Write many small files of the same kind of columns, all with the same numbers."""
    Path(folder).mkdir()
    make = make_csv if suffix == ".csv" else make_parquet
    make(Path(folder, f"0{suffix}"), n_rows)
    for i in range(1, n_files):
        shutil.copy(Path(folder, f"0{suffix}"), Path(folder, f"{i}{suffix}"))


GRIDS = {".h5": "h5py", ".zarr": "zarr"}


def make_grid(path, shape, chunks):
    """Write float32 with one decimal, compressed, as HDF5 or Zarr."""
    library = installed(GRIDS[Path(path).suffix])
    part = array((chunks[0], *shape[1:]), "float32").round(1)
    if Path(path).suffix == ".h5":
        with library.File(path, "w") as file:
            x = file.create_dataset("x", shape, "f4", chunks=chunks, compression="gzip", compression_opts=1)
            for start in range(0, shape[0], chunks[0]):
                x[start:start + chunks[0]] = part
    else:
        x = library.create_array(path, shape=shape, chunks=chunks, dtype="f4", overwrite=True)
        for start in range(0, shape[0], chunks[0]):
            x[start:start + chunks[0]] = part


def by_chunks(path, n_threads=2):
    """Read each chunk of such a file, on some threads."""
    library = installed(GRIDS[Path(path).suffix])

    def call():
        x = library.File(path)["x"] if Path(path).suffix == ".h5" else library.open_array(path, mode="r")
        spans = [[slice(i, i + chunk) for i in range(0, n, chunk)] for n, chunk in zip(x.shape, x.chunks, strict=True)]
        with ThreadPoolExecutor(n_threads) as pool:
            for future in [pool.submit(x.__getitem__, at) for at in itertools.product(*spans)]:
                future.result()

    return call


def sync(path):
    """Write the file to the disk now rather than during a measurement."""
    with Path(path).open("r+b") as file:
        os.fsync(file.fileno())


def is_parquet(path):
    return Path(path).suffix == ".parquet"


def plainly(path):
    """A plain read of the bytes into one buffer, which stays in the cache."""
    buffer = bytearray(BUFFER)

    def call():
        with Path(path).open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    return call


def by_bnstream(path, n_threads=2, nan_policy="raise"):
    need("fit")
    bnstream.set_num_threads(n_threads)
    return functools.partial(bnstream.fit, path, nan_policy=nan_policy)


def read_by_pyarrow(path, n_threads=2):
    """Read the whole file into memory, without mean or variance."""
    installed("pyarrow").set_cpu_count(n_threads)
    if is_parquet(path):
        return functools.partial(installed("pyarrow.parquet").read_table, path)
    return functools.partial(installed("pyarrow.csv").read_csv, path)


def stream_by_pyarrow(path, n_threads=2):
    """Read the whole file batch by batch, without mean or variance."""
    installed("pyarrow").set_cpu_count(n_threads)
    if is_parquet(path):
        parquet = installed("pyarrow.parquet")
        return lambda: sum(batch.num_rows for batch in parquet.ParquetFile(path).iter_batches())
    return lambda: sum(batch.num_rows for batch in installed("pyarrow.csv").open_csv(path))


def by_duckdb(path, n_threads=2):
    connection = installed("duckdb").connect(config={"threads": n_threads})
    return lambda: connection.execute(f"SELECT avg(COLUMNS(*)), var_pop(COLUMNS(*)) FROM '{path}'").fetchall()


def by_polars(path, n_threads=2):
    """polars reads the number of threads when it is imported."""
    os.environ["POLARS_MAX_THREADS"] = str(n_threads)
    polars = installed("polars")
    if polars.thread_pool_size() != n_threads:
        raise NotImplementedError(f"polars was imported with {polars.thread_pool_size()} threads, not {n_threads}")
    every = polars.all()
    query = [every.mean().name.suffix(" mean"), every.var(ddof=0).name.suffix(" var")]
    scan = polars.scan_parquet if is_parquet(path) else polars.scan_csv
    return lambda: scan(path).select(query).collect()


PEERS = {"pyarrow, reading alone": read_by_pyarrow, "pyarrow, batches alone": stream_by_pyarrow, "DuckDB": by_duckdb,
         "polars": by_polars}


def apply_by_bnstream(path, out, n_threads=2):
    need("apply")
    bnstream.set_num_threads(n_threads)
    return functools.partial(bnstream.apply, bnstream.fit(path), path, out)


def apply_by_polars(path, out, n_threads=2):
    """The same with the streaming engine of polars."""
    by_polars(path, n_threads)      # refuses another number of threads
    polars, state = installed("polars"), bnstream.fit(path)
    columns = zip(state.names, state.mean.tolist(), state.std().tolist(), strict=True)
    scaled = [(polars.col(name) - mean) / sd for name, mean, sd in columns]
    return lambda: polars.scan_parquet(path).with_columns(scaled).sink_parquet(out)
