"""State files of exact statistics that no run could have written."""

import numpy as np
import pytest
from support.arrays import normal

from bnstream import Moments, save
from bnstream.statefiles.description import Fields, describe_moments, restore_moments


def changed(description, arrays, changes):
    """A description and arrays with other members; None removes one."""
    members = {**arrays, **changes}
    description = {**description, **{name: members.pop(name) for name in changes if name in ("shape", "nan_policy")}}
    units = {name: members.pop(name) for name in changes if name.endswith("_unit")}
    if units:
        description["exact"] = {**description["exact"], **units}
    if "exact" in changes:
        description["exact"] = members.pop("exact")
    return description, {name: array for name, array in members.items() if array is not None}


M = Moments(exact=True).update(normal((9, 2)))
DESCRIPTION, ARRAYS = describe_moments(M)
DESCRIPTION |= {"shape": [2]}       # as JSON has it
ZEROS = np.zeros(2, np.int64)


@pytest.mark.parametrize(("changes", "message"), [
    ({"numbers": ZEROS - 1}, "counts must be from 0 to 2"),
    ({"numbers": ZEROS + 2**53 + 1}, "counts must be from 0 to 2"),
    ({"numbers": ZEROS}, "no data has the statistics of channel 0"),
    ({"numbers": None}, "the array numbers is missing"),
    ({"numbers": ZEROS + 9.0}, "numbers must be int64"),
    ({"nan": ZEROS + 1}, "nan and inf must be 0 with nan_policy='raise'"),
    ({"sum_of_squares": -ARRAYS["sum_of_squares"]}, "no data has the statistics of channel 0"),
    ({"sum": None}, "sum must have 1 to 34 limbs"),
    ({"sum": np.zeros((2, 35), np.int64)}, "sum must have 1 to 34 limbs"),
    ({"sum": ARRAYS["sum"][:1]}, "sum must be int64 of shape"),
    ({"sum": np.pad(ARRAYS["sum"], ((0, 0), (0, 1))) * 0}, "must have the fewest limbs"),
    ({"sum_unit": -1075}, "sum_unit must be from -1074"),
    ({"sum_unit": 0.5}, "sum_unit must be of type int"),
    ({"sum_unit": DESCRIPTION["exact"]["sum_unit"] + 200}, "no data has the statistics"),
    ({"exact": None}, "exact must be null where there is no batch, and only there"),
    ({"exact": {}}, "sum_unit is missing"),
    ({"shape": None}, "exact must be null where there is no batch, and only there"),
    ({"shape": [3]}, r"numbers must be int64 of shape \(3,\)"),
])
def test_refused(changes, message):
    description, arrays = changed(DESCRIPTION, ARRAYS, changes)
    with pytest.raises(ValueError, match=message):
        restore_moments(Fields(description), arrays)


def test_accepted():
    restored = restore_moments(Fields(DESCRIPTION), dict(ARRAYS))
    assert restored == M
    assert restored.digest() == M.digest()


def test_too_many_values(tmp_path):
    """A file has room for the sums of 2**53 values. More are refused before it is written, not when it is read."""
    m = Moments(exact=True).update(np.ones((1, 2)))
    for _ in range(53):
        m.merge(m)
    save(tmp_path / "m", m)
    m.update([[0.0, 1.0]])
    with pytest.raises(ValueError, match=r"counts must be from 0 to 2\*\*53, got 0 to 9007199254740993"):
        save(tmp_path / "more", m)
    assert not (tmp_path / "more").exists()
