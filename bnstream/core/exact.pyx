"""The exact sums of one array, by the kernels."""

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint64_t
from numpy cimport ndarray

from bnstream._kernels._table cimport (
    BFLOAT16, COUNTED, FLOAT16, FLOAT32, FLOAT64, INT64, SMALL, UINT64, Element, ExactSums, Kernels, View,
)
from bnstream.core.view cimport make_view

from bnstream._kernels import capsule
from bnstream.core.exactsums import Limbs

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")


cdef int set_window(ExactSums *sums, Element element) except -1:
    """Set the units, and limbs for 2**53 elements of this type: those of the largest one, 53 bits and a sign."""
    if element == FLOAT64:
        sums.s_unit, sums.s_limbs, sums.q_limbs = -1074, 34, 67
    elif element in (FLOAT32, BFLOAT16):
        sums.s_unit, sums.s_limbs, sums.q_limbs = -149, 6, 10
    elif element == FLOAT16:
        sums.s_unit, sums.s_limbs, sums.q_limbs = -24, 2, 3
    else:
        sums.s_unit, sums.s_limbs, sums.q_limbs = 0, 2, 3
    sums.q_unit = 2 * sums.s_unit
    return 0


cdef object exact_limbs(ndarray a, unsigned long long axes, ndarray mask, int threads):
    """The exact sums of an array over its batch axes, of the elements that a mask selects."""
    cdef View view
    cdef ExactSums sums
    cdef Element element
    cdef ndarray limbs, counts
    cdef Py_ssize_t n
    cdef int failed
    make_view(&view, axes, a, None, None, None, mask)
    element = view.operand[0].element
    set_window(&sums, element)
    view.in_place = False
    if element in (INT64, UINT64):
        view.operand[0].element = FLOAT64       # so that the bits are copied as they are
    n = kernels.exact_channels(&view, threads)
    limbs = np.zeros((n, sums.s_limbs + sums.q_limbs), np.uint64)
    counts = np.zeros((n, COUNTED), np.int64)
    sums.limbs = <uint64_t *> cnp.PyArray_DATA(limbs)
    sums.counts = <int64_t *> cnp.PyArray_DATA(counts)
    if cnp.PyArray_NBYTES(a) < SMALL:
        failed = kernels.exact(&view, &sums, element, threads)
    else:
        with nogil:
            failed = kernels.exact(&view, &sums, element, threads)
    if failed:
        raise MemoryError("no memory for the scratch of an update")
    return Limbs(limbs[:view.n_channels], counts[:view.n_channels], sums.s_limbs, sums.s_unit, sums.q_unit)
