"""Any array with its batch axes as a `View`: batch dims and channel dims, neighbors merged, without a copy.

    (N, C, H, W), axis (0, 2, 3)     batch (N), (H*W);   channels (C)
    (N, C), axis 0                   batch (N);          channels (C)
    (N, H, W, C), axis (0, 1, 2)     batch (N*H*W);      channels (C)
"""

import operator

import numpy as np

cimport numpy as cnp
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.string cimport memmove
from numpy cimport ndarray

from bnstream._kernels._table cimport (
    BFLOAT16, BOOL, FLAGS, FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, MAX_DIMS, MAX_OPERANDS, RESULT, UINT8,
    UINT16, UINT32, UINT64, WEIGHTS, Dim, Element, Operand, View,
)

from bnstream.core.dlpack import as_numpy, is_masked
from bnstream.core.dtypes import is_real
from bnstream.core.masks import with_all_axes

cnp.import_array()

cdef str ACCEPTED = "float16, bfloat16, float32, float64, bool, or integers of 8 to 64 bits"


cdef Policy policy_of(object nan_policy) except *:
    if isinstance(nan_policy, str):
        if nan_policy == "raise":
            return RAISE
        if nan_policy == "omit":
            return OMIT
        if nan_policy == "propagate":
            return PROPAGATE
    raise ValueError(f"nan_policy must be 'propagate', 'raise' or 'omit', got {nan_policy!r}")


cdef int require_finite(ndarray mean) except -1:
    """Raise ValueError unless all means are finite, as they are if all elements are: no other pass over x is needed."""
    bad = np.argwhere(~np.isfinite(mean))
    if len(bad):
        channel = tuple(bad[0].tolist())
        raise not_finite(len(bad), mean.size, f"at index {channel[0] if len(channel) == 1 else channel}")
    return 0


cdef object not_finite(Py_ssize_t n_bad, Py_ssize_t n_channels, str place):
    """The error about NaN and inf in some channels, the first of them at this place."""
    channels = f"{n_bad} of {n_channels} channels, the first {place}" if n_channels > 1 else "the only channel"
    return ValueError(f"NaN or inf in {channels}; clean the data, or pass nan_policy='omit' to leave such elements "
                      "out, or 'propagate' to let them through")


cdef ndarray as_array(object x):
    """x as an ndarray, without a copy where it is one already."""
    cdef ndarray a
    if cnp.PyArray_CheckExact(x):
        return x
    try:
        a = as_numpy(x)
        if is_masked(a):
            raise TypeError("got a masked array; fill it with x.filled(value), or pass np.asarray(x) with "
                            "where=~x.mask where masks are taken, which leaves the masked elements out")
        a = np.asarray(a)
    except ValueError as error:
        raise ValueError(f"expected an array or nested sequences of equal lengths, got {type(x).__name__}: {error}"
                         ) from None
    return a


cdef double number_of(object value, str name) except? -1:
    """A number that the caller gives for an argument of this name."""
    try:
        return value
    except TypeError:
        raise TypeError(f"{name} must be a real number, got {value!r:.60}") from None


cdef unsigned long long batch_axes(object axis, int ndim, str name="axis") except? 0:
    """The axes that an argument names, as bits. It is as NumPy's `axis`: an int, a tuple of ints, or None for all."""
    cdef unsigned long long axes = 0, bit
    if ndim == 0:
        raise ValueError("expected an array of at least 1 dimension, got a 0-d array; put the values into a 1-d array")
    if axis is None:
        return ~axes >> (64 - ndim)
    if not isinstance(axis, (tuple, list)):
        return axis_bit(axis, ndim, name)
    for entry in axis:
        bit = axis_bit(entry, ndim, name)
        if axes & bit:
            raise ValueError(f"axis {entry} is given twice in {name}={axis!r}; name each axis once")
        axes |= bit
    return axes


cdef unsigned long long axis_bit(object axis, int ndim, str name) except? 0:
    cdef Py_ssize_t i
    try:
        i = axis if type(axis) is int else operator.index(axis)
    except TypeError:
        expected = "an int, a tuple of ints or None" if name == "axis" else "an int or a tuple of ints"
        raise TypeError(f"{name} must be {expected}, got {axis!r}") from None
    except OverflowError:
        i = PY_SSIZE_T_MAX
    if not -ndim <= i < ndim:
        raise np.exceptions.AxisError(f"{name} {axis} is out of range for an array of {ndim} dimensions; expected {-ndim} "
                                      f"to {ndim - 1}")
    return 1ULL << (i + ndim if i < 0 else i)


cdef tuple at_axes(object entries, unsigned long long axes):
    """The entries, one for each axis, of the axes whose bits are set."""
    # Not a list comprehension: if its append has no memory, Cython 3.3 frees an element twice.
    cdef list found = []
    cdef Py_ssize_t i
    for i in range(len(entries)):
        if axes >> i & 1:
            found.append(entries[i])
    return tuple(found)


cdef tuple axes_named(unsigned long long axes, int ndim):
    """The axes whose bits are set, ascending."""
    return at_axes(range(ndim), axes)


cdef tuple kept_shape(ndarray a, unsigned long long axes, bint keepdims):
    """The shape of the channels, or with `keepdims` that of a result which broadcasts against a."""
    cdef list shape
    cdef int i
    if not keepdims:
        return at_axes((<object> a).shape, ~axes)
    shape = list((<object> a).shape)
    for i in range(a.ndim):
        if axes >> i & 1:
            shape[i] = 1
    return tuple(shape)


cdef bint fits(tuple shape, tuple to) noexcept:
    """Whether each length of `shape` is 1 or that of `to`."""
    cdef Py_ssize_t i
    if len(shape) != len(to):
        return False
    for i in range(len(shape)):
        if shape[i] != 1 and shape[i] != to[i]:
            return False
    return True


cdef int element_of(ndarray a) except -1:
    """The `Element` of an array's dtype."""
    cdef int number = cnp.PyArray_TYPE(a)
    if number == cnp.NPY_FLOAT:
        return FLOAT32
    if number == cnp.NPY_DOUBLE:
        return FLOAT64
    if number == cnp.NPY_FLOAT16:
        return FLOAT16
    dtype = a.dtype
    kind, size = dtype.kind, dtype.itemsize
    if kind == "b":
        return BOOL             # Any byte but 0 is True.
    if kind == "i":
        return {1: INT8, 2: INT16, 4: INT32, 8: INT64}[size]
    if kind == "u":
        return {1: UINT8, 2: UINT16, 4: UINT32, 8: UINT64}[size]
    if dtype.name == "bfloat16":
        return BFLOAT16
    advice = "convert it with x.astype"
    if kind == "c":
        advice = "pass x.real and x.imag separately"
    elif dtype.names:
        advice = "pass one field, x['name'], at a time"
    elif kind in "mM":
        advice = "pass x.astype('int64'), the number of its units, and leave NaT out with where=~np.isnat(x)"
    elif kind in "OSUT":
        advice = "convert it with x.astype(float)"
    elif kind == "f":
        advice = "convert it with x.astype(float), which rounds"
    raise TypeError(f"cannot read dtype {dtype}; expected {ACCEPTED}: {advice}")


cdef inline bint joins(const View *view, const Dim *outer, const Dim *inner) noexcept nogil:
    """Whether one loop can walk both dims."""
    cdef int k
    for k in range(view.n_operands):
        if outer.stride[k] != inner.stride[k] * inner.n:
            return False
    if view.weighted and outer.stride[WEIGHTS] != inner.stride[WEIGHTS] * inner.n:
        return False
    if view.selective and outer.stride[FLAGS] != inner.stride[FLAGS] * inner.n:
        return False
    return outer.stride[RESULT] == inner.stride[RESULT] * inner.n


cdef inline Py_ssize_t magnitude(Py_ssize_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef int insert(Dim *dims, int n, const Dim *dim) noexcept nogil:
    """Insert a dim into dims, which are sorted by falling stride of the first operand. Return the new number of them."""
    cdef int i = n
    while i > 0 and magnitude(dims[i - 1].stride[0]) < magnitude(dim.stride[0]):
        dims[i] = dims[i - 1]
        i -= 1
    dims[i] = dim[0]
    return n + 1


cdef int merge_neighbours(const View *view, Dim *dims, int n) noexcept nogil:
    cdef int i, last = 0
    for i in range(1, n):
        if joins(view, &dims[last], &dims[i]):
            dims[i].n *= dims[last].n
        else:
            last += 1
        dims[last] = dims[i]
    return last + 1 if n else 0


cdef ndarray plain_array(object values, str name):
    if is_masked(values):
        raise TypeError(f"{name} must be a plain array, got a masked array; {name}.filled(0) leaves the masked positions "
                        "out")
    try:
        return as_array(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


cdef ndarray positions(object values, str name, ndarray x, unsigned long long axes):
    """Values of the batch positions of x as an array with the axes of x, of length 1 along those of the channels."""
    cdef ndarray a = plain_array(values, name)
    cdef tuple shape = (<object> x).shape, given = (<object> a).shape, batch = at_axes(shape, axes)
    cdef tuple wanted = kept_shape(x, ~axes, True)
    cdef list own
    cdef int i
    if given == batch and cnp.PyArray_ISCARRAY_RO(a):
        return (<object> a).reshape(wanted)
    if a.ndim != x.ndim and a.ndim == len(batch):
        own = [1] * x.ndim
        for i, n in zip(axes_named(axes, x.ndim), given):
            own[i] = n
        given = tuple(own)
    if not fits(given, wanted):
        raise ValueError(f"{name} must have the shape of the batch positions, {batch}, or 1 in place of any of these, for "
                         f"a batch of shape {shape}; got {(<object> a).shape}")
    return np.ascontiguousarray(np.broadcast_to((<object> a).reshape(given), wanted))


cdef bint is_of_positions(ndarray mask, ndarray x, unsigned long long axes) noexcept:
    """Whether a mask with the axes of x has length 1 along those of the channels."""
    cdef int i
    for i in range(x.ndim):
        if not axes >> i & 1 and mask.shape[i] != 1:
            return False
    return True


cdef ndarray mask_of(object where, ndarray x, unsigned long long axes):
    """The elements to use, as a mask with the axes of x, each of the length of x or 1; None for all.

    A mask that is the same in all channels becomes one of the batch positions: those are read in place.
    """
    cdef ndarray mask, first, last
    cdef list index
    cdef int i
    if where is None or where is True:
        return None
    mask = plain_array(where, "where")
    if cnp.PyArray_TYPE(mask) != cnp.NPY_BOOL:
        raise TypeError(f"where must be a mask of bool, True for the elements to use, got dtype {mask.dtype}; compare, or "
                        "convert it with .astype(bool)")
    if mask.ndim == 0 and mask:
        return None
    if not is_along(mask, x, axes):
        mask = with_all_axes(mask, (<object> x).shape, axes_named(axes, x.ndim))
        index = [slice(None)] * x.ndim
        for i in range(x.ndim):
            if mask.strides[i] == 0:        # one of what is repeated
                index[i] = slice(1)
        mask = mask[tuple(index)]
        if not is_of_positions(mask, x, axes):
            first, last = of_channel(mask, axes, slice(1)), of_channel(mask, axes, slice(-1, None))
            if mask.size == 0 or not np.array_equal(first, last) or not np.equal(mask, first).all():
                return mask
            mask = first
    return positions(mask, "where", x, axes)


cdef ndarray of_channel(ndarray mask, unsigned long long axes, slice channel):
    """The part of a mask that belongs to the first channel or the last one."""
    cdef list index = [slice(None)] * mask.ndim
    cdef int i
    for i in range(mask.ndim):
        if not axes >> i & 1:
            index[i] = channel
    return mask[tuple(index)]


cdef bint is_along(ndarray mask, ndarray x, unsigned long long axes) noexcept:
    """Whether a mask with fewer axes than x has the shape of the batch positions."""
    cdef int i, k = 0
    if mask.ndim == x.ndim:
        return False
    for i in range(x.ndim):
        if axes >> i & 1:
            if k == mask.ndim or mask.shape[k] != x.shape[i]:
                return False
            k += 1
    return k == mask.ndim


cdef ndarray real_positions(object weights, ndarray x, unsigned long long axes):
    w = positions(weights, "weights", x, axes)
    if not is_real(w.dtype):
        raise TypeError(f"weights must be of real numbers, got dtype {w.dtype}")
    return w


cdef ndarray counts_of(object weights, ndarray mask, ndarray x, unsigned long long axes):
    """Weights that say how often a batch position counts, as int64; 0 where a mask of positions is False."""
    w = real_positions(weights, x, axes)
    if mask is not None and is_of_positions(mask, x, axes):
        w = np.where(mask, w, w.dtype.type(0))
    wrong = w[~((w >= 0) & (w < np.float64(2**53)) & (w == np.rint(w)))]
    if wrong.size:
        raise ValueError("weights of exact statistics count how often a row is there: expected integers from 0 to below "
                         f"2**53, got {wrong[0]}; scale them to integers, or make the Moments without exact=True")
    return w.astype(np.int64)


cdef ndarray weights_of(object weights, ndarray mask, ndarray x, unsigned long long axes):
    """The weight of each batch position, 0 where a mask of positions is False; None if there are no weights."""
    cdef ndarray w
    if weights is None:
        return None
    w = real_positions(weights, x, axes).astype(np.float64, copy=False)
    if mask is not None and is_of_positions(mask, x, axes):
        w = np.where(mask, w, 0.0)
    least = w.min(initial=np.inf)
    if least == 0:
        least = w.min(initial=np.inf, where=w != 0)
    if not (least >= 1e-100 and w.max(initial=0) <= 1e100):       # Their squares are summed as well.
        n_bad = np.count_nonzero(np.isnan(w))
        got = f"NaN in {n_bad} of {w.size}" if n_bad else f"{w.min()} to {w.max()}"
        raise ValueError(f"weights must be finite and not negative, 0 or from 1e-100 to 1e100, got {got}; scale them, or "
                         "leave rows out with weight 0, or with where=")
    return w


cdef int set_values(View *view, int index, ndarray values) except -1:
    """Weights or flags, in native byte order."""
    view.operand[index].element = <Element> element_of(values)
    view.operand[index].data = <char *> cnp.PyArray_DATA(values)
    view.operand[index].itemsize = cnp.PyArray_ITEMSIZE(values)
    view.operand[index].swapped = False
    return 0


cdef int add_operand(View *view, ndarray a) except -1:
    cdef Operand *operand = &view.operand[view.n_operands]
    operand.element = <Element> element_of(a)
    operand.data = <char *> cnp.PyArray_DATA(a)
    operand.itemsize = cnp.PyArray_ITEMSIZE(a)
    operand.swapped = not cnp.PyArray_ISNOTSWAPPED(a)
    view.in_place = view.in_place and operand.element != BOOL and not operand.swapped
    view.n_operands += 1
    return 0


cdef int make_view(View *view, unsigned long long axes, ndarray x, ndarray y=None, ndarray dx=None,
                   ndarray weights=None, ndarray where=None, Py_ssize_t instance=0, Py_ssize_t group=1) except -1:
    """Fill in a view of x and of other arrays of its shape, which all must outlive it. Bit i of `axes` means that axis i is
    reduced over. If dx is given, y is read, else it is written. Weights come from `weights_of`, and the mask from `mask_of`.
    With weights, a mask of positions is left out: they are 0 where it is False.

    With an `instance` of channels, the batch positions keep the order of the axes: their layout changes no bit."""
    cdef Dim dim
    cdef int i, k
    cdef Element result
    cdef Py_ssize_t place = 1
    cdef const Py_ssize_t *strides[MAX_OPERANDS]
    if where is not None and instance == 0 and is_of_positions(where, x, axes):
        weights = where if weights is None else weights
        where = None
    view.in_place = where is None
    view.selective = where is not None
    view.scale = 1
    view.weighted = weights is not None
    view.n_operands = 0
    view.n_read = 1 if dx is None else 2
    add_operand(view, x)
    strides[0] = <const Py_ssize_t *> cnp.PyArray_STRIDES(x)
    if y is not None:
        add_operand(view, y)
        strides[1] = <const Py_ssize_t *> cnp.PyArray_STRIDES(y)
    if dx is not None:
        add_operand(view, dx)
        strides[2] = <const Py_ssize_t *> cnp.PyArray_STRIDES(dx)
        view.in_place = view.in_place and view.operand[0].element == view.operand[1].element == view.operand[2].element
    if y is not None:       # Only these combinations have loops that read and write in place.
        result = view.operand[0].element
        result = result if result in (FLOAT64, FLOAT16, BFLOAT16) else FLOAT32
        view.in_place = view.in_place and view.operand[view.n_operands - 1].element == result
    if weights is not None:
        set_values(view, WEIGHTS, weights)
        strides[WEIGHTS] = <const Py_ssize_t *> cnp.PyArray_STRIDES(weights)
    if where is not None:
        set_values(view, FLAGS, where)
        strides[FLAGS] = <const Py_ssize_t *> cnp.PyArray_STRIDES(where)
    view.instance = instance
    view.group = group
    view.n_batch = view.n_kept = 0
    view.n_rows = view.n_channels = 1
    for i in range(cnp.PyArray_NDIM(x) - 1, -1, -1):
        dim.n = cnp.PyArray_DIM(x, i)
        dim.stride[RESULT] = 0
        for k in range(view.n_operands):
            dim.stride[k] = strides[k][i]
            view.in_place = view.in_place and not dim.stride[k] & (view.operand[k].itemsize - 1)
        if weights is not None:
            dim.stride[WEIGHTS] = strides[WEIGHTS][i] if axes >> i & 1 else 0
        if where is not None:
            dim.stride[FLAGS] = strides[FLAGS][i] if cnp.PyArray_DIM(where, i) > 1 else 0
        if axes >> i & 1:
            view.n_rows *= dim.n
            if dim.n == 1:
                continue
            if instance > 0:
                view.batch[MAX_DIMS - 1 - view.n_batch] = dim       # from the end, as the axes come from the last one on
                view.n_batch += 1
                continue
            if dim.stride[0] < 0:       # The rows may be walked in any order.
                for k in range(view.n_operands):
                    view.operand[k].data += (dim.n - 1) * dim.stride[k]
                    dim.stride[k] = -dim.stride[k]
                if weights is not None:
                    view.operand[WEIGHTS].data += (dim.n - 1) * dim.stride[WEIGHTS]
                    dim.stride[WEIGHTS] = -dim.stride[WEIGHTS]
                if where is not None:
                    view.operand[FLAGS].data += (dim.n - 1) * dim.stride[FLAGS]
                    dim.stride[FLAGS] = -dim.stride[FLAGS]
            view.n_batch = insert(view.batch, view.n_batch, &dim)
        else:
            dim.stride[RESULT] = place
            place *= dim.n
            view.n_channels *= dim.n
            if dim.n > 1:
                view.n_kept = insert(view.kept, view.n_kept, &dim)
    if instance > 0:
        memmove(view.batch, view.batch + MAX_DIMS - view.n_batch, view.n_batch * sizeof(Dim))
    if view.n_rows and view.n_channels:
        view.n_batch = merge_neighbours(view, view.batch, view.n_batch)
        view.n_kept = merge_neighbours(view, view.kept, view.n_kept)
    return 0
