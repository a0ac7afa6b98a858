"""Conversion to scikit-learn's own scaler."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from sklearn import preprocessing  # type: ignore[import-untyped]
from sklearn.utils.validation import check_is_fitted  # type: ignore[import-untyped]

from bnstream.core.moments import Moments
from bnstream.exchange.batchnorm import require_channels
from bnstream.sklearn.scaler import StandardScaler
from bnstream.sklearn.statistics import ATTRIBUTES, FeatureStatistics
from bnstream.sklearn.weights import Part


def to_sklearn(self: Moments | StandardScaler) -> preprocessing.StandardScaler:
    """Convert to a fitted ``sklearn.preprocessing.StandardScaler``, which does not need bnstream.

    Returns
    -------
    sklearn.preprocessing.StandardScaler
        Independent of this object, with its statistics rounded to float64. A scaler keeps its parameters and the names
        of its features; the names of the channels of a `Moments` become names of features.

    Raises
    ------
    NotFittedError, ValueError
        If there are no statistics yet, or if the channels lie along several axes.
    ModuleNotFoundError
        If scikit-learn is not installed.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> scaler = bnstream.Moments().update(np.array([[1.0], [3.0]])).to_sklearn()
    >>> scaler.transform([[3.0]]).tolist()
    [[1.0]]
    """
    scaler = fitted_to(self) if isinstance(self, Moments) else self
    check_is_fitted(scaler)
    plain = preprocessing.StandardScaler()
    own = ("_statistics", "exact")          # what scikit-learn's scaler does not have
    plain.__dict__.update({name: deepcopy(value) for name, value in vars(scaler).items() if name not in own})
    for name in ATTRIBUTES:
        if hasattr(scaler, name):
            setattr(plain, name, deepcopy(getattr(scaler, name)))
    return plain


def fitted_to(moments: Moments) -> StandardScaler:
    """A scaler with these statistics."""
    require_channels(moments)
    scaler = StandardScaler()
    scaler._statistics = FeatureStatistics(Part(moments.copy()))
    scaler.n_features_in_ = len(moments.mean)
    if moments.names is not None:
        scaler.feature_names_in_ = np.array(moments.names, dtype=object)
    return scaler
