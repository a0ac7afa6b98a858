"""Integers of many limbs: two's complement, 64 bits each, lower limbs first."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from * nogil:
    """
    /* a * b: the lower half, and the upper one in *high. */
    static inline uint64_t bn_multiply64(uint64_t a, uint64_t b, uint64_t *high) {
    #if defined(__SIZEOF_INT128__)
        unsigned __int128 product = (unsigned __int128)a * b;
        *high = (uint64_t)(product >> 64);
        return (uint64_t)product;
    #else
        uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
        uint64_t low = al * bl, middle = ah * bl + (low >> 32), other = al * bh + (uint32_t)middle;
        *high = ah * bh + (middle >> 32) + (other >> 32);
        return other << 32 | (uint32_t)low;
    #endif
    }
    """
    uint64_t multiply64 "bn_multiply64"(uint64_t a, uint64_t b, uint64_t *high)


cdef inline uint64_t add_limb(uint64_t *limb, uint64_t value, uint64_t carry) noexcept nogil:
    """Add a value and a carry to a limb, and return the carry."""
    cdef uint64_t sum = limb[0] + value, whole = sum + carry
    limb[0] = whole
    return (sum < value) | (whole < sum)


cdef inline void carry_on(uint64_t *limbs, Py_ssize_t n, Py_ssize_t i, uint64_t sign, uint64_t carry) noexcept nogil:
    """Add a sign, 0 or -1, and a carry to each limb from i on."""
    while i < n and sign + carry != 0:
        carry = add_limb(&limbs[i], sign, carry)
        i += 1


cdef inline void add_integer(uint64_t *limbs, Py_ssize_t n, int64_t value, Py_ssize_t place) noexcept nogil:
    """Add value * 2**place. Its digits below place 0 are zeros."""
    cdef Py_ssize_t i, shift
    cdef uint64_t sign = value >> 63, carry
    if value == 0:
        return
    if place < 0:
        value >>= min(-place, 63)
        place = 0
    i = place >> 6
    shift = place & 63
    carry = add_limb(&limbs[i], <uint64_t> value << shift, 0)
    if i + 1 < n:
        carry = add_limb(&limbs[i + 1], value >> (64 - shift) if shift > 0 else sign, carry)
        carry_on(limbs, n, i + 2, sign, carry)


cdef inline bint changes_nothing(const uint64_t *limbs, uint64_t carry) noexcept nogil:
    """Whether eight limbs are 0, or -1 with a carry."""
    cdef uint64_t changes = 0
    cdef int i
    for i in range(8):
        changes |= limbs[i] ^ (0 - carry)
    return changes == 0


cdef inline void add_limbs(uint64_t *limbs, Py_ssize_t n, const uint64_t *other, Py_ssize_t n_other) noexcept nogil:
    """Add an integer of at most as many limbs."""
    cdef Py_ssize_t i = 0
    cdef uint64_t carry = 0
    while i < n_other:
        if i + 8 <= n_other and changes_nothing(other + i, carry):
            i += 8
            continue
        carry = add_limb(&limbs[i], other[i], carry)
        i += 1
    carry_on(limbs, n, n_other, -(other[n_other - 1] >> 63), carry)
