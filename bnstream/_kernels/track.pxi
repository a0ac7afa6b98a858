# What is tracked beside a state: the extremes of each channel, and the sums of the third and the fourth powers of its
# deviations from the mean.
#
#   block      MORE or POWERS instead of MOMENTS -> its state, and rows of what is tracked
#   merge      powers by the formulas of Pebay (2008); extremes by comparison
#
# POWERS takes four sums about a shift, with four operations an element more than the six of MOMENTS. With
# delta = mean - shift, and s2, s3, s4 the sums of the powers of d = x - shift:
#
#   m3 = s3 - 3 delta s2 + 2 n delta**3          m4 = s4 - 4 delta s3 + 6 delta**2 s2 - 3 n delta**4
#
# This loses four bits at most where s1**2 <= 0.65 n s2, that is, where delta is below 1.4 standard deviations. Otherwise the
# block is summed again about its mean. So are bytes, whose moments are sums of integers.

cdef enum:
    SOME_CHANNELS = 64          # whose terms of a merge are on the stack


cdef bint make_tracking(const View *view, const Plan *p, const Tracked *asked, Tracking *to, Work *w) noexcept nogil:
    """Allocate the scratch of a task. Return whether there was memory."""
    cdef double *rows
    to.asked = asked
    to.pitch = p.state_pitch
    to.heap = <double *> malloc((6 * p.pitch + 2 * TRACKED_ROWS * p.state_pitch + GRANULE) * sizeof(double))
    rows = at_line(to.heap)
    to.least = rows
    to.greatest = rows + p.pitch
    to.low = rows + 2 * p.pitch
    to.high = rows + 3 * p.pitch
    w.columns.cubes = rows + 4 * p.pitch
    w.columns.fourths = rows + 5 * p.pitch
    to.block = rows + 6 * p.pitch
    to.rows = to.block + TRACKED_ROWS * p.state_pitch
    to.early = asked.extremes and not (p.anchored and p.tiled)
    w.tracking = to
    w.powers = asked.powers and view.operand[0].itemsize > 1
    return to.heap != NULL


cdef void sweep_tracked(Op op, const Block *b, Count count, const Columns *w) noexcept nogil:
    """The loops of what is tracked, apart from those of the moments alone, which they would slow: registers and code."""
    if op == POWERS:
        sweep(POWERS, b, count, w)
    elif op == MORE:
        sweep(MORE, b, ALL, w)
    elif op == EXTREMES:
        sweep(EXTREMES, b, ALL, w)
    else:
        sweep(SOME_EXTREMES, b, count, w)


cdef inline void begin_block(const Block *b, Work *w) noexcept nogil:
    """Let the first sums of a block find the extremes, if they take all of its elements."""
    cdef Tracking *to = w.tracking
    to.found = to.early and b.count == ALL and b.flags == NULL and not w.large and not w.careful
    if to.found:
        w.columns.least = to.least
        w.columns.greatest = to.greatest
        fill_extremes(b.element, b.n_sums, to.least, to.greatest)


cdef inline bint all_finite(const double *values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, n_bad = 0
    for i in range(n):
        n_bad += not finite(values[i])
    return n_bad == 0


cdef void fold_extremes(const Block *b, const double *least, const double *greatest, double *rows,
                        Py_ssize_t pitch) noexcept nogil:
    """Those of each channel, from its columns (fold, channels, inner)."""
    cdef Py_ssize_t i, j, c, first
    if b.n_sums == b.n_channels:
        memcpy(rows + LEAST * pitch, least, b.n_sums * sizeof(double))
        memcpy(rows + GREATEST * pitch, greatest, b.n_sums * sizeof(double))
        return
    for c in range(b.n_channels):
        rows[LEAST * pitch + c] = INFINITY
        rows[GREATEST * pitch + c] = -INFINITY
        for i in range(b.fold):
            first = (i * b.n_channels + c) * b.inner
            for j in range(first, first + b.inner):
                rows[LEAST * pitch + c] = lesser(least[j], rows[LEAST * pitch + c])
                rows[GREATEST * pitch + c] = greater(greatest[j], rows[GREATEST * pitch + c])


cdef bint all_extremes(const Block *b, const Tracking *to) noexcept nogil:
    """The extremes of all elements of a block, less NaN. Return whether they are finite."""
    cdef Columns columns = columns_at(to.low)
    if not to.found:
        columns.least = to.least
        columns.greatest = to.greatest
        fill_extremes(b.element, b.n_sums, to.least, to.greatest)
        sweep_tracked(EXTREMES, b, ALL, &columns)
    decoded(b.element, b.n_sums, to.least, to.low)
    decoded(b.element, b.n_sums, to.greatest, to.high)
    return all_finite(to.low, b.n_sums) and all_finite(to.high, b.n_sums)


cdef void counting_extremes(const Block *b, Count count, const Tracking *to) noexcept nogil:
    """Find the extremes of the elements that count."""
    cdef Columns columns = columns_at(to.low)
    cdef Py_ssize_t j
    columns.least = to.low
    columns.greatest = to.high
    fill_extremes(FLOAT64, b.n_sums, to.low, to.high)
    sweep_tracked(SOME_EXTREMES, b, count, &columns)
    for j in range(b.n_sums):
        to.low[j] += 0.0
        to.high[j] += 0.0


cdef void find_extremes(const View *view, const Plan *p, const Task *t, Py_ssize_t index, const Block *b, Count count,
                        bint omit, bint good, const Tracking *to, double *rows) noexcept nogil:
    """The extremes of a block. `good` tells that nothing that counts is NaN, or that NaN changes nothing."""
    cdef Plan plain = p[0]
    cdef Py_ssize_t first = index * p.block_units
    cdef bint all_good
    if p.anchored and p.tiled:          # Differences from anchors are rounded, so the tile is read again without them.
        plain.anchored = False
        move_tile(view, &plain, 0, t, first, min(p.block_units, p.unit.n - first), NULL, <double *> b.layout[0].data, False)
    if b.count != ALL or b.flags != NULL:
        counting_extremes(b, count, to)
    else:
        all_good = all_extremes(b, to)
        if not (all_good if omit else good):
            counting_extremes(b, with_finite(b.count, omit), to)
    fold_extremes(b, to.low, to.high, rows, to.pitch)


cdef void find_powers(const Block *b, Count count, Work *w, const double *state, Py_ssize_t pitch,
                      double *rows) noexcept nogil:
    """m3 and m4 of a block from its sums, or from others about its mean."""
    cdef const Columns *sums = &w.columns
    cdef double *shift = w.tracking.low         # That of bytes is the same in all blocks.
    cdef Py_ssize_t c, n_far = 0
    cdef bint again = not w.powers or w.large
    for c in range(b.n_channels):
        w.moved[c] = again | (sums.s[c] / sums.n[c] * sums.s[c] > 0.65 * sums.q[c])
        n_far += w.moved[c] != 0
    if n_far > 0:
        for c in range(b.n_channels):
            shift[c] = state[MEAN * pitch + c] if w.moved[c] != 0 else w.shift[c]
        sum_again(b, count, shift, w)
    powers_from_sums(sums.n, sums.s, sums.q, sums.cubes, sums.fourths, b.n_channels, rows, w.tracking.pitch)


cdef void sum_again(const Block *b, Count count, const double *shift, Work *w) noexcept nogil:
    """Take the sums of a block once more about other shifts, by runs those of the channels that have moved."""
    cdef Columns *sums = &w.columns
    cdef Py_ssize_t c
    spread(shift, b.fold, b.n_channels, b.inner, sums.mean)
    if b.flags != NULL:
        set_unselected(b, 0, sums.mean)
    for c in range(b.n_sums):
        if not b.by_runs or w.moved[c] != 0:
            sums.s[c] = sums.q[c] = sums.cubes[c] = sums.fourths[c] = 0
            if count & FINITE:
                sums.n[c] = sums.squares[c] = 0
    sweep_tracked(POWERS, b, count, sums)
    if not b.by_runs:
        add_up(sums.s, b.fold, b.n_channels, b.inner)
        add_up(sums.q, b.fold, b.n_channels, b.inner)
        add_up(sums.cubes, b.fold, b.n_channels, b.inner)
        add_up(sums.fourths, b.fold, b.n_channels, b.inner)
        if count & FINITE:
            add_up(sums.n, b.fold, b.n_channels, b.inner)


cdef void powers_from_sums(const double *n, const double *s, const double *q, const double *cubes, const double *fourths,
                           Py_ssize_t n_channels, f64_out rows, Py_ssize_t pitch) noexcept nogil:
    cdef Py_ssize_t c
    cdef double delta, square
    cdef pair m3, m4
    for c in range(n_channels):
        delta = s[c] / (n[c] if n[c] > 0 else 1)
        square = delta * delta
        m3 = two_sum(cubes[c], 2 * square * s[c] - 3 * delta * q[c])
        m4 = two_sum(fourths[c], square * (6 * q[c] - 3 * delta * s[c]) - 4 * delta * cubes[c])
        put_power(rows, M3, pitch, c, m3)
        put_power(rows, M4, pitch, c, m4)


cdef inline void put_power(double *rows, Py_ssize_t row, Py_ssize_t pitch, Py_ssize_t c, pair power) noexcept nogil:
    """Overflow makes a power NaN, once and for all."""
    cdef bint lost = not finite(power.hi)
    rows[row * pitch + c] = NAN if lost else power.hi
    rows[(row + 1) * pitch + c] = 0 if lost else power.lo


cdef void track_block(const View *view, const Plan *p, const Task *t, Py_ssize_t index, const Block *b, Count count,
                      bint omit, Work *w, const double *state, Py_ssize_t pitch, double *rows) noexcept nogil:
    """What is tracked of a block whose state is known."""
    cdef const Tracked *asked = w.tracking.asked
    cdef bint good
    if asked.powers:
        find_powers(b, count, w, state, pitch, rows)
    if asked.extremes:
        good = all_finite(state + MEAN * pitch, b.n_channels) and all_finite(state + M2 * pitch, b.n_channels)
        find_extremes(view, p, t, index, b, count, omit, good, w.tracking, rows)


cdef void extremes_of_task(const View *view, const Plan *p, const Task *t, bint omit, Work *w) noexcept nogil:
    """The extremes of a task alone."""
    cdef const Tracking *to = w.tracking
    cdef Plan plain = p[0]
    cdef Py_ssize_t i
    cdef Block b
    plain.anchored = False
    w.tracking.found = False
    for i in range(t.start, t.stop):
        b = make_block(view, &plain, t, i, &w.columns.anchors, w.scratch.tile)
        find_extremes(view, &plain, t, i, &b, with_finite(b.count, omit), omit, True, to,
                      to.rows if i == t.start else to.block)
        if i > t.start:
            merge_extremes(to.rows, to.pitch, to.block, to.pitch, t.channels)


cdef void merge_extremes(f64_out a, Py_ssize_t a_pitch, const double *b, Py_ssize_t b_pitch, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(n):
        a[LEAST * a_pitch + c] = lesser(b[LEAST * b_pitch + c], a[LEAST * a_pitch + c])
        a[GREATEST * a_pitch + c] = greater(b[GREATEST * b_pitch + c], a[GREATEST * a_pitch + c])


cdef void merge_tracked(double *a, Py_ssize_t a_pitch, const double *a_state, Py_ssize_t a_state_pitch, const double *b,
                        Py_ssize_t b_pitch, const double *b_state, Py_ssize_t b_state_pitch, Py_ssize_t n) noexcept nogil:
    """Set a to what is tracked of a's and b's data together, before their states are merged. An empty one changes nothing.

    Without states, only extremes are.
    """
    merge_extremes(a, a_pitch, b, b_pitch, n)
    if a_state != NULL:
        merge_powers(a, a_pitch, a_state, a_state_pitch, b, b_pitch, b_state, b_state_pitch, n)


cdef void merge_powers(double *a, Py_ssize_t a_pitch, const double *a_state, Py_ssize_t a_state_pitch, const double *b,
                       Py_ssize_t b_pitch, const double *b_state, Py_ssize_t b_state_pitch, Py_ssize_t n) noexcept nogil:
    """By Pebay (2008), with the shares v = n_a / n and w = n_b / n and delta = mean_b - mean_a:

        m3 = m3_a + m3_b + delta**3 n v w (v - w) + 3 delta (v m2_b - w m2_a)
        m4 = m4_a + m4_b + delta**4 n v w (v**2 - v w + w**2) + 6 delta**2 (v**2 m2_b + w**2 m2_a)
             + 4 delta (v m3_b - w m3_a)

    What is added to the sums is rounded to double, and the sums are pairs. So the errors are those of the terms, which
    together are of the order of n sd**3 and n sd**4 however many merges there were.
    """
    cdef double to_m3[SOME_CHANNELS]
    cdef double to_m4[SOME_CHANNELS]
    cdef Py_ssize_t c = 0, some
    while c < n:
        some = min(<Py_ssize_t> SOME_CHANNELS, n - c)
        terms_of_merge(a_state + c, a_state_pitch, a + M3 * a_pitch + c, b_state + c, b_state_pitch,
                       b + M3 * b_pitch + c, some, to_m3, to_m4)
        add_power(a + M3 * a_pitch + c, a + M3_LO * a_pitch + c, b + M3 * b_pitch + c, b + M3_LO * b_pitch + c, to_m3, some)
        add_power(a + M4 * a_pitch + c, a + M4_LO * a_pitch + c, b + M4 * b_pitch + c, b + M4_LO * b_pitch + c, to_m4, some)
        c += some


cdef void add_power(f64_out a, f64_out a_lo, const double *b, const double *b_lo, const double *more,
                    Py_ssize_t n) noexcept nogil:
    """Overflow makes a power NaN, once and for all."""
    cdef Py_ssize_t c
    cdef pair own, other
    for c in range(n):
        own.hi = a[c]
        own.lo = a_lo[c]
        other.hi = b[c]
        other.lo = b_lo[c]
        own = add(own, add_double(other, more[c]))
        a[c] = own.hi if finite(own.hi) else NAN
        a_lo[c] = own.lo if finite(own.hi) else 0


cdef void terms_of_merge(const double *a, Py_ssize_t a_pitch, const double *a_m3, const double *b, Py_ssize_t b_pitch,
                         const double *b_m3, Py_ssize_t n, f64_out to_m3, f64_out to_m4) noexcept nogil:
    """What is added to the sums of m3 and of m4 of a and b, from their states."""
    cdef Py_ssize_t c
    cdef double n_a, n_b, total, v, w, delta, m2_a, m2_b, square, more
    cdef pair mean_a, mean_b
    for c in range(n):
        n_a = a[N * a_pitch + c]
        n_b = b[N * b_pitch + c]
        total = n_a + n_b
        total = total if total > 0 else 1
        v = n_a / total
        w = n_b / total
        mean_a.hi = a[MEAN * a_pitch + c]
        mean_a.lo = a[MEAN_LO * a_pitch + c]
        mean_b.hi = b[MEAN * b_pitch + c]
        mean_b.lo = b[MEAN_LO * b_pitch + c]
        m2_a = a[M2 * a_pitch + c]
        m2_b = b[M2 * b_pitch + c]
        delta = add(mean_b, negative(mean_a)).hi
        delta = delta if v * w > 0 else 0
        square = delta * delta
        more = total * v * w * square
        to_m3[c] = more * delta * (v - w) + 3 * delta * (v * m2_b - w * m2_a)
        to_m4[c] = (more * square * (v * v - v * w + w * w) + 6 * square * (v * v * m2_b + w * w * m2_a)
                    + 4 * delta * (v * b_m3[c] - w * a_m3[c]))
