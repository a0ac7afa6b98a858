# Forward: y = (x - mean) * scale + (beta - mean_lo * scale),    scale = gamma / sqrt(m2 / n + eps)
#
# The arithmetic is in double, and the result is rounded once to the type of y. The error is half an ulp, whereas
# x * alpha + beta' in single precision loses as many digits as mean / sd has. Each element costs a conversion, three
# operations and a conversion back. Past the cache, two cores read and write 18 GB/s, which is as much as with half as many
# operations in single precision (19), or as a copy (17 to 20). Stores that bypass the cache ran at 12 to 15.
#
# As in the sums, the loops run across columns. By runs, a row is a run of one channel, and the coefficients are scalars.

ctypedef struct Coefficients:   # rows with a number for each channel, then for each column
    double *room
    double *mean
    double *mean_lo
    double *scale
    double *beta
    double *slope               # backward only
    double *n                   # for channels only
    double *invstd              # for channels only
    uint64_t *anchor            # for channels only


cdef bint make_rows(Coefficients *w, const Plan *p, Py_ssize_t n_more, double *stack) noexcept nogil:
    """Allocate the coefficients and n_more rows, on `stack` if they fit. Return whether there was memory."""
    cdef Py_ssize_t pitch = p.pitch
    w.room = make_room((8 + n_more) * pitch, stack)
    w.mean = aligned(w.room)
    w.mean_lo = w.mean + pitch
    w.scale = w.mean + 2 * pitch
    w.beta = w.mean + 3 * pitch
    w.slope = w.mean + 4 * pitch
    w.n = w.mean + 5 * pitch
    w.invstd = w.mean + 6 * pitch
    w.anchor = <uint64_t *> (w.mean + 7 * pitch)
    return w.room != NULL


cdef inline int64_t affine_columns(const native *x, result y, Py_ssize_t first, Py_ssize_t width, const Coefficients *w,
                                   Py_ssize_t channel, bint one, bint look) noexcept nogil:
    """Map `width` columns from `first` on, with the coefficients of `one` channel or their own. `look` counts inf."""
    cdef Py_ssize_t j
    cdef int64_t n_inf = 0
    cdef double value, mean = w.mean[channel], scale = w.scale[channel], beta = w.beta[channel]
    for j in range(first, first + width):
        value = x[j]            # Read x once: y may replace it.
        if look:
            n_inf += fabs(value) == INFINITY
        if one:
            y[j] = (value - mean) * scale + beta
        else:
            y[j] = (value - w.mean[j]) * w.scale[j] + w.beta[j]
    return n_inf


cdef inline int64_t affine_rows(const native *x, result y, const Layout *from_, const Layout *to, Py_ssize_t n_rows,
                                Py_ssize_t width, const Coefficients *w, Py_ssize_t channel, bint one,
                                bint look) noexcept nogil:
    cdef Py_ssize_t r, j, strip = strip_of(x), n_strips = width // strip
    cdef int64_t n_inf = 0
    for r in range(n_rows):
        for j in range(n_strips):
            prefetch(x + j * strip + from_.ahead, strip * sizeof(native))
            prefetch(y + j * strip + to.ahead, strip * sizeof(y[0]))
            n_inf += affine_columns(x, y, j * strip, strip, w, channel, one, look)
        n_inf += affine_columns(x, y, n_strips * strip, width - n_strips * strip, w, channel, one, look)
        x += from_.pitch
        y += to.pitch
    return n_inf


cdef inline int64_t affine_tables(const native *x, result y, const Block *b, const Coefficients *w,
                                  bint look) noexcept nogil:
    """Map the tables of a block. By runs, a table is one row of each channel."""
    cdef const Layout *from_ = &b.layout[0]
    cdef const Layout *to = &b.layout[1]
    cdef const flag *mask = <const flag *> b.weights        # A norm has no other weights than flags.
    cdef Py_ssize_t i, c
    cdef int64_t n_inf = 0
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                n_inf += affine_rows(x + c * from_.channel_pitch, y + c * to.channel_pitch, from_, to, 1, b.width, w, c,
                                     True, look)
                if mask != NULL:
                    blank(y + c * to.channel_pitch, 0, 1, b.width, mask, True)
            mask += b.width if mask != NULL else 0
        else:
            n_inf += affine_rows(x, y, from_, to, b.n_rows, b.width, w, 0, False, look)
            if mask != NULL:
                blank(y, to.pitch, b.n_rows, b.width, mask, False)
            n_inf += affine_rows(x + b.n_rows * from_.pitch, y + b.n_rows * to.pitch, from_, to, b.tail > 0, b.tail, w, 0,
                                 False, look)
        x += from_.table_pitch
        y += to.table_pitch
    return n_inf


cdef int64_t affine_block(const Block *b, const Coefficients *w, bint look) noexcept nogil:
    """Map a block. Return how many x were inf if `look` is set, else 0."""
    cdef const char *x = b.layout[0].data
    cdef char *y = b.layout[1].data
    if b.element == FLOAT32 and look:
        return affine_tables(<const f32 *> x, <y32> y, b, w, True)
    if b.element == FLOAT32:
        return affine_tables(<const f32 *> x, <y32> y, b, w, False)
    if b.element == FLOAT64 and look:
        return affine_tables(<const f64 *> x, <y64> y, b, w, True)
    if b.element == FLOAT64:
        return affine_tables(<const f64 *> x, <y64> y, b, w, False)
    if b.element == UINT8:
        return affine_tables(<const uint8_t *> x, <y32> y, b, w, False)
    if b.element == INT8:
        return affine_tables(<const int8_t *> x, <y32> y, b, w, False)
    if b.element == UINT16:
        return affine_tables(<const u16 *> x, <y32> y, b, w, False)
    return affine_tables(<const i16 *> x, <y32> y, b, w, False)


cdef inline void fetch(const double *row, const Task *t, f64_out values) noexcept nogil:
    """Copy the values of a task's channels from a row of a state, a norm or gradients."""
    cdef Py_ssize_t c
    if t.step == 1:
        memcpy(values, row + t.place, t.channels * sizeof(double))
        return
    for c in range(t.channels):
        values[c] = row[t.place + c * t.step]


cdef inline double invstd_of(double n, double m2, double eps) noexcept nogil:
    """1 / sqrt(var + eps), and 1 where that divides by 0: a constant channel is centred and not divided."""
    cdef double square = m2 / n + eps
    return 1 / sqrt(square) if square != 0 else 1


cdef void make_coefficients(const View *view, const Plan *p, const Task *t, const Norm *norm,
                            Coefficients *w) noexcept nogil:
    """Set the coefficients of a task's channels: all but slope, and not yet for columns."""
    cdef Py_ssize_t c
    cdef pair mean
    fetch(norm.rows + MEAN * norm.pitch, t, w.mean)
    fetch(norm.rows + MEAN_LO * norm.pitch, t, w.mean_lo)
    fetch(norm.rows + N * norm.pitch, t, w.n)
    fetch(norm.rows + M2 * norm.pitch, t, w.invstd)
    fetch(norm.rows + GAMMA * norm.pitch, t, w.scale)
    fetch(norm.rows + BETA * norm.pitch, t, w.beta)
    for c in range(t.channels):
        w.invstd[c] = invstd_of(w.n[c], w.invstd[c], norm.eps)
        w.scale[c] *= w.invstd[c]
    if p.anchored:
        set_anchors(view, p, t, w.anchor)
        for c in range(t.channels):
            mean.hi = w.mean[c]
            mean.lo = w.mean_lo[c]
            mean = add(mean, negative(anchor_value(w.anchor[c], view.operand[0].element)))
            w.mean[c] = mean.hi
            w.mean_lo[c] = mean.lo


cdef void to_columns(const Plan *p, const Task *t, Coefficients *w, double *values) noexcept nogil:
    """Spread the values of a task's channels over its columns, in place, unless it is by runs. w.n is overwritten."""
    if not p.by_runs and (p.fold > 1 or p.inner > 1):
        memcpy(w.n, values, t.channels * sizeof(double))
        spread(w.n, p.fold, t.channels, p.inner, values)


cdef int affine_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef const Plan *p = &job.plan
    cdef Task t = make_task(job.view, p, task)
    cdef double stack[ROOM]
    cdef double *tile = NULL
    cdef Py_ssize_t i, c
    cdef int64_t n_inf = 0
    cdef Coefficients w
    cdef Block b
    if not make_rows(&w, p, 0, stack) or not make_tile(job.view, p, &tile):
        give_back(w.room, stack)
        free(tile)
        return -1
    make_coefficients(job.view, p, &t, job.norm, &w)
    for c in range(t.channels):         # If scale is inf, the product would be inf or NaN.
        w.beta[c] -= w.mean_lo[c] * w.scale[c] if finite(w.scale[c]) else 0.0
    to_columns(p, &t, &w, w.mean)
    to_columns(p, &t, &w, w.scale)
    to_columns(p, &t, &w, w.beta)
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, w.anchor, tile)
        n_inf += affine_block(&b, &w, job.look)
        write_block(job.view, p, &t, i, &b)
    give_back(w.room, stack)
    free(tile)
    return n_inf != 0
