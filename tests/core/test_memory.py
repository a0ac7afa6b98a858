"""No dtype or layout makes a copy of the input: the peak of resident memory, measured in a separate process."""

import sys

import pytest
from support.memory import measured

# Name: array of 64 MiB, axis.
ARRAYS = {
    "contiguous": ("np.ones((1 << 14, 1 << 10), 'f4')", 0),
    "float16": ("np.ones((1 << 17, 256), 'f2')", 0),
    "sliced": ("np.ones((1 << 14, 1 << 10), 'f4')[:, ::2]", 0),
    "byte-swapped": ("np.ones((1 << 14, 1 << 10), '>f4')", 0),
    "Fortran": ("np.ones((1 << 10, 1 << 14), 'f4').T", 0),
    "uint8 images": ("np.ones((64, 1 << 10, 341, 3), 'u1')", (0, 1, 2)),
    "int64 rows": ("np.ones((8, 1 << 20), 'i8')", 1),
    "many channels": ("np.ones((8, 1 << 20), 'f8').transpose(1, 0)", 1),
    "transposed planes": ("np.ones((16, 64, 128, 128), 'f4').transpose(0, 3, 1, 2)[:, :, ::-1]", (0, 2)),
}
# Name: array of 16 or 32 MiB, past the cache, channel axis.
LAYER_ARRAYS = {
    "columns": ("np.ones((1 << 12, 1 << 10), 'f4')", 1),
    "images": ("np.ones((16, 64, 64, 64), 'f4')", 1),
    "float16": ("np.ones((1 << 15, 256), 'f2')", 1),
    "sliced": ("np.ones((1 << 13, 1 << 10), 'f4')[:, ::2]", 1),
    "byte-swapped": ("np.ones((1 << 12, 1 << 10), '>f4')", 1),
    "Fortran": ("np.ones((1 << 10, 1 << 12), 'f4').T", 1),
    "uint8 images": ("np.ones((64, 1 << 9, 341, 3), 'u1')", 3),
    "one channel": ("np.ones((1 << 21, 1), 'f8')", 1),
}
SETUP = """
small = np.ones((1000, 500), "f2")
for _ in range(3):
    bnstream.mean_var(small, nan_policy="omit")
    bnstream.Moments(1).update(small.T)     # the threads and their stacks are there

def work(x, axis):
    results = []
    before = start()
    results.append(bnstream.mean_var(x, axis, dtype="f8"))
    results.append(bnstream.mean_var(x, axis, nan_policy="omit", dtype="f8"))
    m = bnstream.Moments(axis).update(x)
    print(x.nbytes, peak() - before, sum(y.nbytes for pair in results for y in pair) + 4 * m.mean.nbytes * 5)
"""


@pytest.fixture(scope="module")
def of_moments():
    return measured(SETUP, {name: f"work({array}, {axis})" for name, (array, axis) in ARRAYS.items()})


@pytest.mark.skipif(sys.platform == "win32", reason="no peak of resident memory here")
@pytest.mark.parametrize("name", ARRAYS)
def test_no_copy(name, of_moments):
    n_bytes, extra, results = of_moments[name]
    assert n_bytes >= 32 << 20
    allowed = results + (2 << 20) + (1 << 20)       # 1 MiB per thread, and 1 MiB for Python itself
    assert extra <= allowed, f"{extra / 2**20:.1f} MiB more, for an array of {n_bytes / 2**20:.0f} MiB"


LAYER_SETUP = """
def work(x, axis, out):
    n = x.shape[axis]
    bnstream.normalize(x, 0, 1, channel_axis=axis, out=out)
    bnstream.batch_norm(x, np.zeros(n), np.ones(n), training=True, channel_axis=axis, out=out)
    for policy in ("raise", "omit"):
        bn = bnstream.BatchNorm(n, channel_axis=axis, track_pooled=True, nan_policy=policy)
        for training in (True, False):
            bn.train(training)(x, out)
            if training:
                bn.backward(out, out)
    bnstream.BatchNorm(n, channel_axis=axis, renorm=True)(x, out)
    bn.recalibrate([x])
    if x.dtype == out.dtype:
        bn.train()(x, x)


for dtype in ("f2", "f4", "f8", "u1"):
    small = np.ones((300, 500), dtype)
    work(small, 1, np.ones(small.shape, "f4" if dtype == "u1" else dtype))


def measure(x, axis):
    out = np.ones_like(x, np.float32 if x.dtype.kind == "u" else x.dtype.newbyteorder("="))
    before = start()
    work(x, axis, out)
    print(x.nbytes, peak() - before)
"""


@pytest.fixture(scope="module")
def of_layers():
    return measured(LAYER_SETUP, {name: f"measure({array}, {axis})" for name, (array, axis) in LAYER_ARRAYS.items()})


@pytest.mark.skipif(sys.platform == "win32", reason="no peak of resident memory here")
@pytest.mark.parametrize("name", LAYER_ARRAYS)
def test_nothing_of_the_size_of_x(name, of_layers):
    """Forward, backward and recalibration need little memory besides x and out."""
    n_bytes, extra = of_layers[name]
    assert n_bytes >= 16 << 20
    assert extra <= 3 << 20, f"{extra / 2**20:.1f} MiB more, for an array of {n_bytes / 2**20:.0f} MiB"
