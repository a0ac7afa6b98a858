from numpy cimport ndarray

cdef object exact_limbs(ndarray a, unsigned long long axes, ndarray mask, int threads)
