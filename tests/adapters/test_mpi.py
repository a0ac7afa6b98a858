"""MERGE over real ranks, started by mpiexec."""

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.arrays import of_dtype
from support.oracle import assert_within, exact_states
from support.processes import python

import bnstream
from bnstream import Moments
from bnstream.core.runningmeanstd import RunningMeanStd

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None, reason="no mpi4py, or no mpiexec")

# Open MPI asks for these where there are few cores, and of root; others do not know them.
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}

# What every rank runs. It reads its part from a file, and writes what it got into another.
RANK = """
import pickle, sys
from pathlib import Path
from mpi4py import MPI
from bnstream.mpi import MERGE

comm, folder = MPI.COMM_WORLD, Path(sys.argv[1])
part = pickle.loads((folder / f"part{comm.rank}").read_bytes())
found = [comm.allreduce(part, op=MERGE), comm.reduce(part, op=MERGE, root=comm.size - 1), comm.scan(part, op=MERGE),
         comm.allreduce(part), part]
(folder / f"found{comm.rank}").write_bytes(pickle.dumps(found))
"""


def run(folder, parts):
    """What each rank found: of allreduce, reduce to the last, scan and allreduce by SUM, and its part afterwards."""
    for rank, part in enumerate(parts):
        (folder / f"part{rank}").write_bytes(pickle.dumps(part))
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path(bnstream.__file__).parents[1])}
    # -m mpi4py: a rank that raises ends all of them.
    ranks = [sys.executable, "-W", "error", "-m", "mpi4py", "-c", RANK, str(folder)]
    done = subprocess.run([MPIEXEC, "-n", str(len(parts)), *ranks], env=environment, check=False, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [pickle.loads((folder / f"found{rank}").read_bytes()) for rank in range(len(parts))]


def bits(m):
    return pickle.dumps(m.moments if isinstance(m, RunningMeanStd) else m)


@needs_mpi
@pytest.mark.parametrize("kind", [Moments, RunningMeanStd])
@pytest.mark.parametrize("n_ranks", [1, 3, 4])
def test_ranks(kind, n_ranks, tmp_path):
    """The same bits on all ranks: those of merges in the order of the ranks, two and two, and so on."""
    x = of_dtype("f8", (100, 5)) + 1e8
    parts = [kind().update(rows) for rows in np.array_split(x, n_ranks)]
    expected = sum(parts) if n_ranks < 4 else (parts[0] + parts[1]) + (parts[2] + parts[3])
    found = run(tmp_path, parts)
    for rank, (everywhere, at_last, up_to_here, summed, after) in enumerate(found):
        assert type(everywhere) is kind
        assert bits(everywhere) == bits(summed) == bits(expected)
        assert at_last is None if rank < n_ranks - 1 else bits(at_last) == bits(expected)
        assert_within(up_to_here.mean, up_to_here.var() if kind is Moments else up_to_here.var,
                      exact_states(np.concatenate(np.array_split(x, n_ranks)[:rank + 1])))
        assert bits(after) == bits(parts[rank])


@needs_mpi
def test_ranks_without_data(tmp_path):
    parts = [Moments(), Moments().update([[1.0], [3.0]]), Moments()]
    assert [everywhere for everywhere, *_ in run(tmp_path, parts)] == [parts[1]] * 3


@needs_mpi
def test_it_merges_nothing_else():
    done = python("-c", "from bnstream.mpi import MERGE; import bnstream; MERGE(bnstream.Moments(), 3.0)", check=False)
    assert done.stderr.rstrip().endswith(
        "TypeError: MERGE takes a Moments of every rank, or a RunningMeanStd of every rank, got Moments and float")


@needs_mpi
def test_it_does_not_commute():
    """As a + b and b + a differ in the last bits, no MPI may turn them round."""
    python("-c", "from bnstream.mpi import MERGE; assert not MERGE.Is_commutative()")


@needs_mpi
def test_docstring():
    python("-c", "import doctest, bnstream.mpi\n"
                 "result = doctest.testmod(bnstream.mpi)\n"
                 "assert result.attempted > 5 and not result.failed")


def test_without_mpi4py_the_error_says_what_to_install():
    done = python("-c", "import sys; sys.modules['mpi4py'] = None; import bnstream.mpi", check=False)
    assert done.stderr.rstrip().endswith(
        'ModuleNotFoundError: MERGE needs mpi4py, which is not installed; install it with: pip install "bnstream[mpi]"')
