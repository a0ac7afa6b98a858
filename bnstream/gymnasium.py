"""Wrappers for gymnasium's environments, which normalize observations and rewards. They need the extra ``gymnasium``.

Each is a kind of gymnasium's wrapper, and differs in its statistics: a `RunningMeanStd`, faster, exact, and without a
made-up first sample. Those of `gymnasium.wrappers.vector` begin with "Vector".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.functional import normalize
from bnstream.core.runningmeanstd import RunningMeanStd

try:
    from gymnasium import Env, wrappers
    from gymnasium.spaces import Box
    from gymnasium.vector import VectorEnv
    from gymnasium.vector.utils import batch_space
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'the wrappers need gymnasium, which is not installed; install it with: pip install "bnstream[gymnasium]"; '
        "bnstream.runningmeanstd does without", name=error.name,
    ) from error

__all__ = ["NormalizeObservation", "NormalizeReward", "RunningMeanStd", "VectorNormalizeObservation",
           "VectorNormalizeReward"]


def normalized(
    wrapper: NormalizeObservation | VectorNormalizeObservation, observations: NDArray[Any]
) -> NDArray[np.float32]:
    """Observations along the first axis, once they are in the statistics."""
    rms = wrapper.obs_rms
    if wrapper.update_running_mean:
        rms.update(observations)
    y = normalize(observations, rms.mean, rms.var, eps=wrapper.epsilon, channel_axis=wrapper._channel_axis)
    return y.astype(np.float32, copy=False)


class NormalizeObservation(wrappers.NormalizeObservation):
    """Observations, each component less its mean and divided by its sd so far, as float32.

    Parameters
    ----------
    env : gymnasium.Env
        Its observations are arrays or numbers.
    epsilon : float, default 1e-8
        Added to the variance.

    Attributes
    ----------
    obs_rms : RunningMeanStd
        The statistics of the observations, to be kept with the policy that was trained on them. It may be set, for
        environments that share one.
    update_running_mean : bool
        Whether `reset` and `step` update them; True at first, False for evaluation.
    epsilon : float

    See Also
    --------
    VectorNormalizeObservation : for vector environments.

    Notes
    -----
    An observation with NaN or inf is refused, by ValueError, and is not in the statistics. `env.spec` has the wrapper,
    so that ``gymnasium.make(env.spec)`` makes it again, as does ``NormalizeObservation.wrapper_spec()`` among the
    ``additional_wrappers`` of a spec; the statistics are not in there.

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
        shape = env.observation_space.shape or ()
        self._channel_axis = tuple(range(1, 1 + len(shape)))
        self.obs_rms: Any = RunningMeanStd(shape=shape)

    def observation(self, observation: Any) -> Any:
        return normalized(self, np.asarray(observation)[None])[0]


class VectorNormalizeObservation(wrappers.vector.NormalizeObservation):
    """The observations of a vector environment, each component less its mean and divided by its sd, as float32.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        Its observations are arrays.
    epsilon : float, default 1e-8
        Added to the variance.

    Attributes
    ----------
    obs_rms, update_running_mean, epsilon
        As of `NormalizeObservation`; the statistics are of the observations of all environments.

    See Also
    --------
    NormalizeObservation : for one environment.

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
        self._channel_axis = tuple(range(1, 1 + len(shape)))
        self.obs_rms: Any = RunningMeanStd(shape=shape)
        self.single_observation_space = Box(-np.inf, np.inf, shape, np.float32)     # as gymnasium 1.3 has them
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)   # type: ignore[assignment]

    def observations(self, observations: Any) -> Any:
        return normalized(self, observations)


class Returns(RunningMeanStd):
    """The statistics of returns, whose variance is told as 1 until two returns differ: rewards are divided by its root
    as they are, without the mean, and 0 would make them 10,000 times as large."""

    def _rounded(self) -> list[Any]:
        mean, var = super()._rounded()
        return [mean, var or np.ones_like(var)]


class NormalizeReward(wrappers.NormalizeReward):
    """Rewards, divided by the sd of the discounted returns so far; as they are until two returns differ.

    Parameters
    ----------
    env : gymnasium.Env
    gamma : float, default 0.99
        The discount.
    epsilon : float, default 1e-8
        Added to the variance.

    Attributes
    ----------
    return_rms : RunningMeanStd
        The statistics of the returns.
    update_running_mean : bool
        Whether `step` updates them; True at first.
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
    """The rewards of a vector environment, divided by the sd of the discounted returns so far.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
    gamma, epsilon : float
        As of `NormalizeReward`.

    Attributes
    ----------
    return_rms, update_running_mean, gamma, epsilon
        As of `NormalizeReward`; the statistics are of the returns of all environments.

    See Also
    --------
    NormalizeReward : for one environment.

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
