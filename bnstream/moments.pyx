"""The exact, mergeable state of a stream of arrays."""

import math

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from numpy cimport ndarray

from bnstream._kernels._runtime cimport threads_for
from bnstream._kernels._table cimport GRANULE, Kernels, Sink, View
from bnstream._view cimport (
    OMIT, RAISE, Policy, as_array, batch_axes, kept_shape, make_view, policy_of, require_finite,
)

from bnstream._kernels import capsule

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")
cdef enum:
    SMALL = 65536       # bytes; below, letting go of the GIL costs more than it gives


cdef inline Py_ssize_t padded(Py_ssize_t n_channels) noexcept:
    """Whole vectors: the loop across 17 channels takes as long as that across 24 where its end is scalar."""
    return (n_channels + GRANULE - 1) & -GRANULE


cdef class Moments:
    """Count, mean and sum of squared deviations of every channel, of all batches so far.

    Parameters
    ----------
    axis : int, tuple of int or None, default 0
        The batch axes of every batch, those reduced over. The other axes are the channels; their shape is that of the
        first batch.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What to do about NaN and inf: refuse the batch; leave these elements out, and count the others of each channel;
        or let them through.

    Attributes
    ----------
    n : int or ndarray of int64
        Values per channel so far; under ``nan_policy="omit"`` an array of the shape of the channels.
    mean, m2 : ndarray of float64
        Mean and sum of squared deviations, of the shape of the channels; new arrays. The mean of nothing is NaN.
    shape : tuple of int or None
        The shape of the channels, None before the first batch.
    axis, nan_policy
        As given.

    See Also
    --------
    mean_var : the same for one array.

    Notes
    -----
    A new object is the identity of `merge`: ``sum(parts, Moments())`` holds what one object would that saw all the
    batches. Mean and m2 are each carried as a pair of doubles, so that updates and merges cost no digits [1]_ [2]_:
    however the data was cut, the mean is within 8 eps of ``max(|mean|, sd)`` and the variance within a relative
    ``16 eps log2(n)``.

    A call that raises leaves the state as it was. One object may be updated by several threads at once. It pickles, and
    two objects are equal where they hold the same shape, n, mean and m2 in every bit.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", 1983.
    .. [2] E. Schubert, M. Gertz, "Numerically stable parallel computation of (co-)variance", 2018.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> m = bnstream.Moments()
    >>> for batch in np.arange(12.0).reshape(3, 2, 2):
    ...     _ = m.update(batch)
    >>> m.n, m.mean.tolist(), m.var(ddof=1).tolist()
    (6, [5.0, 6.0], [14.0, 14.0])
    """

    cdef readonly object axis
    cdef readonly str nan_policy
    cdef readonly tuple shape
    cdef Py_ssize_t size        # channels
    cdef ndarray state          # (5, padded channels): n, mean, mean_lo, m2, m2_lo
    cdef Policy policy

    def __init__(self, axis=0, *, nan_policy="raise"):
        batch_axes(axis, 64)
        self.policy = policy_of(nan_policy)
        self.axis = axis
        self.nan_policy = nan_policy
        self.shape = None
        self.state = None

    def update(self, batch):
        """Take in a batch.

        Parameters
        ----------
        batch : array_like
            Numbers, as for `mean_var`, with the same channels as the batches before. It is read in place. An empty
            batch changes nothing.

        Returns
        -------
        Moments
            Itself.

        Raises
        ------
        TypeError
            If the batch is complex, of objects, strings, records or dates, or a masked array.
        ValueError
            If its channels are not those of the batches before, an axis is out of range, or it holds NaN or inf under
            ``nan_policy="raise"``.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.Moments().update(np.array([[1.0], [3.0]])).mean.tolist()
        [2.0]
        """
        cdef ndarray a = as_array(batch)
        cdef unsigned long long axes = batch_axes(self.axis, a.ndim)
        cdef View view
        cdef Sink sink
        cdef Py_ssize_t n_bytes = cnp.PyArray_NBYTES(a)
        cdef int n_threads, failed
        cdef double small[5 * 64]
        cdef double *part = small
        make_view(a, axes, &view)
        self.check_channels(a, axes, view.n_channels)
        if view.n_rows == 0 or view.n_channels == 0:
            return self
        n_threads = threads_for(n_bytes, None)
        sink.pitch = padded(view.n_channels)
        if sink.pitch > 64:
            part = <double *> malloc(5 * sink.pitch * sizeof(double))
            if part == NULL:
                raise MemoryError(f"no memory for the state of {view.n_channels} channels")
        sink.state = part
        try:
            if n_bytes < SMALL:
                failed = kernels.accumulate(&view, &sink, self.policy == OMIT, n_threads)
            else:
                with nogil:
                    failed = kernels.accumulate(&view, &sink, self.policy == OMIT, n_threads)
                self.check_channels(a, axes, view.n_channels)   # another thread may have come first
            if failed:
                raise MemoryError("no memory for the scratch of an update")
            if self.policy == RAISE:
                self.require_finite_part(a, axes, &sink, view.n_channels)
            self.take_in(part, sink.pitch, kept_shape(a, axes, False) if self.state is None else self.shape)
        finally:
            if part != small:
                free(part)
        return self

    cdef int check_channels(self, ndarray a, unsigned long long axes, Py_ssize_t n_channels) except -1:
        cdef int i, kept = 0
        if self.state is None:
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
        cdef const double *means = part.state + part.pitch
        for c in range(n_channels):
            if means[c] - means[c] != 0:
                mean = np.empty(kept_shape(a, axes, False))
                memcpy(cnp.PyArray_DATA(mean), means, n_channels * sizeof(double))
                return require_finite(mean)
        return 0

    cdef int take_in(self, const double *part, Py_ssize_t pitch, tuple shape) except -1:
        if self.state is None:
            self.state = np.zeros((5, pitch))
            self.shape = shape
            self.size = math.prod(shape)
        kernels.merge(<double *> cnp.PyArray_DATA(self.state), pitch, part, pitch, pitch)
        return 0

    def merge(self, other):
        """Take in what another object has seen.

        Parameters
        ----------
        other : Moments
            With the same channels. It is left as it is. Where the batch axes or the policies differ, this object keeps
            its own.

        Returns
        -------
        Moments
            Itself.

        Raises
        ------
        TypeError
            If `other` is no Moments.
        ValueError
            If its channels are others.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> a = bnstream.Moments().update(np.array([[1.0], [2.0]]))
        >>> b = bnstream.Moments().update(np.array([[6.0]]))
        >>> a.merge(b).mean.tolist()
        [3.0]
        """
        cdef Moments them
        cdef ndarray part
        if not isinstance(other, Moments):
            raise TypeError(f"expected a Moments to merge, got {type(other).__name__}; update() takes arrays")
        them = other
        if them.state is None:
            return self
        if self.state is not None and self.shape != them.shape:
            raise ValueError(f"expected channels of shape {self.shape} as here, got {them.shape} in the other Moments")
        part = them.state.copy() if them is self else them.state
        self.take_in(<const double *> cnp.PyArray_DATA(part), part.shape[1], them.shape)
        return self

    def __add__(self, other):
        if not (isinstance(self, Moments) and isinstance(other, Moments)):
            return NotImplemented
        return self.copy().merge(other)

    cdef object row(self, int index):
        """A row of the state as a new array of the shape of the channels."""
        return self.state[index, :self.size].reshape(self.shape).copy()

    @property
    def n(self):
        if self.state is None:
            return 0
        if self.policy == OMIT:
            return self.row(0).astype(np.int64)
        return int(self.state[0, 0]) if self.size else 0

    @property
    def mean(self):
        if self.state is None:
            return np.full((), np.nan)
        return np.where(self.row(0) > 0, self.row(1), np.nan)

    @property
    def m2(self):
        return np.zeros(()) if self.state is None else self.row(3)

    def var(self, double ddof=0):
        """The variance of every channel: ``m2 / (n - ddof)``.

        Parameters
        ----------
        ddof : float, default 0
            1 for the unbiased estimate.

        Returns
        -------
        ndarray of float64
            Of the shape of the channels; NaN where ``n - ddof <= 0``, without a warning.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.Moments().update(np.array([[1.0], [3.0]])).var(ddof=1).tolist()
        [2.0]
        """
        if self.state is None:
            return np.full((), np.nan)
        n = self.row(0)
        return self.row(3) / np.where((n > ddof) & (n > 0), n - ddof, np.nan)

    def std(self, double ddof=0):
        """The standard deviation of every channel: the square root of `var`.

        Parameters
        ----------
        ddof : float, default 0
            1 for the square root of the unbiased variance.

        Returns
        -------
        ndarray of float64
            Of the shape of the channels; NaN where ``n - ddof <= 0``, without a warning.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.Moments().update(np.array([[1.0], [3.0]])).std().tolist()
        [1.0]
        """
        return np.sqrt(self.var(ddof))

    def copy(self):
        """An independent object with the same state.

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
        cdef Moments other = Moments(self.axis, nan_policy=self.nan_policy)
        other.shape = self.shape
        other.size = self.size
        other.state = None if self.state is None else self.state.copy()
        return other

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()

    def __eq__(self, other):
        if not isinstance(other, Moments):
            return NotImplemented
        cdef Moments them = other
        if self.state is None or them.state is None:
            return self.state is them.state
        return self.shape == them.shape and bool(
            np.array_equal(self.state[:, :self.size], them.state[:, :self.size], equal_nan=True))

    __hash__ = None

    def __reduce__(self):
        state = None if self.state is None else self.state[:, :self.size].copy()
        return _restore, (self.axis, self.nan_policy, self.shape, state)

    def __repr__(self):
        head = f"Moments(axis={self.axis!r}, nan_policy={self.nan_policy!r})"
        if self.state is None:
            return f"{head}: empty"
        n = self.n
        rows = [("n", n if isinstance(n, int) else np.array2string(n, threshold=8, edgeitems=3)),
                ("mean", np.array2string(self.mean, threshold=8, edgeitems=3, prefix="  mean ")),
                ("std", np.array2string(self.std(), threshold=8, edgeitems=3, prefix="  mean "))]
        return "\n".join([f"{head}: channels {self.shape}", *(f"  {name:<4} {value}" for name, value in rows)])


def _restore(axis, nan_policy, shape, state):
    """What pickle calls; state has five rows of channels."""
    cdef Moments m = Moments(axis, nan_policy=nan_policy)
    if state is not None:
        if np.shape(state) != (5, math.prod(shape)):
            raise ValueError(f"expected a state of shape {(5, math.prod(shape))}, got {np.shape(state)}: damaged pickle")
        m.shape = shape
        m.size = state.shape[1]
        m.state = np.pad(state, ((0, 0), (0, padded(m.size) - m.size)))
    return m
