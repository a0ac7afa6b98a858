# The blocks of a plan: where their elements are in each operand, or in the tiles that hold copies of them.

ctypedef struct Layout:         # where the elements of a block are in one operand or tile; lengths are in elements
    char *data
    Py_ssize_t pitch            # from one row of a table to the next
    Py_ssize_t table_pitch      # from one table to the next
    Py_ssize_t channel_pitch    # from one channel of a table to the next
    Py_ssize_t ahead            # from a load to its prefetch, by runs

ctypedef struct Block:
    Element element             # of x, or of its tile
    Layout layout[MAX_OPERANDS]
    Count count                 # without FINITE and NONZERO; see `sum_up`
    char *weights               # flags or doubles, one for each batch position, or NULL; see also `use_elementwise`
    Py_ssize_t at               # the place of its first batch position among elementwise parameters
    double *flags               # a tile of flags, later times the weights: not 0 where an element counts; or NULL
    Py_ssize_t n                # values in each channel
    Py_ssize_t n_samples        # elements of each channel that `guess` can choose from
    Py_ssize_t sample_pitch     # elements from one of them to the next
    bint by_runs
    Py_ssize_t n_channels
    Py_ssize_t n_sums           # columns of a row, or by runs the channels
    Py_ssize_t fold, inner      # The columns of a row are an array (fold, n_channels, inner).
    Py_ssize_t width            # columns of a row, or by runs the elements of a run
    Py_ssize_t n_rows           # rows of a table
    Py_ssize_t tail             # columns of one more, shorter row
    Py_ssize_t n_tables
    bint stream                 # Results go around the caches.
    Py_ssize_t channels_ahead   # as in its plan


ctypedef struct Job:            # a view with its plan, and what to do
    const View *view
    const Sink *sink
    const Norm *norm
    const Limbs *exact
    const Tracked *tracked      # or NULL
    Element element             # of x, which the view may call FLOAT64 so that its bits are copied as they are
    uint64_t *limbs             # the exact sums of each thread, or NULL: they add to `exact`
    int64_t *counts
    double *grads
    double *partials
    double *each_sums           # rows of the sums of elementwise gradients, or NULL
    Py_ssize_t n_teams          # numbers of tasks that add to the same such sums
    bint once                   # A task does both passes of backward.
    bint settles                # The sums of doubles are added to pairs after this task.
    bint omit
    bint look
    int n_threads
    Plan plan

ctypedef struct Scratch:        # of a task
    double *stack               # ROOM_DOUBLES doubles
    double *room                # the stack, or the heap
    double *rows                # from the first cache line of the room on, so that no vector of a row lies across two
    double *tiles               # the heap, or NULL
    double *tile                # likewise: the weights of a block, and a tile for each operand that is read and for flags


cdef inline void give_back(Scratch *s) noexcept nogil:
    if s.room != s.stack:
        free(s.room)
    free(s.tiles)


cdef inline double *at_line(double *room) noexcept nogil:
    return <double *> (<uintptr_t> (<char *> room + LINE_BYTES - 1) & -<uintptr_t> LINE_BYTES)


cdef bint make_scratch(const View *view, const Plan *p, Py_ssize_t n, double *stack, Scratch *s) noexcept nogil:
    """Allocate rows of n doubles altogether, on the stack if they fit, and the tiles. Return whether there was memory."""
    cdef Py_ssize_t n_tile = weights_room(count_of(view)), n_elements = p.unit.n * p.chunk * p.inner
    if p.tiled:
        n_tile += (view.n_read - 1 + view.selective) * TILE_DOUBLES + min(<Py_ssize_t> TILE_DOUBLES, n_elements)
    n += GRANULE
    s.stack = stack
    s.room = stack if n <= ROOM_DOUBLES else <double *> malloc(n * sizeof(double))
    s.rows = at_line(s.room)
    s.tiles = <double *> malloc((n_tile + GRANULE) * sizeof(double)) if n_tile > 0 else NULL
    s.tile = at_line(s.tiles)
    if s.room == NULL or (n_tile > 0 and s.tiles == NULL):
        give_back(s)
        return False
    return True


cdef inline char *channel_data(const View *view, int operand, const Task *t, Py_ssize_t channel) noexcept nogil:
    """The first element of a channel of a task."""
    return view.operand[operand].data + channel_offset(view, operand, t.slab, t.first + channel)


cdef inline Py_ssize_t first_position(const Plan *p, Py_ssize_t index) noexcept nogil:
    """The batch position where block number `index` begins."""
    cdef Py_ssize_t at = div(index, p.run_pieces)
    return at * p.block_units * p.run + (index - at * p.run_pieces) * p.piece


cdef void set_anchors(const View *view, const Plan *p, const Task *t, const Anchors *anchors) noexcept nogil:
    """Set the anchor of each channel to its first element of the task that counts. In sorted data, the first one of all is
    far from the others of most tasks."""
    cdef Py_ssize_t c, position, stop = min(view.n_rows, first_position(p, t.stop)), offset = 0
    cdef uint64_t bits
    for c in range(t.channels):
        if c == 0 or view.selective:
            position = first_position(p, t.start)
            while position < stop - 1 and not element_counts(view, t, c, position):
                position += 1
            offset = offset_of(view.batch, view.n_batch, position, 0)
        memcpy(&bits, channel_data(view, 0, t, c) + offset, sizeof(bits))
        set_anchor(anchors, c, swap64(bits) if view.operand[0].swapped else bits, view.operand[0].element)


cdef bint element_counts(const View *view, const Task *t, Py_ssize_t channel, Py_ssize_t position) noexcept nogil:
    """Whether an element's flag and weight are other than 0."""
    cdef Count count = count_of(view)
    cdef double weight
    if view.selective and channel_data(view, FLAGS, t, channel)[offset_of(view.batch, view.n_batch, position, FLAGS)] == 0:
        return False
    if count == ALL:
        return True
    load_weights(view, position, 1, <char *> &weight)
    return counts(<char *> &weight, 0, count)


cdef Block make_block(const View *view, const Plan *p, const Task *t, Py_ssize_t index, const Anchors *anchors,
                      double *tile) noexcept nogil:
    """Block number `index` of a task's chunk; if tiled, this reads it into its tiles.

    `tile` begins with the weights of the block. The tiles of the operands follow, TILE_DOUBLES each, and that of the flags.
    The operand that is written shares the tile of x.
    """
    cdef Block b
    cdef Layout *layout
    cdef Py_ssize_t at = div(index, p.run_pieces), first = at * p.block_units, n = min(p.block_units, p.unit.n - first)
    cdef Py_ssize_t size, skip = (index - at * p.run_pieces) * p.piece, run = n if p.tiled else min(p.piece, p.run - skip)
    cdef int k
    b.element = FLOAT64 if p.tiled else view.operand[0].element
    b.by_runs = p.by_runs
    b.n_channels = t.channels
    b.fold = p.fold
    b.inner = p.inner
    b.n_sums = n_sums(p, t.channels)
    b.width = run if p.by_runs else b.n_sums
    if p.by_runs:
        b.n_tables = 1 if p.tiled else n
        b.n = b.n_tables * run
        b.n_rows = 1
        b.tail = 0
        b.n_samples = min(<Py_ssize_t> 8, run)
        b.sample_pitch = max(1, run // 8)
    else:
        b.n_tables = 1
        b.n = n * p.inner
        b.n_rows = div(n, p.fold)
        b.tail = (n - b.n_rows * p.fold) * t.channels * p.inner
        b.n_samples = n
        b.sample_pitch = t.channels * p.inner
    b.count = count_of(view)
    b.weights = NULL
    b.at = 0
    if b.count != ALL:
        b.weights = <char *> tile
        load_weights(view, first * p.run + skip, b.n, b.weights)
        tile += weights_room(b.count)
    b.flags = NULL
    if view.selective:
        b.flags = tile + view.n_read * TILE_DOUBLES
        move_tile(view, p, FLAGS, t, first, n, anchors, b.flags, False)
    for k in range(view.n_operands):
        layout = &b.layout[k]
        layout.pitch = b.width
        layout.channel_pitch = p.inner
        if p.tiled:
            layout.data = <char *> (tile + (k * TILE_DOUBLES if k < view.n_read else 0))
            layout.table_pitch = layout.ahead = 0
            if p.by_runs:
                layout.channel_pitch = n
            if k < view.n_read:
                move_tile(view, p, k, t, first, n, anchors, tile + k * TILE_DOUBLES, False)
                if k == 0 and view.scale != 1:
                    multiply_tile(tile, n * t.channels * p.inner, view.scale)
            continue
        size = view.operand[k].itemsize
        layout.data = channel_data(view, k, t, 0) + first * p.unit.stride[k] + skip * size
        layout.table_pitch = elements(p.unit.stride[k], size)
        if p.by_runs:           # Prefetch from the next unit, or from further on in this one.
            layout.channel_pitch = elements(last_kept(view).stride[k], size)
            layout.ahead = layout.table_pitch
            if p.unit.n == 1 or t.channels * p.run * size > <Py_ssize_t> JUMP_BYTES:
                layout.ahead = div(AHEAD_BYTES, size)
            continue
        if p.fold == 1:
            layout.pitch = layout.table_pitch
        layout.ahead = 0
    if not p.by_runs and p.fold == 1:
        b.sample_pitch = b.layout[0].pitch
    b.channels_ahead = p.channels_ahead
    b.stream = p.stream and streams_well(view, &b)
    return b


cdef inline bint streams_well(const View *view, const Block *b) noexcept nogil:
    """Whether each row or run of the result begins at a multiple of STREAM_BYTES, and no operand is read a little behind it,
    modulo a page: a CPU then takes what it reads for what it has just written, and waits."""
    cdef const Layout *y = &b.layout[view.n_read]
    cdef Py_ssize_t places = y.pitch, behind
    cdef int k
    if b.by_runs:
        places = y.channel_pitch if b.n_tables == 1 else y.channel_pitch | y.table_pitch
    for k in range(view.n_read):
        behind = (y.data - b.layout[k].data) & (PAGE_BYTES - 1)
        if 0 < behind < SOON_BYTES:
            return False
    return (<uintptr_t> y.data | <uintptr_t> (places * view.operand[view.n_read].itemsize)) & (STREAM_BYTES - 1) == 0


cdef inline void multiply_tile(f64_out tile, Py_ssize_t n, double by) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        tile[i] *= by


cdef void write_block(const View *view, const Plan *p, const Task *t, Py_ssize_t index, const Block *b) noexcept nogil:
    """Store the last operand of a block from its tile, if it is tiled, with 0 for elements whose flag is 0."""
    cdef int last = view.n_operands - 1
    cdef Py_ssize_t first = index * p.block_units
    if view.selective:
        set_unselected(b, last, NULL)
    if p.tiled:
        move_tile(view, p, last, t, first, min(p.block_units, p.unit.n - first), NULL,
                  <double *> b.layout[last].data, True)


cdef void set_unselected(const Block *b, int operand, const double *value) noexcept nogil:
    """Set a tile to the value of its column, or by runs of its channel, where the flag is 0. NULL means 0."""
    cdef f64_out x = <double *> b.layout[operand].data
    cdef const double *flags = b.flags
    cdef Py_ssize_t i, j, n, done, width = b.n if b.by_runs else b.width
    cdef double one
    for i in range(ceil_div(b.n * b.n_channels, width)):
        done = i * width
        n = min(width, b.n * b.n_channels - done)
        one = value[i] if value != NULL and b.by_runs else 0
        if value == NULL or b.by_runs:
            for j in range(n):
                x[done + j] = x[done + j] if flags[done + j] != 0 else one
        else:
            for j in range(n):
                x[done + j] = x[done + j] if flags[done + j] != 0 else value[j]


cdef void unselect_nonfinite(const Block *b) noexcept nogil:
    """Set the flags of NaN and inf to 0."""
    cdef const double *x = <const double *> b.layout[0].data
    cdef f64_out flags = b.flags
    cdef Py_ssize_t i
    for i in range(b.n * b.n_channels):
        flags[i] *= finite(x[i])


cdef void move_tile(const View *view, const Plan *p, int operand, const Task *t, Py_ssize_t first, Py_ssize_t n,
                    const Anchors *anchors, double *tile, bint back) noexcept nogil:
    """Copy units first to first + n of a task's channels to a tile, minus their anchors; or `back` from the tile.

    The tile is an array (channels, n) by runs, else (n, channels, inner).
    """
    cdef const Operand *o = &view.operand[operand]
    cdef char *data = channel_data(view, operand, t, 0)
    cdef Py_ssize_t at, position, left, c, stride, done = 0, width = t.channels * p.inner
    cdef Py_ssize_t channel_stride = last_kept(view).stride[operand]
    cdef Py_ssize_t column_stride = channel_stride if p.by_runs or p.inner == 1 else o.itemsize
    cdef int n_dims = view.n_batch - (0 if p.by_runs or p.inner == 1 else 1)
    cdef bint anchored = operand == 0 and p.anchored
    cdef double high = high_half(0, o.element), low = low_half(0)
    cdef Dim fastest
    cdef Anchors own
    own.high = &high            # of 0, unless there are others
    own.low = &low
    fastest = view.batch[n_dims - 1] if n_dims > 0 else no_dim(view)
    stride = fastest.stride[operand]
    while done < n:
        position = first + done
        at = offset_of(view.batch, n_dims, position, operand)
        left = min(n - done, fastest.n - position % fastest.n)
        if p.by_runs:
            for c in range(t.channels):
                if anchored:
                    own.high = anchors.high + c
                    own.low = anchors.low + c
                move(o, data + at + c * channel_stride, stride, left, &own, 0, tile + c * n + done, back)
        elif stride == width * column_stride and not anchored:      # The rows are contiguous.
            move(o, data + at, column_stride, left * width, &own, 0, tile + done * width, back)
        else:
            for c in range(left):
                move(o, data + at + c * stride, column_stride, width, anchors if anchored else &own, anchored,
                     tile + (done + c) * width, back)
        done += left
