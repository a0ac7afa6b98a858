"""The cases of gymnasium's tests of its normalizing wrappers and their RunningMeanStd, for ours."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
from gymnasium import spaces  # noqa: E402
from gymnasium.vector import SyncVectorEnv  # noqa: E402

from bnstream.gymnasium import (  # noqa: E402
    NormalizeObservation,
    NormalizeReward,
    VectorNormalizeObservation,
    VectorNormalizeReward,
)

GAMMA = 0.99


class Counting(gymnasium.Env):
    """Observes and is rewarded by the number of steps, from a start on."""

    action_space, observation_space = spaces.Discrete(2), spaces.Box(-1.0, 100.0, (1,), np.float64)

    def __init__(self, start=0):
        self.start = start

    def reset(self, *, seed=None, options=None):
        self.t = self.start
        return np.array([float(self.t)]), {"start": self.start}

    def step(self, action):
        self.t += 1
        return np.array([float(self.t)]), self.t, self.t == self.start + 30, False, {}


class Uniform(gymnasium.Env):
    """Observations between bounds, and a reward of 1 at the end of episodes of 10 steps."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(np.float32([0, -10, -5]), np.float32([10, -5, 10]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        self.t += 1
        return self.observation(), float(self.t == 10), self.t == 10, False, {}

    def observation(self):
        space = self.observation_space
        return self.np_random.uniform(space.low, space.high).astype(np.float32)


def steps(env, n):
    """The observations of n steps after a reset, with new episodes as they end."""
    observations = [env.reset(seed=123)[0]]
    for _ in range(n):
        observation, _, terminated, _, _ = env.step(env.action_space.sample())
        observations.append(observation)
        if np.ndim(terminated) == 0 and terminated:
            observations.append(env.reset()[0])
    return np.array(observations)


def test_normalize_observation():
    env = NormalizeObservation(Counting())
    observation, info = env.reset()
    assert (type(observation), info) == (np.ndarray, {"start": 0})
    for wanted in (0.5, 1.0):
        env.step(0)
        assert env.obs_rms.mean == pytest.approx(wanted, abs=1e-12)


def test_normalize_return():
    """The statistics of discounted returns."""
    env = NormalizeReward(Counting(), gamma=GAMMA)
    env.reset()
    returns, total = [], 0.0
    for reward in (1, 2, 3):
        _, normalized, *_ = env.step(0)
        total = total * GAMMA + reward
        returns.append(total)
        assert env.return_rms.mean == pytest.approx(np.mean(returns), rel=1e-12)
        assert np.ndim(normalized) == 0


def test_normalize_observation_of_a_vector():
    envs = VectorNormalizeObservation(SyncVectorEnv([Counting, lambda: Counting(1)]))
    envs.reset()
    assert envs.obs_rms.mean == pytest.approx(0.5)
    envs.step(envs.action_space.sample())
    assert envs.obs_rms.mean == pytest.approx(1.0)


def test_normalize_return_of_a_vector():
    envs = VectorNormalizeReward(SyncVectorEnv([Counting, lambda: Counting(1)]), gamma=GAMMA)
    envs.reset()
    envs.step(envs.action_space.sample())
    assert envs.return_rms.mean == pytest.approx(1.5)
    envs.step(envs.action_space.sample())
    assert envs.return_rms.mean == pytest.approx(np.mean([1, 2, 2 + GAMMA, 3 + 2 * GAMMA]))


def test_normalization_converges():
    env = NormalizeObservation(Uniform())
    steps(env, 1000)
    observations = np.array([env.step(0)[0] for _ in range(10)] + [env.reset()[0] for _ in range(290)])
    np.testing.assert_allclose(observations.mean(0), 0, atol=0.15)
    np.testing.assert_allclose(observations.var(0), 1, atol=0.15)


@pytest.mark.parametrize("vector", [False, True])
def test_statistics_can_be_frozen(vector):
    env = VectorNormalizeObservation(SyncVectorEnv([Uniform] * 2)) if vector else NormalizeObservation(Uniform())
    assert env.update_running_mean
    env.reset(seed=123)
    before = env.obs_rms.mean
    env.step(env.action_space.sample())
    assert (env.obs_rms.mean != before).all()
    steps(env, 200)
    env.update_running_mean = False
    mean, var, count = env.obs_rms.mean, env.obs_rms.var, env.obs_rms.count
    observations = steps(env, 25)
    assert (env.obs_rms.mean.tolist(), env.obs_rms.var.tolist(), env.obs_rms.count) == (
        mean.tolist(), var.tolist(), count)
    np.testing.assert_allclose(observations.reshape(-1, 3).mean(0), 0, atol=0.5)
    np.testing.assert_allclose(observations.reshape(-1, 3).var(0), 1, atol=0.5)


def test_rewards_can_be_frozen():
    env = NormalizeReward(Uniform())
    assert env.update_running_mean
    steps(env, 25)
    env.update_running_mean = False
    before = env.return_rms.mean, env.return_rms.var, env.return_rms.count
    steps(env, 25)
    assert (env.return_rms.mean, env.return_rms.var, env.return_rms.count) == before


def test_a_vector_against_single_environments():
    envs = VectorNormalizeObservation(SyncVectorEnv([Uniform] * 3))
    env = NormalizeObservation(Uniform())
    steps(envs, 250)
    steps(env, 750)
    of_mean = np.sqrt(2 * env.obs_rms.var / 750)        # the sd of the difference of two means
    assert (np.abs(env.obs_rms.mean - envs.obs_rms.mean) < 5 * of_mean).all()
    np.testing.assert_allclose(env.obs_rms.var, envs.obs_rms.var, rtol=0.18)


def test_rewards_of_a_vector_against_single_environments():
    envs = VectorNormalizeReward(SyncVectorEnv([Uniform] * 3), gamma=GAMMA)
    env = NormalizeReward(Uniform(), gamma=GAMMA)
    steps(envs, 110)        # ten episodes: a vector spends one step on each reset
    steps(env, 100)
    np.testing.assert_allclose(env.return_rms.mean, envs.return_rms.mean, rtol=0.15)
    np.testing.assert_allclose(env.return_rms.var, envs.return_rms.var, rtol=0.15)
