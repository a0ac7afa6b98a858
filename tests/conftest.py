"""Settings of hypothesis, and fixtures for all tests."""

import gc
import os
import pickle

# Must be set before OpenMP is loaded. Idle threads that spin would slow down the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import settings
from support.cases import thorough

import bnstream

N_EXAMPLES = thorough(100, 30)
settings.register_profile("local", deadline=None, print_blob=True, max_examples=N_EXAMPLES)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, max_examples=N_EXAMPLES)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_finish():
    """Exempt the imported modules and collected tests from garbage collection, which takes a tenth of the time."""
    gc.freeze()


@pytest.fixture(autouse=True)
def default_threads():
    """Reset the number of threads after each test."""
    yield
    bnstream.set_num_threads(None)


@pytest.fixture
def unchanged():
    """Return a check that a call raises and leaves the state unchanged."""

    def check(m, error, message, call):
        before = pickle.dumps(m)
        with pytest.raises(error, match=message):
            call(m)
        assert pickle.dumps(m) == before

    return check
