# Exact sums of what fits no window: of columns of a wide range, and of 64-bit integers.

cdef enum:
    PLACES = 8                  # A pile sums numbers below 2**48 that are shifted by 0 to 7 places: 256 fit into 64 bits.
    PART_PILES = 6              # piles from one part of 48 bits to the next
    PILED_LIMBS = 70            # for the sum of the squares of any doubles
    S_PILES = 280
    Q_PILES = 560


cdef inline uint64_t *limbs_of(const Limbs *to, Py_ssize_t channel) noexcept nogil:
    return to.limbs + channel * to.step * (to.s_limbs + to.q_limbs)


cdef inline int64_t *counts_of(const Limbs *to, Py_ssize_t channel) noexcept nogil:
    return to.counts + channel * to.step * COUNTED


cdef inline void pile_up(int64_t *piles, int n_parts, uint64_t high, uint64_t low, size_t place,
                         int64_t sign) noexcept nogil:
    """Add (high * 2**64 + low) * 2**place in a literal number of parts; with sign -1, subtract it."""
    cdef uint64_t part
    cdef int i
    for i in range(n_parts):
        part = low if i == 0 else (low >> 48 | high << 16 if i == 1 else high >> 32)
        part = (part & (<uint64_t> 1 << 48) - 1) << place % PLACES
        piles[place // PLACES + i * PART_PILES] += (<int64_t> part ^ sign) - sign


cdef inline void add_piles(uint64_t *limbs, Py_ssize_t n, const int64_t *piles, Py_ssize_t n_limbs) noexcept nogil:
    """Add the piles of some limbs, as digits of eight bits with their carries, to an integer from its first limb on."""
    cdef uint64_t number[PILED_LIMBS]
    cdef int64_t carry = 0, sum
    cdef Py_ssize_t i, k
    for i in range(n_limbs):
        number[i] = 0
        for k in range(PLACES):
            sum = piles[i * PLACES + k] + carry
            number[i] |= <uint64_t> (sum & 0xff) << 8 * k
            carry = sum >> 8
    add_limbs(limbs, n, number, min(n_limbs, n))


cdef inline void add_elements(bint few_bits, const double *x, Py_ssize_t n, Py_ssize_t last, int64_t *s,
                              int64_t *q) noexcept nogil:
    """Add multiples of 2**last and their squares to piles that begin with a limb. Few bits are at most 24."""
    cdef uint64_t bits, high, low
    cdef Py_ssize_t i, exponent
    for i in range(n):
        memcpy(&bits, &x[i], sizeof(bits))
        exponent = bits >> 52 & 0x7ff
        low = bits & (<uint64_t> 1 << 52) - 1
        low |= <uint64_t> (exponent > 0) << 52
        exponent = max(exponent, 1) - 1075
        if few_bits:
            low >>= 29
            exponent += 29
        if exponent < last:
            low >>= min(last - exponent, 63)
            exponent = last
        pile_up(s, 1 if few_bits else 2, 0, low, exponent - (last & ~63), -<int64_t> (bits >> 63))
        low = multiply64(low, low, &high)
        pile_up(q, 1 if few_bits else 3, high, low, 2 * exponent - (2 * last & ~63), 0)


cdef void add_one_by_one(const double *x, Py_ssize_t n, double most, double least, const Fixed *f,
                         Py_ssize_t channel) noexcept nogil:
    """Add at most 256 elements in this range to the limbs of their channel."""
    cdef int64_t s[S_PILES]
    cdef int64_t q[Q_PILES]
    cdef const Limbs *to = &f.to
    cdef uint64_t *limbs = limbs_of(to, channel)
    cdef Py_ssize_t last = max(exponent_of(least) - (53 if f.width == DOUBLE else 24), f.last_digit)
    cdef Py_ssize_t end = exponent_of(most), s_limb = last >> 6, q_limb = 2 * last >> 6
    cdef Py_ssize_t n_s = (end - 64 * s_limb) // 64 + 2, n_q = (2 * end - 64 * q_limb) // 64 + 2
    memset(s, 0, n_s * PLACES * sizeof(int64_t))
    memset(q, 0, n_q * PLACES * sizeof(int64_t))
    if f.width == DOUBLE:
        add_elements(False, x, n, last, s, q)
    else:
        add_elements(True, x, n, last, s, q)
    s_limb -= to.s_first
    q_limb -= to.q_first
    add_piles(limbs + s_limb, to.s_limbs - s_limb, s, n_s)
    add_piles(limbs + to.s_limbs + q_limb, to.q_limbs - q_limb, q, n_q)


cdef void add_longs(const uint64_t *x, const Block *b, bint has_sign, Py_ssize_t channel, const Limbs *to) noexcept nogil:
    """Add the integers of a channel of a tile, from x on: one run, or some of each unit."""
    cdef uint64_t *s = limbs_of(to, channel) - to.s_first
    cdef uint64_t *q = limbs_of(to, channel) + to.s_limbs - to.q_first
    cdef uint64_t sums[2]
    cdef uint64_t squares[3]
    cdef uint64_t value, sign, high, low
    cdef Py_ssize_t r, i, run = b.n if b.by_runs else b.inner
    memset(sums, 0, sizeof(sums))
    memset(squares, 0, sizeof(squares))
    for r in range(b.n // run):
        for i in range(run):
            value = x[r * b.n_channels * run + i]
            sign = -(value >> 63 & has_sign)
            sums[1] += sign + add_limb(&sums[0], value, 0)
            value = (value ^ sign) - sign
            low = multiply64(value, value, &high)
            squares[2] += add_limb(&squares[1], high, add_limb(&squares[0], low, 0))
    add_limbs(s, to.s_limbs + to.s_first, sums, 2)
    add_limbs(q, to.q_limbs + to.q_first, squares, 3)
