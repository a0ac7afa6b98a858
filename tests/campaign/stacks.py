"""Stacks of a process without memory, and what is known of where it ends, or goes on wrongly."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

# What is no fault of bnstream: a pattern of the message and the stacks, and what it is.
KNOWN = {
    r"the crash: < libpython\w*:PyContextVar_Set": "CPython 3.11: PyContextVar_Set uses a token that was not made",
    r"SystemError: .*(NpyIter_AdvancedNew|nditer|PyArray_MapIterNew)": "NumPy 2.4: iterators fail without an error",
    r"raises SystemError: <built-in function unravel_index>": "NumPy 2.4: unravel_index returns beside an exception",
    r"failed: < _multiarray_umath:(NpyIter_|PyArray_MapIterNew)\w*.*the crash: < libpython\w*:PyException_SetTraceback":
        "NumPy 2.4: an iterator fails without an exception, which a finally of Cython must have",
    r"failed: < _multiarray_umath:npyiter_allocate_buffers.*the crash: < _multiarray_umath:":
        "NumPy 2.4: array_subscript goes on without the buffers that NpyIter_Reset could not make",
    r"raises SystemError: <built-in method __reduce__ of numpy": "NumPy 2.4: __reduce__ returns beside an exception",
    r"raises SystemError: (<function BufferedSubFile|error return without exception.* < libpython\w*:take_ownership)":
        "CPython 3.11: a call fails without an exception",
    r"can't allocate (read |write )?lock":
        "CPython 3.11: a lock without memory is a RuntimeError, which zipfile also raises for encrypted files",
    r"raises TypeError: .*os\.PathLike": "CPython 3.11: PyOS_FSPath takes a method without memory for none",
    r"leaks: .* < libpython\w*:PyCell_New": "CPython 3.11: a call whose cells cannot be made leaks its arguments",
    r"failed: .* < libpython\w*:dictiter_new .*the crash: < libpython\w*:_PyObject_GC_UNTRACK":
        "CPython 3.11: dictiter_new untracks an iterator that is not tracked yet",
    r"raises PicklingError: Can't pickle .* import of module":
        "CPython 3.11: an import without memory is a PicklingError",
    r"raises ValueError: \[digital envelope routines\]": "OpenSSL: a lack of memory is a ValueError",
    r"failed: .* < _multiarray_umath:arraydescr_reduce .*the crash: ": "NumPy 2.4: __reduce__ goes on without a part",
    r"failed: .* < _multiarray_umath:PyArray_DescrNew .*the crash: .*:npy_update_operand_for_scalar":
        "NumPy 2.4: a ufunc goes on without a dtype that it could not make",
    r"libgomp: Out of memory": "libgomp: ends the process",
    r"cannot allocate memory for thread-local data: ABORT": "the C library: ends the process",
    r"Critical nanobind error|terminate called.*std::bad_alloc.*< _datasketches:|the crash: < _datasketches:":
        "datasketches: ends the process",
    r"leaks: .* < _datasketches:": "datasketches: an array whose protocol fails is kept",
}
FRAME = re.compile(r"(?P<path>/[^()]+)\((?P<name>\w*)\+(?P<offset>0x[0-9a-f]+)\)\[")     # of a stack


def short(stacks: str) -> str:
    """Stacks as names of functions, up to the call."""
    lines, skip = [], False
    for line in stacks.splitlines():
        place = FRAME.match(line)
        if place is None:
            skip = False
            lines.append(line)
        elif "call_failing" in line:
            skip = True
        elif not skip and not place["path"].endswith("allocations.so"):
            name = place["name"] or named(place["path"], place["offset"])
            if "_PyEval_EvalFrame" not in name and "__restore_rt" not in name:
                lines[-1] += f" < {Path(place['path']).name.partition('.')[0]}:{name}"
    return "; ".join(lines)


@cache
def named(path: str, offset: str) -> str:
    """The function at a place in a library, which need not be exported."""
    if shutil.which("addr2line") is None:
        return offset
    done = subprocess.run(["addr2line", "-f", "-e", path, offset], check=False, capture_output=True, text=True)
    return done.stdout.partition("\n")[0]


def explained(found: str) -> str | None:
    """What is known of something that was found."""
    return next((what for pattern, what in KNOWN.items() if re.search(pattern, found, re.DOTALL)), None)
