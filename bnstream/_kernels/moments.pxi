# Mean and variance of every channel of a view:
#
#   view -> plan   tasks and blocks, decided by the view alone (see plan.pxi)
#   block          sums -> a state, merged into the state of its task
#   chunk          the partials of its tasks, merged in order -> sink
#
# States are merged one after the other. As pairs of doubles they lose no more than in a tree, which would need room for all
# its levels.
#
# In a selective view, an element whose flag is 0 is set to the shift of its channel, so that it adds nothing to the sums.
# n is the sum of the flags, times the weights. Under `omit`, the flags of NaN and inf are set to 0.
#
# NaN and inf that are to be left out are looked for only once a sum is not finite. To look for them always took 1.2 to 1.6
# times as long on Zen 4. With weights, the statistics of a channel without NaN may then differ in their last bits, as n is
# summed in another order.

ctypedef struct Tracking:       # of a task
    const Tracked *asked
    double *heap
    double *least               # extremes of the columns of a block as elements,
    double *greatest
    double *low                 # and as doubles
    double *high
    bint early                  # The first sums may find extremes.
    bint found                  # They have found those of this block.
    double *block               # rows of what is tracked of a block,
    double *rows                # and of the task
    Py_ssize_t pitch            # of both

ctypedef struct Work:           # of a moments task
    Scratch scratch
    Columns columns             # mean is the shift; n, squares, s and q are of each column, then of each channel
    double *shift               # of each channel
    double *moved               # 1 if the shift has moved and the channel is to be summed, else 0
    bint large                  # integers so large that their sums are to be exact from now on
    bint careful                # NaN or inf has been seen, and is to be looked for from now on
    double *block               # states of the block
    double *state               # states of the task; a partial or the sink may replace them
    Tracking *tracking          # or NULL
    bint powers                 # The sums of POWERS are taken.


cdef bint make_work(const View *view, const Plan *p, double *stack, Work *w) noexcept nogil:
    """Allocate the scratch of a task. Return whether there was memory."""
    cdef Py_ssize_t pitch = p.pitch, more = pitch if p.whole or p.anchored else 0    # rows of integers
    cdef double *rows
    if not make_scratch(view, p, 5 * pitch + 4 * more + (2 + 2 * WEIGHTED_ROWS) * p.state_pitch, stack, &w.scratch):
        return False
    rows = w.scratch.rows
    w.columns = columns_at(rows)
    w.columns.n = rows + pitch
    w.columns.s = rows + 2 * pitch
    w.columns.q = rows + 3 * pitch
    w.columns.squares = rows + 4 * pitch
    rows += 5 * pitch
    w.columns.s_lo = rows
    w.columns.whole = <uint32_t *> w.columns.s_lo
    w.columns.q_lo = rows + more
    w.columns.anchors.high = rows + 2 * more
    w.columns.anchors.low = rows + 3 * more
    rows += 4 * more
    w.shift = rows
    w.moved = rows + p.state_pitch
    w.block = rows + 2 * p.state_pitch
    w.state = w.block + WEIGHTED_ROWS * p.state_pitch
    w.columns.moved = w.moved
    w.large = w.careful = False
    w.tracking = NULL
    w.powers = False
    return True


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
    """Multiply the flags by the weights, and set n and `squares` to their sums, and those of their squares, about 0."""
    cdef Py_ssize_t i, j, n = b.n_sums, width = b.n if b.by_runs else b.width
    cdef const double *weights = <const double *> b.weights
    cdef f64_out row = b.flags
    cdef Block flags = b[0]
    cdef Columns columns = w.columns
    if b.count & WEIGHTED:
        for i in range(b.n_channels if b.by_runs else b.n):
            for j in range(width):
                row[j] *= weights[j if b.by_runs else i]
            row += width
    flags.layout[0].data = <char *> b.flags
    columns.s = columns.n
    columns.q = columns.squares
    columns.least = NULL
    memset(columns.mean, 0, n * sizeof(double))
    memset(columns.s, 0, n * sizeof(double))
    memset(columns.q, 0, n * sizeof(double))
    sum_moments(&flags, ALL, &columns)
    if not b.by_runs:
        add_up(columns.s, b.fold, b.n_channels, b.inner)
        add_up(columns.q, b.fold, b.n_channels, b.inner)


cdef inline double sum_of_array(double *x, Py_ssize_t n) noexcept nogil:
    """The sum of x, taken in halves because equal terms added in turn all round to the same side. x is overwritten."""
    cdef Py_ssize_t i, half
    while n > 1:
        half = (n + 1) // 2
        for i in range(n // 2):
            x[i] += x[half + i]
        n = half
    return x[0]


cdef void add_up(double *sums, Py_ssize_t fold, Py_ssize_t channels, Py_ssize_t inner) noexcept nogil:
    """Add up the columns (fold, channels, inner) of each channel, in a fixed order."""
    cdef Py_ssize_t c, n = fold * channels * inner
    while n > channels * inner:
        n //= 2
        for c in range(n):
            sums[c] += sums[n + c]
    if inner > 1:
        for c in range(channels):
            sums[c] = sum_of_array(sums + c * inner, inner)


cdef inline Count careful_count(const Block *b, bint omit) noexcept nogil:
    """What counts, where x may hold NaN or inf that is to be left out. A selective view has none: see `set_unselected`."""
    if b.flags != NULL:
        return b.count
    if b.count == WEIGHTED and not omit:
        return NONZERO_WEIGHTED
    return with_finite(b.count, omit)


cdef void sum_counting(const Block *b, Count count, const Work *w) noexcept nogil:
    """Sum what counts about the shifts. By runs, only channels whose shift has moved are summed again."""
    cdef const Columns *sums = &w.columns
    cdef Py_ssize_t c
    for c in range(b.n_sums):
        if not b.by_runs or w.moved[c] != 0:
            sums.s[c] = sums.q[c] = 0
            if count & FINITE:
                sums.n[c] = sums.squares[c] = 0
            if w.powers:
                sums.cubes[c] = sums.fourths[c] = 0
    if w.large:
        return
    if w.powers:
        sweep_tracked(POWERS, b, count, sums)
    elif sums.least != NULL and count == ALL:
        sweep_tracked(MORE, b, count, sums)
    else:
        sum_moments(b, count, sums)


cdef Count sum_up(const Block *b, bint omit, Work *w) noexcept nogil:
    """Sum a block about the shifts. Return what counted."""
    cdef Count careful = careful_count(b, omit), count = careful if w.careful else b.count
    cdef const Columns *sums = &w.columns
    cdef Py_ssize_t c
    cdef double of_nonfinite = 0        # 0 or NaN
    sum_counting(b, count, w)
    if count == careful:
        return count
    for c in range(b.n_sums):
        of_nonfinite += (sums.s[c] - sums.s[c]) + (sums.q[c] - sums.q[c])
    if of_nonfinite == 0:
        return count
    w.careful = True
    sum_counting(b, careful, w)
    return careful


cdef Count block_state(const Block *b, bint whole, bint omit, Work *w, double *state, Py_ssize_t pitch,
                       Py_ssize_t n_states) noexcept nogil:
    """The states of a block. Those beyond its channels, up to n_states, are empty. Return what counted."""
    cdef Columns *sums = &w.columns
    cdef Py_ssize_t c, attempt
    cdef double total = b.n, squares = b.n
    cdef Count count
    if b.count != ALL:
        sum_weights(b.weights, b.n, b.count, &total, &squares)
    for c in range(b.n_channels):
        w.moved[c] = 1
    if b.flags != NULL:
        count_selected(b, w)
    if w.tracking != NULL:
        begin_block(b, w)
    for attempt in range(MOST_SWEEPS):
        spread(w.shift, b.fold, b.n_channels, b.inner, sums.mean)
        if b.flags != NULL:
            set_unselected(b, 0, sums.mean)
        count = sum_up(b, omit, w)
        sums.least = NULL       # They are found once.
        if not b.by_runs:
            add_up(sums.s, b.fold, b.n_channels, b.inner)
            add_up(sums.q, b.fold, b.n_channels, b.inner)
            if count & FINITE:
                add_up(sums.n, b.fold, b.n_channels, b.inner)
            if count == FINITE_WEIGHTED:
                add_up(sums.squares, b.fold, b.n_channels, b.inner)
            if w.powers:
                add_up(sums.cubes, b.fold, b.n_channels, b.inner)
                add_up(sums.fourths, b.fold, b.n_channels, b.inner)
        if not count & FINITE and b.flags == NULL:
            for c in range(b.n_channels):
                sums.n[c] = total
                sums.squares[c] = squares
        if attempt == MOST_SWEEPS - 1 or b.element in (UINT8, INT8) or not move_shift(w, b.n_channels, whole):
            break
    for c in range(b.n_channels, n_states):
        sums.n[c] = sums.squares[c] = sums.s[c] = sums.q[c] = w.shift[c] = 0
    finish(sums.n, w.shift, sums.s, sums.q, state, pitch, n_states)
    if b.count == WEIGHTED:
        memset(state + N_LO * pitch, 0, n_states * sizeof(double))
        memcpy(state + SQUARES * pitch, sums.squares, n_states * sizeof(double))
    if whole:
        for c in range(b.n_channels):
            w.large = w.large or sums.q[c] >= 9007199254740992.0    # Up to 2**53, sums of squares are exact.
        if w.large:
            exact_states(b, w, state, pitch)
    return count


cdef void merge_blocks(const View *view, const Plan *p, const Task *t, bint omit, Work *w, Py_ssize_t pitch) noexcept nogil:
    """Write the states of a task, less their anchors, to w.state."""
    cdef double *state = w.state
    cdef Py_ssize_t i, n_states = round_up(t.channels, p.granule)
    cdef Block b
    cdef Count count
    cdef Tracking *to = w.tracking
    cdef bint unselect = omit and view.selective
    omit = omit and not p.whole
    w.large = False
    for i in range(t.start, t.stop):
        b = make_block(view, p, t, i, &w.columns.anchors, w.scratch.tile)
        if unselect:
            unselect_nonfinite(&b)
        if i == t.start:
            guess_shift(&b, p.whole, w)
            count = block_state(&b, p.whole, omit, w, state, pitch, n_states)
            if to != NULL:
                track_block(view, p, t, i, &b, count, omit, w, state, pitch, to.rows)
            continue
        if b.element not in (UINT8, INT8):      # The shift is the mean of the block before.
            memcpy(w.shift, state + MEAN * pitch if i == t.start + 1 else w.block + MEAN * p.state_pitch,
                   t.channels * sizeof(double))
            prepare_shift(w.shift, t.channels, p.whole)
        count = block_state(&b, p.whole, omit, w, w.block, p.state_pitch, n_states)
        if to != NULL:
            track_block(view, p, t, i, &b, count, omit, w, w.block, p.state_pitch, to.block)
            merge_tracked(to.rows, to.pitch, state if to.asked.powers else NULL, pitch, to.block, to.pitch, w.block,
                          p.state_pitch, t.channels)
        merge_states(state, pitch, w.block, p.state_pitch, n_states, has_weights(view))


cdef void merge_anchored(const View *view, const Plan *p, const Task *t, bint omit, Work *w,
                         Py_ssize_t pitch) noexcept nogil:
    """The same for 64-bit integers, whose anchors are spread over the columns, and back."""
    cdef const Anchors *anchors = &w.columns.anchors
    cdef Py_ssize_t c
    anchors_to_columns(p, t, anchors, w.columns.mean)
    merge_blocks(view, p, t, omit, w, pitch)
    for c in range(t.channels):
        anchors.high[c] = anchors.high[c * p.inner]
        anchors.low[c] = anchors.low[c * p.inner]


cdef inline pair anchored_mean(const double *state, Py_ssize_t pitch, Py_ssize_t c, pair anchor) noexcept nogil:
    """The mean of a channel whose state is that of its data less the anchor."""
    return add(mean_of(state, pitch, c), anchor)


cdef bint move_anchors(const Task *t, const double *state, Py_ssize_t pitch, const Anchors *anchors,
                       Element element) noexcept nogil:
    """Move to the mean each anchor that is an outlier. Return whether there were any.

    The difference of an element from its anchor is rounded beyond 2**53. That rounds its deviation alike if the anchor is
    within four standard deviations of the mean, or within 2**52, as the deviation then is beyond 2**52 itself.
    """
    cdef Py_ssize_t c
    cdef int n_far = 0
    cdef double n, distance
    cdef pair mean
    for c in range(t.channels):
        n = state[N * pitch + c]
        distance = state[MEAN * pitch + c]
        if n > 0 and fabs(distance) > 4503599627370496.0 and distance * distance > 16 * (state[M2 * pitch + c] / n):
            mean = anchored_mean(state, pitch, c, anchor_value(anchors, c, element))
            set_anchor(anchors, c, nearest_integer(mean.hi, element), element)
            n_far += 1
    return n_far > 0


cdef void task_state(const View *view, const Plan *p, const Task *t, bint omit, Work *w, Py_ssize_t pitch) noexcept nogil:
    """Write the states of a task to w.state, whose rows are `pitch` apart."""
    cdef double *state = w.state
    cdef const Anchors *anchors = &w.columns.anchors
    cdef Element element = view.operand[0].element
    cdef Py_ssize_t c
    cdef pair mean
    if not p.anchored:
        merge_blocks(view, p, t, omit, w, pitch)
        return
    set_anchors(view, p, t, anchors)
    merge_anchored(view, p, t, omit, w, pitch)
    if move_anchors(t, state, pitch, anchors, element):
        merge_anchored(view, p, t, omit, w, pitch)
    for c in range(t.channels):
        if state[N * pitch + c] > 0:        # An empty state is all zeros.
            mean = anchored_mean(state, pitch, c, anchor_value(anchors, c, element))
            state[MEAN * pitch + c] = mean.hi
            state[MEAN_LO * pitch + c] = mean.lo
