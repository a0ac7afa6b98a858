# Forward: y = (x - mean) * scale + (beta - mean_lo * scale),    scale = gamma / sqrt(m2 / n + eps)
#
# In double, and rounded once to the type of y: half an ulp off, where x * alpha + beta' in single precision loses as many
# digits as mean / sd has. Per element a conversion, 3 operations and a conversion back: out of cache on two cores 18
# GB/s of reads and writes, as with half as many operations in single precision (19), and a copy's 17 to 20. (Stores past
# the cache, tried with those, ran at 12 to 15.)
#
# As in the sums, the loops run across columns, a run of one channel being a table of columns, too.

ctypedef fused result:          # written in place
    y32
    y64

ctypedef struct Coefficients:   # what an affine task needs of each channel, then of each column
    double mean[PITCH]
    double mean_lo[PITCH]
    double scale[PITCH]
    double beta[PITCH]
    double slope[PITCH]         # backward only
    double n[PITCH]             # of channels only
    double invstd[PITCH]
    uint64_t anchor[PITCH]


cdef inline void affine_columns(const native *x, result y, Py_ssize_t first, Py_ssize_t width, const Coefficients *w,
                                Py_ssize_t channel, bint one) noexcept nogil:
    """`width` columns from `first` on: of one channel, or with coefficients of their own."""
    cdef Py_ssize_t j, i
    for j in range(first, first + width):
        i = channel if one else j
        y[j] = (x[j] - w.mean[i]) * w.scale[i] + w.beta[i]


cdef inline void affine_rows(const native *x, result y, const Layout *from_, const Layout *to, Py_ssize_t n_rows,
                             Py_ssize_t width, const Coefficients *w, Py_ssize_t channel, bint one) noexcept nogil:
    cdef Py_ssize_t r, j, strip = strip_of(x), n_strips = width // strip
    for r in range(n_rows):
        for j in range(n_strips):
            prefetch(x + j * strip + from_.ahead, strip * sizeof(native))
            prefetch(y + j * strip + to.ahead, strip * sizeof(y[0]))
            affine_columns(x, y, j * strip, strip, w, channel, one)
        affine_columns(x, y, n_strips * strip, width - n_strips * strip, w, channel, one)
        x += from_.pitch
        y += to.pitch


cdef inline void affine_tables(const native *x, result y, const Block *b, const Coefficients *w, Py_ssize_t channel,
                               bint one) noexcept nogil:
    """A table of one channel is one long row."""
    cdef const Layout *from_ = &b.layout[0]
    cdef const Layout *to = &b.layout[1]
    cdef Py_ssize_t i, n_rows = 0 if one else b.n_rows, last = b.n_rows * b.width + b.tail if one else b.tail
    for i in range(b.n_tables):
        affine_rows(x, y, from_, to, n_rows, b.width, w, channel, one)
        affine_rows(x + n_rows * from_.pitch, y + n_rows * to.pitch, from_, to, last > 0, last, w, channel, one)
        x += from_.table_pitch
        y += to.table_pitch


cdef inline void affine_elements(const native *x, result y, const Block *b, const Coefficients *w,
                                 Py_ssize_t channel) noexcept nogil:
    if b.by_channel:
        affine_tables(x, y, b, w, channel, True)
    else:
        affine_tables(x, y, b, w, 0, False)


cdef void affine_block(const Block *b, const Coefficients *w, Py_ssize_t channel) noexcept nogil:
    """The tables of a block: those of this channel, where they hold one each."""
    cdef const char *x = b.layout[0].data
    cdef char *y = b.layout[1].data
    if b.element == FLOAT32:
        affine_elements(<const f32 *> x, <y32> y, b, w, channel)
    elif b.element == FLOAT64:
        affine_elements(<const f64 *> x, <y64> y, b, w, channel)
    elif b.element == UINT8:
        affine_elements(<const uint8_t *> x, <y32> y, b, w, channel)
    elif b.element == INT8:
        affine_elements(<const int8_t *> x, <y32> y, b, w, channel)
    elif b.element == UINT16:
        affine_elements(<const u16 *> x, <y32> y, b, w, channel)
    else:
        affine_elements(<const i16 *> x, <y32> y, b, w, channel)


cdef inline void fetch(const double *row, const Segment *t, f64_out values) noexcept nogil:
    """What a row of a result holds of a segment's channels."""
    cdef Py_ssize_t c
    if t.step == 1:
        memcpy(values, row + t.place, t.channels * sizeof(double))
        return
    for c in range(t.channels):
        values[c] = row[t.place + c * t.step]


cdef void fetch_invstd(const Layer *layer, const Segment *t, double *n, f64_out invstd) noexcept nogil:
    """n and 1 / sqrt(m2 / n + eps) of a segment's channels."""
    cdef Py_ssize_t c
    fetch(layer.rows, t, n)
    fetch(layer.rows + 3 * layer.pitch, t, invstd)
    for c in range(t.channels):
        invstd[c] = 1 / sqrt(invstd[c] / n[c] + layer.eps)


cdef void make_coefficients(const View *view, const Plan *p, const Segment *t, const Layer *layer,
                            Coefficients *w) noexcept nogil:
    """mean, mean_lo, scale and beta of a segment's channels, not yet of columns."""
    cdef Py_ssize_t c
    cdef pair mean
    fetch(layer.rows + layer.pitch, t, w.mean)
    fetch(layer.rows + 2 * layer.pitch, t, w.mean_lo)
    fetch_invstd(layer, t, w.n, w.invstd)
    fetch(layer.rows + 5 * layer.pitch, t, w.scale)
    fetch(layer.rows + 6 * layer.pitch, t, w.beta)
    for c in range(t.channels):
        w.scale[c] *= w.invstd[c]
    if p.anchored:
        set_anchors(view, t, w.anchor)
        for c in range(t.channels):
            mean.hi = w.mean[c]
            mean.lo = w.mean_lo[c]
            mean = add(mean, negative(anchor_value(w.anchor[c], view.operand[0].element)))
            w.mean[c] = mean.hi
            w.mean_lo[c] = mean.lo


cdef void to_columns(const Plan *p, const Segment *t, double *values) noexcept nogil:
    """Values of a segment's channels to those of its columns, in place, unless tables hold one channel each."""
    cdef double of_channels[PITCH]
    if not p.by_runs and (p.fold > 1 or p.inner > 1):
        memcpy(of_channels, values, t.channels * sizeof(double))
        spread(of_channels, p.fold, t.channels, p.inner, values)


cdef int affine_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef const Plan *p = &job.plan
    cdef Segment t = make_segment(job.view, p, task)
    cdef Py_ssize_t i, k
    cdef double *tile = NULL
    cdef Coefficients w
    cdef Block b
    if p.tiled:
        tile = make_tile(job.view, p)
        if tile == NULL:
            return -1
    make_coefficients(job.view, p, &t, job.layer, &w)
    for k in range(t.channels):         # where scale is inf so is what it would add, or NaN
        w.beta[k] -= w.mean_lo[k] * w.scale[k] if finite(w.scale[k]) else 0.0
    to_columns(p, &t, w.mean)
    to_columns(p, &t, w.scale)
    to_columns(p, &t, w.beta)
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, w.anchor, tile)
        for k in range(b.n_channels // b.channels):
            affine_block(&b, &w, k)
            next_channel(&b)
        if p.tiled:
            write_block(job.view, p, &t, i, tile)
    free(tile)
    return 0
