"""The normalizing wrappers of gymnasium and of bnstream: the cost of a step of an environment, without the environment.
Without gymnasium, all of them are skipped."""

from functools import partial

import numpy as np

from .base import TimedShort, named, once, repeated
from .data import array
from .reductions import installed

BATCHES = {"one row": (17,), "8 environments": (8, 17)}
BY = ["bnstream", "gymnasium"]


def environment(shape):
    """An environment that has observations of float64 and nothing else."""
    spaces, vector = installed("gymnasium.spaces"), installed("gymnasium.vector")
    space = spaces.Box(-np.inf, np.inf, shape, np.float64)
    if len(shape) == 1:
        env = installed("gymnasium").Env()
        env.observation_space = space
        return env
    env = vector.VectorEnv()
    env.metadata = {"autoreset_mode": vector.AutoresetMode.NEXT_STEP}
    env.num_envs, env.observation_space = shape[0], space
    env.single_observation_space = spaces.Box(-np.inf, np.inf, shape[1:], np.float64)
    return env


def wrapper(shape, by):
    env = environment(shape)
    if by == "bnstream":
        module = installed("bnstream.gymnasium")
        return (module.NormalizeObservation if len(shape) == 1 else module.VectorNormalizeObservation)(env)
    module = installed("gymnasium.wrappers" if len(shape) == 1 else "gymnasium.wrappers.vector")
    return module.NormalizeObservation(env)


class Update(TimedShort):
    """The update of the statistics, as the wrapper calls it."""

    params = (list(BATCHES), BY)
    param_names = ("batch", "by")

    @once
    def setup(self, batch, by):
        shape = BATCHES[batch]
        x, update = array(shape, "float64"), wrapper(shape, by).obs_rms.update
        if len(shape) == 2:
            self.call = partial(update, x)
        elif by == "bnstream":
            self.call = lambda: update(np.asarray(x)[None])
        else:
            self.call = lambda: update(np.array([x]))

    @named("RL, update of the statistics")
    def time_update(self, batch, by):
        repeated(self.call)


class Observation(TimedShort):
    """Update and normalize; with the statistics at rest, only normalize."""

    params = (list(BATCHES), ["training", "at rest"], BY)
    param_names = ("batch", "statistics", "by")

    @once
    def setup(self, batch, statistics, by):
        shape = BATCHES[batch]
        env = wrapper(shape, by)
        self.call = partial(env.observation if len(shape) == 1 else env.observations, array(shape, "float64"))
        self.call()
        env.update_running_mean = statistics == "training"

    @named("RL, normalizing an observation")
    def time_observation(self, batch, statistics, by):
        repeated(self.call)
