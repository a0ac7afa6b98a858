"""Write a sample of each kind of state: ``python tests/statefiles/states/make.py``, once for each format version.

The samples of older versions stay, as test_statefile.py opens them.
"""

from pathlib import Path

import numpy as np

from bnstream import BatchNorm, DomainBatchNorm, GroupedMoments, GroupNorm, InstanceNorm, LayerNorm, Moments, RMSNorm
from bnstream.statefiles import read, save

HERE = Path(__file__).parent


def moments():
    return Moments(nan_policy="omit", names=["height", "weight"]).update([[1.0, 10.0], [2.0, np.nan], [6.0, 30.0]])


def exact():
    """Beyond the squares that float64 holds, at both ends."""
    return Moments(exact=True, names=["wide", "tenth"]).update([[1e300, 0.1], [-5e-324, 0.2], [2.0**60, 0.3]])


def exact_not_finite():
    x = np.arange(12.0).reshape(2, 3, 2)
    x[0, 0], x[1, 1, 0], x[0, 2, 1] = np.nan, np.inf, -np.inf
    return Moments((0, -1), exact=True, nan_policy="propagate").update(x)


def batchnorm():
    bn = BatchNorm(2, eps=0.25, momentum=0.5, running_ddof=0, track_pooled=True, channel_axis=-1, names=["u", "v"])
    bn.gamma, bn.beta = [2.0, -1.0], [0.5, 0.0]
    bn(np.array([[1.0, 2.0], [3.0, 6.0]]))
    return bn.eval()


def layernorm():
    norm = LayerNorm((1, 2), eps=0.25, bias=False, names=["u", "v"])
    norm.gamma = [[2.0, -1.0]]
    return norm.eval()


def rmsnorm():
    return RMSNorm(2, dtype="float64", result_dtype="float32")


def groupnorm():
    norm = GroupNorm(1, 2, channel_axis=-1)
    norm.beta = [0.5, 0.0]
    return norm


def instancenorm():
    norm = InstanceNorm(1, momentum=None, track_running_stats=True)
    norm(np.array([[[1.0, 3.0]], [[10.0, 30.0]]]))
    return norm


def tracked():
    return Moments(nan_policy="omit", track=("min", "missing", "skewness")).update([[1.0], [2.0], [np.nan], [6.0]])


def groups():
    keys = {"carrier": ["AA", "UA", "AA"], "month": [1, 1, 2]}
    return GroupedMoments(names=["delay"]).update([[1.0], [3.0], [5.0]], keys)


def domainbatchnorm():
    bn = DomainBatchNorm(1, momentum=0.5, running_ddof=0, names=["u"])
    bn(np.array([[1.0], [3.0], [10.0], [30.0]]), ["a", "a", "b", "b"])
    bn["b"].gamma = [2.0]
    return bn.eval()


if __name__ == "__main__":
    for make in (moments, exact, exact_not_finite, batchnorm, layernorm, rmsnorm, groupnorm, instancenorm, tracked,
                 groups, domainbatchnorm):
        new = HERE / f"{make.__name__}.npz"
        save(new, make())
        path = HERE / f"{make.__name__}-{read(new).metadata['version']}.npz"
        if path.exists():               # Those of older commits show what these wrote.
            new.unlink()
        else:
            new.rename(path)
