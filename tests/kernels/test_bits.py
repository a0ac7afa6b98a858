"""Results keep every bit whatever the number of threads, the level, the alignment, and the calls before."""

import json

import numpy as np
import pytest
from support import bits
from support.arrays import of_dtype, unaligned
from support.cases import CAMPAIGN, campaign
from support.processes import python

import bnstream
from bnstream import _kernels
from bnstream._kernels import _runtime


@pytest.fixture(scope="module")
def reference():
    return bits.digests(1)


@campaign
@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_n_threads(n_threads, reference):
    assert bits.digests(n_threads) == reference


def test_set_num_threads(reference):
    """The default number of threads, which calls without `n_threads` use."""
    try:
        bnstream.set_num_threads(8)
        assert bits.digests() == reference
    finally:
        bnstream.set_num_threads(None)


@pytest.mark.parametrize("level", _kernels.LEVELS)
def test_level(level, reference):
    if level not in _runtime.cpu_levels():
        pytest.skip(f"this CPU has no {level}")
    if level == _kernels.level and not CAMPAIGN:
        pytest.skip("the level of all other tests")
    assert json.loads(python("-m", "support.bits", "2", BNSTREAM_ISA=level).stdout) == [level, reference]


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i2"])
@pytest.mark.parametrize(("shape", "axis"), [((3000, 40), 0), ((3, 20000), 1), ((20000, 3), 0), ((40, 30, 9), (0, 2)),
                                             ((11, 700), 0)])
def test_alignment(dtype, shape, axis):
    """Arrays may start at any byte of a cache line."""
    x = of_dtype(dtype, shape)
    expected = [y.tobytes() for y in bnstream.mean_var(x, axis)]
    state = bnstream.Moments(axis).update(x)
    for by in range(80):
        y = unaligned(x, by)
        assert [z.tobytes() for z in bnstream.mean_var(y, axis)] == expected
        assert bnstream.Moments(axis).update(y) == state


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize(("shape", "channel_axis"), [((3000, 40), 1), ((3, 20000), 0), ((20000, 3), 1),
                                                     ((9, 30, 49), 1), ((11, 700), 1), ((4, 6, 900), 1)])
def test_alignment_of_layers(dtype, shape, channel_axis):
    """x, the result, dy and dx may start at any byte of a cache line."""
    x = of_dtype(dtype, shape)
    bn = bnstream.BatchNorm(shape[channel_axis], channel_axis=channel_axis, momentum=1.0)
    real = np.float64 if dtype == "f8" else np.float32
    dy = of_dtype(real, shape, 1) - real(20)
    expected = None
    for by in range(65):
        out = unaligned(np.zeros(shape, real), 64 - by)
        z = unaligned(x, by)
        results = [bn.train()(z, out).tobytes()]
        results.append(bn.backward(unaligned(dy, by + 1), out).tobytes())
        results += [bn.grad_gamma.tobytes(), bn.grad_beta.tobytes(), bn.running_var.tobytes()]
        results.append(bn.eval()(z, out).tobytes())
        expected = expected or results
        assert results == expected


def test_repeated(reference):
    """Calls in between, and garbage in the heap, make no difference."""
    rubbish = [np.full(1000 * k, np.nan) for k in range(50)]
    del rubbish
    assert bits.digests() == reference


def test_states():
    """A state has the same bits if it is written in place and if it is merged from several tasks."""
    for shape, axis in [((20000, 64), 0), ((64, 20000), 1), ((3, 5, 70000), (0, 2))]:
        x = of_dtype("f4", shape)
        states = []
        for n_threads in (1, 2, 7):
            bnstream.set_num_threads(n_threads)
            states.append(bnstream.Moments(axis).update(x))
        bnstream.set_num_threads(None)
        assert states[0] == states[1] == states[2]
        mean, var = bnstream.mean_var(x, axis, dtype="f8")
        assert states[0].mean.tobytes() == mean.tobytes()
        assert states[0].var().tobytes() == var.tobytes()
