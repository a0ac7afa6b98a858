"""Wrappers that normalize the observations and rewards of gymnasium's environments. They need the extra ``gymnasium``.

Each is a subclass of gymnasium's wrapper, with a `RunningMeanStd` for its statistics: faster, exact, and without a
made-up first sample. The names of those for vector environments begin with "Vector".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.functional import normalize
from bnstream.core.optional import needing
from bnstream.core.runningmeanstd import RunningMeanStd

with needing("bnstream.gymnasium", '"bnstream[gymnasium]"', hint="; bnstream.runningmeanstd works without it"):
    from gymnasium import Env, wrappers
    from gymnasium.spaces import Box
    from gymnasium.vector import VectorEnv
    from gymnasium.vector.utils import batch_space

__all__ = ["NormalizeObservation", "NormalizeReward", "RunningMeanStd", "VectorNormalizeObservation",
           "VectorNormalizeReward"]


def normalized(
    wrapper: NormalizeObservation | VectorNormalizeObservation, observations: NDArray[Any]
) -> NDArray[np.float32]:
    """Normalize observations, stacked along the first axis, after an update of the statistics with them."""
    rms = wrapper.obs_rms
    if wrapper.update_running_mean:
        rms.update(observations)
    return normalize(observations, rms.mean, rms.var, eps=wrapper.epsilon).astype(np.float32, copy=False)


class NormalizeObservation(wrappers.NormalizeObservation):
    """Normalize observations to mean 0 and variance 1, by the statistics of all so far.

    Each component is normalized separately. The observations are float32.

    Parameters
    ----------
    env : gymnasium.Env
        An environment whose observations are arrays or numbers.
    epsilon : float, default 1e-8
        Added to the variance.

    Attributes
    ----------
    obs_rms : RunningMeanStd
        The statistics of the observations, to be saved with the policy that was trained on them. They can be set, so
        that environments share them.
    update_running_mean : bool
        Whether `reset` and `step` update the statistics. True at first; set to False for evaluation.
    epsilon : float

    See Also
    --------
    VectorNormalizeObservation : for vector environments.

    Notes
    -----
    An observation with NaN or inf raises ValueError and does not change the statistics. ``gymnasium.make(env.spec)``
    applies the wrapper again, and so does ``NormalizeObservation.wrapper_spec()`` among the ``additional_wrappers`` of
    a spec. A spec does not contain the statistics.

    Examples
    --------
    >>> import gymnasium
    >>> from bnstream.gymnasium import NormalizeObservation
    >>> env = NormalizeObservation(gymnasium.make("CartPole-v1"))
    >>> env.reset(seed=0)[0].tolist()
    [0.0, 0.0, 0.0, 0.0]
    >>> env.step(0)[0].round().tolist(), env.obs_rms.count
    ([-1.0, -1.0, -1.0, 1.0], 2.0)
    """

    def __init__(self, env: Env[Any, Any], epsilon: float = 1e-8) -> None:
        super().__init__(env, epsilon)
        self.obs_rms: Any = RunningMeanStd(shape=env.observation_space.shape or ())

    def observation(self, observation: Any) -> Any:
        return normalized(self, np.asarray(observation)[None])[0]


class VectorNormalizeObservation(wrappers.vector.NormalizeObservation):
    """Normalize the observations of a vector environment to mean 0 and variance 1, by the statistics of all so far.

    Each component is normalized separately. The observations are float32.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        A vector environment whose observations are arrays.
    epsilon : float, default 1e-8
        Added to the variance.

    Attributes
    ----------
    obs_rms, update_running_mean, epsilon
        As for `NormalizeObservation`. The statistics are those of the observations of all environments.

    See Also
    --------
    NormalizeObservation : for a single environment.

    Examples
    --------
    >>> import gymnasium
    >>> from bnstream.gymnasium import VectorNormalizeObservation
    >>> envs = VectorNormalizeObservation(gymnasium.make_vec("CartPole-v1", num_envs=2))
    >>> abs(envs.reset(seed=0)[0]).round(1).tolist(), envs.obs_rms.count
    ([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], 2.0)
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], epsilon: float = 1e-8) -> None:
        super().__init__(env, epsilon)
        shape = env.single_observation_space.shape or ()
        self.obs_rms: Any = RunningMeanStd(shape=shape)
        self.single_observation_space = Box(-np.inf, np.inf, shape, np.float32)     # as in gymnasium 1.3
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)   # type: ignore[assignment]

    def observations(self, observations: Any) -> Any:
        return normalized(self, observations)


class Returns(RunningMeanStd):
    """The statistics of returns, with variance 1 until two returns differ.

    Rewards are divided by the standard deviation without subtracting a mean. A variance of 0 would make them 10,000
    times as large, by epsilon.
    """

    def _mean_and_var(self) -> list[Any]:
        mean, var = super()._mean_and_var()
        return [mean, var or np.ones_like(var)]


class NormalizeReward(wrappers.NormalizeReward):
    """Divide rewards by the standard deviation of the discounted returns so far.

    Until two returns differ, rewards are unchanged.

    Parameters
    ----------
    env : gymnasium.Env
        An environment.
    gamma : float, default 0.99
        The discount factor.
    epsilon : float, default 1e-8
        Added to the variance.

    Attributes
    ----------
    return_rms : RunningMeanStd
        The statistics of the returns.
    update_running_mean : bool
        Whether `step` updates the statistics. True at first.
    gamma, epsilon : float

    See Also
    --------
    VectorNormalizeReward : for vector environments.

    Examples
    --------
    >>> import gymnasium
    >>> from bnstream.gymnasium import NormalizeReward
    >>> env = NormalizeReward(gymnasium.make("CartPole-v1"))
    >>> _ = env.reset(seed=0)
    >>> [round(float(env.step(action)[1]), 2) for action in (0, 1, 0)]
    [1.0, 2.02, 1.24]
    """

    def __init__(self, env: Env[Any, Any], gamma: float = 0.99, epsilon: float = 1e-8) -> None:
        super().__init__(env, gamma, epsilon)
        self.return_rms: Any = Returns()


class VectorNormalizeReward(wrappers.vector.NormalizeReward):
    """Divide the rewards of a vector environment by the standard deviation of the discounted returns so far.

    Until two returns differ, rewards are unchanged.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        A vector environment.
    gamma, epsilon : float
        As for `NormalizeReward`.

    Attributes
    ----------
    return_rms, update_running_mean, gamma, epsilon
        As for `NormalizeReward`. The statistics are those of the returns of all environments.

    See Also
    --------
    NormalizeReward : for a single environment.

    Examples
    --------
    >>> import gymnasium
    >>> from bnstream.gymnasium import VectorNormalizeReward
    >>> envs = VectorNormalizeReward(gymnasium.make_vec("CartPole-v1", num_envs=2))
    >>> _ = envs.reset(seed=0)
    >>> envs.step(envs.action_space.sample())[1].round(2).tolist()
    [1.0, 1.0]
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], gamma: float = 0.99, epsilon: float = 1e-8) -> None:
        super().__init__(env, gamma, epsilon)
        self.return_rms: Any = Returns()
