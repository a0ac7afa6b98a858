"""gymnasium's RunningMeanStd, exact and without a made-up first sample. It needs NumPy alone."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.dlpack import as_numpy
from bnstream.core.moments import Moments, moments_from, rows_of
from bnstream.core.rows import M2, MEAN, N_LO, ROWS, WEIGHTED_ROWS, N


class RunningMeanStd:
    """Mean, variance and count of all samples so far: a drop-in for gymnasium's class of this name.

    Parameters
    ----------
    epsilon : float, default 1e-4
        The weight of the sample of mean 0 and variance 1 that gymnasium makes up. Here there is none: it is accepted,
        and has no effect.
    shape : int or tuple of int, default ()
        The shape of a sample; () for that of the first batch.
    dtype : dtype, default float64
        Of `mean` and `var` as they are read; they are kept in float64 all the same.

    Attributes
    ----------
    mean, var : ndarray
        Of the shape of a sample; the variance has ddof 0. Before the first sample they are 0 and 1, and normalizing by
        them changes nothing. They may be set, but not changed in place.
    count : float
        How many samples. It may be set.
    moments : Moments
        A copy of the state, for `save`, `Moments.plot` and the like.

    See Also
    --------
    Moments : does the work, and is as exact.

    Notes
    -----
    How the samples were cut into batches and parts makes a difference in the last bits at most. A call that raises
    leaves the state as it was. Two objects are equal where count, mean and variance are, to the last bit kept. It
    pickles and copies, and several threads may use one object.

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
        self._dtype = np.dtype(dtype)
        if self._dtype.kind != "f":
            raise TypeError(f"dtype must be floating, as means are, got {self._dtype}")
        self._start = start_of(np.zeros(shape), np.ones(shape))
        self._moments = Moments()
        # mean and variance as they are told, computed but once between two updates. Each update puts a new list here,
        # and so what another thread computes meanwhile goes into the old one.
        self._told: list[Any] = []

    def _exact(self) -> Any:
        """count, mean and variance, as rows 0, 1 and 3."""
        rows: Any = rows_of(self._moments)        # of one moment, whatever other threads do
        if rows is None:
            return self._start
        rows[M2] /= rows[N]
        return rows

    def _rounded(self) -> list[Any]:
        told = self._told
        if not told:
            rows = self._exact().astype(self._dtype, copy=False)
            rows.setflags(write=False)
            told[:] = rows[MEAN], rows[M2]
        return told

    def _assign(self, count: float, mean: ArrayLike, var: ArrayLike) -> None:
        self._moments = moments_of(mean, var, count)
        self._start = start_of(mean, var)       # until the count is set, too
        self._told = []

    @property
    def mean(self) -> Any:
        return self._rounded()[0]

    @mean.setter
    def mean(self, mean: ArrayLike) -> None:
        self._assign(self.count, mean, self._exact()[M2])

    @property
    def var(self) -> Any:
        return self._rounded()[1]

    @var.setter
    def var(self, var: ArrayLike) -> None:
        self._assign(self.count, self._exact()[MEAN], var)

    @property
    def count(self) -> float:
        return float(np.max(self._exact()[N], initial=0))

    @count.setter
    def count(self, count: float) -> None:
        _, mean, _, var, *_ = self._exact()
        self._assign(count, mean, var)

    @property
    def moments(self) -> Moments:
        return self._moments.copy()

    def update(self, x: ArrayLike) -> Self:
        """Take in a batch of samples.

        Parameters
        ----------
        x : array_like
            Of shape (samples, *shape). It is read in place. An empty batch changes nothing.

        Returns
        -------
        RunningMeanStd
            Itself.

        Raises
        ------
        TypeError
            If `x` is not of real numbers.
        ValueError
            If its samples have another shape than those before, or there is NaN or inf.

        Examples
        --------
        >>> from bnstream.runningmeanstd import RunningMeanStd
        >>> RunningMeanStd().update([1.0, 3.0]).count
        2.0
        """
        if self._moments.shape is None:
            self._require_shape(as_numpy(x).shape[1:])
        self._moments.update(x)
        self._told = []
        return self

    def update_from_moments(self, batch_mean: ArrayLike, batch_var: ArrayLike, batch_count: float) -> Self:
        """Take in samples of which mean, variance and count are known.

        Parameters
        ----------
        batch_mean, batch_var : array_like
            Of the shape of a sample; the variance with ddof 0.
        batch_count : float
            How many samples.

        Returns
        -------
        RunningMeanStd
            Itself.

        Raises
        ------
        ValueError
            If they have another shape than the samples before, the variance or the count is negative, or any is NaN or
            inf.

        Examples
        --------
        >>> from bnstream.runningmeanstd import RunningMeanStd
        >>> RunningMeanStd().update([1.0, 3.0]).update_from_moments(5.0, 1.0, 2).mean.tolist()
        3.5
        """
        return self._take(moments_of(batch_mean, batch_var, batch_count))

    def merge(self, other: RunningMeanStd) -> Self:
        """Take in what another object has seen.

        Parameters
        ----------
        other : RunningMeanStd
            Of samples of the same shape. It is left as it is.

        Returns
        -------
        RunningMeanStd
            Itself.

        Raises
        ------
        TypeError
            If `other` is no RunningMeanStd.
        ValueError
            If its samples have another shape.

        Examples
        --------
        >>> from bnstream.runningmeanstd import RunningMeanStd
        >>> a, b = RunningMeanStd().update([1.0, 2.0]), RunningMeanStd().update([6.0])
        >>> a.merge(b).mean.tolist(), (a + b).count
        (3.0, 4.0)
        """
        if not isinstance(other, RunningMeanStd):
            raise TypeError(f"expected a RunningMeanStd to merge, got {type(other).__name__}; update() takes batches, "
                            "update_from_moments() mean, variance and count")
        return self._take(other._moments)

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
        return self._moments == other._moments if isinstance(other, RunningMeanStd) else NotImplemented

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_told": []}       # a copied array may be written to

    def __repr__(self) -> str:
        return f"RunningMeanStd of {self._moments!r}"

    def _take(self, moments: Moments) -> Self:
        if moments.shape is not None:
            self._require_shape(moments.shape)
        self._moments.merge(moments)
        self._told = []
        return self

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        expected = self._start.shape[1:]
        if expected not in ((), shape):
            raise ValueError(f"expected samples of shape {expected}, as it was made with, got {shape}")


def start_of(mean: ArrayLike, var: ArrayLike) -> NDArray[np.float64]:
    """What is told while there is no sample, in the rows of a state."""
    return np.stack(np.broadcast_arrays(0.0, mean, 0.0, var))


def moments_of(mean: ArrayLike, var: ArrayLike, count: float) -> Moments:
    """The state of so many samples."""
    means, variances = np.asarray(mean, np.float64), np.asarray(var, np.float64)
    if variances.shape not in ((), means.shape):
        raise ValueError(f"mean and variance must have the same shape, got {means.shape} and {variances.shape}")
    if not (np.isfinite(means).all() and np.isfinite(variances).all() and (variances >= 0).all()):
        raise ValueError(f"mean and variance must be finite, and the variance not negative, got {means} and "
                         f"{variances}")
    if not 0 <= count < math.inf:
        raise ValueError(f"the count of samples must be finite and not negative, got {count}")
    if count == 0:
        return Moments()
    whole = float(count).is_integer()       # A fractional count is a sum of weights.
    rows = np.zeros((len(ROWS if whole else WEIGHTED_ROWS), *means.shape))
    rows[N], rows[MEAN], rows[M2] = count, means, variances * count
    rows[N_LO + 1:] = count
    return moments_from(rows)
