"""The arrays of scikit-learn's StandardScaler."""

from __future__ import annotations

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.dtypes import NamedArrays
from bnstream.core.moments import Moments, moments_from
from bnstream.core.rows import MEAN, ROWS, N, with_variance
from bnstream.exchange.arrays import as_numbers, described
from bnstream.exchange.batchnorm import require_channels

REQUIRED = ("mean_", "var_", "n_samples_seen_")
OPTIONAL = ("scale_", "n_features_in_", "feature_names_in_")


def to_scaler(state: Moments | BatchNorm) -> NamedArrays:
    m = state if isinstance(state, Moments) else state.pooled
    if m is None:
        raise ValueError("scikit-learn's n_samples_seen_ is a count of values, and running estimates have none; make "
                         "the layer with track_pooled=True, or convert the Moments of the data")
    require_channels(m)
    var = m.var()
    n = m.n
    arrays: NamedArrays = {"mean_": m.mean, "var_": var, "scale_": np.where(var == 0, 1.0, m.std()),
                           "n_samples_seen_": n[:1].reshape(()) if (n == n[0]).all() else n}
    names = state.names or m.names
    if names:
        arrays["feature_names_in_"] = np.array(names)
    return arrays


def from_scaler(arrays: NamedArrays) -> Moments:
    mean, var, n = (as_numbers(arrays, name) for name in REQUIRED)
    if mean.ndim != 1 or var.shape != mean.shape or n.shape not in ((), mean.shape):
        raise ValueError("expected mean_ and var_ of one shape (features,), and n_samples_seen_ of this shape or (), "
                         f"got {described(arrays)}")
    if not ((n >= 0) & (n < 2**53)).all():
        raise ValueError(f"n_samples_seen_ must be from 0 to 2**53, got {n}")
    if (var < 0).any():
        raise ValueError(f"var_ must not be negative, got {var.min()}")
    counts = np.broadcast_to(n, mean.shape)
    mean, var = np.where(counts == 0, 0, mean), np.where(counts == 0, 0, var)
    if not (np.isfinite(mean) & np.isfinite(var)).all():
        raise ValueError(f"mean_ and var_ must be finite where n_samples_seen_ is not 0, got mean_ {mean}, var_ {var}")
    whole = (n == np.rint(n)).all()
    if whole and ((counts == 1) & (var > 0)).any():
        raise ValueError(f"var_ must be 0 where n_samples_seen_ is 1, got {var}")
    state = np.zeros((len(ROWS), *mean.shape))
    state[N], state[MEAN] = counts, mean
    if not whole:
        # A fractional count comes from a fit with sample_weight. The sum of the squared weights is unknown: take
        # all weights as 1.
        state = np.concatenate([state, [np.zeros_like(mean), np.minimum(counts, counts * counts)]])
    state = with_variance(state, var)
    names = arrays.get("feature_names_in_")
    # scikit-learn omits NaN. Once a feature has had one, n_samples_seen_ has a count for each feature.
    return moments_from(state, nan_policy="omit" if n.ndim else "raise",
                        names=None if names is None else [str(name) for name in names.ravel()])
