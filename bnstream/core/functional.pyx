"""Functions of arrays, which keep no state."""

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint64_t
from numpy cimport ndarray

from bnstream._kernels._runtime cimport threads_for
from bnstream._kernels._table cimport BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MAX_DIMS, Element, Kernels, Sink, View
from bnstream.core.forward cimport Forward, broadcast_forward, new_forward
from bnstream.core.large cimport narrow
from bnstream.core.result cimport extents_meet
from bnstream.core.view cimport (
    OMIT, PROPAGATE, RAISE, Policy, as_array, batch_axes, element_of, kept_shape, make_view, mask_of, number_of, policy_of,
    weights_of,
)

from bnstream._kernels import capsule
from bnstream.core.columns import Columns, in_exact_form, require_mask_in_order
from bnstream.core.columnwise import mean_var_by_moments
from bnstream.core.dtypes import floating as floating_dtype
from bnstream.core.dtypes import rounded
from bnstream.core.forward import replace
from bnstream.core.gradient import Backward, gradient_dtype
from bnstream.core.moments import Moments

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")


cdef inline bint floating(Element element) noexcept:
    return element in (FLOAT16, BFLOAT16, FLOAT32, FLOAT64)


cdef int asked_element(object dtype) except -1:
    """The `Element` of a dtype that the caller asks for."""
    return element_of(np.empty(0, floating_dtype(dtype)))


cdef ndarray empty_result(ndarray a, unsigned long long axes, bint keepdims, Element element, object dtype):
    """A new array of the shape of the channels."""
    cdef cnp.npy_intp shape[MAX_DIMS]
    cdef int i, n = 0
    for i in range(a.ndim):
        if not axes >> i & 1:
            shape[n] = a.shape[i]
            n += 1
        elif keepdims:
            shape[n] = 1
            n += 1
    if element == BFLOAT16:     # not one of NumPy's own
        return np.empty(kept_shape(a, axes, keepdims), (a.dtype if dtype is None else np.dtype(dtype)).newbyteorder("="))
    return cnp.PyArray_EMPTY(n, shape, cnp.NPY_DOUBLE if element == FLOAT64 else
                             (cnp.NPY_FLOAT if element == FLOAT32 else cnp.NPY_FLOAT16), 0)


cdef bint all_finite(ndarray values, Element element) except -1:
    """Whether no value is NaN or inf. For float64, the sign of `seen` tells whether all bits of any exponent are set: this
    loop of integers is vectorized at every level."""
    cdef const uint64_t *bits = <const uint64_t *> cnp.PyArray_DATA(values)
    cdef uint64_t seen = 0
    cdef Py_ssize_t i
    if element != FLOAT64:
        return np.isfinite(values).all()
    for i in range(cnp.PyArray_SIZE(values)):
        seen |= (bits[i] & 0x7ff0000000000000ULL) + 0x0010000000000000ULL
    return seen >> 63 == 0


cdef int fill_in(ndarray results, object values, ndarray lost) except -1:
    """Set the results of some channels to the values of a `Moments`."""
    shape = (<object> results).shape
    np.copyto(results, rounded(np.reshape(values, shape), results.dtype), where=lost.reshape(shape))
    return 0


def mean_var(x, axis=0, *, ddof=0, dtype=None, bint keepdims=False, nan_policy="propagate", weights=None, where=None,
             n_threads=None, exact=False):
    """Compute mean and variance of every channel, over the batch axes.

    Parameters
    ----------
    x : array_like
        Real numbers: float16, bfloat16, float32, float64, bool or integers, with any strides and byte order. It is read
        in place, never copied whole. The columns of a table of pandas, polars or pyarrow lie along axis 1; none of its
        integers is rounded, and missing values are treated as NaN.
    axis : int, tuple of int or None, default 0
        The batch axes, those reduced over, as in NumPy. None is all. The other axes are the channels.
    ddof : float, default 0
        The variance is the sum of squared deviations divided by ``n - ddof``.
    dtype : dtype, optional
        A floating dtype for the results. By default that of `x`; float64 for bool and integers.
    keepdims : bool, default False
        Keep the batch axes in the results, with length 1, so that they broadcast against `x`.
    nan_policy : {"propagate", "raise", "omit"}, default "propagate"
        What to do about NaN and inf: let them through, as NumPy does; raise a ValueError; or leave these elements out,
        and count the others of each channel.
    weights : array_like, optional
        The weight of each batch position, as for `Moments.update`.
    where : array_like of bool, optional
        The elements to use, marked True, as for `Moments.update`. The others may hold anything.
    n_threads : int, optional
        The maximum number of threads; by default `get_num_threads()`.
    exact : bool, default False
        Round mean and variance correctly to float64, as ``Moments(exact=True)`` does, whose weights are whole numbers. The
        results are float64 unless `dtype` says otherwise.

    Returns
    -------
    mean, var : ndarray
        Arrays of the shape of the channels, in the units of `x` and their square; NumPy scalars where no channel axis is
        left.

    Raises
    ------
    TypeError
        If `x` is complex, of objects, strings, records or dates, or a masked array; if `dtype` is not floating, `where`
        is not of bool, or `weights` are not numbers.
    ValueError
        If an axis is out of range (a `numpy.exceptions.AxisError`) or given twice, `x` is 0-d or ragged, or holds NaN or
        inf under ``"raise"``; if `weights` has another shape, `where` does not broadcast, or a weight is out of range.
    OverflowError
        If exact statistics would count more than 2**62 values in a channel.

    See Also
    --------
    Moments : the same for data that comes in batches.
    normalize : with ``keepdims=True`` it takes the results as they are.

    Notes
    -----
    ``mean = sum(x) / n`` and ``var = sum((x - mean)**2) / (n - ddof)``, accumulated in double precision about a shift
    near the data, block by block, and merged [1]_: the mean is within 64 eps of ``max(|mean|, sd)``, the variance within
    a relative 400 eps, whatever the offset of the data. The bits are the same for any number of threads. With
    weights, mean and variance are those of `Moments`.

    The mean of finite data is finite, and the variance is inf only where it exceeds the largest number of its dtype.
    Where the squares of float64 overflow, `x` is read a second time.

    A channel without elements, or of which `where` selects none, has mean NaN; where ``n - ddof <= 0`` its variance is
    NaN. Neither warns.

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
    if not cnp.PyArray_CheckExact(x):
        require_mask_in_order(where, x)
        x = in_exact_form(x)
    if exact is not False or isinstance(x, Columns):
        return mean_var_by_moments(x, axis, ddof, None if dtype is None else floating_dtype(dtype), keepdims, nan_policy,
                                   weights, where, n_threads, exact)
    cdef ndarray a = as_array(x)
    cdef unsigned long long axes = batch_axes(axis, a.ndim)
    cdef View view
    cdef Sink sink
    cdef ndarray mean, var, mask, lost, empty
    cdef Policy policy = policy_of(nan_policy)
    cdef bint omit = policy == OMIT
    cdef int threads = threads_for(cnp.PyArray_NBYTES(a), n_threads)
    cdef int failed = 0
    sink.state = NULL
    sink.ddof = number_of(ddof, "ddof")         # May run Python, so it comes before any pointer is taken.
    mask = mask_of(where, a, axes)
    make_view(&view, axes, a, None, None, None, mask)
    if dtype is not None:
        sink.element = <Element> asked_element(dtype)
    else:
        sink.element = view.operand[0].element if floating(view.operand[0].element) else FLOAT64
    mean = empty_result(a, axes, keepdims, sink.element, dtype)
    var = empty_result(a, axes, keepdims, sink.element, dtype)
    sink.mean = <char *> cnp.PyArray_DATA(mean)
    sink.var = <char *> cnp.PyArray_DATA(var)
    if view.n_rows == 0:
        if weights is not None:
            weights_of(weights, mask, a, axes)      # raises where an empty x would hide a fault
        mean.fill(np.nan)
        var.fill(np.nan)
    elif weights is not None:
        m = Moments(axis, nan_policy=nan_policy).update(a, weights=weights, where=mask, n_threads=n_threads)
        if m.shape is not None:
            mean[...] = rounded(m.mean, mean.dtype).reshape(np.shape(mean))
            var[...] = rounded(m.var(ddof), var.dtype).reshape(np.shape(var))
        return (mean, var) if mean.ndim else (mean[()], var[()])
    elif view.n_channels:
        with nogil:
            failed = kernels.accumulate(&view, &sink, omit, threads)
    if failed:
        raise MemoryError("no memory for the scratch of mean_var")
    if view.n_rows and view.n_channels and (policy == RAISE or view.operand[0].element == FLOAT64):
        if not all_finite(mean, sink.element) or view.operand[0].element == FLOAT64 and not all_finite(var, sink.element):
            lost = (~np.isfinite(mean) | np.isinf(var)).ravel()
            if policy == PROPAGATE:
                narrow(lost, a, axes, None, mask, True)
            elif omit:
                empty = lost.copy()
                narrow(empty, a, axes, None, mask, False)
                lost &= ~empty
            if policy == RAISE or lost.any():
                m = Moments(axis, nan_policy=nan_policy).update(a, where=mask, n_threads=n_threads)
                fill_in(mean, m.mean, lost)
                fill_in(var, m.var(ddof), lost)
    return (mean, var) if mean.ndim else (mean[()], var[()])


def normalize(x, mean, var, gamma=None, beta=None, *, eps=0.0, channel_axis=None, out=None, n_threads=None):
    """Standardize x by a given mean and variance, then scale it by gamma and shift it by beta.

    Parameters
    ----------
    x : array_like
        Real numbers of any dtype, strides and byte order. It is read in place, never copied whole.
    mean, var : array_like
        They broadcast against `x` as in NumPy. `var` is the variance, as `mean_var` returns it, not the standard
        deviation.
    gamma, beta : array_like, optional
        Scale and shift, which broadcast likewise; by default 1 and 0.
    eps : float, default 0
        Added to the variance.
    channel_axis : int or tuple of int, optional
        The axis, or axes, of the channels, if parameters have the shape of the channels, or are numbers, instead of
        broadcasting: ``channel_axis=1`` for images (N, C, H, W) and parameters of shape (C,).
    out : ndarray, optional
        Where the result goes: of the shape of `x` and the dtype of the result. It may be `x` itself.
    n_threads : int, optional
        The maximum number of threads; by default `get_num_threads()`.

    Returns
    -------
    ndarray
        `out`, or a new array with the memory layout of `x`; in the dtype of `x` if that is floating, else float32.

    Raises
    ------
    TypeError
        If `x` or a parameter is not of real numbers, or `out` is not a plain array.
    ValueError
        If `x` is 0-d; if a parameter does not broadcast against `x`, or does not have the shape of the channels; if a
        variance or `eps` is negative; if `out` has another shape or dtype, is read-only, or overlaps `x` in part. Nothing
        has been written then.

    See Also
    --------
    mean_var : the statistics; with ``keepdims=True`` they broadcast.
    batch_norm : normalization by the statistics of the batch itself.

    Notes
    -----
    ``y = (x - mean) / sqrt(var + eps) * gamma + beta``, in double precision and rounded once to the dtype of the result.
    float32 is within one ulp of the exact value; where the two terms cancel, within 2**-50 of the larger one. The bits
    are the same for any number of threads.

    Where ``var + eps`` is 0, x is centered and not divided: a constant channel becomes beta.

    The parameters take 56 bytes for each of their combinations: of the size of `x` where one varies along every axis.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> image = np.array([[[0, 128, 255], [64, 128, 0]]], np.uint8)
    >>> bnstream.normalize(image, mean=[32, 128, 128], var=[1024, 64, 16384]).round(2).tolist()
    [[[-1.0, 0.0, 0.9900000095367432], [1.0, 0.0, -1.0]]]
    >>> x = np.arange(24.0).reshape(2, 3, 4)
    >>> y = bnstream.normalize(x, *bnstream.mean_var(x, axis=(0, 2), keepdims=True))
    >>> y.std(axis=(0, 2)).round(12).tolist()
    [1.0, 1.0, 1.0]
    """
    cdef Forward forward
    if channel_axis is None:
        forward = broadcast_forward(x, mean, var, gamma, beta, number_of(eps, "eps"))
    else:
        forward = new_forward(x, channel_axis, 1, gamma, beta, number_of(eps, "eps"))
        forward.set_statistics(mean, var, "")
    return forward.apply(out, n_threads)


def running_rows(running_mean, running_var, Py_ssize_t n_channels):
    """Mean and variance that training updates, as float64: the arrays themselves, or copies."""
    if running_mean is None or running_var is None:
        raise TypeError("running_mean and running_var go together; pass both, or None for both")
    rows = running_row(running_mean, "running_mean", n_channels), running_row(running_var, "running_var", n_channels)
    if extents_meet(running_mean, running_var) and np.shares_memory(running_mean, running_var):
        raise ValueError("running_mean and running_var share memory; pass two arrays")
    return rows


cdef ndarray running_row(object values, str name, Py_ssize_t n_channels):
    """An array that training updates, as float64: the array itself, or a copy."""
    cdef ndarray a
    if cnp.PyArray_CheckExact(values):
        a = values
        if a.ndim == 1 and a.shape[0] == n_channels and cnp.PyArray_TYPE(a) == cnp.NPY_DOUBLE and cnp.PyArray_ISCARRAY(a):
            return a
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name} must be an array, as training updates it in place, or None, got {type(values).__name__}")
    if values.dtype.kind != "f" or values.shape != (n_channels,) or not values.flags.writeable:
        raise ValueError(f"{name} must be a writeable floating array of shape ({n_channels},), got shape {values.shape} of "
                         f"{values.dtype}{'' if values.flags.writeable else ', read-only'}")
    return values.astype(np.float64)


def batch_norm(x, running_mean, running_var, gamma=None, beta=None, *, bint training=False, momentum=0.1,
               eps=1e-5, channel_axis=1, out=None, running_ddof=1, nan_policy="raise", where=None,
               n_threads=None):
    """Batch-normalize x without a layer: by the running estimates or, in training, by the statistics of the batch.

    Parameters
    ----------
    x : array_like
        Real numbers, as for `normalize`, of at least 2 dimensions.
    running_mean, running_var : array_like or None
        Of shape (channels,). Training updates them in place: they are floating arrays, or both None.
    gamma, beta : array_like, optional
        Scale and shift of each channel, of shape (channels,); by default 1 and 0.
    training : bool, default False
        Normalize by mean and variance (``ddof=0``) of the batch, and update the running estimates.
    momentum : float, default 0.1
        The weight of the batch: ``running = (1 - momentum) * running + momentum * batch``, as in PyTorch. What Keras,
        Flax and ONNX call momentum is 1 minus this.
    eps : float, default 1e-5
        Added to the variance.
    channel_axis : int, default 1
        The axis of the channels.
    out : ndarray, optional
        Where the result goes: of the shape of `x` and the dtype of the result. It may be `x` itself.
    running_ddof : float, default 1
        `running_var` takes the variance of the batch divided by ``n - running_ddof``: 1 as in PyTorch, 0 elsewhere.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What training does about NaN and inf: refuse the batch; leave these elements out of the statistics; or let them
        through, into the running estimates as well. A batch of which `where` selects nothing is skipped under
        ``"omit"``: the result is 0, and the running estimates stay as they were.
    where : array_like of bool, optional
        The elements to use, marked True: of the shape of `x` without the channel axis, as (N, L) for sequences
        (N, channels, L), or any that broadcasts against `x`, as for `Moments.update`. The others may hold anything;
        their result is 0.
    n_threads : int, optional
        The maximum number of threads; by default `get_num_threads()`.

    Returns
    -------
    ndarray
        `out`, or a new array with the memory layout of `x`; in the dtype of `x` if that is floating, else float32.

    Raises
    ------
    TypeError
        If `x` or a parameter is not of real numbers, or `out` or a running estimate to be updated is not an array.
    ValueError
        As `normalize` with `channel_axis`, or if `where` does not broadcast; in training also if a channel has fewer
        than two values, unless the batch is skipped, or, unless ``nan_policy="propagate"``, squared deviations that sum
        to more than float64 can hold, or if there is NaN or inf under ``"raise"``. The running estimates are then as
        they were, and so is `x` if it is `out`.

    See Also
    --------
    BatchNorm : a layer, with the backward pass.

    Notes
    -----
    Accuracy and bits are those of `normalize`; mean and variance of the batch are as exact as those of `mean_var` [1]_.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
       Shift", 2015.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> x = np.array([[2.0], [4.0], [6.0], [8.0]])
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> bnstream.batch_norm(x, mean, var, gamma=[2], beta=[0.5], training=True).round(2).ravel().tolist()
    [-2.18, -0.39, 1.39, 3.18]
    >>> mean.tolist(), var.round(4).tolist()
    ([0.5], [1.5667])
    """
    return batch_norm_and_gradient(x, running_mean, running_var, gamma, beta, training, momentum, eps, channel_axis, out,
                                   running_ddof, nan_policy, where, n_threads, None)[0]


def batch_norm_vjp(x, running_mean, running_var, gamma=None, beta=None, *, bint training=False, momentum=0.1,
                   eps=1e-5, channel_axis=1, running_ddof=1, nan_policy="raise", where=None,
                   n_threads=None):
    """Batch-normalize x without a layer, and return the backward pass as a function.

    Parameters
    ----------
    x, running_mean, running_var, gamma, beta, training, momentum, eps, channel_axis, running_ddof, nan_policy, where, \
n_threads
        As for `batch_norm`.

    Returns
    -------
    y : ndarray
        As `batch_norm` returns it.
    backward : Backward
        ``dx, grad_gamma, grad_beta = backward(dy)``. It holds x and what else it needs, and may be called more than
        once. The gradient of a parameter is None if the parameter was None.

    Raises
    ------
    TypeError, ValueError
        As for `batch_norm`.

    See Also
    --------
    BatchNorm.vjp : the same for a layer.
    jax.vjp : its model.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> x = np.array([[2.0], [4.0], [6.0], [8.0]])
    >>> y, backward = bnstream.batch_norm_vjp(x, [5.0], [4.0], gamma=[3.0], eps=0)
    >>> dx, grad_gamma, grad_beta = backward(np.ones_like(y))
    >>> dx.ravel().tolist(), grad_gamma.tolist(), grad_beta
    ([1.5, 1.5, 1.5, 1.5], [0.0], None)
    """
    return batch_norm_and_gradient(x, running_mean, running_var, gamma, beta, training, momentum, eps, channel_axis, None,
                                   running_ddof, nan_policy, where, n_threads, (gradient_dtype(gamma), gradient_dtype(beta)))


cdef tuple batch_norm_and_gradient(x, running_mean, running_var, gamma, beta, bint training, momentum, eps, channel_axis,
                                   out, running_ddof, nan_policy, where, n_threads, tuple dtypes):
    """The results of `batch_norm_vjp`, if the gradients of gamma and beta have these dtypes, or that of `batch_norm`. All
    that takes memory comes before the estimates change."""
    cdef Forward forward
    cdef tuple results
    cdef double weight = number_of(momentum, "momentum"), ddof = number_of(running_ddof, "running_ddof")
    cdef ndarray mean, var
    if isinstance(channel_axis, (tuple, list)):
        raise TypeError(f"channel_axis must be an int, got {channel_axis!r}; normalize takes several axes")
    forward = new_forward(x, channel_axis, 2, gamma, beta, number_of(eps, "eps"))
    forward.set_where(where)
    if not training:
        if running_mean is None or running_var is None:
            raise TypeError("inference needs running_mean and running_var; pass them, or training=True")
        forward.set_statistics(running_mean, running_var, "running_")
        return forward.apply(out, n_threads), None if dtypes is None else Backward(forward, dtypes)
    if not 0 <= weight <= 1:
        raise ValueError(f"momentum must be from 0 to 1, the weight of the batch, got {momentum}")
    if not 0 <= ddof < 2:
        raise ValueError(f"running_ddof must be from 0 to below 2: 1 as in PyTorch, 0 elsewhere, got {running_ddof}")
    if running_mean is not None or running_var is not None:
        mean, var = running_rows(running_mean, running_var, forward.n_channels)
        if (mean is running_mean) != (var is running_var):
            mean, var = (<object> mean).copy(), (<object> var).copy()       # so that both change together, in `replace`
    results = forward.train(out, nan_policy, n_threads), None if dtypes is None else Backward(forward, dtypes)
    if forward.skipped or (running_mean is None and running_var is None):
        return results
    forward.blend(<double *> cnp.PyArray_DATA(mean), <double *> cnp.PyArray_DATA(var), 0, forward.n_channels, weight, ddof,
                  False)
    if mean is not running_mean or var is not running_var:
        replace([running_mean, running_var], [rounded(mean, running_mean.dtype), rounded(var, running_var.dtype)])
    return results
