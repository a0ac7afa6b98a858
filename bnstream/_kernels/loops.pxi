# The innermost loops. They walk the tables of a block, read each element once, and do one of a few things with it.
#
# The arithmetic is in double, in vectors of VECTOR doubles. The loops run across columns; sums take several rows at a time,
# so that one load and store of an accumulator serves several elements. By runs, a row is one of lanes, or a whole run, and
# all its columns belong to one channel. With all accumulators in registers, and float32 from the L2 cache, the arithmetic
# alone takes on Zen 4 0.11 ns an element for the moments, 0.14 for AFFINE, and for backward 0.11 and 0.18.

ctypedef enum Op:               # with d = x - mean; elementwise, dy is multiplied by gamma, and y becomes y * gamma + beta
    MOMENTS                     # s = sum of d, q = sum of d * d; the mean is a shift
    MORE                        # those, and EXTREMES
    POWERS                      # those, cubes = sum of d**3, fourths = sum of d**4, and EXTREMES unless there is no room
    GRADIENTS                   # s = sum of dy, q = sum of dy * d
    EXACT                       # the sums of MOMENTS, exactly
    AFFINE                      # y = d * scale + beta
    LOOK                        # as AFFINE, and report whether any x is inf
    SLOPE                       # y = dy * scale - beta - d * slope
    GUESS                       # mean = a shift near the data
    EXTREMES                    # the least and the greatest of x, as elements of its type
    SOME_EXTREMES               # those of the elements that count, as doubles
    ELEMENTWISE                 # for each batch position, the sums of dy and of dy * (d * scale + rest) over the channels
    SLOPE_ELEMENTWISE           # SLOPE, and these sums

ctypedef struct Columns:        # rows with a number for each column, or by runs for each channel
    double *mean
    Anchors anchors
    double *scale
    double *beta
    double *slope
    Py_ssize_t to_beta          # doubles from an elementwise gamma to its beta
    double *rest                # ELEMENTWISE: -mean_lo * scale
    double *each_sums           # rows of the sums
    Py_ssize_t each_pitch
    bint settles                # Sums of doubles are added to pairs.
    double *strips              # room for the sums of a strip, and for four rows of its results
    double *n                   # MOMENTS of what is finite: the sum of the weights,
    double *squares             # and that of their squares
    double *s
    double *q
    double *s_lo                # EXACT: what rounding left of s and q
    double *q_lo
    uint32_t *whole             # MOMENTS of bytes: room for two sums of each column
    const double *moved         # MOMENTS by runs: 0 for channels to pass over
    double *cubes               # POWERS
    double *fourths
    double *least               # EXTREMES, MORE, and POWERS unless NULL: elements of the type of x, or doubles
    double *greatest

ctypedef struct Table:
    Layout x, dy, y
    Py_ssize_t n_rows
    Py_ssize_t width
    Py_ssize_t tail             # columns of one more, shorter row
    bint stream                 # Results go around the caches.

ctypedef struct Sums:           # what some elements add to n, squares, s, q, cubes and fourths
    vec n
    vec squares
    vec s
    vec q
    vec cubes
    vec fourths


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
    if count & NONZERO:
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
    cdef vec value = values_of(x, n, center), d = minus(value, center.mean), g
    cdef bint some = count & ~WEIGHTED != 0 or n != VECTOR
    cdef mask m
    sums.n = weights_at(weights, at, one, count)
    if some:
        m = counted(count, value, sums.n, weights, at, one, n)
        d = keep(d, m)
        sums.n = keep(sums.n, m)
    sums.squares = sums.n * sums.n
    if op in (MOMENTS, MORE, POWERS):
        sums.s = sums.n * d if count & WEIGHTED else d
        sums.q = sums.s * d
        if op == POWERS:
            sums.cubes = sums.q * d
            sums.fourths = sums.cubes * d if count & WEIGHTED else sums.q * sums.q
    else:
        g = values_of(dy, n, center) * sums.n if count & WEIGHTED else values_of(dy, n, center)
        sums.s = keep(g, m) if some else g
        sums.q = sums.s * d
    return sums


cdef inline Sums both(Op op, Sums a, Sums b) noexcept nogil:
    a.n = a.n + b.n
    a.squares = a.squares + b.squares
    a.s = plus(a.s, b.s)
    a.q = a.q + b.q
    if op == POWERS:
        a.cubes = plus(a.cubes, b.cubes)
        a.fourths = a.fourths + b.fourths
    return a


cdef inline Sums two_terms(Op op, Count count, bint one, const native *x, const native *dy, Py_ssize_t x_pitch,
                           Py_ssize_t dy_pitch, Center center, const char *weights, Py_ssize_t at, Py_ssize_t step,
                           Py_ssize_t n) noexcept nogil:
    cdef Sums a = term(op, count, one, x, dy, center, weights, at, n)
    cdef Sums b = term(op, count, one, x + x_pitch, dy + dy_pitch, center, weights, at + step, n)
    return both(op, a, b)


cdef inline Sums four_terms(Op op, Count count, bint one, const native *x, const native *dy, Py_ssize_t x_pitch,
                            Py_ssize_t dy_pitch, Center center, const char *weights, Py_ssize_t at, Py_ssize_t step,
                            Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 2 * x_pitch, k = 2 * dy_pitch
    cdef Sums a = two_terms(op, count, one, x, dy, x_pitch, dy_pitch, center, weights, at, step, n)
    cdef Sums b = two_terms(op, count, one, x + i, dy + k, x_pitch, dy_pitch, center, weights, at + 2 * step, step, n)
    return both(op, a, b)


cdef inline Sums eight_terms(Op op, Count count, bint one, const native *x, const native *dy, Py_ssize_t x_pitch,
                             Py_ssize_t dy_pitch, Center center, const char *weights, Py_ssize_t at, Py_ssize_t step,
                             Py_ssize_t n) noexcept nogil:
    """What eight rows add. Sums in twos keep the elements in registers, and round equal terms to either side."""
    cdef Py_ssize_t i = 4 * x_pitch, k = 4 * dy_pitch
    cdef Sums a = four_terms(op, count, one, x, dy, x_pitch, dy_pitch, center, weights, at, step, n)
    cdef Sums b = four_terms(op, count, one, x + i, dy + k, x_pitch, dy_pitch, center, weights, at + 4 * step, step, n)
    return both(op, a, b)


cdef inline int sections(Op op) noexcept nogil:
    """How many rows are summed together: one of each section of a table, for that is what a CPU prefetches best.

    On Zen 4, past the cache, eight rows next to each other took 1.7 times as long for the moments, and 3.7 times for the
    gradients. Sixteen streams, of two arrays, took 1.4 times as long as eight.
    """
    return 8 if op in (MOMENTS, MORE, POWERS) else (4 if op == GRADIENTS else 1)


cdef inline void sum_vector(Op op, Count count, bint several, const native *x, const native *dy, const Table *t,
                            const Columns *w, const char *weights, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Add one row, or `several`, to the sums of n columns from column j on."""
    cdef Center center = center_of(x, w, j, False)
    cdef Py_ssize_t step = t.n_rows // sections(op), i = step * t.x.pitch, k = step * t.dy.pitch
    cdef Sums sums
    x += j
    dy += j
    if op == EXACT:
        put_pairs(w, j, add_exactly(get_pairs(w, j), minus(values_of(x, n, center), center.mean), n))
        return
    if not several:
        sums = term(op, count, False, x, dy, center, weights, 0, n)
    elif op in (MOMENTS, MORE, POWERS):
        sums = eight_terms(op, count, False, x, dy, i, k, center, weights, 0, step, n)
    else:
        sums = four_terms(op, count, False, x, dy, i, k, center, weights, 0, step, n)
    if op in (MOMENTS, MORE, POWERS) and count & FINITE:
        put(w.n + j, get(w.n + j) + sums.n)
        if count & WEIGHTED:
            put(w.squares + j, get(w.squares + j) + sums.squares)
    put(w.s + j, get(w.s + j) + sums.s)
    put(w.q + j, get(w.q + j) + sums.q)
    if op == POWERS:
        put(w.cubes + j, get(w.cubes + j) + sums.cubes)
        put(w.fourths + j, get(w.fourths + j) + sums.fourths)


cdef inline void sum_row(Op op, Count count, bint several, const native *x, const native *dy, const Table *t,
                         Py_ssize_t width, const Columns *w, const char *weights) noexcept nogil:
    cdef Py_ssize_t j = 0
    while j < width - VECTOR + 1:
        sum_vector(op, count, several, x, dy, t, w, weights, j, VECTOR)
        j += VECTOR
    if j < width:
        sum_vector(op, count, several, x, dy, t, w, weights, j, width - j)


cdef inline void sum_table(Op op, Count count, const native *x, const native *dy, const Table *t, const Columns *w,
                           const char *weights) noexcept nogil:
    cdef Py_ssize_t r, n = t.n_rows // sections(op)
    if native is uint8_t or native is int8_t:
        if op in (MOMENTS, MORE):
            byte_columns(x, t.x.pitch, t.n_rows, t.width, w.whole, w.s, w.q)
            byte_columns(x + t.n_rows * t.x.pitch, 0, t.tail > 0, t.tail, w.whole, w.s, w.q)
            if op == MORE:
                extreme_rows(x, t.x.pitch, t.n_rows, t.width, w.least, w.greatest)
                extreme_rows(x + t.n_rows * t.x.pitch, 0, t.tail > 0, t.tail, w.least, w.greatest)
            return
    for r in range(n):
        sum_row(op, count, True, x + r * t.x.pitch, dy + r * t.dy.pitch, t, t.width, w, weights + bytes_of(r, count))
        if op == MORE or op == POWERS and count == ALL and w.least != NULL:     # of the same rows, from the L1 cache
            extreme_rows(x + r * t.x.pitch, n * t.x.pitch, sections(op), t.width, w.least, w.greatest)
    for r in range(n * sections(op), t.n_rows + (t.tail > 0)):
        sum_row(op, count, False, x + r * t.x.pitch, dy + r * t.dy.pitch, t, t.width if r < t.n_rows else t.tail, w,
                weights + bytes_of(r, count))
        if op == MORE or op == POWERS and count == ALL and w.least != NULL:
            extreme_rows(x + r * t.x.pitch, 0, 1, t.width if r < t.n_rows else t.tail, w.least, w.greatest)


cdef inline mask walk_table(Op op, Count count, const native *x, const native *dy, char *y, const Table *t, const Columns *w,
                            const char *weights) noexcept nogil:
    """Apply the operation to a table of columns."""
    if op > EXACT and count == ALL and t.stream:
        return map_table(op, count, True, x, dy, y, t, w, weights)
    if op > EXACT:
        return map_table(op, count, False, x, dy, y, t, w, weights)
    sum_table(op, count, x, dy, t, w, weights)
    return first(0)


cdef inline mask walk_run(Op op, Count count, const native *x, const native *dy, char *y, const Table *t, Py_ssize_t n,
                          const Columns *w, const char *weights) noexcept nogil:
    """Apply the operation to a run of n elements of one channel."""
    if op > EXACT and count in (ALL, WEIGHTED) and t.stream:
        return map_row(op, count, True, True, 1, x, dy, y, t, n, w, weights)
    if op > EXACT:
        return map_row(op, count, True, False, 1, x, dy, y, t, n, w, weights)
    if op == EXACT:
        exact_run(x, n, w)
        return first(0)
    if native is uint8_t or native is int8_t:
        if op in (MOMENTS, MORE):
            byte_run(x, n, w.s, w.q)
            if op == MORE:
                extreme_run(x, n, w.least, w.greatest)
            return first(0)
    sum_run(op, count, x, dy, t.x.ahead, t.dy.ahead, n, w, weights)
    return first(0)


cdef inline Columns columns_at(double *rows) noexcept nogil:
    """Point all rows to one place. `of_channel` moves on in most of them, used or not, so that none may be undefined."""
    cdef Columns w
    w.mean = w.scale = w.beta = w.slope = w.rest = w.n = w.squares = w.s = w.q = w.s_lo = w.q_lo = rows
    w.cubes = w.fourths = w.anchors.high = w.anchors.low = rows
    w.each_sums = w.strips = NULL
    w.to_beta = w.each_pitch = 0
    w.settles = False
    w.least = w.greatest = NULL
    w.moved = NULL
    w.whole = NULL
    return w


cdef inline Columns of_channel(const Columns *w, Py_ssize_t c) noexcept nogil:
    cdef Columns of
    of.least = of.greatest = NULL
    of.cubes = w.cubes + c
    of.fourths = w.fourths + c
    of.mean = w.mean + c
    of.anchors.high = w.anchors.high + c
    of.anchors.low = w.anchors.low + c
    of.scale = w.scale + c
    of.beta = w.beta + c
    of.slope = w.slope + c
    of.to_beta = w.to_beta
    of.n = w.n + c
    of.squares = w.squares + c
    of.s = w.s + c
    of.q = w.q + c
    of.s_lo = w.s_lo + c
    of.q_lo = w.q_lo + c
    of.whole = NULL
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
    t.y = b.layout[2 if op == SLOPE else (1 if op > EXACT else 0)]
    t.n_rows = b.n_rows
    t.width = b.width
    t.tail = b.tail
    t.stream = b.stream
    if op > EXACT:
        t.x.ahead = b.channels_ahead * t.x.channel_pitch
        t.dy.ahead = b.channels_ahead * t.dy.channel_pitch
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                if op in (MOMENTS, MORE, POWERS) and w.moved[c] == 0:
                    continue
                of = of_channel(w, c)
                if op == MORE or op == POWERS and count == ALL and w.least != NULL:
                    of.least = <double *> (<char *> w.least + c * sizeof(native))
                    of.greatest = <double *> (<char *> w.greatest + c * sizeof(native))
                found = found | walk_run(op, count, x + c * t.x.channel_pitch, dy + c * t.dy.channel_pitch,
                                         y + c * t.y.channel_pitch * result_size(x), &t, b.width, &of, weights)
            weights += bytes_of(b.width, count)
        elif op in (MOMENTS, MORE, POWERS) or count != WEIGHTED:
            found = found | walk_table(op, count, x, dy, y, &t, w, weights)
        x += t.x.table_pitch
        dy += t.dy.table_pitch
        y += t.y.table_pitch * result_size(x)
    return any_of(found)


cdef inline bint by_count(Op op, const native *x, const native *dy, char *y, const Block *b, Count count,
                          const Columns *w) noexcept nogil:
    """A literal count gives each case a loop of its own."""
    if count == ALL:
        return walk(op, ALL, x, dy, y, b, w)
    if op == MORE:
        return False
    if count == MASKED:
        return walk(op, MASKED, x, dy, y, b, w)
    if op not in (AFFINE, LOOK) and count == FINITE:
        return walk(op, FINITE, x, dy, y, b, w)
    if op not in (AFFINE, LOOK) and count == FINITE_MASKED:
        return walk(op, FINITE_MASKED, x, dy, y, b, w)
    if op != LOOK and count == WEIGHTED:
        return walk(op, WEIGHTED, x, dy, y, b, w)
    if op in (MOMENTS, MORE, POWERS) and count == FINITE_WEIGHTED:
        return walk(op, FINITE_WEIGHTED, x, dy, y, b, w)
    if op in (MOMENTS, MORE, POWERS) and count == NONZERO_WEIGHTED:
        return walk(op, NONZERO_WEIGHTED, x, dy, y, b, w)
    return False


cdef inline bint of_floats(Op op, const native *x, char *y, const Block *b, Count count, const Columns *w) noexcept nogil:
    if op == GUESS:
        return guess(x, b, w)
    elif op == EXACT:
        walk(EXACT, ALL, x, x, y, b, w)     # of a tile of integers
    elif op == EXTREMES:
        extremes(x, b, w)
    elif op == SOME_EXTREMES:
        some_extremes(x, b, count, w)
    elif op in (ELEMENTWISE, SLOPE_ELEMENTWISE):
        sum_elementwise(op == SLOPE_ELEMENTWISE, x, <const native *> b.layout[1].data, y, b, w)
    else:
        return by_count(op, x, <const native *> b.layout[1 if op in (GRADIENTS, SLOPE) else 0].data, y, b, count, w)
    return False


cdef inline bint of_integers(Op op, const native *x, char *y, const Block *b, const Columns *w) noexcept nogil:
    """Integers are all finite, and have weights only where a tile makes them doubles."""
    if op == GUESS:
        return guess(x, b, w)
    elif op == EXACT:           # Sums of smaller integers are always exact.
        if native is i32 or native is u32 or native is i64 or native is u64:
            walk(EXACT, ALL, x, x, y, b, w)
    elif op in (AFFINE, LOOK) and b.count == MASKED:
        walk(AFFINE, MASKED, x, x, y, b, w)
    elif op in (AFFINE, LOOK):
        walk(AFFINE, ALL, x, x, y, b, w)
    elif op == MOMENTS:
        walk(MOMENTS, ALL, x, x, y, b, w)
    elif op == MORE:
        walk(MORE, ALL, x, x, y, b, w)
    elif op == POWERS:
        walk(POWERS, ALL, x, x, y, b, w)
    elif op == EXTREMES:
        extremes(x, b, w)
    return False


cdef inline bint sweep(Op op, const Block *b, Count count, const Columns *w) noexcept nogil:
    """Apply an operation to the elements of a block that count. Return whether LOOK found inf, or GUESS also NaN."""
    cdef const char *x = b.layout[0].data
    cdef char *y = b.layout[2 if op in (SLOPE, SLOPE_ELEMENTWISE) else (1 if op in (AFFINE, LOOK) else 0)].data
    if b.element == FLOAT32:
        return of_floats(op, <const f32 *> x, y, b, count, w)
    if b.element == FLOAT64:
        return of_floats(op, <const f64 *> x, y, b, count, w)
    if b.element == FLOAT16:
        return of_floats(op, <const f16 *> x, y, b, count, w)
    if b.element == BFLOAT16:
        return of_floats(op, <const bf16 *> x, y, b, count, w)
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


cdef void sum_moments(const Block *b, Count count, const Columns *w) noexcept nogil:
    """MOMENTS of the elements that count. These loops make up much of the code, so they are compiled only once."""
    sweep(MOMENTS, b, count, w)
