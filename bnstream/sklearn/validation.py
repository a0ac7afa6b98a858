"""Checks of X and sample_weight; the others are left to scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse  # type: ignore[import-untyped]
from sklearn import get_config  # type: ignore[import-untyped]
from sklearn.utils import assert_all_finite  # type: ignore[import-untyped]
from sklearn.utils.validation import _check_sample_weight  # type: ignore[import-untyped]

from bnstream.core.functional import mean_var
from bnstream.sklearn.versions import ANY_VALUES

# scikit-learn converts X to the first dtype of a list, unless it has one of them.
FLOATS = [np.float64, np.float32, np.float16]
NUMBERS = [*FLOATS, *(np.dtype(kind) for kind in "bBhHiIlLqQ?")]
TILE = 1 << 16      # elements searched for inf at a time


def is_foreign(X: Any) -> bool:
    """Whether X is an array of another library, which scikit-learn's array API dispatch handles without NumPy."""
    return bool(get_config()["array_api_dispatch"]) and hasattr(X, "__dlpack__") and not isinstance(X, np.ndarray)


def scaling_options(X: Any, copy: bool) -> dict[str, Any]:
    """Options of scikit-learn's validation before X is scaled. It copies X only if `scale_dense` does not."""
    return {"accept_sparse": "csr", "dtype": FLOATS, "copy": copy and not isinstance(X, np.ndarray), **ANY_VALUES}


def weights_for(X: Any, sample_weight: Any) -> NDArray[np.float64] | None:
    """A weight for each sample, or None."""
    if sample_weight is None:
        return None
    weights: NDArray[np.float64] = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if weights.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weights.min()}; a weight of 0 leaves a sample out")
    if not weights.any():       # the message of scikit-learn from 1.8 on
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def require_n_features(X: Any, *parameters: Any) -> None:
    """Raise ValueError, with scikit-learn's message, unless parameters of the features fit X."""
    for parameter in parameters:
        if np.ndim(parameter) and len(parameter) != X.shape[1]:
            raise ValueError(f"X has {X.shape[1]} features, but StandardScaler is expecting {len(parameter)} features "
                             "as input")


def refuse_centering(scaler: Any, verb: str) -> None:
    if scaler.with_mean:
        raise ValueError(f"Cannot {verb} sparse matrices: pass `with_mean=False` instead. Subtracting the mean would "
                         "make them dense.")


def refuse_exact(scaler: Any, X: Any) -> None:
    if scaler.exact:
        raise TypeError(f"a scaler with exact=True reads arrays of NumPy, got {type(X).__name__}; convert it, or make "
                        "the scaler with exact=False")


def refuse_inf(X: Any, where: NDArray[np.bool_] | None = None) -> None:
    """Raise ValueError if an array or a sparse matrix contains inf, with scikit-learn's message.

    `where` selects the rows of an array to check.

    scikit-learn searches an array on one thread, which takes longer than the means on all threads do. Where all means
    are finite there is neither NaN nor inf.
    """
    if issparse(X):
        assert_all_finite(X, allow_nan=True, input_name="X")
        return
    if get_config()["assume_finite"] or (where is not None and not where.any()):
        return
    if not np.isfinite(mean_var(X, where=where)[0]).all():
        search_inf(X)


def search_inf(X: NDArray[Any]) -> None:
    """Raise ValueError if an array, which contains NaN or inf, contains inf."""
    n_rows = max(1, TILE // X.shape[1])
    for start in range(0, len(X), n_rows):
        tile = X[start:start + n_rows]
        if np.isinf(tile).any():
            with np.errstate(invalid="ignore"):         # assert_all_finite sums the tile first
                assert_all_finite(tile, allow_nan=True, input_name="X")
