# Exact sums: of x, and of x * x, as integers. Addition of integers is associative: no cut, order, layout or number of
# threads changes a bit.
#
#   block -> bins of columns or lanes -> totals of a task, in 64 bits -> limbs of its channels
#
# A window belongs to a column, or by runs to a channel, until a block does not fit it. The first one is guessed.

cdef enum:
    SAMPLES = 8                 # rows of a block, or elements of a run, that a window is guessed from


cdef void add_totals(const Fixed *f, Py_ssize_t j, Py_ssize_t channel) noexcept nogil:
    """Add the totals of a column to the limbs of its channel, and begin again from 0."""
    cdef const Limbs *to = &f.to
    cdef uint64_t *s = limbs_of(to, channel)
    cdef int k, unit
    for k in range(f.n_bins):
        unit = unit_of(f.width, k, <int> f.window[j])
        if k < first_square(f.width):
            add_integer(s, to.s_limbs, f.totals[k][j], unit - 64 * to.s_first)
        else:
            add_integer(s + to.s_limbs, to.q_limbs, f.totals[k][j], unit - 64 * to.q_first)
        f.totals[k][j] = 0


cdef inline void set_nonfinite(f64_out x, Py_ssize_t n, int64_t *counts) noexcept nogil:
    """Count NaN and inf, and set them to 0."""
    cdef int64_t nans = 0, plus_infs = 0, minus_infs = 0
    cdef Py_ssize_t i
    for i in range(n):
        nans += x[i] != x[i]
        plus_infs += x[i] == INFINITY
        minus_infs += x[i] == -INFINITY
        x[i] = x[i] if finite(x[i]) else 0
    counts[NUMBERS] -= nans + plus_infs + minus_infs
    counts[NANS] += nans
    counts[PLUS_INFS] += plus_infs
    counts[MINUS_INFS] += minus_infs


cdef void add_misfit(double *x, Py_ssize_t n, const Fixed *f, Py_ssize_t j, Py_ssize_t channel) noexcept nogil:
    """Add at most BLOCK_ROWS elements of a channel that do not fit the window of their column."""
    cdef uint64_t bits, largest = 0, smallest = <uint64_t> 0x7ff << 52
    cdef Py_ssize_t i
    cdef int e = NO_WINDOW
    cdef bint done
    set_nonfinite(x, n, counts_of(&f.to, channel))
    for i in range(n):
        memcpy(&bits, &x[i], sizeof(bits))
        bits = bits << 1 >> 1
        largest = bits if bits > largest else largest
        smallest = bits if bits - 1 < smallest - 1 else smallest        # 0 - 1 is the largest number.
    if largest == 0:
        return
    if f.width in (SINGLE, DOUBLE):
        e = window_for(f, as_double(largest), as_double(smallest))
    if e != NO_WINDOW and e != f.window[j]:
        add_totals(f, j, channel)
        open_window(f, j, e)
    if f.width == DOUBLE:
        done = e != NO_WINDOW and bin_run(DOUBLE, <const f64 *> x, n, f, j)
    else:
        done = (e != NO_WINDOW or f.width == HALF) and bin_run(SINGLE, <const f64 *> x, n, f, j)
    if not done:
        add_one_by_one(x, n, as_double(largest), as_double(smallest), f, channel)


cdef inline void widen_range(const native *x, Py_ssize_t pitch, Py_ssize_t n, f64_out most, f64_out least) noexcept nogil:
    cdef Py_ssize_t j
    cdef double a
    for j in range(n):
        a = fabs(value_of(x + j * pitch, NULL, 0))
        most[j] = a if a > most[j] else most[j]
        a = a if a > 0 else INFINITY
        least[j] = a if a < least[j] else least[j]


cdef inline void guess_windows(const native *x, const Block *b, const Fixed *f) noexcept nogil:
    """Open a window for each column of a table, or run, if there are none yet."""
    cdef Py_ssize_t j, i, n = b.n_channels if b.by_runs else b.width, n_samples = b.width if b.by_runs else b.n_rows
    cdef Py_ssize_t column_pitch = b.layout[0].channel_pitch if b.by_runs else 1
    cdef Py_ssize_t sample_pitch = max(n_samples // SAMPLES, 1) * (1 if b.by_runs else b.layout[0].pitch)
    cdef double *most = f.sums[0]
    cdef double *least = f.sums[1]
    cdef int e
    if f.window[0] != NO_WINDOW:
        return
    for j in range(n):
        most[j] = 0
        least[j] = INFINITY
    for i in range(min(n_samples, <Py_ssize_t> SAMPLES)):
        if b.by_runs:
            widen_range(x + i * sample_pitch, column_pitch, n, most, least)
        else:
            widen_range(x + i * sample_pitch, 1, n, most, least)
    for j in range(round_up(n, GRANULE)):
        e = window_for(f, most[j], least[j]) if j < n and 0 < most[j] < INFINITY else 0
        open_window(f, j, e if e != NO_WINDOW else 0)


cdef inline void gather(const native *x, Py_ssize_t pitch, Py_ssize_t n, double *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = value_of(x + i * pitch, NULL, 0)


cdef inline void add_columns(Width width, const native *x, const Block *b, const Fixed *f) noexcept nogil:
    """Add a table to the totals of its columns, or to the limbs of their channels."""
    cdef double some[BLOCK_ROWS]
    cdef Py_ssize_t i, j, n
    bin_table(width, x, b, f)
    for i in range(ceil_div(b.width, VECTOR)):
        if settle_vector(width, f, i * VECTOR):
            continue
        for j in range(i * VECTOR, min((i + 1) * VECTOR, b.width)):
            if f.lost[j] == 0:
                settle_column(f, j)
                continue
            n = b.n_rows + (j < b.tail)
            gather(x + j, b.layout[0].pitch, n, some)
            add_misfit(some, n, f, j, j // b.inner % b.n_channels)


cdef inline void add_run(Width width, const native *x, const Block *b, const Fixed *f, Py_ssize_t c) noexcept nogil:
    """Add a run to the totals of its channel, or to its limbs."""
    cdef double some[BLOCK_ROWS]
    cdef Py_ssize_t done = 0, i, n, part
    while done < b.width:
        part = min(b.width - done, <Py_ssize_t> PART_ELEMENTS)
        prefetch(x + b.layout[0].ahead, part * sizeof(native))
        if not bin_run(width, x, part, f, c):
            for i in range(ceil_div(part, BLOCK_ROWS)):
                n = min(part - i * BLOCK_ROWS, <Py_ssize_t> BLOCK_ROWS)
                gather(x + i * BLOCK_ROWS, 1, n, some)
                add_misfit(some, n, f, c, c)
        x += part
        done += part


cdef inline void add_tables(Width width, const native *x, const Block *b, const Fixed *f) noexcept nogil:
    cdef Py_ssize_t i, c
    if width in (SINGLE, DOUBLE):
        guess_windows(x, b, f)
    if not b.by_runs:
        add_columns(width, x, b, f)
        return
    for i in range(b.n_tables):
        for c in range(b.n_channels):
            add_run(width, x + i * b.layout[0].table_pitch + c * b.layout[0].channel_pitch, b, f, c)


cdef inline void settle_whole(const Block *b, const Fixed *f, Py_ssize_t j) noexcept nogil:
    """Add the sums of a column of small integers, or by runs of a channel, to their totals: those of bytes are about 128."""
    cdef Py_ssize_t n = b.n if b.by_runs else b.n_rows + (j < b.tail), before = f.totals[0][j], sum
    settle_column(f, j)
    if b.element == UINT8:
        sum = f.totals[0][j] - before
        f.totals[0][j] += 128 * n
        f.totals[1][j] += 256 * sum + 16384 * n


cdef void add_block(const Block *b, const Fixed *f, const Columns *w) noexcept nogil:
    cdef const char *x = b.layout[0].data
    cdef Py_ssize_t c, j
    if f.width == WHOLE:
        memcpy(w.s, f.starts[0], b.n_sums * sizeof(double))
        memcpy(w.q, f.starts[1], b.n_sums * sizeof(double))
        sum_moments(b, ALL, w)
        for j in range(b.n_sums):
            settle_whole(b, f, j)
    elif f.width == LONG:
        for c in range(b.n_channels):
            add_longs(<const uint64_t *> x + c * (b.n if b.by_runs else b.inner), b, f.element == INT64, c, &f.to)
    elif b.element == FLOAT32:
        add_tables(SINGLE, <const f32 *> x, b, f)
    elif b.element == FLOAT16:
        add_tables(HALF, <const f16 *> x, b, f)
    elif b.element == BFLOAT16:
        add_tables(SINGLE, <const bf16 *> x, b, f)
    elif b.element == INT32:
        add_tables(INTEGER, <const i32 *> x, b, f)
    elif b.element == UINT32:
        add_tables(INTEGER, <const u32 *> x, b, f)
    elif f.width == DOUBLE:
        add_tables(DOUBLE, <const f64 *> x, b, f)
    else:                       # a tile
        add_tables(SINGLE, <const f64 *> x, b, f)


cdef void count_block(const Block *b, f64_out sums, const Limbs *to) noexcept nogil:
    """Count the elements that are selected, and set the others to 0. There is room for a sum of each column."""
    cdef f64_out x = <double *> b.layout[0].data
    cdef const double *flags = b.flags
    cdef const flag *positions = <const flag *> b.weights
    cdef Py_ssize_t run = b.n if b.by_runs else b.inner, width = b.n_channels * run, r, c, i, n = b.n
    if flags != NULL:
        set_unselected(b, 0, NULL)
        for c in range(b.n_sums):
            sums[c] = 0
        for r in range(b.n // run):
            if b.by_runs:
                for c in range(b.n_channels):
                    for i in range(run):
                        sums[c] += flags[c * run + i]
            else:
                for i in range(width):
                    sums[i] += flags[r * width + i]
        for i in range(b.n_channels if b.by_runs else width):
            counts_of(to, i if b.by_runs else i // run)[NUMBERS] += <int64_t> sums[i]
        return
    if b.count != ALL:
        n = 0
        for i in range(b.n):
            n += positions[i] != 0
        for r in range(b.n // run):
            if run == 1 and positions[r] == 0:
                memset(x + r * width, 0, width * sizeof(double))
            elif run > 1:
                for c in range(b.n_channels):
                    for i in range(run):
                        x[r * width + c * run + i] = x[r * width + c * run + i] if positions[r * run + i] != 0 else 0
    for c in range(b.n_channels):
        counts_of(to, c)[NUMBERS] += n


cdef inline Limbs place_for(const Job *job, const Task *t, Py_ssize_t task) noexcept nogil:
    """Where a task adds the sums of its channels: to those of all, or of its thread."""
    cdef Limbs to = job.exact[0]
    cdef Py_ssize_t share
    if job.limbs != NULL:
        share = div((task + 1) * n_shares(job) - 1, n_tasks(job)) * job.view.n_channels     # as `perform` divides them
        to.limbs = job.limbs + share * (to.s_limbs + to.q_limbs)
        to.counts = job.counts + share * COUNTED
    to.limbs += t.place * (to.s_limbs + to.q_limbs)
    to.counts += t.place * COUNTED
    to.step = t.step
    return to


cdef inline Py_ssize_t n_shares(const Job *job) noexcept nogil:
    return min(<Py_ssize_t> job.n_threads, n_tasks(job))


cdef int exact_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """Add the elements of a task to its sums."""
    cdef const Plan *p = &job.plan
    cdef Task t = make_task(job.view, p, task)
    cdef double stack[ROOM_DOUBLES]
    cdef Py_ssize_t i, j, width = n_sums(p, t.channels), settled = 0
    cdef Anchors anchors
    cdef Scratch scratch
    cdef Columns w
    cdef Fixed f
    cdef Block b
    cdef int k
    cdef double *rows
    cdef double *ones
    f.width = width_of(job.element, p.tiled)
    f.n_bins = bins_of(f.width)
    f.last_digit = last_digit_of(job.element)
    f.element = job.element
    f.to = place_for(job, &t, task)
    if not make_scratch(job.view, p, (3 * f.n_bins + 5) * p.pitch, stack, &scratch):
        return -1
    rows = scratch.rows
    f.lost = <int64_t *> rows
    f.window = <int64_t *> (rows + p.pitch)
    w = columns_at(rows + 2 * p.pitch)
    w.moved = ones = rows + 3 * p.pitch
    w.whole = <uint32_t *> (rows + 4 * p.pitch)
    for k in range(f.n_bins):
        f.starts[k] = rows + (5 + 3 * k) * p.pitch
        f.sums[k] = f.starts[k] + p.pitch
        f.totals[k] = <int64_t *> (f.starts[k] + 2 * p.pitch)
        memset(f.totals[k], 0, p.pitch * sizeof(int64_t))
    w.s = f.sums[0]
    w.q = f.sums[1]
    for j in range(round_up(width, GRANULE)):   # Loops take whole vectors.
        w.mean[j] = 0
        ones[j] = 1
        if f.width in (SINGLE, DOUBLE):
            f.window[j] = NO_WINDOW
        else:
            open_window(&f, j, f.last_digit + 43)
    anchors.high = anchors.low = NULL
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, &anchors, scratch.tile)
        count_block(&b, f.sums[0], &f.to)
        add_block(&b, &f, &w)
        settled += b.n_tables * ceil_div(b.width, PART_ELEMENTS) if b.by_runs else 1
        if settled > MOST_SETTLED or i == t.stop - 1:
            for j in range(width):
                add_totals(&f, j, j // b.inner % t.channels)
            settled = 0
    give_back(&scratch)
    return 0


cdef void merge_shares(const Job *job) noexcept nogil:
    """Add the sums of each thread to those of all."""
    cdef const Limbs *to = job.exact
    cdef const uint64_t *share = job.limbs
    cdef Py_ssize_t i, k, n = job.view.n_channels
    for i in range(n_shares(job) * n):
        add_limbs(limbs_of(to, i % n), to.s_limbs, share, to.s_limbs)
        add_limbs(limbs_of(to, i % n) + to.s_limbs, to.q_limbs, share + to.s_limbs, to.q_limbs)
        share += to.s_limbs + to.q_limbs
        for k in range(COUNTED):
            counts_of(to, i % n)[k] += job.counts[i * COUNTED + k]


cdef int exact(const View *view, const Limbs *sums, Element element, int n_threads) noexcept nogil:
    """Threads that share channels add to sums of their own, which are merged at the end. A small view with several tasks
    does so on one thread as well: its caller adds to a live state, so memory may run out only before the first addition."""
    cdef Job job = make_job(view, NULL, NULL, False, n_threads, SUM)
    cdef bint few = view.n_rows * view.n_channels * view.operand[0].itemsize < <Py_ssize_t> SMALL
    cdef Py_ssize_t room
    cdef int failed = 0
    if job.plan.n_chunks >= n_threads:
        job.plan.chunk_tasks = 1        # No channel is shared then. That changes no bit.
    room = n_shares(&job) * view.n_channels
    job.exact = sums
    job.element = element
    if job.plan.chunk_tasks > 1 and n_shares(&job) > 1 or n_tasks(&job) > 1 and few:
        job.limbs = <uint64_t *> calloc(room * (sums.s_limbs + sums.q_limbs), sizeof(uint64_t))
        job.counts = <int64_t *> calloc(room * COUNTED, sizeof(int64_t))
        failed = -(job.limbs == NULL or job.counts == NULL)
    if not failed:
        failed = perform(&job, exact_task, n_tasks(&job), False)
    if not failed and job.limbs != NULL:
        merge_shares(&job)
    free(job.limbs)
    free(job.counts)
    return failed
