"""Archives: arrays and their description in a .npz file with a JSON member, which is read without trusting it.

    write_archive:  dict of arrays, dict -> zip (stored, without dates): NAME.npy for each array, and bnstream.json
    read_archive:   zip -> each member as a whole, once, with its checksum verified -> dict of arrays, dict

Equal arrays and descriptions give equal bytes. A file that holds anything else raises `StateError`. Neither zipfile nor
NumPy reads a file: `members` and `array_of` do. JSON reads ASCII alone, without names that occur twice.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dtypes import NamedArrays
from bnstream.core.labels import listed
from bnstream.statefiles.members import directory_of, members_of

DESCRIPTION = "bnstream.json"

EXTENT = rb"(?:0|[1-9][0-9]{0,18})"
# A header of version 1.0 of the .npy format, with a dtype that states have. Nothing in it is evaluated.
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{'descr': '(?P<dtype><i8|<f2|<f4|<f8|\|u1)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>|EXTENT,|EXTENT(?:, EXTENT){1,63})\),? ?\} {0,99}\n".replace(b"EXTENT", EXTENT),
    re.DOTALL,
)
DEEPEST = 20        # Objects and lists within each other, in a description. Those of states have 6 levels.

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
    archive = zipfile.ZipFile(file, "w")
    try:
        archive.writestr(member(DESCRIPTION), json.dumps(description, indent=1, default=plain) + "\n")
        for name, array in arrays.items():
            stream = io.BytesIO()
            little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            np.lib.format.write_array(stream, little, version=(1, 0), allow_pickle=False)
            archive.writestr(member(f"{name}.npy"), stream.getvalue())
        archive.close()
    except BaseException:
        archive.fp = None       # Where memory fails in a member, zipfile refuses to close, and hides the error so.
        raise


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
        if not start.startswith(b"PK"):
            raise StateError(f"{path} is not a bnstream state file: it is {kind_of(start)}")
        try:
            directory = directory_of(file)
            names = [entry.name for entry in directory.entries]
            members = members_of(file, directory) if DESCRIPTION in names else {}
        except ValueError as error:
            raise StateError(f"{path} is damaged or truncated: {error}; restore a copy of it, or save it again"
                             ) from error
    if not members:
        raise StateError(f"{path} is not a bnstream state file: it is {kind_of_zip(names)}")
    try:
        description = description_of(members.pop(DESCRIPTION))
        return {name.removesuffix(".npy"): array_of(name, data) for name, data in members.items()}, description
    except ValueError as error:
        raise StateError(f"{path}: {error}") from error


def has_description(file: IO[bytes]) -> bool:
    """Whether an open file is a zip with the member that describes a state."""
    try:
        return any(entry.name == DESCRIPTION for entry in directory_of(file).entries)
    except ValueError:
        return False


def description_of(data: bytes) -> dict[str, Any]:
    """Parse the description; raise ValueError unless it is a JSON object as `write_archive` writes it."""
    try:
        description = json.loads(data.decode("ascii"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{DESCRIPTION} is not JSON in ASCII: {error}") from error
    if not isinstance(description, dict):
        raise ValueError(f"{DESCRIPTION} must hold an object, got {type(description).__name__}")
    level: list[Any] = [description]
    for _ in range(DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list)
                 for inner in (outer.values() if isinstance(outer, dict) else outer)]
    if level:
        raise ValueError(f"{DESCRIPTION} must have at most {DEEPEST} levels of objects and lists, got more")
    return description


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; raise ValueError if a name occurs twice, of which other programs may read another one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has two members of the same name")
    return found


def constant(name: str) -> float:
    """The one value that is not a number and that settings may have."""
    if name != "Infinity":
        raise ValueError(f"expected a number, got {name}")
    return math.inf


def array_of(name: str, data: bytes) -> NDArray[Any]:
    """Parse a member as a .npy array; raise ValueError unless it is one."""
    header = HEADER.match(data)
    if header is None or header.end() != 10 + int.from_bytes(header["length"], "little") or not name.endswith(".npy"):
        raise ValueError(f"{shown(name)} is not a .npy array of int64, uint8, float16, float32 or float64")
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(int(extent) for extent in header["shape"].split(b",") if extent)
    n_bytes = len(data) - header.end()
    if n_bytes != math.prod(shape) * dtype.itemsize or 0 in shape:
        raise ValueError(f"{shown(name)} has {n_bytes} bytes, which do not fit {dtype} of shape {shape}")
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
        arrays = listed([shown(name.removesuffix(".npy")) for name in names], most=8)
        return f"a .npz file of the arrays {arrays}; bnstream convert converts the arrays of another tool to a state"
    return f"a zip file of {listed([*map(shown, names)], most=4)}" if names else "an empty zip file"


def shown(name: str) -> str:
    """The name of a member in a message, in one line: its first characters, those that cannot be printed as escapes."""
    return repr(name)[1:-1][:60]
