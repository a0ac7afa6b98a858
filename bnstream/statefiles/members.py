"""The members of a zip file as `write_archive` writes it, by its own records, none of which is trusted.

    each member     its record, its name and its bytes, which are not compressed; if the file was written to a pipe, a
                    second record of the checksum and the sizes, which the first one cannot know
    directory       an entry for each member, in their order
    end             where the directory is; before it the same in 64 bits, if there are many members or bytes

These follow one after another, from the first byte of the file to the last, and what is written twice agrees. The date,
the system and the attributes of a member have no meaning.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import IO, NamedTuple

MEMBER = struct.Struct("<4sHHH4xIIIHH")         # version, flags, method, crc, n_stored, n_bytes, n_name, n_extra
ENTRY = struct.Struct("<4s2xHHH4xIIIHHH8xI")    # the same, n_comment, start
END = struct.Struct("<4sHHHHIIH")               # disks, entries on this disk and in all, n_bytes, start, n_comment
WIDE_END = struct.Struct("<4sQ4xIIQQQQ")        # its own size less 12, and the same
LOCATOR = struct.Struct("<4sIQI")               # disk, start of WIDE_END, number of disks
VERSIONS = 10, 20, 45       # of the format that a reader must know: the first, that of folders, that of 64 bits
STREAMED = 8        # The flag of a member whose checksum and sizes follow it.
WIDE = 2**32 - 1    # stands for a number in 64 bits elsewhere


DISAGREES = "the parts of its directory disagree"


class Entry(NamedTuple):
    """What the directory says of a member."""

    name: str
    version: int
    flags: int
    method: int
    crc: int
    n_stored: int
    n_bytes: int
    start: int
    more: bytes
    """What follows the name: nothing, or numbers in 64 bits."""


class Directory(NamedTuple):
    """The entries of a zip file, and where the first of them begins."""

    entries: list[Entry]
    start: int


def directory_of(file: IO[bytes]) -> Directory:
    """Read the directory of an open zip file, which may be any.

    Raises
    ------
    ValueError
        If it has none at its end, or is one of several files.
    """
    n_file = file.seek(0, io.SEEK_END)
    file.seek(max(0, n_file - END.size - LOCATOR.size - WIDE_END.size))
    ends = file.read(END.size + LOCATOR.size + WIDE_END.size)
    require(len(ends) >= END.size and ends[-END.size:].startswith(b"PK\x05\x06"), "it has no directory at its end")
    first, last = END.unpack(ends[-END.size:]), n_file - END.size
    _, *disks, n_here, n_entries, n_bytes, start, n_comment = first
    wide = ends[-END.size - LOCATOR.size:].startswith(b"PK\x06\x07")
    if wide:
        last -= LOCATOR.size + WIDE_END.size
        require(last >= 0 and ends.startswith(b"PK\x06\x06"), "the end of its directory in 64 bits is missing")
        require(LOCATOR.unpack(ends[-END.size - LOCATOR.size:-END.size]) == (b"PK\x06\x07", 0, last, 1), DISAGREES)
        _, size, *disks, n_here, n_entries, n_bytes, start = WIDE_END.unpack(ends[:WIDE_END.size])
        narrow = [min(n_entries, 2**16 - 1)] * 2 + [min(n_bytes, WIDE), min(start, WIDE)]
        require(size == WIDE_END.size - 12 and [*first[1:7]] == [0, 0, *narrow], DISAGREES)
    require([*disks, n_comment] == [0, 0, 0], "it is one of several, or has a comment")
    require(n_here == n_entries and start + n_bytes == last, DISAGREES)
    file.seek(start)
    return Directory(entries_in(file.read(n_bytes), n_entries), start)


def entries_in(directory: bytes, n_entries: int) -> list[Entry]:
    """The entries of a directory."""
    entries, at = [], 0
    for _ in range(n_entries):
        require(directory.startswith(b"PK\x01\x02", at) and at + ENTRY.size <= len(directory), DISAGREES)
        _, *known, n_name, n_extra, n_comment, start = ENTRY.unpack_from(directory, at)
        name = at + ENTRY.size
        rest = name + n_name
        at = rest + n_extra + n_comment
        text = directory[name:rest].decode("utf-8", "replace")
        entries.append(Entry._make([text, *known, start, directory[rest:at]]))
    require(at == len(directory), DISAGREES)
    return entries


def members_of(file: IO[bytes], directory: Directory) -> dict[str, bytes]:
    """Read all members of an open zip file by name, and verify their checksums.

    Raises
    ------
    ValueError
        If a member is damaged or compressed, or the file holds anything that `write_archive` does not write.
    """
    members: dict[str, bytes] = {}
    file.seek(0)
    for entry in map(in_full, directory.entries):
        require(entry.name not in members, "two members have the same name")
        # A few compressed bytes could expand to any number.
        require(entry.method == 0, "a member is compressed; those of state files are not")
        require(entry.flags in (0, STREAMED) and entry.version in VERSIONS,
                f"expected a member of version 10, 20 or 45 with flags 0 or {STREAMED}, got version {entry.version}, "
                f"flags {entry.flags}")
        require(entry.start == file.tell(), "a member does not begin where the one before ends")
        require(entry.n_stored == entry.n_bytes <= directory.start - entry.start,
                "the sizes of the members add up to more than the file")
        members[entry.name] = member_of(file, entry)
    require(file.tell() == directory.start, "there are bytes between its members and its directory")
    return members


def in_full(entry: Entry) -> Entry:
    """The entry with the numbers that follow its name, in 64 bits, in place of `WIDE`."""
    wide = [name for name in ("n_bytes", "n_stored", "start") if getattr(entry, name) == WIDE]
    numbers = struct.Struct(f"<HH{len(wide)}Q")
    if not wide:
        require(not entry.more, DISAGREES)
        return entry
    require(len(entry.more) == numbers.size, DISAGREES)
    kind, size, *values = numbers.unpack(entry.more)
    require((kind, size) == (1, numbers.size - 4), DISAGREES)
    return entry._replace(**dict(zip(wide, values, strict=True)))


def member_of(file: IO[bytes], entry: Entry) -> bytes:
    """Read the member that begins here; raise ValueError unless it is as its entry says."""
    disagrees = f"the records of {entry.name!r:.60} disagree"
    record = file.read(MEMBER.size)
    require(len(record) == MEMBER.size, disagrees)
    signature, version, flags, method, *found, n_name, n_extra = MEMBER.unpack(record)
    name, extra = file.read(n_name), file.read(n_extra)
    require((signature, flags, method, name) == (b"PK\x03\x04", entry.flags, 0, entry.name.encode()), disagrees)
    require(version in VERSIONS, disagrees)
    sizes = [entry.n_stored, entry.n_bytes]
    first = [0, 0, 0] if flags == STREAMED else [entry.crc, *sizes]
    require(found in (first, [first[0], WIDE, WIDE] if extra else first), disagrees)
    require(extra in (b"", struct.pack("<HHQQ", 1, 16, *first[1:])), disagrees)
    data = file.read(entry.n_bytes)
    require(zlib.crc32(data) == entry.crc, f"Bad CRC-32 for file {entry.name!r:.60}")
    if flags == STREAMED:
        after = struct.pack("<4sIQQ" if extra else "<4sIII", b"PK\x07\x08", entry.crc, *sizes)
        require(file.read(len(after)) == after, disagrees)
    return data


def require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
