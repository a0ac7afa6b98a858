"""Normalization of each instance of a batch by its own statistics: layer, RMS, group and instance norm.

    layer, RMS norm     a row of x: statistics over the last axes, gamma and beta of their elements
    group norm          a group of the channels of an instance; gamma and beta of each channel
    instance norm       one channel of an instance; gamma and beta of each channel

Channels of the kernels are the rows, or the channels of all instances, (N, C). No bit of an instance depends on the others.
"""

import operator

import numpy as np

cimport numpy as cnp
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pyport cimport PY_SSIZE_T_MAX
from numpy cimport ndarray

from bnstream._kernels._table cimport BETA, FLOAT32, FLOAT64, GAMMA, GRANULE, Kernels, padded
from bnstream.core.forward cimport Forward, forward_over, real_array
from bnstream.core.view cimport as_array, at_axes, fits, number_of

from bnstream._kernels import capsule

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")


cdef tuple shape_of(object normalized_shape, ndarray x):
    """`normalized_shape` as a tuple: the last lengths of x."""
    cdef tuple shape
    try:
        if isinstance(normalized_shape, (tuple, list)):
            shape = tuple(map(operator.index, normalized_shape))
        else:
            shape = (operator.index(normalized_shape),)
    except TypeError:
        raise TypeError(f"normalized_shape must be an int or a tuple of ints, got {normalized_shape!r:.60}") from None
    if not shape or len(shape) > x.ndim or (<object> x).shape[x.ndim - len(shape):] != shape:
        raise ValueError(f"normalized_shape must be the last lengths of x, of shape {(<object> x).shape}, got "
                         f"{normalized_shape!r:.60}; move the axes to normalize to the end with np.moveaxis")
    return shape


cdef int copy_parameter(object values, str name, tuple shape, double *out) except -1:
    """Copy a parameter of this shape, as doubles, if there is an `out`."""
    cdef ndarray a = real_array(values, name)
    if (<object> a).shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {(<object> a).shape}")
    if out == NULL:
        return 0
    if not cnp.PyArray_ISCARRAY_RO(a) or cnp.PyArray_TYPE(a) not in (cnp.NPY_DOUBLE, cnp.NPY_FLOAT):
        a = np.ascontiguousarray(a, np.float64)
    kernels.convert(<const char *> cnp.PyArray_DATA(a), cnp.PyArray_ITEMSIZE(a), cnp.PyArray_SIZE(a),
                    FLOAT64 if cnp.PyArray_TYPE(a) == cnp.NPY_DOUBLE else FLOAT32, False, out)
    return 0


cdef int set_elementwise(Forward f, object gamma, object beta, tuple shape) except -1:
    """Give a forward parameters of its batch positions."""
    cdef Py_ssize_t i, n = 1
    if gamma is None and beta is None:
        return 0
    for i in shape:
        n *= i
    if n <= PY_SSIZE_T_MAX // <Py_ssize_t> (4 * sizeof(double)):
        f.each_room = <double *> calloc(2 * (padded(n) + GRANULE), sizeof(double))      # Vectors read beyond the last one.
    if f.each_room == NULL:
        raise MemoryError(f"no memory for the parameters of {n} elements")
    f.each.gamma = <double *> (<uintptr_t> (f.each_room + GRANULE) & -<uintptr_t> (GRANULE * sizeof(double)))
    f.each.beta = f.each.gamma + padded(n)
    f.each.n = n
    if gamma is None:
        for i in range(n):
            f.each.gamma[i] = 1
    else:
        copy_parameter(gamma, "gamma", shape, f.each.gamma)
    if beta is not None:
        copy_parameter(beta, "beta", shape, f.each.beta)
    return 0


cdef int set_of_channels(Forward f, int row, object values, str name, Py_ssize_t n_channels) except -1:
    """A parameter of each channel, for all instances."""
    if values is None:
        return f.fill(row, row == GAMMA)
    copy_parameter(values, name, (n_channels,), f.row(row) if f.n_channels > 0 else NULL)
    return f.repeat(row)


def row_forward(x, normalized_shape, gamma, beta, eps, bint about_zero, result_dtype=None, bint result_only=False):
    """A forward of layer or RMS norm.

    An eps of None is that of float32, or of float64 for such x, as in PyTorch.
    """
    cdef ndarray a = as_array(x)
    cdef tuple shape = shape_of(normalized_shape, a)
    cdef int i
    cdef unsigned long long axes = 0
    for i in range(a.ndim - len(shape), a.ndim):
        axes |= 1ULL << i
    if eps is None and about_zero:
        eps = np.finfo(np.float64 if cnp.PyArray_TYPE(a) == cnp.NPY_DOUBLE else np.float32).eps
    cdef Forward f = forward_over(a, axes, False, None, None, number_of(eps, "eps"), True)
    f.result_only = result_only
    f.of_instances = True
    f.instance = 1
    f.about_zero = about_zero
    f.result_dtype = result_dtype
    set_elementwise(f, gamma, beta, shape)
    return f


def channel_forward(x, Py_ssize_t n_channels, Py_ssize_t num_groups, gamma, beta, double eps, channel_axis, where,
                    result_dtype=None):
    """A forward of group norm, or of instance norm if there are as many groups as channels."""
    cdef ndarray a = as_array(x)
    cdef int axis
    cdef unsigned long long axes
    cdef Forward f
    axis = instance_axis(a, channel_axis)
    if a.shape[axis] != n_channels:
        raise ValueError(f"expected {n_channels} channels along axis {channel_axis}, got {a.shape[axis]} from x of shape "
                         f"{(<object> a).shape}; channel_axis says which axis holds them")
    axes = ~(1ULL | 1ULL << axis) & ~0ULL >> (64 - a.ndim)
    f = forward_over(a, axes, False, None, None, eps, True)
    f.of_instances = True
    f.instance = n_channels
    f.group = max(1, n_channels // num_groups)
    f.result_dtype = result_dtype
    f.plain = gamma is None and beta is None
    if not f.plain:
        set_of_channels(f, GAMMA, gamma, "gamma", n_channels)
        set_of_channels(f, BETA, beta, "beta", n_channels)
    f.set_where(None if where is None else along_instances(where, a, axis))
    return f


cdef object along_instances(object where, ndarray x, int axis):
    """A mask with an axis for the channels, where it has the shape of x without that axis, or broadcasts against it."""
    if fits(np.shape(where), at_axes((<object> x).shape, ~(1ULL << axis))):
        return np.expand_dims(where, axis)
    return where


cpdef int instance_axis(ndarray x, object channel_axis) except -1:
    """The axis of the channels, after that of the instances."""
    cdef Py_ssize_t axis
    try:
        axis = operator.index(channel_axis)
    except TypeError:
        raise TypeError(f"channel_axis must be an int, got {channel_axis!r:.60}") from None
    if x.ndim < 2:
        raise ValueError(f"expected an array of at least 2 dimensions, instances and their channels, got shape "
                         f"{(<object> x).shape}; make a batch of one instance with x[None]")
    axis += x.ndim if axis < 0 else 0
    if not 0 < axis < x.ndim:
        raise np.exceptions.AxisError(f"channel_axis must be from 1 to {x.ndim - 1}, or from {1 - x.ndim} to -1, for x of "
                                      f"shape {(<object> x).shape}, whose axis 0 holds the instances; got {channel_axis}")
    return axis
