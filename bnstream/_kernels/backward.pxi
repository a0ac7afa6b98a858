# Backward, with xhat = (x - mean) * invstd, invstd = 1 / sqrt(var + eps):
#
#   grad_beta = sum of dy       grad_gamma = sum of dy * xhat
#   dx = gamma * invstd * (dy - grad_beta / n - xhat * grad_gamma / n)
#      = dy * scale - beta - (x - mean) * slope
#
#   scale = gamma * invstd      beta = invstd * sum of gamma * grad_beta / n
#                               slope = invstd**2 * sum of gamma * grad_gamma / n
#
# These sums are over the group of channels that share their statistics. In batch normalization it has one channel. With
# elementwise parameters, dy is multiplied by gamma first. About zero, beta is 0.
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


cdef inline void prepare_elementwise(const Job *job, const Task *t, double *strips, Scaling *w) noexcept nogil:
    """Set what the sums of elementwise parameters need. `strips` has STRIP_DOUBLES; declared where it is used, GCC would
    put one on the stack for each type of elements."""
    cdef Py_ssize_t c
    for c in range(t.channels):
        w.columns.rest[c] = -w.mean_lo[c] * w.columns.scale[c]
    w.columns.each_sums = job.each_sums
    w.columns.each_pitch = job.norm.each.n
    w.columns.settles = job.settles
    w.columns.strips = at_line(strips)


cdef int gradient_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """Write the sums of a task to its partial, or the gradients to their places if it is the only task of its chunk."""
    cdef const Plan *p = &job.plan
    cdef Task t = make_task(job.view, p, task)
    cdef Py_ssize_t i, c, n = n_sums(p, t.channels)
    cdef double stack[ROOM_DOUBLES]
    cdef double strips[STRIP_DOUBLES]
    cdef double *s
    cdef double *q
    cdef double *sums
    cdef bint each = job.each_sums != NULL and not job.once      # else with the slope
    cdef Scaling w
    cdef Block b
    if not make_scaling(job, &t, 2 + SUM_ROWS, stack, &w):
        return -1
    if each:
        prepare_elementwise(job, &t, strips, &w)
    s = w.columns.s = w.scratch.rows + COEFFICIENT_ROWS * p.pitch
    q = w.columns.q = s + p.pitch
    sums = q + p.pitch if job.partials == NULL else job.partials + task * PARTIAL_ROWS * p.state_pitch
    to_columns(p, &t, w.columns.mean, w.columns.slope)
    memset(sums, 0, SUM_ROWS * p.state_pitch * sizeof(double))
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, &w.columns.anchors, w.scratch.tile)
        if job.view.selective:          # x may hold anything there, and 0 times NaN is NaN.
            set_unselected(&b, 0, NULL)
            set_unselected(&b, 1, NULL)
        use_elementwise(job.norm.each, p, i, &b, &w.columns)
        if each:
            sweep(ELEMENTWISE, &b, ALL, &w.columns)
        memset(s, 0, n * sizeof(double))
        memset(q, 0, n * sizeof(double))
        sweep(GRADIENTS, &b, with_finite(b.count, job.omit), &w.columns)
        if not p.by_runs:
            add_up(s, p.fold, t.channels, p.inner)
            add_up(q, p.fold, t.channels, p.inner)
        add_sums(s, t.channels, sums + SUM_DY * p.state_pitch, p.state_pitch)
        add_sums(q, t.channels, sums + SUM_DY_X * p.state_pitch, p.state_pitch)
    for c in range(t.channels):         # Correct the sum of dy * (x - mean) for mean_lo.
        s[c] = -w.mean_lo[c] * sums[SUM_DY * p.state_pitch + c] if w.mean_lo[c] != 0 else 0.0
    add_sums(s, t.channels, sums + SUM_DY_X * p.state_pitch, p.state_pitch)
    if job.partials == NULL:
        emit_gradients(job, &t, sums, p.state_pitch, w.invstd)
    give_back(&w.scratch)
    return 0


cdef void emit_gradients(const Job *job, const Task *t, double *sums, Py_ssize_t pitch, const double *invstd) noexcept nogil:
    """Write grad_beta and grad_gamma of a task's channels, from their sums, which change."""
    cdef double *grads = job.grads + t.place
    cdef f64_out of_gamma = sums + SUM_DY_X * pitch
    cdef Py_ssize_t c
    for c in range(t.channels):
        of_gamma[c] *= invstd[c]
    emit_row(sums + SUM_DY * pitch, t.channels, grads + GRAD_BETA * job.norm.pitch, t.step)
    emit_row(of_gamma, t.channels, grads + GRAD_GAMMA * job.norm.pitch, t.step)


cdef void pool_gradients(const Job *job, Py_ssize_t first, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """Set the pooled gradients of n channels, at places first, first + step, ... Groups are whole, and lie side by side."""
    cdef const Norm *norm = job.norm
    cdef const double *gamma = norm.rows + GAMMA * norm.pitch + first
    cdef f64_out row
    cdef Py_ssize_t i, c, k, group = job.view.group
    cdef double total
    for i in range(2):
        row = job.grads + (POOLED_BETA + i) * norm.pitch + first
        if norm.about_zero and i == 0:
            for c in range(n):
                row[c * step] = 0
            continue
        for c in range(n):
            row[c * step] = row[c * step - 2 * norm.pitch] * (1.0 if norm.plain else gamma[c * step])
        if group == 1:
            continue
        for c in range(div(n, group)):
            total = sum_of_array(row, group)
            for k in range(group):
                row[k] = total
            row += group


cdef void merge_gradients(const Job *job) noexcept nogil:
    """Add up the partials of each chunk in order, and write the gradients."""
    cdef const Plan *p = &job.plan
    cdef Py_ssize_t chunk, k, i, pitch = p.state_pitch
    cdef double *sums
    cdef double *partial
    cdef double *invstd
    cdef Task t
    for chunk in range(p.n_chunks):
        t = make_task(job.view, p, chunk)
        sums = job.partials + chunk * PARTIAL_ROWS * pitch
        for k in range(1, p.chunk_tasks):
            partial = sums + k * p.n_chunks * PARTIAL_ROWS * pitch
            for i in range(0, SUM_ROWS, 2):
                add_sums(partial + i * pitch, t.channels, sums + i * pitch, pitch)
                add_sums(partial + (i + 1) * pitch, t.channels, sums + i * pitch, pitch)
        invstd = sums + SUM_ROWS * pitch        # further rows of the partial
        set_invstd(job.norm, &t, invstd + pitch, invstd)
        emit_gradients(job, &t, sums, pitch, invstd)


cdef int slope_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef const Plan *p = &job.plan
    cdef Task t = make_task(job.view, p, task)
    cdef double stack[ROOM_DOUBLES]
    cdef double strips[STRIP_DOUBLES]
    cdef double *beta
    cdef double *slope
    cdef Py_ssize_t c, i
    cdef bint each = job.each_sums != NULL and job.once
    cdef Scaling w
    cdef Block b
    if not make_scaling(job, &t, 0, stack, &w):
        return -1
    beta = w.columns.beta
    slope = w.columns.slope
    fetch(job.grads + POOLED_BETA * job.norm.pitch, &t, beta)
    fetch(job.grads + POOLED_GAMMA * job.norm.pitch, &t, slope)
    for c in range(t.channels):         # beta is corrected for mean_lo.
        slope[c] = slope[c] * w.invstd[c] / w.n[c] * w.invstd[c]        # in an order in which no factor overflows alone
        beta[c] = beta[c] * w.invstd[c] / w.n[c] - (w.mean_lo[c] * slope[c] if w.mean_lo[c] != 0 else 0.0)
    if each:
        prepare_elementwise(job, &t, strips, &w)
    to_columns(p, &t, w.columns.mean, w.invstd)
    to_columns(p, &t, w.columns.scale, w.invstd)
    to_columns(p, &t, beta, w.invstd)
    to_columns(p, &t, slope, w.invstd)
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, &w.columns.anchors, w.scratch.tile)
        use_elementwise(job.norm.each, p, i, &b, &w.columns)
        if each:
            sweep(SLOPE_ELEMENTWISE, &b, ALL, &w.columns)
        else:
            sweep(SLOPE, &b, with_finite(b.count, job.omit), &w.columns)
        write_block(job.view, p, &t, i, &b)
    give_back(&w.scratch)
    return 0
