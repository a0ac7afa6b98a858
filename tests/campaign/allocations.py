"""Every allocation of every public call fails, one after the other: MemoryError, or success, and nothing else.

The state of every object is then as before, the same call works once there is memory, with the same bits, and nothing
leaks. A call is made in a child process, in which allocations.c stands before the C library, and Python and NumPy have
no pools of their own (PYTHONMALLOC=malloc, a handler of NumPy's data), so that each object and each array is an
allocation. Once only one allocation fails, once MORE that follow as well.

What ends the process is told from where it happened: CPython and NumPy are not free of such faults themselves. Those
that were looked at are in KNOWN; they are printed. All else is an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from harness import folder_in_memory, main
from preload import built, preloading

import bnstream
from bnstream import BatchNorm, GroupedMoments, GroupNorm, InstanceNorm, LayerNorm, Moments, RMSNorm
from bnstream.runningmeanstd import RunningMeanStd

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
# How many allocations fail after the first. If none ever succeeded again, CPython 3.11 would loop for ever where it
# makes an integer of the place of an exception (exception_unwind in ceval.c).
MORE = 10
LONGEST = 120       # seconds of a child, after which it counts as hanging
MOST = 150          # allocations of a call that are looked at for leaks, chosen at random
N_SWEEPS = 3        # over the same allocations, between which the number of blocks in use must not grow
N_TO_BE_SURE = 30   # over one that seems to leak: what a call keeps for the next varies
FRAME = re.compile(r"(?P<path>/[^()]+)\((?P<name>\w*)\+(?P<offset>0x[0-9a-f]+)\)\[")     # of a stack
SET_HANDLER = 304   # the place of PyDataMem_SetHandler in NumPy's table of functions

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (8, 3))
F4 = X.astype("f4")
WIDE = RNG.normal(3, 2, (4, 200))
HOLED = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
IMAGES = RNG.normal(3, 2, (2, 4, 3, 3)).astype("f4")
KEYS = np.arange(8) % 3
NAMES = ["a", "b", "c", "a", "b", "c", "a", "a"]
WEIGHTS = np.arange(8.0) + 1
MASK = RNG.random(X.shape) < 0.8
ONES, ZEROS = np.ones(4, "f4"), np.zeros(4, "f4")
TRACKS = ("min", "missing", "kurtosis")

STATES: dict[str, Callable[[], Any]] = {
    "plain": lambda: Moments().update(F4), "exact": lambda: Moments(exact=True, names=["a", "b", "c"]).update(X),
    "tracked": lambda: Moments(track=TRACKS).update(F4), "layer": lambda: BatchNorm(3, track_pooled=True),
    "groups": lambda: GroupedMoments().update(X, NAMES),
}
FILES: dict[Any, bytes] = {}        # the contents of state files

Case = tuple[Callable[[], tuple[Any, ...]], Callable[..., Any]]


def nothing() -> tuple[Any, ...]:
    return ()


def estimates() -> tuple[Any, ...]:
    return ZEROS.copy(), ONES.copy()


def trained(**options: Any) -> tuple[BatchNorm, ...]:
    bn = BatchNorm(3, **options)
    bn(F4)
    return (bn,)


def forwarded(layer: Any, x: Any) -> tuple[Any, ...]:
    layer(x)
    return (layer,)


def pairs(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of a forward pass, and that of its backward pass."""
    y, backward = function(*arguments, **options)
    return y, backward(np.ones_like(y))


def file(state: str = "plain") -> tuple[Path]:
    """A state file, the only file in its folder."""
    for path in Path(FOLDER).iterdir():
        path.unlink()
    path = Path(FOLDER, "state.npz")
    if state not in FILES:
        bnstream.save(path, STATES[state]())
        FILES[state] = path.read_bytes()
    path.write_bytes(FILES[state])
    return (path,)


def cases() -> dict[str, Case]:
    """What is called, by names: what makes the objects, and the call."""
    found: dict[str, Case] = {
        "mean_var": (nothing, lambda: bnstream.mean_var(X)),
        "mean_var weights": (nothing, lambda: bnstream.mean_var(X, weights=WEIGHTS, where=MASK, nan_policy="omit")),
        "mean_var exact": (nothing, lambda: bnstream.mean_var(F4, exact=True)),
        "normalize": (nothing, lambda: bnstream.normalize(X, X[0], np.abs(X[1]))),
        "normalize broadcast": (nothing, lambda: bnstream.normalize(IMAGES, ONES, ONES, ONES, ZEROS, channel_axis=1)),
        "batch_norm": (nothing, lambda: bnstream.batch_norm(IMAGES, ZEROS, ONES, ONES, ZEROS)),
        "batch_norm training": (estimates, lambda mean, var: bnstream.batch_norm(IMAGES, mean, var, ONES, ZEROS,
                                                                                 training=True)),
        "batch_norm_vjp": (estimates, lambda mean, var: bnstream.batch_norm_vjp(IMAGES, mean, var, ONES, ZEROS,
                                                                                training=True)[0]),
        "batch_norm_vjp backward": (lambda: bnstream.batch_norm_vjp(IMAGES, *estimates(), ONES, ZEROS,
                                                                    training=True)[1:],
                                    lambda backward: backward(IMAGES)),
        "layer_norm": (nothing, lambda: bnstream.layer_norm(F4, 3, F4[0], F4[1])),
        "layer_norm_vjp": (nothing, lambda: pairs(bnstream.layer_norm_vjp, F4, 3, F4[0], F4[1])),
        "rms_norm": (nothing, lambda: bnstream.rms_norm(F4, 3, F4[0])),
        "rms_norm_vjp": (nothing, lambda: pairs(bnstream.rms_norm_vjp, F4, 3, F4[0])),
        "group_norm": (nothing, lambda: bnstream.group_norm(IMAGES, 2, ONES, ZEROS)),
        "group_norm_vjp": (nothing, lambda: pairs(bnstream.group_norm_vjp, IMAGES, 2, ONES, ZEROS)),
        "instance_norm": (nothing, lambda: bnstream.instance_norm(IMAGES)),
        "instance_norm_vjp": (nothing, lambda: pairs(bnstream.instance_norm_vjp, IMAGES)),
        "fit": (nothing, lambda: bnstream.fit(F4, n_threads=1)),
        **{f"save {name}": (lambda name=name: (*file(), STATES[name]()), bnstream.save) for name in STATES},
        **{f"load {name}": (lambda name=name: file(name), bnstream.load) for name in STATES},
        "normalize layer": (lambda: (BatchNorm(4).eval(),), lambda bn: bn(IMAGES)),
        "recalibrate": (trained, lambda bn: bn.recalibrate([F4, F4[:5]])),
        "load_state_dict": (trained, lambda bn: bn.load_state_dict(BatchNorm(3).state_dict())),
        "copy layer": (trained, lambda bn: bn.copy()),
        "pickle layer": (trained, lambda bn: pickle.loads(pickle.dumps(bn))),
        "fold": (trained, lambda bn: bn.fold(X[:3])),
        "diagnose": (trained, lambda bn: list(bn.diagnose().findings)),
        "reset_running_stats": (lambda: trained(track_pooled=True), lambda bn: bn.reset_running_stats()),
        "accumulate gradients": (lambda: (lambda bn: (bn, bn.vjp(F4)[1]))(*trained()),
                                 lambda bn, backward: backward(F4, accumulate=True)),
        "LayerNorm": (lambda: (LayerNorm(3),), lambda layer: layer(F4)),
        "RMSNorm": (lambda: (RMSNorm(3),), lambda layer: layer(F4)),
        "GroupNorm": (lambda: (GroupNorm(2, 4),), lambda layer: layer(IMAGES)),
        "InstanceNorm": (lambda: (InstanceNorm(4, track_running_stats=True),), lambda layer: layer(IMAGES)),
        "InstanceNorm averages": (lambda: (InstanceNorm(4, momentum=None, track_running_stats=True),),
                                  lambda layer: layer(IMAGES)),
        "LayerNorm backward": (lambda: forwarded(LayerNorm(3), F4), lambda layer: layer.backward(F4)),
        "GroupNorm backward": (lambda: forwarded(GroupNorm(2, 4), IMAGES), lambda layer: layer.backward(IMAGES)),
        "RunningMeanStd": (lambda: (RunningMeanStd((3,)),), lambda rms: rms.update(X)),
        "RunningMeanStd again": (lambda: (RunningMeanStd((3,)).update(X),), lambda rms: rms.update(X)),
        "RunningMeanStd read": (lambda: (RunningMeanStd((3,)).update(X),), lambda rms: (rms.mean, rms.var, rms.count)),
        "RunningMeanStd moments": (lambda: (RunningMeanStd((3,)).update(X),),
                                   lambda rms: rms.update_from_moments(X[0], np.abs(X[1]), 3)),
        "RunningMeanStd merge": (lambda: (RunningMeanStd((3,)).update(X), RunningMeanStd((3,)).update(X[:4])),
                                 lambda a, b: a.merge(b)),
        "RunningMeanStd set": (lambda: (RunningMeanStd((3,)).update(X),), lambda rms: setattr(rms, "count", 3)),
    }
    for name, options in {"": {}, " pooled": {"track_pooled": True}, " exact": {"track_pooled": "exact"},
                          " average": {"momentum": None}, " renorm": {"renorm": True},
                          " virtual": {"virtual_batch": 4}, " omit": {"nan_policy": "omit"}}.items():
        x = HOLED.astype("f4") if name == " omit" else F4
        found[f"training{name}"] = (lambda options=options: (BatchNorm(3, **options),), lambda bn, x=x: bn(x))
        found[f"training again{name}"] = (lambda options=options: trained(**options), lambda bn, x=x: bn(x))
        found[f"backward{name}"] = (lambda options=options: trained(**options), lambda bn: bn.backward(F4))
    for name, options in {"": {}, " exact": {"exact": True}, " tracked": {"track": TRACKS},
                          " exact, tracked": {"exact": True, "track": ("min", "missing")},
                          " quantiles": {"track": "quantiles"}}.items():
        omit = {"nan_policy": "omit", **options}

        def made(options: dict[str, Any] = options) -> tuple[Any, ...]:
            return (Moments(**options).update(F4),)

        def by_key(options: dict[str, Any] = options) -> tuple[Any, ...]:
            return (GroupedMoments(**options).update(F4, KEYS),)

        def by_name(options: dict[str, Any] = options) -> tuple[Any, ...]:
            return (GroupedMoments(**options).update(F4, NAMES),)

        found[f"update{name}"] = (lambda options=options: (Moments(**options),), lambda m: m.update(F4))
        found[f"update again{name}"] = (made, lambda m: m.update(F4))
        found[f"update omit{name}"] = (lambda omit=omit: (Moments(**omit),), lambda m: m.update(HOLED, where=MASK))
        found[f"update wide{name}"] = (lambda options=options: (Moments(**options).update(WIDE),),
                                       lambda m: m.update(WIDE))
        found[f"update large{name}"] = (made, lambda m: m.update(X * 1e200))
        found[f"merge{name}"] = (lambda options=options: (Moments(**options), Moments(**options).update(F4)),
                                 lambda a, b: a.merge(b))
        found[f"merge again{name}"] = (lambda options=options: (Moments(**options).update(X * 1e-3),
                                                                Moments(**options).update(F4)), lambda a, b: a.merge(b))
        found[f"copy{name}"] = (made, lambda m: m.copy())
        found[f"pickle{name}"] = (made, lambda m: pickle.loads(pickle.dumps(m)))
        found[f"statistics{name}"] = (made, lambda m: (m.n, m.mean, m.m2, m.var(), m.std(), m.effective_n))
        found[f"print{name}"] = (made, repr)
        if name != " quantiles":        # which take no weights
            found[f"update weights{name}"] = (made, lambda m: m.update(F4, weights=WEIGHTS))
            found[f"groups weights{name}"] = (by_key, lambda g: g.update(F4, KEYS, weights=WEIGHTS))
        found[f"groups{name}"] = (lambda options=options: (GroupedMoments(**options),), lambda g: g.update(F4, KEYS))
        found[f"groups again{name}"] = (by_key, lambda g: g.update(F4, KEYS))
        found[f"groups new{name}"] = (by_key, lambda g: g.update(F4, KEYS + 2))
        found[f"groups merge{name}"] = (lambda options=options: (
            GroupedMoments(**options).update(F4, KEYS), GroupedMoments(**options).update(F4, KEYS + 1)),
            lambda a, b: a.merge(b))
        found[f"groups copy{name}"] = (by_key, lambda g: (g.copy(), g.total(), g[1], g.mean))
        if "exact" in options:
            found[f"unmerge{name}"] = (lambda: (Moments(exact=True).update(X), Moments(exact=True).update(X[:3])),
                                       lambda a, b: a.unmerge(b))
            found[f"digest{name}"] = (made, lambda m: m.digest())
        else:
            found[f"groups names{name}"] = (by_name, lambda g: g.update(F4, [name + "b" for name in NAMES]))
            found[f"groups names again{name}"] = (by_name, lambda g: g.update(F4, NAMES))
    found["skewness"] = (lambda: (Moments(track=TRACKS).update(F4),), lambda m: (m.skewness(), m.kurtosis(), m.min))
    found["quantile"] = (lambda: (Moments(track="quantiles").update(F4),), lambda m: m.quantile([0.1, 0.5]))
    return found


def frozen(value: Any) -> Any:
    """What an object is, to the last bit, in values that compare and do not change with it."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return frozen(value.tolist())
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Path):
        return value.read_bytes(), sorted(path.name for path in value.parent.iterdir())
    if isinstance(value, dict):
        return {key: frozen(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [frozen(one) for one in value]
    if isinstance(value, GroupedMoments):
        return [list(value), frozen(value._stacked()[0]), value.names, value.key_names, value.shape]
    if type(value).__module__.startswith("bnstream"):
        state = frozen(value.__getstate__())
        if hasattr(value, "_pending"):
            state["_pending"] = type(value._pending).__name__
        return state
    if isinstance(value, str | bytes | int | float | type(None) | np.dtype):
        return value
    return repr(value)


def sweep(make: Callable[[], tuple[Any, ...]], call: Callable[..., Any], start: int, more: int,
          failing: Callable[..., Any], n_seen: Callable[[], int], say: Callable[..., None]) -> int:
    """Fail the allocations of a call from the one numbered `start`, and look at all that is promised."""
    objects = make()
    before = frozen(objects)
    right = frozen(call(*objects))
    after = frozen(objects)
    k = start
    while True:
        objects = make()
        say("at", k)
        try:
            result = failing(lambda objects=objects: call(*objects), k, more)
        except MemoryError:
            what = "MemoryError"
        except BaseException as error:
            what = f"{type(error).__name__}: {error}"
            say("found", f"raises {what}")
        else:
            what = ""
            if n_seen() < k:
                return k - 1
            if frozen(result) != right:
                say("found", "other bits where a failure is not noticed")
        now = frozen(objects)
        if what and now != before:
            say("found", f"{what}, and the state is {'that after the call' if now == after else 'neither old nor new'}")
        elif what:
            again = frozen(call(*objects))
            if again != right or frozen(objects) != after:
                say("found", "a later call gives other bits")
        elif now != after:
            say("found", "a failure is not noticed, and the state is " + ("as before" if now == before else "another"))
        k += 1


def leaks(make: Callable[[], tuple[Any, ...]], call: Callable[..., Any], ks: list[int], more: int,
          failing: Callable[..., Any], in_use: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """The allocations whose failure leaves blocks in use, each when it has failed, and how many, each time."""
    counts = (ctypes.c_long * 2)()

    def grown(ks: list[int], n: int) -> int:
        """By how many blocks the last of n sweeps has grown what is in use, if all but the first have."""
        least = sys.maxsize
        for i in range(n):
            for k in ks:
                objects = make()
                with contextlib.suppress(BaseException):
                    failing(lambda objects=objects: call(*objects), k, more)
                objects = None
            gc.collect()
            counts[1] = in_use()
            least = least if i == 0 else min(least, counts[1] - counts[0])
            counts[0] = counts[1]
        return least

    def search(ks: list[int]) -> Iterator[tuple[int, int]]:
        if not ks or (n := grown(ks, N_SWEEPS)) <= 0:
            return
        if len(ks) > 1:
            yield from search(ks[:len(ks) // 2])
            yield from search(ks[len(ks) // 2:])
        elif grown(ks, N_TO_BE_SURE) > 0:
            yield ks[0], n

    return search(ks)


def child(name: str, more: int, start: int) -> None:
    """Sweep over one call, and say on standard output how it goes."""
    out = io.FileIO(1, "w", closefd=False)

    def say(what: str, value: Any) -> None:
        out.write(f"{json.dumps([what, value])}\n".encode())
        if what == "found":
            print(f"found {value}", file=sys.stderr, flush=True)
            library.print_failure()

    library = ctypes.PyDLL(None)
    failing = library.call_failing
    failing.restype, failing.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_long, ctypes.c_int]
    n_seen, in_use = library.allocations_seen, library.blocks_in_use
    n_seen.restype = in_use.restype = ctypes.c_long
    library.watch_crashes()
    use_handler(library)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda found: say("ignored", f"{found.exc_type.__name__} in {found.object!r:.80}")
    make, call = cases()[name]
    for _ in range(3):
        frozen(call(*make()))           # imports what is imported late
    gc.collect()
    gc.freeze()                         # so that later collections are quick
    last = sweep(make, call, start, more, failing, n_seen, say)
    say("tried", last)
    ks = sorted(random.Random(start).sample(range(start, last + 1), min(MOST, max(0, last + 1 - start))))
    for k, n in leaks(make, call, ks, more, failing, in_use):
        print(f"leaks {k} {n}", file=sys.stderr, flush=True)
        library.print_failure()


def use_handler(library: ctypes.PyDLL) -> None:
    """Let NumPy take its data from the handler of the library, without a cache."""
    python = ctypes.pythonapi
    python.PyCapsule_GetPointer.restype, python.PyCapsule_New.restype = ctypes.c_void_p, ctypes.py_object
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    table = ctypes.cast(python.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None),
                        ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])
    handler = ctypes.addressof(ctypes.c_char.in_dll(library, "data_handler"))
    set_handler(python.PyCapsule_New(handler, b"mem_handler", None))


def run(library: Path, name: str, more: int, start: int = 1) -> tuple[int, int, list[str], str]:
    """One child: the allocations tried, the last one begun, what was found, and what it printed when it ended."""
    folder = tempfile.mkdtemp(dir=FOLDER)
    process = subprocess.run([sys.executable, __file__, "--child", name, str(more), str(start), folder],
                             env=preloading(library, PYTHONMALLOC="malloc", OMP_NUM_THREADS="1"), check=False,
                             capture_output=True, text=True, timeout=LONGEST)
    at, tried, found = start - 1, 0, []
    for line in process.stdout.splitlines():
        what, value = json.loads(line)
        if what == "at":
            at = value
        elif what == "tried":
            tried = value - start + 1
        elif what == "found":
            found.append(f"allocation {at}: {value}")
    stacks = re.split("^found ", process.stderr, flags=re.M)[1:]
    found = [f"{one}: {short(of_one)}" for one, of_one in zip(found, stacks, strict=True)]
    end = ""
    if process.returncode != 0 and at < start:
        raise RuntimeError(f"{name}: {process.stderr}")
    if process.returncode != 0:
        end = f"ends with {process.returncode}: {short(re.split('^found ', process.stderr, flags=re.M)[-1])}"
    for one in [] if end else re.split("^leaks ", process.stderr, flags=re.M)[1:]:
        found.append(f"allocation {one.partition(' ')[0]} leaks: {short(one)}")
    return tried or at - start + 1, at, found, end


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


def tries(library: Path, name: str, more: int) -> tuple[int, list[str], list[str]]:
    """All of one call, over crashes that are known: how many allocations failed, what was found, what is known."""
    n, start, found, known = 0, 1, [], []
    what = f"{name}{', and more after it' * (more > 0)}"
    while True:
        tried, at, here, end = run(library, name, more, start)
        n += tried
        for one in here:
            it = explained(f"{what}: {one}")
            (found if it is None else known).append(one if it is None else it)
        if not end:
            return n, found, known
        it = explained(f"{what}: {end}")
        if it is None:
            found.append(f"allocation {at}: {end}")
        else:
            known.append(it)
        start = at + 1


def trials(rng: np.random.Generator) -> Iterator[int]:
    library = built("allocations", FOLDER)
    names = list(cases())
    while True:
        for i in rng.permutation(len(names)):
            for more in (0, MORE):
                n, found, known = tries(library, names[i], more)
                for what in sorted(set(known)):
                    print(f"{names[i]}: {what}", flush=True)
                assert not found, f"{names[i]}{', and more after it' * (more > 0)}: {found[0]}"
                yield n


FOLDER = ""
if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        FOLDER = sys.argv[5]
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        sys.stderr.flush()
        os._exit(0)         # Threads of a pool that could not be ended would be waited for.
    elif sys.version_info[:2] != (3, 11):
        print(f"{Path(__file__).stem}: skipped, as the faults of CPython 3.11 are known, and those of others are not")
    else:
        with folder_in_memory() as FOLDER:
            main(__doc__.partition("\n")[0], "failed allocations", trials)
