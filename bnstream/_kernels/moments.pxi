# Mean and variance of every channel of a view:
#
#   view -> plan   tasks and blocks, decided by the view alone (see plan.pxi)
#   block          sums -> a state, merged into the state of its task
#   chunk          the partials of its tasks, merged in order -> sink
#
# States are merged one after the other. As pairs of doubles they lose no more than in a tree, which would need room for all
# its levels.
#
# The shift of the first block is the mean of eight elements. The shift of every other block is the mean of the block before.
# It is nearly always within a fraction of a standard deviation of the mean. If it is so far away that it costs m2 two bits,
# the block is summed again about the mean, at most twice: by runs only the channels concerned, by columns all of them. (With
# the first row as the shift and one bit as the limit, a third of all channels of normal data would be summed again.)
#
# In a selective view, an element whose flag is 0 is set to the shift of its channel, so that it adds nothing to the sums.
# n is the sum of the flags. Under `omit`, the flags of NaN and inf are set to 0.

cdef enum:
    EXACT_ROWS = 5              # a shift and the halves of two sums

ctypedef struct Work:           # scratch of a moments task: rows with a number for each channel, or for each column
    double *room
    uint32_t *whole             # sums of bytes: two of each column
    double *exact               # sums of `exact_columns`: EXACT_ROWS rows of NARROW columns, if integers are tiled
    uint64_t *anchor
    double *shift
    double *moved               # 1 if the shift has moved and the channel is to be summed, else 0
    double *spread              # the shift of each column
    double *n                   # sum of weights: of each column, then of each channel
    double *s                   # sum of deviations: of each column, then of each channel
    double *q                   # sum of squared deviations: of each column, then of each channel
    double *n_lo                # row N_LO of the task's states
    double *block               # states of the block
    double *state               # states of the task; a partial or the sink may replace them

cdef bint make_work(Work *w, const Plan *p, double *stack) noexcept nogil:
    """Allocate the scratch of a task, on `stack` if it fits. Return whether there was memory."""
    cdef Py_ssize_t n_exact = EXACT_ROWS * NARROW if p.whole and p.tiled else 0
    w.room = make_room(5 * p.pitch + (4 + 2 * STATE_ROWS) * p.state_pitch + n_exact, stack)
    w.spread = aligned(w.room)
    w.n = w.spread + p.pitch
    w.s = w.n + p.pitch
    w.q = w.s + p.pitch
    w.whole = <uint32_t *> (w.q + p.pitch)
    w.anchor = <uint64_t *> (w.q + 2 * p.pitch)
    w.shift = <double *> w.anchor + p.state_pitch
    w.moved = w.shift + p.state_pitch
    w.n_lo = w.moved + p.state_pitch
    w.block = w.n_lo + p.state_pitch
    w.state = w.block + STATE_ROWS * p.state_pitch
    w.exact = w.state + STATE_ROWS * p.state_pitch
    return w.room != NULL


cdef inline void number_table(const number *x, const Block *b, Count count, Work *w) noexcept nogil:
    cdef const Layout *layout = &b.layout[0]
    if count != ALL:
        columns_some(x, layout.pitch, b.n_rows, b.width, layout.ahead, w.spread, b.weights, count, w.n, w.s, w.q)
        columns_some(x + b.n_rows * layout.pitch, 0, b.tail > 0, b.tail, 0, w.spread, b.weights, count, w.n, w.s, w.q)
    else:
        columns(x, layout.pitch, b.n_rows, b.width, layout.ahead, w.spread, w.s, w.q)
        columns(x + b.n_rows * layout.pitch, 0, b.tail > 0, b.tail, 0, w.spread, w.s, w.q)


cdef inline void byte_table(const byte *x, const Block *b, Work *w) noexcept nogil:
    cdef const Layout *layout = &b.layout[0]
    byte_columns(x, layout.pitch, b.n_rows, b.width, layout.ahead, w.whole, w.s, w.q)
    byte_columns(x + b.n_rows * layout.pitch, 0, b.tail > 0, b.tail, 0, w.whole, w.s, w.q)


cdef inline void sum_numbers(const number *x, const Block *b, Count count, Work *w) noexcept nogil:
    """Add the tables of a block one after the other: by runs, this is the order of memory."""
    cdef const Layout *layout = &b.layout[0]
    cdef const char *weights = b.weights
    cdef Py_ssize_t i, c
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                if w.moved[c] == 0:
                    continue
                if count != ALL:
                    run_sums_some(x + c * layout.channel_pitch, b.width, layout.ahead, w.shift[c], weights, count, w.n + c,
                                  w.s + c, w.q + c)
                else:
                    run_sums(x + c * layout.channel_pitch, b.width, layout.ahead, w.shift[c], w.s + c, w.q + c)
        else:
            number_table(x, b, count, w)
        x += layout.table_pitch
        weights += bytes_of(b.width, count)


cdef inline void sum_bytes(const byte *x, const Block *b, Work *w) noexcept nogil:
    cdef const Layout *layout = &b.layout[0]
    cdef Py_ssize_t i, c
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                byte_run_sums(x + c * layout.channel_pitch, b.width, layout.ahead, w.s + c, w.q + c)
        else:
            byte_table(x, b, w)
        x += layout.table_pitch


cdef inline void sum_floats(const number *x, const Block *b, bint omit, Work *w) noexcept nogil:
    """A literal count gives each case a loop of its own."""
    cdef int count = count_in(b, omit)
    if count == FINITE_WEIGHTED:
        sum_numbers(x, b, FINITE_WEIGHTED, w)
    elif count == FINITE_MASKED:
        sum_numbers(x, b, FINITE_MASKED, w)
    elif count == WEIGHTED:
        sum_numbers(x, b, WEIGHTED, w)
    elif count == MASKED:
        sum_numbers(x, b, MASKED, w)
    elif count == FINITE:
        sum_numbers(x, b, FINITE, w)
    else:
        sum_numbers(x, b, ALL, w)


cdef void sum_block(const Block *b, bint omit, Work *w) noexcept nogil:
    """The sums s and q, and with FINITE n, of a block: for each column, or by runs for each channel."""
    if b.element == FLOAT32:
        sum_floats(<const f32 *> b.layout[0].data, b, omit, w)
    elif b.element == FLOAT64:
        sum_floats(<const f64 *> b.layout[0].data, b, omit, w)
    elif b.element == UINT8:
        sum_bytes(<const uint8_t *> b.layout[0].data, b, w)
    elif b.element == INT8:
        sum_bytes(<const int8_t *> b.layout[0].data, b, w)
    elif b.element == UINT16:
        sum_numbers(<const u16 *> b.layout[0].data, b, ALL, w)
    else:
        sum_numbers(<const i16 *> b.layout[0].data, b, ALL, w)


cdef void guess_shift(const Block *b, bint whole, double *shift, double *spread) noexcept nogil:
    cdef Py_ssize_t c
    if b.flags != NULL:         # NaN is not taken for a shift.
        for c in range(b.n_channels if b.by_runs else b.width):
            spread[c] = NAN
        set_unselected(b, 0, spread)
    if b.element == FLOAT32:
        guess(<const f32 *> b.layout[0].data, b, shift)
    elif b.element == FLOAT64:
        guess(<const f64 *> b.layout[0].data, b, shift)
    elif b.element == UINT16:
        guess(<const u16 *> b.layout[0].data, b, shift)
    elif b.element == INT16:
        guess(<const i16 *> b.layout[0].data, b, shift)
    else:
        for c in range(b.n_channels):
            shift[c] = 128 if b.element == UINT8 else 0     # the bias of bytes
    prepare_shift(shift, b.n_channels, whole)


cdef inline void prepare_shift(double *shift, Py_ssize_t channels, bint whole) noexcept nogil:
    """Make shifts finite, and integers for integers, so that their sums stay exact."""
    cdef Py_ssize_t c
    for c in range(channels):
        shift[c] = 0 if not finite(shift[c]) else (rint(shift[c]) if whole else shift[c])


cdef inline void spread(const double *values, Py_ssize_t fold, Py_ssize_t channels, Py_ssize_t inner,
                        f64_out columns) noexcept nogil:
    """Copy the value of each channel to all of its columns (fold, channels, inner)."""
    cdef Py_ssize_t c, j, row = channels * inner
    if inner == 1:
        for c in range(channels):
            columns[c] = values[c]
    else:
        for c in range(channels):
            for j in range(inner):
                columns[c * inner + j] = values[c]
    for j in range(row, fold * row):
        columns[j] = columns[j - row]


cdef void count_selected(const Block *b, const Work *w) noexcept nogil:
    """Set n to the sum of the weights of the elements whose flag is 1: the sum of the flags about a shift of 0."""
    cdef Py_ssize_t n = b.n_channels if b.by_runs else b.width
    cdef Block flags = b[0]
    cdef Work sums = w[0]
    flags.layout[0].data = <char *> b.flags
    sums.shift = sums.spread
    sums.s = w.n
    memset(sums.spread, 0, n * sizeof(double))
    memset(sums.s, 0, n * sizeof(double))
    memset(sums.q, 0, n * sizeof(double))
    sum_block(&flags, False, &sums)
    if not b.by_runs:
        add_up(sums.s, b.fold, b.n_channels, b.inner)


cdef void add_up(double *sums, Py_ssize_t fold, Py_ssize_t channels, Py_ssize_t inner) noexcept nogil:
    """Add up the columns (fold, channels, inner) of each channel, in a fixed order."""
    cdef Py_ssize_t c, n = fold * channels * inner
    while n > channels * inner:
        n //= 2
        for c in range(n):
            sums[c] += sums[n + c]
    if inner > 1:
        for c in range(channels):
            sums[c] = sum_of(sums + c * inner, inner)


cdef bint move_shift(Work *w, Py_ssize_t channels) noexcept nogil:
    """If s * s / n has cost m2 = q - s * s / n two bits, move the shift to the mean. Return whether any has moved."""
    cdef Py_ssize_t c
    cdef int n_far = 0
    for c in range(channels):
        w.moved[c] = far(w.n[c], w.s[c], w.q[c])
        n_far += w.moved[c] != 0
    if n_far > 0:
        for c in range(channels):
            if w.moved[c] != 0:
                w.shift[c] += w.s[c] / w.n[c]
    return n_far > 0


cdef inline bint far(double n, double s, double q) noexcept nogil:
    return s * s > 0.75 * q * n


cdef void block_state(const Block *b, bint whole, bint omit, Work *w, double *state, Py_ssize_t pitch,
                      Py_ssize_t n_states) noexcept nogil:
    """The states of a block. Those beyond its channels, up to n_states, are empty."""
    cdef Py_ssize_t c, attempt, n = b.n_channels if b.by_runs else b.width
    cdef double total = b.n if b.count == ALL else sum_of_weights(b.weights, b.n, b.count)
    for c in range(b.n_channels):
        w.moved[c] = 1
    if b.flags != NULL:
        count_selected(b, w)
    for attempt in range(3):
        if not b.by_runs:       # By runs, only channels whose shift has moved are summed again.
            spread(w.shift, b.fold, b.n_channels, b.inner, w.spread)
        if b.flags != NULL:
            set_unselected(b, 0, w.shift if b.by_runs else w.spread)
        for c in range(n):
            if not b.by_runs or w.moved[c] != 0:
                w.s[c] = w.q[c] = 0
        if omit:
            for c in range(n):
                if not b.by_runs or w.moved[c] != 0:
                    w.n[c] = 0
        sum_block(b, omit, w)
        if not b.by_runs:
            add_up(w.s, b.fold, b.n_channels, b.inner)
            add_up(w.q, b.fold, b.n_channels, b.inner)
            if omit:
                add_up(w.n, b.fold, b.n_channels, b.inner)
        if not omit and b.flags == NULL:
            for c in range(b.n_channels):
                w.n[c] = total
        if whole or attempt == 2 or not move_shift(w, b.n_channels):
            break
    for c in range(b.n_channels, n_states):
        w.n[c] = w.s[c] = w.q[c] = w.shift[c] = 0
    finish(w.n, w.shift, w.s, w.q, state, pitch, n_states)
    if whole:
        for c in range(b.n_channels):
            if w.q[c] >= 9007199254740992.0:        # Up to 2**53, sums of squares are exact.
                exact_states(b, w, state, pitch)
                break


cdef void exact_states(const Block *b, const Work *w, double *state, Py_ssize_t pitch) noexcept nogil:
    """The states of a tile of integers, summed once more, in pairs of doubles.

    They are exact for deviations up to 2**53. Rounded sums would depend on how the data is cut into updates.
    """
    cdef const double *x = <const double *> b.layout[0].data
    cdef Py_ssize_t c
    if b.by_runs:
        for c in range(b.n_channels):
            exact_columns(x + c * b.n, b.n, LANES, 1, 1, w.shift + c, w.exact, state + c, pitch)
    else:
        exact_columns(x, b.n * b.n_channels, b.fold, b.n_channels, b.inner, w.shift, w.exact, state, pitch)


cdef void exact_columns(const double *x, Py_ssize_t n, Py_ssize_t fold, Py_ssize_t channels, Py_ssize_t inner,
                        const double *shift, double *room, double *state, Py_ssize_t pitch) noexcept nogil:
    """As `exact_states`, for n elements in rows of columns (fold, channels, inner)."""
    cdef double *sums = room + NARROW
    cdef Py_ssize_t c, i, j, width = fold * channels * inner
    cdef pair mean, m2, s, q
    spread(shift, fold, channels, inner, room)
    memset(sums, 0, (EXACT_ROWS - 1) * NARROW * sizeof(double))
    while n > 0:
        exact_row(x, min(n, width), room, sums, sums + NARROW, sums + 2 * NARROW, sums + 3 * NARROW)
        x += width
        n -= width
    for c in range(channels):
        if state[N * pitch + c] == 0:
            continue
        s.hi = s.lo = q.hi = q.lo = 0
        for i in range(fold):
            for j in range((i * channels + c) * inner, (i * channels + c + 1) * inner):
                s = add(s, fast_two_sum(sums[j], sums[NARROW + j]))
                q = add(q, fast_two_sum(sums[2 * NARROW + j], sums[3 * NARROW + j]))
        mean = add_double(quotient(s.hi, state[N * pitch + c]), s.lo / state[N * pitch + c])
        m2 = add(q, negative(multiply(s, mean)))
        mean = add_double(mean, shift[c])
        state[MEAN * pitch + c] = mean.hi
        state[MEAN_LO * pitch + c] = mean.lo
        state[M2 * pitch + c] = m2.hi
        state[M2_LO * pitch + c] = m2.lo


cdef int task_state(const View *view, const Plan *p, const Task *t, bint omit, Work *w,
                    Py_ssize_t pitch) noexcept nogil:
    """Write the states of a task to w.state, whose rows are `pitch` apart. Return -1 if memory ran out."""
    cdef double *state = w.state
    cdef Py_ssize_t c, i, n_states = round_up(t.channels, p.granule)
    cdef double *tile = NULL
    cdef pair mean
    cdef Block b
    cdef bint unselect = omit and view.selective
    omit = omit and not p.whole and not view.selective
    if not make_tile(view, p, &tile):
        return -1
    memset(w.n_lo, 0, p.state_pitch * sizeof(double))
    if p.anchored:
        set_anchors(view, p, t, w.anchor)
    for i in range(t.start, t.stop):
        b = make_block(view, p, t, i, w.anchor, tile)
        if unselect:
            unselect_nonfinite(&b)
        if i == t.start:
            guess_shift(&b, p.whole, w.shift, w.spread)
            block_state(&b, p.whole, omit, w, state, pitch, n_states)
            continue
        if b.element not in (UINT8, INT8):      # The shift is the mean of the block before.
            memcpy(w.shift, state + MEAN * pitch if i == t.start + 1 else w.block + MEAN * p.state_pitch,
                   t.channels * sizeof(double))
            prepare_shift(w.shift, t.channels, p.whole)
        block_state(&b, p.whole, omit, w, w.block, p.state_pitch, n_states)
        merge(state, pitch, w.n_lo if has_weights(view) else NULL, w.block, p.state_pitch, n_states)
    if p.anchored:
        for c in range(t.channels):
            if state[N * pitch + c] == 0:       # An empty state is all zeros.
                continue
            mean.hi = state[MEAN * pitch + c]
            mean.lo = state[MEAN_LO * pitch + c]
            mean = add(mean, anchor_value(w.anchor[c], view.operand[0].element))
            state[MEAN * pitch + c] = mean.hi
            state[MEAN_LO * pitch + c] = mean.lo
    free(tile)
    return 0
