"""The exact, mergeable state of a stream of arrays."""

import copy
import copyreg
import hashlib
import json
import math
import operator
import threading

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.math cimport NAN, isfinite
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy
from numpy cimport ndarray

from bnstream._kernels._runtime cimport threads_for
from bnstream._kernels._table cimport (
    EXPONENT, GREATEST, LEAST, M2, MEAN, N, N_LO, SCALED_ROWS, SMALL, SQUARES, STATE_ROWS, TRACKED_ROWS, WEIGHTED_ROWS,
    Kernels, Sink, Tracked, View, padded,
)
from bnstream.core.exact cimport ExactSums, covers, sums_of_array, weighted_sums
from bnstream.core.large cimport (
    ROOM_ROWS, deviation_of, look_again, merge_large, moderate, restored, variance_of,
)
from bnstream.core.locks cimport acquire, release
from bnstream.core.view cimport (
    OMIT, PROPAGATE, RAISE, Policy, as_array, axes_named, batch_axes, counts_of, kept_shape, make_view, mask_of, number_of,
    policy_of, require_finite, weights_of,
)

from bnstream._kernels import capsule
from bnstream.core.columns import Columns, in_exact_form, require_mask_in_order, require_names_in_order
from bnstream.core.labels import counted
from bnstream.core.late import late
from bnstream.core.rows import effective_n, has_weights, require_possible, without_exponent
from bnstream.core.tracking import (
    arrays_of, kurtosis_of, of_both, require_exactable, require_possible_tracked, require_track, require_tracked,
    skewness_of, track_of,
)

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")

cdef enum:
    AVERAGE, VARIANCE, DEVIATION


cdef tuple require_names(object names):
    """The names of channels as a tuple, checked to be different strings."""
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence of str, got the str {names!r}; make it a list")
    names = tuple(names)
    seen = set()
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"names must be of str, got {name!r} of type {type(name).__name__}")
        if name in seen:
            raise ValueError(f"names must differ, got {name!r} twice")
        seen.add(name)
    return names


cdef bint same_bits(ndarray a, ndarray b) noexcept:
    cdef Py_ssize_t n = cnp.PyArray_NBYTES(a)
    return n == cnp.PyArray_NBYTES(b) and memcmp(cnp.PyArray_DATA(a), cnp.PyArray_DATA(b), n) == 0


cdef class Moments:
    """Count, mean and sum of squared deviations of every channel, of all batches so far.

    Parameters
    ----------
    axis : int, tuple of int or None, default 0
        The batch axes of every batch, those reduced over. The other axes are the channels; the first batch sets their
        shape.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What to do about NaN and inf: refuse the batch; leave these elements out, and count the others of each channel;
        or let them through.
    names : sequence of str, optional
        The names of the channels, if these are of one axis. `merge` copies names from the other object, and refuses
        names that differ; `update` refuses a table with some of them as columns in another order.
    exact : bool, default False
        Keep the sums of the values and of their squares as integers: then mean, variance and standard deviation are
        correctly rounded, equal data gives the same state however it was cut, ordered or laid out, parts can be taken
        out again, and a `digest` names the data. Weights are whole numbers then, and count batch positions. float32 and
        integers of at most 32 bits take at most 1.5 times as long as without, float64 three times, in the cache up to
        five.
    track : str or sequence of str, optional
        What to find in the same read beside count, mean and variance: "min" and "max", "missing", "skewness" and
        "kurtosis". Of "min" and "max", and of "skewness" and "kurtosis", one brings the other. Without, nothing costs more.
        Exact statistics track "min", "max", by a read of their own, and "missing". Also "quantiles", by a sketch of each
        channel that takes up to 19 KB and some 15 ns a value; it needs the extra ``quantiles``, takes no weights, and its
        bits may differ from run to run.

    Attributes
    ----------
    n : ndarray of int64 or float64
        The number of values of each channel, of the shape of the channels: int64, or float64 and the sum of the weights
        once there were weights. Counts are exact up to 2**53; those of 2**63 and more make it float64 as well. Of
        exact statistics it is always int64, up to 2**62.
    effective_n : ndarray of float64
        How many values of equal weight would give the same precision: ``n**2 / sum(weights**2)`` [3]_, of the shape of
        the channels. Without weights, and of exact statistics, it equals n.
    mean, m2 : ndarray of float64
        Mean and sum of squared deviations, of the shape of the channels; new arrays. The mean of nothing is NaN. m2 is
        inf where it exceeds the largest float; the state holds it nevertheless.
    min, max : ndarray of float64
        The least and the greatest value of each channel, if tracked; new arrays. NaN of nothing, and, as NumPy has it, where
        NaN was let through. Values of weight 0 do not count. Integers beyond 2**53 are rounded to float64, and -0.0 is 0.0.
    missing : ndarray of int64
        How many of the selected values of each channel are NaN, inf or, in a table, null, if tracked: those that
        ``nan_policy="omit"`` has left out, or "propagate" has let through. Values of weight 0 are not selected; exact
        statistics count each as often as its weight says.
    track : tuple of str
        What is tracked. A merge keeps what both objects track. What is not tracked raises AttributeError.
    shape : tuple of int or None
        The shape of the channels, None before the first batch.
    names : tuple of str or None
        The names of the channels. They may be set.
    axis, nan_policy, exact
        As given.

    See Also
    --------
    mean_var : the same for one array.
    fit : the same for files.
    save, load : to a file, and back.

    Notes
    -----
    A new object is the identity of `merge`: ``sum(parts, Moments())`` holds what one object would that saw all the
    batches. Parts with NaN need ``Moments(nan_policy="propagate")``. Mean and m2 are each carried as a pair of doubles, so
    that updates and merges lose no digits [1]_ [2]_: however the data was cut, the mean is within 64 eps of
    ``max(|mean|, sd)`` and the variance within a relative 400 eps. Sums of integers
    that differ by less than 2**52 are exact in each block, so that n, mean and m2 hardly ever depend on the cut.

    The state of an exact object is n, the sum and the sum of squares of the numbers of each channel. Merging is the addition
    of integers, which no rounding and no order changes. Mean and variance are ratios of integers, rounded once to float64,
    to even. An exact object merges with exact ones, and with an empty object of either kind. A batch position of weight 3
    counts like three equal ones.

    A call that raises leaves the state as it was. Several threads may update one object at once. It pickles, and two
    objects are equal if they hold the same shape, n, mean and m2, to the last digit kept (NaN equals NaN).

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", 1983.
    .. [2] E. Schubert, M. Gertz, "Numerically stable parallel computation of (co-)variance", 2018.
    .. [3] L. Kish, "Survey Sampling", 1965.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> m = bnstream.Moments()
    >>> for batch in np.arange(12.0).reshape(3, 2, 2):
    ...     _ = m.update(batch)
    >>> m.n.tolist(), m.mean.tolist(), m.var(ddof=1).tolist()
    ([6, 6], [5.0, 6.0], [14.0, 14.0])
    """

    cdef readonly object axis
    cdef readonly str nan_policy
    cdef readonly tuple shape
    cdef tuple _names
    cdef Py_ssize_t size        # channels
    cdef ndarray state          # (SCALED_ROWS, padded channels)
    cdef Policy policy
    cdef bint weighted          # the rows N_LO and SQUARES hold something
    cdef bint scaled            # the row EXPONENT holds something
    cdef bint large             # merges may overflow
    cdef readonly bint exact
    cdef ExactSums sums         # where the statistics are exact and there was a batch; then there is no state
    cdef readonly tuple track
    cdef bint powers            # Skewness and kurtosis are tracked.
    cdef ndarray tracked        # (TRACKED_ROWS, padded channels), where min or skewness is tracked and there was a batch
    cdef public object _sketches        # `Quantiles` of the channels, where they are tracked and there was a batch
    cdef ndarray left_out       # (padded channels), of int64: what is missing, less what exact sums count as NaN and inf
    cdef Py_ssize_t n_changes   # of the state, so that a reader of several arrays sees whether they belong together
    cdef object lock            # held while state and sketches change, where quantiles are tracked; else None

    def __cinit__(self):
        """Set the defaults, so that an object made by ``__new__`` alone, as some serializers make it, is complete."""
        self.axis, self.nan_policy, self.policy, self.track = 0, "raise", RAISE, ()

    def __init__(self, axis=0, *, nan_policy="raise", names=None, exact=False, track=()):
        batch_axes(axis, 64)
        self.policy = policy_of(nan_policy)
        if isinstance(axis, (tuple, list)):
            self.axis = tuple(map(operator.index, axis))
        else:
            self.axis = None if axis is None else operator.index(axis)
        self.nan_policy = str(nan_policy)
        self.shape = None
        self.state = None
        if not isinstance(exact, bool | np.bool_):
            raise TypeError(f"exact must be True or False, got {exact!r}")
        self.exact = exact
        set_track(self, () if track == () else require_track(track))
        if exact:
            require_exactable(self.track)
        self.names = names

    @property
    def names(self):
        return self._names

    @names.setter
    @cython.critical_section
    def names(self, names):
        if names is not None:
            names = require_names(names)
            if self.shape is not None and self.shape != (len(names),):
                raise ValueError(f"names must fit channels of shape {self.shape}, got "
                                 f"{counted(len(names), 'name', 'names')}")
        self._names = names

    def update(self, batch, *, weights=None, where=None, n_threads=None):
        """Add a batch to the statistics.

        Parameters
        ----------
        batch : array_like
            Real numbers or a table, as for `mean_var`, with the same channels as the batches before. It is read in
            place. An empty batch changes nothing.
        weights : array_like, optional
            The weight of each batch position, that is, of a row of all channels: 0, or from 1e-100 to 1e100, of the
            shape of `batch` along the batch axes, or with length 1 along any of them. Mean and variance depend only on
            their ratios. Exact statistics take whole numbers from 0 to below 2**53, which say how often the position
            counts.
        where : array_like of bool, optional
            The elements to use, marked True. The others may hold anything. A mask with fewer axes than `batch` that has
            the shape of the batch positions, or 1 along any of them, selects batch positions; any other mask broadcasts
            against `batch` as in NumPy, and each channel counts its own elements. Give it every axis if the two could
            be confused.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        Moments
            The object itself.

        Raises
        ------
        TypeError
            If the batch is complex, of objects, strings, records or dates, or a masked array; if `where` is not of
            bool, or `weights` are not numbers.
        ValueError
            If its channels are not those of the batches before, or it is a table with some of `names` as columns in
            another order; if an axis is out of range, or it holds NaN or inf under ``nan_policy="raise"``; if `weights`
            has another shape, `where` does not broadcast, or a weight is out of range, for exact statistics no whole
            number.
        OverflowError
            If exact statistics would count more than 2**62 values in a channel. The state is as it was.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.Moments().update(np.array([[1.0], [3.0]])).mean.tolist()
        [2.0]
        >>> bnstream.Moments().update(np.array([[1.0], [3.0]]), weights=[3, 1]).mean.tolist()
        [1.5]
        >>> x = np.array([[1.0, 10.0], [3.0, 20.0]])
        >>> bnstream.Moments().update(x, where=x < 20).n.tolist()
        [2, 1]
        """
        if not cnp.PyArray_CheckExact(batch):
            if self.axis in (0, -2, (0,), (-2,)):       # The columns of a table are the channels.
                require_names_in_order(self.names, batch)
            require_mask_in_order(where, batch)
            batch = in_exact_form(batch)
            if isinstance(batch, Columns):
                return self._update_columnwise(batch, weights, where, n_threads)
        cdef ndarray a = as_array(batch)
        cdef unsigned long long axes = batch_axes(self.axis, a.ndim)
        cdef ndarray mask = None if where is None else mask_of(where, a, axes)
        if weights is not None and "quantiles" in self.track:
            raise ValueError("weights were given, and quantiles are tracked, which take none; leave out weights, or make "
                             "the Moments without track='quantiles'")
        if self.exact:
            lock = acquire(self.lock)
            try:
                add_exactly(self, a, axes, mask, weights, n_threads)
            finally:
                release(lock)
        else:
            add_batch(self, a, axes, mask, weights, n_threads)
        return self

    def merge(self, other):
        """Add the statistics of another object.

        Parameters
        ----------
        other : Moments
            With the same channels. It is not changed. Where the batch axes or the policies differ, this object keeps
            its own. Names are taken from whichever object has them.

        Returns
        -------
        Moments
            The object itself.

        Raises
        ------
        TypeError
            If `other` is not a Moments.
        ValueError
            If its channels differ in shape or in name, if one is exact and the other is not, or if it holds NaN or inf and
            this object's `nan_policy` is not "propagate". Nothing is changed then.
        OverflowError
            If exact statistics would count more than 2**62 values in a channel.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> a = bnstream.Moments().update(np.array([[1.0], [2.0]]))
        >>> b = bnstream.Moments().update(np.array([[6.0]]))
        >>> a.merge(b).mean.tolist()
        [3.0]
        """
        if not isinstance(other, Moments):
            raise TypeError(f"expected a Moments to merge, got {type(other).__name__}; update() takes arrays")
        cdef Moments them = other
        if them is self or them.lock is not None:
            them = them.copy()      # of one moment, so that no two locks are held
        lock = acquire(self.lock)
        try:
            with cython.critical_section(self, them):
                take_over(self, them)
        finally:
            release(lock)
        return self

    def unmerge(self, other):
        """Take the statistics of another object out again, of data that is part of this one's.

        Parameters
        ----------
        other : Moments
            Exact, with the same channels. It is not changed.

        Returns
        -------
        Moments
            The object itself.

        Raises
        ------
        TypeError
            If `other` is not a Moments.
        ValueError
            If either is not exact, the channels differ in shape or in name, or no data has the statistics that would be
            left: `other` is no part. Nothing is changed then.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> day, week = (bnstream.Moments(exact=True) for _ in range(2))
        >>> _ = day.update(np.array([[0.1], [0.3]]))
        >>> _ = week.update(np.array([[0.2]])).merge(day)
        >>> week.unmerge(day).mean.tolist()
        [0.2]
        """
        if not isinstance(other, Moments):
            raise TypeError(f"expected a Moments to take out, got {type(other).__name__}")
        with cython.critical_section(self, other):
            take_out(self, other)
        return self

    def __sub__(self, other):
        if not (isinstance(self, Moments) and isinstance(other, Moments)):
            return NotImplemented
        return self.copy().unmerge(other)

    def digest(self):
        """Return a name of the data: a hash of its exact statistics.

        Returns
        -------
        str
            The SHA-256 hash, in hexadecimal digits, of the shape and the names of the channels, the counts and the sums. It
            is equal for equal data, whatever its cut, order, layout or dtype, on every machine.

        Raises
        ------
        ValueError
            If the statistics are not exact.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> a = bnstream.Moments(exact=True).update(x)
        >>> b = bnstream.Moments(exact=True).update(x[60:]).update(x[:60])
        >>> a.digest() == b.digest()
        True
        """
        if not self.exact:
            raise ValueError("only exact statistics have a digest, as others depend on the cut of the data; make them with "
                             "exact=True")
        sums = sums_of(self)
        heading = json.dumps(["bnstream exact statistics 1", self.shape, self._names])
        text = heading if sums is None else "\n".join((heading, *sums.lines(), ""))
        return hashlib.sha256(text.encode()).hexdigest()

    def __add__(self, other):
        if not (isinstance(self, Moments) and isinstance(other, Moments)):
            return NotImplemented
        return self.copy().merge(other)

    def __radd__(self, other):
        return self.copy() if isinstance(other, int) and other == 0 else NotImplemented     # sum(parts) starts from 0

    @property
    def n(self):
        if self.exact and self.sums is not None:
            return sums_of(self).n.reshape(self.shape)[()]
        n = snapshot(self)[N]
        return n.astype(np.float64 if self.weighted or n.max(initial=0) >= 2.0**63 else np.int64)[()]

    @property
    def effective_n(self):
        if self.exact:
            return np.asarray(self.n, np.float64)[()]
        return effective_n(snapshot(self))[()]

    @property
    def mean(self):
        return self.values(AVERAGE, 0)

    @property
    def min(self):
        require_tracked("min", self.track)
        return self.extreme("min")

    @property
    def max(self):
        require_tracked("max", self.track)
        return self.extreme("max")

    cdef object extreme(self, str name):
        if self.shape is None:
            return np.full(channels(self), NAN)[()]
        values = tracked_of(self)[name]
        return np.where(np.isinf(values) & (np.asarray(self.n) == 0), NAN, values)[()]

    @property
    def missing(self):
        require_tracked("missing", self.track)
        if self.shape is None:
            return np.zeros(channels(self), np.int64)[()]
        values = tracked_of(self)["missing"]
        if self.exact:
            values = values + sums_of(self).counts[1:].sum(0).reshape(self.shape)
        return values[()]

    def skewness(self, *, bias=True):
        """Compute the skewness: ``(m3 / n) / (m2 / n)**1.5``, with m3 the sum of the third powers of the deviations.

        Parameters
        ----------
        bias : bool, default True
            False for the correction of ``scipy.stats.skew``, by ``sqrt(n * (n - 1)) / (n - 2)``; with weights by that of
            `effective_n`.

        Returns
        -------
        ndarray of float64
            Of the shape of the channels. NaN where it is undefined: where all values are equal, where there are too few for
            the correction, where the standard deviation is below 1e-70, and where the sum of powers exceeds the largest
            float.

        Raises
        ------
        AttributeError
            If it is not tracked.

        Notes
        -----
        The powers are summed about a number near the mean of each block of at most 256 rows, or 16,384 elements of a run,
        and merged by the formulas of Pebay [1]_. With ``a = sum(abs(x - mean)**3) / n / sd**3``, the error is at most
        ``32 eps log2(n) a``.

        References
        ----------
        .. [1] P. Pebay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
           moments", SAND2008-6212, 2008.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> m = bnstream.Moments(track="skewness").update(np.array([[0.0], [0.0], [3.0]]))
        >>> m.skewness().round(6).tolist()
        [0.707107]
        """
        require_tracked("skewness", self.track)
        if self.shape is None:
            return np.full(channels(self), NAN)[()]
        rows, found = consistent(self)
        return skewness_of(moderate_n(rows), effective_n(rows), rows[M2], found["m3"], bias)[()]

    def kurtosis(self, *, fisher=True, bias=True):
        """Compute the kurtosis: ``(m4 / n) / (m2 / n)**2``, less 3, with m4 the sum of the fourth powers of the deviations.

        Parameters
        ----------
        fisher : bool, default True
            Subtract 3, so that it is 0 for the normal distribution.
        bias : bool, default True
            False for the correction of ``scipy.stats.kurtosis``; with weights with `effective_n` for n.

        Returns
        -------
        ndarray of float64
            Of the shape of the channels. NaN where it is undefined, as that of `skewness`.

        Raises
        ------
        AttributeError
            If it is not tracked.

        Notes
        -----
        Without `fisher` it is at most a relative ``64 eps log2(n)`` from that of the data.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> m = bnstream.Moments(track="kurtosis").update(np.array([[0.0], [1.0], [2.0], [3.0]]))
        >>> m.kurtosis(fisher=False).tolist()
        [1.64]
        """
        require_tracked("kurtosis", self.track)
        if self.shape is None:
            return np.full(channels(self), NAN)[()]
        rows, found = consistent(self)
        return kurtosis_of(moderate_n(rows), effective_n(rows), rows[M2], found["m4"], fisher, bias)[()]

    @cython.critical_section
    cdef object values(self, int what, double ddof):
        """Mean, variance or standard deviation of each channel, NaN where it has too few values.

        No Python runs in the loop, so that they are consistent.
        """
        if self.exact and self.sums is not None:
            sums = self.sums.copied()
            found = sums.mean() if what == AVERAGE else sums.var(ddof, what == DEVIATION)
            return found.reshape(self.shape)[()]
        cdef tuple shape = channels(self)
        cdef ndarray out = np.full(shape, NAN)
        cdef double *to = <double *> cnp.PyArray_DATA(out)
        cdef const double *state
        cdef Py_ssize_t c, pitch
        cdef double n, lost, exponent
        if self.shape is not shape:     # no batch yet
            return out if out.ndim else out[()]
        state = <const double *> cnp.PyArray_DATA(self.state)
        pitch = self.state.shape[1]
        for c in range(self.size):
            n = state[c]
            exponent = state[EXPONENT * pitch + c]
            if what == AVERAGE:
                to[c] = restored(state[MEAN * pitch + c], exponent) if n > 0 else NAN
                continue
            lost = ddof * (state[SQUARES * pitch + c] / n if self.weighted and n > 0 else 1)
            if not (n > lost and n > 0):
                to[c] = NAN
            elif what == VARIANCE:
                to[c] = variance_of(state[M2 * pitch + c], n - lost, exponent)
            else:
                to[c] = deviation_of(state[M2 * pitch + c], n - lost, exponent)
        return out if out.ndim else out[()]

    @property
    def m2(self):
        if self.exact and self.sums is not None:
            return sums_of(self).m2().reshape(self.shape)[()]
        return without_exponent(snapshot(self))[M2][()]

    def var(self, ddof=0):
        """Compute the variance: ``m2 / (n - ddof)``; with weights, unless exact, ``m2 / (n - ddof * n / effective_n)``.

        Parameters
        ----------
        ddof : float, default 0
            1 for the unbiased estimate, which takes weights as measures of reliability, like `aweights` of
            ``numpy.cov``; those of exact statistics as counts, like `fweights`.

        Returns
        -------
        ndarray of float64
            An array of the shape of the channels; NaN where ``n - ddof <= 0``, and inf where it exceeds the largest float,
            without a warning.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.Moments().update(np.array([[1.0], [3.0]])).var(ddof=1).tolist()
        [2.0]
        """
        return self.values(VARIANCE, number_of(ddof, "ddof"))

    def std(self, ddof=0):
        """Compute the standard deviation: the square root of `var`.

        Parameters
        ----------
        ddof : float, default 0
            1 for the square root of the unbiased variance.

        Returns
        -------
        ndarray of float64
            An array of the shape of the channels; NaN where ``n - ddof <= 0``, without a warning. With ddof 0 finite for
            all finite data, also where the variance is inf.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.Moments().update(np.array([[1.0], [3.0]])).std().tolist()
        [1.0]
        """
        return self.values(DEVIATION, number_of(ddof, "ddof"))

    def copy(self):
        """Return an independent object with the same state.

        Returns
        -------
        Moments

        Examples
        --------
        >>> import bnstream
        >>> m = bnstream.Moments()
        >>> m.copy() == m
        True
        """
        if type(self) is Moments and self.track:
            return made_of(*consistent(self), self.shape, self.axis, self.nan_policy, self._names, self.exact, self.track)
        if type(self) is Moments and self.exact and self.sums is not None:
            return exact_moments_from(sums_of(self), self.shape, self.axis, self.nan_policy, self._names)
        if type(self) is Moments and not self.exact:
            return moments_from(rows_of(self), self.axis, self.nan_policy, self._names)
        return copy.copy(self)          # with the attributes of a subclass

    def __eq__(self, other):
        if not isinstance(other, Moments):
            return NotImplemented
        cdef Moments them = other
        if self.exact != them.exact:
            return False
        if self.shape is None or them.shape is None:
            return self.shape is them.shape
        if self.track == () and not self.exact and self.shape == them.shape and same_bits(self.state, them.state):
            return True             # This takes no memory: layers compare after a change.
        own, others = tracked_of(self), tracked_of(them)
        for name in own:
            if name in others and not np.array_equal(own[name], others[name], equal_nan=name != "quantiles"):
                return False
        if self.exact:
            return self.shape == them.shape and sums_of(self) == sums_of(them)
        return bool(np.array_equal(snapshot(self), snapshot(them), equal_nan=True))

    __hash__ = None

    def __getstate__(self):
        """Return the state as plain objects, which any serializer can write, and the attributes of a subclass."""
        found, tracked = consistent(self)
        state = {"axis": self.axis, "nan_policy": self.nan_policy, "names": self._names}
        if self.exact:
            state["exact"] = None if found is None else (self.shape, found.counts.copy(), *found.digits())
        else:
            state["rows"] = found
        if self.track:
            state["track"], state["tracked"] = self.track, tracked
        attributes = getattr(self, "__dict__", None)
        return {**state, "attributes": dict(attributes)} if attributes else state

    def __setstate__(self, state):
        cdef Moments m = moments_from(state.get("rows"), state["axis"], state["nan_policy"], state["names"])
        self.exact = "exact" in state
        if self.exact and state["exact"] is not None:
            m.shape, *sums = state["exact"]
            m.size = math.prod(m.shape)
            self.sums = ExactSums.restored(*sums)
            if len(self.sums) != m.size:
                raise ValueError(f"expected sums of {m.size} channels, got those of {len(self.sums)}")
            self.sums.require_possible()
            if m.policy != PROPAGATE and not self.sums.finite():
                raise ValueError(f"expected no NaN and inf with nan_policy={m.nan_policy!r}")
        if state.get("rows") is not None:
            require_possible(state["rows"], m.nan_policy)
        set_track(self, require_track(state.get("track", ())))
        if self.track and m.shape is not None:
            if self.exact:
                require_exactable(self.track)
                m.exact, m.sums = True, self.sums
            require_possible_tracked(state["tracked"], self.track, m)
            m.track = self.track
            set_tracked(m, state["tracked"])
        self.tracked, self.left_out, self.powers, self._sketches = m.tracked, m.left_out, m.powers, m._sketches
        self.axis, self.nan_policy, self.policy, self._names = m.axis, m.nan_policy, m.policy, m._names
        self.shape, self.size, self.state = m.shape, m.size, m.state
        self.weighted, self.scaled, self.large = m.weighted, m.scaled, m.large
        if "attributes" in state:
            self.__dict__.update(state["attributes"])

    def __reduce__(self):
        return copyreg.__newobj__, (type(self),), self.__getstate__()

    plot = late("bnstream.plots", "plot_moments")
    to_sklearn = late("bnstream.sklearn.plain", "to_sklearn")
    _repr_html_ = late("bnstream.core.html", "html_table")
    _summary = late("bnstream.core.summary", "summary")
    quantile = late("bnstream.sketches.tracked", "quantile")
    rank_error = late("bnstream.sketches.tracked", "rank_error")
    histogram = late("bnstream.sketches.tracked", "histogram")
    _sketches_with_batch = late("bnstream.sketches.tracked", "with_batch")
    _merged_sketches = late("bnstream.sketches.tracked", "merged")
    _sketches_by_channel = late("bnstream.sketches.tracked", "by_channel")
    _set_sketches = late("bnstream.sketches.tracked", "set_by_channel")
    _update_columnwise = late("bnstream.core.columnwise", "update_columnwise")

    def __repr__(self):
        now = self._summary()
        if not now.n_channels:
            return f"Moments({now.settings}): empty"
        lines = [f"Moments({now.settings}): channels {now.shape}"]
        width = max(map(len, now.columns))
        for name, values in now.columns.items():
            values = values[0] if name == "n" and now.same_n else values.reshape(now.shape)
            text = np.array2string(np.asarray(values), threshold=8, edgeitems=3, prefix=" " * (width + 3))
            lines.append(f"  {name:<{width}} {text}")
        return "\n".join(lines)


cdef object moderate_n(rows):
    """The counts of a state, NaN where it is that of x * 2**-POWER."""
    return np.where(rows[EXPONENT] == 0, rows[N], NAN) if len(rows) > EXPONENT else rows[N]


include "updates.pxi"
include "merging.pxi"
include "copies.pxi"
