"""Files that are built in another way than ours are refused, with right checksums too; all of our own ways are read."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from support.forgery import forge, npy, zipped
from support.states import SAVED, bits, holed, trained

from bnstream.statefiles import StateError, is_state, load, save
from bnstream.statefiles.archive import write_archive

PARTS = {"member": b"PK\x03\x04", "entry": b"PK\x01\x02", "end": b"PK\x05\x06", "wide end": b"PK\x06\x06",
         "locator": b"PK\x06\x07", "second": b"PK\x07\x08"}
DISAGREE = "the parts of its directory disagree"
RECORDS = "the records of 'bnstream.json' disagree"
KIND = "expected a member of version 10, 20 or 45 with flags 0 or 8, got version"
SIZES = "the sizes of the members add up to more than the file"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


class Pipe(io.RawIOBase):
    """A file that cannot be sought."""

    def __init__(self):
        self.whole = b""

    def writable(self):
        return True

    def write(self, data):
        self.whole += bytes(data)
        return len(data)


@pytest.fixture
def small_limits(monkeypatch):
    """Numbers are written in 64 bits from far smaller ones on."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)


def rewritten(path):
    """The content of a state file as it is written to a pipe."""
    with zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read("bnstream.json"))
    pipe = Pipe()
    with np.load(path) as arrays:
        write_archive(pipe, {name: arrays[name] for name in arrays if name != "bnstream.json"}, description)
    return pipe.whole


@pytest.mark.parametrize("name", ["columns", "pooled"])
def test_written_to_a_pipe(name, path):
    save(path, SAVED[name]())
    path.write_bytes(rewritten(path))
    assert PARTS["second"] in path.read_bytes()
    assert bits(load(path)) == bits(SAVED[name]())


@pytest.mark.parametrize("piped", [False, True])
def test_written_in_64_bits(piped, path, small_limits):
    save(path, trained())
    if piped:
        path.write_bytes(rewritten(path))
    whole = path.read_bytes()
    assert PARTS["wide end"] in whole
    assert PARTS["locator"] in whole
    assert bits(load(path)) == bits(trained())
    assert is_state(path)


def put(whole, part, offset, kind, value, which=0):
    """The file with another value in one field of a record."""
    at = whole.index(PARTS[part])
    for _ in range(which):
        at = whole.index(PARTS[part], at + 1)
    at += offset
    return whole[:at] + struct.pack(f"<{kind}", value) + whole[at + struct.calcsize(kind):]


@pytest.mark.parametrize(("part", "offset", "kind", "value", "message"), [
    ("member", 0, "4s", b"PK\x01\x02", RECORDS), ("member", 4, "H", 99, RECORDS), ("member", 6, "H", 1, RECORDS),
    ("member", 8, "H", 8, RECORDS), ("member", 14, "I", 7, RECORDS), ("member", 18, "I", 7, RECORDS),
    ("member", 22, "I", 7, RECORDS), ("member", 26, "H", 12, RECORDS), ("member", 28, "H", 1, RECORDS),
    ("member", 30, "c", b"B", RECORDS),
    ("entry", 0, "4s", b"PK\x03\x04", DISAGREE), ("entry", 6, "H", 99, KIND), ("entry", 8, "H", 1, KIND),
    ("entry", 8, "H", 8, RECORDS), ("entry", 8, "H", 0x800, KIND), ("entry", 10, "H", 8, "a member is compressed"),
    ("entry", 10, "H", 99, "a member is compressed"), ("entry", 16, "I", 7, RECORDS), ("entry", 20, "I", 7, SIZES),
    ("entry", 24, "I", 7, SIZES), ("entry", 24, "I", 2**32 - 1, DISAGREE), ("entry", 28, "H", 9, DISAGREE),
    ("entry", 28, "H", 2**16 - 1, DISAGREE), ("entry", 30, "H", 20, DISAGREE), ("entry", 32, "H", 20, DISAGREE),
    ("entry", 42, "I", 7, "a member does not begin where the one before ends"),
    ("end", 4, "H", 1, "it is one of several"), ("end", 6, "H", 1, "it is one of several"),
    ("end", 8, "H", 1, DISAGREE), ("end", 10, "H", 2, DISAGREE), ("end", 12, "I", 7, DISAGREE),
    ("end", 16, "I", 7, DISAGREE), ("end", 16, "I", 2**32 - 1, DISAGREE),
    ("end", 20, "H", 1, "it is one of several, or has a comment"),
])
def test_records_that_disagree(part, offset, kind, value, message, path):
    save(path, holed())
    path.write_bytes(put(path.read_bytes(), part, offset, kind, value))
    with pytest.raises(StateError, match=f"is damaged or truncated: {message}.*; restore a copy of it, or save it"):
        load(path)


@pytest.mark.parametrize(("part", "offset", "kind", "value"), [
    ("wide end", 0, "4s", b"PK\x06\x07"), ("wide end", 4, "Q", 45), ("wide end", 16, "I", 1),
    ("wide end", 24, "Q", 1), ("wide end", 32, "Q", 2**40), ("wide end", 40, "Q", 2**63), ("wide end", 48, "Q", 0),
    ("locator", 4, "I", 1), ("locator", 8, "Q", 0), ("locator", 16, "I", 2), ("end", 8, "H", 0), ("end", 12, "I", 0),
])
def test_ends_in_64_bits_that_disagree(part, offset, kind, value, path, small_limits):
    save(path, holed())
    path.write_bytes(put(path.read_bytes(), part, offset, kind, value))
    with pytest.raises(StateError, match=r"is damaged or truncated: (the parts|the end|it is one of several)"):
        load(path)


def test_members_of_the_first_version(path):
    """Programs such as Info-ZIP write it for members that are not compressed."""
    save(path, holed())
    whole = path.read_bytes()
    for which in range(whole.count(PARTS["entry"])):
        whole = put(put(whole, "member", 4, "H", 10, which), "entry", 6, "H", 10, which)
    path.write_bytes(whole)
    assert bits(load(path)) == bits(holed())


def test_more_of_an_entry(path):
    """Nothing follows the name of an entry but numbers in 64 bits, where there are some."""
    save(path, holed())
    whole = path.read_bytes()
    at, end = (whole.index(PARTS[part]) for part in ("entry", "end"))
    name = at + 46 + len("bnstream.json")
    for offset in (30, 32):     # an extra field, a comment
        longer = put(put(whole, "entry", offset, "H", 4), "end", 12, "I", end - at + 4)
        path.write_bytes(longer[:name] + b"\xfe\xca\0\0" + longer[name:])
        with pytest.raises(StateError, match=DISAGREE):
            load(path)


def test_numbers_in_64_bits_of_another_kind(path, small_limits):
    save(path, holed())
    whole = path.read_bytes()
    # Sizes stand for numbers in 64 bits here, in a field of kind 1 after the name.
    at = whole.index(PARTS["entry"]) + 46 + len("bnstream.json")
    for offset in (0, 2):
        path.write_bytes(whole[:at + offset] + struct.pack("<H", 7) + whole[at + offset + 2:])
        with pytest.raises(StateError, match=DISAGREE):
            load(path)


def test_second_records_that_disagree(path):
    save(path, holed())
    whole = rewritten(path)
    for offset in (4, 8, 12):
        path.write_bytes(put(whole, "second", offset, "I", 7))
        with pytest.raises(StateError, match=RECORDS):
            load(path)


@pytest.mark.parametrize(("change", "message"), [
    (lambda whole, first: b"PK\x03\x04" + whole, DISAGREE),
    (lambda whole, first: whole + b"\0", "it has no directory at its end"),
    (lambda whole, first: whole[:-2] + b"\x03\0abc", "it has no directory at its end"),
    (lambda whole, first: put(whole[:first] + b"abc" + whole[first:], "end", 16, "I", first + 3),
     "there are bytes between its members and its directory"),
    (lambda whole, first: put(put(whole, "end", 8, "H", 5), "end", 10, "H", 5), DISAGREE),
    (lambda whole, first: put(whole, "entry", 42, "I", 0, which=1), "a member does not begin where the one before"),
])
def test_bytes_of_no_member(change, message, path):
    save(path, holed())
    whole = path.read_bytes()
    path.write_bytes(change(whole, whole.index(PARTS["entry"])))
    with pytest.raises(StateError, match=f"is damaged or truncated: {message}"):
        load(path)


def test_names_of_strangers_are_shown_in_one_line(path):
    names = ["a\nb.npy", "\x1b[2J.npy", "x" * 60000 + ".npy"]
    path.write_bytes(zipped(dict.fromkeys(names, b"")))
    with pytest.raises(StateError, match=r"it is a .npz file of the arrays a\\nb, \\x1b\[2J, x{60}; bnstream") as shown:
        load(path)
    assert str(shown.value).isprintable()
    for name in names:
        save(path, holed())
        forge(path, arrays={name: npy(np.ones(3))})
        with pytest.raises(StateError, match=r"does not have the arrays \['[^\n]*\]$"):
            load(path)


@pytest.mark.parametrize(("encoded", "message"), [
    (lambda text: text.encode("utf-16"), "is not JSON in ASCII: 'ascii' codec can't decode byte"),
    (lambda text: text.encode("utf-16-le"), "is not JSON in ASCII"),
    (lambda text: text.encode("utf-8-sig"), "is not JSON in ASCII"),
    (lambda text: text.replace("omit", "\u00e9").encode(), "is not JSON in ASCII"),
    (lambda text: b'{"kind": "moments", ' + text.encode()[1:], "an object has two members of the same name"),
    (lambda text: text.replace('"shape": [', '"shape": [NaN, ').encode(), "expected a number, got NaN"),
    (lambda text: text.replace('"shape": [', '"shape": [-Infinity, ').encode(), "expected a number, got -Infinity"),
    *((lambda text, n=n: text.replace('"names": [', '"names": [' + "[" * n + "]" * n + ", ").encode(),
       "must have at most 20 levels of objects and lists, got more") for n in (25, 900)),
    (lambda text: text.encode() + b"{}", "is not JSON in ASCII: Extra data"),
])
def test_descriptions_that_are_written_in_another_way(encoded, message, path):
    save(path, holed())
    with zipfile.ZipFile(path) as archive:
        text = archive.read("bnstream.json").decode()
    forge(path, text=encoded(text))
    with pytest.raises(StateError, match=f"bnstream.json {message}|bnstream.json is not JSON in ASCII: {message}"):
        load(path)


def test_settings_may_be_infinite(path):
    save(path, SAVED["renorm"]())
    assert load(path).r_max == np.inf


@pytest.mark.parametrize("padding", [100, 60000])
def test_a_header_with_room_for_more(padding, path):
    save(path, holed())
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }" + b" " * padding + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(24)
    forge(path, arrays={"mean.npy": data})
    with pytest.raises(StateError, match=r"mean\.npy is not a \.npy array"):
        load(path)
