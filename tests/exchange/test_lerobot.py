"""LeRobot's statistics: read and written as LeRobot has them, merged over episodes as it does."""

import numpy as np
import pytest
from support.lerobot import aggregated, episode_statistics, episodes, in_json, statistics

from bnstream import BatchNorm, Moments, load, save
from bnstream.exchange import from_arrays, to_arrays
from bnstream.exchange.lerobot import from_lerobot, nested

ACTION = {"mean": [1.0, 2.0], "std": [0.5, 0.0], "count": [10]}


def flat(stats):
    return {f"{feature}/{name}": values for feature, own in stats.items() for name, values in own.items()}


def require_equal(m, stats):
    """The statistics are those of LeRobot, within the rounding of its own float64."""
    first = 0
    for feature, own in stats.items():
        width = own["mean"].size
        channels = slice(first, first := first + width)
        names = [feature] if width == 1 else [f"{feature}[{i}]" for i in range(width)]
        assert list(m.names[channels]) == names
        assert m.n[channels].tolist() == [own["count"][0]] * width
        assert m.mean[channels] == pytest.approx(own["mean"].ravel(), rel=1e-13)
        assert m.std()[channels] == pytest.approx(own["std"].ravel(), rel=1e-9, abs=1e-12)
        assert (m.min[channels].tolist(), m.max[channels].tolist()) == (own["min"].ravel().tolist(),
                                                                        own["max"].ravel().tolist())
    assert first == len(m.names)


@pytest.mark.parametrize("form", [dict, flat, in_json])
def test_one_part(form):
    stats = aggregated(episode_statistics())
    m = from_arrays(form(stats), "lerobot")
    require_equal(m, stats)
    assert m.names[:4] == ("observation.state[0]", "observation.state[1]", "observation.state[2]", "action[0]")
    assert m.n[-1] == 69                    # frames, not pixels, as LeRobot counts
    assert m.mean[0] == stats["observation.state"]["mean"][0]


def test_episodes_are_merged_as_lerobot_does():
    parts = episode_statistics()
    del parts[1]["action"]
    require_equal(from_lerobot(parts), aggregated(parts))
    everything = np.concatenate([columns["observation.state"] for columns in episodes()])
    assert from_lerobot(parts).mean[:3] == pytest.approx(everything.mean(0, float), rel=1e-13)


def test_there_and_back():
    x = {name: np.concatenate([columns[name] for columns in episodes()]) for name in ("action", "timestamp")}
    m = Moments(names=["action[0]", "action[1]", "timestamp"], track="min").update(np.column_stack(list(x.values())))
    arrays = to_arrays(m, "lerobot")
    assert list(arrays) == [f"{feature}/{name}" for feature in x for name in ("min", "max", "mean", "std", "count")]
    for feature, values in x.items():
        expected = statistics(values)
        for name in ("min", "max", "mean", "std", "count"):
            assert arrays[f"{feature}/{name}"] == pytest.approx(expected[name], rel=1e-12)
            assert arrays[f"{feature}/{name}"].shape == expected[name].shape
    assert arrays["action/count"].dtype == np.int64
    back = from_arrays(arrays, "lerobot")
    assert back.names == m.names
    assert back.mean.tolist() == m.mean.tolist()
    assert back.std() == pytest.approx(m.std(), rel=1e-15)
    assert (back.min.tolist(), back.max.tolist()) == (m.min.tolist(), m.max.tolist())
    assert nested(arrays)["timestamp"]["count"] == [66]


def test_images_keep_their_shape():
    """LeRobot refuses statistics of a feature of images of another shape."""
    stats = {"observation.images.top": episode_statistics()[0]["observation.images.top"]}
    arrays = to_arrays(from_arrays(stats, "lerobot"), "lerobot")
    assert arrays["observation.images.top/mean"].shape == (3, 1, 1)
    assert arrays["observation.images.top/mean"].tolist() == stats["observation.images.top"]["mean"].tolist()
    assert arrays["observation.images.top/count"].tolist() == [41]


def test_without_extremes():
    """Some tools write mean, std and count alone."""
    m = from_lerobot([{"action": ACTION}, {"action": ACTION | {"min": [0.0, 2.0], "max": [1.5, 2.0]}}])
    assert (m.n.tolist(), m.track) == ([20, 20], ())


def test_a_mean_that_is_rounded_out_of_the_extremes(tmp_path):
    """LeRobot computes in float32: of a constant, the mean is another number."""
    constant = np.float32(0.1)
    own = {"min": [constant], "max": [constant], "mean": [np.nextafter(constant, np.float32(1))], "std": [0.0],
           "count": [9]}
    m = from_arrays({"action": own}, "lerobot")
    assert m.mean.tolist() == m.min.tolist() == [float(constant)]
    save(tmp_path / "stats.npz", m)
    assert load(tmp_path / "stats.npz") == m


@pytest.mark.parametrize(("stats", "message"), [
    ({}, "expected the statistics of features, got none"),
    ({"action": 3.0}, r"expected the statistics of features, such as 'action/mean' or \{'action': .*, got 'action'"),
    ({"action": {}}, "expected mean, std, count of 'action', .* got $"),
    ({"action": {"mean": [1.0], "std": [1.0]}}, "got mean, std; LeRobot writes count from version 2.1"),
    ({"action": ACTION | {"median": [1]}}, "got mean, std, count, median$"),
    ({"action": ACTION | {"std": [1.0]}}, r"one shape, and one count, got action/mean float64 \(2,\), action/std"),
    ({"action": ACTION | {"count": [1, 2]}}, "one shape, and one count"),
    ({"action": ACTION | {"mean": [], "std": []}}, "one shape, and one count"),
    ({"action": ACTION | {"count": [-1]}}, "the count of 'action' must be a whole number from 0 to 2\\*\\*53, got -1"),
    ({"action": ACTION | {"count": [1.5]}}, "must be a whole number"),
    ({"action": ACTION | {"count": [1e300]}}, "must be a whole number"),
    ({"action": ACTION | {"count": [float("nan")]}}, "must be a whole number"),
    ({"action": ACTION | {"mean": [1.0, float("inf")]}}, "mean and std of 'action' must be finite, std from 0 to 1e"),
    ({"action": ACTION | {"std": [1.0, -1.0]}}, "must be finite, std from 0 to"),
    ({"action": ACTION | {"std": [1.0, 1e200]}}, "must be finite, std from 0 to"),
    ({"action": ACTION | {"count": [1]}}, "and 0 where count is 1, got mean"),
    ({"action": ACTION | {"mean": ["a", "b"]}}, "^action/mean must hold real numbers"),
    ({"action": ACTION | {"mean": [10**400, 0]}}, "^action/mean must hold real numbers"),
    ({"action": ACTION | {"mean": [True, False]}}, "^action/mean must hold real numbers"),
    ({"action": ACTION | {"mean": [[1.0], [1.0, 2.0]]}}, "action/mean must be a number or lists of equal lengths: "),
    ({"action/mean": [[1.0], [1.0, 2.0]]}, "action/mean must be a number or lists of equal lengths: "),
    ({"action": ACTION | {"min": [0.0], "max": [3.0]}}, "expected min, max and mean of 'action' of one shape, got "),
    ({"action": ACTION | {"min": [0.0, 2.1], "max": [3.0, 3.0]}},
     r"the mean of 'action' must be between min and max, which are finite, got \[1.0, 2.0\], \[0.0, 2.1\] and \[3"),
    ({"action": ACTION | {"min": [0.0, 2.0], "max": [3.0, float("inf")]}}, "between min and max, which are finite"),
    ({"action": ACTION | {"min": [0.0, float("nan")], "max": [3.0, 3.0]}}, "between min and max, which are finite"),
    ({"action": ACTION | {"min": [0.6, 1.9], "max": [1.5, 2.1]}}, "the squared std of 'action' must be at most"),
    ({"action": ACTION | {"min": ["a", "b"], "max": [3.0, 3.0]}}, "action/min must hold real numbers"),
    ({"action": ACTION | {"mean": None}}, "^action/mean must hold real numbers"),
])
def test_refused_statistics(stats, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(stats, "lerobot")


def test_refused_parts():
    other = {"action": {"mean": [1.0], "std": [0.5], "count": [10]}}
    with pytest.raises(ValueError, match=r"'action' has a mean of shape \(1,\), expected \(2,\) as in the"):
        from_lerobot([{"action": ACTION}, other])
    with pytest.raises(ValueError, match="LeRobot's arrays become Moments, which have no eps; leave out"):
        from_arrays({"action": ACTION}, "lerobot", eps=1.0)


def of(names, x=((1.0, 2.0), (3.0, 5.0)), **options):
    return Moments(names=names, **{"track": "min", **options}).update(np.array(x))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: BatchNorm(2, names=["a", "b"]), "LeRobot's count is a count of values, and running estimates have none"),
    (lambda: of(None), "LeRobot's statistics are those of named features, and these channels have no names"),
    (lambda: Moments(names=["a", "b"]), "the statistics are empty"),
    (lambda: of(["action[1]", "action[0]"]), r"such as action\[0\], action\[1\], got 'action\[1\]' as channel 0"),
    (lambda: of(["action[0]", "action[2]"]), r"got 'action\[2\]' as channel 1"),
    (lambda: of(["action[0]", "b", "action[1]"], np.ones((2, 3))), r"got 'action\[1\]' as channel 2"),
    (lambda: of(["action[0]", "action[1]"], [[1.0, np.nan], [2.0, 3.0]], nan_policy="omit"),
     "the channels of 'action' must have the same whole number of values, at least 1, got n from 1 to 2"),
    (lambda: of(["a", "b"], track=()), "LeRobot's statistics have min and max, and these do not; make them with"),
    (lambda: Moments(names=["a", "b"], track="min").update(np.ones((2, 2)), weights=[0.5, 0.25]),
     "the same whole number of values"),
])
def test_refused_states(make, message):
    with pytest.raises(ValueError, match=message):
        to_arrays(make(), "lerobot")
