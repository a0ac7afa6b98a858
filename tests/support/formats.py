"""The same table in every format that is read from files."""

import gzip
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
from pyarrow import csv, feather, ipc, orc, parquet

X = np.random.default_rng(0).normal(1e6, 1.0, (900, 3))
TABLE = pa.table(dict(zip("abc", X.T, strict=True)))


def written(write):
    """The bytes that a function writes to a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def write_stream(file):
    with ipc.new_stream(file, TABLE.schema) as writer:
        writer.write_table(TABLE, 100)


def zipped(members):
    """The bytes of a zip archive."""
    def write(file):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    return written(write)


def zstd(raw):
    """The bytes, compressed by Zstandard."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(raw)
    return sink.getvalue().to_pybytes()


CSV = written(lambda file: csv.write_csv(TABLE, file))
FILES = {
    "x.npy": written(lambda file: np.save(file, X)),
    "fortran.npy": written(lambda file: np.save(file, np.asfortranarray(X))),
    "x.npz": written(lambda file: np.savez(file, X)),
    "x.csv": CSV,
    "x.csv.gz": gzip.compress(CSV),
    "x.csv.zip": zipped({"x.csv": CSV}),
    "x.jsonl": "".join(f"{json.dumps(row)}\n" for row in TABLE.to_pylist()).encode(),
    "x.json": json.dumps(TABLE.to_pylist(), indent=1).encode(),
    "x.orc": written(lambda file: orc.write_table(TABLE, file)),
    "x.parquet": written(lambda file: parquet.write_table(TABLE, file, row_group_size=100)),
    "x.arrow": written(lambda file: feather.write_feather(TABLE, file, "uncompressed")),
    "x.arrows": written(write_stream),
}


def local(name, folder):
    """One of the files, in a folder."""
    path = folder / name
    path.write_bytes(FILES[name])
    return path
