# Numbers of many limbs that are not negative: what the variance of exact sums is computed with.

cdef enum:
    LEADING = 3                 # limbs that are looked at
    ROOM = 2 * 34 + LEADING     # limbs of the square of a sum, and zeros below

ctypedef struct Natural:        # a number that is not negative: n limbs times 2**(64 * first), the last one not 0
    uint64_t limbs[ROOM]
    Py_ssize_t n
    Py_ssize_t first


cdef void trim(Natural *a) noexcept nogil:
    while a.n > 0 and a.limbs[a.n - 1] == 0:
        a.n -= 1


cdef bint set_magnitude(Natural *a, const uint64_t *limbs, Py_ssize_t n, Py_ssize_t first) noexcept nogil:
    """Set a to the magnitude of an integer. Return whether it is negative."""
    cdef Py_ssize_t i, zeros = 0
    cdef bint negative = limbs[n - 1] >> 63
    cdef uint64_t sign = -<uint64_t> negative, carry = negative
    while zeros < n - 1 and limbs[zeros] == 0:
        zeros += 1
    a.n = n - zeros
    a.first = first + zeros
    for i in range(a.n):
        a.limbs[i] = limbs[zeros + i] ^ sign
        a.limbs[i] += carry
        carry = carry and a.limbs[i] == 0
    trim(a)
    return negative


cdef void multiply_add(uint64_t *to, const uint64_t *a, Py_ssize_t n, uint64_t b) noexcept nogil:
    """Add a * b to n + 1 limbs; the last one is set."""
    cdef Py_ssize_t i
    cdef uint64_t low, high, carry = 0
    for i in range(n):
        low = multiply64(a[i], b, &high)
        carry = high + add_limb(&to[i], low, 0) + add_limb(&to[i], carry, 0)
    to[n] = carry


cdef void set_square(Natural *square, const Natural *a) noexcept nogil:
    cdef Py_ssize_t i
    square.n = 2 * a.n
    square.first = 2 * a.first
    memset(square.limbs, 0, a.n * sizeof(uint64_t))
    for i in range(a.n):
        multiply_add(square.limbs + i, a.limbs, a.n, a.limbs[i])
    trim(square)


cdef void set_multiple(Natural *product, const Natural *a, uint64_t n) noexcept nogil:
    product.n = a.n + 1
    product.first = a.first
    memset(product.limbs, 0, a.n * sizeof(uint64_t))
    multiply_add(product.limbs, a.limbs, a.n, n)
    trim(product)


cdef bint set_difference(Natural *difference, const Natural *a, const Natural *b) noexcept nogil:
    """Set it to a - b. Return whether that is negative; then it is modulo a power of two."""
    cdef Py_ssize_t i, first = min(a.first, b.first) if b.n > 0 and a.n > 0 else (b.first if b.n > 0 else a.first)
    cdef Py_ssize_t n = max(a.first + a.n if a.n > 0 else first, b.first + b.n if b.n > 0 else first) - first
    cdef uint64_t limb, carry = 1
    difference.n = n
    difference.first = first
    memset(difference.limbs, 0, n * sizeof(uint64_t))
    if a.n > 0:
        memcpy(difference.limbs + (a.first - first), a.limbs, a.n * sizeof(uint64_t))
    for i in range(n):          # plus the complement of b, and 1
        limb = b.limbs[first + i - b.first] if 0 <= first + i - b.first < b.n else 0
        carry = add_limb(&difference.limbs[i], ~limb, carry)
    trim(difference)
    return carry == 0


cdef pair leading(const Natural *a, int *exponent) noexcept nogil:
    """a as a pair times 2**exponent, to 100 bits."""
    cdef pair sum
    cdef Py_ssize_t i
    cdef uint64_t limb
    sum.hi = sum.lo = 0
    for i in range(LEADING):
        limb = a.limbs[a.n - 1 - i] if i < a.n else 0
        sum.hi *= 18446744073709551616.0
        sum.lo *= 18446744073709551616.0
        sum = add_double(add_double(sum, <double> (limb >> 32) * 4294967296.0), <uint32_t> limb)
    exponent[0] = 64 * (a.first + a.n - LEADING)
    return sum
