"""MERGE on real ranks, started by mpiexec."""

import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.arrays import of_dtype, rng
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

# Every rank starts with this: it reads its part from a file.
START = """
import pickle, sys
from pathlib import Path
from mpi4py import MPI
from bnstream.mpi import MERGE, MERGE_EXACT

comm, folder = MPI.COMM_WORLD, Path(sys.argv[1])
part = pickle.loads((folder / f"part{comm.rank}").read_bytes())
"""
END = """
(folder / f"found{comm.rank}").write_bytes(pickle.dumps(found))
"""
RESULTS = """
found = [comm.allreduce(part, op=MERGE), comm.reduce(part, op=MERGE, root=comm.size - 1), comm.scan(part, op=MERGE),
         comm.allreduce(part), part]
"""
DIGESTS = """
totals = [comm.allreduce(part, op=op) for op in (MERGE, MERGE_EXACT)]
totals += [comm.bcast(comm.scan(part, op=MERGE_EXACT), root=comm.size - 1)]
found = [total.digest() for total in totals]
"""
ERRORS = """
found = []
for op in (MERGE, MERGE_EXACT):
    for total in (comm.allreduce(part, op=op), comm.bcast(comm.reduce(part, op=op))):
        try:
            found.append(total.mean)
        except (TypeError, ValueError, OverflowError) as error:
            found.append((repr(total), str(error)))
"""


def run(folder, parts, script=RESULTS):
    """What each rank gets, as from allreduce, reduce to the last rank, scan and allreduce with SUM, and its part."""
    for rank, part in enumerate(parts):
        (folder / f"part{rank}").write_bytes(pickle.dumps(part))
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path(bnstream.__file__).parents[1])}
    # With -m mpi4py a rank that raises ends all ranks.
    ranks = [sys.executable, "-W", "error", "-m", "mpi4py", "-c", START + script + END, str(folder)]
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
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
def test_exact_on_any_ranks(n_ranks, tmp_path):
    """One digest for any number of ranks, and any order and distribution of the data."""
    x = of_dtype("f8", (100, 5)) + 1e8
    cuts = np.sort(rng(n_ranks).integers(0, 100, n_ranks - 1))
    parts = [Moments(exact=True).update(rows) for rows in np.split(rng(n_ranks).permutation(x), cuts)]
    parts[n_ranks // 2].merge(Moments(exact=True))
    assert run(tmp_path, parts, DIGESTS) == [[Moments(exact=True).update(x).digest()] * 3] * n_ranks


@needs_mpi
def test_exact_weights(tmp_path):
    """A row counts as often as its weight says."""
    x, weights = of_dtype("f8", (100, 5)) + 1e8, rng(1).integers(0, 6, 100)
    parts = [Moments(exact=True).update(x[start:stop], weights=weights[start:stop])
             for start, stop in ((0, 9), (9, 70), (70, 100))]
    assert run(tmp_path, parts, DIGESTS) == [
        [Moments(exact=True).update(np.repeat(x, weights, axis=0)).digest()] * 3] * 3


@needs_mpi
@pytest.mark.parametrize("other", [0, 1, 3])
@pytest.mark.parametrize(("kind", "message"), [
    ("plain", ["expected (exact|plain) statistics as here", "MERGE_EXACT takes exact statistics from every rank, got"]),
    ("channels", [r"expected channels of shape \(.,\) as here"] * 2),
    ("too many", [r"expected at most 2\*\*62 values in a channel"] * 2),
    ("RunningMeanStd", ["MERGE takes a Moments from every rank", "MERGE"]),
])
def test_states_that_do_not_merge(other, kind, message, tmp_path):
    """Every rank gets the error. None waits for another."""
    parts = [Moments(exact=True).update([[1.0, 2.0]]) for _ in range(4)]
    parts[other] = {"plain": Moments().update([[1.0, 2.0]]), "channels": Moments(exact=True).update([[1.0]]),
                    "too many": Moments(exact=True).update(np.ones((1024, 2)), weights=np.full(1024, 2**52)),
                    "RunningMeanStd": RunningMeanStd().update([[1.0, 2.0]])}[kind]
    ranks = run(tmp_path, parts, ERRORS)
    assert ranks == [ranks[0]] * 4
    for (shown, error), wanted in zip(ranks[0], np.repeat(message, 2), strict=True):
        assert shown == f"Refused: {error}"
        assert re.match(wanted, error)


def in_python(*lines):
    return python("-c", "\n".join(["from bnstream.mpi import MERGE, MERGE_EXACT; from bnstream import Moments",
                                   "import pickle", *lines]), check=False)


@needs_mpi
@pytest.mark.parametrize(("merge", "message"), [
    ("MERGE(Moments(), 3.0)", "MERGE takes a Moments from every rank, or a RunningMeanStd from every rank, got Moments "
                              "and float"),
    ("MERGE(MERGE(Moments(), 3.0), Moments())", "MERGE takes a Moments from every rank, or a RunningMeanStd from every "
                                                "rank, got Moments and float"),
    ("MERGE_EXACT(Moments(), Moments(exact=True))", "MERGE_EXACT takes exact statistics from every rank, got plain "
                                                    "statistics; make them with Moments(exact=True)"),
    ("MERGE_EXACT(Moments(exact=True), Moments())", "MERGE_EXACT takes exact statistics from every rank, got plain "
                                                    "statistics; make them with Moments(exact=True)"),
])
def test_refused(merge, message):
    """The first error goes on through further merges and pickles, and attributes raise it."""
    for end in (".update([[1.0]])", ".mean"):
        done = in_python(f"total = pickle.loads(pickle.dumps(MERGE(Moments(exact=True), {merge})))",
                         f"assert repr(total) == {'Refused: ' + message!r}", f"total{end}")
        assert done.stderr.rstrip().endswith(f"Error: {message}")


@needs_mpi
def test_buffers_are_refused():
    """MPI would not see what is returned."""
    done = in_python("MERGE_EXACT.Reduce_local(b'ab', bytearray(2))")
    assert "TypeError: MERGE and MERGE_EXACT merge objects, got buffers; use the methods in lower case" in done.stderr
    assert done.returncode


@needs_mpi
def test_which_commutes():
    """a + b and b + a may differ in the last bits, so MPI must not exchange them, unless they are exact."""
    done = in_python("assert not MERGE.Is_commutative() and MERGE_EXACT.Is_commutative()",
                     "a, b, c = (Moments(exact=True).update([[x]]) for x in (0.1, 0.2, 1e300))",
                     "assert MERGE_EXACT(a, MERGE_EXACT(b, c)) == MERGE_EXACT(MERGE_EXACT(c, a), b)",
                     "d = Moments(exact=True, nan_policy='propagate').update([[float('nan')]])",
                     "assert repr(MERGE_EXACT(a, d)) == repr(MERGE_EXACT(d, a)) == 'Refused: MERGE_EXACT takes '"
                     "'statistics of one nan_policy from every rank, got propagate and raise'",
                     "assert not hasattr(MERGE_EXACT(a, d), '_repr_html_')")
    assert not done.returncode, done.stderr


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
