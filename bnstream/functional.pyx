"""Functions of arrays, without a state."""

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from numpy cimport ndarray

from bnstream._kernels._runtime cimport threads_for
from bnstream._kernels._table cimport FLOAT64, Kernels, Sink, View
from bnstream._view cimport OMIT, RAISE, Policy, as_array, batch_axes, kept_shape, make_view, policy_of, require_finite

from bnstream._kernels import capsule

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")


cdef object result_dtype(object dtype, ndarray a):
    """The dtype of means and variances: as asked, else the floating dtype of the array, else float64."""
    given = a.dtype if dtype is None else np.dtype(dtype)
    if given.name in ("float16", "bfloat16", "float32", "float64"):
        return given.newbyteorder("=")
    if dtype is None:
        return np.dtype(np.float64)
    raise TypeError(f"dtype must be float16, bfloat16, float32 or float64, got {given}")


def mean_var(x, axis=0, *, ddof=0, dtype=None, bint keepdims=False, nan_policy="propagate", n_threads=None):
    """Mean and variance of every channel, over the batch axes.

    Parameters
    ----------
    x : array_like
        Numbers of any dtype but complex: float16, bfloat16, float32, float64, bool, integers; any strides, any byte
        order. It is read in place, never copied whole.
    axis : int, tuple of int or None, default 0
        The batch axes, those reduced over, as in NumPy. None is all. The other axes are the channels.
    ddof : float, default 0
        The variance is the sum of squared deviations divided by ``n - ddof``.
    dtype : dtype, optional
        A floating dtype for the results. By default that of `x`; float64 for bool and integers.
    keepdims : bool, default False
        Keep the batch axes in the results, with length 1.
    nan_policy : {"propagate", "raise", "omit"}, default "propagate"
        What to do about NaN and inf: let them through, as NumPy does; raise a ValueError; or leave these elements out,
        and count the others of each channel.
    n_threads : int, optional
        How many threads at most, instead of `get_num_threads`.

    Returns
    -------
    mean, var : ndarray
        Of the shape of the channels, in the units of `x` and their square. NumPy scalars where nothing is left.

    Raises
    ------
    TypeError
        If `x` is complex, of objects, strings, records or dates, or a masked array; if `dtype` is not floating.
    ValueError
        If an axis is out of range or given twice, `x` is 0-d or ragged, or holds NaN or inf under ``"raise"``.

    See Also
    --------
    Moments : the same for data that comes in batches.

    Notes
    -----
    ``mean = sum(x) / n`` and ``var = sum((x - mean)**2) / (n - ddof)``, accumulated in double precision about a shift
    near the data, block by block, and merged [1]_: the mean is within 8 eps of ``max(|mean|, sd)``, the variance within
    a relative ``16 eps log2(n)``, whatever the offset of the data. The bits are the same for any number of threads.

    The sums are float64: finite numbers beyond about 1e300 may overflow to inf, which ``"raise"`` refuses too.

    A channel without elements has mean NaN; with ``n - ddof <= 0`` its variance is NaN. Neither warns.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", 1983.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> mean, var = bnstream.mean_var(np.array([[2.0, 1e8], [4.0, 1e8 + 1], [6.0, 1e8 + 2]]))
    >>> mean.tolist(), var.tolist()
    ([4.0, 100000001.0], [2.6666666666666665, 0.6666666666666666])
    """
    cdef ndarray a = as_array(x)
    cdef unsigned long long axes = batch_axes(axis, a.ndim)
    cdef View view
    cdef Sink sink
    cdef ndarray mean, var
    cdef Policy policy = policy_of(nan_policy)
    cdef bint omit = policy == OMIT
    cdef int threads = threads_for(cnp.PyArray_NBYTES(a), n_threads)
    cdef int failed = 0
    sink.state = NULL
    sink.ddof = ddof            # runs Python where ddof is no float: before there are pointers
    make_view(a, axes, &view)
    out_dtype = result_dtype(dtype, a)
    shape = kept_shape(a, axes, keepdims)
    sink.single = out_dtype == np.float32 and view.element != FLOAT64
    mean = np.empty(shape, np.float32 if sink.single else np.float64)
    var = np.empty_like(mean)
    sink.mean = cnp.PyArray_DATA(mean)
    sink.var = cnp.PyArray_DATA(var)
    if view.n_rows == 0:
        mean.fill(np.nan)
        var.fill(np.nan)
    elif view.n_channels:
        with nogil:
            failed = kernels.accumulate(&view, &sink, omit, threads)
    if failed:
        raise MemoryError("no memory for the scratch of mean_var")
    if policy == RAISE and view.n_rows:
        require_finite(mean)
    if mean.dtype != out_dtype:
        with np.errstate(over="ignore"):        # too large for the dtype is inf, here as in the kernels
            mean, var = mean.astype(out_dtype), var.astype(out_dtype)
    return (mean, var) if shape else (mean[()], var[()])
