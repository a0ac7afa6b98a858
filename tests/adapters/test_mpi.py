"""MERGE on real ranks, started by mpiexec."""

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

# Open MPI needs these on few cores and for root. Other implementations ignore them.
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}

# Every rank runs this: it reads its part from a file and writes its results to another.
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
    """What each rank gets from allreduce, reduce to the last rank, scan and allreduce with SUM, and its part."""
    for rank, part in enumerate(parts):
        (folder / f"part{rank}").write_bytes(pickle.dumps(part))
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path(bnstream.__file__).parents[1])}
    # With -m mpi4py a rank that raises ends all ranks.
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
    """All ranks get the same bits, those of pairwise merges in the order of the ranks."""
    x = of_dtype("f8", (100, 5)) + 1e8
    parts = [kind().update(rows) for rows in np.array_split(x, n_ranks)]
    expected = sum(parts) if n_ranks < 4 else (parts[0] + parts[1]) + (parts[2] + parts[3])
    found = run(tmp_path, parts)
    for rank, (reduced, at_last, scanned, summed, after) in enumerate(found):
        assert type(reduced) is kind
        assert bits(reduced) == bits(summed) == bits(expected)
        assert at_last is None if rank < n_ranks - 1 else bits(at_last) == bits(expected)
        assert_within(scanned.mean, scanned.var() if kind is Moments else scanned.var,
                      exact_states(np.concatenate(np.array_split(x, n_ranks)[:rank + 1])))
        assert bits(after) == bits(parts[rank])


@needs_mpi
def test_ranks_without_data(tmp_path):
    parts = [Moments(), Moments().update([[1.0], [3.0]]), Moments()]
    assert [reduced for reduced, *_ in run(tmp_path, parts)] == [parts[1]] * 3


@needs_mpi
def test_other_objects_are_refused():
    done = python("-c", "from bnstream.mpi import MERGE; import bnstream; MERGE(bnstream.Moments(), 3.0)", check=False)
    assert done.stderr.rstrip().endswith(
        "TypeError: MERGE takes a Moments from every rank, or a RunningMeanStd from every rank, got Moments and float")


@needs_mpi
def test_it_does_not_commute():
    """a + b and b + a may differ in the last bits, so MPI must not exchange the operands."""
    python("-c", "from bnstream.mpi import MERGE; assert not MERGE.Is_commutative()")


@needs_mpi
def test_docstring():
    python("-c", "import doctest, bnstream.mpi\n"
                 "result = doctest.testmod(bnstream.mpi)\n"
                 "assert result.attempted > 5 and not result.failed")


def test_without_mpi4py_the_error_says_what_to_install():
    done = python("-c", "import sys; sys.modules['mpi4py'] = None; import bnstream.mpi", check=False)
    assert done.stderr.rstrip().endswith(
        'ModuleNotFoundError: bnstream.mpi needs mpi4py, which is not installed; install it with: pip install '
        '"bnstream[mpi]"')
