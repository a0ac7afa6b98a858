# The state of a channel: n, mean and m2 (sum of squared deviations), where mean and m2 are pairs of doubles. An array of
# states has STATE_ROWS rows, or WEIGHTED_ROWS, `pitch` doubles apart (see _table.pxd). The loops run across channels.

cdef inline void settle(pair *mean, pair *m2, double plain_mean) noexcept nogil:
    """Turn what pair arithmetic makes of inf, NaN and overflow into what NumPy would return."""
    mean.hi = plain_mean if mean.hi != mean.hi else mean.hi
    mean.hi = NAN if mean.hi != mean.hi else mean.hi                    # one NaN at every level
    mean.lo = 0 if mean.lo != mean.lo else mean.lo
    m2.lo = 0 if m2.lo != m2.lo else m2.lo
    m2.hi = INFINITY if m2.hi != m2.hi and finite(mean.hi) else m2.hi   # overflow of squares
    m2.hi = NAN if m2.hi != m2.hi else m2.hi


cdef void finish(const double *n, const double *shift, const double *s, const double *q, f64_out state, Py_ssize_t pitch,
                 Py_ssize_t n_channels) noexcept nogil:
    """The states of a block from s = sum of d and q = sum of d * d, where d = x - shift:

        mean = shift + s / n        m2 = q - s * s / n
    """
    cdef Py_ssize_t c
    cdef pair step, mean, m2, loss
    for c in range(n_channels):
        step = quotient(s[c], n[c] if n[c] > 0 else 1)
        mean = two_sum(shift[c], step.hi)
        mean = fast_two_sum(mean.hi, mean.lo + step.lo)
        loss = scale(step, s[c])
        m2 = two_sum(q[c], -loss.hi)
        m2 = fast_two_sum(m2.hi, m2.lo - loss.lo)
        settle(&mean, &m2, shift[c] + s[c] / (n[c] if n[c] > 0 else 1))
        state[N * pitch + c] = n[c]
        state[MEAN * pitch + c] = mean.hi if n[c] > 0 else 0
        state[MEAN_LO * pitch + c] = mean.lo if n[c] > 0 else 0
        m2.lo = m2.lo if m2.hi > 0 else 0
        m2.hi = 0 if m2.hi < 0 else m2.hi
        state[M2 * pitch + c] = m2.hi if n[c] > 0 else 0
        state[M2_LO * pitch + c] = m2.lo if n[c] > 0 else 0


cdef void merge(f64_out a, Py_ssize_t a_pitch, f64_out n_lo, const double *b, Py_ssize_t b_pitch,
                Py_ssize_t n_channels) noexcept nogil:
    """Set a to the states of a's and b's data together. An empty state, all zeros, changes nothing. Counts add up exactly.

    `n_lo`, if not NULL, means that n is a sum of weights. It collects what rounding leaves of n until it amounts to a digit.
    """
    cdef Py_ssize_t c
    cdef pair total
    if n_lo == NULL:
        merge_rows(a, a_pitch, b, b_pitch, n_channels, False)
        return
    for c in range(n_channels):
        n_lo[c] += two_sum(a[N * a_pitch + c], b[N * b_pitch + c]).lo
    merge_rows(a, a_pitch, b, b_pitch, n_channels, True)
    for c in range(n_channels):
        total = fast_two_sum(a[N * a_pitch + c], n_lo[c])
        a[N * a_pitch + c] = total.hi
        n_lo[c] = total.lo


cdef inline void merge_states(double *a, Py_ssize_t a_pitch, const double *b, Py_ssize_t b_pitch, Py_ssize_t n_channels,
                              bint weighted) noexcept nogil:
    """The same for states that both have all rows of weighted states, if they are `weighted`."""
    cdef Py_ssize_t c
    if weighted:
        for c in range(n_channels):
            a[N_LO * a_pitch + c] += b[N_LO * b_pitch + c]
            a[SQUARES * a_pitch + c] += b[SQUARES * b_pitch + c]
    merge(a, a_pitch, a + N_LO * a_pitch if weighted else NULL, b, b_pitch, n_channels)


cdef inline void merge_rows(f64_out a, Py_ssize_t a_pitch, const double *b, Py_ssize_t b_pitch, Py_ssize_t n_channels,
                            bint weighted) noexcept nogil:
    """Merge by the formula of Chan, Golub and LeVeque (1983), with w = n_b / n:

        n = n_a + n_b       mean = mean_a + delta * w       m2 = m2_a + m2_b + delta * delta * n_a * w

    About 70 operations for each channel. With counts, n and so w are exact to 76 bits. A sum of weights is rounded, and w
    errs by 2**-53: then the lighter side is b, so that the mean errs by delta * w * 2**-53. As m2 grows by at least
    delta * delta * n_b / 2, the errors of all merges together stay below the standard deviation times 2**-52, whatever the
    weights and their order. With the heavier side as b, the mean would err by delta * 2**-53.
    """
    cdef Py_ssize_t c
    cdef double n, n_a, n_b
    cdef bint swap
    cdef pair w, delta, step, mean_a, mean_b, mean, m2_a, m2_b, m2
    for c in range(n_channels):
        n_a = a[N * a_pitch + c]
        n_b = b[N * b_pitch + c]
        n = n_a + n_b
        mean_a.hi = a[MEAN * a_pitch + c]
        mean_a.lo = a[MEAN_LO * a_pitch + c]
        mean_b.hi = b[MEAN * b_pitch + c]
        mean_b.lo = b[MEAN_LO * b_pitch + c]
        m2_a.hi = a[M2 * a_pitch + c]
        m2_a.lo = a[M2_LO * a_pitch + c]
        m2_b.hi = b[M2 * b_pitch + c]
        m2_b.lo = b[M2_LO * b_pitch + c]
        if weighted:
            swap = n_b > n_a
            mean = mean_a
            mean_a.hi = mean_b.hi if swap else mean_a.hi
            mean_a.lo = mean_b.lo if swap else mean_a.lo
            mean_b.hi = mean.hi if swap else mean_b.hi
            mean_b.lo = mean.lo if swap else mean_b.lo
            n_b = n_a if swap else n_b
            n_a = b[N * b_pitch + c] if swap else n_a
        w = quotient(n_b, n if n > 0 else 1)
        delta = add(mean_b, negative(mean_a))
        step = multiply(delta, w)
        mean = add(mean_a, step)
        m2 = add(add(m2_a, m2_b), multiply(delta, scale(step, n_a)))
        settle(&mean, &m2, mean_a.hi * (1 - w.hi) + mean_b.hi * w.hi)
        a[N * a_pitch + c] = n
        a[MEAN * a_pitch + c] = mean.hi
        a[MEAN_LO * a_pitch + c] = mean.lo
        a[M2 * a_pitch + c] = m2.hi
        a[M2_LO * a_pitch + c] = m2.lo


cdef void pool_states(double *state, Py_ssize_t pitch, Py_ssize_t n_channels, Py_ssize_t group) noexcept nogil:
    """Give each channel the state of its group, in place, some 10 ns for each. With the first channel's mean as `origin`:

        mean = origin + sum of n_c * (mean_c - origin) / n      m2 = sum of m2_c + n_c * (mean_c - mean)**2

    The mean of equal means is that mean, so that a constant group has m2 = 0.
    """
    cdef Py_ssize_t i, first, c
    cdef double n, divisor
    cdef pair origin, mean, m2, total, deviation, of_channel
    for i in range(div(n_channels, group)):
        first = i * group
        n = total.hi = total.lo = m2.hi = m2.lo = origin.hi = origin.lo = 0
        for c in range(first, first + group):
            of_channel = mean_of(state, pitch, c)
            if n == 0:              # Channels before have no values.
                origin = of_channel
            n += state[N * pitch + c]
            deviation = add(of_channel, negative(origin))
            total = add(total, scale(deviation, state[N * pitch + c]))
        divisor = n if n > 0 else 1
        mean = quotient(total.hi, divisor)
        mean = add(origin, fast_two_sum(mean.hi, mean.lo + total.lo / divisor))
        for c in range(first, first + group):
            deviation = add(mean_of(state, pitch, c), negative(mean))
            of_channel.hi = state[M2 * pitch + c]
            of_channel.lo = state[M2_LO * pitch + c]
            m2 = add(m2, add_double(of_channel, state[N * pitch + c] * deviation.hi * deviation.hi))
        settle(&mean, &m2, origin.hi + total.hi / divisor)
        for c in range(first, first + group):
            state[N * pitch + c] = n
            state[MEAN * pitch + c] = mean.hi
            state[MEAN_LO * pitch + c] = mean.lo
            state[M2 * pitch + c] = m2.hi
            state[M2_LO * pitch + c] = m2.lo


cdef inline pair mean_of(const double *state, Py_ssize_t pitch, Py_ssize_t c) noexcept nogil:
    cdef pair mean
    mean.hi = state[MEAN * pitch + c]
    mean.lo = state[MEAN_LO * pitch + c]
    return mean


cdef void emit(const double *state, Py_ssize_t pitch, Py_ssize_t n_channels, const Sink *sink, Py_ssize_t first,
               Py_ssize_t step, bint weighted) noexcept nogil:
    """Write the states of n_channels to places first, first + step, ... of the sink."""
    cdef Py_ssize_t i
    if sink.state != NULL:
        for i in range(WEIGHTED_ROWS if weighted else STATE_ROWS):
            emit_row(state + i * pitch, n_channels, sink.state + i * sink.pitch + first, step)
    else:
        emit_moments(state, pitch, n_channels, sink, first, step)


cdef inline void emit_row(const double *values, Py_ssize_t n, double *out, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t c
    if step == 1:
        memcpy(out, values, n * sizeof(double))
        return
    for c in range(n):
        out[c * step] = values[c]


cdef void emit_moments(const double *state, Py_ssize_t pitch, Py_ssize_t n_channels, const Sink *sink, Py_ssize_t first,
                       Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t i, k, part, some
    cdef double n
    cdef double mean[NARROW_COLUMNS]
    cdef double var[NARROW_COLUMNS]
    cdef Operand to
    to.element = sink.element
    to.swapped = False
    to.itemsize = 8 if to.element == FLOAT64 else (4 if to.element == FLOAT32 else 2)
    for part in range(ceil_div(n_channels, NARROW_COLUMNS)):
        k = part * NARROW_COLUMNS
        some = min(<Py_ssize_t> NARROW_COLUMNS, n_channels - k)
        for i in range(some):
            n = state[N * pitch + k + i]
            mean[i] = state[MEAN * pitch + k + i] if n > 0 else NAN
            var[i] = state[M2 * pitch + k + i] / (n - sink.ddof) if n > sink.ddof and n > 0 else NAN
        store(mean, step * to.itemsize, some, &to, sink.mean + (first + k * step) * to.itemsize)
        store(var, step * to.itemsize, some, &to, sink.var + (first + k * step) * to.itemsize)
