"""A file of arrays and a description of them: an .npz with one member of JSON, which is read without trusting it.

    write:  dict of arrays, dict -> zip (stored, without dates): NAME.npy for each array, and bnstream.json
    read:   zip -> each member once and whole, against its checksum -> the arrays, the dict

The same arrays and the same description give the same bytes. Whatever else is found raises `StateError`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

DESCRIPTION = "bnstream.json"

# What zipfile raises for bytes that are no zip, or a damaged one; RuntimeError where a flag says that it is encrypted.
DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError, struct.error)

# Version 1.0 of NumPy's format, of the types that a state has. Nothing that has to be evaluated.
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{'descr': '(?P<dtype><i8|<f2|<f4|<f8)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>[0-9, ]{0,1000})\),? ?\} *\n",
    re.DOTALL,
)

FOREIGN = {
    b"\x93NUMPY": "a .npy file, of one array",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; convert takes arrays, as an .npz",
    b"PAR1": "a Parquet file; bnstream fit makes a state of it",
    b"ARROW1": "an Arrow file; bnstream fit makes a state of it",
    b"\x1f\x8b": "a gzip file",
}


class StateError(ValueError):
    """A file that is no state file, or a damaged one.

    Examples
    --------
    >>> import bnstream
    >>> try:
    ...     bnstream.load(bnstream.__file__)
    ... except ValueError as error:
    ...     print(str(error).partition("is ")[2])
    no state file of bnstream: it is text
    """


def write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> None:
    """An archive of arrays and their description."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member(DESCRIPTION), json.dumps(description, indent=1, default=plain) + "\n")
        for name, array in arrays.items():
            stream = io.BytesIO()
            little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            np.lib.format.write_array(stream, little, version=(1, 0), allow_pickle=False)
            archive.writestr(member(f"{name}.npy"), stream.getvalue())


def plain(value: object) -> Any:
    """A number of NumPy's as one of Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected what JSON can hold, got {type(value).__name__}")


def member(name: str) -> zipfile.ZipInfo:
    """An entry that tells neither when nor where it was made."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = 0o600 << 16
    return info


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays, read-only, and the description.

    Raises
    ------
    StateError
        If it is no such archive, or a damaged one.
    OSError
        If it cannot be opened or read.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        try:
            members = members_of(file)
        except (*DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:      # that is a seek to before the file
                raise
            if not start.startswith(b"PK"):
                raise StateError(f"{path} is no state file of bnstream: it is {kind_of(start)}") from None
            raise StateError(f"{path} is damaged or cut: {error}; use a copy of it, or make it anew") from error
    if DESCRIPTION not in members:
        raise StateError(f"{path} is no state file of bnstream: it is {kind_of_zip(list(members))}")
    try:
        description = json.loads(members.pop(DESCRIPTION))
    except (ValueError, RecursionError) as error:
        raise StateError(f"{path}: {DESCRIPTION} is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise StateError(f"{path}: {DESCRIPTION} must hold an object, got {type(description).__name__}")
    return {name.removesuffix(".npy"): array_of(path, name, data) for name, data in members.items()}, description


def members_of(file: BinaryIO) -> dict[str, bytes]:
    """The members by name, once their checksums are found right. Without a description, the names alone."""
    n_bytes = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if DESCRIPTION not in names:
            return dict.fromkeys(names, b"")
        if len(set(names)) < len(names):
            raise zipfile.BadZipFile("two members have one name")
        # Compressed, some bytes could become any number of them.
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise zipfile.BadZipFile("a member is compressed, and in state files none is")
        if sum(info.file_size for info in infos) > n_bytes:
            raise zipfile.BadZipFile("the sizes of the members add up to more than the file has")
        return {info.filename: archive.read(info) for info in infos}


def array_of(path: Path, name: str, data: bytes) -> NDArray[Any]:
    header = HEADER.match(data)
    if header is None or header.end() != 10 + int.from_bytes(header["length"], "little") or not name.endswith(".npy"):
        raise StateError(f"{path}: {name} is no .npy array of int64, float16, float32 or float64 as state files have")
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(int(extent) for extent in header["shape"].split(b",") if extent.strip())
    if len(data) - header.end() != math.prod(shape) * dtype.itemsize or len(shape) > 64 or 0 in shape:
        raise StateError(f"{path}: {name} has {len(data) - header.end()} bytes, which do not fit {dtype} of {shape}")
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def kind_of(start: bytes) -> str:
    """What a file that is no zip seems to be, by its first bytes."""
    for magic, kind in FOREIGN.items():
        if start.startswith(magic):
            return kind
    if not start:
        return "empty"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle, which may run any code when it is opened; it was not"
    if b"\0" not in start:
        with contextlib.suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder("utf-8")().decode(start)       # the last character may be cut
            return "text"
    return "of a kind that bnstream does not know"


def kind_of_zip(names: list[str]) -> str:
    if any(name.endswith("data.pkl") for name in names):
        return "a file of PyTorch; torch.load reads it, and bnstream.exchange.from_arrays takes a state_dict"
    if names and all(name.endswith(".npy") for name in names):
        told = ", ".join(name.removesuffix(".npy") for name in names[:8]) + (", ..." if len(names) > 8 else "")
        return f"an .npz of the arrays {told}; bnstream convert makes a state of those of another tool"
    told = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"a zip of {told}" if names else "an empty zip"
