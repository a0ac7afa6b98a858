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

cdef enum:
    UPDATE_ROWS = WEIGHTED_ROWS + TRACKED_ROWS

cdef dict TRACKED_ROW = {name: row for row, name in enumerate(("min", "max", "m3", "m3_lo", "m4", "m4_lo"))}


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


cdef ndarray nothing_tracked(tuple track, Py_ssize_t n_channels):
    """The rows of what is tracked of no data; None if they are not needed."""
    if "min" not in track and "skewness" not in track:
        return None
    rows = np.zeros((TRACKED_ROWS, padded(n_channels)))
    rows[LEAST], rows[GREATEST] = np.inf, -np.inf
    return rows


cdef ndarray none_missing(tuple track, Py_ssize_t n_channels):
    return np.zeros(padded(n_channels), np.int64) if "missing" in track else None


cdef Tracked to_track(double *rows, Py_ssize_t pitch, tuple track, int *careful):
    cdef Tracked tracked
    tracked.rows = rows
    tracked.pitch = pitch
    tracked.extremes = "min" in track
    tracked.powers = "skewness" in track
    tracked.alone = False
    tracked.careful = careful
    return tracked


cdef ndarray selected_of(ndarray a, unsigned long long axes, ndarray mask):
    """How many elements of each channel a mask with the axes of a selects: int64, of the channels in one axis."""
    cdef int64_t repeats = 1
    cdef int i
    counts = np.ones((1,) * a.ndim, np.int64)
    if mask is not None:
        counts = mask.sum(axes_named(axes, a.ndim), dtype=np.int64, keepdims=True)
    for i in range(a.ndim):
        if axes >> i & 1 and (mask is None or mask.shape[i] == 1):
            repeats *= a.shape[i]
    return np.ascontiguousarray(np.broadcast_to(counts * repeats, kept_shape(a, axes, True)).ravel())


cdef object unlike(bint exact):
    kinds = ("plain", "exact")
    return ValueError(f"expected {kinds[exact]} statistics as here, got {kinds[not exact]} ones; make both with exact=True, "
                      "or neither")


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
        self.set_track(() if track == () else require_track(track))
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
                return self.update_exactly(a, axes, mask, weights, n_threads)
            finally:
                release(lock)
        cdef ndarray given = None if weights is None else weights_of(weights, mask, a, axes)
        cdef View view
        cdef Sink sink
        cdef Py_ssize_t n_bytes = cnp.PyArray_NBYTES(a)
        cdef Py_ssize_t c
        cdef int threads = threads_for(n_bytes, n_threads)
        cdef int failed, i
        cdef double small[UPDATE_ROWS * 64]
        cdef double *part = small
        cdef double *exponent = NULL
        cdef ndarray exponents
        cdef bint large, weighted = weights is not None
        cdef Tracked tracked
        cdef int careful = False
        cdef tuple track = self.track
        cdef ndarray missing = None
        make_view(&view, axes, a, None, None, given, mask)
        if view.n_rows == 0 or view.n_channels == 0:
            return self
        self.check_channels(a, axes, view.n_channels)
        shape = self.shape              # for `take_in`, in case another thread sets it meanwhile
        sink.pitch = padded(view.n_channels)
        if sink.pitch > 64:
            part = NULL
            if sink.pitch <= PY_SSIZE_T_MAX // <Py_ssize_t> (UPDATE_ROWS * sizeof(double)):
                part = <double *> malloc(UPDATE_ROWS * sink.pitch * sizeof(double))
            if part == NULL:
                raise MemoryError(f"no memory for the state of {view.n_channels} channels")
        sink.state = part
        try:
            if len(track) > 0:
                tracked = to_track(part + WEIGHTED_ROWS * sink.pitch, sink.pitch, track, &careful)
                with nogil:
                    failed = kernels.accumulate_tracked(&view, &sink, &tracked, self.policy == OMIT, threads)
            elif n_bytes < SMALL:
                failed = kernels.accumulate(&view, &sink, self.policy == OMIT, threads)
            else:
                with nogil:
                    failed = kernels.accumulate(&view, &sink, self.policy == OMIT, threads)
            if failed:
                raise MemoryError("no memory for the scratch of an update")
            if len(track) > 0 and "missing" in track:
                missing = self.missing_of(a, axes, given, mask, &view, &sink, careful, threads)
            large = not moderate(part, sink.pitch, view.n_channels)
            if large:
                exponents = np.zeros(sink.pitch)
                if look_again(&view, &sink, a, axes, given, mask, self.policy == OMIT, threads,
                              <double *> cnp.PyArray_DATA(exponents)):
                    exponent = <double *> cnp.PyArray_DATA(exponents)
                if self.policy == RAISE:
                    self.require_finite_part(a, axes, &sink, view.n_channels)
            for i in range(WEIGHTED_ROWS if weighted else STATE_ROWS):  # The kernels fill the padding of whole states alone.
                for c in range(view.n_channels, sink.pitch):
                    part[i * sink.pitch + c] = 0
            shape = kept_shape(a, axes, False) if shape is None else shape
            lock = acquire(self.lock)
            try:
                sketches = None
                if lock is not None and "quantiles" in track:
                    sketches = self.sketches_with(a, axes, mask, view.n_channels)
                self.take_in(part, sink.pitch, shape, weighted, exponent, large, part + WEIGHTED_ROWS * sink.pitch, missing,
                             sketches, track)
            finally:
                release(lock)
        finally:
            if part != small:
                free(part)
        return self

    cdef object sketches_with(self, ndarray a, unsigned long long axes, ndarray mask, Py_ssize_t size):
        """New sketches of quantiles, of the `size` channels with a batch."""
        return self._sketches_with_batch(a, axes_named(axes, a.ndim), mask, size)

    cdef ndarray missing_of(self, ndarray a, unsigned long long axes, ndarray weights, ndarray mask, const View *view,
                            const Sink *part, bint careful, int threads):
        """How many of the selected elements of a batch are NaN or inf: int64, a number for each channel; None for 0.

        Where the kernel has met none this costs nothing. Otherwise the finite ones are counted by `accumulate`, unless n is
        their count.
        """
        cdef ndarray missing
        cdef int64_t *out
        cdef const double *counts = part.state + N * part.pitch
        cdef View again
        cdef Sink finite
        cdef ndarray rows, selected
        cdef Py_ssize_t c
        cdef int failed
        if self.policy == RAISE or self.policy == OMIT and not careful:
            return None
        if self.policy == PROPAGATE and moderate(part.state, part.pitch, view.n_channels):
            return None
        missing = np.zeros(part.pitch, np.int64)
        out = <int64_t *> cnp.PyArray_DATA(missing)
        if weights is not None:
            mask = weights != 0 if mask is None else mask & (weights != 0)
        if weights is not None or self.policy == PROPAGATE:
            make_view(&again, axes, a, None, None, None, mask)
            rows = np.empty((WEIGHTED_ROWS, part.pitch))
            finite.state = <double *> cnp.PyArray_DATA(rows)
            finite.pitch = part.pitch
            with nogil:
                failed = kernels.accumulate(&again, &finite, True, threads)
            if failed:
                raise MemoryError("no memory for the scratch of an update")
            counts = finite.state + N * part.pitch
        selected = selected_of(a, axes, mask)
        for c in range(view.n_channels):
            out[c] = (<int64_t *> cnp.PyArray_DATA(selected))[c] - <int64_t> counts[c]
        return missing

    @cython.critical_section
    cdef object update_exactly(self, ndarray a, unsigned long long axes, ndarray mask, object weights, object n_threads):
        cdef ExactSums part, own = self.sums
        cdef tuple track = self.track
        cdef int threads = threads_for(cnp.PyArray_NBYTES(a), n_threads)
        cdef ndarray counts = None if weights is None else counts_of(weights, mask, a, axes)
        cdef ndarray found = None, missing = None
        if cnp.PyArray_SIZE(a) == 0:
            return self
        shape = self.shape if self.shape is not None else kept_shape(a, axes, False)
        self.check_channels(a, axes, math.prod(shape))
        if "min" in track:
            found = self.extremes_of(a, axes, mask, counts, threads)
        sketches = self.sketches_with(a, axes, mask, math.prod(shape)) if "quantiles" in track else None
        if counts is not None:
            part = weighted_sums(a, axes, mask, counts, threads)
        else:
            part = sums_of_array(a, axes, mask, threads, own, self.policy == RAISE)
        if part is None or part is own and own is not self.sums:    # refused, or another thread has widened the sums
            part = sums_of_array(a, axes, mask, threads)
        if self.policy == RAISE and not part.finite():
            require_finite(np.where(part.counts[1:].any(0), NAN, 0.0).reshape(shape))
        if self.policy == OMIT:
            if "missing" in track:
                missing = np.zeros(padded(len(part)), np.int64)
                missing[:len(part)] = part.counts[1:].sum(0)
            part.leave_out()
        if part is not own:
            self.add_sums(part, shape, track)
        self.take_in_tracked(NULL if found is None else <const double *> cnp.PyArray_DATA(found), padded(self.size), missing,
                             NULL, NULL, sketches)
        return self

    cdef ndarray extremes_of(self, ndarray a, unsigned long long axes, ndarray mask, ndarray counts, int threads):
        """The least and the greatest elements, by a read of their own; NaN is passed over."""
        cdef View view
        cdef Tracked tracked
        cdef tuple track = ("min", "max")
        cdef Sink none
        cdef ndarray found
        cdef int careful = False, failed
        if counts is not None:
            mask = counts != 0 if mask is None else mask & (counts != 0)
        make_view(&view, axes, a, None, None, None, mask)
        found = nothing_tracked(track, view.n_channels)
        tracked = to_track(<double *> cnp.PyArray_DATA(found), found.shape[1], track, &careful)
        tracked.alone = True
        none.state = NULL
        with nogil:
            failed = kernels.accumulate_tracked(&view, &none, &tracked, self.policy == OMIT, threads)
        if failed:
            raise MemoryError("no memory for the scratch of an update")
        return found

    cdef int add_sums(self, ExactSums part, tuple shape, tuple track) except -1:
        """Add exact sums to the state, of data of which `track` is tracked."""
        cdef tuple own, kept
        while True:
            own, kept = self.track, self.kept_with(track)
            rows, left_out = nothing_tracked(kept, len(part)), none_missing(kept, len(part))
            if self.state is not None:      # Another thread has updated an empty object meanwhile.
                raise unlike(False)
            if self.shape is not None and self.shape != shape:
                raise ValueError(f"expected channels of shape {self.shape} as here, got {shape}")
            if self.sums is not None:
                self.widen(part)
                self.sums.require_room(part)
            if self.track is own:
                break
        self.keep_track(kept)
        if self.sums is None:
            self.shape, self.size = shape, len(part)
            self.sums, self.tracked, self.left_out = part, rows, left_out
        else:
            self.sums.add(part)
        return 0

    cdef tuple kept_with(self, tuple track):
        """What is tracked with data of which `track` is tracked. Afterwards `keep_track` needs no memory."""
        cdef tuple kept = self.track
        if kept is not track:
            kept = of_both(kept, self.shape is not None, track, True)
            if "quantiles" in kept and self.lock is None:
                self.lock = threading.RLock()
        return kept

    cdef int widen(self, ExactSums part) except -1:
        """Make room for sums. No Python runs between the last look and the return."""
        cdef ExactSums own = self.sums, wider
        while not covers(&own.of, &part.of):
            wider = own.widened(&part.of)
            if self.sums is own:
                self.sums = wider
            own = self.sums
        return 0

    cdef int check_channels(self, ndarray a, unsigned long long axes, Py_ssize_t n_channels) except -1:
        cdef int i, kept = 0
        if self.shape is None:
            if self._names is not None and kept_shape(a, axes, False) != (len(self._names),):
                raise ValueError(f"expected {len(self._names)} channels, one for each name, got channels of shape "
                                 f"{kept_shape(a, axes, False)} from a batch of shape {(<object> a).shape} with "
                                 f"axis={self.axis!r}")
            return 0
        for i in range(a.ndim):
            if not axes >> i & 1:
                if kept == len(self.shape) or a.shape[i] != <Py_ssize_t> self.shape[kept]:
                    break
                kept += 1
        else:
            if kept == len(self.shape):
                return 0
        raise ValueError(f"expected channels of shape {self.shape} as in the batches before, got "
                         f"{kept_shape(a, axes, False)} from a batch of shape {(<object> a).shape} with axis={self.axis!r}")

    cdef int require_finite_part(self, ndarray a, unsigned long long axes, const Sink *part,
                                 Py_ssize_t n_channels) except -1:
        cdef Py_ssize_t c
        cdef ndarray mean
        cdef const double *means = part.state + MEAN * part.pitch
        for c in range(n_channels):
            if means[c] - means[c] != 0:
                mean = np.empty(kept_shape(a, axes, False))
                memcpy(cnp.PyArray_DATA(mean), means, n_channels * sizeof(double))
                return require_finite(mean)
        return 0

    @cython.critical_section
    cdef int take_in(self, const double *part, Py_ssize_t pitch, tuple shape, bint weighted, const double *exponent,
                     bint large, const double *found, ndarray missing, object sketches, tuple track) except -1:
        """Merge a part into the state, and what has been found of what is tracked. This keeps the GIL, so that no thread
        sees or loses half of it.

        If the part is `weighted`, it has the rows of a weighted state. `exponent` is one more row, or NULL. `large` tells
        that the part is not `moderate`. `track` is what is tracked of the part; another thread may have changed that of
        this object.
        """
        cdef ndarray fresh = None, rows = None, left_out = None
        cdef tuple own, kept
        cdef double *state
        cdef double *room = NULL
        cdef Py_ssize_t size = 0, c
        while True:
            own, kept = self.track, self.kept_with(track)
            if self.state is None:
                fresh = np.zeros((SCALED_ROWS, pitch))
                size = math.prod(shape)
                rows, left_out = nothing_tracked(kept, pitch), none_missing(kept, pitch)
                if self.exact:              # Another thread may have come first while memory was allocated,
                    raise unlike(True)      # and have merged exact statistics.
            if self.shape is not None and self.shape is not shape and self.shape != shape:
                raise ValueError(f"expected channels of shape {self.shape} as here, got {shape}")
            if self.track is own:
                break
        if large or self.large:
            large = True
            room = <double *> malloc(ROOM_ROWS * pitch * sizeof(double))
            if room == NULL:
                raise MemoryError(f"no memory for the states of {pitch} channels")
        if kept is not own:
            self.keep_track(kept)
        if self.state is None:
            self.state, self.tracked, self.left_out, self.powers = fresh, rows, left_out, "skewness" in kept
            self.shape = shape
            self.size = size
        state = <double *> cnp.PyArray_DATA(self.state)
        if len(self.track) > 0:
            self.take_in_tracked(found, pitch, missing, state, part, sketches)
        if weighted and not self.weighted:
            memcpy(state + SQUARES * pitch, state, pitch * sizeof(double))
            self.weighted = True
        if self.weighted:
            for c in range(pitch):
                state[N_LO * pitch + c] += part[N_LO * pitch + c] if weighted else 0
                state[SQUARES * pitch + c] += part[SQUARES * pitch + c] if weighted else part[c]
        if large:
            self.large = True
            self.scaled = merge_large(state, pitch, self.weighted, part, exponent, room)
            free(room)
        else:
            kernels.merge(state, pitch, state + N_LO * pitch if self.weighted else NULL, part, pitch, pitch)
        return 0

    cdef void take_in_tracked(self, const double *found, Py_ssize_t pitch, ndarray missing, const double *state,
                              const double *part, object sketches) noexcept:
        """Merge what has been found of what is tracked, before the states are merged. No Python runs.

        The sketches have been merged already.
        """
        cdef int64_t *own
        cdef Py_ssize_t c
        self.n_changes += 1
        if "quantiles" in self.track:
            self._sketches = sketches
        if missing is not None and self.left_out is not None:
            own = <int64_t *> cnp.PyArray_DATA(self.left_out)
            for c in range(self.size):
                own[c] += (<int64_t *> cnp.PyArray_DATA(missing))[c]
        if self.tracked is not None:
            kernels.merge_tracked(<double *> cnp.PyArray_DATA(self.tracked), pitch, state if self.powers else NULL, pitch,
                                  found, pitch, part, pitch, self.size)

    cdef tuple channels(self):
        """The shape of the channels; before the first batch as many as there are names, or one."""
        if self.shape is not None:
            return self.shape
        return () if self._names is None else (len(self._names),)

    @cython.critical_section
    cdef ExactSums sums_now(self):
        """A consistent copy of the exact sums; None before the first batch."""
        return None if self.sums is None else self.sums.copied()

    @cython.critical_section
    cdef ndarray snapshot(self):
        """A consistent copy of the state, (SCALED_ROWS, *shape), made under the GIL, which NumPy's copy would release."""
        cdef tuple shape = self.channels()
        cdef ndarray rows = np.zeros((SCALED_ROWS, *shape))
        cdef Py_ssize_t i, size = self.size, n_bytes = size * sizeof(double)
        cdef char *out = <char *> cnp.PyArray_DATA(rows)
        cdef const char *state
        if self.shape is None or not size:
            return rows
        if self.exact:
            rows[...] = self.sums.copied().rows().reshape((<object> rows).shape)
            return rows
        if self.shape is not shape:     # A first batch came while the rows were allocated.
            return self.snapshot()
        state = <const char *> cnp.PyArray_DATA(self.state)
        for i in range(SCALED_ROWS):
            memcpy(out + i * n_bytes, state + i * cnp.PyArray_STRIDE(self.state, 0), n_bytes)
        if not self.weighted:
            memcpy(out + SQUARES * n_bytes, state, n_bytes)
        return rows

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
                self.take_over(them)
        finally:
            release(lock)
        return self

    cdef int take_over(self, Moments them) except -1:
        """Add the statistics of another object."""
        cdef ndarray theirs, found, missing
        cdef const double *part
        cdef Py_ssize_t pitch, c
        cdef bint large
        names = self.require_same_channels(them)
        if them.shape is None:
            track = of_both(self.track, self.shape is not None, them.track, False)
            self.names = names
            self.keep_track(track)
            return 0
        if self.exact and not them.exact or them.exact and self.state is not None:
            raise unlike(self.exact)
        if them.exact:
            if self.policy != PROPAGATE and not them.sums.finite():
                raise ValueError(f"expected finite statistics, as nan_policy={self.nan_policy!r} has them here, got NaN "
                                 "or inf in the other Moments; merge them into one with nan_policy='propagate'")
            found, missing, part_sums = them.tracked, them.left_out, them.sums.copied()
            sketches = self._merged_sketches(them._sketches) if "quantiles" in them.track else None
            self.add_sums(part_sums, them.shape, them.track)
            self.take_in_tracked(NULL if found is None else <const double *> cnp.PyArray_DATA(found), padded(self.size),
                                 missing, NULL, NULL, sketches)
            self.exact, self._names = True, names
            return 0
        theirs = them.state         # This reference keeps it alive if another thread replaces the state of `them`.
        part = <const double *> cnp.PyArray_DATA(theirs)
        pitch = theirs.shape[1]
        large = them.large or not moderate(part, pitch, pitch)
        if large and self.policy != PROPAGATE:
            for c in range(pitch):
                if not (isfinite(part[MEAN * pitch + c]) and isfinite(part[M2 * pitch + c])):
                    raise ValueError(f"expected finite statistics, as nan_policy={self.nan_policy!r} has them here, got NaN "
                                     "or inf in the other Moments; merge them into one with nan_policy='propagate'")
        sketches = self._merged_sketches(them._sketches) if "quantiles" in them.track else None
        found = them.tracked
        self.take_in(part, pitch, them.shape, them.weighted, part + EXPONENT * pitch if them.scaled else NULL, large,
                     NULL if found is None else <const double *> cnp.PyArray_DATA(found), them.left_out, sketches,
                     them.track)
        self._names = names
        return 0

    cdef int set_track(self, tuple track) except -1:
        self.track = track
        if "quantiles" in track and self.lock is None:
            self.lock = threading.RLock()
        return 0

    cdef int keep_track(self, tuple track) except -1:
        """Track this, no more than until now if there is data."""
        self.set_track(track)
        self.powers = "skewness" in track
        if "min" not in track and "skewness" not in track:
            self.tracked = None
        if "missing" not in track:
            self.left_out = None
        if "quantiles" not in track:
            self._sketches = None
        return 0

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
            self.give_back(other)
        return self

    cdef int give_back(self, Moments them) except -1:
        """Take the statistics of another object out."""
        cdef ExactSums part
        cdef Py_ssize_t c
        if not self.exact or not them.exact and them.shape is not None:
            raise ValueError("only exact statistics can be taken apart, as others are rounded; make both with exact=True")
        self.require_same_channels(them)
        if them.sums is None:
            return 0
        if self.sums is None:
            raise ValueError("expected a part of these statistics to take out, but they are empty")
        if "min" in self.track:
            raise ValueError("min and max cannot be taken out again: what is left may have the same or others; make Moments "
                             "that are to be taken apart without track='min' and 'max'")
        if "quantiles" in self.track:
            raise ValueError("quantiles cannot be taken out again, as their sketches are samples; make Moments that are to "
                             "be taken apart without track='quantiles'")
        part = them.sums.copied()
        track = of_both(self.track, True, them.track, True)
        if "missing" in track and (self.left_out < them.left_out).any():
            raise ValueError("expected a part of these statistics to take out, got one with more missing values")
        self.widen(part)
        self.sums.subtract(part)
        c = self.sums.impossible()
        if c >= 0:
            self.sums.add(part)
            channel = c if self._names is None else repr(self._names[c])
            raise ValueError(f"expected a part of these statistics to take out, got other data: no data has the statistics "
                             f"of channel {channel} that would be left")
        self.keep_track(track)
        if "missing" in track:
            self.left_out -= them.left_out
        self.n_changes += 1
        return 0

    cdef tuple require_same_channels(self, Moments them):
        """Raise ValueError unless both have the same channels, or one none yet. Return their names."""
        cdef tuple names = them._names if self._names is None else self._names
        if them._names is not None and them._names != names:
            raise ValueError(f"expected channels named {list(names)} as here, got {list(them._names)} in the other "
                             "Moments")
        shape = (len(names),) if self.shape is None and names is not None else self.shape
        if them.shape is not None and shape is not None and shape != them.shape:
            raise ValueError(f"expected channels of shape {shape} as here, got {them.shape} in the other Moments")
        return names

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
            return self.sums_now().n.reshape(self.shape)[()]
        n = self.snapshot()[N]
        return n.astype(np.float64 if self.weighted or n.max(initial=0) >= 2.0**63 else np.int64)[()]

    @property
    def effective_n(self):
        if self.exact:
            return np.asarray(self.n, np.float64)[()]
        return effective_n(self.snapshot())[()]

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
            return np.full(self.channels(), NAN)[()]
        values = tracked_of(self)[name]
        return np.where(np.isinf(values) & (np.asarray(self.n) == 0), NAN, values)[()]

    @property
    def missing(self):
        require_tracked("missing", self.track)
        if self.shape is None:
            return np.zeros(self.channels(), np.int64)[()]
        values = tracked_of(self)["missing"]
        if self.exact:
            values = values + self.sums_now().counts[1:].sum(0).reshape(self.shape)
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
            return np.full(self.channels(), NAN)[()]
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
            return np.full(self.channels(), NAN)[()]
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
        cdef tuple shape = self.channels()
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
            return self.sums_now().m2().reshape(self.shape)[()]
        return without_exponent(self.snapshot())[M2][()]

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
            return exact_moments_from(self.sums_now(), self.shape, self.axis, self.nan_policy, self._names)
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
            return self.shape == them.shape and self.sums_now() == them.sums_now()
        return bool(np.array_equal(self.snapshot(), them.snapshot(), equal_nan=True))

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
        self.set_track(require_track(state.get("track", ())))
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


def rows_of(Moments m):
    """A consistent copy of the state of a `Moments`, whatever other threads do.

    Returns
    -------
    ndarray of float64 or None
        Of shape (5, *channels), its rows named by `rows.ROWS`; (7, *channels), named by `rows.WEIGHTED_ROWS`, once
        there were weights; (8, *channels), named by `rows.SCALED_ROWS`, where m2 exceeds the largest float in some
        channel. Then the squared weights are 0 if there were no weights. None before the first batch.
    """
    if m.shape is None:
        return None
    rows = m.snapshot()
    if not (m.scaled or rows[EXPONENT].any()):
        return rows[:WEIGHTED_ROWS if m.weighted else STATE_ROWS]
    if not m.weighted:
        rows[SQUARES] = 0
    return rows


def sums_of(Moments m):
    """The exact sums of a `Moments`, `ExactSums`, of its channels in one axis; None before the first batch."""
    return m.sums_now()


@cython.critical_section
def tracked_of(Moments m):
    """A copy of what a `Moments` tracks: arrays of the shape of the channels, by the names of `tracking.ARRAYS`.

    Of exact statistics, `missing` has what is left out of their sums, and the extremes are NaN where these count NaN.
    Before the first batch there are none.
    """
    cdef tuple names = arrays_of(m.track)
    cdef dict found = {name: np.empty(m.size, np.int64 if name == "missing" else np.float64) for name in names}
    cdef tuple shape = m.shape
    cdef Py_ssize_t row
    if shape is None:
        return {}
    for name in names:
        if name == "quantiles":
            found[name] = m._sketches_by_channel(m.size)
        elif name == "missing":
            memcpy(cnp.PyArray_DATA(found[name]), cnp.PyArray_DATA(m.left_out), m.size * sizeof(int64_t))
        else:
            row = TRACKED_ROW[name]
            memcpy(cnp.PyArray_DATA(found[name]), <double *> cnp.PyArray_DATA(m.tracked) + row * m.tracked.shape[1],
                   m.size * sizeof(double))
    if m.exact and "min" in found:
        has_nan = m.sums.copied().counts[1] > 0
        found["min"][has_nan] = found["max"][has_nan] = NAN
    return {name: values.reshape(shape) for name, values in found.items()}


@cython.critical_section
def add_missing(Moments m, counts):
    """Count values that no update has seen as missing: a number, or one for each channel. Nothing is checked."""
    if m.left_out is None or m.shape is None:
        return
    more = np.zeros(padded(m.size), np.int64)
    more[:m.size] = np.broadcast_to(counts, m.shape).ravel()
    m.left_out += more
    m.n_changes += 1


def consistent(Moments m):
    """The rows of a plain `Moments`, or the sums of an exact one, and what it tracks, of one moment."""
    if m.lock is not None:
        lock = acquire(m.lock)
        try:
            return sums_of(m) if m.exact else rows_of(m), tracked_of(m)
        finally:
            release(lock)
    while True:
        n_changes = m.n_changes
        found = sums_of(m) if m.exact else rows_of(m), tracked_of(m)
        if m.n_changes == n_changes:
            return found


def made_of(found, dict tracked, tuple shape, axis, nan_policy, names, bint exact, tuple track):
    """A `Moments` of what `consistent` returns. Nothing is checked."""
    cdef Moments m
    if exact and found is not None:
        m = exact_moments_from(found, shape, axis, nan_policy, names)
    elif exact:
        m = Moments(axis, nan_policy=nan_policy, names=names, exact=True)
    else:
        m = moments_from(found, axis, nan_policy, names)
    m.set_track(track)
    set_tracked(m, tracked)
    return m


def with_tracked(Moments m, dict tracked):
    """The same `Moments`, tracking what these arrays hold; see `tracked_of`. Nothing is checked."""
    m.set_track(track_of(tracked))
    set_tracked(m, tracked)
    return m


cdef int set_tracked(Moments m, dict arrays) except -1:
    """Set what is tracked to arrays of the names that its track calls for."""
    cdef str name
    if m.shape is None or not arrays:
        return 0
    m.tracked, m.left_out, m.powers = nothing_tracked(m.track, m.size), none_missing(m.track, m.size), "skewness" in m.track
    for name, values in arrays.items():
        if name == "quantiles":
            m._set_sketches(values)
        elif name == "missing":
            m.left_out[:m.size] = values.ravel()
        else:
            m.tracked[TRACKED_ROW[name], :m.size] = values.ravel()
    return 0


cdef object moderate_n(rows):
    """The counts of a state, NaN where it is that of x * 2**-POWER."""
    return np.where(rows[EXPONENT] == 0, rows[N], NAN) if len(rows) > EXPONENT else rows[N]


def exact_moments_from(sums, tuple shape, axis=0, nan_policy="raise", names=None, tracked=None):
    """An exact `Moments` with these sums, of channels of this shape, and what it tracks. Nothing is checked."""
    cdef Moments m = Moments(axis, nan_policy=nan_policy, exact=True, track=track_of(tracked or ()))
    m.shape, m.size, m.sums = shape, math.prod(shape), sums
    m.names = names
    set_tracked(m, tracked or {})
    return m


def moments_from(rows, axis=0, nan_policy="raise", names=None, tracked=None):
    """A `Moments` with the given state, and what it tracks: the inverse of `rows_of` and `tracked_of`.

    Its values are not checked.

    Raises
    ------
    ValueError
        If `rows` are not 5, 7 or 8 rows of float64.
    """
    cdef Moments m = Moments(axis, nan_policy=nan_policy, track=track_of(tracked or ()))
    if rows is not None:
        if rows.dtype != np.float64 or len(rows) not in (STATE_ROWS, WEIGHTED_ROWS, SCALED_ROWS):
            raise ValueError(f"expected a state of {STATE_ROWS}, {WEIGHTED_ROWS} or {SCALED_ROWS} rows of float64, got "
                             f"shape {rows.shape} of {rows.dtype}")
        m.shape = rows.shape[1:]
        m.size = math.prod(m.shape)
        m.scaled = len(rows) == SCALED_ROWS and rows[EXPONENT].any()
        m.weighted = has_weights(rows)
        m.state = np.zeros((SCALED_ROWS, padded(m.size)))
        m.state[:len(rows), :m.size] = rows.reshape(len(rows), m.size)
        m.large = m.scaled or not moderate(<const double *> cnp.PyArray_DATA(m.state), m.state.shape[1], m.size)
    m.names = names
    set_tracked(m, tracked or {})
    return m
