# The states of integers whose sums of squares exceed 2**53.

cdef inline void exact_row(const double *x, Py_ssize_t width, const double *shift, f64_out s, f64_out s_lo, f64_out q,
                           f64_out q_lo) noexcept nogil:
    """Add a row to sums that are pairs of doubles. The pairs are not normalized. Their lower halves add up exactly."""
    cdef Py_ssize_t j
    cdef double d
    cdef pair sum, square
    for j in range(width):
        d = x[j] - shift[j]
        sum = two_sum(s[j], d)
        s[j] = sum.hi
        s_lo[j] += sum.lo
        square = two_product(d, d)
        sum = two_sum(q[j], square.hi)
        q[j] = sum.hi
        q_lo[j] += sum.lo + square.lo


cdef void exact_states(const Block *b, const Work *w, double *state, Py_ssize_t pitch) noexcept nogil:
    """The states of a tile of integers, summed once more, in pairs of doubles.

    They are exact for deviations up to 2**53. Rounded sums would depend on how the data is cut into updates.
    """
    cdef const double *x = <const double *> b.layout[0].data
    cdef Py_ssize_t c
    if b.by_runs:
        for c in range(b.n_channels):
            exact_columns(x + c * b.n, b.n, LANES, 1, 1, w.shift + c, w.exact, state + c, pitch)
    else:
        exact_columns(x, b.n * b.n_channels, b.fold, b.n_channels, b.inner, w.shift, w.exact, state, pitch)


cdef void exact_columns(const double *x, Py_ssize_t n, Py_ssize_t fold, Py_ssize_t channels, Py_ssize_t inner,
                        const double *shift, double *room, double *state, Py_ssize_t pitch) noexcept nogil:
    """As `exact_states`, for n elements in rows of columns (fold, channels, inner)."""
    cdef double *sums = room + NARROW
    cdef Py_ssize_t c, i, j, width = fold * channels * inner
    cdef pair mean, m2, s, q
    spread(shift, fold, channels, inner, room)
    memset(sums, 0, (EXACT_ROWS - 1) * NARROW * sizeof(double))
    while n > 0:
        exact_row(x, min(n, width), room, sums, sums + NARROW, sums + 2 * NARROW, sums + 3 * NARROW)
        x += width
        n -= width
    for c in range(channels):
        if state[N * pitch + c] == 0:
            continue
        s.hi = s.lo = q.hi = q.lo = 0
        for i in range(fold):
            for j in range((i * channels + c) * inner, (i * channels + c + 1) * inner):
                s = add(s, fast_two_sum(sums[j], sums[NARROW + j]))
                q = add(q, fast_two_sum(sums[2 * NARROW + j], sums[3 * NARROW + j]))
        mean = add_double(quotient(s.hi, state[N * pitch + c]), s.lo / state[N * pitch + c])
        m2 = add(q, negative(multiply(s, mean)))
        mean = add_double(mean, shift[c])
        state[MEAN * pitch + c] = mean.hi
        state[MEAN_LO * pitch + c] = mean.lo
        state[M2 * pitch + c] = m2.hi
        state[M2_LO * pitch + c] = m2.lo
