# The gradients of elementwise parameters. They are sums over the channels at each batch position:
#
#   grad_beta = sum of dy       grad_gamma = sum of dy * xhat,      xhat = (x - mean) * scale - mean_lo * scale
#
# Backward reads x and dy for them a second time, from the cache, with 7 operations for each element. Teams of neighbouring
# tasks have sums of their own, which are merged in order. The view alone decides which tasks are a team.

cdef enum:
    STRIP = 256                 # Positions are summed in strips of as many, whose sums stay in the L1 cache.
    TEAM_CHANNELS = 16          # A team has at least as many channels, so that its sums take less room than its data.


cdef inline void sum_strip(const native *x, const native *dy, Py_ssize_t x_pitch, Py_ssize_t dy_pitch, const Columns *w,
                           Py_ssize_t c, int rows, Py_ssize_t n, double *s, double *q) noexcept nogil:
    """Add `rows` channels from c on, 1 or 4, to the sums of n positions. s and q have whole vectors."""
    cdef vec g[4]
    cdef vec h[4]
    cdef Center center
    cdef Py_ssize_t j = 0, some
    cdef int r
    center.mean = center.high = center.low = all_of(0)
    while j < n:
        some = min(n - j, <Py_ssize_t> VECTOR)
        for r in range(rows):
            g[r] = values_of(dy + r * dy_pitch + j, some, center)
            h[r] = minus(values_of(x + r * x_pitch + j, some, center), all_of(w.mean[c + r]))
            h[r] = g[r] * plus(h[r] * all_of(w.scale[c + r]), all_of(w.beta[c + r]))
        if rows == 4:
            g[0] = plus(plus(g[0], g[1]), plus(g[2], g[3]))
            h[0] = plus(plus(h[0], h[1]), plus(h[2], h[3]))
        put(s + j, plus(get(s + j), g[0]))
        put(q + j, plus(get(q + j), h[0]))
        j += VECTOR


cdef inline void sum_strips(const native *x, const native *dy, const Block *b, const Columns *w, Py_ssize_t n,
                            double *sums) noexcept nogil:
    """Add all channels of a block to the sums of n positions."""
    cdef double s[STRIP]
    cdef double q[STRIP]
    cdef Py_ssize_t c = 0, stop
    cdef Py_ssize_t x_pitch = b.layout[0].channel_pitch, dy_pitch = b.layout[1].channel_pitch
    while c < b.n_channels:
        stop = min(b.n_channels, c + BLOCK_ROWS)
        memset(s, 0, sizeof(s))
        memset(q, 0, sizeof(q))
        while c + 3 < stop:
            sum_strip(x + c * x_pitch, dy + c * dy_pitch, x_pitch, dy_pitch, w, c, 4, n, s, q)
            c += 4
        while c < stop:
            sum_strip(x + c * x_pitch, dy + c * dy_pitch, x_pitch, dy_pitch, w, c, 1, n, s, q)
            c += 1
        add_sums(s, n, sums + SUM_DY * w.each_pitch, w.each_pitch)
        add_sums(q, n, sums + SUM_DY_X * w.each_pitch, w.each_pitch)


cdef inline void sum_elementwise(const native *x, const native *dy, const Block *b, const Columns *w) noexcept nogil:
    """Add a block to the sums of its positions."""
    cdef Py_ssize_t i, j
    for i in range(ceil_div(b.width, STRIP)):
        j = i * STRIP
        sum_strips(x + j, dy + j, b, w, min(b.width - j, <Py_ssize_t> STRIP), w.each_sums + b.at + j)


cdef inline Py_ssize_t team_sums(const Job *job, Py_ssize_t team) noexcept nogil:
    """Where the sums of a team begin. Parts of rows, which are teams by themselves, have different positions."""
    return team * SUM_ROWS * job.norm.each.n if job.plan.chunk_tasks == 1 else 0


cdef int team_task(const Job *job, Py_ssize_t team) noexcept nogil:
    """Do backward for all tasks of a team, or only its sums if the data does not stay in the cache for more."""
    cdef Py_ssize_t task, n = n_tasks(job)
    cdef Job own = job[0]
    cdef int failed = 0
    own.each_sums += team_sums(job, team)
    for task in range(div(n * team, job.n_teams), div(n * (team + 1), job.n_teams)):
        failed |= backward_task(&own, task) if cached(job) else gradient_task(&own, task)
    return failed


cdef void merge_teams(const Job *job) noexcept nogil:
    """Add up the sums of the teams in order, and write the gradients."""
    cdef const Elementwise *each = job.norm.each
    cdef Py_ssize_t i, team, n = each.n
    cdef double *sums = job.each_sums
    cdef double *of_team
    for team in range(1, job.n_teams if job.plan.chunk_tasks == 1 else 1):
        of_team = sums + team_sums(job, team)
        for i in range(0, SUM_ROWS, 2):
            add_sums(of_team + i * n, n, sums + i * n, n)
            add_sums(of_team + (i + 1) * n, n, sums + i * n, n)
    memcpy(each.of_beta, sums + SUM_DY * n, n * sizeof(double))
    memcpy(each.of_gamma, sums + SUM_DY_X * n, n * sizeof(double))


cdef int perform_teams(Job *job) noexcept nogil:
    """Write the gradients of elementwise parameters, those of the channels, and dx if the data stays in the cache."""
    cdef int failed
    job.n_teams = job.plan.chunk_tasks
    if job.n_teams == 1:
        job.n_teams = max(1, min(min(TASKS, job.plan.n_chunks), job.view.n_channels // TEAM_CHANNELS))
    job.each_sums = <double *> calloc(team_sums(job, job.n_teams - 1) + SUM_ROWS * job.norm.each.n, sizeof(double))
    if job.each_sums == NULL:
        return -1
    failed = perform(job, team_task, job.n_teams, False)
    if not failed:
        merge_teams(job)
    free(job.each_sums)
    return failed
