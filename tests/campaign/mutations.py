"""Mutations of state files: of what they describe, of their arrays, of the zip file, with right checksums.

A mutation takes a `Forged` and a `random.Random`, and changes the first. `Forged.bytes()` is the file.
"""

import copy
import functools
import io
import json
import math
import struct
import zipfile
import zlib
from random import Random

import numpy as np

DESCRIPTION = "bnstream.json"
INTS = (0, 1, -1, 2, 3, 63, 64, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64,
        10**30)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-5, 5e-324, 1e-300, 1e300, 1.7976931348623157e308, math.inf, -math.inf, math.nan,
          2.0**53, 2.0**53 + 2, 700.0)
TEXTS = ("", "a", "\x00", "a\x00b", "\n", "\x1b[2J", "\ud800", "\udfff", "\u202e", "\N{PILE OF POO}", "../../x",
         "x" * 5000, "0", "None", "nan", "f8", ",f8", "(2,)f8", "M8[s/0]", "raise", "omit", "propagate", "int", "str",
         "missing", "float32", "float64", "bfloat16", "moments", "batchnorm", "groups", "quantiles", "min", "max",
         "skewness", "kurtosis")
VALUES = (None, True, False, *INTS, *FLOATS, *TEXTS, [], {}, [0], [None], [[]], [0, 1], ["a", "a"], {"": 0}, [1] * 70)
HEADERS = ("|O", "<f8", ">f8", "=f8", "|f8", "<f4", "<f2", "<f16", "<c16", "<i8", "<u8", "|u1", "|b1", "|V8", "<U2",
           "|S8", "<M8[s]", "<M8[s/0]", ",f8", "(2,)<f8", "<f8,<f8", "f8" * 400, "int", "\x00", "<f\u0668")
SHAPES = ("()", "(0,)", "(-1,)", "(1,)", "(3,)", "(3, 1)", "(1, 3)", "(3,0)", "3", "[3]", "(3)", "(1 2,)", "(3,,)",
          "(+3,)", "(0x3,)", "(03,)", "(3L,)", "(True,)", "(3.0,)", "(None,)", "(9223372036854775807,)",
          "(4294967296, 4294967296)", "(" + "1, " * 64 + "1)", "(" + "1, " * 32 + "1)", "(" + "9" * 1000 + ",)",
          "(" * 900 + ")" * 900)
NAMES = (b"x.npy", b"../x.npy", b"/n.npy", b"n", b"n.npy\x00", b".npy", b"", b"a\nb.npy", b"\xff.npy", b"\x1b[2J.npy",
         b"bnstream.json", b"x" * 60000 + b".npy", "\u00e9.npy".encode())
# The fields of the records of a zip file, which follow the signature, and their sizes.
FIELDS = {"H": 2, "I": 4, "Q": 8}
RECORDS = {b"PK\x03\x04": "HHHHHIIIHH", b"PK\x01\x02": "HHHHHHIIIHHHHHII", b"PK\x05\x06": "HHHHIIH",
           b"PK\x06\x06": "QHHIIQQQQ", b"PK\x06\x07": "IQI", b"PK\x07\x08": "III"}


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


@functools.lru_cache(100)
def loaded(whole):
    """The array of an .npy file. Most members of two files are equal, and NumPy takes long."""
    return np.load(io.BytesIO(whole), allow_pickle=False)


def contents(file):
    """What a file holds, read by zipfile, json and NumPy, which know nothing of ours."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        assert len(set(names)) == len(names)
        description = json.loads(archive.read(DESCRIPTION))     # read verifies checksums
        arrays = {name.removesuffix(".npy"): loaded(archive.read(name)) for name in names if name != DESCRIPTION}
    return description, arrays


class Forged:
    """A state file in parts that can be changed."""

    def __init__(self, whole):
        self.whole = whole
        self.description, self.arrays = contents(io.BytesIO(whole))
        self.plain = [(f"{name}.npy".encode(), npy(array)) for name, array in self.arrays.items()]
        self.text, self.members, self.after = indented(self.description), self.plain, []

    def fresh(self):
        """A copy that may be changed, but for its description, which is replaced."""
        made = copy.copy(self)
        made.members, made.after = [*self.members], [*self.after]
        return made

    def bytes(self):
        """The file, with right checksums, then with the changes of the whole."""
        whole = zipped([(DESCRIPTION.encode(), self.text), *self.members])
        for change in self.after:
            whole = change(whole)
        return whole


def indented(description):
    """The text of a description, to the byte as `write` writes it."""
    return f"{json.dumps(description, indent=1)}\n".encode()


def zipped(members):
    """A zip file of names and bytes, some of which may be the same, in less time than zipfile.

    With names in ASCII, it has the bytes that `write_archive` writes.
    """
    parts, entries, at = [], [], 0
    for name, data in members:
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), 0)
        parts += [b"PK\x03\x04", fields, name, data]
        entries += [b"PK\x01\x02\x14\x03", fields, struct.pack("<HHHII", 0, 0, 0, 0o600 << 16, at), name]
        at += 30 + len(name) + len(data)
    directory = b"".join(entries)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(members), len(members), len(directory), at, 0)
    return b"".join([*parts, directory, end])


def places(value):
    """Where in a description a value can be changed: pairs of an object or a list, and a name or an index."""
    found, left = [], [value]
    while left:
        outer = left.pop()
        for key in (outer if isinstance(outer, dict) else range(min(len(outer), 50))):
            if key != "conventions":
                found.append((outer, key))
                if isinstance(outer[key], dict | list):
                    left.append(outer[key])
    return found


def nearby(value, rng):
    """A value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, -value, value * 2, float(value), value << 64])
    if isinstance(value, float):
        return rng.choice([-value, value * 2, value / 3, 0.0, 1.0, math.nextafter(value, 9)])
    if isinstance(value, str):
        return rng.choice([value + "a", value[:-1], value.upper(), value + "\x00", value + "\ud800", [value]])
    if isinstance(value, list):
        return rng.choice([value[::-1], value[:-1], value * 2, [value], [*value, None], {"a": value},
                           sorted(value, key=str)])
    return rng.choice(VALUES)


def describe(forged, others, rng):
    """Change one value of the description."""
    forged.description = copy.deepcopy(forged.description)
    found = places(forged.description)
    if not found:       # Many changes have left nothing.
        forged.description = copy.deepcopy(rng.choice(others).description)
        found = places(forged.description)
    outer, key = rng.choice(found)
    way = rng.randrange(6)
    if way == 0:
        outer[key] = copy.deepcopy(rng.choice(VALUES))
    elif way == 1:
        outer[key] = nearby(outer[key], rng)
    elif way == 2:
        del outer[key]
    elif way == 3 and isinstance(outer, dict):
        name = rng.choice(("per_channel", "track", "exact", "names", "pooled", rng.choice(TEXTS)))
        outer[name] = copy.deepcopy(rng.choice(VALUES))
    elif way == 4:
        theirs = [(o, k) for o, k in places(rng.choice(others).description) if k == key]
        if theirs:
            o, k = rng.choice(theirs)
            outer[key] = copy.deepcopy(o[k])
    else:
        o, k = rng.choice(found)
        value = copy.deepcopy(o[k])
        outer[key], o[k] = value, copy.deepcopy(outer[key])
    forged.text = indented(forged.description)


def deep(text, rng):
    n = rng.choice((15, 25, 300, 900, 990, 5000))
    nest = rng.choice((b"[" * n + b"]" * n, b'{"a":' * n + b"1" + b"}" * n))
    return text.replace(b'"bnstream",', b'"bnstream", "more": ' + nest + b",", 1)


def digits(text, rng):
    more = rng.choice((b"0" * 30, b"0" * 5000, b"e5", b"e999999999", b".0", b".", b"_0"))
    return text.replace(b": 1", b": 1" + more, 1)


TEXT_CHANGES = (
    lambda text, rng: text.decode().encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"))),
    lambda text, rng: json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "surrogatepass"),
    lambda text, rng: text.replace(b"{", b'{"kind": "moments", "shape": [3], "version": 1, ', 1),
    lambda text, rng: text.rstrip()[:-1] + b', "kind": "moments", "version": 9}',
    lambda text, rng: text.replace(b"1", rng.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"01")), 1),
    deep, digits,
    lambda text, rng: text + rng.choice((b"\x00", b" " * 1000, b"{}", b"//", b"\xff", b",")),
    lambda text, rng: rng.choice((b"", b"null", b"[]", b"3", b'"a"', b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00",
                                  b"{" * 5000)),
    lambda text, rng: b"\x00" * rng.randrange(4) + text,
)


def write_text(forged, others, rng):
    """Change the text of the description."""
    forged.text = rng.choice(TEXT_CHANGES)(json.dumps(forged.description).encode(), rng)


def element(forged, others, rng):
    """Change some values of an array."""
    if not forged.members:
        return
    i = rng.randrange(len(forged.members))
    name, data = forged.members[i]
    start = 10 + int.from_bytes(data[8:10], "little")
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if len(data) < start + 8:
            return
        at = start + 8 * rng.randrange((len(data) - start) // 8)
        way = rng.randrange(5)
        if way == 0:
            struct.pack_into("<d", data, at, rng.choice(FLOATS))
        elif way == 1:
            struct.pack_into("<q", data, at, rng.choice([value for value in INTS if value < 2**63]))
        elif way == 2:
            data[at + rng.randrange(8)] ^= 1 << rng.randrange(8)
        elif way == 3:
            value, = struct.unpack_from("<d", data, at)
            struct.pack_into("<d", data, at, rng.choice([-value, math.nextafter(value, math.inf), value + 1]))
        else:
            data[at:at + 8] = rng.choice(forged.members)[1][-8:]
    forged.members[i] = name, bytes(data)


def members(forged, others, rng):
    """Leave out, add, swap, rename or replace arrays."""
    if not forged.members:
        forged.members = [*rng.choice(others).plain]
        return
    i, j = (rng.randrange(len(forged.members)) for _ in range(2))
    (a, x), (b, y) = forged.members[i], forged.members[j]
    theirs = rng.choice(others).plain
    way = rng.randrange(8)
    if way == 0:
        del forged.members[i]
    elif way == 1:
        forged.members[i] = a, y
    elif way == 2:
        forged.members[i], forged.members[j] = (a, y), (b, x)
    elif way == 3:
        new = rng.choice((*NAMES, a.upper(), a + b".npy", b"pooled_" + a))
        forged.members[i:i + rng.randrange(2)] = [(new, x)]
    elif way == 4:
        forged.members.append((a, y))
    elif way == 5:
        forged.members[i], forged.members[j] = (b, y), (a, x)
    elif way == 6 and theirs:
        forged.members = [(name, dict(theirs).get(name, data)) for name, data in forged.members]
    elif theirs:
        forged.members[i] = a, rng.choice(theirs)[1]


def header(forged, others, rng):
    """Change the header of an array, or its dtype or shape."""
    if not forged.members:
        return
    i = rng.randrange(len(forged.members))
    name, _ = forged.members[i]
    array = forged.arrays.get(name.decode("latin-1").removesuffix(".npy"))
    if array is None:
        return
    way = rng.randrange(4)
    if way == 0:
        kind = rng.choice(("f2", "<f4", "<f8", ">f8", "<i8", "|u1", "<i4", "<u8", "<c16", "?"))
        with np.errstate(all="ignore"):
            forged.members[i] = name, npy(np.nan_to_num(array).astype(kind))
        return
    if way == 1:
        forged.members[i] = name, npy(np.asfortranarray(rng.choice((
            array[np.newaxis], array.ravel(), array[..., np.newaxis], array[::-1] if array.ndim else array,
            np.concatenate([array.ravel()] * 2), array[:0] if array.ndim else array))))
        return
    known = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    text = repr(known)
    if way == 2:
        text = text.replace(*rng.choice((
            (repr(array.dtype.str), repr(rng.choice(HEADERS))), (repr(array.shape), rng.choice(SHAPES)),
            ("False", rng.choice(("True", "0", "None"))), ("'", '"'), (", ", ","), ("}", ", }"),
            ("}", "}" + " " * 5000),
        )))
    else:
        text = rng.choice((text + ",", "{}", "", "[" * 900, repr({**known, "x": 1}), "__import__('os')"))
    end = rng.choice((b"\n", b"", b" \n", b"\n\n", b"\x00\n"))
    text = text.encode("utf-8", "surrogatepass") + end
    version = rng.choice((b"\x01\x00",) * 4 + (b"\x02\x00", b"\x03\x00", b"\x00\x00", b"\x01\x01"))
    size = struct.pack("<I" if version in (b"\x02\x00", b"\x03\x00") else "<H", min(len(text), 65535))
    forged.members[i] = name, b"\x93NUMPY" + version + size + text + array.tobytes()


def record(forged, others, rng):
    """Change one field of one record of the zip file."""
    seed = rng.random()
    forged.after.append(lambda whole: patched(whole, Random(seed)))


def patched(whole, rng):
    signature = rng.choice([*RECORDS])
    found, at = [], whole.find(signature)
    while at >= 0:
        found.append(at)
        at = whole.find(signature, at + 1)
    if not found:
        return whole
    at, sizes = rng.choice(found), [FIELDS[kind] for kind in RECORDS[signature]]
    i = rng.randrange(-1, len(sizes))
    if i < 0:
        return whole[:at] + rng.choice([*RECORDS]) + whole[at + 4:]
    at, size = at + 4 + sum(sizes[:i]), sizes[i]
    if at + size > len(whole):
        return whole
    old = int.from_bytes(whole[at:at + size], "little")
    n_bits = 8 * size
    new = rng.choice((0, 1, old + 1, old - 1, old ^ 1 << rng.randrange(n_bits), 8, 12, 99, 2**n_bits - 1,
                      2**(n_bits - 1), len(whole)))
    return whole[:at] + (new % 2**n_bits).to_bytes(size, "little") + whole[at + size:]


def deflated(whole):
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return stream.getvalue()


def reordered(whole):
    """The directory in another order than the members."""
    first = whole.find(b"PK\x01\x02")
    second, end = whole.find(b"PK\x01\x02", first + 1), whole.rfind(b"PK\x05\x06")
    if not 0 <= first < second < end:
        return whole
    return whole[:first] + whole[second:end] + whole[first:second] + whole[end:]


def archive(forged, others, rng):
    """Put bytes before, within and after the zip file, compress it, or reorder its directory."""
    more = rng.choice((b"\x00", b"PK\x03\x04", b"#!/bin/sh\n", b"x" * 1000))
    at = rng.random()

    def inserted(whole):
        i = int(at * len(whole))
        return whole[:i] + more + whole[i:]

    forged.after.append(rng.choice((
        lambda whole: more + whole, lambda whole: whole + more, inserted, lambda _: deflated(forged.whole), reordered,
        lambda whole: whole[:-2] + len(more).to_bytes(2, "little") + more, lambda whole: whole + whole,
        lambda whole: whole[:int(at * len(whole))],
    )))


def some_bytes(forged, others, rng):
    """Change bytes of the file as it was written, with checksums that are wrong."""
    changes = [(rng.randrange(len(forged.whole)), rng.randrange(256)) for _ in range(rng.choice((1, 1, 1, 2, 8)))]

    def changed(_):
        data = bytearray(forged.whole)
        for at, value in changes:
            data[at] = value
        return bytes(data)

    forged.after.append(changed)


MUTATIONS = (describe, describe, describe, write_text, element, element, members, header, record, record, archive,
             some_bytes)


def mutated(forged, others, rng: Random):
    """A file with one to three more changes, and their names."""
    made = forged.fresh()
    chosen = rng.choices(MUTATIONS, k=rng.choice((1, 1, 1, 2, 3)))
    for change in chosen:
        change(made, others, rng)
    return made, [change.__name__ for change in chosen]
