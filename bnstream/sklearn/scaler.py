"""A replacement for scikit-learn's StandardScaler, whose statistics are `Moments`: exact, and mergeable.

    X -> scikit-learn's validation -> dense or sparse -> Moments -> merge -> FeatureStatistics: mean_, var_, scale_
                                   -> normalize -> the scaled X

It subclasses scikit-learn's scaler for its parameters, tags, feature names and outputs, and overrides the methods that
read the data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse  # type: ignore[import-untyped]
from sklearn import preprocessing  # type: ignore[import-untyped]
from sklearn.base import _fit_context, clone  # type: ignore[import-untyped]
from sklearn.utils import check_array  # type: ignore[import-untyped]
from sklearn.utils.validation import check_is_fitted  # type: ignore[import-untyped]

from bnstream.core.forward import locked
from bnstream.core.late import late
from bnstream.sklearn import onnx
from bnstream.sklearn.dense import dense_moments, scale_dense
from bnstream.sklearn.sparse import scale_sparse, sparse_moments
from bnstream.sklearn.statistics import (
    FEATURES,
    LOCK,
    FeatureStatistics,
    FittedAttribute,
    add_part,
    forget_attributes,
    has,
    is_fitted,
    mergeable_parts,
    part_of,
)
from bnstream.sklearn.validation import (
    NUMBERS,
    is_foreign,
    refuse_centering,
    refuse_exact,
    refuse_inf,
    require_n_features,
    scaling_options,
    weights_for,
)
from bnstream.sklearn.versions import ANY_VALUES, count_dtype, fit_task, validate_data
from bnstream.sklearn.weights import Part, weighted_part

__all__ = ["StandardScaler"]


class StandardScaler(preprocessing.StandardScaler):  # type: ignore[misc]
    """Standardize features to mean 0 and variance 1: scikit-learn's StandardScaler, but exact and mergeable.

    Parameters
    ----------
    copy : bool, default True
        If False, scale an array of floating dtype in place.
    with_mean : bool, default True
        Subtract the mean. Must be False for sparse matrices, which it would make dense.
    with_std : bool, default True
        Divide by the standard deviation.
    exact : bool, default False
        Keep exact statistics, as ``Moments(exact=True)`` does: mean and variance are correctly rounded, and the fitted
        scaler has the same bits for any order and any division of the data into batches and merged parts. It cannot be
        merged with a scaler whose statistics are not exact.

    Attributes
    ----------
    mean_, var_ : ndarray of float64, of shape (n_features,), or None
        Mean and variance (``ddof=0``) of all samples so far. `var_` is None without `with_std`; `mean_` is None with
        neither `with_mean` nor `with_std`.
    scale_ : ndarray of float64, of shape (n_features,), or None
        ``sqrt(var_)``, or 1 where the variance cannot be distinguished from that of a constant feature, by
        scikit-learn's rule. None without `with_std`.
    n_samples_seen_ : int64 or float64, or ndarray of shape (n_features,)
        The number of values of each feature: an array if features differ in it, because of missing values. The dtype is
        that of the installed version of scikit-learn. After a fit with `sample_weight` it is the sum of the weights,
        float64; with `exact` it counts a sample of weight 3 as three.
    n_features_in_, feature_names_in_
        As for all estimators of scikit-learn.

    See Also
    --------
    bnstream.Moments : the statistics alone.
    bnstream.normalize : the same scaling, as a function.

    Notes
    -----
    Methods, errors, dtypes, and the treatment of NaN (missing), inf (an error) and sparse matrices are scikit-learn's.
    In addition, `merge` and ``+`` combine the statistics of several scalers, and mean and variance are right to the
    last digits for any division of the data into batches [1]_, with `exact` to the last bit. A `partial_fit` or `merge`
    that raises leaves the statistics unchanged.

    Attributes can be set, edited in place and deleted, as those of scikit-learn's scaler: `transform`, `partial_fit`
    and `merge` then use the values that were set. `to_sklearn` returns a scaler of scikit-learn.

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

    _parameter_constraints: ClassVar = {**preprocessing.StandardScaler._parameter_constraints, "exact": ["boolean"]}

    def __init__(
        self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True, exact: bool = False
    ) -> None:
        super().__init__(copy=copy, with_mean=with_mean, with_std=with_std)
        self.exact = exact

    @FittedAttribute
    def n_samples_seen_(self) -> Any:
        """Number of values of each feature."""
        n = self._statistics.n
        # Without mean and variance, scikit-learn counts in int64 in all versions.
        return n.astype(count_dtype()) if n.dtype == np.int64 and (self.with_mean or self.with_std) else n

    @FittedAttribute
    def mean_(self) -> NDArray[np.float64] | None:
        """Mean of each feature."""
        return self._statistics.mean if self.with_mean or self.with_std else None

    @FittedAttribute
    def var_(self) -> NDArray[np.float64] | None:
        """Variance of each feature."""
        return self._statistics.var if self.with_std else None

    @FittedAttribute
    def scale_(self) -> NDArray[np.float64] | None:
        """Divisor of each feature."""
        return self._statistics.scale if self.with_std else None

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Compute the mean and standard deviation of X, discarding earlier fits.

        Parameters
        ----------
        X : array_like or sparse matrix, of shape (n_samples, n_features)
            The samples.
        y
            Ignored.
        sample_weight : array_like of shape (n_samples,), or number, optional
            The weight of each sample, at least 0 and of any size. With `exact` it says how often the sample counts: a
            whole number below 2**53.

        Returns
        -------
        StandardScaler
            Itself.

        Raises
        ------
        TypeError, ValueError
            As scikit-learn raises them, and if a weight is negative, or with `exact` not a whole number.
        OverflowError
            If the weights of exact statistics add up to more than 2**62.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().fit([[1.0], [3.0]]).mean_.tolist()
        [2.0]
        """
        self._reset()
        return self.partial_fit(X, y, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Update mean and standard deviation with X.

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
        TypeError, ValueError, OverflowError
            As `fit`, and if X has other features than earlier batches.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().partial_fit([[1.0]]).partial_fit([[3.0]]).mean_.tolist()
        [2.0]
        """
        if is_foreign(X):
            refuse_exact(self, X)
            super().partial_fit(X, y, sample_weight)        # sets the attributes
            return self
        X = validate_data(self, X, reset=not has(self, "n_samples_seen_"), accept_sparse=("csr", "csc"), dtype=NUMBERS,
                          **ANY_VALUES)
        with fit_task(self, X, y, sample_weight):
            weights = weights_for(X, sample_weight)
            if issparse(X):
                refuse_centering(self, "center")
                refuse_inf(X)
            moments = partial(sparse_moments if issparse(X) else dense_moments, exact=bool(self.exact))
            part = Part(moments(X, weights)) if self.exact else weighted_part(X, weights, moments)
            locked(LOCK, self._add, X.shape[1], part)
        return self

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Center and scale X.

        Parameters
        ----------
        X : array_like or sparse matrix, of shape (n_samples, n_features)
            The samples.
        copy : bool, optional
            Overrides the parameter `copy`.

        Returns
        -------
        ndarray or CSR matrix
            Of the dtype of X if that is floating, else float64; X itself if it was scaled in place.

        Raises
        ------
        NotFittedError
            If the scaler is not fitted.
        TypeError, ValueError
            As scikit-learn raises them.

        Examples
        --------
        >>> from bnstream.sklearn import StandardScaler
        >>> StandardScaler().fit([[1.0], [3.0]]).transform([[3.0]]).tolist()
        [[1.0]]
        """
        if is_foreign(X):
            return super().transform(X, copy)
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        checked = validate_data(self, X, reset=False, **scaling_options(X, copy))
        mean, gamma = self.mean_ if self.with_mean else None, 1 / self.scale_ if self.with_std else None
        require_n_features(checked, mean, gamma)
        if issparse(checked):
            refuse_centering(self, "center")
            return scale_sparse(checked, gamma)
        return scale_dense(checked, X, copy, mean=0 if mean is None else mean, gamma=gamma)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X, copy
            As for `transform`.

        Returns
        -------
        ndarray or CSR matrix
            As from `transform`.

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
        if is_foreign(X):
            return super().inverse_transform(X, copy)
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        checked = check_array(X, **scaling_options(X, copy))
        mean, gamma = self.mean_ if self.with_mean else None, self.scale_ if self.with_std else None
        require_n_features(checked, mean, gamma)
        if issparse(checked):
            refuse_centering(self, "uncenter")
            return scale_sparse(checked, gamma)
        return scale_dense(checked, X, copy, mean=0, gamma=gamma, beta=mean)

    def merge(self, other: Any) -> StandardScaler:
        """Merge the statistics of another scaler into those of this one.

        Parameters
        ----------
        other : StandardScaler
            A scaler of this module or of scikit-learn, with the same parameters and features. It is not changed. One
            that is not fitted has no effect.

        Returns
        -------
        StandardScaler
            Itself.

        Raises
        ------
        TypeError
            If `other` is not a StandardScaler.
        ValueError
            If the parameters, the number of features or their names differ from those of this scaler.

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
        locked(LOCK, self._merge, other)
        return self

    def _add(self, n_features: int, part: Part) -> None:
        add_part(self, part_of(self, n_features), part)

    def _merge(self, other: Any) -> None:
        features = {name: getattr(other, name) for name in FEATURES if hasattr(other, name)}
        add_part(self, *mergeable_parts(self, other), features=features)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, preprocessing.StandardScaler):
            return NotImplemented
        return clone(self).merge(self).merge(other)

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, int) and other == 0:       # sum(scalers) starts from 0
            return clone(self).merge(self)
        return NotImplemented

    def __sklearn_is_fitted__(self) -> bool:
        return is_fitted(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickles and copies, which must not share the statistics."""
        state: dict[str, Any] = super().__getstate__()
        if "_statistics" not in state:
            return state
        statistics = state["_statistics"]
        edited = {name: values.copy() for name, values in statistics.edited().items() if name not in statistics.deleted}
        return {**edited, **state, "_statistics": statistics.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_statistics" in state:
            state = {**state, "_statistics": FeatureStatistics.of_state(state["_statistics"])}
        super().__setstate__(state)

    def _reset(self) -> None:
        """Forget the statistics. Wrappers of scikit-learn's scaler call this method."""
        forget_attributes(self)
        self.__dict__.pop("_statistics", None)

    to_sklearn: Callable[..., preprocessing.StandardScaler] = late("bnstream.sklearn.plain", "to_sklearn")

    def onnx_shape_calculator(self) -> Any:
        """Return the function with which skl2onnx computes the shape of the output."""
        return onnx.shape_calculator(self)

    def onnx_converter(self) -> Any:
        """Return the function with which skl2onnx converts this scaler."""
        return onnx.converter(self)
