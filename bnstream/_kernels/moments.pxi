# Mean and variance of every channel of a view:
#
#   view -> plan:  slabs of channels x chunks of channels x segments of rows = tasks, decided by the view alone
#   task:          its segment, block by block; each block's sums -> a state, merged into the segment's
#   then:          the segments' states merged in order -> sink
#
# Threads take tasks; which takes which changes no bit. A block is small enough to be in the L2 cache still when a shift
# far from its mean has cost digits and it must be summed again.

cdef enum:
    BLOCK_BYTES = 524288
    BLOCK_ROWS = 512        # at the most, of each column: rounding errors of at most 64 additions
    RUN = 32768             # elements of a channel in a block of runs
    RUN_WIDTH = 128         # columns that a run is read as
    SHORT_RUN = 256         # runs up to this, beside each other, are taken as columns
    TILE = 32768            # doubles of scratch for what cannot be read in place
    TASKS = 32              # at least so many, where there is enough to do ...
    TASK_BYTES = 262144     # ... with this much for each

ctypedef struct Plan:
    bint by_runs                # else by columns
    bint tiled                  # through scratch
    bint whole                  # bytes and 16-bit integers, which add up exactly
    Py_ssize_t n_slabs          # channel dims but the last, flattened
    Py_ssize_t chunk            # channels of a task, of the last channel dim
    Py_ssize_t n_chunks
    Py_ssize_t fold             # rows read as one
    Py_ssize_t inner            # batch elements beside each other within a channel
    Py_ssize_t run              # by runs: elements of one
    Py_ssize_t n_units          # what blocks divide: rows, or runs
    Py_ssize_t unit_stride      # bytes
    Py_ssize_t block_units
    Py_ssize_t n_blocks
    Py_ssize_t n_segments
    Py_ssize_t granule          # channels of a state come in so many: a whole vector, where there is one chunk

ctypedef struct Block:          # some channels, some rows, as tables of columns; lengths and pitches in elements
    const char *data
    Element element
    Py_ssize_t n                # values per channel
    Py_ssize_t n_samples        # rows at hand for a guess
    Py_ssize_t fold, channels, inner    # what the columns of a table are
    Py_ssize_t width            # how many columns that is
    Py_ssize_t n_rows, pitch    # of a table
    Py_ssize_t tail             # columns of one more row, a shorter one
    Py_ssize_t n_tables, table_pitch
    Py_ssize_t ahead            # from a load to its prefetch

ctypedef struct Work:           # of one task, on its stack
    double shift[PITCH]         # of each channel
    double spread[PITCH]        # of each column
    double n[PITCH]
    double s[PITCH]
    double q[PITCH]
    double block[5 * PITCH]
    double segment[5 * PITCH]   # where the sink holds no states
    uint64_t anchor[PITCH]


cdef inline Py_ssize_t div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a // b for a >= 0, b > 0, without the 40 cycles of a 64-bit division where it is trivial or small: 15 of them would
    double the time of a small update."""
    if b == 1:
        return a
    if a < b:
        return 0
    if a >> 31 == 0:
        return <uint32_t> a // <uint32_t> b
    return a // b


cdef inline Py_ssize_t round_up(Py_ssize_t a, Py_ssize_t power_of_two) noexcept nogil:
    return (a + power_of_two - 1) & -power_of_two


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return 1 if 0 < a <= b else div(a + b - 1, b)


cdef Py_ssize_t fold_of(Py_ssize_t width, Py_ssize_t n_rows) noexcept nogil:
    """How many rows to read as one, a power of two: few channels make short vectors."""
    cdef Py_ssize_t fold = 1
    while 2 * fold * width <= WIDTH and 16 * fold <= n_rows:
        fold *= 2
    return fold


cdef Py_ssize_t run_width(Py_ssize_t n) noexcept nogil:
    """The columns that a run of n elements is read as: few, as each costs the block some time, but in eight rows."""
    return min(<Py_ssize_t> RUN_WIDTH, n if n < 64 else n // 8)


cdef Plan make_plan(const View *view) noexcept nogil:
    cdef Plan p
    cdef int last = view.n_batch - 1
    cdef Dim channel, fastest
    cdef Py_ssize_t tasks, widest, block_bytes
    channel = last_kept(view)
    fastest.n, fastest.stride = 1, view.itemsize
    if view.n_batch > 0:
        fastest = view.batch[last]

    p.n_slabs = div(view.n_channels, channel.n)
    p.whole = view.element in (UINT8, INT8, UINT16, INT16)
    p.fold = p.inner = 1
    p.tiled = False
    p.by_runs = False
    p.run = 1
    p.n_units = view.n_rows
    p.unit_stride = fastest.stride
    if view.in_place and view.n_batch <= 1 and channel.stride == view.itemsize and (view.n_kept > 0 or view.n_batch == 0):
        pass                                                        # columns: a table, channels last
    elif view.in_place and view.n_batch <= 2 and fastest.stride == view.itemsize:
        p.n_units = view.batch[0].n if view.n_batch == 2 else 1
        p.unit_stride = view.batch[0].stride if view.n_batch == 2 else 0
        if (channel.stride == fastest.n * view.itemsize and fastest.n <= SHORT_RUN
                and (p.n_units >= 8 or fastest.n <= 32)):
            p.inner = fastest.n                                     # columns: short runs beside each other
        else:
            p.by_runs = True                                        # long runs
            p.run = fastest.n
    else:
        p.tiled = True
        p.by_runs = fastest.stride < max(channel.stride, -channel.stride)

    if p.by_runs:
        p.chunk = 1
        p.inner = run_width(RUN if p.tiled else p.run)
        if p.tiled:
            p.block_units = RUN                                     # any RUN rows are gathered into one run
        elif p.run <= RUN:
            p.block_units = max(1, div(RUN, p.run))
        else:
            p.block_units = -ceil_div(p.run, RUN)                   # that many blocks a run
    else:
        widest = div(WIDTH, p.inner)
        p.chunk = ceil_div(channel.n, ceil_div(channel.n, widest))
        if p.inner == 1 and p.chunk < channel.n:
            p.chunk = min(widest, ceil_div(p.chunk, 16) * 16)
        if p.chunk == channel.n and (p.tiled or p.unit_stride == channel.n * p.inner * view.itemsize):
            p.fold = fold_of(p.chunk * p.inner, p.n_units)
        widest = p.fold * p.chunk * p.inner
        if p.tiled:
            p.block_units = min(BLOCK_ROWS, max(1, div(TILE, widest))) * p.fold
        else:
            block_bytes = widest * view.itemsize
            p.block_units = min(BLOCK_ROWS, max(8, div(BLOCK_BYTES, block_bytes) // 8 * 8)) * p.fold
    p.n_chunks = ceil_div(channel.n, p.chunk)
    p.n_blocks = ceil_div(p.n_units, p.block_units) if p.block_units > 0 else p.n_units * -p.block_units

    tasks = p.n_slabs * p.n_chunks
    p.n_segments = min(p.n_blocks, view.n_rows * p.chunk * view.itemsize // <Py_ssize_t> TASK_BYTES)
    p.n_segments = max(1, min(p.n_segments, div(TASKS, tasks)))
    p.granule = GRANULE if tasks == 1 else 1
    return p


cdef Block make_block(const View *view, const Plan *p, Py_ssize_t slab, Py_ssize_t first_channel, Py_ssize_t channels,
                      Py_ssize_t index, const uint64_t *anchor, double *tile) noexcept nogil:
    """Block number `index` of some channels: where it lies, or, tiled, its copy in `tile`."""
    cdef Block b
    cdef Py_ssize_t first, n, run = p.run, skip = 0, itemsize = view.itemsize
    if p.block_units > 0:
        first = index * p.block_units
        n = min(p.block_units, p.n_units - first)
    else:                                   # a piece of a run
        first = div(index, -p.block_units)
        n = 1
        skip = (index + first * p.block_units) * RUN
        run = min(<Py_ssize_t> RUN, run - skip)
    b.data = slab_data(view, slab, first_channel)
    b.element = view.element
    b.fold = p.fold
    b.channels = channels
    b.inner = p.inner
    b.width = p.fold * channels * p.inner
    b.pitch = b.width
    b.n_tables = 1
    b.table_pitch = 0
    if p.tiled:
        gather(view, p, b.data, channels, first, n, anchor, tile)
        b.data = <const char *> tile
        b.element = FLOAT64
        itemsize = sizeof(double)
        run = n
    else:
        b.data += first * p.unit_stride + skip * itemsize
    if p.by_runs:
        if not p.tiled:
            b.n_tables = n
            b.table_pitch = div(p.unit_stride, itemsize)
        b.n = b.n_tables * run
        b.n_rows = b.n_samples = div(run, b.width)
        b.tail = run - b.n_rows * b.width
        b.ahead = b.table_pitch if b.n_rows < 16 else div(AHEAD, itemsize)
        return b
    b.n = n * p.inner
    b.n_samples = n
    b.n_rows = div(n, p.fold)
    b.tail = (n - b.n_rows * p.fold) * channels * p.inner
    if p.fold == 1 and not p.tiled:
        b.pitch = div(p.unit_stride, itemsize)
    b.ahead = max(8, div(AHEAD, b.width * itemsize) & -8) * b.pitch
    return b


cdef const char *slab_data(const View *view, Py_ssize_t slab, Py_ssize_t first_channel) noexcept nogil:
    cdef const char *data = view.data
    cdef int i
    if view.n_kept == 0:
        return data
    for i in range(view.n_kept - 2, -1, -1):
        data += slab % view.kept[i].n * view.kept[i].stride
        slab //= view.kept[i].n
    return data + first_channel * view.kept[view.n_kept - 1].stride


cdef Py_ssize_t slab_place(const View *view, Py_ssize_t slab, Py_ssize_t first_channel) noexcept nogil:
    cdef Py_ssize_t place = 0
    cdef int i
    if view.n_kept == 0:
        return 0
    for i in range(view.n_kept - 2, -1, -1):
        place += slab % view.kept[i].n * view.kept[i].out
        slab //= view.kept[i].n
    return place + first_channel * view.kept[view.n_kept - 1].out


cdef void gather(const View *view, const Plan *p, const char *data, Py_ssize_t channels, Py_ssize_t first, Py_ssize_t n,
                 const uint64_t *anchor, double *tile) noexcept nogil:
    """Rows first to first + n of some channels to the tile: (channels, n) by runs, else (n, channels)."""
    cdef Py_ssize_t index[MAX_DIMS]
    cdef Py_ssize_t at, left, c, stride, done = 0, channel_stride = 0
    cdef int i, last = view.n_batch - 1
    if view.n_kept > 0:
        channel_stride = view.kept[view.n_kept - 1].stride
    at = first
    for i in range(last, -1, -1):
        index[i] = at % view.batch[i].n
        at //= view.batch[i].n
    while done < n:
        at = 0
        for i in range(last + 1):
            at += index[i] * view.batch[i].stride
        left = 1
        stride = 0
        if last >= 0:
            left = min(view.batch[last].n - index[last], n - done)
            stride = view.batch[last].stride
        if p.by_runs:
            load(data + at, stride, left, view.element, view.swapped, anchor, 0, tile + done)
        else:
            for c in range(left):
                load(data + at + c * stride, channel_stride, channels, view.element, view.swapped, anchor, 1,
                     tile + (done + c) * channels)
        done += left
        if last >= 0:
            index[last] += left
        for i in range(last, 0, -1):
            if index[i] == view.batch[i].n:
                index[i] = 0
                index[i - 1] += 1


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
        sum_numbers(<const float *> b.data, b, omit, w)
    elif b.element == FLOAT64:
        sum_numbers(<const double *> b.data, b, omit, w)
    elif b.element == UINT8:
        sum_bytes(<const uint8_t *> b.data, b, w)
    elif b.element == INT8:
        sum_bytes(<const int8_t *> b.data, b, w)
    elif b.element == UINT16:
        sum_numbers(<const uint16_t *> b.data, b, False, w)
    else:
        sum_numbers(<const int16_t *> b.data, b, False, w)


cdef void guess_shift(const Block *b, bint whole, double *shift) noexcept nogil:
    cdef Py_ssize_t c
    if b.element == FLOAT32:
        guess(<const float *> b.data, b, shift)
    elif b.element == FLOAT64:
        guess(<const double *> b.data, b, shift)
    elif b.element == UINT16:
        guess(<const uint16_t *> b.data, b, shift)
    elif b.element == INT16:
        guess(<const int16_t *> b.data, b, shift)
    else:
        for c in range(b.channels):
            shift[c] = 128 if b.element == UINT8 else 0     # their bias
    prepare_shift(shift, b.channels, whole)


cdef inline void prepare_shift(double *shift, Py_ssize_t channels, bint whole) noexcept nogil:
    """A shift is finite, and whole for integers, so that their sums stay exact."""
    cdef Py_ssize_t c
    for c in range(channels):
        shift[c] = 0 if not finite(shift[c]) else (rint(shift[c]) if whole else shift[c])


cdef inline void halve(double *sums, Py_ssize_t n, Py_ssize_t group) noexcept nogil:
    """Add up n groups of columns, the upper half to the lower, until one is left: long loops, and a fixed order."""
    cdef Py_ssize_t i, half
    while n > 1:
        half = n // 2
        for i in range(half * group):
            sums[i] += sums[(n - half) * group + i]
        n -= half


cdef void fold(double *sums, Py_ssize_t n_fold, Py_ssize_t channels, Py_ssize_t inner) noexcept nogil:
    """Columns (fold, channels, inner) added up to channels."""
    cdef Py_ssize_t c
    halve(sums, n_fold, channels * inner)
    if inner > 1:
        for c in range(channels):
            halve(sums + c * inner, inner, 1)
            sums[c] = sums[c * inner]


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
        fold(w.s, b.fold, b.channels, b.inner)
        fold(w.q, b.fold, b.channels, b.inner)
        if omit:
            fold(w.n, b.fold, b.channels, b.inner)
        else:
            for c in range(b.channels):
                w.n[c] = b.n
        if whole or not move_shift(w.n, w.s, w.q, w.shift, b.channels):
            break
    finish(w.n, w.shift, w.s, w.q, state, pitch, n_states)


cdef int segment_state(const View *view, const Plan *p, Py_ssize_t task, bint omit, Work *w, double *state,
                       Py_ssize_t pitch) noexcept nogil:
    """The state of one task's channels and rows; -1 where memory ran out."""
    cdef Py_ssize_t group = div(task, p.n_segments), segment = task - group * p.n_segments
    cdef Py_ssize_t slab = div(group, p.n_chunks), first = (group - slab * p.n_chunks) * p.chunk
    cdef Py_ssize_t channels = min(p.chunk, last_kept(view).n - first)
    cdef Py_ssize_t start = div(p.n_blocks * segment, p.n_segments), stop = div(p.n_blocks * (segment + 1), p.n_segments)
    cdef Py_ssize_t c, i, n_states = round_up(channels, p.granule)
    cdef bint wide = p.tiled and view.element in (INT64, UINT64)
    cdef double *tile = NULL
    cdef pair mean
    cdef Block b
    if p.tiled:
        tile = <double *> malloc(TILE * sizeof(double))
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


cdef inline Dim last_kept(const View *view) noexcept nogil:
    """The channel dim that tasks divide."""
    cdef Dim one
    if view.n_kept > 0:
        return view.kept[view.n_kept - 1]
    one.n = one.out = 1
    one.stride = view.itemsize
    return one


cdef Py_ssize_t group_place(const View *view, const Plan *p, Py_ssize_t group) noexcept nogil:
    """Where in the sink the first channel of a group belongs."""
    cdef Py_ssize_t slab = div(group, p.n_chunks)
    return slab_place(view, slab, (group - slab * p.n_chunks) * p.chunk)


cdef void emit_group(const View *view, const Plan *p, Py_ssize_t group, const double *state, Py_ssize_t pitch,
                     const Sink *sink) noexcept nogil:
    cdef Py_ssize_t first = (group - div(group, p.n_chunks) * p.n_chunks) * p.chunk
    emit(state, pitch, min(p.chunk, last_kept(view).n - first), sink, group_place(view, p, group), last_kept(view).out)


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
        for task in prange(n_tasks, num_threads=n_threads, schedule='static'):
            failed |= run_task(view, &p, task, omit, parts, sink)
    if parts != NULL:
        for i in range(groups):
            part = parts + i * p.n_segments * 5 * pitch
            for task in range(1, p.n_segments):
                merge(part, pitch, part + task * 5 * pitch, pitch, round_up(p.chunk, p.granule))
            emit_group(view, &p, i, part, pitch, sink)
    free(parts)
    return failed
