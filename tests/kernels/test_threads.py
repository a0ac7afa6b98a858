"""Concurrent Python threads, forked processes, and the number of threads."""

import copy
import math
import os
import pickle
import sys
import threading

import numpy as np
import pytest
from support.arrays import of_dtype
from support.oracle import assert_within, exact_states
from support.processes import python
from support.together import run

import bnstream
from bnstream import BatchNorm, DomainBatchNorm, Moments, mean_var
from bnstream._kernels import _runtime
from bnstream.core.moments import rows_of

OPENMP = bool(_runtime.openmp)


@pytest.fixture
def often():
    """Make Python switch threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("shape", [(8, 5), (9000, 12)])
def test_four_objects(shape):
    """Four threads with an object each get the serial results, bit for bit."""
    batches = [[of_dtype("f4", shape, 10 * i + j) for j in range(12)] for i in range(4)]
    objects = [Moments() for _ in batches]
    serial = [Moments() for _ in batches]
    for m, parts in zip(serial, batches, strict=True):
        for part in parts:
            m.update(part)

    def work(m, parts):
        for part in parts:
            m.update(part)

    run(*(lambda m=m, parts=parts: work(m, parts) for m, parts in zip(objects, batches, strict=True)))
    assert objects == serial


@pytest.mark.parametrize("shape", [(8, 3), (6000, 3)])
def test_one_object(shape):
    """Four threads update one object from its first batch on. No update is lost, whatever the order."""
    batches = [of_dtype("f8", shape, i) + 1e6 for i in range(24)]
    for _ in range(5):
        m = Moments()
        run(*(lambda i=i, m=m: [m.update(part) for part in batches[i::4]] for i in range(4)))
        assert np.all(m.n == 24 * shape[0])
    assert_within(m.mean, m.var(), exact_states(np.concatenate(batches)))


def test_one_object_two_shapes():
    """Two threads update one object with different channels. The later one gets a ValueError."""
    m = Moments()
    errors = []

    def work(width):
        x = np.ones((40000, width))
        try:
            for _ in range(5):
                m.update(x)
        except ValueError as error:
            errors.append(str(error))

    run(lambda: work(3), lambda: work(4))
    assert len(errors) == 1
    assert "expected channels of shape" in errors[0]
    assert np.all(m.n == 5 * 40000)
    assert m.shape in ((3,), (4,))


def test_merge_while_updating():
    x = of_dtype("f8", (9000, 4))
    total, source = Moments().update(x), Moments().update(x)
    run(lambda: [source.update(x) for _ in range(20)], lambda: [total.merge(source) for _ in range(20)],
        lambda: [(source.copy(), repr(source), source.mean, source.var()) for _ in range(20)])
    assert np.all(source.n == 21 * 9000)
    assert not (total.n % 9000).any()
    assert_within(source.mean, source.var(), exact_states(np.concatenate([x] * 21)))


def test_functions():
    x = of_dtype("f4", (20000, 16))
    expected = [y.tobytes() for y in mean_var(x)]
    results = []

    def work(n):
        for _ in range(10):
            results.append([y.tobytes() for y in mean_var(x, n_threads=n)])

    run(*(lambda n=n: work(n) for n in (1, 2, 3, 4)))
    assert results == [expected] * 40


@pytest.mark.parametrize("shape", [(8, 5), (9000, 12)])
def test_inference_by_one_layer(shape):
    """Four threads apply one layer to different batches, and get the serial results, bit for bit."""
    batches = [of_dtype("f4", shape, i) for i in range(16)]
    bn = BatchNorm(shape[1])
    bn(batches[0])
    bn.eval()
    expected = [bn(x).tobytes() for x in batches]
    before, results = bn.copy(), [None] * 16

    def work(first):
        for _ in range(5):
            for i in range(first, 16, 4):
                results[i] = bn(batches[i]).tobytes()

    run(*(lambda i=i: work(i) for i in range(4)))
    assert results == expected
    assert bn == before


@pytest.mark.parametrize("options", [{"momentum": 0.5}, {"momentum": None}, {"track_pooled": True}], ids=str)
@pytest.mark.parametrize("shape", [(8, 3), (6000, 3)])
def test_training_of_one_layer(shape, options, often):
    """Four threads train one layer. Every batch enters the count and the pooled statistics."""
    batches = [of_dtype("f8", shape, i) + 1e3 for i in range(24)]
    for _ in range(5):
        bn = BatchNorm(3, **options)
        expected = [BatchNorm(3)(x).tobytes() for x in batches]
        results = [None] * 24

        def work(first, bn=bn, results=results):
            for i in range(first, 24, 4):
                results[i] = bn(batches[i]).tobytes()

        run(*(lambda i=i, work=work: work(i) for i in range(4)))
        assert results == expected
        assert bn.num_batches_tracked == 24
        if bn.pooled is not None:
            assert np.all(bn.pooled.n == 24 * shape[0])
    rows = np.concatenate(batches)
    if "momentum" in options and options["momentum"] is None:
        assert_within(bn.running_mean, bn.running_var, exact_states(rows), 1)
    else:
        assert (bn.running_mean > rows.mean(0) * 0.9).all()


def test_copies_of_a_layer():
    """Four threads train a copy of the layer each, with backward."""
    x, dy = of_dtype("f4", (3000, 20)), of_dtype("f4", (3000, 20), 1)
    layer, results = BatchNorm(20), []

    def work(bn):
        for _ in range(5):
            bn(x)
            results.append(bn.backward(dy).tobytes() + bn.grad_gamma.tobytes())

    copies = [layer.copy() for _ in range(4)]
    run(*(lambda bn=bn: work(bn) for bn in copies))
    assert len(set(results)) == 1
    assert copies[0] == copies[1] == copies[2] == copies[3]


FORK = """
import os, sys, warnings
import numpy as np
import bnstream
warnings.simplefilter("ignore", DeprecationWarning)     # from fork with other threads, since Python 3.12
x = np.random.default_rng(0).standard_normal((40000, 64))
expected = [y.tobytes() for y in bnstream.mean_var(x, n_threads=4)]
m = bnstream.Moments().update(x)
bn = bnstream.BatchNorm(64)
y = bn(x).tobytes()
child = os.fork()
if child == 0:
    same = [y.tobytes() for y in bnstream.mean_var(x, n_threads=4)] == expected
    same &= bnstream.Moments().update(x) == m
    same &= bnstream.BatchNorm(64)(x).tobytes() == y and bn.backward(x).shape == x.shape
    same &= bnstream.get_num_threads() == 1
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert [y.tobytes() for y in bnstream.mean_var(x, n_threads=4)] == expected
assert bnstream.get_num_threads() == 4 or not bnstream.show_config("dicts")["openmp"].isdecimal()
"""


NO_THREADS = """
import resource, sys
import numpy as np
import bnstream
from bnstream.core.moments import rows_of
x = np.random.default_rng(0).normal(size=(1000, 1000))
serial = rows_of(bnstream.Moments().update(x, n_threads=1))
np.save(sys.argv[1], x)
bnstream.fit([x])                       # imports what a pass needs
with open("/proc/self/statm") as file:
    n_bytes = int(file.read().split()[0]) * resource.getpagesize()
room = n_bytes + (6 << 20)              # less than the stack of a thread
resource.setrlimit(resource.RLIMIT_AS, (room, room))
m = bnstream.Moments().update(x, n_threads=4)
assert (rows_of(m) == serial).all()
assert bnstream.fit(sys.argv[1], n_threads=4, chunk_rows=100).n.tolist() == [1000] * 1000
print("there")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells how much memory there is")
def test_a_limit_that_forbids_threads(tmp_path):
    """Libraries of OpenMP end the process then. Calls and passes go on with the threads that there are."""
    done = python("-c", NO_THREADS, str(tmp_path / "x.npy"), BNSTREAM_ISA="baseline")
    assert done.stdout.strip() == "there"


FEWER_THREADS = """
import os, resource
import numpy as np
import bnstream
large, small = np.ones((4000, 1000)), np.ones((20, 1000))
m = bnstream.Moments()
for x in (large, small):
    for _ in range(50):
        m.update(x, n_threads=8)
os.setuid(12345)                        # Such a limit does not hold for root.
resource.setrlimit(resource.RLIMIT_NPROC, (4, 4))
for _ in range(50):
    m.update(large, n_threads=8)
assert m.n[0] == 50 * 8020
print("there")
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root becomes another user")
def test_a_limit_that_comes_after_a_small_call():
    """libgomp ends the threads that a small call does not need, and later has to make them again."""
    assert python("-c", FEWER_THREADS, OMP_WAIT_POLICY="passive").stdout.strip() == "there"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork():
    """A child forked after a parallel call uses one thread, gets the same bits and does not hang."""
    python("-c", FORK, OMP_NUM_THREADS="4")


def test_set_num_threads():
    bnstream.set_num_threads(3)
    assert bnstream.get_num_threads() == (3 if OPENMP else 1)
    bnstream.set_num_threads(np.int64(2))
    assert bnstream.get_num_threads() == (2 if OPENMP else 1)
    bnstream.set_num_threads(65536)
    x = of_dtype("f4", (3000, 64))
    assert_within(*mean_var(x), exact_states(x))
    bnstream.set_num_threads(None)
    assert bnstream.get_num_threads() == (_runtime.default_threads() if OPENMP else 1)


@pytest.mark.parametrize(("value", "expected"), [("3", 3), (" 5 ", 5), ("4,2,1", 4)])
def test_omp_num_threads(value, expected, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert _runtime.default_threads() == expected


@pytest.mark.parametrize("value", [None, "", "0", "-3", "many", "1.5"])
@pytest.mark.parametrize(("limit", "cpus", "expected"), [(math.inf, 6, 6), (2.0, 6, 2), (1.5, 6, 2), (0.1, 6, 1),
                                                         (16.0, 6, 6)])
def test_default_threads(value, limit, cpus, expected, monkeypatch):
    """Without a usable OMP_NUM_THREADS, the affinity mask counts, or the cgroup limit, rounded up, if that is less."""
    if value is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
    monkeypatch.setattr(_runtime, "cgroup_cpus", lambda: limit)
    assert _runtime.default_threads() == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert _runtime.default_threads() == expected
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _runtime.default_threads() == 1


def cgroup(root, membership, files):
    for name, text in files.items():
        path = root / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "membership").write_text(membership)
    return _runtime.cgroup_cpus(root / "fs", root / "membership")


@pytest.mark.parametrize(("membership", "files", "expected"), [
    ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n"}, 2),
    ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
    ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, math.inf),
    ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
    ("0::/a\n", {"cpu.max": "300000 100000\n"}, 3),
    ("0::/a\n", {"b/cpu.max": "100000 100000\n"}, math.inf),
    ("0::/\n", {}, math.inf),
    ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
    ("0::/a:b\n", {"a:b/cpu.max": "200000 100000\n"}, 2),
    ("0::/a\n", {"a/cpu.max": ""}, math.inf),
    ("0::/a\n", {"a/cpu.max": "max\n"}, math.inf),
    ("4:cpu,cpuacct:/d\n3:memory:/m\n",
     {"cpu,cpuacct/d/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"}, 3),
    ("4:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1\n", "cpu/d/cpu.cfs_period_us": "100000\n"}, math.inf),
    ("4:cpu:/d\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    ("4:cpuset:/d\n", {"cpuset/d/cpu.max": "100000 100000\n"}, math.inf),
    ("1:name=systemd:/d\n", {"cpu.max": "100000 100000\n"}, math.inf),
    ("", {"cpu.max": "100000 100000\n"}, math.inf),
])
def test_cgroup(membership, files, expected, tmp_path):
    assert cgroup(tmp_path, membership, files) == expected


def test_no_cgroup(tmp_path):
    assert _runtime.cgroup_cpus(tmp_path, tmp_path / "none") == math.inf


@pytest.mark.parametrize(("membership", "files"), [
    ("nonsense\n", {}), ("0::/a\n", {"a/cpu.max": "some 100000\n"}), ("0::/a\n", {"a/cpu.max": "100000 0\n"}),
    ("0::/a\n", {"a/cpu.max": "\0\0"}),
])
def test_strange_cgroup(membership, files, tmp_path):
    """Cgroup files are read at import. Whatever they contain must not make the import fail."""
    assert cgroup(tmp_path, membership, files) == math.inf


def test_readers_see_whole_states():
    """A copy taken while another thread updates is the state after some batch, in all channels."""
    x = np.ones((2, 200_000))
    m = Moments().update(x)
    stop = threading.Event()

    def update():
        while not stop.is_set():
            m.update(x)

    thread = threading.Thread(target=update)
    thread.start()
    try:
        for _ in range(30):
            counts = rows_of(m.copy())[0]
            assert np.unique(counts).size == 1
    finally:
        stop.set()
        thread.join()


READS = {"copy": copy.copy, "method": lambda one: one.copy(), "pickle": lambda one: pickle.loads(pickle.dumps(one))}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_readers_see_whole_layers(read, often):
    """Running and pooled estimates are of the same batches."""
    x = of_dtype("f8", (16, 5), 0)
    bn = BatchNorm(5, track_pooled=True)
    bn(x)

    def look():
        for _ in range(400):
            seen, state = read(bn), bn.state_dict()
            assert (seen.pooled.n == 16 * seen.num_batches_tracked).all()
            assert (state.pooled.n == 16 * state["num_batches_tracked"]).all()

    run(lambda: [bn(x) for _ in range(2000)], look, look)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_readers_see_whole_domains(read, often):
    """Each batch has rows of two domains."""
    x, domain = of_dtype("f8", (16, 5), 0), ["a", "b"] * 8
    bn = DomainBatchNorm(5)
    bn(x, domain)

    def look():
        for _ in range(200):
            seen = read(bn)
            assert seen["a"].num_batches_tracked == seen["b"].num_batches_tracked
            assert seen["a"] is not bn["a"]

    run(lambda: [bn(x, domain) for _ in range(200)], look, look)


def test_absurd_numbers_of_threads():
    """The number of threads is capped: the process would end if it started more than it may."""
    x = np.ones((250_000, 32), "f4")
    assert bnstream.mean_var(x, n_threads=60_000)[0].tobytes() == np.ones(32, "f4").tobytes()
    code = "import bnstream; print(bnstream.get_num_threads())"
    assert python("-c", code, OMP_NUM_THREADS="99999999999999").stdout.strip() == ("65536" if OPENMP else "1")


ON_A_SMALL_STACK = """
import threading
import numpy as np, ml_dtypes, bnstream

def work():
    for dtype in ("f4", "f8", "u1", "i1", "i2", "f2", "i4", "i8", ml_dtypes.bfloat16):
        for shape in ((8, 64), (64, 600), (3000, 512), (4, 3, 9000), (2, 2500)):
            x = (np.arange(np.prod(shape)) % 97).reshape(shape).astype(dtype)
            bnstream.mean_var(x, dtype="f4")
            bnstream.Moments(nan_policy="omit").update(x, weights=np.arange(1, len(x) + 1))
            bn = bnstream.BatchNorm(shape[1])
            y = bn(x)
            bn.backward(y)
            bn.eval()(x)
    print("done")

threading.stack_size(64 << 10)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other least sizes of a stack")
def test_small_stacks():
    """Threads with 64 KiB, as some servers and C libraries make them. OpenMP's are as small."""
    done = python("-c", ON_A_SMALL_STACK, OMP_STACKSIZE="64k", OMP_NUM_THREADS="3")
    assert done.stdout.strip() == "done"
