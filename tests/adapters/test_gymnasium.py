"""The wrappers around real environments, compared with gymnasium's own."""

import doctest
import pickle

import numpy as np
import pytest
from support.oracle import assert_within, exact_states

gymnasium = pytest.importorskip("gymnasium")
from gymnasium import spaces, wrappers  # noqa: E402
from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.wrappers.utils import RunningMeanStd as TheirMeanStd  # noqa: E402

import bnstream.gymnasium  # noqa: E402
from bnstream.gymnasium import (  # noqa: E402
    NormalizeObservation,
    NormalizeReward,
    RunningMeanStd,
    VectorNormalizeObservation,
    VectorNormalizeReward,
)

STEPS = 300         # about ten episodes of CartPole
EPSILON = 1e-8
OURS = {NormalizeObservation: wrappers.NormalizeObservation, NormalizeReward: wrappers.NormalizeReward,
        VectorNormalizeObservation: wrappers.vector.NormalizeObservation,
        VectorNormalizeReward: wrappers.vector.NormalizeReward}


class Recorded(gymnasium.Env):
    """An environment that returns given observations, one after the other."""

    action_space = spaces.Discrete(2)

    def __init__(self, observations, space):
        self.observations, self.observation_space = observations, space

    def reset(self, *, seed=None, options=None):
        self.rest = iter(self.observations)
        return next(self.rest), {}

    def step(self, action):
        return next(self.rest), 1.0, False, False, {}


def cartpole(**options):
    return gymnasium.make("CartPole-v1", **options)


def cartpoles(mode="sync", **options):
    return gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode=mode, **options)


def run(env, steps=STEPS):
    """All observations, rewards and ends of episodes, with random actions. A new episode starts when one ends."""
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    observations, rewards, ends = [observation], [], []
    for _ in range(steps):
        action = rng.integers(0, 2, getattr(env, "num_envs", None))
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        ends.append(terminated)
        if np.ndim(terminated) == 0 and (terminated or truncated):
            observations.append(env.reset()[0])
    return np.array(observations), np.array(rewards), np.array(ends)


def standardized(batches):
    """Each batch normalized by the statistics of all batches up to it, by NumPy in double precision."""
    seen = [np.concatenate(batches[:i + 1]).astype(np.float64) for i in range(len(batches))]
    return np.array([(batch - rows.mean(0)) / np.sqrt(rows.var(0) + EPSILON)
                     for batch, rows in zip(batches, seen, strict=True)])


def test_docstrings():
    result = doctest.testmod(bnstream.gymnasium)
    assert result.attempted > 10
    assert result.failed == 0


@pytest.mark.parametrize(("ours", "theirs"), OURS.items())
def test_subclasses(ours, theirs):
    assert issubclass(ours, theirs)
    assert ours.__name__ in bnstream.gymnasium.__all__


@pytest.mark.parametrize("offset", [0, 100])
def test_statistics_equal_theirs_without_the_made_up_sample(offset):
    x = np.random.default_rng(0).normal(offset, 1, (50, 8, 3))
    ours, theirs = RunningMeanStd(shape=(3,)), TheirMeanStd(epsilon=0, shape=(3,))
    for batch in x:
        ours.update(batch)
        theirs.update(batch)
    np.testing.assert_allclose([ours.mean, ours.var], [theirs.mean, theirs.var], rtol=1e-12)
    assert ours.count == theirs.count == 400
    assert_within(ours.mean, ours.var, exact_states(x, (0, 1)))
    made_up = TheirMeanStd(shape=(3,))
    made_up.update(x[0])
    assert not np.allclose(made_up.var, x[0].var(0), rtol=1e-6)


def test_cartpole():
    raw, *_ = run(cartpole())
    env = NormalizeObservation(cartpole())
    assert env.observation_space == spaces.Box(-np.inf, np.inf, (4,), np.float32)
    observations, rewards, ends = run(env)
    assert sum(ends) > 5
    assert len(raw) == STEPS + 1 + sum(ends)
    assert observations.dtype == np.float32
    assert env.observation_space.contains(observations[-1])
    np.testing.assert_allclose(observations, standardized(raw[:, None])[:, 0], rtol=1e-6, atol=1e-6)
    assert set(rewards) == {1}
    assert_within(env.obs_rms.mean, env.obs_rms.var, exact_states(raw))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_of_cartpoles(mode):
    raw, _, ends = run(cartpoles(mode))
    assert ends.sum() > 10
    envs = VectorNormalizeObservation(cartpoles(mode))
    assert envs.single_observation_space == spaces.Box(-np.inf, np.inf, (4,), np.float32)
    assert envs.observation_space == spaces.Box(-np.inf, np.inf, (3, 4), np.float32)
    observations, *_ = run(envs)
    assert observations.dtype == np.float32
    assert envs.observation_space.contains(observations[-1])
    np.testing.assert_allclose(observations, standardized(raw), rtol=1e-6, atol=1e-6)
    assert_within(envs.obs_rms.mean, envs.obs_rms.var, exact_states(raw, (0, 1)))
    envs.close()


def test_environments_of_a_vector_may_have_statistics_of_their_own():
    envs = cartpoles(wrappers=[NormalizeObservation])
    run(envs, 20)
    assert [rms.count for rms in envs.get_attr("obs_rms")] == [21] * 3
    envs.close()


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
@pytest.mark.filterwarnings("ignore:.*(different from the unwrapped|probably too (low|high)):UserWarning")
def test_checks_of_gymnasium(wrapper):
    """Without updates, as with them the same seed does not give the same observation."""
    env = wrapper(cartpole())
    run(env, 20)
    env.update_running_mean = False
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize(("wrapper", "options"), [
    (NormalizeObservation, {"epsilon": 1e-3}), (NormalizeReward, {"gamma": 0.5, "epsilon": 1e-3}),
])
def test_spec(wrapper, options):
    spec = wrapper(cartpole(), **options).spec
    again = gymnasium.make(type(spec).from_json(spec.to_json()))
    assert type(again) is wrapper
    assert {name: getattr(again, name) for name in options} == options
    run(again, 3)
    other = cartpole().spec
    other.additional_wrappers = (wrapper.wrapper_spec(**options),)
    assert type(gymnasium.make(other)) is wrapper


@pytest.mark.parametrize("make", [
    lambda: NormalizeObservation(cartpole()), lambda: VectorNormalizeObservation(cartpoles()),
])
def test_without_updates(make):
    env = make()
    assert env.update_running_mean is True
    run(env, 50)
    env.update_running_mean = False
    before = pickle.dumps(env.obs_rms)
    raw, *_ = run(env.env, 20)
    observations, *_ = run(env, 20)
    assert pickle.dumps(env.obs_rms) == before
    rms = env.obs_rms
    np.testing.assert_allclose(observations, (raw - rms.mean) / np.sqrt(rms.var + EPSILON), rtol=1e-6, atol=1e-6)


def test_without_any_update_observations_are_unchanged():
    """Except for epsilon."""
    env, envs = NormalizeObservation(cartpole()), VectorNormalizeObservation(cartpoles())
    for wrapper in (env, envs):
        wrapper.update_running_mean = False
        assert wrapper.obs_rms.mean.shape == (4,)
        np.testing.assert_allclose(run(wrapper)[0], run(wrapper.env)[0], rtol=1e-7)


def test_environments_may_share_statistics():
    train, test = NormalizeObservation(cartpole()), NormalizeObservation(cartpole())
    run(train)
    test.obs_rms, test.update_running_mean = train.obs_rms, False
    count = train.obs_rms.count
    first, *_ = run(test, 1)
    run(train, 10)
    second, *_ = run(test, 1)
    assert train.obs_rms.count >= count + 11
    assert (first != second).any()


def test_statistics_may_be_theirs():
    env = NormalizeObservation(cartpole())
    env.obs_rms = TheirMeanStd(epsilon=0, shape=(4,))
    raw, *_ = run(cartpole())
    observations, *_ = run(env)
    np.testing.assert_allclose(observations, standardized(raw[:, None])[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("space", "dtype"), [
    (spaces.Box(0, 255, (5, 6, 3), np.uint8), "u1"), (spaces.Box(-9, 9, (7,), np.float64), "f8"),
    (spaces.MultiBinary(4), "i1"), (spaces.Box(-9, 9, (1,), np.float32), "f4"), (spaces.Discrete(9), "i8"),
])
def test_spaces(space, dtype):
    raw = np.random.default_rng(0).integers(0, 9, (30, *space.shape)).astype(dtype)
    raw = raw / raw.dtype.type(3) if raw.dtype.kind == "f" else raw
    env = NormalizeObservation(Recorded(list(raw), space))
    assert env.obs_rms.mean.shape == space.shape
    observations = [env.reset()[0], *(env.step(0)[0] for _ in raw[1:])]
    assert {np.asarray(y).dtype for y in observations} == {np.dtype("f4")}
    np.testing.assert_allclose(observations, standardized(raw[:, None])[:, 0], rtol=1e-6, atol=1e-6)
    assert_within(env.obs_rms.mean, env.obs_rms.var, exact_states(raw))


def test_nan_is_refused_and_does_not_change_the_statistics():
    rows = np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, 4.0]], np.float32)
    env = NormalizeObservation(Recorded(rows, spaces.Box(-9, 9, (2,))))
    env.reset()
    with pytest.raises(ValueError, match="NaN or inf"):
        env.step(0)
    env.step(0)
    assert (env.obs_rms.count, env.obs_rms.mean.tolist()) == (2, [2, 3])


def test_rewards():
    """Rewards are divided by the standard deviation of all discounted returns up to them."""
    gamma = 0.9
    env = NormalizeReward(cartpole(), gamma=gamma)
    _, rewards, ends = run(env)
    returns = []
    for end in ends:
        returns.append(1 + (0 if end or not returns else gamma * returns[-1]))
    sds = [np.std(returns[:i + 1]) or 1 for i in range(len(returns))]
    np.testing.assert_allclose(rewards, 1 / np.array(sds), rtol=1e-6)
    assert_within(env.return_rms.mean, env.return_rms.moments.var(), exact_states(returns))


def test_rewards_of_a_vector():
    envs, theirs = VectorNormalizeReward(cartpoles()), wrappers.vector.NormalizeReward(cartpoles())
    _, rewards, _ = run(envs)
    theirs.return_rms = TheirMeanStd(epsilon=0)
    _, expected, _ = run(theirs)
    assert rewards[0] == pytest.approx([1, 1, 1])       # theirs are 10,000, as all returns are 1
    changed = np.isfinite(expected).all(1) & (expected < 1000).all(1)
    assert changed.sum() == len(rewards) - 1
    np.testing.assert_allclose(rewards[changed], expected[changed], rtol=1e-6)


def test_equal_returns_leave_rewards_unchanged():
    env = NormalizeReward(Recorded([np.zeros(1)] * 5, spaces.Box(-9, 9, (1,), np.float64)), gamma=0.0)
    env.reset()
    assert [env.step(0)[1] for _ in range(4)] == pytest.approx([1] * 4)
    assert env.return_rms.moments.var() == 0
    copied = pickle.loads(pickle.dumps(env.return_rms))
    assert (copied.var, copied.count) == (1, 4)
    copied.count = 2
    assert copied.moments.var() == 0
