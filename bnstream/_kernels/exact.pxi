# The states of integers whose sums of squares exceed 2**53. Rounded sums would depend on how the data is cut into updates.

ctypedef struct Pairs:          # sums of elements and of their squares, not normalized. What rounding left adds up exactly.
    vec s
    vec s_lo
    vec q
    vec q_lo


cdef inline Pairs get_pairs(const Columns *w, Py_ssize_t j) noexcept nogil:
    cdef Pairs pairs
    pairs.s = get(w.s + j)
    pairs.s_lo = get(w.s_lo + j)
    pairs.q = get(w.q + j)
    pairs.q_lo = get(w.q_lo + j)
    return pairs


cdef inline void put_pairs(const Columns *w, Py_ssize_t j, Pairs pairs) noexcept nogil:
    put(w.s + j, pairs.s)
    put(w.s_lo + j, pairs.s_lo)
    put(w.q + j, pairs.q)
    put(w.q_lo + j, pairs.q_lo)


cdef inline Pairs add_exactly(Pairs a, vec d, Py_ssize_t n) noexcept nogil:
    """Add the first n numbers of d, and their squares."""
    cdef vec square, sum, part
    if n != VECTOR:
        d = keep(d, first(n))
    square = d * d
    sum = a.s + d
    part = minus(sum, a.s)
    a.s_lo = a.s_lo + plus(minus(a.s, minus(sum, part)), d - part)
    a.s = sum
    sum = a.q + square
    part = minus(sum, a.q)
    a.q_lo = a.q_lo + ((minus(a.q, minus(sum, part)) + (square - part)) + fma_of(d, d, -square))
    a.q = sum
    return a


cdef inline void add_pair(double *hi, double *lo, pair other) noexcept nogil:
    cdef pair sum
    sum.hi = hi[0]
    sum.lo = lo[0]
    sum = add(sum, other)
    hi[0] = sum.hi
    lo[0] = sum.lo


cdef void add_lanes(const Pairs *lanes, const Columns *w) noexcept nogil:
    """Add the sums of all lanes of a vector to those of a channel."""
    cdef double s[VECTOR]
    cdef double s_lo[VECTOR]
    cdef double q[VECTOR]
    cdef double q_lo[VECTOR]
    cdef Columns each
    cdef Py_ssize_t i
    each.s = s
    each.s_lo = s_lo
    each.q = q
    each.q_lo = q_lo
    put_pairs(&each, 0, lanes[0])
    for i in range(VECTOR):
        add_pair(w.s, w.s_lo, fast_two_sum(s[i], s_lo[i]))
        add_pair(w.q, w.q_lo, fast_two_sum(q[i], q_lo[i]))


cdef void exact_run(const native *x, Py_ssize_t n, const Columns *w) noexcept nogil:
    """Add a run of n elements of one channel to its pairs."""
    cdef Center center = center_of(x, w, 0, True)
    cdef Pairs lanes[LANES]
    cdef Py_ssize_t i, k
    for k in range(LANES // VECTOR):
        lanes[k].s = lanes[k].s_lo = lanes[k].q = lanes[k].q_lo = all_of(0)
    for i in range(n // LANES):
        for k in range(LANES // VECTOR):
            lanes[k] = add_exactly(lanes[k], minus(values_of(x + k * VECTOR, VECTOR, center), center.mean), VECTOR)
        x += LANES
    n %= LANES
    for k in range(LANES // VECTOR):
        if k * VECTOR < n:
            i = min(n - k * VECTOR, VECTOR)
            lanes[k] = add_exactly(lanes[k], minus(values_of(x + k * VECTOR, i, center), center.mean), i)
        add_lanes(&lanes[k], w)


cdef void exact_states(const Block *b, const Work *w, double *state, Py_ssize_t pitch) noexcept nogil:
    """The states of integers from sums in pairs of doubles, which are exact for deviations up to 2**53."""
    cdef Columns sums = w.columns
    cdef Py_ssize_t c, i, j, n = b.n_sums
    cdef pair mean, m2, s, q, rest
    cdef double count
    for i in range(n):
        sums.s[i] = sums.s_lo[i] = sums.q[i] = sums.q_lo[i] = 0
    sweep(EXACT, b, b.count, &sums)
    for c in range(b.n_channels):
        count = state[N * pitch + c]
        if count == 0:
            continue
        s.hi = s.lo = q.hi = q.lo = 0
        for i in range(b.fold):
            for j in range((i * b.n_channels + c) * b.inner, (i * b.n_channels + c + 1) * b.inner):
                s = add(s, fast_two_sum(sums.s[j], sums.s_lo[j]))
                q = add(q, fast_two_sum(sums.q[j], sums.q_lo[j]))
        mean = add_double(quotient(s.hi, count), s.lo / count)
        rest = add(s, negative(scale(mean, count)))         # A shift may be far away, and the squares of 2**70.
        mean = add_double(mean, rest.hi / count)
        m2 = add(q, negative(multiply(s, mean)))
        mean = add_double(mean, w.shift[c])
        state[MEAN * pitch + c] = mean.hi
        state[MEAN_LO * pitch + c] = mean.lo
        state[M2 * pitch + c] = m2.hi
        state[M2_LO * pitch + c] = m2.lo
