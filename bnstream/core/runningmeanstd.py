"""A replacement for gymnasium's RunningMeanStd: exact, and without a made-up first sample."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.checks import number, real_values
from bnstream.core.columns import Columns, in_exact_form
from bnstream.core.dlpack import as_numpy
from bnstream.core.dtypes import floating, stored_floating
from bnstream.core.moments import Moments, moments_from, rows_of
from bnstream.core.rows import EXPONENT, M2, MEAN, N_LO, ROWS, WEIGHTED_ROWS, N, with_variance, without_exponent


class RunningMeanStd:
    """Mean, variance and count of all samples so far: a drop-in replacement for gymnasium's class of this name.

    Parameters
    ----------
    epsilon : float, default 1e-4
        The weight of gymnasium's made-up first sample, of mean 0 and variance 1. Here there is no such sample, and the
        parameter has no effect.
    shape : int or tuple of int, default ()
        The shape of a sample. () accepts samples of any shape, that of the first batch.
    dtype : dtype, default float64
        The dtype of `mean` and `var`: float16, bfloat16, float32 or float64. The state itself is float64.

    Attributes
    ----------
    mean, var : ndarray
        Arrays of the shape of a sample; the variance has ddof 0. Before the first sample they are 0 and 1, so that
        normalizing by them changes nothing. They can be set, but not changed in place.
    count : float
        The number of samples, or the sum of their weights. It can be set.
    moments : Moments
        A copy of the state, for `save`, `Moments.plot` and the like.

    See Also
    --------
    Moments : the underlying state, for any batch axes.

    Notes
    -----
    The result depends on how the samples were divided into batches in the last bits at most. A call that raises leaves
    the state unchanged. Two objects are equal if count, mean and variance are, in every bit of the state; before the
    first sample, mean and variance of shape () stand for any shape. Objects can be pickled and copied, and shared by
    threads.

    Examples
    --------
    >>> import numpy as np
    >>> from bnstream.runningmeanstd import RunningMeanStd
    >>> rms = RunningMeanStd(shape=(2,))
    >>> rms.mean.tolist(), rms.var.tolist(), rms.count
    ([0.0, 0.0], [1.0, 1.0], 0.0)
    >>> rms.update(np.array([[1.0, 10.0], [3.0, 10.0]])).mean.tolist(), rms.var.tolist(), rms.count
    ([2.0, 10.0], [1.0, 0.0], 2.0)
    """

    __hash__ = None     # type: ignore[assignment]

    def __init__(
        self, epsilon: float = 1e-4, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float64
    ) -> None:
        self._dtype = floating(dtype)
        try:
            self._initial = initial_rows(np.zeros(shape), np.ones(shape))
        except (TypeError, ValueError) as error:
            raise type(error)(f"shape must be an int or a tuple of ints, at least 0, got {shape!r:.60}") from None
        self._moments = Moments()
        # Mean and variance in `dtype`, computed at most once between two updates. An update puts a new list here, so
        # that values which another thread is computing end up in the old one.
        self._cache: list[Any] = []

    def _rows(self) -> Any:
        """Rows of a state, with the variance in the place of M2."""
        rows: Any = rows_of(self._moments)        # a consistent copy, whatever other threads do
        if rows is None:
            return self._initial
        n = rows[N]
        if not n.any():         # all weights were 0
            rows[MEAN], rows[M2] = self._initial[MEAN], self._initial[M2]
        elif len(rows) > EXPONENT:
            var = moments_from(rows).var()
            rows = without_exponent(rows)
            rows[M2] = var
        else:
            rows[M2] /= n
        return rows

    def _mean_and_var(self) -> list[Any]:
        cache = self._cache
        if not cache:
            values = self._rows()[[MEAN, M2]].astype(self._dtype, copy=False)
            values.setflags(write=False)
            cache[:] = values
        return cache

    def _assign(self, count: float, mean: ArrayLike, var: ArrayLike) -> None:
        moments = moments_from_var(mean, var, count)
        initial = initial_rows(mean, var)               # mean and variance as long as the count is 0
        self._moments, self._initial, self._cache = moments, initial, []

    @property
    def mean(self) -> Any:
        return self._mean_and_var()[0]

    @mean.setter
    def mean(self, mean: ArrayLike) -> None:
        self._assign(self.count, mean, self._rows()[M2])

    @property
    def var(self) -> Any:
        return self._mean_and_var()[1]

    @var.setter
    def var(self, var: ArrayLike) -> None:
        self._assign(self.count, self._rows()[MEAN], var)

    @property
    def count(self) -> float:
        return float(np.max(self._rows()[N], initial=0))

    @count.setter
    def count(self, count: float) -> None:
        _, mean, _, var, *_ = self._rows()
        self._assign(count, mean, var)

    @property
    def moments(self) -> Moments:
        return self._moments.copy()

    def update(
        self,
        x: ArrayLike,
        *,
        weights: ArrayLike | None = None,
        where: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> Self:
        """Update the statistics with a batch of samples.

        Parameters
        ----------
        x : array_like
            Samples, of shape (samples, \\*shape), without a copy. An empty batch changes nothing.
        weights : array_like of shape (samples,), optional
            The weight of each sample: 0, or from 1e-100 to 1e100. The count becomes the sum of the weights.
        where : array_like of bool, of shape (samples,), optional
            The samples to include. The others may hold anything. All elements of a sample are counted together, so a
            mask of elements is refused.
        n_threads : int, optional
            As for `mean_var`.

        Returns
        -------
        RunningMeanStd
            Itself.

        Raises
        ------
        TypeError
            If `x` or `weights` does not hold real numbers, or `where` is not of bool.
        ValueError
            If the samples have another shape than those before, if there is NaN or inf, if `weights` or `where` has
            another shape, or if a weight is out of range.

        Examples
        --------
        >>> from bnstream.runningmeanstd import RunningMeanStd
        >>> RunningMeanStd().update([1.0, 3.0]).count
        2.0
        >>> RunningMeanStd().update([1.0, 3.0], weights=[3, 1]).mean.tolist()
        1.5
        """
        if self._moments.shape is None or where is not None:
            x = in_exact_form(x)
        if self._moments.shape is None:
            self._require_shape((x if isinstance(x, Columns) else as_numpy(x)).shape[1:])
        if where is not None:
            require_samples(np.shape(where), x.shape if isinstance(x, Columns) else as_numpy(x).shape)
        self._cache = []                # before as well, as Ctrl-C may come right after the update
        self._moments.update(x, weights=weights, where=where, n_threads=n_threads)
        self._cache = []
        return self

    def update_from_moments(self, batch_mean: ArrayLike, batch_var: ArrayLike, batch_count: float) -> Self:
        """Update the statistics with samples given by their mean, variance and count.

        Parameters
        ----------
        batch_mean, batch_var : array_like
            Arrays of the shape of a sample; the variance with ddof 0.
        batch_count : float
            The number of samples.

        Returns
        -------
        RunningMeanStd
            Itself.

        Raises
        ------
        TypeError
            If `batch_mean` or `batch_var` is not of real numbers, or `batch_count` is not a number.
        ValueError
            If the samples have another shape than those before, if the variance or the count is negative, or if any
            value is NaN or inf.

        Examples
        --------
        >>> from bnstream.runningmeanstd import RunningMeanStd
        >>> RunningMeanStd().update([1.0, 3.0]).update_from_moments(5.0, 1.0, 2).mean.tolist()
        3.5
        """
        return self._merge(moments_from_var(batch_mean, batch_var, batch_count, "batch_"))

    def merge(self, other: RunningMeanStd) -> Self:
        """Add the samples of another object.

        Parameters
        ----------
        other : RunningMeanStd
            With samples of the same shape. It is not changed.

        Returns
        -------
        RunningMeanStd
            Itself.

        Raises
        ------
        TypeError
            If `other` is not a RunningMeanStd.
        ValueError
            If the samples of `other` have another shape.

        Examples
        --------
        >>> from bnstream.runningmeanstd import RunningMeanStd
        >>> a, b = RunningMeanStd().update([1.0, 2.0]), RunningMeanStd().update([6.0])
        >>> a.merge(b).mean.tolist(), (a + b).count
        (3.0, 4.0)
        """
        if not isinstance(other, RunningMeanStd):
            raise TypeError(f"expected a RunningMeanStd to merge, got {type(other).__name__}; update() takes batches, "
                            "update_from_moments() takes mean, variance and count")
        return self._merge(other._moments)

    def copy(self) -> Self:
        """An independent object with the same state.

        Returns
        -------
        RunningMeanStd

        Examples
        --------
        >>> from bnstream.runningmeanstd import RunningMeanStd
        >>> rms = RunningMeanStd().update([1.0, 3.0])
        >>> rms.copy() == rms
        True
        """
        return copy.deepcopy(self)

    __copy__ = copy

    def __add__(self, other: RunningMeanStd) -> Self:
        return self.copy().merge(other) if isinstance(other, RunningMeanStd) else NotImplemented

    def __radd__(self, other: Any) -> Self:
        return self.copy() if isinstance(other, int) and other == 0 else NotImplemented     # sum(parts) starts from 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunningMeanStd):
            return NotImplemented
        if self._moments != other._moments:
            return False
        if self.count > 0:
            return True
        ours, theirs = self._rows()[[MEAN, M2]], other._rows()[[MEAN, M2]]      # They are not in the Moments.
        any_shape = 1 in (ours.ndim, theirs.ndim)
        return (any_shape or ours.shape == theirs.shape) and bool((ours.T == theirs.T).all())

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the arrays in the cache would be writable.
        return {**self.__dict__, "_cache": [], "_dtype": self._dtype.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _dtype=stored_floating(state["_dtype"]))

    def __repr__(self) -> str:
        return f"RunningMeanStd of {self._moments!r}"

    def _merge(self, moments: Moments) -> Self:
        if moments.shape is not None:
            self._require_shape(moments.shape)
        self._cache = []                # before as well, as Ctrl-C may come right after the merge
        self._moments.merge(moments)
        self._cache = []
        return self

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        expected = self._initial.shape[1:]
        if expected not in ((), shape):
            raise ValueError(f"expected samples of shape {expected}, the shape of this RunningMeanStd, got {shape}")


def initial_rows(mean: ArrayLike, var: ArrayLike) -> NDArray[np.float64]:
    """Mean and variance before the first sample, in the places of MEAN and M2."""
    return np.stack(np.broadcast_arrays(0.0, mean, 0.0, var))


def moments_from_var(mean: ArrayLike, var: ArrayLike, count: float, prefix: str = "") -> Moments:
    """The state of `count` samples with this mean and variance. The arguments of the caller have a prefix."""
    of_mean, of_var = f"{prefix}mean", f"{prefix}var"
    means = real_values(of_mean, mean).astype(np.float64)
    variances = real_values(of_var, var).astype(np.float64)
    if variances.shape not in ((), means.shape):
        raise ValueError(f"{of_mean} and {of_var} must have the same shape, got {means.shape} and {variances.shape}")
    if not (np.isfinite(means).all() and np.isfinite(variances).all() and (variances >= 0).all()):
        raise ValueError(f"{of_mean} and {of_var} must be finite, and {of_var} not negative, got {means} and "
                         f"{variances}")
    count = number(f"{prefix}count", count, "finite and not negative", lambda n: 0 <= n < math.inf)
    if count == 0:
        return Moments()
    # A fractional count is a sum of weights, and so is one of 1 with a variance.
    whole = count.is_integer() and not (count == 1 and variances.any())
    rows = np.zeros((len(ROWS if whole else WEIGHTED_ROWS), *means.shape))
    rows[N], rows[MEAN] = count, means
    rows[N_LO + 1:] = min(count, count * count)
    return moments_from(with_variance(rows, variances))


def require_samples(mask: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a mask of this shape selects whole samples, as there is one count for all channels."""
    if len(mask) and len(shape) and not (mask[0] in (1, shape[0]) and all(n == 1 for n in mask[1:])):
        raise ValueError(f"where must select samples, with shape ({shape[0]},), got {mask}; use a Moments, which "
                         "counts the elements of each channel")
