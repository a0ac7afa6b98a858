"""State files of exact statistics that no run could have written."""

import numpy as np
import pytest
from support.arrays import normal

from bnstream import Moments, load, save
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
    ({"numbers": ZEROS + 2**62 + 1}, r"counts must be from 0 to 2\*\*62, got 0 to 4.6116860184273879e\+18"),
    ({**dict.fromkeys(("numbers", "nan", "plus_inf", "minus_inf"), ZEROS + 2**62), "nan_policy": "propagate"},
     r"counts must be from 0 to 2\*\*62, got \d+ to 1.8446744073709552e\+19"),
    ({"numbers": ZEROS + 1}, "no data has the statistics of channel 0"),
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


def test_one_value_has_no_spread():
    description, arrays = describe_moments(Moments(exact=True).update([[3.0]]))
    description |= {"shape": [1]}
    assert restore_moments(Fields(description), dict(arrays)).mean.tolist() == [3]
    for squares in (8, 10, 17):
        given = {**arrays, "sum_of_squares": np.int64([[squares]])}
        with pytest.raises(ValueError, match="no data has the statistics of channel 0"):
            restore_moments(Fields(description), given)


def test_most_values(tmp_path):
    """A file has room for as many values as exact statistics count, which weights make soon."""
    x = normal((1024, 2))
    m = Moments(exact=True).update(x, weights=np.full(1024, 2**52))
    save(tmp_path / "m", m)
    assert load(tmp_path / "m") == m
    assert load(tmp_path / "m").digest() == m.digest()
    largest = Moments(exact=True).update(np.full((1024, 1), 2.0**1023), weights=np.full(1024, 2**52))
    save(tmp_path / "m", largest)
    assert load(tmp_path / "m") == largest
