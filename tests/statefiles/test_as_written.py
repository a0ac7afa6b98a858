"""A file holds what `write` writes of its state, to the last bit; nothing is rounded or left out in silence."""

import numpy as np
import pytest
from support.forgery import forge, npy
from support.states import SAVED, holed, trained

from bnstream import Moments
from bnstream.statefiles import StateError, load, read, save, write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


def array_of(name, path):
    with np.load(path) as arrays:
        return arrays[name]


@pytest.mark.parametrize(("state", "change", "message"), [
    ("columns", {"comment": 1}, r"a state of kind 'moments' does not have the members \['comment'\]"),
    ("columns", {"version": 2}, "version of this state is 1, got 2"),
    ("columns", {"bnstream": 1}, "bnstream must be of type str, got 1"),
    ("columns", {"conventions": []}, r"conventions must be of type dict, got \[\]"),
    ("columns", {"completeness": "imported", "lacks": None}, "lacks must be of type list, got None"),
    ("columns", {"progress": {}}, r".*does not have the members \['progress'\]"),
    ("columns", {"x" * 5000: 1, "y" * 5000: 1}, r".*does not have the members \['x{59}, 'y{59}\]$"),
    ("pooled", {"pooled.more": 1}, "pooled of this state is .*, got "),
    ("exact", {"exact.more": 1}, "exact of this state is .*, got "),
])
def test_descriptions_that_no_state_has(state, change, message, path):
    save(path, SAVED[state]())
    forge(path, change)
    with pytest.raises(StateError, match=f"holds no valid state: {message}"):
        load(path)


def test_values_that_no_state_keeps(path):
    """What is rounded, overruled or left out would be another state than the one in the file."""
    save(path, SAVED["no gamma"]())
    forge(path, arrays={"beta.npy": npy(np.float32([1.001, 0, 0]))})
    with pytest.raises(StateError, match="beta has values that this state does not keep, such as those that its dtype"):
        load(path)
    save(path, holed())
    forge(path, arrays={"exponent.npy": npy(np.zeros(3))})
    with pytest.raises(StateError, match="exponent has values that this state does not keep"):
        load(path)
    save(path, trained(dtype="float64"))
    forge(path, arrays={"initial_weight.npy": npy(np.full(3, np.nan))})
    with pytest.raises(StateError, match="initial_weight must be from 0 to 1"):
        load(path)


def test_sketches_of_another_shape(path):
    pytest.importorskip("datasketches")
    save(path, Moments(track="quantiles").update(np.ones((5, 2))))
    forge(path, arrays={"quantiles.npy": npy(array_of("quantiles", path)[np.newaxis])})
    with pytest.raises(StateError, match=r"quantiles must be uint8 of shape|quantiles has values that this state"):
        load(path)


def test_nothing_warns(path):
    """Numbers of a stranger may overflow in the checks, and a NaN may be a signaling one."""
    save(path, Moments().update([[1.0, 2.0], [3.0, 5.0]], weights=[0.5, 1.5]))
    squares = npy(np.array([5e-324, 1.0]))
    forge(path, arrays={"n.npy": npy(np.array([1e300, 2.0])), "sum_of_squared_weights.npy": squares})
    with pytest.raises(StateError, match="holds no valid state"):
        load(path)
    signaling = npy(np.array([0x7F800001, 0, 0], np.uint32).view(np.float32))
    save(path, SAVED["RMS norm"]())
    forge(path, arrays={"gamma.npy": signaling})
    with pytest.raises(StateError, match="gamma has values that this state does not keep"):
        load(path)


def test_messages_have_an_end(path):
    save(path, holed())
    forge(path, {"names": ["x" * 10**5] * 3})
    with pytest.raises(StateError, match=r"holds no valid state: names must differ, got 'x{900}") as shown:
        load(path)
    assert len(str(shown.value)) < 1500


def test_imported_states_and_checkpoints_are_read(path):
    write(path, holed(), lacks=["n"])
    assert read(path).metadata["lacks"] == ["n"]
    write(path, holed(), progress={"at": [0, 3]})
    assert read(path).metadata["progress"] == {"at": [0, 3]}


def test_names_of_arrays_are_shown_cut(path):
    save(path, holed())
    forge(path, arrays={"x" * 60000 + ".npy": npy(np.ones(3))})
    with pytest.raises(StateError, match=r"does not have the arrays \['x{59}\]$"):
        load(path)
