# Backward, with xhat = (x - mean) * invstd, invstd = 1 / sqrt(var + eps):
#
#   grad_beta = sum of dy       grad_gamma = sum of dy * xhat
#   dx = gamma * invstd * (dy - grad_beta / n - xhat * grad_gamma / n)
#      = (dy - grad_beta / n) * scale - (x - mean) * slope,     slope = gamma * invstd**2 * grad_gamma / n
#
# The loops use the upper half of the mean. What mean_lo adds is corrected once for each channel.
#
# The sums read x and dy once, with 6 operations for each element. dx reads both again, with 5 operations, and from the cache
# if the task fits in it. Sums within a block are doubles, and sums of blocks are pairs of doubles. An element x whose weight
# or flag is 0, or which is NaN or inf under `omit`, does not enter the sums, and its dx is 0.

# Rows of the sums of a task, which are pairs of doubles.
cdef enum:
    SUM_DY, SUM_DY_LO
    SUM_DY_X, SUM_DY_X_LO       # dy * (x - mean)
    SUM_ROWS


cdef inline Sums gradients_of(const number *x, const number *dy, double mean, double weight, Count count) noexcept nogil:
    """What an element adds to s = sum of dy and q = sum of dy * (x - mean)."""
    cdef Sums sums
    if count & FINITE:
        weight = counted(x[0], weight)
    sums.n = 0
    sums.s = dy[0] if weight != 0 else 0.0
    sums.q = sums.s * (x[0] - mean if weight != 0 else 0.0)
    return sums


cdef inline Sums two_gradients(const number *x, const number *dy, Py_ssize_t x_pitch, Py_ssize_t y_pitch, double mean,
                               const double *weights, Py_ssize_t step, Count count) noexcept nogil:
    cdef Sums a = gradients_of(x, dy, mean, weight_of(weights, 0, count), count)
    cdef Sums b = gradients_of(x + x_pitch, dy + y_pitch, mean, weight_of(weights, step, count), count)
    return plus(a, b)


cdef inline void gradient_rows(const number *x, const number *dy, Py_ssize_t x_pitch, Py_ssize_t y_pitch, Py_ssize_t first,
                               Py_ssize_t width, const Coefficients *w, Py_ssize_t channel, const double *weights, bint one,
                               Count count, f64_out s, f64_out q) noexcept nogil:
    """Add eight rows of `width` columns from `first` on, in twos."""
    cdef Py_ssize_t j, step = LANES if one else 1
    cdef const double *weight
    cdef double mean, mean_of_all = w.mean[channel]
    cdef Sums sums, more, rest
    for j in range(first, first + width):
        weight = weights + step_of(j if one else 0, count)
        mean = mean_of_all if one else w.mean[j]
        sums = two_gradients(x + j, dy + j, x_pitch, y_pitch, mean, weight, step, count)
        more = two_gradients(x + j + 2 * x_pitch, dy + j + 2 * y_pitch, x_pitch, y_pitch, mean, weight + 2 * step, step,
                             count)
        sums = plus(sums, more)
        more = two_gradients(x + j + 4 * x_pitch, dy + j + 4 * y_pitch, x_pitch, y_pitch, mean, weight + 4 * step, step,
                             count)
        rest = two_gradients(x + j + 6 * x_pitch, dy + j + 6 * y_pitch, x_pitch, y_pitch, mean, weight + 6 * step, step,
                             count)
        sums = plus(sums, plus(more, rest))
        s[j] += sums.s
        q[j] += sums.q


cdef inline void gradient_row(const number *x, const number *dy, Py_ssize_t first, Py_ssize_t width,
                              const Coefficients *w, Py_ssize_t channel, const double *weights, bint one, Count count,
                              f64_out s, f64_out q) noexcept nogil:
    cdef Py_ssize_t j
    cdef double mean = w.mean[channel]
    cdef Sums sums
    for j in range(width):
        sums = gradients_of(x + j, dy + j, mean if one else w.mean[j], weight_of(weights, j if one else 0, count), count)
        s[j] += sums.s if j >= first else 0.0
        q[j] += sums.q if j >= first else 0.0


cdef inline void gradient_columns(const number *x, const number *dy, const Layout *of_x, const Layout *of_y,
                                  Py_ssize_t n_rows, Py_ssize_t width, const Coefficients *w, const char *weights,
                                  Count count, f64_out s, f64_out q) noexcept nogil:
    cdef Py_ssize_t r, i, j, strip = strip_of(x), n_strips = width // strip
    cdef const double *each
    cdef double room[8]
    for r in range(0, n_rows - 7, 8):
        each = doubles(weights, 8, count, room)
        for j in range(n_strips):
            for i in range(8):
                prefetch(x + i * of_x.pitch + j * strip + of_x.ahead, strip * sizeof(number))
                prefetch(dy + i * of_y.pitch + j * strip + of_y.ahead, strip * sizeof(number))
            gradient_rows(x, dy, of_x.pitch, of_y.pitch, j * strip, strip, w, 0, each, False, count, s, q)
        j = n_strips * strip
        gradient_rows(x, dy, of_x.pitch, of_y.pitch, j, width - j, w, 0, each, False, count, s, q)
        x += 8 * of_x.pitch
        dy += 8 * of_y.pitch
        weights += bytes_of(8, count)
    for r in range(n_rows & 7):
        each = doubles(weights, 1, count, room)
        gradient_row(x, dy, 0, width, w, 0, each, False, count, s, q)
        x += of_x.pitch
        dy += of_y.pitch
        weights += bytes_of(1, count)


cdef inline void gradient_part(const number *x, const number *dy, Py_ssize_t n, Py_ssize_t x_ahead, Py_ssize_t y_ahead,
                               const Coefficients *w, Py_ssize_t channel, const char *weights, Count count,
                               double *s, double *q) noexcept nogil:
    """As `part_sums`: add a part of n elements of one channel."""
    cdef double lane_s[LANES]
    cdef double lane_q[LANES]
    cdef double room[8 * LANES]
    cdef const double *each
    cdef Py_ssize_t i, n_rows = n // LANES, tail = n % LANES
    for i in range(LANES):
        lane_s[i] = lane_q[i] = 0
    for i in range(n_rows // 8):
        each = doubles(weights, 8 * LANES, count, room)
        prefetch(x + x_ahead, 8 * LANES * sizeof(number))
        prefetch(dy + y_ahead, 8 * LANES * sizeof(number))
        gradient_rows(x, dy, LANES, LANES, 0, LANES, w, channel, each, True, count, lane_s, lane_q)
        x += 8 * LANES
        dy += 8 * LANES
        weights += bytes_of(8 * LANES, count)
    each = doubles(weights, n % (8 * LANES), count, room)
    prefetch(x + x_ahead, n % (8 * LANES) * sizeof(number))
    prefetch(dy + y_ahead, n % (8 * LANES) * sizeof(number))
    for i in range(n_rows % 8):
        gradient_row(x, dy, 0, LANES, w, channel, each, True, count, lane_s, lane_q)
        x += LANES
        dy += LANES
        each += step_of(LANES, count)
    if n > LANES and tail > 0:
        x += tail - LANES
        dy += tail - LANES
        each = doubles(weights + bytes_of(n % (8 * LANES) - LANES, count), LANES, count, room)
        gradient_row(x, dy, LANES - tail, LANES, w, channel, each, True, count, lane_s, lane_q)
    elif tail > 0:
        gradient_row(x, dy, 0, tail, w, channel, each, True, count, lane_s, lane_q)
    s[0] += sum_of(lane_s, LANES)
    q[0] += sum_of(lane_q, LANES)


cdef inline void gradient_run(const number *x, const number *dy, Py_ssize_t n, Py_ssize_t x_ahead, Py_ssize_t y_ahead,
                              const Coefficients *w, Py_ssize_t channel, const char *weights, Count count,
                              double *s, double *q) noexcept nogil:
    """As `run_sums`: add a run of one channel."""
    cdef Py_ssize_t i
    for i in range(0, n, 8192):         # 8192 is PART: Cython needs a literal step.
        gradient_part(x + i, dy + i, min(n - i, <Py_ssize_t> PART), x_ahead, y_ahead, w, channel,
                      weights + bytes_of(i, count), count, s, q)


cdef inline void gradient_tables(const number *x, const number *dy, const Block *b, const Coefficients *w, Count count,
                                 double *s, double *q) noexcept nogil:
    """Add the tables of a block one after the other: by runs, this is the order of memory."""
    cdef const Layout *of_x = &b.layout[0]
    cdef const Layout *of_y = &b.layout[1]
    cdef const char *weights = b.weights
    cdef Py_ssize_t i, c
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                gradient_run(x + c * of_x.channel_pitch, dy + c * of_y.channel_pitch, b.width, of_x.ahead, of_y.ahead, w, c,
                             weights, count, s + c, q + c)
            weights += bytes_of(b.width, count)
        else:
            gradient_columns(x, dy, of_x, of_y, b.n_rows, b.width, w, weights, count, s, q)
            gradient_columns(x + b.n_rows * of_x.pitch, dy + b.n_rows * of_y.pitch, of_x, of_y, b.tail > 0, b.tail, w,
                             weights, count, s, q)
        x += of_x.table_pitch
        dy += of_y.table_pitch


cdef inline void gradient_floats(const number *x, const number *dy, const Block *b, const Coefficients *w, bint omit,
                                 double *s, double *q) noexcept nogil:
    cdef int count = count_in(b, omit)
    if count == FINITE_MASKED:
        gradient_tables(x, dy, b, w, FINITE_MASKED, s, q)
    elif count == MASKED:
        gradient_tables(x, dy, b, w, MASKED, s, q)
    elif count == FINITE:
        gradient_tables(x, dy, b, w, FINITE, s, q)
    else:
        gradient_tables(x, dy, b, w, ALL, s, q)


cdef void gradient_block(const Block *b, const Coefficients *w, bint omit, double *s, double *q) noexcept nogil:
    cdef const char *x = b.layout[0].data
    cdef const char *dy = b.layout[1].data
    if b.element == FLOAT32:
        gradient_floats(<const f32 *> x, <const f32 *> dy, b, w, omit, s, q)
    else:
        gradient_floats(<const f64 *> x, <const f64 *> dy, b, w, omit, s, q)


cdef inline double unless_omitted(double x, double value, bint omit) noexcept nogil:
    """The value, or 0 if `omit` leaves x out."""
    return value if not omit or finite(x) else 0.0


cdef inline void slope_columns(const number *x, const number *dy, result dx, Py_ssize_t first, Py_ssize_t width,
                               const Coefficients *w, Py_ssize_t channel, bint one, bint omit) noexcept nogil:
    """Compute dx of `width` columns. w.beta holds grad_beta / n, corrected for mean_lo."""
    cdef Py_ssize_t j
    cdef double mean = w.mean[channel], scale = w.scale[channel], beta = w.beta[channel], slope = w.slope[channel]
    for j in range(first, first + width):
        if one:
            dx[j] = unless_omitted(x[j], (dy[j] - beta) * scale - (x[j] - mean) * slope, omit)
        else:
            dx[j] = unless_omitted(x[j], (dy[j] - w.beta[j]) * w.scale[j] - (x[j] - w.mean[j]) * w.slope[j], omit)


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
                              bint omit) noexcept nogil:
    cdef const flag *mask = <const flag *> b.weights        # A norm has no other weights than flags.
    cdef Py_ssize_t i, c
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                slope_rows(x + c * b.layout[0].channel_pitch, dy + c * b.layout[1].channel_pitch,
                           dx + c * b.layout[2].channel_pitch, b, 1, b.width, w, c, True, omit)
                if mask != NULL:
                    blank(dx + c * b.layout[2].channel_pitch, 0, 1, b.width, mask, True)
            mask += b.width if mask != NULL else 0
        else:
            slope_rows(x, dy, dx, b, b.n_rows, b.width, w, 0, False, omit)
            if mask != NULL:
                blank(dx, b.layout[2].pitch, b.n_rows, b.width, mask, False)
            slope_rows(x + b.n_rows * b.layout[0].pitch, dy + b.n_rows * b.layout[1].pitch,
                       dx + b.n_rows * b.layout[2].pitch, b, b.tail > 0, b.tail, w, 0, False, omit)
        x += b.layout[0].table_pitch
        dy += b.layout[1].table_pitch
        dx += b.layout[2].table_pitch


cdef void slope_block(const Block *b, const Coefficients *w, bint omit) noexcept nogil:
    cdef const char *x = b.layout[0].data
    cdef const char *dy = b.layout[1].data
    cdef char *dx = b.layout[2].data
    if b.element == FLOAT32 and omit:
        slope_tables(<const f32 *> x, <const f32 *> dy, <y32> dx, b, w, True)
    elif b.element == FLOAT32:
        slope_tables(<const f32 *> x, <const f32 *> dy, <y32> dx, b, w, False)
    elif omit:
        slope_tables(<const f64 *> x, <const f64 *> dy, <y64> dx, b, w, True)
    else:
        slope_tables(<const f64 *> x, <const f64 *> dy, <y64> dx, b, w, False)


cdef void add_sums(const double *s, Py_ssize_t n, double *sums, Py_ssize_t pitch) noexcept nogil:
    """Add s to the pairs in the first two rows of sums."""
    cdef Py_ssize_t c
    cdef pair total
    for c in range(n):
        total.hi = sums[c]
        total.lo = sums[pitch + c]
        total = add_double(total, s[c])
        sums[c] = total.hi
        sums[pitch + c] = total.lo


cdef int gradient_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """Write the sums of a task to its partial, or the gradients to their places if it is the only task of its chunk."""
    cdef const Plan *p = &job.plan
    cdef Task t = make_task(job.view, p, task)
    cdef Py_ssize_t i, c, n = t.channels if p.by_runs else p.fold * t.channels * p.inner
    cdef double stack[ROOM]
    cdef double *tile = NULL
    cdef double *s
    cdef double *q
    cdef double *sums
    cdef Coefficients w
    cdef Block b
    if not make_rows(&w, p, 6, stack) or not make_tile(job.view, p, &tile):
        give_back(w.room, stack)
        free(tile)
        return -1
    s = w.mean + 8 * p.pitch
    q = s + p.pitch
    sums = q + p.pitch if job.partials == NULL else job.partials + task * PARTIAL_ROWS * p.state_pitch
    make_coefficients(job.view, p, &t, job.norm, &w)
    to_columns(p, &t, &w, w.mean)
    memset(sums, 0, SUM_ROWS * p.state_pitch * sizeof(double))
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, w.anchor, tile)
        if job.view.selective:          # x may hold anything there, and 0 times NaN is NaN.
            set_unselected(&b, 0, NULL)
            set_unselected(&b, 1, NULL)
        memset(s, 0, n * sizeof(double))
        memset(q, 0, n * sizeof(double))
        gradient_block(&b, &w, job.omit, s, q)
        if not p.by_runs:
            add_up(s, p.fold, t.channels, p.inner)
            add_up(q, p.fold, t.channels, p.inner)
        add_sums(s, t.channels, sums + SUM_DY * p.state_pitch, p.state_pitch)
        add_sums(q, t.channels, sums + SUM_DY_X * p.state_pitch, p.state_pitch)
    for c in range(t.channels):         # Correct the sum of dy * (x - mean) for mean_lo.
        s[c] = -w.mean_lo[c] * sums[SUM_DY * p.state_pitch + c] if w.mean_lo[c] != 0 else 0.0
    add_sums(s, t.channels, sums + SUM_DY_X * p.state_pitch, p.state_pitch)
    if job.partials == NULL:
        emit_gradients(job, &t, sums, p.state_pitch)
    give_back(w.room, stack)
    free(tile)
    return 0


cdef void emit_gradients(const Job *job, const Task *t, const double *sums, Py_ssize_t pitch) noexcept nogil:
    """Write grad_beta and grad_gamma of a task's channels, from their sums."""
    cdef const double *n = job.norm.rows + N * job.norm.pitch + t.place
    cdef const double *m2 = job.norm.rows + M2 * job.norm.pitch + t.place
    cdef double *grad_beta = job.grads + GRAD_BETA * job.norm.pitch + t.place
    cdef double *grad_gamma = job.grads + GRAD_GAMMA * job.norm.pitch + t.place
    cdef Py_ssize_t c, i
    for c in range(t.channels):
        i = c * t.step
        grad_beta[i] = sums[SUM_DY * pitch + c]
        grad_gamma[i] = sums[SUM_DY_X * pitch + c] * invstd_of(n[i], m2[i], job.norm.eps)


cdef void merge_gradients(const Job *job) noexcept nogil:
    """Add up the partials of each chunk in order, and write the gradients."""
    cdef const Plan *p = &job.plan
    cdef Py_ssize_t chunk, k, i, pitch = p.state_pitch
    cdef double *sums
    cdef double *partial
    cdef Task t
    for chunk in range(n_chunks(job)):
        t = make_task(job.view, p, chunk * p.chunk_tasks)
        sums = job.partials + chunk * p.chunk_tasks * PARTIAL_ROWS * pitch
        for k in range(1, p.chunk_tasks):
            partial = sums + k * PARTIAL_ROWS * pitch
            for i in range(0, SUM_ROWS, 2):
                add_sums(partial + i * pitch, t.channels, sums + i * pitch, pitch)
                add_sums(partial + (i + 1) * pitch, t.channels, sums + i * pitch, pitch)
        emit_gradients(job, &t, sums, pitch)


cdef int slope_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef const Plan *p = &job.plan
    cdef const Norm *norm = job.norm
    cdef Task t = make_task(job.view, p, task)
    cdef double stack[ROOM]
    cdef double *tile = NULL
    cdef Py_ssize_t c, i
    cdef Coefficients w
    cdef Block b
    if not make_rows(&w, p, 0, stack) or not make_tile(job.view, p, &tile):
        give_back(w.room, stack)
        free(tile)
        return -1
    make_coefficients(job.view, p, &t, norm, &w)
    fetch(job.grads + GRAD_BETA * norm.pitch, &t, w.beta)
    fetch(job.grads + GRAD_GAMMA * norm.pitch, &t, w.slope)
    for c in range(t.channels):
        w.slope[c] *= w.invstd[c] / w.n[c]
        w.beta[c] = w.beta[c] / w.n[c] - (w.mean_lo[c] * w.slope[c] if w.mean_lo[c] != 0 else 0.0)
        w.slope[c] *= w.scale[c]
    to_columns(p, &t, &w, w.mean)
    to_columns(p, &t, &w, w.scale)
    to_columns(p, &t, &w, w.beta)
    to_columns(p, &t, &w, w.slope)
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, w.anchor, tile)
        slope_block(&b, &w, job.omit)
        write_block(job.view, p, &t, i, &b)
    give_back(w.room, stack)
    free(tile)
    return 0
