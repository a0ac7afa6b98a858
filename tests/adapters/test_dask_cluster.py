"""On a cluster of processes: workers that are killed, late or short of memory change no bit of the result.

Chunks wait for an Event of the cluster, so that a worker is killed or added when the computation is half done.
"""

import os
import signal

import pytest
from support.arrays import rng
from support.cases import campaign
from support.states import bits

import bnstream

dask = pytest.importorskip("dask", minversion="2025.1")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed", minversion="2025.1")

from distributed import Client, Event, LocalCluster, Queue  # noqa: E402
from support.workers import n_on_disk, waiting  # noqa: E402

from bnstream.dask import moments, normalize  # noqa: E402

pytestmark = campaign      # A cluster takes seconds to start and to end.
TIMEOUT = 120       # Seconds; a busy machine may take long, a lost task takes forever.
X = da.from_array(rng().normal(1e8, 1, (200, 6)), chunks=(5, 4))        # 40 rows of chunks: a tree of two levels
QUICK = {"distributed.comm.timeouts.connect": "5s"}     # until a worker gives up on a dead one
SPILLING = {f"distributed.worker.memory.{name}": share for name, share in
            (("target", 0.01), ("spill", False), ("pause", False), ("terminate", False))}


@pytest.fixture(scope="module")
def wanted():
    """The bits of the moments of X, without a cluster."""
    return bits(moments(X).compute(scheduler="synchronous"))


@pytest.fixture
def client(request, wanted):
    """A client of a new cluster of processes with one thread each: one that has worked may give all chunks to one."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **getattr(request, "param", {})}
    with dask.config.set(QUICK | SPILLING), LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


def workers_half_way(n):
    """The addresses of n workers, once these wait."""
    queue = Queue("waiting")
    return [queue.get(timeout=TIMEOUT) for _ in range(n)]


def slow():
    return moments(X.map_blocks(waiting, meta=X._meta))


def test_plain(client, wanted):
    assert bits(moments(X).compute()) == wanted
    m = moments(X).compute()
    y = bnstream.normalize(X.compute(), m.mean, m.var())
    for stats in (m, moments(X)):
        assert normalize(X, stats).compute().tobytes() == y.tobytes()


def test_a_killed_worker(client, wanted):
    future = client.compute(slow())
    first, second = workers_half_way(2)
    assert first != second
    assert any("moments" in str(key) for key in client.has_what()[first])       # its results are lost with it
    os.kill(client.run(os.getpid, workers=[first])[first], signal.SIGKILL)
    Event("go").set()
    assert bits(future.result(timeout=TIMEOUT)) == wanted
    assert first not in client.scheduler_info()["workers"]


@pytest.mark.parametrize("client", [{"n_workers": 1}], indirect=True, ids=["1 worker"])
def test_a_late_worker(client, wanted):
    future = client.compute(slow())
    early, = workers_half_way(1)
    client.cluster.scale(2)
    late, = workers_half_way(1)     # it has computed as many chunks as the first one
    assert late != early
    Event("go").set()
    assert bits(future.result(timeout=TIMEOUT)) == wanted


@pytest.mark.parametrize("client", [{"memory_limit": "100 MB"}], indirect=True, ids=["100 MB"])
def test_spilling(client):
    """Slices have gaps in memory, and come back from disk without them."""
    x = da.random.default_rng(0).normal(3, 1, (40_000, 80), chunks=(2_000, 80))[:, :40]
    wanted = bits(moments(x).compute(scheduler=dask.get))
    persisted = x.persist()
    distributed.wait(persisted, timeout=TIMEOUT)
    assert sum(client.run(n_on_disk).values()) >= 15        # of 20
    assert bits(moments(persisted).compute()) == wanted
