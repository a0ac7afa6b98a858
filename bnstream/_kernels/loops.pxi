# The innermost loops. They walk the tables of a block, read each element once, and do one of a few things with it.
#
# The arithmetic is in double, in vectors of VECTOR doubles. The loops run across columns; sums take eight rows at a time, so
# that one load and store of an accumulator serves eight elements. By runs, a row is one of lanes, or a whole run, and all
# its columns belong to one channel. From the L2 cache this is as fast as the same arithmetic with all accumulators in
# registers: on Zen 4 0.14 ns an element for the moments, 0.18 for AFFINE, and for backward 0.17 and 0.26, in float32.

ctypedef enum Op:               # with d = x - mean
    MOMENTS                     # s = sum of d, q = sum of d * d; the mean is a shift
    GRADIENTS                   # s = sum of dy, q = sum of dy * d
    EXACT                       # the sums of MOMENTS, exactly
    AFFINE                      # y = d * scale + beta
    LOOK                        # as AFFINE, and report whether any x is inf
    SLOPE                       # y = (dy - beta) * scale - d * slope
    GUESS                       # mean = a shift near the data

ctypedef struct Columns:        # rows with a number for each column, or by runs for each channel
    double *mean
    Anchors anchors
    double *scale
    double *beta
    double *slope
    double *n
    double *s
    double *q
    double *s_lo                # EXACT: what rounding left of s and q
    double *q_lo
    uint32_t *whole             # MOMENTS of bytes: room for two sums of each column
    const double *moved         # MOMENTS by runs: 0 for channels to pass over

ctypedef struct Table:
    Layout x, dy, y
    Py_ssize_t n_rows
    Py_ssize_t width
    Py_ssize_t tail             # columns of one more, shorter row

ctypedef struct Sums:           # what some elements add to n, s and q
    vec n
    vec s
    vec q


cdef inline vec weights_at(const char *weights, Py_ssize_t at, bint one, Count count) noexcept nogil:
    """The weights of a vector: those of `one` channel's elements from `at` on, or that of row `at`."""
    if not count & WEIGHTED:
        return all_of(1)
    return get(<const double *> weights + at) if one else all_of((<const double *> weights)[at])


cdef inline mask counted(Count count, vec x, vec weight, const char *flags, Py_ssize_t at, bint one,
                         Py_ssize_t n) noexcept nogil:
    """Which of the first n elements count."""
    cdef mask m = first(n)
    if count & FINITE:
        m = m & finite_of(x)
    if count & MASKED:
        m = m & (flags_of(<const flag *> flags + at) if one else flag_of((<const flag *> flags)[at]))
    if count & WEIGHTED:
        m = m & nonzero(weight)
    return m


cdef inline Center center_of(const native *x, const Columns *w, Py_ssize_t j, bint one) noexcept nogil:
    """What is subtracted in the columns from j on, or in those of `one` channel."""
    cdef Center center
    center.mean = all_of(w.mean[0]) if one else get(w.mean + j)
    if native is i64 or native is u64:
        center.high = all_of(w.anchors.high[0]) if one else get(w.anchors.high + j)
        center.low = all_of(w.anchors.low[0]) if one else get(w.anchors.low + j)
    return center


cdef inline Sums term(Op op, Count count, bint one, const native *x, const native *dy, Center center, const char *weights,
                      Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    """What n elements add, each to its own column. The weights of these elements begin at place `at`."""
    cdef Sums sums
    cdef vec value = values_of(x, n, center), d = value - center.mean, g
    cdef bint some = count != ALL or n != VECTOR
    cdef mask m
    sums.n = weights_at(weights, at, one, count)
    if some:
        m = counted(count, value, sums.n, weights, at, one, n)
        d = keep(d, m)
        sums.n = keep(sums.n, m)
    if op == MOMENTS:
        sums.s = sums.n * d if count & WEIGHTED else d
        sums.q = sums.s * d
    else:
        g = values_of(dy, n, center)
        sums.s = keep(g, m) if some else g
        sums.q = sums.s * d
    return sums


cdef inline Sums plus(Sums a, Sums b) noexcept nogil:
    a.n = a.n + b.n
    a.s = a.s + b.s
    a.q = a.q + b.q
    return a


cdef inline Sums two_terms(Op op, Count count, bint one, const native *x, const native *dy, Py_ssize_t x_pitch,
                           Py_ssize_t dy_pitch, Center center, const char *weights, Py_ssize_t at, Py_ssize_t step,
                           Py_ssize_t n) noexcept nogil:
    cdef Sums a = term(op, count, one, x, dy, center, weights, at, n)
    cdef Sums b = term(op, count, one, x + x_pitch, dy + dy_pitch, center, weights, at + step, n)
    return plus(a, b)


cdef inline Sums eight_terms(Op op, Count count, bint one, const native *x, const native *dy, Py_ssize_t x_pitch,
                             Py_ssize_t dy_pitch, Center center, const char *weights, Py_ssize_t at, Py_ssize_t step,
                             Py_ssize_t n) noexcept nogil:
    """What eight rows add. Sums in twos keep the elements in registers, and round equal terms to either side."""
    cdef Py_ssize_t i = 2 * x_pitch, k = 2 * dy_pitch
    cdef Sums a = two_terms(op, count, one, x, dy, x_pitch, dy_pitch, center, weights, at, step, n)
    cdef Sums b = two_terms(op, count, one, x + i, dy + k, x_pitch, dy_pitch, center, weights, at + 2 * step, step, n)
    cdef Sums c
    a = plus(a, b)
    b = two_terms(op, count, one, x + 2 * i, dy + 2 * k, x_pitch, dy_pitch, center, weights, at + 4 * step, step, n)
    c = two_terms(op, count, one, x + 3 * i, dy + 3 * k, x_pitch, dy_pitch, center, weights, at + 6 * step, step, n)
    return plus(a, plus(b, c))


cdef inline mask update(Op op, Count count, bint one, bint eight, const native *x, const native *dy, char *y, const Table *t,
                        const Columns *w, const char *weights, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Update n columns from column j on. Sums take one row, or `eight`. Maps take one row, and the coefficients of each
    column or of `one` channel. Return which x are inf, for LOOK."""
    cdef Center center = center_of(x, w, j, one)
    cdef vec value, d, scale, beta, slope
    cdef Py_ssize_t step, at
    cdef Sums sums
    x += j
    dy += j
    if op <= GRADIENTS:
        if eight:
            step = rows_apart(op, t)
            sums = eight_terms(op, count, False, x, dy, step * t.x.pitch, step * t.dy.pitch, center, weights, 0, step, n)
        else:
            sums = term(op, count, False, x, dy, center, weights, 0, n)
        if op == MOMENTS and count & FINITE:
            put(w.n + j, get(w.n + j) + sums.n)
        put(w.s + j, get(w.s + j) + sums.s)
        put(w.q + j, get(w.q + j) + sums.q)
        return first(0)
    if op == EXACT:
        put_pairs(w, j, add_exactly(get_pairs(w, j), values_of(x, n, center) - center.mean, n))
        return first(0)
    scale = all_of(w.scale[0]) if one else get(w.scale + j)
    beta = all_of(w.beta[0]) if one else get(w.beta + j)
    value = values_of(x, n, center)     # x is read before y is written, which may replace it.
    d = value - center.mean
    if op == SLOPE:
        slope = all_of(w.slope[0]) if one else get(w.slope + j)
        d = (values_of(dy, n, center) - beta) * scale - d * slope
    else:
        d = d * scale + beta
    if count != ALL:
        at = j if one else 0
        d = keep(d, counted(count, value, weights_at(weights, at, one, count), weights, at, one, n))
    write(x, y + j * result_size(x), d, n)
    return infinite(value) if op == LOOK else first(0)


cdef inline mask walk_columns(Op op, Count count, bint one, bint eight, const native *x, const native *dy, char *y,
                              const Table *t, Py_ssize_t width, const Columns *w, const char *weights) noexcept nogil:
    """Update `width` columns by a row, or by `eight`."""
    cdef Py_ssize_t j = 0
    cdef mask found = first(0)
    while j < width - VECTOR + 1:
        found = found | update(op, count, one, eight, x, dy, y, t, w, weights, j, VECTOR)
        j += VECTOR
    if j < width:
        found = found | update(op, count, one, eight, x, dy, y, t, w, weights, j, width - j)
    return found


cdef inline Py_ssize_t rows_apart(Op op, const Table *t) noexcept nogil:
    """The distance of the rows that are summed together.

    One stream in each eighth of the table is what a CPU prefetches best: past the cache, rows next to each other, and a
    prefetch of ours, took 1.7 times as long on Zen 4. The sixteen streams of the gradients would displace each other.
    """
    return t.n_rows // 8 if op == MOMENTS else 1


cdef inline mask walk_rows(Op op, Count count, bint one, const native *x, const native *dy, char *y, const Table *t,
                           const Columns *w, const char *weights) noexcept nogil:
    cdef Py_ssize_t r, rest = t.n_rows, step
    cdef mask found = first(0)
    if op <= GRADIENTS:
        rest = t.n_rows % 8
        step = 1 if op == MOMENTS else 8        # from one eight to the next
        for r in range(t.n_rows // 8):
            walk_columns(op, count, one, True, x + r * step * t.x.pitch, dy + r * step * t.dy.pitch, y, t, t.width, w,
                         weights + bytes_of(r * step, count))
        r = t.n_rows - rest
        x += r * t.x.pitch
        dy += r * t.dy.pitch
        weights += bytes_of(r, count)
    for r in range(rest + (t.tail > 0)):
        found = found | walk_columns(op, count, one, False, x, dy, y, t, t.width if r < rest else t.tail, w, weights)
        x += t.x.pitch
        dy += t.dy.pitch
        y += t.y.pitch * result_size(x)
        weights += bytes_of(1, count)
    return found


cdef inline mask walk_table(Op op, Count count, const native *x, const native *dy, char *y, const Table *t, const Columns *w,
                            const char *weights) noexcept nogil:
    """Apply the operation to a table of columns."""
    if native is uint8_t or native is int8_t:
        if op == MOMENTS:
            byte_columns(x, t.x.pitch, t.n_rows, t.width, w.whole, w.s, w.q)
            byte_columns(x + t.n_rows * t.x.pitch, 0, t.tail > 0, t.tail, w.whole, w.s, w.q)
            return first(0)
    return walk_rows(op, count, False, x, dy, y, t, w, weights)


cdef inline mask walk_run(Op op, Count count, const native *x, const native *dy, char *y, const Table *t, Py_ssize_t n,
                          const Columns *w, const char *weights) noexcept nogil:
    """Apply the operation to a run of n elements of one channel."""
    if native is uint8_t or native is int8_t:
        if op == MOMENTS:
            byte_run(x, n, w.s, w.q)
            return first(0)
    if op == EXACT:
        exact_run(x, n, w)
        return first(0)
    if op <= GRADIENTS:
        sum_run(op, count, x, dy, t.x.ahead, t.dy.ahead, n, w, weights)
        return first(0)
    return walk_rows(op, count, True, x, dy, y, t, w, weights)


cdef inline Columns of_channel(const Columns *w, Py_ssize_t c) noexcept nogil:
    cdef Columns of
    of.mean = w.mean + c
    of.anchors.high = w.anchors.high + c
    of.anchors.low = w.anchors.low + c
    of.scale = w.scale + c
    of.beta = w.beta + c
    of.slope = w.slope + c
    of.n = w.n + c
    of.s = w.s + c
    of.q = w.q + c
    of.s_lo = w.s_lo + c
    of.q_lo = w.q_lo + c
    of.whole = NULL             # A run of bytes has its own.
    of.moved = NULL
    return of


cdef inline bint walk(Op op, Count count, const native *x, const native *dy, char *y, const Block *b,
                      const Columns *w) noexcept nogil:
    """Apply the operation to the tables of a block one after the other: by runs, this is the order of memory."""
    cdef Table t
    cdef Columns of
    cdef const char *weights = b.weights
    cdef Py_ssize_t i, c
    cdef mask found = first(0)
    t.x = b.layout[0]
    t.dy = b.layout[1 if op in (GRADIENTS, SLOPE) else 0]
    t.y = b.layout[2 if op == SLOPE else (1 if op > GRADIENTS else 0)]
    t.n_rows = b.n_rows
    t.width = b.width
    t.tail = b.tail
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                if op == MOMENTS and w.moved[c] == 0:
                    continue
                of = of_channel(w, c)
                found = found | walk_run(op, count, x + c * t.x.channel_pitch, dy + c * t.dy.channel_pitch,
                                         y + c * t.y.channel_pitch * result_size(x), &t, b.width, &of, weights)
            weights += bytes_of(b.width, count)
        else:
            found = found | walk_table(op, count, x, dy, y, &t, w, weights)
        x += t.x.table_pitch
        dy += t.dy.table_pitch
        y += t.y.table_pitch * result_size(x)
    return any_of(found)


cdef inline bint by_count(Op op, const native *x, const native *dy, char *y, const Block *b, bint omit,
                          const Columns *w) noexcept nogil:
    """A literal count gives each case a loop of its own."""
    cdef int count = b.count | FINITE if omit else b.count
    if count == ALL:
        return walk(op, ALL, x, dy, y, b, w)
    if count == MASKED:
        return walk(op, MASKED, x, dy, y, b, w)
    if op not in (AFFINE, LOOK) and count == FINITE:
        return walk(op, FINITE, x, dy, y, b, w)
    if op not in (AFFINE, LOOK) and count == FINITE_MASKED:
        return walk(op, FINITE_MASKED, x, dy, y, b, w)
    if op == MOMENTS and count == WEIGHTED:
        return walk(op, WEIGHTED, x, dy, y, b, w)
    if op == MOMENTS and count == FINITE_WEIGHTED:
        return walk(op, FINITE_WEIGHTED, x, dy, y, b, w)
    return False


cdef inline bint of_floats(Op op, const native *x, char *y, const Block *b, bint omit, const Columns *w) noexcept nogil:
    if op == GUESS:
        guess(x, b, w)
    elif op == EXACT:
        walk(EXACT, ALL, x, x, y, b, w)     # of a tile of integers
    else:
        return by_count(op, x, <const native *> b.layout[1 if op in (GRADIENTS, SLOPE) else 0].data, y, b, omit, w)
    return False


cdef inline bint of_integers(Op op, const native *x, char *y, const Block *b, const Columns *w) noexcept nogil:
    """Integers are all finite, and have weights only where a tile makes them doubles."""
    if op == GUESS:
        guess(x, b, w)
    elif op == EXACT:           # Sums of smaller integers are always exact.
        if native is i32 or native is u32 or native is i64 or native is u64:
            walk(EXACT, ALL, x, x, y, b, w)
    elif op in (AFFINE, LOOK) and b.count == MASKED:
        walk(AFFINE, MASKED, x, x, y, b, w)
    elif op in (AFFINE, LOOK):
        walk(AFFINE, ALL, x, x, y, b, w)
    elif op == MOMENTS:
        walk(MOMENTS, ALL, x, x, y, b, w)
    return False


cdef inline bint sweep(Op op, const Block *b, bint omit, const Columns *w) noexcept nogil:
    """Apply an operation to a block; `omit` leaves out NaN and inf. Return whether any x is inf, for LOOK."""
    cdef const char *x = b.layout[0].data
    cdef char *y = b.layout[2 if op == SLOPE else (1 if op in (AFFINE, LOOK) else 0)].data
    if b.element == FLOAT32:
        return of_floats(op, <const f32 *> x, y, b, omit, w)
    if b.element == FLOAT64:
        return of_floats(op, <const f64 *> x, y, b, omit, w)
    if b.element == FLOAT16:
        return of_floats(op, <const f16 *> x, y, b, omit, w)
    if b.element == BFLOAT16:
        return of_floats(op, <const bf16 *> x, y, b, omit, w)
    if b.element == UINT8:
        return of_integers(op, <const uint8_t *> x, y, b, w)
    if b.element == INT8:
        return of_integers(op, <const int8_t *> x, y, b, w)
    if b.element == UINT16:
        return of_integers(op, <const u16 *> x, y, b, w)
    if b.element == INT32:
        return of_integers(op, <const i32 *> x, y, b, w)
    if b.element == UINT32:
        return of_integers(op, <const u32 *> x, y, b, w)
    if b.element == INT64:
        return of_integers(op, <const i64 *> x, y, b, w)
    if b.element == UINT64:
        return of_integers(op, <const u64 *> x, y, b, w)
    return of_integers(op, <const i16 *> x, y, b, w)
