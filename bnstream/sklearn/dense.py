"""The moments of the columns of an array, in which NaN is a missing value, and scaling by them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config  # type: ignore[import-untyped]

from bnstream.core.forward import normalize_and_look
from bnstream.core.functional import normalize
from bnstream.core.moments import Moments
from bnstream.sklearn.validation import refuse_inf, search_inf


def dense_moments(x: NDArray[Any], weights: NDArray[Any] | None = None, exact: bool = False) -> Moments:
    """The moments of each column without NaN; inf raises ValueError.

    A first pass assumes that there is no NaN, as omitting it takes twice as long.
    """
    m = Moments(nan_policy="propagate", exact=exact).update(x, weights=weights)
    if not np.isfinite(m.mean).all():
        search_inf(x)
        m = Moments(nan_policy="omit", exact=exact).update(x, weights=weights)
    elif weights is not None:
        refuse_inf(x, where=weights == 0)       # The moments do not show inf in rows of weight 0.
    return m


def scale_dense(checked: NDArray[Any], X: Any, copy: bool, mean: Any, gamma: Any, beta: Any = None) -> NDArray[Any]:
    """``(checked - mean) * gamma + beta``, where `checked` is the validated X.

    The result is in place if `checked` is a copy of X, or if X need not be kept.
    """
    keep = copy and isinstance(X, np.ndarray) and np.may_share_memory(checked, X)
    if checked.flags.writeable and not keep:
        refuse_inf(checked)         # before X is changed
        return normalize(checked, mean, 1, gamma, beta, out=checked)
    y, has_inf = normalize_and_look(checked, mean, gamma, beta)
    if has_inf and not get_config()["assume_finite"]:
        search_inf(checked)
    return y
