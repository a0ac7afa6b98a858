"""State files of GroupedMoments: equal when read, the same bits when updated, and strict."""

import numpy as np
import pytest
from support.arrays import normal
from support.forgery import forge

from bnstream import GroupedMoments, StateError, load, save


def grouped(**options):
    x = normal((60, 3))
    return GroupedMoments(**options).update(x, np.arange(60) % 7 - 3)


def forms():
    x = normal((60, 3))
    large = x.copy()
    large[5] = 1e200
    names = np.array(["", "b", "ü\n", "AA"])[np.arange(60) % 4]
    return {
        "empty": GroupedMoments(names=["a"], key_names=["k"], missing_keys="omit"),
        "plain": grouped(names=["a", "b", "c"], nan_policy="omit"),
        "strings": GroupedMoments().update(x, names),
        "tuples": GroupedMoments().update(x, {"a": names, "b": np.arange(60) % 2 == 0}),
        "uint64": GroupedMoments().update(x, np.arange(60, dtype=np.uint64) % 3 + np.uint64(2**64 - 3)),
        "weights": grouped().update(x, np.arange(60) % 3, weights=np.arange(1.0, 61)),
        "large": grouped().update(large, np.arange(60) % 7 - 3),
        "large weights": grouped().update(large, np.arange(60) % 7 - 3).update(
            x, np.arange(60) % 2, weights=np.ones(60)),
        "missing": GroupedMoments(missing_keys="keep").update(x, ["a", None, "b"] * 20),
        "images": GroupedMoments((0, 2)).update(normal((20, 3, 4)), np.arange(20) % 3),
        "scalar": GroupedMoments(None).update(normal((20, 3)), np.arange(20) % 3),
        "exact": grouped(exact=True),
        "exact images": GroupedMoments((0, 2), exact=True).update(normal((20, 3, 4)), np.arange(20) % 3),
        "exact empty": GroupedMoments(exact=True),
    }


@pytest.mark.parametrize("form", forms())
def test_round_trip(form, tmp_path):
    g = forms()[form]
    save(tmp_path / "g.npz", g)
    found = load(tmp_path / "g.npz")
    assert found == g
    for name in ("axis", "nan_policy", "missing_keys", "names", "key_names", "exact", "shape", "kinds"):
        assert getattr(found, name) == getattr(g, name), name
    assert list(found) == list(g)
    for key in g:
        assert found[key].n.dtype == g[key].n.dtype
        assert found[key].__getstate__().keys() == g[key].__getstate__().keys()
    before = (tmp_path / "g.npz").read_bytes()
    save(tmp_path / "h.npz", found)
    assert (tmp_path / "h.npz").read_bytes() == before
    if g.shape == (3,) and g.axis == 0:
        x, keys = normal((5, 3), 4), list(g)[:1] * 5
        if isinstance(keys[0], tuple):
            keys = [*map(np.array, zip(*keys, strict=True))]
        elif isinstance(keys[0], int) and keys[0] > 2**63:
            keys = np.array(keys, np.uint64)
        assert found.update(x, keys) == g.update(x, keys)


@pytest.mark.parametrize(("changes", "message"), [
    ({"keys": [1, 2]}, "expected one key for each group"),
    ({"keys": [0, 0, 1, 2, 3, 4, 5]}, "keys must differ"),
    ({"keys": ["a", 0, 1, 2, 3, 4, 5]}, "a key must be of kind int, got 'a'"),
    ({"keys": [True, 0, 1, 2, 3, 4, 5]}, "a key must be of kind int, got True"),
    ({"keys": [2**64, 0, 1, 2, 3, 4, 5]}, "a key must be of kind int"),
    ({"keys": [[1], 0, 1, 2, 3, 4, 5]}, "a key must be of kind int"),
    ({"keys": None}, "keys must be of type list"),
    ({"kinds": ["float"]}, "kinds must be a list of int, bool, str"),
    ({"kinds": ["int", "int"]}, "a key must have 2 parts"),
    ({"kinds": None}, "kinds must be a list of"),
    ({"key_names": ["a", "b"]}, "key_names must name 1 columns of keys, got 2"),
    ({"names": ["a"]}, "names must fit channels of shape"),
    ({"weighted": [7]}, "weighted must hold places of groups"),
    ({"missing_keys": "drop"}, "missing_keys must be one of raise, omit, keep"),
    ({"shape": [3, 7]}, "must be int64 of shape"),
])
def test_strict(changes, message, tmp_path):
    save(tmp_path / "g.npz", grouped())
    forge(tmp_path / "g.npz", changes)
    with pytest.raises(StateError, match=message):
        load(tmp_path / "g.npz")
