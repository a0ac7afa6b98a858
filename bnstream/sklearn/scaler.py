"""A StandardScaler in place of scikit-learn's: its statistics are `Moments`, so that they are exact, and merge.

    X -> scikit-learn's validation -> _dense or _sparse -> Moments -> merge -> _scaler_state: mean_, var_, scale_
                                   -> normalize -> the scaled X

It is a subclass of scikit-learn's, from which it has its parameters, tags, names of features and outputs; what reads
the data is replaced.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn import get_config, preprocessing  # type: ignore[import-untyped]
    from sklearn.base import _fit_context, clone  # type: ignore[import-untyped]
    from sklearn.utils import check_array  # type: ignore[import-untyped]
    from sklearn.utils.sparsefuncs import inplace_column_scale  # type: ignore[import-untyped]
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'bnstream.sklearn needs scikit-learn, which is not installed; install it with: pip install "bnstream[sklearn]"',
        name=error.name,
    ) from error

from scipy.sparse import issparse  # type: ignore[import-untyped]

from bnstream.core.forward import normalize_and_look
from bnstream.core.functional import normalize
from bnstream.core.moments import Moments
from bnstream.sklearn.dense import dense_moments, look_for_inf, refuse_inf
from bnstream.sklearn.sparse import sparse_moments
from bnstream.sklearn.statistics import STATE, Fitted, Statistics, moments_of
from bnstream.sklearn.versions import ANY_VALUES, fit_task, validate_data

__all__ = ["StandardScaler"]

# Of the dtypes in a list scikit-learn leaves X as it is, and makes the first one of others.
FLOATS = [np.float64, np.float32, np.float16]
NUMBERS = [*FLOATS, *(np.dtype(kind) for kind in "bBhHiIlLqQ?")]


class StandardScaler(preprocessing.StandardScaler):  # type: ignore[misc]
    """Features less their mean, over their standard deviation: scikit-learn's StandardScaler, but exact, and to merge.

    Parameters
    ----------
    copy : bool, default True
        If False, scale an array in place where its dtype is floating.
    with_mean : bool, default True
        Subtract the mean. Not for sparse matrices, which it would fill.
    with_std : bool, default True
        Divide by the standard deviation.

    Attributes
    ----------
    mean_, var_ : ndarray of float64, of shape (n_features,), or None
        Mean and variance (``ddof=0``) of what was seen. Both None without `with_mean` and `with_std`, `var_` already
        without `with_std`.
    scale_ : ndarray of float64, of shape (n_features,), or None
        ``sqrt(var_)``, and 1 where this is too small to be told from a constant feature, by scikit-learn's rule. None
        without `with_std`.
    n_samples_seen_ : int64, or ndarray of shape (n_features,)
        How many values each feature had, an array where they differ, as NaN is missing. float64, the sum of the
        weights, after a fit with `sample_weight`.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    See Also
    --------
    bnstream.Moments : the statistics themselves.
    bnstream.normalize : the same scaling as a function.

    Notes
    -----
    Methods, errors, dtypes, and what is done about NaN (missing), inf (refused) and sparse matrices are scikit-learn's.
    Beyond it `merge` and ``+`` join what several scalers have seen, and mean and variance are exact to the last digits
    however the data was cut [1]_. A `partial_fit` or `merge` that raises leaves the statistics as they were.

    Attributes may be set, as with scikit-learn's: what is set is the state, with which `transform`, `partial_fit` and
    `merge` go on.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", 1983.

    Examples
    --------
    >>> from bnstream.sklearn import StandardScaler
    >>> a = StandardScaler().fit([[0.0, 10.0], [2.0, 10.0]])
    >>> b = StandardScaler().fit([[4.0, 10.0]])
    >>> (a + b).mean_.tolist(), (a + b).scale_.round(3).tolist()
    ([2.0, 10.0], [1.633, 1.0])
    """

    @Fitted
    def n_samples_seen_(self) -> Any:
        """Values of each feature so far."""
        return self._statistics.n

    @Fitted
    def mean_(self) -> NDArray[np.float64] | None:
        """Mean of each feature."""
        return self._statistics.mean if self.with_mean or self.with_std else None

    @Fitted
    def var_(self) -> NDArray[np.float64] | None:
        """Variance of each feature."""
        return self._statistics.var if self.with_std else None

    @Fitted
    def scale_(self) -> NDArray[np.float64] | None:
        """What each feature is divided by."""
        return self._statistics.scale if self.with_std else None

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Compute mean and standard deviation of X, and forget what was seen before.

        Parameters
        ----------
        X : array_like or sparse matrix, of shape (n_samples, n_features)
        y : ignored
        sample_weight : array_like of shape (n_samples,), or number, optional
            How much each sample counts, at least 0.

        Returns
        -------
        StandardScaler
            Itself.

        Raises
        ------
        TypeError, ValueError
            As scikit-learn; if a weight is negative, too.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().fit([[1.0], [3.0]]).mean_.tolist()
        [2.0]
        """
        self._forget()
        self.__dict__.pop("_statistics", None)
        return self.partial_fit(X, y, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Take in X, after what was seen before.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        StandardScaler
            Itself.

        Raises
        ------
        TypeError, ValueError
            As `fit`, and where X has other features than before.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().partial_fit([[1.0]]).partial_fit([[3.0]]).mean_.tolist()
        [2.0]
        """
        if lies_elsewhere(X):
            super().partial_fit(X, y, sample_weight)        # which sets the attributes
            return self
        X = validate_data(self, X, reset=moments_of(self) is None, accept_sparse=("csr", "csc"), dtype=NUMBERS,
                          **ANY_VALUES)
        with fit_task(self, X, y, sample_weight):
            if sample_weight is not None:
                sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
                require_weights(sample_weight)
            if issparse(X):
                self._refuse_centering("center")
                refuse_inf(X)
                self._take_in(sparse_moments(X, sample_weight))
            else:
                self._take_in(dense_moments(X, sample_weight))
        return self

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Center and scale X.

        Parameters
        ----------
        X : array_like or sparse matrix, of shape (n_samples, n_features)
        copy : bool, optional
            Instead of the parameter `copy`.

        Returns
        -------
        ndarray or CSR matrix
            In the dtype of X if that is floating, else float64; X itself if it is scaled in place.

        Raises
        ------
        NotFittedError
            Before a fit.
        TypeError, ValueError
            As scikit-learn.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().fit([[1.0], [3.0]]).transform([[3.0]]).tolist()
        [[1.0]]
        """
        if lies_elsewhere(X):
            return super().transform(X, copy)
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        checked = validate_data(self, X, reset=False, **self._options(X, copy))
        gamma = 1 / self.scale_ if self.with_std else None
        if issparse(checked):
            return self._scaled_sparse(checked, gamma, "center")
        return scaled(checked, X, copy, mean=self.mean_ if self.with_mean else 0, gamma=gamma)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X, copy
            As for `transform`.

        Returns
        -------
        ndarray or CSR matrix
            As of `transform`.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            As `transform`.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().fit([[1.0], [3.0]]).inverse_transform([[1.0]]).tolist()
        [[3.0]]
        """
        if lies_elsewhere(X):
            return super().inverse_transform(X, copy)
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        checked = check_array(X, **self._options(X, copy))
        gamma = self.scale_ if self.with_std else None
        if issparse(checked):
            return self._scaled_sparse(checked, gamma, "uncenter")
        return scaled(checked, X, copy, mean=0, gamma=gamma, beta=self.mean_ if self.with_mean else None)

    def merge(self, other: Any) -> StandardScaler:
        """Take in what another scaler has seen.

        Parameters
        ----------
        other : StandardScaler
            Of this module or scikit-learn's own, with the same parameters and features. It is left as it is. One that
            is not fitted changes nothing.

        Returns
        -------
        StandardScaler
            Itself.

        Raises
        ------
        TypeError
            If `other` is no StandardScaler.
        ValueError
            If it has another number of features, other names of them, or other parameters than this one.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().fit([[1.0]]).merge(StandardScaler().fit([[3.0]])).mean_.tolist()
        [2.0]
        """
        if not isinstance(other, preprocessing.StandardScaler):
            raise TypeError(f"expected a StandardScaler to merge, got {type(other).__name__}; partial_fit() takes "
                            "arrays")
        if not hasattr(other, "n_samples_seen_"):
            return self
        for name in ("with_mean", "with_std"):
            if getattr(other, name) != getattr(self, name):
                raise ValueError(f"expected a scaler with {name}={getattr(self, name)} as here, got "
                                 f"{getattr(other, name)}")
        ours: Any = moments_of(self)
        theirs: Any = moments_of(other)
        if ours is not None:
            if ours.shape != theirs.shape:
                raise ValueError(f"expected a scaler of {ours.shape[0]} features as here, got one of {theirs.shape[0]}")
            names, others = (getattr(scaler, "feature_names_in_", None) for scaler in (self, other))
            if names is not None and others is not None and list(names) != list(others):
                raise ValueError(f"expected a scaler of the features {list(names)} as here, got {list(others)}")
        self._take_in(theirs)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(other, name):
                setattr(self, name, getattr(other, name))
        return self

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, preprocessing.StandardScaler):
            return NotImplemented
        return clone(self).merge(self).merge(other)

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, int) and other == 0:       # sum(parts) starts from 0
            return clone(self).merge(self)
        return NotImplemented

    def __sklearn_is_fitted__(self) -> bool:
        return not self.__dict__.keys().isdisjoint(("_statistics", *STATE, "scale_"))

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and for copies, which go on alone."""
        state: dict[str, Any] = super().__getstate__()
        return {**state, "_statistics": deepcopy(self._statistics)} if "_statistics" in state else state

    def _take_in(self, part: Moments) -> None:
        seen = moments_of(self) or Moments()
        seen.merge(part)
        self._forget()
        self._statistics = Statistics(seen)

    def _forget(self) -> None:
        """What was set by hand."""
        for name in (*STATE, "scale_"):
            self.__dict__.pop(name, None)

    def _options(self, X: Any, copy: bool) -> dict[str, Any]:
        """Of a validation that leaves it to `scaled` to copy an array."""
        return {"accept_sparse": "csr", "dtype": FLOATS, "copy": copy and not isinstance(X, np.ndarray), **ANY_VALUES}

    def _scaled_sparse(self, checked: Any, gamma: NDArray[np.float64] | None, center: str) -> Any:
        """In place, as the validation has copied it where it is to be kept."""
        self._refuse_centering(center)
        refuse_inf(checked)
        if gamma is not None:
            inplace_column_scale(checked, gamma)
        return checked

    def _refuse_centering(self, center: str) -> None:
        if self.with_mean:
            raise ValueError(f"Cannot {center} sparse matrices: pass `with_mean=False` instead. The mean would fill "
                             "them, and the memory.")


def lies_elsewhere(X: Any) -> bool:
    """Whether X is for scikit-learn itself: an array of another library, which its array API dispatch leaves there."""
    return bool(get_config()["array_api_dispatch"]) and hasattr(X, "__dlpack__") and not isinstance(X, np.ndarray)


def require_weights(weights: NDArray[np.float64]) -> None:
    if weights.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weights.min()}; a weight of 0 leaves a sample out")
    if not weights.any():       # as scikit-learn from 1.8 on
        raise ValueError("Sample weights must contain at least one non-zero number.")


def scaled(checked: NDArray[Any], X: Any, copy: bool, mean: Any, gamma: Any, beta: Any = None) -> NDArray[Any]:
    """``(checked - mean) * gamma + beta``: in its own place, where that is a copy of X or may be written over."""
    kept = copy and isinstance(X, np.ndarray) and np.may_share_memory(checked, X)
    if checked.flags.writeable and not kept:
        refuse_inf(checked)         # first, as X is to be left as it was
        return normalize(checked, mean, 1, gamma, beta, out=checked)
    y, has_inf = normalize_and_look(checked, mean, gamma, beta)
    if has_inf and not get_config()["assume_finite"]:
        look_for_inf(checked)
    return y
