"""Headers of .npy files: what NumPy writes is read, and a hostile one is refused without being evaluated."""

import io

import numpy as np
import pytest
from numpy.lib import format as npy

from bnstream import SourceError, fit
from bnstream.streams.sources.arrays.npyheader import CODES, read_header


def with_header(text, version=1):
    data = text.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(data).to_bytes(2 if version == 1 else 4, "little") + data


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4), (1,) * 32])
def test_what_numpy_writes(code, shape):
    for order in "<>":
        for version in ((1, 0), (2, 0), (3, 0)):
            for x in (np.zeros(shape, order + code), np.zeros(shape[::-1], order + code).T):
                file = io.BytesIO()
                npy.write_array(file, x, version=version)
                file.seek(0)
                fortran = x.flags.fnc
                assert read_header(file, "x") == (x.shape, fortran, x.dtype)
                assert file.tell() == file.seek(0, 2) - x.nbytes


def test_what_others_write():
    for text in ("{'shape': (3, 4), 'descr': '<f4', 'fortran_order': False}",
                 '{"descr": "<f4", "fortran_order": False, "shape": (3, 4), }', "{'descr':'<f4','fortran_order':False,"
                 "'shape':(3L,4L)}  \n"):
        assert read_header(io.BytesIO(with_header(text)), "x") == ((3, 4), False, np.dtype("f4"))


@pytest.mark.parametrize("descr", ["M8[s/0]", "(1,f4", "f4," * 9000, "<f16", "<c8", "|O", "<U4", ",f8", ""])
def test_hostile_dtypes(descr, tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(with_header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (2, 2), }}") + bytes(64))
    with pytest.raises(SourceError) as raised:
        fit(path)
    assert str(raised.value) == f"{path} has dtype {descr[:60]}; expected real numbers of at most 64 bits"


@pytest.mark.parametrize(("data", "message"), [
    (b"", "x.npy is not an array of numbers in .npy format, or is truncated: it does not begin as a .npy file"),
    (b"\x93NUMPY\x01", "does not begin"), (b"\x93NUMPY\x07\x00", "version 1, 2"),
    (with_header("{'descr': '<f4'}"), "does not give 'descr', 'fortran_order' and 'shape'"),
    (with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}"), r"dtype \[\('a', '<f4'\)\]"),
    (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}"), "does not give"),
    (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 30 + ",)}"), "what memory can hold"),
    (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}"),
     "its shape has 1 axes, the longest of 9{60}; expected what memory can hold"),
    *((with_header("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}"), "does not give")
      for shape in ("(1 2,)", "(1,,2)", "(,)", "(1L2,)", "(L,)")),
    (with_header("{'descr': '<f\n\x1b[2J', 'fortran_order': False, 'shape': (2,)}"),
     r"has dtype <f\\n\\x1b\[2J; expected"),
    (with_header("(" * 5000), "does not give"), (with_header("{" * 60000, 2), "does not give"),
    (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "more than 65,536"),
    (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}")[:-9], "ends within its header"),
])
def test_hostile_headers(data, message):
    with pytest.raises(SourceError, match=message):
        read_header(io.BytesIO(data), "x.npy")
