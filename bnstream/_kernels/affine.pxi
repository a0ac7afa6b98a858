# Forward: y = ((x - mean) - mean_lo) * scale + beta,    scale = gamma / sqrt(m2 / n + eps)
#
# In double, and rounded once to the type of y: half an ulp off, where x * alpha + beta' in single precision loses as many
# digits as mean / sd has. Per element a conversion, 3 or 4 operations and a conversion back: out of cache on two cores 18
# GB/s of reads and writes, as with half as many operations in single precision (19), and a copy's 17 to 20. (Stores past
# the cache, tried with those, ran at 12 to 15.) mean_lo counts in float64 alone.
#
# As in the sums, the loops run across columns, a run of one channel being a table of columns, too.

ctypedef fused element:         # read in place
    f32
    f64
    i16
    u16
    uint8_t
    int8_t

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


cdef inline void affine_columns(const element *x, result y, Py_ssize_t width, const double *mean, const double *mean_lo,
                                const double *scale, const double *beta) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(width):
        if element is f64:
            y[j] = ((x[j] - mean[j]) - mean_lo[j]) * scale[j] + beta[j]
        else:
            y[j] = (x[j] - mean[j]) * scale[j] + beta[j]


cdef inline void affine_rows(const element *x, result y, const Layout *from_, const Layout *to, Py_ssize_t n_rows,
                             Py_ssize_t width, const Coefficients *w) noexcept nogil:
    cdef Py_ssize_t r, i, j, strip = LINE // sizeof(element), n_strips = width // strip
    cdef const element *x_row
    cdef result y_row
    for r in range(n_rows):
        x_row = x + r * from_.pitch
        y_row = y + r * to.pitch
        for i in range(n_strips):
            j = i * strip
            prefetch(x_row + j + from_.ahead)
            prefetch(y_row + j + to.ahead)
            affine_columns(x_row + j, y_row + j, strip, w.mean + j, w.mean_lo + j, w.scale + j, w.beta + j)
        j = n_strips * strip
        affine_columns(x_row + j, y_row + j, width - j, w.mean + j, w.mean_lo + j, w.scale + j, w.beta + j)


cdef inline void affine_tables(const element *x, result y, const Block *b, const Coefficients *w) noexcept nogil:
    cdef const Layout *from_ = &b.layout[0]
    cdef const Layout *to = &b.layout[1]
    cdef Py_ssize_t i
    for i in range(b.n_tables):
        affine_rows(x, y, from_, to, b.n_rows, b.width, w)
        affine_rows(x + b.n_rows * from_.pitch, y + b.n_rows * to.pitch, from_, to, b.tail > 0, b.tail, w)
        x += from_.table_pitch
        y += to.table_pitch


cdef void affine_block(const Block *b, const Coefficients *w) noexcept nogil:
    cdef const char *x = b.layout[0].data
    cdef char *y = b.layout[1].data
    if b.element == FLOAT32:
        affine_tables(<const f32 *> x, <y32> y, b, w)
    elif b.element == FLOAT64:
        affine_tables(<const f64 *> x, <y64> y, b, w)
    elif b.element == UINT8:
        affine_tables(<const uint8_t *> x, <y32> y, b, w)
    elif b.element == INT8:
        affine_tables(<const int8_t *> x, <y32> y, b, w)
    elif b.element == UINT16:
        affine_tables(<const u16 *> x, <y32> y, b, w)
    else:
        affine_tables(<const i16 *> x, <y32> y, b, w)


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
    """Values of a segment's channels to values of the columns of its blocks, in place."""
    cdef double of_channels[PITCH]
    if p.fold > 1 or p.inner > 1:
        memcpy(of_channels, values, t.channels * sizeof(double))
        spread(of_channels, p.fold, t.channels, p.inner, values)


cdef int affine_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef const Plan *p = &job.plan
    cdef Segment t = make_segment(job.view, p, task)
    cdef Py_ssize_t i
    cdef double *tile = NULL
    cdef Coefficients w
    cdef Block b
    if p.tiled:
        tile = make_tile(job.view, p)
        if tile == NULL:
            return -1
    make_coefficients(job.view, p, &t, job.layer, &w)
    to_columns(p, &t, w.mean)
    to_columns(p, &t, w.mean_lo)
    to_columns(p, &t, w.scale)
    to_columns(p, &t, w.beta)
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, w.anchor, tile)
        affine_block(&b, &w)
        if p.tiled:
            write_block(job.view, p, &t, i, tile)
    free(tile)
    return 0
