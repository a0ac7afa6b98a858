"""Write a sample of each kind of state: ``python tests/statefiles/states/make.py``, once for each format version.

The samples of older versions stay, as test_statefile.py opens them.
"""

from pathlib import Path

import numpy as np

from bnstream import BatchNorm, Moments
from bnstream.statefiles.statefile import VERSION, save

HERE = Path(__file__).parent


def moments():
    return Moments(nan_policy="omit", names=["height", "weight"]).update([[1.0, 10.0], [2.0, np.nan], [6.0, 30.0]])


def batchnorm():
    bn = BatchNorm(2, eps=0.25, momentum=0.5, running_ddof=0, track_pooled=True, channel_axis=-1, names=["u", "v"])
    bn.gamma, bn.beta = [2.0, -1.0], [0.5, 0.0]
    bn(np.array([[1.0, 2.0], [3.0, 6.0]]))
    return bn.eval()


if __name__ == "__main__":
    save(HERE / f"moments-{VERSION}.npz", moments())
    save(HERE / f"batchnorm-{VERSION}.npz", batchnorm())
