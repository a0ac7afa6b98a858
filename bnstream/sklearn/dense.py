"""Moments of the columns of an array, of which NaN is missing, and inf refused as scikit-learn does.

Its own look for inf, a sum on one thread before anything else, takes longer than the moments. They tell as much: where
all means are finite there is neither NaN nor inf, and else tile after tile is looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse  # type: ignore[import-untyped]
from sklearn import get_config  # type: ignore[import-untyped]
from sklearn.utils import assert_all_finite  # type: ignore[import-untyped]

from bnstream.core.functional import mean_var
from bnstream.core.moments import Moments

TILE = 1 << 16      # elements that are looked at at once


def dense_moments(x: NDArray[Any], weights: NDArray[Any] | None = None) -> Moments:
    """The moments of each column; first as if nothing was missing, as leaving it out takes twice as long."""
    m = Moments(nan_policy="propagate").update(x, weights=weights)
    if not np.isfinite(m.mean).all():
        look_for_inf(x)
        m = Moments(nan_policy="omit").update(x, weights=weights)
    return m


def refuse_inf(x: Any) -> None:
    """Also of a sparse matrix."""
    if issparse(x):
        assert_all_finite(x, allow_nan=True, input_name="X")
    elif not get_config()["assume_finite"] and not np.isfinite(mean_var(x)[0]).all():
        look_for_inf(x)


def look_for_inf(x: NDArray[Any]) -> None:
    """Of what is NaN or inf."""
    n_rows = max(1, TILE // x.shape[1])
    for start in range(0, len(x), n_rows):
        tile = x[start:start + n_rows]
        if np.isinf(tile).any():
            with np.errstate(invalid="ignore"):         # of the sum it tries first
                assert_all_finite(tile, allow_nan=True, input_name="X")
