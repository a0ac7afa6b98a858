# Backward, with xhat = (x - mean) * invstd, invstd = 1 / sqrt(var + eps):
#
#   grad_beta = sum of dy       grad_gamma = sum of dy * xhat
#   dx = gamma * invstd * (dy - grad_beta / n - xhat * grad_gamma / n)
#      = (dy - grad_beta / n) * scale - (x - mean) * slope,     slope = gamma * invstd**2 * grad_gamma / n
#
# In the loops mean is its upper half; what mean_lo adds is made up for once a channel.
#
# The sums read x and dy once, 6 operations an element; dx reads both again, from the cache where a task's channels fit in
# it, 5 operations. Sums of a block are doubles, from block to block pairs of doubles. Under `omit` an element x that is NaN
# or inf has no part in the sums, and its dx is 0.

cdef inline double taken(double x, double value, bint omit) noexcept nogil:
    """value, or 0 where x is left out."""
    return value if not omit or finite(x) else 0.0


cdef inline double centred(const number *x, Py_ssize_t at, Py_ssize_t i, const Coefficients *w, bint omit) noexcept nogil:
    return taken(x[at], x[at] - w.mean[i], omit)


cdef inline void gradient_rows(const number *x, const number *dy, Py_ssize_t x_pitch, Py_ssize_t y_pitch, Py_ssize_t first,
                               Py_ssize_t width, const Coefficients *w, Py_ssize_t channel, bint one, bint omit,
                               f64_out s, f64_out q) noexcept nogil:
    """Add eight rows of `width` columns from `first` on to s = sum of dy, q = sum of dy * (x - mean)."""
    cdef Py_ssize_t i, j
    cdef double a, b, c, d, e, f, g, h
    for j in range(first, first + width):
        i = channel if one else j
        a = taken(x[j], dy[j], omit)
        b = taken(x[j + x_pitch], dy[j + y_pitch], omit)
        c = taken(x[j + 2 * x_pitch], dy[j + 2 * y_pitch], omit)
        d = taken(x[j + 3 * x_pitch], dy[j + 3 * y_pitch], omit)
        e = taken(x[j + 4 * x_pitch], dy[j + 4 * y_pitch], omit)
        f = taken(x[j + 5 * x_pitch], dy[j + 5 * y_pitch], omit)
        g = taken(x[j + 6 * x_pitch], dy[j + 6 * y_pitch], omit)
        h = taken(x[j + 7 * x_pitch], dy[j + 7 * y_pitch], omit)
        s[j] += tree(a, b, c, d, e, f, g, h)
        q[j] += tree(a * centred(x, j, i, w, omit), b * centred(x, j + x_pitch, i, w, omit),
                     c * centred(x, j + 2 * x_pitch, i, w, omit), d * centred(x, j + 3 * x_pitch, i, w, omit),
                     e * centred(x, j + 4 * x_pitch, i, w, omit), f * centred(x, j + 5 * x_pitch, i, w, omit),
                     g * centred(x, j + 6 * x_pitch, i, w, omit), h * centred(x, j + 7 * x_pitch, i, w, omit))


cdef inline void gradient_columns(const number *x, const number *dy, const Layout *of_x, const Layout *of_y,
                                  Py_ssize_t n_rows, Py_ssize_t width, const Coefficients *w, Py_ssize_t channel, bint one,
                                  bint omit, f64_out s, f64_out q) noexcept nogil:
    cdef Py_ssize_t r, i, j, strip = strip_of(x), n_strips = width // strip
    cdef double d
    for r in range(0, n_rows - 7, 8):
        for j in range(n_strips):
            for i in range(8):
                prefetch(x + i * of_x.pitch + j * strip + of_x.ahead, strip * sizeof(number))
                prefetch(dy + i * of_y.pitch + j * strip + of_y.ahead, strip * sizeof(number))
            gradient_rows(x, dy, of_x.pitch, of_y.pitch, j * strip, strip, w, channel, one, omit, s, q)
        j = n_strips * strip
        gradient_rows(x, dy, of_x.pitch, of_y.pitch, j, width - j, w, channel, one, omit, s, q)
        x += 8 * of_x.pitch
        dy += 8 * of_y.pitch
    for r in range(n_rows & 7):
        for j in range(width):
            d = taken(x[j], dy[j], omit)
            s[j] += d
            q[j] += d * centred(x, j, channel if one else j, w, omit)
        x += of_x.pitch
        dy += of_y.pitch


cdef inline void gradient_tables(const number *x, const number *dy, const Block *b, const Coefficients *w,
                                 Py_ssize_t channel, bint one, bint omit, f64_out s, f64_out q) noexcept nogil:
    cdef const Layout *of_x = &b.layout[0]
    cdef const Layout *of_y = &b.layout[1]
    cdef Py_ssize_t i
    for i in range(b.n_tables):
        gradient_columns(x, dy, of_x, of_y, b.n_rows, b.width, w, channel, one, omit, s, q)
        gradient_columns(x + b.n_rows * of_x.pitch, dy + b.n_rows * of_y.pitch, of_x, of_y, b.tail > 0, b.tail, w, channel,
                         one, omit, s, q)
        x += of_x.table_pitch
        dy += of_y.table_pitch


cdef inline void gradient_elements(const number *x, const number *dy, const Block *b, const Coefficients *w,
                                   Py_ssize_t channel, bint omit, f64_out s, f64_out q) noexcept nogil:
    if b.by_channel:
        gradient_tables(x, dy, b, w, channel, True, omit, s, q)
    else:
        gradient_tables(x, dy, b, w, 0, False, omit, s, q)


cdef void gradient_block(const Block *b, const Coefficients *w, Py_ssize_t channel, bint omit,
                         double *s, double *q) noexcept nogil:
    cdef const char *x = b.layout[0].data
    cdef const char *dy = b.layout[1].data
    if b.element == FLOAT32 and omit:
        gradient_elements(<const f32 *> x, <const f32 *> dy, b, w, channel, True, s, q)
    elif b.element == FLOAT32:
        gradient_elements(<const f32 *> x, <const f32 *> dy, b, w, channel, False, s, q)
    elif omit:
        gradient_elements(<const f64 *> x, <const f64 *> dy, b, w, channel, True, s, q)
    else:
        gradient_elements(<const f64 *> x, <const f64 *> dy, b, w, channel, False, s, q)


cdef inline void slope_columns(const number *x, const number *dy, result dx, Py_ssize_t first, Py_ssize_t width,
                               const Coefficients *w, Py_ssize_t channel, bint one, bint omit) noexcept nogil:
    """w.beta holds grad_beta / n less what mean_lo makes of it."""
    cdef Py_ssize_t i, j
    for j in range(first, first + width):
        i = channel if one else j
        dx[j] = taken(x[j], (dy[j] - w.beta[i]) * w.scale[i], omit) - centred(x, j, i, w, omit) * w.slope[i]


cdef inline void slope_rows(const number *x, const number *dy, result dx, const Block *b, Py_ssize_t n_rows,
                            Py_ssize_t width, const Coefficients *w, Py_ssize_t channel, bint one,
                            bint omit) noexcept nogil:
    cdef Py_ssize_t r, j, strip = strip_of(x), n_strips = width // strip
    for r in range(n_rows):
        for j in range(n_strips):
            prefetch(x + j * strip + b.layout[0].ahead, strip * sizeof(number))
            prefetch(dy + j * strip + b.layout[1].ahead, strip * sizeof(number))
            prefetch(dx + j * strip + b.layout[2].ahead, strip * sizeof(number))
            slope_columns(x, dy, dx, j * strip, strip, w, channel, one, omit)
        slope_columns(x, dy, dx, n_strips * strip, width - n_strips * strip, w, channel, one, omit)
        x += b.layout[0].pitch
        dy += b.layout[1].pitch
        dx += b.layout[2].pitch


cdef inline void slope_tables(const number *x, const number *dy, result dx, const Block *b, const Coefficients *w,
                              Py_ssize_t channel, bint one, bint omit) noexcept nogil:
    cdef Py_ssize_t i, n_rows = 0 if one else b.n_rows, last = b.n_rows * b.width + b.tail if one else b.tail
    for i in range(b.n_tables):
        slope_rows(x, dy, dx, b, n_rows, b.width, w, channel, one, omit)
        slope_rows(x + n_rows * b.layout[0].pitch, dy + n_rows * b.layout[1].pitch, dx + n_rows * b.layout[2].pitch, b,
                   last > 0, last, w, channel, one, omit)
        x += b.layout[0].table_pitch
        dy += b.layout[1].table_pitch
        dx += b.layout[2].table_pitch


cdef inline void slope_elements(const number *x, const number *dy, result dx, const Block *b, const Coefficients *w,
                                Py_ssize_t channel, bint omit) noexcept nogil:
    if b.by_channel:
        slope_tables(x, dy, dx, b, w, channel, True, omit)
    else:
        slope_tables(x, dy, dx, b, w, 0, False, omit)


cdef void slope_block(const Block *b, const Coefficients *w, Py_ssize_t channel, bint omit) noexcept nogil:
    cdef const char *x = b.layout[0].data
    cdef const char *dy = b.layout[1].data
    cdef char *dx = b.layout[2].data
    if b.element == FLOAT32 and omit:
        slope_elements(<const f32 *> x, <const f32 *> dy, <y32> dx, b, w, channel, True)
    elif b.element == FLOAT32:
        slope_elements(<const f32 *> x, <const f32 *> dy, <y32> dx, b, w, channel, False)
    elif omit:
        slope_elements(<const f64 *> x, <const f64 *> dy, <y64> dx, b, w, channel, True)
    else:
        slope_elements(<const f64 *> x, <const f64 *> dy, <y64> dx, b, w, channel, False)


cdef void add_sums(const double *s, Py_ssize_t n, double *sums, Py_ssize_t pitch) noexcept nogil:
    """Add s to the pairs in two rows of sums."""
    cdef Py_ssize_t c
    cdef pair total
    for c in range(n):
        total.hi = sums[c]
        total.lo = sums[pitch + c]
        total = add_double(total, s[c])
        sums[c] = total.hi
        sums[pitch + c] = total.lo


cdef int gradient_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """The sums of dy and of dy * (x - mean), four rows of pairs, to the task's part; or, where a group of channels has but
    one segment, their gradients to their places."""
    cdef const Plan *p = &job.plan
    cdef Segment t = make_segment(job.view, p, task)
    cdef Py_ssize_t i, j, k, pitch = round_up(p.chunk, GRANULE)
    cdef double own[4 * PITCH]
    cdef double *sums = &own[0] if job.parts == NULL else job.parts + task * PART_ROWS * pitch
    cdef double *tile = NULL
    cdef double s[PITCH]
    cdef double q[PITCH]
    cdef Coefficients w
    cdef Block b
    if p.tiled:
        tile = make_tile(job.view, p)
        if tile == NULL:
            return -1
    make_coefficients(job.view, p, &t, job.layer, &w)
    to_columns(p, &t, w.mean)
    for j in range(4 * pitch):
        sums[j] = 0
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, w.anchor, tile)
        for k in range(b.n_channels // b.channels):
            for j in range(b.width):
                s[j] = 0
                q[j] = 0
            gradient_block(&b, &w, k, job.omit, s, q)
            add_up(s, b.fold, b.channels, b.inner)
            add_up(q, b.fold, b.channels, b.inner)
            add_sums(s, b.channels, sums + k, pitch)
            add_sums(q, b.channels, sums + k + 2 * pitch, pitch)
            next_channel(&b)
    for k in range(t.channels):         # what the mean's last digits make of dy * (x - mean)
        s[k] = -w.mean_lo[k] * sums[k] if w.mean_lo[k] != 0 else 0.0
    add_sums(s, t.channels, sums + 2 * pitch, pitch)
    free(tile)
    if job.parts == NULL:
        emit_gradients(job, &t, sums, pitch)
    return 0


cdef void emit_gradients(const Job *job, const Segment *t, const double *sums, Py_ssize_t pitch) noexcept nogil:
    """grad_beta and grad_gamma of a segment's channels, from their sums."""
    cdef Py_ssize_t c, i
    cdef double n[PITCH]
    cdef double invstd[PITCH]
    fetch_invstd(job.layer, t, n, invstd)
    for c in range(t.channels):
        i = t.place + c * t.step
        job.grads[i] = sums[c]
        job.grads[job.layer.pitch + i] = sums[2 * pitch + c] * invstd[c]


cdef void merge_gradients(const Job *job) noexcept nogil:
    """The gradients of all channels, from the parts of the tasks."""
    cdef const Plan *p = &job.plan
    cdef Py_ssize_t group, k, i, pitch = round_up(p.chunk, GRANULE)
    cdef double *sums
    cdef double *part
    cdef Segment t
    for group in range(n_groups(job)):
        t = make_segment(job.view, p, group * p.n_segments)
        sums = job.parts + group * p.n_segments * PART_ROWS * pitch
        for k in range(1, p.n_segments):
            part = sums + k * PART_ROWS * pitch
            for i in range(0, 4, 2):
                add_sums(part + i * pitch, t.channels, sums + i * pitch, pitch)
                add_sums(part + (i + 1) * pitch, t.channels, sums + i * pitch, pitch)
        emit_gradients(job, &t, sums, pitch)


cdef int slope_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef const Plan *p = &job.plan
    cdef const Layer *layer = job.layer
    cdef Segment t = make_segment(job.view, p, task)
    cdef Py_ssize_t c, i, k
    cdef double *tile = NULL
    cdef Coefficients w
    cdef Block b
    if p.tiled:
        tile = make_tile(job.view, p)
        if tile == NULL:
            return -1
    make_coefficients(job.view, p, &t, layer, &w)
    fetch(job.grads, &t, w.beta)
    fetch(job.grads + layer.pitch, &t, w.slope)
    for c in range(t.channels):
        w.slope[c] *= w.invstd[c] / w.n[c]
        w.beta[c] = w.beta[c] / w.n[c] - (w.mean_lo[c] * w.slope[c] if w.mean_lo[c] != 0 else 0.0)
        w.slope[c] *= w.scale[c]
    to_columns(p, &t, w.mean)
    to_columns(p, &t, w.scale)
    to_columns(p, &t, w.beta)
    to_columns(p, &t, w.slope)
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, w.anchor, tile)
        for k in range(b.n_channels // b.channels):
            slope_block(&b, &w, k, job.omit)
            next_channel(&b)
        if p.tiled:
            write_block(job.view, p, &t, i, tile)
    free(tile)
    return 0
