"""Quantiles: an estimate of the distribution of each channel, in bounded memory, in one pass, and mergeable."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.checks import integer, real_values
from bnstream.sketches import kll

DEFAULT_K = 800
SLICE_VALUES = 1 << 20      # Values of all channels that are sorted at a time, 8 MiB of float64,
SLICE_ROWS = 1 << 16        # and those of one channel, which stay in the cache.
HEADER = struct.Struct("<8sQQ")     # MAGIC, k, number of channels
MAGIC = b"bnsKLL\x00\x01"


class Quantiles:
    """Quantiles and histograms of the channels of a stream of batches, estimated.

    Parameters
    ----------
    n_channels : int
        The number of channels.
    k : int, default 800
        The accuracy, from 8 to 4096: `rank_error` is about ``2.3 / k**0.97``, and a channel takes up to about 24 k
        bytes. 800 stands for 0.35 % and 19 KB.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If an argument is out of range.
    ModuleNotFoundError
        If the package datasketches is not installed: the extra ``quantiles``.

    See Also
    --------
    bnstream.Moments : mean and variance, which are not estimates.

    Notes
    -----
    Each channel has a KLL sketch of Apache DataSketches: a sample of its values, each of which stands for a power of
    two of them. A quantile is always a value of the data, as in ``numpy.quantile(x, q, method="inverted_cdf")``.
    As long as a channel has no more than `k` values, it is that quantile exactly. From then on its rank lies within
    `rank_error` of `q`, for all `q` together, in 99 of 100 sketches, whatever the data, their order and the tree of
    merges. The count, the minimum and the maximum are always exact.

    The sketches flip coins whose seed cannot be set. So, unlike all other results of bnstream, the quantiles of two
    passes over the same data may differ, both within the bound.

    A NaN that counts makes the quantiles of its channel NaN, as in NumPy. Infinite values are ordinary values. Integers
    beyond 2**53 are rounded to float64. The work is done by one thread, about 15 ns a value, as the sketches hold the
    interpreter's lock. The sorting of each slice, a third of the time, runs beside other threads.

    References
    ----------
    Z. Karnin, K. Lang, E. Liberty, "Optimal quantile approximation in streams", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from bnstream.sketches import Quantiles
    >>> x = np.arange(100.0).reshape(50, 2)
    >>> a, b = Quantiles(2).update(x[:20]), Quantiles(2).update(x[20:])
    >>> a.merge(b).quantile([0.25, 0.5, 1]).tolist()
    [[24.0, 25.0], [48.0, 49.0], [98.0, 99.0]]
    """

    __hash__ = None             # type: ignore[assignment]

    def __init__(self, n_channels: SupportsIndex, *, k: SupportsIndex = DEFAULT_K) -> None:
        self._k = integer("k", k, kll.SMALLEST_K, kll.LARGEST_K)
        make = kll.kll()
        self._sketches = [make(self._k) for _ in range(integer("n_channels", n_channels, first=0))]
        self._has_nan = np.zeros(len(self._sketches), np.bool_)

    @property
    def k(self) -> int:
        """The accuracy that was asked for."""
        return self._k

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return len(self._sketches)

    @property
    def n(self) -> NDArray[np.int64]:
        """The number of values of each channel, without NaN: exact, of shape (channels,)."""
        return np.array([sketch.n for sketch in self._sketches], np.int64)

    @property
    def min(self) -> NDArray[np.float64]:
        """The least value of each channel, exact; NaN where there is none, or a NaN."""
        return self._extreme("get_min_value")

    @property
    def max(self) -> NDArray[np.float64]:
        """The greatest value of each channel, exact; NaN where there is none, or a NaN."""
        return self._extreme("get_max_value")

    def _extreme(self, name: str) -> NDArray[np.float64]:
        return np.array([np.nan if sketch.is_empty() or has_nan else getattr(sketch, name)()
                         for sketch, has_nan in zip(self._sketches, self._has_nan, strict=True)], np.float64)

    @property
    def rank_error(self) -> NDArray[np.float64]:
        """The bound of the error of each channel's quantiles, as a fraction of its values; 0 where they are exact.

        It holds with a confidence of 99 %: the rank of ``quantile(q)``, the fraction of values up to it, lies within it
        of q.
        """
        bound = kll.kll().get_normalized_rank_error(self._k, False)
        return np.array([bound if sketch.is_estimation_mode() else 0.0 for sketch in self._sketches])

    @property
    def nbytes(self) -> int:
        """The size of `to_bytes` in bytes, about that in memory."""
        return len(self.to_bytes())

    def update(self, rows: ArrayLike, *, where: ArrayLike | None = None, weights: ArrayLike | None = None) -> Self:
        """Add the rows of an array.

        Parameters
        ----------
        rows : array_like
            Real numbers, of shape (rows, channels). It is not changed, and at most 16 MiB of it are copied at a time.
        where : array_like of bool, optional
            Of the same shape: the values that count.
        weights : None
            A sketch counts every value once, so that weights are refused.

        Returns
        -------
        Quantiles
            The object itself.

        Raises
        ------
        TypeError
            If `rows` is not of real numbers, or `where` not of bool.
        ValueError
            If the shapes do not fit, or weights are given. Nothing is changed then.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> q = Quantiles(1).update([[3.0], [1.0], [999.0]], where=[[True], [True], [False]])
        >>> q.n.tolist(), q.max.tolist()
        ([2], [3.0])
        """
        if weights is not None:
            raise ValueError("quantiles take no weights, got some; leave out weights, or do not track quantiles")
        x = real_values("rows", rows)
        if x.ndim != 2 or x.shape[1] != self.n_channels:
            raise ValueError(f"rows must have the shape (rows, {self.n_channels}), got {x.shape}")
        mask = None if where is None else np.asarray(where)
        if mask is not None and mask.dtype != np.bool_:
            raise TypeError(f"where must be of bool, got dtype {mask.dtype}")
        if mask is not None and mask.shape != x.shape:
            raise ValueError(f"where must have the shape of rows, {x.shape}, got {mask.shape}")
        step = max(1, min(SLICE_ROWS, SLICE_VALUES // max(1, self.n_channels)))
        for first in range(0, len(x), step):
            chosen = slice(first, first + step)
            self._add(x[chosen].T, None if mask is None else mask[chosen].T)
        return self

    def _add(self, columns: NDArray[Any], mask: NDArray[np.bool_] | None) -> None:
        """Add values of shape (channels, rows).

        They are sorted first: NumPy sorts in vectors, and the sketch needs half the time for values in order.
        """
        as_double = columns.dtype.kind != "f" or columns.dtype.itemsize != 4
        values = np.array(columns, np.float64 if as_double else np.float32, order="C")
        if mask is not None:
            self._has_nan |= (np.isnan(values) & mask).any(axis=1)
            values[~mask] = np.nan              # which the sketches leave out
        values.sort(axis=1)                     # NaN last
        if mask is None and values.shape[1]:
            self._has_nan |= np.isnan(values[:, -1])
        for sketch, one in zip(self._sketches, values, strict=True):
            sketch.update(one.astype(np.float64, copy=False))

    def merge(self, other: Quantiles) -> Self:
        """Add the values of another object, which is not changed.

        Parameters
        ----------
        other : Quantiles
            With the same number of channels and the same `k`.

        Returns
        -------
        Quantiles
            The object itself.

        Raises
        ------
        TypeError
            If `other` is not a Quantiles.
        ValueError
            If the channels or `k` differ. Nothing is changed then.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> Quantiles(1).update([[1.0], [2.0]]).merge(Quantiles(1).update([[3.0]])).quantile(0.5).tolist()
        [2.0]
        """
        if not isinstance(other, Quantiles):
            raise TypeError(f"expected a Quantiles to merge, got {type(other).__name__}")
        if (other.n_channels, other.k) != (self.n_channels, self.k):
            raise ValueError(f"expected quantiles of {self.n_channels} channels with k={self.k} as here, got "
                             f"{other.n_channels} channels with k={other.k}")
        for mine, theirs in zip(self._sketches, other._sketches, strict=True):
            mine.merge(copy.copy(theirs) if other is self else theirs)
        self._has_nan |= other._has_nan
        return self

    def quantile(self, q: ArrayLike) -> NDArray[np.float64]:
        """Estimate quantiles.

        Parameters
        ----------
        q : array_like
            Probabilities, from 0 for the minimum to 1 for the maximum, both of which are exact.

        Returns
        -------
        ndarray of float64
            Of the shape of `q` followed by that of the channels, as of ``numpy.quantile(x, q, axis=0)``; NaN where a
            channel has no values, or a NaN.

        Raises
        ------
        TypeError
            If `q` is not of real numbers.
        ValueError
            If it is not within 0 and 1.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> Quantiles(2).update([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]).quantile([0.5, 1]).tolist()
        [[2.0, 20.0], [3.0, 30.0]]
        """
        probabilities = real_values("q", q).astype(np.float64)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(f"q must be from 0 to 1, got {q!r:.60}")
        ranks = probabilities.ravel()
        found = np.full((self.n_channels, ranks.size), np.nan)
        if ranks.size:
            for row, sketch, has_nan in zip(found, self._sketches, self._has_nan, strict=True):
                if not has_nan and not sketch.is_empty():
                    row[:] = sketch.get_quantiles(ranks.tolist(), True)
            found[:, ranks == 0] = self.min[:, np.newaxis]
            found[:, ranks == 1] = self.max[:, np.newaxis]
        return found.T.reshape(*probabilities.shape, self.n_channels)

    def histogram(
        self, channel: SupportsIndex, bins: SupportsIndex | ArrayLike = 10, range: tuple[float, float] | None = None  # noqa: A002
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Estimate the histogram of one channel.

        Parameters
        ----------
        channel : int
            The index of the channel.
        bins : int or array_like, default 10
            The number of bins of equal width, or their edges in ascending order.
        range : (float, float), optional
            The first and the last edge of bins of equal width, by default the minimum and the maximum.

        Returns
        -------
        counts : ndarray of float64
            The number of values in each bin, which includes its left edge, the last one both, as in
            ``numpy.histogram``. It is exact as long as the channel has no more than `k` values, and otherwise within
            twice `rank_error` of all values.
        edges : ndarray of float64
            Those of the bins, one more than bins.

        Raises
        ------
        TypeError
            If `channel` or a number of bins is not an integer.
        ValueError
            If there is no such channel, it has no values or a NaN, or there are no such bins.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> counts, edges = Quantiles(1).update([[1.0], [2.0], [2.0], [5.0]]).histogram(0, bins=2)
        >>> counts.tolist(), edges.tolist()
        ([3.0, 1.0], [1.0, 3.0, 5.0])
        """
        i = integer("channel", channel, 0, self.n_channels - 1)
        sketch = self._sketches[i]
        if sketch.is_empty() or self._has_nan[i]:
            raise ValueError(f"channel {i} has {'a NaN' if self._has_nan[i] else 'no values'}, so it has no histogram; "
                             "leave NaN out with nan_policy='omit'")
        if isinstance(bins, str):
            raise TypeError(f"bins must be an integer or edges, got {bins!r:.60}")
        extremes = np.array([sketch.get_min_value(), sketch.get_max_value()])
        edges = np.histogram_bin_edges(extremes, bins, range).astype(np.float64)       # type: ignore[arg-type]
        below = np.array([sketch.get_rank(edge, False) for edge in edges[:-1]] + [sketch.get_rank(edges[-1], True)])
        return np.diff(np.rint(below * sketch.n)), edges

    def channels(self, chosen: Iterable[SupportsIndex]) -> Quantiles:
        """Return an independent object with some of the channels.

        Parameters
        ----------
        chosen : iterable of int
            The indices of the channels, in their new order.

        Returns
        -------
        Quantiles

        Raises
        ------
        TypeError, ValueError
            If one is no integer, or there is no such channel.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> Quantiles(3).update([[1.0, 2.0, 3.0]]).channels([2, 0]).max.tolist()
        [3.0, 1.0]
        """
        places = [integer("channel", i, 0, self.n_channels - 1) for i in chosen]
        found = type(self)(0, k=self._k)
        found._sketches = [copy.copy(self._sketches[i]) for i in places]
        found._has_nan = self._has_nan[places]
        return found

    @classmethod
    def joined(cls, parts: Sequence[Quantiles]) -> Self:
        """Return an independent object with the channels of several, one after another.

        Parameters
        ----------
        parts : sequence of Quantiles
            At least one, all with the same `k`.

        Returns
        -------
        Quantiles

        Raises
        ------
        ValueError
            If there is none, or they differ in `k`.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> Quantiles.joined([Quantiles(1).update([[1.0]]), Quantiles(2).update([[2.0, 3.0]])]).max.tolist()
        [1.0, 2.0, 3.0]
        """
        ks = sorted({part.k for part in parts})
        if len(ks) != 1:
            raise ValueError(f"expected quantiles with one k to join, got k={', '.join(map(str, ks)) or 'none'}")
        found = cls(0, k=ks[0])
        found._sketches = [copy.copy(sketch) for part in parts for sketch in part._sketches]
        found._has_nan = np.concatenate([part._has_nan for part in parts])
        return found

    def copy(self) -> Quantiles:
        """Return an independent object with the same sketches.

        Returns
        -------
        Quantiles

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> q = Quantiles(3)
        >>> q.copy() == q
        True
        """
        return copy.copy(self)

    def __copy__(self) -> Quantiles:
        other = type(self).__new__(type(self))
        other.__dict__ |= self.__dict__ | {"_sketches": [copy.copy(sketch) for sketch in self._sketches],
                                           "_has_nan": self._has_nan.copy()}
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Quantiles:
        return self.__copy__()

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same items: a copy does, but not another pass over the same data."""
        return self.to_bytes() == other.to_bytes() if isinstance(other, Quantiles) else NotImplemented

    def __getstate__(self) -> dict[str, Any]:
        return {"sketches": self.to_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= self.from_bytes(state["sketches"]).__dict__

    def __repr__(self) -> str:
        return f"Quantiles({self.n_channels}, k={self.k})"

    def to_bytes(self) -> bytes:
        """Return the sketches as bytes, which `from_bytes` reads.

        Returns
        -------
        bytes
            Equal for objects that are equal.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> len(Quantiles(2, k=200).to_bytes())
        50
        """
        blobs = [kll.written(sketch) for sketch in self._sketches]
        sizes = np.array([len(blob) for blob in blobs], "<u4")
        return b"".join([HEADER.pack(MAGIC, self._k, len(blobs)), self._has_nan.tobytes(), sizes.tobytes(), *blobs])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Restore what `to_bytes` returned.

        Parameters
        ----------
        data : bytes
            They need not be trusted: they are checked to the last item before the library sees them.

        Returns
        -------
        Quantiles
            Equal to the object that was written.

        Raises
        ------
        ValueError
            If no object has these bytes.

        Examples
        --------
        >>> from bnstream.sketches import Quantiles
        >>> q = Quantiles(1).update([[1.0], [2.0]])
        >>> Quantiles.from_bytes(q.to_bytes()) == q
        True
        """
        data = bytes(data)
        kll.require(len(data) >= HEADER.size, "its length")
        magic, k, count = HEADER.unpack_from(data)
        kll.require(magic == MAGIC and kll.SMALLEST_K <= k <= kll.LARGEST_K, "its header")
        start = HEADER.size + 5 * count
        kll.require(len(data) >= start, "the number of channels")
        has_nan = np.frombuffer(data, np.uint8, count, HEADER.size)
        sizes = np.frombuffer(data, "<u4", count, HEADER.size + count).astype(np.int64)
        ends = start + np.cumsum(sizes)
        kll.require((has_nan <= 1).all() and len(data) == (ends[-1] if count else start), "its length")
        found = cls(0, k=k)
        found._sketches = [kll.read(data[end - size:end], k) for end, size in zip(ends, sizes, strict=True)]
        found._has_nan = has_nan.astype(np.bool_)
        return found
