# The blocks of a plan: where the rows of each operand lie, or, tiled, their copies in scratch as doubles.

ctypedef struct Layout:         # how a block of one operand lies; lengths in elements
    char *data
    Py_ssize_t pitch            # from one row of a table to the next
    Py_ssize_t table_pitch
    Py_ssize_t ahead            # from a load to its prefetch

ctypedef struct Block:          # some channels, some rows, as tables of columns
    Element element             # of the first operand
    Layout layout[MAX_OPERANDS]
    Py_ssize_t n                # values per channel
    Py_ssize_t n_samples        # rows at hand for a guess
    Py_ssize_t fold, channels, inner    # what the columns of a table are
    Py_ssize_t width            # how many columns that is
    Py_ssize_t n_rows           # of a table
    Py_ssize_t tail             # columns of one more row, a shorter one
    Py_ssize_t n_tables


cdef double *make_tile(const View *view, const Plan *p) noexcept nogil:
    """Room for a block of each operand that is read."""
    return <double *> malloc(((view.n_read - 1) * TILE + min(<Py_ssize_t> TILE, p.unit.n * p.chunk)) * sizeof(double))


cdef void set_anchors(const View *view, const Segment *t, uint64_t *anchor) noexcept nogil:
    """The first element of each channel."""
    cdef Py_ssize_t c
    for c in range(t.channels):
        anchor[c] = anchor_of(slab_data(view, 0, t.slab, t.first + c), view.operand[0].swapped)


cdef Block make_block(const View *view, const Plan *p, const Segment *t, Py_ssize_t index, const uint64_t *anchor,
                      double *tile) noexcept nogil:
    """Block number `index` of a segment's channels: where it lies, or, tiled, its copy in `tile`, TILE doubles for each
    operand. What is written takes the place of the copy of x."""
    cdef Block b
    cdef Layout *layout
    cdef Py_ssize_t group = div(index, p.pieces), first = group * p.block_units, n = min(p.block_units, p.unit.n - first)
    cdef Py_ssize_t skip = (index - group * p.pieces) * RUN, run = min(<Py_ssize_t> RUN, p.run - skip), itemsize
    cdef int k
    b.element = FLOAT64 if p.tiled else view.operand[0].element
    b.fold = p.fold
    b.channels = t.channels
    b.inner = p.inner
    b.width = p.fold * t.channels * p.inner
    if p.by_runs:
        b.n_tables = 1 if p.tiled else n
        run = n if p.tiled else run
        b.n = b.n_tables * run
        b.n_rows = div(run, b.width)
        b.n_samples = max(1, b.n_rows)
        b.tail = run - b.n_rows * b.width
    else:
        b.n_tables = 1
        b.n = n * p.inner
        b.n_samples = n
        b.n_rows = div(n, p.fold)
        b.tail = (n - b.n_rows * p.fold) * t.channels * p.inner
    for k in range(view.n_operands):
        layout = &b.layout[k]
        layout.pitch = b.width
        if p.tiled:
            layout.data = <char *> (tile + (k * TILE if k < view.n_read else 0))
            layout.table_pitch = layout.ahead = 0
            if k < view.n_read:
                move_tile(view, p, k, t, first, n, anchor, tile + k * TILE, False)
            continue
        itemsize = view.operand[k].itemsize
        layout.data = slab_data(view, k, t.slab, t.first) + first * p.unit.stride[k] + skip * itemsize
        layout.table_pitch = elements(p.unit.stride[k], itemsize)
        if p.by_runs:           # the next run, or further on in this one
            layout.ahead = layout.table_pitch if p.pieces == 1 else div(AHEAD, itemsize)
            continue
        if p.fold == 1:
            layout.pitch = layout.table_pitch
        layout.ahead = max(8, div(AHEAD, b.width * itemsize) & -8) * layout.pitch
    return b


cdef void write_block(const View *view, const Plan *p, const Segment *t, Py_ssize_t index, double *tile) noexcept nogil:
    """The last operand of a block from its tile to where it belongs."""
    cdef Py_ssize_t first = index * p.block_units
    move_tile(view, p, view.n_operands - 1, t, first, min(p.block_units, p.unit.n - first), NULL, tile, True)


cdef char *slab_data(const View *view, int operand, Py_ssize_t slab, Py_ssize_t first_channel) noexcept nogil:
    cdef char *data = view.operand[operand].data
    cdef int i
    if view.n_kept == 0:
        return data
    for i in range(view.n_kept - 2, -1, -1):
        data += slab % view.kept[i].n * view.kept[i].stride[operand]
        slab //= view.kept[i].n
    return data + first_channel * view.kept[view.n_kept - 1].stride[operand]


cdef void move_tile(const View *view, const Plan *p, int operand, const Segment *t, Py_ssize_t first, Py_ssize_t n,
                    const uint64_t *anchor, double *tile, bint back) noexcept nogil:
    """Rows first to first + n of a segment's channels to the tile, (channels, n) by runs, else (n, channels), less their
    anchors; or `back` from it."""
    cdef const Operand *o = &view.operand[operand]
    cdef char *data = slab_data(view, operand, t.slab, t.first)
    cdef Py_ssize_t index[MAX_DIMS]
    cdef Py_ssize_t at = first, left, c, stride = 0, done = 0, channels = t.channels
    cdef Py_ssize_t channel_stride = last_kept(view).stride[operand]
    cdef int i, last = view.n_batch - 1
    cdef bint anchored = operand == 0 and p.anchored
    cdef uint64_t nothing = 0
    for i in range(last, -1, -1):
        index[i] = at % view.batch[i].n
        at //= view.batch[i].n
    if last >= 0:
        stride = view.batch[last].stride[operand]
    if not anchored:
        anchor = &nothing
    while done < n:
        at = 0
        for i in range(last + 1):
            at += index[i] * view.batch[i].stride[operand]
        left = min(view.batch[last].n - index[last], n - done) if last >= 0 else 1
        if p.by_runs:
            move(o, data + at, stride, left, anchor, 0, tile + done, back)
        elif stride == channels * channel_stride and not anchored:      # rows that follow each other as the channels do
            move(o, data + at, channel_stride, left * channels, anchor, 0, tile + done * channels, back)
        else:
            for c in range(left):
                move(o, data + at + c * stride, channel_stride, channels, anchor, anchored, tile + (done + c) * channels,
                     back)
        done += left
        if last >= 0:
            index[last] += left
        for i in range(last, 0, -1):
            if index[i] == view.batch[i].n:
                index[i] = 0
                index[i - 1] += 1
