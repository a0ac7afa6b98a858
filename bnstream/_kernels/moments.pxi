# Mean and variance of every channel of a view:
#
#   view -> plan:  slabs of channels x chunks of channels x segments of rows = tasks, decided by the view alone
#   task:          its segment, block by block; each block's sums -> a state, merged into the segment's
#   then:          the segments' states merged in order -> sink
#
# Threads take tasks; which takes which changes no bit. Within a segment, and from segment to segment, states are merged one
# after the other: as pairs of doubles they lose no more so than in a tree, which would need room for all its levels.
#
# The shift of a block is the mean of the block before, of the first one that of eight rows: nearly always within a fraction
# of the deviation of the mean, so that the guard, at three bits lost, hardly ever asks for a second look. (With the first
# row as the shift and a guard at one bit, a third of all channels of normal data would ask.)

ctypedef struct Work:           # of one task, on its stack
    double shift[PITCH]         # of each channel
    double spread[PITCH]        # of each column
    double n[PITCH]
    double s[PITCH]
    double q[PITCH]
    double block[5 * PITCH]
    double segment[5 * PITCH]   # where the sink holds no states
    uint64_t anchor[PITCH]


cdef inline void sum_numbers(const number *x, const Block *b, bint omit, Work *w) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(b.n_tables):
        if omit:
            columns_omit(x, b.pitch, b.n_rows, b.width, w.spread, w.n, w.s, w.q)
            columns_omit(x + b.n_rows * b.pitch, 0, b.tail > 0, b.tail, w.spread, w.n, w.s, w.q)
        else:
            columns(x, b.pitch, b.n_rows, b.width, b.ahead, w.spread, w.s, w.q)
            columns(x + b.n_rows * b.pitch, 0, b.tail > 0, b.tail, 0, w.spread, w.s, w.q)
        x += b.table_pitch


cdef inline void sum_bytes(const byte *x, const Block *b, Work *w) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(b.n_tables):
        byte_columns(x, b.pitch, b.n_rows, b.width, b.ahead, w.s, w.q)
        byte_columns(x + b.n_rows * b.pitch, 0, b.tail > 0, b.tail, 0, w.s, w.q)
        x += b.table_pitch


cdef void sum_block(const Block *b, bint omit, Work *w) noexcept nogil:
    """s, q (and n) of every column of a block."""
    if b.element == FLOAT32:
        sum_numbers(<const f32 *> b.data, b, omit, w)
    elif b.element == FLOAT64:
        sum_numbers(<const f64 *> b.data, b, omit, w)
    elif b.element == UINT8:
        sum_bytes(<const uint8_t *> b.data, b, w)
    elif b.element == INT8:
        sum_bytes(<const int8_t *> b.data, b, w)
    elif b.element == UINT16:
        sum_numbers(<const u16 *> b.data, b, False, w)
    else:
        sum_numbers(<const i16 *> b.data, b, False, w)


cdef void guess_shift(const Block *b, bint whole, double *shift) noexcept nogil:
    cdef Py_ssize_t c
    if b.element == FLOAT32:
        guess(<const f32 *> b.data, b, shift)
    elif b.element == FLOAT64:
        guess(<const f64 *> b.data, b, shift)
    elif b.element == UINT16:
        guess(<const u16 *> b.data, b, shift)
    elif b.element == INT16:
        guess(<const i16 *> b.data, b, shift)
    else:
        for c in range(b.channels):
            shift[c] = 128 if b.element == UINT8 else 0     # their bias
    prepare_shift(shift, b.channels, whole)


cdef inline void prepare_shift(double *shift, Py_ssize_t channels, bint whole) noexcept nogil:
    """A shift is finite, and whole for integers, so that their sums stay exact."""
    cdef Py_ssize_t c
    for c in range(channels):
        shift[c] = 0 if not finite(shift[c]) else (rint(shift[c]) if whole else shift[c])


cdef void add_up(double *sums, Py_ssize_t n_fold, Py_ssize_t channels, Py_ssize_t inner) noexcept nogil:
    """Columns (fold, channels, inner) added up to channels, in a fixed order."""
    cdef Py_ssize_t c, n = n_fold * channels * inner
    while n > channels * inner:
        n //= 2
        for c in range(n):
            sums[c] += sums[n + c]
    if inner > 1:
        for c in range(channels):
            sums[c] = sum_of(sums + c * inner, inner)


cdef inline double sum_of(const double *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef double lane[8]
    for j in range(8):
        lane[j] = 0
    for i in range(n // 8):
        for j in range(8):
            lane[j] += x[8 * i + j]
    for j in range(n & 7):
        lane[j] += x[(n & -8) + j]
    return tree(lane[0], lane[1], lane[2], lane[3], lane[4], lane[5], lane[6], lane[7])


cdef bint move_shift(const double *n, const double *s, const double *q, double *shift, Py_ssize_t channels) noexcept nogil:
    """Where s*s/n has cost m2 = q - s*s/n more than three bits, move the shift to the mean; whether any moved."""
    cdef Py_ssize_t c
    cdef int n_far = 0
    for c in range(channels):
        n_far += far(n[c], s[c], q[c])
    if n_far > 0:
        for c in range(channels):
            if far(n[c], s[c], q[c]):
                shift[c] += s[c] / n[c]
    return n_far > 0


cdef inline bint far(double n, double s, double q) noexcept nogil:
    return s * s > 0.875 * q * n


cdef void block_state(const Block *b, bint whole, bint omit, Work *w, double *state,
                      Py_ssize_t pitch, Py_ssize_t n_states) noexcept nogil:
    """The n_states, at least as many as the block has channels, of a block."""
    cdef Py_ssize_t c, j, attempt, n_columns = b.width, group = b.channels * b.inner
    for c in range(b.channels, n_states):
        w.n[c] = w.shift[c] = 0
    for attempt in range(3):
        for j in range(round_up(n_columns, GRANULE)):
            w.s[j] = 0
            w.q[j] = 0
        if n_columns == b.channels:
            for c in range(b.channels):
                w.spread[c] = w.shift[c]
        else:
            for c in range(b.channels):
                for j in range(b.inner):
                    w.spread[c * b.inner + j] = w.shift[c]
            for j in range(group, n_columns):
                w.spread[j] = w.spread[j - group]
        if omit:
            for j in range(n_columns):
                w.n[j] = 0
        sum_block(b, omit, w)
        add_up(w.s, b.fold, b.channels, b.inner)
        add_up(w.q, b.fold, b.channels, b.inner)
        if omit:
            add_up(w.n, b.fold, b.channels, b.inner)
        else:
            for c in range(b.channels):
                w.n[c] = b.n
        if whole or attempt == 2 or not move_shift(w.n, w.s, w.q, w.shift, b.channels):
            break
    finish(w.n, w.shift, w.s, w.q, state, pitch, n_states)


cdef int segment_state(const View *view, const Plan *p, Py_ssize_t task, bint omit, Work *w, double *state,
                       Py_ssize_t pitch) noexcept nogil:
    """The state of one task's channels and rows; -1 where memory ran out."""
    cdef Py_ssize_t group = div(task, p.n_segments), segment = task - group * p.n_segments
    cdef Py_ssize_t slab = div(group, p.n_chunks), first = (group - slab * p.n_chunks) * p.chunk
    cdef Py_ssize_t channels = group_channels(view, p, group)
    cdef Py_ssize_t start = div(p.n_blocks * segment, p.n_segments), stop = div(p.n_blocks * (segment + 1), p.n_segments)
    cdef Py_ssize_t c, i, n_states = round_up(channels, p.granule)
    cdef bint wide = p.tiled and view.element in (INT64, UINT64)
    cdef double *tile = NULL
    cdef pair mean
    cdef Block b
    if p.tiled:
        tile = <double *> malloc(min(<Py_ssize_t> TILE, p.n_units * p.chunk) * sizeof(double))
        if tile == NULL:
            return -1
        for c in range(channels):
            w.anchor[c] = 0
            if wide:
                w.anchor[c] = anchor_of(slab_data(view, slab, first + c), view.swapped)
    for i in range(start, stop):
        b = make_block(view, p, slab, first, channels, i, w.anchor, tile)
        if i == start:
            guess_shift(&b, p.whole, w.shift)
            block_state(&b, p.whole, omit and not p.whole, w, state, pitch, n_states)
            continue
        if b.element not in (UINT8, INT8):      # shift by the mean of the block before
            memcpy(w.shift, state + pitch if i == start + 1 else w.block + PITCH, channels * sizeof(double))
            prepare_shift(w.shift, channels, p.whole)
        block_state(&b, p.whole, omit and not p.whole, w, w.block, PITCH, n_states)
        merge(state, pitch, w.block, PITCH, n_states)
    if wide:
        for c in range(channels):
            mean.hi = state[pitch + c]
            mean.lo = state[2 * pitch + c]
            mean = add(mean, anchor_value(w.anchor[c], view.element))
            state[pitch + c] = mean.hi
            state[2 * pitch + c] = mean.lo
    free(tile)
    return 0


cdef int run_task(const View *view, const Plan *p, Py_ssize_t task, bint omit, double *parts,
                  const Sink *sink) noexcept nogil:
    """A task's state to its part, or, where a group of channels has but one segment, to the sink."""
    cdef Work w
    cdef int failed
    cdef Py_ssize_t place, pitch = round_up(p.chunk, GRANULE)
    if parts != NULL:
        return segment_state(view, p, task, omit, &w, parts + task * 5 * pitch, pitch)
    place = group_place(view, p, task)
    if sink.state != NULL and last_kept(view).out == 1:
        return segment_state(view, p, task, omit, &w, sink.state + place, sink.pitch)
    failed = segment_state(view, p, task, omit, &w, w.segment, PITCH)
    if not failed:
        emit_group(view, p, task, w.segment, PITCH, sink)
    return failed


cdef void emit_group(const View *view, const Plan *p, Py_ssize_t group, const double *state, Py_ssize_t pitch,
                     const Sink *sink) noexcept nogil:
    emit(state, pitch, group_channels(view, p, group), sink, group_place(view, p, group), last_kept(view).out)


cdef int accumulate(const View *view, const Sink *sink, bint omit, int n_threads) noexcept nogil:
    cdef Plan p = make_plan(view)
    cdef Py_ssize_t groups = p.n_slabs * p.n_chunks, n_tasks = groups * p.n_segments, task, i
    cdef Py_ssize_t pitch = round_up(p.chunk, GRANULE)
    cdef double *parts = NULL
    cdef double *part
    cdef int failed = 0
    if p.n_segments > 1:
        parts = <double *> malloc(n_tasks * 5 * pitch * sizeof(double))
        if parts == NULL:
            return -1
    if n_threads == 1 or n_tasks == 1:
        for task in range(n_tasks):
            failed |= run_task(view, &p, task, omit, parts, sink)
    else:
        for task in prange(n_tasks, num_threads=min(n_threads, n_tasks), schedule='static'):
            failed |= run_task(view, &p, task, omit, parts, sink)
    if parts != NULL:
        for i in range(groups):
            part = parts + i * p.n_segments * 5 * pitch
            for task in range(1, p.n_segments):
                merge(part, pitch, part + task * 5 * pitch, pitch, round_up(group_channels(view, &p, i), p.granule))
            emit_group(view, &p, i, part, pitch, sink)
    free(parts)
    return failed
