"""State files of what is tracked beside the moments, and those that no run could have written."""

import json
import zipfile

import numpy as np
import pytest
from support.arrays import normal
from support.forgery import forge

from bnstream import BatchNorm, DomainBatchNorm, Moments, load, save
from bnstream.core.moments import tracked_of
from bnstream.core.tracking import OF_KERNELS as NAMES
from bnstream.statefiles import StateError, read, write
from bnstream.statefiles.description import Fields, describe_moments, restore_moments

EXACT = ("min", "max", "missing")


def example(track=NAMES, **options):
    x = normal((60, 3)).astype(np.float32)
    x[::7, 1] = np.nan
    x[:, 2] = np.nan
    return Moments(nan_policy="omit", names=["a", "b", "c"], track=track, **options).update(x)


@pytest.mark.parametrize("m", [
    example(), example("missing"), example("min"), example("kurtosis"), example(EXACT, exact=True),
    Moments(track=NAMES), Moments(track=EXACT, exact=True), Moments(track=NAMES).update(np.array([[1e200], [-1e200]])),
    Moments(track=NAMES).update(normal((9, 2)), weights=np.arange(9)),
    Moments(None, track=NAMES).update(np.arange(9.0)),
    Moments(nan_policy="propagate", track=NAMES).update(np.array([[np.nan, np.inf], [1.0, 2.0]])),
])
def test_a_file_keeps_every_bit(m, tmp_path):
    path = tmp_path / "m.npz"
    save(path, m)
    found = load(path)
    assert (found, found.track, found.names) == (m, m.track, m.names)
    assert {k: v.tobytes() for k, v in tracked_of(found).items()} == {k: v.tobytes() for k, v in tracked_of(m).items()}
    before = path.read_bytes()
    save(path, found)
    assert path.read_bytes() == before
    assert read(path).metadata["version"] == 2      # which an older bnstream refuses


def test_a_file_without_has_the_older_version(tmp_path):
    save(tmp_path / "m.npz", Moments().update([[1.0]]))
    assert read(tmp_path / "m.npz").metadata["version"] == 1


def test_layers_whose_pooled_statistics_track_more(tmp_path):
    """An older bnstream does not know what they track either, and is to say that the file is newer."""
    bn = BatchNorm(3, track_pooled=True)
    bn.recalibrate(Moments(track="min").update(normal((9, 3))))
    domains = DomainBatchNorm(3)
    domains(normal((9, 3)), "a")
    domains["a"].pooled = Moments(track="min").update(normal((9, 3)))
    for layer in (bn, domains):
        save(tmp_path / "layer.npz", layer)
        assert read(tmp_path / "layer.npz").metadata["version"] == 2
        assert load(tmp_path / "layer.npz") == layer
    forge(tmp_path / "layer.npz", {"version": 1})
    with pytest.raises(StateError, match="version of this state is 2, got 1"):
        load(tmp_path / "layer.npz")


def test_numpy_reads_the_arrays(tmp_path):
    save(tmp_path / "m.npz", example())
    with np.load(tmp_path / "m.npz") as arrays:
        assert arrays["missing"].tolist() == [0, 9, 60]
        assert arrays["min"].tolist()[2] == np.inf
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        description = json.loads(archive.read("bnstream.json"))
    assert description["track"] == list(NAMES)
    assert description["conventions"]["m3"].startswith("m3 + m3_lo is the sum of the third powers")


DESCRIPTION, ARRAYS = describe_moments(example())
DESCRIPTION |= {"shape": [3], "names": ["a", "b", "c"], "track": list(NAMES)}


@pytest.mark.parametrize(("changes", "message"), [
    ({"track": ["median"]}, "track must be of 'min', 'max'"),
    ({"track": []}, "track must be some of min, max, missing, skewness, kurtosis, quantiles, in this order"),
    ({"track": None}, "track must be some of min"),
    ({"track": ["max", "min"]}, "in this order"),
    ({"track": ["min"]}, "in this order"),
    ({"track": "min"}, "track must be of type list or null"),
    ({"min": None}, "the array min is missing"),
    ({"m4_lo": None}, "the array m4_lo is missing"),
    ({"missing": ARRAYS["missing"] + 0.5}, "missing must be int64"),
    ({"missing": ARRAYS["missing"] - 1}, "missing must not be negative, got -1"),
    ({"min": ARRAYS["min"][:2]}, "min must be float64 of shape"),
    ({"min": -ARRAYS["min"]}, "min must be inf, and max -inf, where n is 0"),
    ({"max": ARRAYS["max"] - 100}, "the mean must be between min and max"),
    ({"max": np.where(ARRAYS["n"] > 0, ARRAYS["mean"] + 0.1, -np.inf)}, "the variance must be at most"),
    ({"max": np.where(ARRAYS["max"] > 0, np.inf, ARRAYS["max"])}, "min and max must be finite under nan_policy 'omit'"),
    ({"m3": ARRAYS["m3"] + 1}, "m3 and m4 must be 0 where n is 0"),
    ({"m3": ARRAYS["m3"] * 1e9}, "no data has these m3 and m4 beside this m2"),
    ({"m4": -ARRAYS["m4"]}, "no data has these m3 and m4 beside this m2"),
    ({"m4": ARRAYS["m4"] * 1e-3}, "no data has these m3 and m4 beside this m2"),
    ({"m4_lo": ARRAYS["m4_lo"] + 1}, "m4_lo must be the rounding error of m4"),
])
def test_impossible_states(changes, message):
    arrays = {**ARRAYS, **{name: value for name, value in changes.items() if name != "track"}}
    description = {**DESCRIPTION, **{name: value for name, value in changes.items() if name == "track"}}
    with pytest.raises(ValueError, match=message):
        restore_moments(Fields(description), {name: array for name, array in arrays.items() if array is not None})


def test_exact_states_track_no_shape():
    description, arrays = describe_moments(example(EXACT, exact=True))
    description |= {"shape": [3], "names": ["a", "b", "c"], "track": list(NAMES)}
    with pytest.raises(ValueError, match="exact statistics do not track skewness and kurtosis"):
        restore_moments(Fields(description), arrays)


def test_arrays_that_are_not_declared(tmp_path):
    path = tmp_path / "m.npz"
    save(path, example("min"))
    forge(path, {"track": ...})
    with pytest.raises(StateError, match="does not have the arrays"):
        load(path)


def test_checkpoints_keep_what_is_tracked(tmp_path):
    write(tmp_path / "m.checkpoint", example(), progress={"row": 3})
    assert read(tmp_path / "m.checkpoint").state.track == NAMES
