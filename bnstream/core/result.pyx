"""The array for a result of the shape of x: `out`, checked to be writable, or a new one."""

import numpy as np

cimport numpy as cnp
from numpy cimport ndarray

from bnstream.core.dlpack import is_masked
from bnstream.core.dtypes import is_floating

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(ndarray, cnp.NPY_ORDER, cnp.dtype, int)


cdef object result_dtype(ndarray x):
    """The dtype of the result: that of x if it is floating, else float32."""
    dtype = x.dtype
    return dtype.newbyteorder("=") if is_floating(dtype) else np.dtype(np.float32)


cdef inline bint is_native_float(ndarray x) noexcept:
    return cnp.PyArray_TYPE(x) in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE) and cnp.PyArray_ISNOTSWAPPED(x)


cdef ndarray result_like(ndarray x, object out, object wanted, bint *replaces):
    """The array for a result: out, if it can be used, or a new one with the memory layout of x.

    Its dtype is `wanted`, if that is not None, or follows from x. `replaces` tells whether it takes the place of x.
    """
    cdef ndarray y
    cdef cnp.dtype dtype
    replaces[0] = False
    if out is None:
        dtype = wanted if wanted is not None else x.dtype if is_native_float(x) else result_dtype(x)
        cnp.Py_INCREF(dtype)        # The call steals the reference.
        return PyArray_NewLikeArray(x, cnp.NPY_KEEPORDER, dtype, 0)
    if not cnp.PyArray_CheckExact(out) and (not isinstance(out, np.ndarray) or is_masked(out)):
        raise TypeError(f"out must be a plain array, got {type(out).__name__}; make one with np.empty_like(x)")
    y = out
    if not same_shape(x, y):
        raise ValueError(f"out must have the shape of x, {(<object> x).shape}, got {(<object> y).shape}")
    if wanted is not None or cnp.PyArray_TYPE(y) != cnp.PyArray_TYPE(x) or not is_native_float(y):
        dtype = result_dtype(x) if wanted is None else wanted
        if y.dtype.newbyteorder("=") != dtype:
            why = f"for x of dtype {x.dtype}" if wanted is None else "the result_dtype of the layer"
            raise ValueError(f"out must have dtype {dtype}{' ' if wanted is None else ', '}{why}, got {y.dtype}")
    if not cnp.PyArray_ISWRITEABLE(y):
        raise ValueError("out is read-only; pass a writable array, or leave it out")
    replaces[0] = overlap(x, y, "x")
    return y


cdef struct Extent:
    const char *start
    const char *stop


cdef bint same_shape(ndarray a, ndarray b) noexcept:
    cdef int i
    if a.ndim != b.ndim:
        return False
    for i in range(a.ndim):
        if a.shape[i] != b.shape[i]:
            return False
    return True


cdef Extent extent_of(ndarray a) noexcept:
    """The memory between the first byte of an array and its last."""
    cdef Extent e
    cdef Py_ssize_t step
    cdef int i
    e.start = <const char *> cnp.PyArray_DATA(a)
    e.stop = e.start + cnp.PyArray_ITEMSIZE(a)
    for i in range(cnp.PyArray_NDIM(a)):
        step = cnp.PyArray_STRIDE(a, i) * (cnp.PyArray_DIM(a, i) - 1)
        if step < 0:
            e.start += step
        else:
            e.stop += step
    return e


cdef bint extents_meet(ndarray a, ndarray b) noexcept:
    """Whether two arrays may share memory, which is certain only if they have no gaps."""
    cdef Extent of_a = extent_of(a), of_b = extent_of(b)
    return of_a.start < of_b.stop and of_b.start < of_a.stop


cdef bint overlaps_itself(ndarray y) noexcept:
    """Whether an axis, from the shortest stride to the longest, fails to step over what the axes before it cover."""
    cdef Py_ssize_t stride, shortest, covered = cnp.PyArray_ITEMSIZE(y)
    cdef unsigned long long left = 0
    cdef int i, axis = 0
    for i in range(y.ndim):
        if y.shape[i] > 1:
            left |= 1ULL << i
    while left:
        shortest = -1
        for i in range(y.ndim):
            stride = -y.strides[i] if y.strides[i] < 0 else y.strides[i]
            if left >> i & 1 and (shortest < 0 or stride < shortest):
                shortest = stride
                axis = i
        if shortest < covered:
            return True
        covered += shortest * (y.shape[axis] - 1)
        left &= ~(1ULL << axis)
    return False


cdef bint overlap(ndarray x, ndarray y, str name) except -1:
    """Whether y is x, element by element. Raise ValueError if they overlap in part, or y overlaps itself."""
    cdef bint same = (cnp.PyArray_DATA(x) == cnp.PyArray_DATA(y)
                      and cnp.PyArray_ITEMSIZE(x) == cnp.PyArray_ITEMSIZE(y))
    cdef int i
    if x.size == 0:
        return False
    if not cnp.PyArray_ISCONTIGUOUS(y) and overlaps_itself(y):
        raise ValueError(f"out overlaps itself, with strides {(<object> y).strides}; pass an array with memory of its own")
    for i in range(y.ndim):
        if y.shape[i] > 1:
            same = same and x.strides[i] == y.strides[i]
    if same:
        return True
    if not extents_meet(x, y):
        return False
    try:
        shared = np.shares_memory(x, y, max_work=1 << 20)
    except np.exceptions.TooHardError:
        shared = True
    if shared:
        raise ValueError(f"out overlaps {name} in part; pass {name} itself, or an array with memory of its own")
    return False
