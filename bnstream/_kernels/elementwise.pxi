# The gradients of elementwise parameters. They are sums over the channels at each batch position:
#
#   grad_beta = sum of dy       grad_gamma = sum of dy * xhat,      xhat = (x - mean) * scale + rest
#
#   scale = invstd              rest = -mean_lo * invstd
#
# They are summed in the pass that writes dx, if the data stays in the cache, with 5 more operations for each element, else
# in a pass of their own. Teams of neighboring tasks have sums of their own, which are merged in order. The view alone
# decides which tasks are a team.

cdef enum:
    EACH_ROWS = SUM_ROWS + 2    # rows of the sums of a team: pairs, and doubles, the sums of up to BLOCK_ROWS channels
    TEAM_CHANNELS = 16          # A team has at least as many channels, so that its sums take less room than its data.


ctypedef struct Strip:          # of some positions, in channels of a block
    Py_ssize_t x_pitch          # from channel to channel
    Py_ssize_t dy_pitch
    Py_ssize_t y_pitch
    Py_ssize_t ahead            # channels from a load to its prefetch
    const double *gamma
    double *s                   # sums of dy and of dy * xhat, in whole vectors
    double *q

cdef inline void sum_vectors(bint slope, bint stream, int rows, const native *x, const native *dy, char *y,
                             const Strip *strip, const Coefficients *by, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Add n elements from j on of each of some rows to the sums, and with `slope` write their dx."""
    cdef vec g[4]
    cdef vec h[4]
    cdef vec d, gamma = get(strip.gamma + j) if slope else all_of(0)
    cdef int r
    for r in range(rows):
        if stream:
            prefetch_line(x + (r + strip.ahead) * strip.x_pitch, j)
            prefetch_line(dy + (r + strip.ahead) * strip.dy_pitch, j)
        g[r] = values_of(dy + r * strip.dy_pitch + j, n, by[r].center)
        d = minus(values_of(x + r * strip.x_pitch + j, n, by[r].center), by[r].center.mean)
        h[r] = g[r] * plus(d * by[r].scale, by[r].rest)
        if slope:
            write(x, y + (r * strip.y_pitch + j) * result_size(x), slope_of(g[r] * gamma, d, by[r]), n, False)
    if rows == 4:
        g[0] = plus(plus(g[0], g[1]), plus(g[2], g[3]))
        h[0] = plus(plus(h[0], h[1]), plus(h[2], h[3]))
    put(strip.s + j, plus(get(strip.s + j), g[0]))
    put(strip.q + j, plus(get(strip.q + j), h[0]))


cdef inline void sum_strip(bint slope, bint stream, int rows, const native *x, const native *dy, char *y,
                           const Strip *strip, const Columns *w, Py_ssize_t c, Py_ssize_t n) noexcept nogil:
    """Add `rows` channels from c on, 1 or 4, to the sums of n positions, and with `slope` write their dx to y."""
    cdef Coefficients by[4]
    cdef Columns of
    cdef Py_ssize_t j = 0
    cdef int r
    for r in range(rows):
        of = of_channel(w, c + r)
        by[r] = coefficients_of(SLOPE if slope else AFFINE, x, &of, 0, True)
        by[r].rest = all_of(w.rest[c + r])
    while j < n - VECTOR + 1:
        sum_vectors(slope, stream, rows, x, dy, y, strip, by, j, VECTOR)
        j += VECTOR
    if j < n:
        sum_vectors(slope, stream, rows, x, dy, y, strip, by, j, n - j)


cdef inline void map_strip(bint slope, bint stream, int rows, const native *x, const native *dy, char *y, const Strip *strip,
                           const Columns *w, Py_ssize_t c, Py_ssize_t n) noexcept nogil:
    """`sum_strip`, but results that go around the caches are first collected in whole cache lines."""
    cdef char *room = <char *> (w.strips + 2 * STRIP)
    cdef Strip own
    cdef Py_ssize_t size = result_size(x)
    cdef int r
    if not stream:
        sum_strip(slope, False, rows, x, dy, y, strip, w, c, n)
        return
    own = strip[0]
    own.y_pitch = STRIP
    sum_strip(slope, True, rows, x, dy, room, &own, w, c, n)
    for r in range(rows):
        stream_bytes(y + r * strip.y_pitch * size, room + r * STRIP * size, n * size)


cdef inline void sum_strips(bint slope, bint stream, const native *x, const native *dy, char *y, const Block *b,
                            const Columns *w, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Add all channels of a block to the sums of n positions from j on, and with `slope` write their dx."""
    cdef double *s = w.strips
    cdef double *q = s + STRIP
    cdef Strip strip
    cdef double *sums = w.each_sums + b.at + j
    cdef double *recent = sums + SUM_ROWS * w.each_pitch
    cdef Py_ssize_t c = 0, stop, size = result_size(x)
    strip.x_pitch = b.layout[0].channel_pitch
    strip.dy_pitch = b.layout[1].channel_pitch
    strip.y_pitch = b.layout[2].channel_pitch
    strip.ahead = b.channels_ahead
    strip.gamma = <const double *> b.weights + j
    strip.s = s
    strip.q = q
    memcpy(s, recent, n * sizeof(double))
    memcpy(q, recent + w.each_pitch, n * sizeof(double))
    x += j
    dy += j
    y += j * size
    while c < b.n_channels:
        stop = min(b.n_channels, c + BLOCK_ROWS)
        while c + 3 < stop:
            map_strip(slope, stream, 4, x + c * strip.x_pitch, dy + c * strip.dy_pitch, y + c * strip.y_pitch * size, &strip,
                      w, c, n)
            c += 4
        while c < stop:
            map_strip(slope, stream, 1, x + c * strip.x_pitch, dy + c * strip.dy_pitch, y + c * strip.y_pitch * size, &strip,
                      w, c, n)
            c += 1
        if w.settles or c < b.n_channels:
            add_sums(s, n, sums + SUM_DY * w.each_pitch, w.each_pitch)
            add_sums(q, n, sums + SUM_DY_X * w.each_pitch, w.each_pitch)
            memset(s, 0, n * sizeof(double))
            memset(q, 0, n * sizeof(double))
    memcpy(recent, s, n * sizeof(double))
    memcpy(recent + w.each_pitch, q, n * sizeof(double))


cdef inline void sum_elementwise(bint slope, const native *x, const native *dy, char *y, const Block *b,
                                 const Columns *w) noexcept nogil:
    """Add a block to the sums of its positions, and with `slope` write its dx."""
    cdef Py_ssize_t i, j, n
    for i in range(ceil_div(b.width, STRIP)):
        j = i * STRIP
        n = min(b.width - j, <Py_ssize_t> STRIP)
        if slope and b.stream:
            sum_strips(slope, True, x, dy, y, b, w, j, n)
        else:
            sum_strips(slope, False, x, dy, y, b, w, j, n)


cdef inline Py_ssize_t team_sums(const Job *job, Py_ssize_t team) noexcept nogil:
    """Where the sums of a team begin. Parts of rows, which are teams by themselves, have different positions."""
    return team * EACH_ROWS * job.norm.each.n if job.plan.chunk_tasks == 1 else 0


cdef inline Py_ssize_t first_task(const Job *job, Py_ssize_t team) noexcept nogil:
    return div(n_tasks(job) * team, job.n_teams)


cdef inline Py_ssize_t settling_tasks(const Job *job) noexcept nogil:
    """After as many tasks of a team, its doubles are added to its pairs."""
    return max(1, div(BLOCK_ROWS, job.plan.chunk))


cdef int team_task(const Job *job, Py_ssize_t team) noexcept nogil:
    """Do backward for all tasks of a team, or only its sums if the data does not stay in the cache for more."""
    cdef Py_ssize_t first = first_task(job, team), task
    cdef Job own = job[0]
    cdef int failed = 0
    own.each_sums += team_sums(job, team)
    for task in range(first, first_task(job, team + 1)):
        own.settles = (task + 1 - first) % settling_tasks(job) == 0
        failed |= backward_task(&own, task) if job.once else gradient_task(&own, task)
    return failed


cdef void merge_teams(const Job *job) noexcept nogil:
    """Add up the sums of the teams in order, and write the gradients."""
    cdef const Elementwise *each = job.norm.each
    cdef Py_ssize_t i, team, n = each.n
    cdef double *sums = job.each_sums
    cdef double *of_team
    for team in range(job.n_teams if job.plan.chunk_tasks == 1 else 1):
        of_team = sums + team_sums(job, team)
        for i in range(0, SUM_ROWS, 2):
            # A team that has not settled has only zeros in its pairs.
            if team > 0 and first_task(job, team + 1) - first_task(job, team) >= settling_tasks(job):
                add_sums(of_team + i * n, n, sums + i * n, n)
                add_sums(of_team + (i + 1) * n, n, sums + i * n, n)
            add_sums(of_team + (SUM_ROWS + i // 2) * n, n, sums + i * n, n)
    memcpy(each.of_beta, sums + SUM_DY * n, n * sizeof(double))
    memcpy(each.of_gamma, sums + SUM_DY_X * n, n * sizeof(double))


cdef int perform_teams(Job *job) noexcept nogil:
    """Write the gradients of elementwise parameters, those of the channels, and dx if the data stays in the cache."""
    cdef int failed
    job.n_teams = job.plan.chunk_tasks
    if job.n_teams == 1:
        job.n_teams = max(1, min(min(TASKS, job.plan.n_chunks), job.view.n_channels // TEAM_CHANNELS))
    job.each_sums = <double *> calloc(team_sums(job, job.n_teams - 1) + EACH_ROWS * job.norm.each.n, sizeof(double))
    if job.each_sums == NULL:
        return -1
    failed = perform(job, team_task, job.n_teams, False)
    if not failed:
        merge_teams(job)
    free(job.each_sums)
    job.each_sums = NULL
    return failed
