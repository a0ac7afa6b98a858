"""Archives: arrays and their description in a .npz file with a JSON member, which is read without trusting it.

    write_archive:  dict of arrays, dict -> zip (stored, without dates): NAME.npy for each array, and bnstream.json
    read_archive:   zip -> each member as a whole, once, with its checksum verified -> dict of arrays, dict

Equal arrays and descriptions give equal bytes. A file that holds anything else raises `StateError`.
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
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dtypes import NamedArrays

DESCRIPTION = "bnstream.json"

# What zipfile raises for a file that is damaged or not a zip. RuntimeError stands for one that is flagged as encrypted.
DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError, struct.error)

# A header of version 1.0 of the .npy format, with a dtype that states have. Nothing in it is evaluated.
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{'descr': '(?P<dtype><i8|<f2|<f4|<f8|\|u1)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>[0-9, ]{0,1000})\),? ?\} *\n",
    re.DOTALL,
)

FOREIGN = {
    b"\x93NUMPY": "a .npy file of one array",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; bnstream convert reads arrays from a .npz file",
    b"PAR1": "a Parquet file; bnstream fit computes a state from it",
    b"ARROW1": "an Arrow file; bnstream fit computes a state from it",
    b"\x1f\x8b": "a gzip file",
}


class StateError(ValueError):
    """A file that is damaged or not a state file.

    Examples
    --------
    >>> import bnstream
    >>> try:
    ...     bnstream.load(bnstream.__file__)
    ... except ValueError as error:
    ...     print(str(error).partition("is ")[2])
    not a bnstream state file: it is text
    """


def write_archive(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> None:
    """Write an archive of arrays and their description."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member(DESCRIPTION), json.dumps(description, indent=1, default=plain) + "\n")
        for name, array in arrays.items():
            stream = io.BytesIO()
            little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            np.lib.format.write_array(stream, little, version=(1, 0), allow_pickle=False)
            archive.writestr(member(f"{name}.npy"), stream.getvalue())


def plain(value: object) -> Any:
    """Convert a NumPy scalar to a Python number; raise TypeError for anything else that JSON cannot hold."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a value that JSON can hold, got {type(value).__name__}")


def member(name: str) -> zipfile.ZipInfo:
    """A zip entry that does not record when or where it was made."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = 0o600 << 16
    return info


def read_archive(path: Path) -> tuple[NamedArrays, dict[str, Any]]:
    """Read the arrays, which are read-only, and the description.

    Raises
    ------
    StateError
        If the file is damaged or not such an archive.
    OSError
        If the file cannot be opened or read.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        try:
            members = members_of(file)
        except (*DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:      # EINVAL: a seek to before the file
                raise
            if not start.startswith(b"PK"):
                raise StateError(f"{path} is not a bnstream state file: it is {kind_of(start)}") from None
            raise StateError(f"{path} is damaged or truncated: {error}; restore a copy of it, or save it again"
                             ) from error
    if DESCRIPTION not in members:
        raise StateError(f"{path} is not a bnstream state file: it is {kind_of_zip(list(members))}")
    try:
        description = json.loads(members.pop(DESCRIPTION))
    except (ValueError, RecursionError) as error:
        raise StateError(f"{path}: {DESCRIPTION} is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise StateError(f"{path}: {DESCRIPTION} must hold an object, got {type(description).__name__}")
    return {name.removesuffix(".npy"): array_of(path, name, data) for name, data in members.items()}, description


def has_description(file: IO[bytes]) -> bool:
    """Whether an open file is a zip with the member that describes a state."""
    try:
        with zipfile.ZipFile(file) as archive:
            return DESCRIPTION in archive.namelist()
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:      # EINVAL: a seek to before the file
            raise
        return False


def members_of(file: BinaryIO) -> dict[str, bytes]:
    """Read the members by name and verify their checksums. Without a description, return only the names."""
    n_bytes = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if DESCRIPTION not in names:
            return dict.fromkeys(names, b"")
        if len(set(names)) < len(names):
            raise zipfile.BadZipFile("two members have the same name")
        # A few compressed bytes could expand to any number.
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise zipfile.BadZipFile("a member is compressed; those of state files are not")
        if sum(info.file_size for info in infos) > n_bytes:
            raise zipfile.BadZipFile("the sizes of the members add up to more than the file")
        return {info.filename: archive.read(info) for info in infos}


def array_of(path: Path, name: str, data: bytes) -> NDArray[Any]:
    """Parse a member as a .npy array; raise StateError unless it is one."""
    header = HEADER.match(data)
    if header is None or header.end() != 10 + int.from_bytes(header["length"], "little") or not name.endswith(".npy"):
        raise StateError(f"{path}: {name} is not a .npy array of int64, uint8, float16, float32 or float64")
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(int(extent) for extent in header["shape"].split(b",") if extent.strip())
    if len(data) - header.end() != math.prod(shape) * dtype.itemsize or len(shape) > 64 or 0 in shape:
        raise StateError(f"{path}: {name} has {len(data) - header.end()} bytes, which do not fit {dtype} of shape "
                         f"{shape}")
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def kind_of(start: bytes) -> str:
    """Describe a file that is not a zip by its first bytes."""
    for magic, kind in FOREIGN.items():
        if start.startswith(magic):
            return kind
    if not start:
        return "empty"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle, which can run any code when it is opened; it was not opened"
    if b"\0" not in start:
        with contextlib.suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder("utf-8")().decode(start)       # the last character may be cut
            return "text"
    return "of an unknown kind"


def kind_of_zip(names: list[str]) -> str:
    """Describe a zip file by the names of its members."""
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file; read it with torch.load and convert the state_dict with bnstream.exchange.from_arrays"
    if names and all(name.endswith(".npy") for name in names):
        listed = ", ".join(name.removesuffix(".npy") for name in names[:8]) + (", ..." if len(names) > 8 else "")
        return f"a .npz file of the arrays {listed}; bnstream convert converts the arrays of another tool to a state"
    listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"a zip file of {listed}" if names else "an empty zip file"
