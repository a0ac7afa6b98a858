"""Files that may be compressed. Their first bytes show how, whatever their names."""

import bz2
import gzip
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File

MAGIC_BYTES = 16        # At least as many as each pattern below needs.


@contextmanager
def plain(file: File) -> Iterator[Any]:
    """The bytes of a file, decompressed, to be read from the first to the last."""
    with file.open() as content:
        opener = opener_of(content)
        if opener is None:
            yield content
            return
        try:
            with opener(content, file.name) as text:
                yield text
        except lzma.LZMAError as error:
            raise SourceError(f"{file}: {error}") from error


def is_compressed(file: File) -> bool:
    with file.open() as content:
        return opener_of(content) is not None


def opener_of(content: Any) -> Callable[[Any, str], AbstractContextManager[Any]] | None:
    """What decompresses an open file; None if it is not compressed."""
    magic = content.read(MAGIC_BYTES)
    content.seek(0)
    return next((opener for pattern, opener in OPENERS.items() if re.match(pattern, magic, re.DOTALL)), None)


@contextmanager
def zip_member(content: Any, name: str) -> Iterator[Any]:
    """The only file in a zip, apart from what macOS adds."""
    with zipfile.ZipFile(content) as archive:
        members = [member for member in archive.namelist() if not is_clutter(member)]
        if len(members) != 1:
            found = f": {', '.join(members[:5])}{', ...' if len(members) > 5 else ''}" if members else ""
            raise SourceError(f"{name} holds {len(members)} files{found}; expected one: unpack it, and give the folder")
        with archive.open(members[0]) as text:
            yield text


def is_clutter(member: str) -> bool:
    """Whether a member of a zip is a folder, or what macOS adds."""
    *folders, base = member.split("/")
    return not base or "__MACOSX" in folders or base == ".DS_Store"


# What opens a compressed file, by a pattern of its first bytes.
OPENERS: dict[bytes, Callable[[Any, str], AbstractContextManager[Any]]] = {
    rb"\x1f\x8b": lambda content, _: gzip.GzipFile(fileobj=content),
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": lambda content, _: bz2.BZ2File(content),
    rb"\xfd7zXZ\0": lambda content, _: lzma.LZMAFile(content),         # noqa: SIM115
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": lambda content, _: pa.CompressedInputStream(content, "zstd"),
    rb"PK(\x03\x04|\x05\x06)": zip_member,
}
