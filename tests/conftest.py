"""Settings of hypothesis, and fixtures that all may use."""

import os
import pickle

import pytest
from hypothesis import settings

import bnstream

settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def default_threads():
    """What a test sets, the next one does not see."""
    yield
    bnstream.set_num_threads(None)


@pytest.fixture
def unchanged():
    """A check that a call raises and leaves the state as it was."""

    def check(m, error, message, call):
        before = pickle.dumps(m)
        with pytest.raises(error, match=message):
            call(m)
        assert pickle.dumps(m) == before

    return check
