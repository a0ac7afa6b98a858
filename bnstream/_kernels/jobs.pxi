# The functions of `Kernels`. A job is a view with its plan. Any thread may do any of its tasks: that changes no bit.
#
# Training reads x twice: for the moments, then for y. If a task has all blocks of its chunk, and they fit into the L2 cache,
# it does both, and the second pass finds x in the cache. Backward does the same with x and dy. The result needs no room of
# its own: it replaces what has just been read for the last time. If the data does not fit, the second pass takes the tasks
# in reverse order, because the data read last is still in the L3 cache.

cdef enum:
    PARTIAL_ROWS = WEIGHTED_ROWS        # rows of a partial: those of a state, or the sums of gradients, invstd and n

cdef double AWAKE = 0.002       # seconds after a call for which its threads still spin
cdef double PATIENCE = 16       # how many times the loss of a call lasts the time in which calls use one thread

# What calls learn from each other, in seconds. Threads read and write it without a lock: a lost update costs one call.
ctypedef struct Pace:
    double ended                # when the last call on several threads ended
    double alone_until

cdef Pace pace

ctypedef int (*Body)(const Job *job, Py_ssize_t task) noexcept nogil


cdef Job make_job(const View *view, const Sink *sink, const Norm *norm, bint omit, int n_threads,
                  Purpose purpose) noexcept nogil:
    cdef Job job
    job.view = view
    job.sink = sink
    job.norm = norm
    job.grads = job.partials = job.each_sums = NULL
    job.tracked = NULL
    job.limbs = NULL
    job.counts = NULL
    job.omit = omit
    job.once = False
    job.settles = True
    job.look = False
    job.n_threads = n_threads
    job.plan = make_plan(view, purpose, n_threads)
    return job


cdef inline Py_ssize_t n_tasks(const Job *job) noexcept nogil:
    return job.plan.n_chunks * job.plan.chunk_tasks


cdef bint make_partials(Job *job) noexcept nogil:
    cdef Py_ssize_t n = n_tasks(job) * (PARTIAL_ROWS + (TRACKED_ROWS if job.tracked != NULL else 0)) * job.plan.state_pitch
    job.partials = <double *> malloc(n * sizeof(double))
    return job.partials != NULL


cdef bint cached(const Job *job) noexcept nogil:
    """Whether a task has all that its second pass needs: whole groups, and the data that it has read is in the cache."""
    return job.plan.chunk_tasks == 1 and holds_groups(job.view, job.plan.chunk)


cdef int do_tasks(const Job *job, Body body, Py_ssize_t start, Py_ssize_t stop, bint backwards) noexcept nogil:
    cdef Py_ssize_t task
    cdef int failed = 0
    for task in range(stop - start):
        failed |= body(job, stop - 1 - task if backwards else start + task)
    if job.plan.stream:
        wait_for_streams()
    return failed


cdef int perform(const Job *job, Body body, Py_ssize_t n_all, bint backwards) noexcept nogil:
    """Do all tasks of a job, or all teams, on one thread while other programs keep the cores busy.

    Each thread takes its share of neighboring tasks, the same ones for a second pass, `backwards`.

    Threads that wait for one without a core lose more than they gain: a call of 0.2 ms took 12 ms. A call has lost what it
    took beyond the caller's own share times the number of threads, which is the time of one thread. For PATIENCE times as
    long, one thread does all calls. A call that had to wake the threads is not judged.
    """
    cdef Py_ssize_t k
    cdef int failed = 0, n = min(<Py_ssize_t> job.n_threads, n_all)
    cdef double begin, end, lost
    cdef bint judged
    cdef double own[2]          # when the caller began its share, and ended it
    cdef double *share = own
    if n > 1:
        begin = now()
        n = 1 if begin < pace.alone_until else n
    if n <= 1:
        return do_tasks(job, body, 0, n_all, backwards)
    own[0] = own[1] = 0
    for k in prange(n, num_threads=n, schedule='static'):
        if k == 0:
            share[0] = now()
        failed |= do_tasks(job, body, div(n_all * k, n), div(n_all * (k + 1), n), backwards)
        if k == 0:
            share[1] = now()
    end = now()
    lost = end - begin - n * (own[1] - own[0])
    judged = begin - pace.ended < AWAKE
    pace.ended = end
    if lost > 0 and judged:
        pace.alone_until = end + PATIENCE * lost
        pace.ended = 0          # The next call will find its data in the cache of one core.
    return failed


cdef int moments_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """Write a task's state to its partial, or to the sink if it is the only task of its chunk."""
    cdef Task t = make_task(job.view, &job.plan, task)
    cdef Py_ssize_t pitch = job.plan.state_pitch
    cdef double stack[ROOM_DOUBLES]
    cdef bint direct = job.partials == NULL and job.sink.state != NULL and t.step == 1
    cdef Work w
    if not make_work(job.view, &job.plan, stack, &w):
        return -1
    if job.tracked != NULL:
        return tracking_task(job, &t, task, &w)
    if job.partials != NULL:
        w.state = job.partials + task * PARTIAL_ROWS * pitch
    elif direct:
        w.state = job.sink.state + t.place
        pitch = job.sink.pitch
    task_state(job.view, &job.plan, &t, job.omit, &w, pitch)
    if job.partials == NULL and not direct:
        emit(w.state, pitch, t.channels, job.sink, t.place, t.step, has_weights(job.view))
    give_back(&w.scratch)
    return 0


cdef int tracking_task(const Job *job, const Task *t, Py_ssize_t task, Work *w) noexcept nogil:
    """Do the same for a state and what is tracked beside it, or for the latter alone."""
    cdef Py_ssize_t pitch = job.plan.state_pitch
    cdef bint alone = job.tracked.alone
    cdef Tracking to
    if not make_tracking(job.view, &job.plan, job.tracked, &to, w):
        give_back(&w.scratch)
        return -1
    if job.partials != NULL:
        w.state = partial_of(job, task)
        to.rows = w.state + PARTIAL_ROWS * pitch
    if alone:
        extremes_of_task(job.view, &job.plan, t, job.omit, w)
    else:
        task_state(job.view, &job.plan, t, job.omit, w, pitch)
    if w.careful or job.omit and job.view.selective:
        job.tracked.careful[0] = True       # All threads write the same.
    if job.partials == NULL:
        emit_tracked(job, t, w.state, to.rows)
    free(to.heap)
    give_back(&w.scratch)
    return 0


cdef void emit_tracked(const Job *job, const Task *t, const double *state, const double *rows) noexcept nogil:
    """Write the states of a chunk, and what is tracked, to the sink."""
    cdef const Tracked *to = job.tracked
    cdef Py_ssize_t i, pitch = job.plan.state_pitch
    if not to.alone:
        emit(state, pitch, t.channels, job.sink, t.place, t.step, has_weights(job.view))
    for i in range(TRACKED_ROWS):
        if to.powers if i >= M3 else to.extremes:
            emit_row(rows + i * pitch, t.channels, to.rows + i * to.pitch + t.place, t.step)


cdef inline double *partial_of(const Job *job, Py_ssize_t task) noexcept nogil:
    """The partial of a task: the rows of its state, then those of what is tracked, if anything is."""
    cdef Py_ssize_t n_rows = PARTIAL_ROWS + (TRACKED_ROWS if job.tracked != NULL else 0)
    return job.partials + task * n_rows * job.plan.state_pitch


cdef void emit_partials(const Job *job) noexcept nogil:
    """Merge the partials of each chunk in order, with what is tracked, and write them to the sink."""
    cdef Py_ssize_t chunk, k, n = job.plan.n_chunks, pitch = job.plan.state_pitch, rows = PARTIAL_ROWS * pitch
    cdef double *first
    cdef double *other
    cdef bint weighted = has_weights(job.view), alone = job.tracked.alone
    cdef Task t
    for chunk in range(n):
        first = partial_of(job, chunk)
        t = make_task(job.view, &job.plan, chunk)
        for k in range(1, job.plan.chunk_tasks):
            other = partial_of(job, chunk + k * n)
            if alone:
                merge_extremes(first + rows, pitch, other + rows, pitch, t.channels)
                continue
            merge_tracked(first + rows, pitch, first if job.tracked.powers else NULL, pitch, other + rows, pitch, other,
                          pitch, t.channels)
            merge_states(first, pitch, other, pitch, round_up(t.channels, job.plan.granule), weighted)
        emit_tracked(job, &t, first, first + rows)


cdef void emit_states(const Job *job) noexcept nogil:
    """Merge the partials of each chunk in order, and write the states to the sink."""
    cdef Py_ssize_t chunk, k, n = job.plan.n_chunks, pitch = job.plan.state_pitch, rows = PARTIAL_ROWS * pitch
    cdef double *partial
    cdef bint weighted = has_weights(job.view)
    cdef Task t
    for chunk in range(n):
        partial = job.partials + chunk * rows
        t = make_task(job.view, &job.plan, chunk)
        for k in range(1, job.plan.chunk_tasks):
            merge_states(partial, pitch, partial + k * n * rows, pitch, round_up(t.channels, job.plan.granule), weighted)
        emit(partial, pitch, t.channels, job.sink, t.place, t.step, weighted)


cdef int perform_moments(Job *job) noexcept nogil:
    cdef int failed
    if job.plan.chunk_tasks > 1 and not make_partials(job):
        return -1
    failed = perform(job, moments_task, n_tasks(job), False)
    if job.partials != NULL and not failed:
        if job.tracked != NULL:
            emit_partials(job)
        else:
            emit_states(job)
    if job.view.group > 1 and not failed:
        pool_states(job.sink.state, job.sink.pitch, job.view.n_channels, job.view.group)
    free(job.partials)
    return failed


cdef int accumulate(const View *view, const Sink *sink, bint omit, int n_threads) noexcept nogil:
    # A view with y gets the plan of training, so that its moments have the same bits.
    cdef Job job = make_job(view, sink, NULL, omit, n_threads, TRAIN if view.n_operands > 1 else SUM)
    return perform_moments(&job)


cdef int accumulate_tracked(const View *view, const Sink *sink, const Tracked *tracked, bint omit,
                            int n_threads) noexcept nogil:
    cdef Job job = make_job(view, sink, NULL, omit, n_threads, SUM)
    job.tracked = tracked
    return perform_moments(&job)


cdef int affine(const View *view, const Norm *norm, bint look, int n_threads) noexcept nogil:
    cdef Job job = make_job(view, NULL, norm, False, n_threads, MAP)
    job.look = look
    return perform(&job, affine_task, n_tasks(&job), False)


cdef int standardize_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef Task t = make_task(job.view, &job.plan, task)
    if moments_task(job, task):
        return -1
    if job.view.group > 1:
        pool_states(job.sink.state + t.place, job.sink.pitch, t.channels, job.view.group)
    return affine_task(job, task)


cdef int standardize_only(const Job *job, Py_ssize_t task) noexcept nogil:
    """Standardize without a place for the state, in rows of the task's own."""
    cdef Task t = make_task(job.view, &job.plan, task)
    cdef double stack[STATE_DOUBLES]
    cdef double *rows = stack
    cdef Py_ssize_t n = STATE_ROWS * job.plan.state_pitch
    cdef Job own = job[0]
    cdef Norm norm = job.norm[0]
    cdef Sink sink
    cdef int failed
    if n > STATE_DOUBLES:
        rows = <double *> malloc(n * sizeof(double))
        if rows == NULL:
            return -1
    norm.rows = sink.state = rows - t.place         # so that the first channel has the first place
    norm.pitch = sink.pitch = job.plan.state_pitch
    own.norm = &norm
    own.sink = &sink
    failed = standardize_task(&own, task)
    if rows != stack:
        free(rows)
    return failed


cdef int standardize(const View *view, const Norm *norm, bint omit, int n_threads) noexcept nogil:
    cdef Sink sink
    cdef Norm whole = norm[0]
    cdef Job job = make_job(view, &sink, &whole, omit, n_threads, TRAIN)
    cdef int failed
    if norm.rows == NULL and cached(&job) and last_kept(view).stride[RESULT] == 1:
        return perform(&job, standardize_only, n_tasks(&job), False)
    if norm.rows == NULL:
        whole.pitch = round_up(view.n_channels, GRANULE)
        whole.rows = <double *> malloc(STATE_ROWS * whole.pitch * sizeof(double))
        if whole.rows == NULL:
            return -1
    sink.state = whole.rows
    sink.pitch = whole.pitch
    if cached(&job):
        failed = perform(&job, standardize_task, n_tasks(&job), False)
    else:
        failed = perform_moments(&job)
        if not failed:
            job.plan = make_plan(view, MAP, n_threads)
            failed = perform(&job, affine_task, n_tasks(&job), True)
    if norm.rows == NULL:
        free(whole.rows)
    return failed


cdef int backward_task(const Job *job, Py_ssize_t task) noexcept nogil:
    cdef Task t = make_task(job.view, &job.plan, task)
    if gradient_task(job, task):
        return -1
    pool_gradients(job, t.place, t.step, t.channels)
    return slope_task(job, task)


cdef int perform_backward(const View *view, const Norm *norm, double *grads, bint omit, int n_threads,
                          bint slope) noexcept nogil:
    cdef Job job = make_job(view, NULL, norm, omit, n_threads, BACKWARD)
    cdef int failed
    job.once = slope and cached(&job)
    job.grads = grads
    if job.plan.chunk_tasks > 1 and not make_partials(&job):
        return -1
    if norm.each != NULL:
        failed = perform_teams(&job)
    else:
        failed = perform(&job, backward_task if job.once else gradient_task, n_tasks(&job), False)
    if job.partials != NULL and not failed:
        merge_gradients(&job)
    free(job.partials)
    if slope and not job.once and not failed:
        pool_gradients(&job, 0, 1, view.n_channels)
        job.plan = make_plan(view, MAP, n_threads)
        failed = perform(&job, slope_task, n_tasks(&job), True)
    return failed


cdef int gradients(const View *view, const Norm *norm, double *grads, bint omit, int n_threads) noexcept nogil:
    return perform_backward(view, norm, grads, omit, n_threads, False)


cdef int backward(const View *view, const Norm *norm, double *grads, bint omit, int n_threads) noexcept nogil:
    return perform_backward(view, norm, grads, omit, n_threads, True)
