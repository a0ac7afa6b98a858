# Pairs of doubles: hi + lo with |lo| <= ulp(hi) / 2, about 106 bits (Dekker 1971; Knuth, TAOCP 2, 4.2.2). fma() is correctly
# rounded at every level, so the level changes no bit. A product costs two operations if the CPU has the instruction, and a
# function call if it does not.

ctypedef struct pair:
    double hi
    double lo


cdef inline pair fast_two_sum(double a, double b) noexcept nogil:
    """a + b exactly, if |a| >= |b|; 3 operations."""
    cdef pair r
    r.hi = a + b
    r.lo = b - (r.hi - a)
    return r


cdef inline pair two_sum(double a, double b) noexcept nogil:
    """a + b exactly; 6 operations."""
    cdef pair r
    cdef double t
    r.hi = a + b
    t = r.hi - a
    r.lo = (a - (r.hi - t)) + (b - t)
    return r


cdef inline pair two_product(double a, double b) noexcept nogil:
    """a * b exactly; 2 operations."""
    cdef pair r
    r.hi = a * b
    r.lo = fma(a, b, -r.hi)
    return r


cdef inline pair quotient(double a, double n) noexcept nogil:
    """a / n to about 76 bits.

    The remainder a - q * n is exact. It is divided in single precision, which takes a third of the time, or dropped if n is
    a sum of weights too small for single precision. n / n is 1, so merging an empty state changes no bit.
    """
    cdef double q = a / n
    cdef float inverse = <float> 1 / <float> n
    return fast_two_sum(q, fma(-q, n, a) * (inverse if inverse < 1e38 else 0))


cdef inline pair negative(pair a) noexcept nogil:
    a.hi = -a.hi
    a.lo = -a.lo
    return a


cdef inline pair add(pair a, pair b) noexcept nogil:
    cdef pair s = two_sum(a.hi, b.hi)
    return fast_two_sum(s.hi, s.lo + (a.lo + b.lo))


cdef inline pair add_double(pair a, double b) noexcept nogil:
    cdef pair s = two_sum(a.hi, b)
    return fast_two_sum(s.hi, s.lo + a.lo)


cdef inline pair multiply(pair a, pair b) noexcept nogil:
    cdef pair p = two_product(a.hi, b.hi)
    return fast_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi))


cdef inline pair scale(pair a, double b) noexcept nogil:
    cdef pair p = two_product(a.hi, b)
    return fast_two_sum(p.hi, p.lo + a.lo * b)
