"""The arrays of another tool in a .npz file, read without trusting it."""

import errno
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bnstream.statefiles.archive import kind_of
from bnstream.streams.sources.arrays.npyheader import dtype_of, parse

# What zipfile raises for a file that is damaged or not a zip. RuntimeError stands for one that is flagged as encrypted.
DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError, struct.error)

MOST_EXPANSION = 20         # Bytes of the arrays for each byte of the file; parameters hardly compress.
SMALL = 64 << 20            # Bytes of the arrays that any file may have.
TEXT = re.compile(r"[<>=|]U(\d{1,6})")
# Dtypes that a file of another tool may hold beside the arrays that are converted; V2 is bfloat16 without its name.
UNUSED = tuple(order + code for order in "<>=|" for code in ("c8", "c16", "V2"))


def read_arrays(path: Path, convention: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of a plain .npz file: numbers and names.

    Raises
    ------
    ValueError
        If it is not such a file, is damaged, or holds anything else.
    OSError
        If it cannot be opened or read.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        if not start.startswith(b"PK"):
            raise ValueError(f"{path} is {kind_of(start)}; expected a .npz file of arrays named as in {convention}")
        try:
            return arrays_in(file)
        except (*DAMAGE, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:      # EINVAL: a seek to before the file
                raise
            raise ValueError(f"{path} is damaged, or holds more than numbers and names: {error}; write it again with "
                             "numpy.savez, with names as an array of str") from error


def arrays_in(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """The arrays of an open .npz file by name, with their checksums verified."""
    n_bytes = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if len({info.filename for info in infos}) < len(infos):
            raise ValueError("two arrays have the same name")
        if sum(info.file_size for info in infos) > max(SMALL, MOST_EXPANSION * n_bytes):
            raise ValueError(f"its arrays are more than {MOST_EXPANSION} times as large as the file")
        return {info.filename.removesuffix(".npy"): array_in(archive, info) for info in infos}


def array_in(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """The array of one member."""
    fault = f"{info.filename} is not an array in .npy format"
    with archive.open(info) as file:
        shape, fortran, descr = parse(file, fault)
        text = TEXT.fullmatch(descr)
        if text is not None:
            dtype: np.dtype[Any] = np.dtype(("U", int(text[1])))
            dtype = dtype.newbyteorder(">") if descr[0] == ">" else dtype
        else:
            dtype = np.dtype(descr) if descr in UNUSED else dtype_of(descr, info.filename)
        data = file.read()
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{fault}: it has {len(data):,} bytes, which do not fit {dtype} of shape {shape}")
    if dtype.itemsize == 0 or 0 in shape:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
