"""The header of a .npy file, read without evaluating it: the dtype is looked up in a closed list."""

import re
from typing import IO, Any

import numpy as np

from bnstream.streams.sources.errors import SourceError

MOST_BYTES = 1 << 16        # Bytes of a header; NumPy itself writes a few hundred for a plain array.
LARGEST_EXTENT = 2**63 - 1
CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
HEADER = re.compile(
    r"\s*\{(?=.*'descr'\s*:\s*(?P<descr>'[^']*'|\[.*\]))(?=.*'fortran_order'\s*:\s*(?P<fortran>True|False)\b)"
    r"(?=.*'shape'\s*:\s*\((?P<shape>\s*(?:[0-9]+L?\s*(?:,\s*|(?=\))))*)\)).*\}\s*",
    re.DOTALL,
)


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, whether it is in Fortran order, and the dtype. The file is left at the first element.

    Raises
    ------
    SourceError
        If it is not such a header, or the dtype is not bool, integer or floating of at most 64 bits.
    """
    shape, fortran, descr = parse(file, f"{name} is not an array of numbers in .npy format, or is truncated")
    return shape, fortran, dtype_of(descr, name)


def holds_numbers(file: IO[bytes], name: str) -> bool:
    """Whether the header is of a dtype that `read_header` accepts."""
    return parse(file, f"{name} is not an array in .npy format, or is truncated")[2][1:] in CODES


def dtype_of(descr: str, name: str) -> np.dtype[Any]:
    """The dtype of real numbers that a header describes."""
    if descr[:1] not in tuple("<>|=") or descr[1:] not in CODES:
        raise SourceError(f"{name} has dtype {repr(descr)[1:-1][:60]}; expected real numbers of at most 64 bits")
    return np.dtype(descr)


def parse(file: IO[bytes], fault: str) -> tuple[tuple[int, ...], bool, str]:
    """Read the shape, whether it is in Fortran order, and the description of the dtype."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise SourceError(f"{fault}: it does not begin as a .npy file of version 1, 2 or 3")
    length_bytes = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(length_bytes), "little")
    if length > MOST_BYTES:
        raise SourceError(f"{fault}: its header has {length:,} bytes, more than {MOST_BYTES:,}")
    data = file.read(length)
    if len(data) < length:
        raise SourceError(f"{fault}: it ends within its header")
    found = HEADER.fullmatch(data.decode("latin-1").replace('"', "'"))
    if found is None:
        raise SourceError(f"{fault}: its header does not give 'descr', 'fortran_order' and 'shape'")
    extents = [extent.lstrip("0") or "0" for extent in re.findall("[0-9]+", found["shape"])]
    longest = max(extents, key=lambda extent: (len(extent), extent), default="0")
    if len(extents) > 64 or len(longest) > 19 or int(longest) > LARGEST_EXTENT:
        raise SourceError(f"{fault}: its shape has {len(extents)} axes, the longest of {longest:.60}; expected what "
                          "memory can hold")
    shape = tuple(int(extent) for extent in extents)
    return shape, found["fortran"] == "True", found["descr"].strip("'")
