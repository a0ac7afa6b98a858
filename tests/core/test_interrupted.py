"""Ctrl-C at any line: an object is as it was before the call or as it is after it, never in between."""

import pickle
import sys

import pytest
from support.arrays import normal

from bnstream import BatchNorm, Moments
from bnstream.runningmeanstd import RunningMeanStd

X, MORE = normal((20, 3)), normal((30, 3), 1)


class Interruption(BaseException):
    """As KeyboardInterrupt."""


def interrupted(call, line):
    """Run a call, and raise at the given line of Python in it. Return whether it came so far."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == line:
                raise Interruption
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interruption:
        return True
    finally:
        sys.settrace(before)
    return False


def mean_and_count(rms):
    return rms.mean.tobytes(), rms.var.tobytes(), rms.count


LAYERS = {f"{options} {name}": (lambda options=options: BatchNorm(3, **options), call, pickle.dumps)
          for options in ({}, {"track_pooled": True}, {"momentum": None}, {"renorm": True})
          for name, call in (("call", lambda bn: bn(MORE)), ("vjp", lambda bn: bn.vjp(MORE)))}
CALLS = {
    **LAYERS,
    "recalibrate": (lambda: BatchNorm(3), lambda bn: bn.recalibrate([MORE]), pickle.dumps),
    "Moments": (Moments, lambda m: m.update(MORE), pickle.dumps),
    "RunningMeanStd": (lambda: RunningMeanStd(shape=3), lambda rms: rms.update(MORE), mean_and_count),
    "RunningMeanStd.var": (lambda: RunningMeanStd(shape=3), lambda rms: setattr(rms, "var", [1, 2, 3]), mean_and_count),
}


@pytest.mark.parametrize("name", CALLS)
def test_any_line(name):
    make, call, state_of = CALLS[name]

    def fresh():
        made = make()
        made(X) if isinstance(made, BatchNorm) else made.update(X)
        if isinstance(made, RunningMeanStd):
            assert made.mean is not None            # in the cache
        return made

    before, after = state_of(fresh()), fresh()
    call(after)
    allowed = {before, state_of(after)}
    line = 1
    while True:
        made = fresh()
        if not interrupted(lambda: call(made), line):  # noqa: B023
            break
        assert state_of(made) in allowed, f"interrupted at line {line}"
        line += 1
    assert line > 2
    assert len(allowed) == 2
