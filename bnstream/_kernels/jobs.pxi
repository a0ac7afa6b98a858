# What the table offers. A job is a view and its plan; threads take its tasks, and which takes which changes no bit.
#
# Training reads x twice: for the moments, then for y. Where a task has all rows of its channels, and these fit into the L2
# cache, it does both at once, and the second time finds them there. So does backward, with x and dy. What is written is not
# counted: it takes the place of what has just been read for the last time. Where it does not fit, the second pass goes
# through the tasks backwards, as what was read last is in the L3 cache still.

cdef enum:
    PART_ROWS = 5           # of a task's part of a result: a state has five, sums of gradients four

ctypedef struct Job:
    const View *view
    const Sink *sink
    const Layer *layer
    double *grads
    double *parts
    bint omit
    bint look
    int n_threads
    Plan plan

ctypedef int (*Task)(const Job *job, Py_ssize_t task) noexcept nogil


cdef Job make_job(const View *view, const Sink *sink, const Layer *layer, bint omit, int n_threads,
                  Purpose purpose) noexcept nogil:
    cdef Job job
    job.view = view
    job.sink = sink
    job.layer = layer
    job.grads = job.parts = NULL
    job.omit = omit
    job.look = False
    job.n_threads = n_threads
    job.plan = make_plan(view, purpose)
    return job


cdef inline Py_ssize_t n_groups(const Job *job) noexcept nogil:
    return job.plan.n_slabs * job.plan.n_chunks


cdef bint make_parts(Job *job) noexcept nogil:
    cdef Py_ssize_t n = n_groups(job) * job.plan.n_segments * PART_ROWS * job.plan.state_pitch
    job.parts = <double *> malloc(n * sizeof(double))
    return job.parts != NULL


cdef bint cached(const Job *job) noexcept nogil:
    """Whether a task finds in the cache what it has just read."""
    cdef Py_ssize_t n_bytes = 0
    cdef int k
    for k in range(job.view.n_read):
        n_bytes += job.view.operand[k].itemsize
    return job.plan.n_segments == 1 and job.view.n_rows * job.plan.chunk * n_bytes <= <Py_ssize_t> CACHED


cdef int run(const Job *job, Task body, Py_ssize_t n_tasks, bint backwards) noexcept nogil:
    cdef Py_ssize_t task
    cdef int failed = 0
    if job.n_threads == 1 or n_tasks == 1:
        for task in range(n_tasks):
            failed |= body(job, n_tasks - 1 - task if backwards else task)
    else:
        for task in prange(n_tasks, num_threads=min(job.n_threads, n_tasks), schedule='static'):
            failed |= body(job, n_tasks - 1 - task if backwards else task)
    return failed


cdef int moments_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """A task's state to its part, or, where a group of channels has but one segment, to the sink."""
    cdef Segment t = make_segment(job.view, &job.plan, task)
    cdef Py_ssize_t pitch = job.plan.state_pitch
    cdef double stack[ROOM]
    cdef bint direct = job.parts == NULL and job.sink.state != NULL and t.step == 1
    cdef int failed
    cdef Work w
    if not make_work(&w, &job.plan, stack):
        return -1
    if job.parts != NULL:
        w.segment = job.parts + task * PART_ROWS * pitch
    elif direct:
        w.segment = job.sink.state + t.place
        pitch = job.sink.pitch
    failed = segment_state(job.view, &job.plan, &t, job.omit, &w, pitch)
    if job.parts == NULL and not direct and not failed:
        emit(w.segment, pitch, t.channels, job.sink, t.place, t.step)
    give_back(w.room, stack)
    return failed


cdef void emit_states(const Job *job) noexcept nogil:
    """The states of all groups, merged from the parts of their tasks."""
    cdef Py_ssize_t i, k, n = job.plan.n_segments, pitch = job.plan.state_pitch
    cdef double *part
    cdef Segment t
    for i in range(n_groups(job)):
        part = job.parts + i * n * PART_ROWS * pitch
        t = make_segment(job.view, &job.plan, i * n)
        for k in range(1, n):
            merge(part, pitch, NULL, part + k * PART_ROWS * pitch, pitch, round_up(t.channels, job.plan.granule))
        emit(part, pitch, t.channels, job.sink, t.place, t.step)


cdef int run_moments(Job *job) noexcept nogil:
    cdef int failed
    if job.plan.n_segments > 1 and not make_parts(job):
        return -1
    failed = run(job, moments_task, n_groups(job) * job.plan.n_segments, False)
    if job.parts != NULL and not failed:
        emit_states(job)
    free(job.parts)
    return failed


cdef int run_affine(const Job *job) noexcept nogil:
    return run(job, affine_task, n_groups(job) * job.plan.n_segments, True)


cdef int accumulate(const View *view, const Sink *sink, bint omit, int n_threads) noexcept nogil:
    # with y beside x, the moments of training, bit for bit, whose plan is for reading twice
    cdef Job job = make_job(view, sink, NULL, omit, n_threads, TWICE if view.n_operands > 1 else ONCE)
    return run_moments(&job)


cdef int affine(const View *view, const Layer *layer, bint look, int n_threads) noexcept nogil:
    cdef Job job = make_job(view, NULL, layer, False, n_threads, MAP)
    job.look = look
    return run_affine(&job)


cdef int standardize_task(const Job *job, Py_ssize_t task) noexcept nogil:
    if moments_task(job, task):
        return -1
    return affine_task(job, task)


cdef int standardize(const View *view, const Layer *layer, bint omit, int n_threads) noexcept nogil:
    cdef Sink sink
    sink.state = layer.rows
    sink.pitch = layer.pitch
    cdef Job job = make_job(view, &sink, layer, omit, n_threads, TWICE)
    if cached(&job):
        return run(&job, standardize_task, n_groups(&job), False)
    if run_moments(&job):
        return -1
    return run_affine(&job)


cdef int backward_task(const Job *job, Py_ssize_t task) noexcept nogil:
    if gradient_task(job, task):
        return -1
    return slope_task(job, task)


cdef int run_backward(const View *view, const Layer *layer, double *grads, bint omit, int n_threads,
                      bint slope) noexcept nogil:
    cdef Job job = make_job(view, NULL, layer, omit, n_threads, TWICE if slope else ONCE)
    cdef Py_ssize_t n_tasks = n_groups(&job) * job.plan.n_segments
    cdef int failed
    job.grads = grads
    if slope and cached(&job):
        return run(&job, backward_task, n_tasks, False)
    if job.plan.n_segments > 1 and not make_parts(&job):
        return -1
    failed = run(&job, gradient_task, n_tasks, False)
    if job.parts != NULL and not failed:
        merge_gradients(&job)
    free(job.parts)
    if slope and not failed:
        failed = run(&job, slope_task, n_tasks, True)
    return failed


cdef int gradients(const View *view, const Layer *layer, double *grads, bint omit, int n_threads) noexcept nogil:
    return run_backward(view, layer, grads, omit, n_threads, False)


cdef int backward(const View *view, const Layer *layer, double *grads, bint omit, int n_threads) noexcept nogil:
    return run_backward(view, layer, grads, omit, n_threads, True)
