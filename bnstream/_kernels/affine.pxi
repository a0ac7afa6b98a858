# Forward: y = (x - mean) * scale + (beta - mean_lo * scale),    scale = gamma / sqrt(m2 / n + eps)
#
# The arithmetic is in double, and the result is rounded once to the type of y. The error is half an ulp, whereas
# x * alpha + beta' in single precision loses as many digits as mean / sd has. Each element costs a conversion, three
# operations and a conversion back. Past the cache, that is hidden behind reading and writing.

cdef enum:
    COEFFICIENT_ROWS = 10

ctypedef struct Scaling:        # of a task's channels
    Scratch scratch
    Columns columns             # mean, scale, beta and slope, which are spread over the columns
    const double *n
    double *mean_lo
    double *invstd


cdef inline const double *row_of(const double *row, const Task *t, double *room) noexcept nogil:
    """The values of a task's channels in a row of a state, a norm or gradients: there, or copied to `room` if scattered."""
    cdef Py_ssize_t c
    if t.step == 1:
        return row + t.place
    for c in range(t.channels):
        room[c] = row[t.place + c * t.step]
    return room


cdef inline void fetch(const double *row, const Task *t, double *values) noexcept nogil:
    """Copy them."""
    cdef const double *there = row_of(row, t, values)
    if there != values:
        memcpy(values, there, t.channels * sizeof(double))


cdef inline double invstd_of(double n, double m2, double eps) noexcept nogil:
    """1 / sqrt(var + eps), and 1 where that divides by 0: a constant channel is centered and not divided.

    An instance with nothing selected has n = 0, and var = 0 here.
    """
    cdef double square = m2 / (n if n > 0 else 1) + eps
    return 1 / sqrt(square) if square != 0 else 1


cdef inline const double *set_invstd(const Norm *norm, const Task *t, double *room, double *invstd) noexcept nogil:
    """Set invstd of a task's channels, and return their n, which may be in `room`."""
    cdef const double *n = row_of(norm.rows + N * norm.pitch, t, room)
    cdef const double *m2 = row_of(norm.rows + M2 * norm.pitch, t, invstd)
    cdef const double *mean = norm.rows + MEAN * norm.pitch + t.place
    cdef Py_ssize_t c
    if norm.about_zero:
        for c in range(t.channels):
            invstd[c] = invstd_of(n[c], m2[c] + n[c] * mean[c * t.step] * mean[c * t.step], norm.eps)
        return n
    for c in range(t.channels):
        invstd[c] = invstd_of(n[c], m2[c], norm.eps)
    return n


cdef bint make_scaling(const Job *job, const Task *t, Py_ssize_t n_more, double *stack, Scaling *w) noexcept nogil:
    """Set the coefficients of a task's channels, all but slope. Return whether there was memory, for n_more rows as well."""
    cdef const Plan *p = &job.plan
    cdef const Norm *norm = job.norm
    cdef Columns *columns = &w.columns
    cdef Py_ssize_t c, pitch = p.pitch
    cdef Element element = job.view.operand[0].element
    cdef const double *gamma
    cdef pair mean
    if not make_scratch(job.view, p, (COEFFICIENT_ROWS + n_more) * pitch, stack, &w.scratch):
        return False
    w.columns = columns_at(w.scratch.rows)
    columns.scale = columns.mean + pitch
    columns.beta = columns.mean + 2 * pitch
    columns.slope = columns.mean + 3 * pitch
    w.mean_lo = columns.mean + 4 * pitch
    w.invstd = columns.mean + 5 * pitch
    columns.anchors.high = columns.mean + 7 * pitch
    columns.anchors.low = columns.mean + 8 * pitch
    columns.rest = columns.mean + 9 * pitch
    if norm.about_zero:
        memset(columns.mean, 0, t.channels * sizeof(double))
        memset(w.mean_lo, 0, t.channels * sizeof(double))
    else:
        fetch(norm.rows + MEAN * norm.pitch, t, columns.mean)
        fetch(norm.rows + MEAN_LO * norm.pitch, t, w.mean_lo)
    w.n = set_invstd(norm, t, columns.mean + 6 * pitch, w.invstd)
    if norm.plain:
        memset(columns.beta, 0, t.channels * sizeof(double))
        memcpy(columns.scale, w.invstd, t.channels * sizeof(double))
    else:
        fetch(norm.rows + BETA * norm.pitch, t, columns.beta)
        gamma = row_of(norm.rows + GAMMA * norm.pitch, t, columns.scale)
        for c in range(t.channels):
            columns.scale[c] = gamma[c] * w.invstd[c]
    if p.anchored:
        for c in range(t.channels):
            set_anchor(&columns.anchors, c, nearest_integer(columns.mean[c], element), element)
            mean.hi = columns.mean[c]
            mean.lo = w.mean_lo[c]
            if finite(mean.hi):
                mean = add(mean, negative(anchor_value(&columns.anchors, c, element)))
            columns.mean[c] = mean.hi
            w.mean_lo[c] = mean.lo
    return True


cdef void to_columns(const Plan *p, const Task *t, double *values, double *room) noexcept nogil:
    """Spread the values of a task's channels over its columns, in place, unless it is by runs. `room` is overwritten."""
    if not p.by_runs and (p.fold > 1 or p.inner > 1):
        memcpy(room, values, t.channels * sizeof(double))
        spread(room, p.fold, t.channels, p.inner, values)


cdef void anchors_to_columns(const Plan *p, const Task *t, const Anchors *anchors, double *room) noexcept nogil:
    """Spread the anchors over the columns, unless a tile has subtracted them."""
    if p.anchored and not p.tiled:
        to_columns(p, t, anchors.high, room)
        to_columns(p, t, anchors.low, room)


cdef inline void use_elementwise(const Elementwise *each, const Plan *p, Py_ssize_t index, Block *b,
                                 Columns *w) noexcept nogil:
    """Let block number `index` of a task have the parameters of its batch positions as weights."""
    if each == NULL:
        return
    b.count = WEIGHTED
    b.at = first_position(p, index)
    b.weights = <char *> (each.gamma + b.at)
    w.to_beta = each.beta - each.gamma


cdef int affine_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef const Plan *p = &job.plan
    cdef Task t = make_task(job.view, p, task)
    cdef double stack[ROOM_DOUBLES]
    cdef Py_ssize_t i, c
    cdef bint found = False
    cdef Scaling w
    cdef Block b
    if not make_scaling(job, &t, 0, stack, &w):
        return -1
    for c in range(t.channels):         # If scale is inf, the product would be inf or NaN.
        w.columns.beta[c] -= w.mean_lo[c] * w.columns.scale[c] if finite(w.columns.scale[c]) else 0.0
    to_columns(p, &t, w.columns.mean, w.invstd)
    to_columns(p, &t, w.columns.scale, w.invstd)
    to_columns(p, &t, w.columns.beta, w.invstd)
    anchors_to_columns(p, &t, &w.columns.anchors, w.invstd)
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, &w.columns.anchors, w.scratch.tile)
        use_elementwise(job.norm.each, p, i, &b, &w.columns)
        found |= sweep(LOOK, &b, b.count, &w.columns) if job.look else sweep(AFFINE, &b, b.count, &w.columns)
        write_block(job.view, p, &t, i, &b)
    give_back(&w.scratch)
    return found
