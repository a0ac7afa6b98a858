# The innermost loops. They walk the tables of a block, read each element once, and do one of a few things with it.
#
# The arithmetic is in double, in vectors of VECTOR doubles. The loops run across columns; sums take eight rows at a time, so
# that one load and store of an accumulator serves eight elements. By runs, a row is one of lanes, or a whole run, and all
# its columns belong to one channel. From the L2 cache this is as fast as the same arithmetic with all accumulators in
# registers: on Zen 4 0.14 ns an element for the moments, 0.18 for AFFINE, and for backward 0.17 and 0.26, in float32.

ctypedef enum Op:               # with d = x - mean
    MOMENTS                     # s = sum of d, q = sum of d * d; the mean is a shift
    GRADIENTS                   # s = sum of dy, q = sum of dy * d
    AFFINE                      # y = d * scale + beta
    LOOK                        # as AFFINE, and report whether any x is inf
    SLOPE                       # y = (dy - beta) * scale - d * slope
    GUESS                       # mean = a shift near the data

ctypedef struct Columns:        # rows with a number for each column, or by runs for each channel
    double *mean
    double *scale
    double *beta
    double *slope
    double *n
    double *s
    double *q
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

# Types that are read in place.
ctypedef fused native:
    f32
    f64
    f16
    bf16
    i16
    u16
    uint8_t
    int8_t


cdef inline bint finite(double x) noexcept nogil:
    return x - x == 0


cdef inline vec values_of(const native *x, Py_ssize_t n) noexcept nogil:
    """The first n elements as doubles; the others, up to VECTOR, are 0."""
    if native is f32:
        return load_f32(x) if n == VECTOR else load_some_f32(x, n)
    elif native is f64:
        return load_f64(x) if n == VECTOR else load_some_f64(x, n)
    elif native is f16:
        return load_f16(x) if n == VECTOR else load_some_f16(x, n)
    elif native is bf16:
        return load_bf16(x) if n == VECTOR else load_some_bf16(x, n)
    elif native is i16:
        return load_i16(x) if n == VECTOR else load_some_i16(x, n)
    elif native is u16:
        return load_u16(x) if n == VECTOR else load_some_u16(x, n)
    elif native is uint8_t:
        return load_u8(x) if n == VECTOR else load_some_u8(x, n)
    else:
        return load_i8(x) if n == VECTOR else load_some_i8(x, n)


cdef inline double value_of(const native *x) noexcept nogil:
    if native is f16:
        return half(x[0].bits)
    elif native is bf16:
        return bfloat(x[0].bits)
    else:
        return x[0]


cdef inline Py_ssize_t result_size(const native *x) noexcept nogil:
    """The bytes of an element of the result for x, which has the type of x if that is floating, else float32."""
    if native is f64 or native is f16 or native is bf16:
        return sizeof(native)
    else:
        return sizeof(f32)


cdef inline void write(const native *x, char *y, vec v, Py_ssize_t n) noexcept nogil:
    """Store the first n elements of a result for x."""
    if native is f64:
        if n == VECTOR:
            store_f64(<f64 *> y, v)
        else:
            store_some_f64(<f64 *> y, v, n)
    elif native is f16:
        if n == VECTOR:
            store_f16(<f16 *> y, v)
        else:
            store_some_f16(<f16 *> y, v, n)
    elif native is bf16:
        if n == VECTOR:
            store_bf16(<bf16 *> y, v)
        else:
            store_some_bf16(<bf16 *> y, v, n)
    else:
        if n == VECTOR:
            store_f32(<f32 *> y, v)
        else:
            store_some_f32(<f32 *> y, v, n)


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


cdef inline Sums term(Op op, Count count, bint one, const native *x, const native *dy, vec mean, const char *weights,
                      Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    """What n elements add, each to its own column. The weights of these elements begin at place `at`."""
    cdef Sums sums
    cdef vec value = values_of(x, n), d = value - mean, g
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
        g = values_of(dy, n)
        sums.s = keep(g, m) if some else g
        sums.q = sums.s * d
    return sums


cdef inline Sums plus(Sums a, Sums b) noexcept nogil:
    a.n = a.n + b.n
    a.s = a.s + b.s
    a.q = a.q + b.q
    return a


cdef inline Sums two_terms(Op op, Count count, bint one, const native *x, const native *dy, Py_ssize_t x_pitch,
                           Py_ssize_t dy_pitch, vec mean, const char *weights, Py_ssize_t at, Py_ssize_t step,
                           Py_ssize_t n) noexcept nogil:
    cdef Sums a = term(op, count, one, x, dy, mean, weights, at, n)
    cdef Sums b = term(op, count, one, x + x_pitch, dy + dy_pitch, mean, weights, at + step, n)
    return plus(a, b)


cdef inline Sums eight_terms(Op op, Count count, bint one, const native *x, const native *dy, Py_ssize_t x_pitch,
                             Py_ssize_t dy_pitch, vec mean, const char *weights, Py_ssize_t at, Py_ssize_t step,
                             Py_ssize_t n) noexcept nogil:
    """What eight rows add. Sums in twos keep the elements in registers, and round equal terms to either side."""
    cdef Py_ssize_t i = 2 * x_pitch, k = 2 * dy_pitch
    cdef Sums a = two_terms(op, count, one, x, dy, x_pitch, dy_pitch, mean, weights, at, step, n)
    cdef Sums b = two_terms(op, count, one, x + i, dy + k, x_pitch, dy_pitch, mean, weights, at + 2 * step, step, n)
    cdef Sums c
    a = plus(a, b)
    b = two_terms(op, count, one, x + 2 * i, dy + 2 * k, x_pitch, dy_pitch, mean, weights, at + 4 * step, step, n)
    c = two_terms(op, count, one, x + 3 * i, dy + 3 * k, x_pitch, dy_pitch, mean, weights, at + 6 * step, step, n)
    return plus(a, plus(b, c))


cdef inline mask update(Op op, Count count, bint one, bint eight, const native *x, const native *dy, char *y, const Table *t,
                        const Columns *w, const char *weights, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Update n columns from column j on. Sums take one row, or `eight`. Maps take one row, and the coefficients of each
    column or of `one` channel. Return which x are inf, for LOOK."""
    cdef vec mean = all_of(w.mean[0]) if one else get(w.mean + j)
    cdef vec value, d, scale, beta, slope
    cdef Py_ssize_t step, at
    cdef Sums sums
    x += j
    dy += j
    if op <= GRADIENTS:
        if eight:
            step = rows_apart(op, t)
            sums = eight_terms(op, count, False, x, dy, step * t.x.pitch, step * t.dy.pitch, mean, weights, 0, step, n)
        else:
            sums = term(op, count, False, x, dy, mean, weights, 0, n)
        if op == MOMENTS and count & FINITE:
            put(w.n + j, get(w.n + j) + sums.n)
        put(w.s + j, get(w.s + j) + sums.s)
        put(w.q + j, get(w.q + j) + sums.q)
        return first(0)
    scale = all_of(w.scale[0]) if one else get(w.scale + j)
    beta = all_of(w.beta[0]) if one else get(w.beta + j)
    value = values_of(x, n)         # x is read before y is written, which may replace it.
    d = value - mean
    if op == SLOPE:
        slope = all_of(w.slope[0]) if one else get(w.slope + j)
        d = (values_of(dy, n) - beta) * scale - d * slope
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


cdef inline Sums sum_of_lanes(Sums *lanes) noexcept nogil:
    """Halve the lanes until they fill one vector."""
    cdef Py_ssize_t k, n = LANES // VECTOR
    while n > 1:
        n //= 2
        for k in range(n):
            lanes[k] = plus(lanes[k], lanes[n + k])
    return lanes[0]


cdef inline void sum_run(Op op, Count count, const native *x, const native *dy, Py_ssize_t x_ahead, Py_ssize_t dy_ahead,
                         Py_ssize_t n, const Columns *w, const char *weights) noexcept nogil:
    """Add a run of n elements of one channel: part by part, because equal terms all round to the same side. A part is a
    table of lanes, whose sums stay in registers."""
    cdef Sums lanes[LANES]      # LANES // VECTOR of them are used.
    cdef Sums total
    cdef vec mean = all_of(w.mean[0])
    cdef Py_ssize_t i, j, k, part
    while n > 0:
        part = min(n, PART)
        n -= part
        for k in range(LANES // VECTOR):
            lanes[k].n = lanes[k].s = lanes[k].q = all_of(0)
        for i in range(part // (8 * LANES)):
            prefetch(x + x_ahead, 8 * LANES * sizeof(native))
            if op == GRADIENTS:
                prefetch(dy + dy_ahead, 8 * LANES * sizeof(native))
            for k in range(LANES // VECTOR):
                j = k * VECTOR
                total = eight_terms(op, count, True, x + j, dy + j, LANES, LANES, mean, weights, j, LANES, VECTOR)
                lanes[k] = plus(lanes[k], total)
            x += 8 * LANES
            dy += 8 * LANES
            weights += bytes_of(8 * LANES, count)
        part %= 8 * LANES
        prefetch(x + x_ahead, part * sizeof(native))
        if op == GRADIENTS:
            prefetch(dy + dy_ahead, part * sizeof(native))
        for i in range(part // LANES):
            for k in range(LANES // VECTOR):
                j = k * VECTOR
                total = term(op, count, True, x + j, dy + j, mean, weights, j, VECTOR)
                lanes[k] = plus(lanes[k], total)
            x += LANES
            dy += LANES
            weights += bytes_of(LANES, count)
        part %= LANES
        for k in range(LANES // VECTOR):
            j = k * VECTOR
            if j < part:
                total = term(op, count, True, x + j, dy + j, mean, weights, j, min(part - j, VECTOR))
                lanes[k] = plus(lanes[k], total)
        x += part
        dy += part
        weights += bytes_of(part, count)
        total = sum_of_lanes(lanes)
        if op == MOMENTS and count & FINITE:
            w.n[0] += sum_of(total.n)
        w.s[0] += sum_of(total.s)
        w.q[0] += sum_of(total.q)


cdef inline mask walk_table(Op op, Count count, const native *x, const native *dy, char *y, const Table *t, const Columns *w,
                            const char *weights, uint32_t *whole) noexcept nogil:
    """Apply the operation to a table of columns."""
    if native is uint8_t or native is int8_t:
        if op == MOMENTS:
            byte_columns(x, t.x.pitch, t.n_rows, t.width, whole, w.s, w.q)
            byte_columns(x + t.n_rows * t.x.pitch, 0, t.tail > 0, t.tail, whole, w.s, w.q)
            return first(0)
    return walk_rows(op, count, False, x, dy, y, t, w, weights)


cdef inline mask walk_run(Op op, Count count, const native *x, const native *dy, char *y, const Table *t, Py_ssize_t n,
                          const Columns *w, const char *weights) noexcept nogil:
    """Apply the operation to a run of n elements of one channel."""
    if native is uint8_t or native is int8_t:
        if op == MOMENTS:
            byte_run(x, n, w.s, w.q)
            return first(0)
    if op <= GRADIENTS:
        sum_run(op, count, x, dy, t.x.ahead, t.dy.ahead, n, w, weights)
        return first(0)
    return walk_rows(op, count, True, x, dy, y, t, w, weights)


cdef inline Columns of_channel(const Columns *w, Py_ssize_t c) noexcept nogil:
    cdef Columns of
    of.mean = w.mean + c
    of.scale = w.scale + c
    of.beta = w.beta + c
    of.slope = w.slope + c
    of.n = w.n + c
    of.s = w.s + c
    of.q = w.q + c
    of.moved = NULL
    return of


cdef inline bint walk(Op op, Count count, const native *x, const native *dy, char *y, const Block *b, const Columns *w,
                      uint32_t *whole) noexcept nogil:
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
            found = found | walk_table(op, count, x, dy, y, &t, w, weights, whole)
        x += t.x.table_pitch
        dy += t.dy.table_pitch
        y += t.y.table_pitch * result_size(x)
    return any_of(found)


cdef inline bint by_count(Op op, const native *x, const native *dy, char *y, const Block *b, bint omit, const Columns *w,
                          uint32_t *whole) noexcept nogil:
    """A literal count gives each case a loop of its own."""
    cdef int count = b.count | FINITE if omit else b.count
    if count == ALL:
        return walk(op, ALL, x, dy, y, b, w, whole)
    if count == MASKED:
        return walk(op, MASKED, x, dy, y, b, w, whole)
    if op not in (AFFINE, LOOK) and count == FINITE:
        return walk(op, FINITE, x, dy, y, b, w, whole)
    if op not in (AFFINE, LOOK) and count == FINITE_MASKED:
        return walk(op, FINITE_MASKED, x, dy, y, b, w, whole)
    if op == MOMENTS and count == WEIGHTED:
        return walk(op, WEIGHTED, x, dy, y, b, w, whole)
    if op == MOMENTS and count == FINITE_WEIGHTED:
        return walk(op, FINITE_WEIGHTED, x, dy, y, b, w, whole)
    return False


cdef inline bint of_floats(Op op, const native *x, char *y, const Block *b, bint omit, const Columns *w) noexcept nogil:
    if op == GUESS:
        guess(x, b, w.mean)
        return False
    return by_count(op, x, <const native *> b.layout[1 if op in (GRADIENTS, SLOPE) else 0].data, y, b, omit, w, NULL)


cdef inline bint of_integers(Op op, const native *x, char *y, const Block *b, const Columns *w,
                             uint32_t *whole) noexcept nogil:
    """Integers are all finite, and have weights only where a tile makes them doubles."""
    if op == GUESS:
        guess(x, b, w.mean)
    elif op in (AFFINE, LOOK) and b.count == MASKED:
        walk(AFFINE, MASKED, x, x, y, b, w, whole)
    elif op in (AFFINE, LOOK):
        walk(AFFINE, ALL, x, x, y, b, w, whole)
    elif op == MOMENTS:
        walk(MOMENTS, ALL, x, x, y, b, w, whole)
    return False


cdef inline bint sweep(Op op, const Block *b, bint omit, const Columns *w, uint32_t *whole) noexcept nogil:
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
        return of_integers(op, <const uint8_t *> x, y, b, w, whole)
    if b.element == INT8:
        return of_integers(op, <const int8_t *> x, y, b, w, whole)
    if b.element == UINT16:
        return of_integers(op, <const u16 *> x, y, b, w, whole)
    return of_integers(op, <const i16 *> x, y, b, w, whole)
