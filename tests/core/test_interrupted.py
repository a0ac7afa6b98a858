"""Ctrl-C at any line of the package: an object is as it was before the call or as it is after it, never in between."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal

import bnstream
from bnstream import BatchNorm, Moments
from bnstream.core import layer
from bnstream.runningmeanstd import RunningMeanStd
from bnstream.sklearn import StandardScaler, scaler

OURS = str(Path(bnstream.__file__).parent)
X, MORE = normal((20, 3)), normal((30, 3), 1)


class Interruption(BaseException):
    """As KeyboardInterrupt."""


def interrupted(call, line):
    """Run a call, and raise at the given line of our Python in it. Return whether it came so far."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        path = frame.f_code.co_filename
        if event == "line" and path.startswith(OURS):
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


def free(lock):
    """Whether another thread can take a lock."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: lock.acquire(blocking=False) and not lock.release()).result()


def mean_and_count(rms):
    return rms.mean.tobytes(), rms.var.tobytes(), rms.count


def statistics(fitted):
    return fitted.mean_.tobytes(), fitted.var_.tobytes(), fitted.scale_.tobytes(), np.max(fitted.n_samples_seen_)


def gradients(bn):
    return bn.grad_gamma.tobytes(), bn.grad_beta.tobytes()


def other(**options):
    bn = BatchNorm(3, **options)
    bn(MORE)
    bn.gamma, bn.beta = [1, 2, 3], [4, 5, 6]
    return bn


POOLED = ({"track_pooled": True}, {"momentum": None}, {"track_pooled": "exact"},
          {"track_pooled": "exact", "momentum": None})
LAYERS = {f"{options} {name}": (lambda options=options: BatchNorm(3, **options), call, pickle.dumps)
          for options in ({}, *POOLED, {"renorm": True})
          for name, call in (("call", lambda bn: bn(MORE)), ("vjp", lambda bn: bn.vjp(MORE)))}
CALLS = {
    **LAYERS,
    **{f"{options} {name}": (lambda options=options: BatchNorm(3, **options), call, pickle.dumps)
       for options in ({}, *POOLED)
       for name, call in (
           ("recalibrate", lambda bn: bn.recalibrate([MORE])),
           ("reset", lambda bn: bn.reset_running_stats()),
           ("load_state_dict", lambda bn: bn.load_state_dict(other(track_pooled="exact").state_dict())),
           ("running_mean", lambda bn: setattr(bn, "running_mean", [1, 2, 3])),
           ("running_var", lambda bn: setattr(bn, "running_var", [1, 2, 3])))},
    "backward": (lambda: BatchNorm(3), lambda bn: bn.vjp(X)[1](X, accumulate=True), gradients),
    "Moments": (Moments, lambda m: m.update(MORE), pickle.dumps),
    "Moments.merge": (Moments, lambda m: m.merge(Moments().update(MORE)), pickle.dumps),
    "StandardScaler": (StandardScaler, lambda fitted: fitted.partial_fit(MORE), statistics),
    "StandardScaler.merge": (StandardScaler, lambda fitted: fitted.merge(StandardScaler().fit(MORE)), statistics),
    "exact StandardScaler": (lambda: StandardScaler(exact=True), lambda fitted: fitted.partial_fit(MORE), statistics),
    "Moments, exact": (lambda: Moments(exact=True), lambda m: m.update(MORE), pickle.dumps),
    "Moments, exact, unmerge": (lambda: Moments(exact=True),
                                lambda m: m.unmerge(Moments(exact=True).update(X[:5])), pickle.dumps),
    "RunningMeanStd": (lambda: RunningMeanStd(shape=3), lambda rms: rms.update(MORE), mean_and_count),
    "RunningMeanStd.merge": (lambda: RunningMeanStd(shape=3),
                             lambda rms: rms.merge(RunningMeanStd(shape=3).update(MORE)), mean_and_count),
    "RunningMeanStd.var": (lambda: RunningMeanStd(shape=3), lambda rms: setattr(rms, "var", [1, 2, 3]), mean_and_count),
}


@pytest.mark.parametrize("name", CALLS)
def test_any_line(name):
    make, call, state_of = CALLS[name]

    def fresh():
        made = make()
        if isinstance(made, BatchNorm):
            made.backward(made(X))
        else:
            made.partial_fit(X) if isinstance(made, StandardScaler) else made.update(X)
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
        assert free(layer.LOCK), f"locked since line {line}"
        assert free(scaler.LOCK), f"locked since line {line}"
        line += 1
    assert line > 1 or name.startswith("Moments")       # which is compiled
    assert len(allowed) == 2
