# How a view is cut up: a plan of tasks and blocks, decided by the view alone, and so the same for any number of threads.
# A block is small enough to be in the L2 cache still when a shift far from its mean has cost digits and it is summed again,
# twice at the most.

cdef enum:
    LINE = 64               # bytes of a cache line
    AHEAD = 16384           # bytes from a load to its prefetch
    WIDTH = 512             # columns at a time at the most: 12 KB of accumulators, which stay in the L1 cache
    PITCH = WIDTH + 8       # from one array of them to the next: not a page, where all would fall on the same cache lines
    BLOCK_BYTES = 524288
    BLOCK_ROWS = 512        # at the most, of each column, in eights: equal terms round to one side, so few additions
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
    Py_ssize_t pieces           # blocks that a long run is cut into
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


cdef inline Dim last_kept(const View *view) noexcept nogil:
    """The channel dim that tasks divide."""
    cdef Dim one
    if view.n_kept > 0:
        return view.kept[view.n_kept - 1]
    one.n = one.out = 1
    one.stride = view.itemsize
    return one


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
    cdef Py_ssize_t tasks, widest, block_bytes, rows
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
    p.pieces = 1
    p.n_units = view.n_rows
    p.unit_stride = fastest.stride
    if view.in_place and view.n_batch <= 1 and channel.stride == view.itemsize and (view.n_kept > 0 or view.n_batch == 0):
        pass                                                        # columns: a table, channels last
    elif view.in_place and 1 <= view.n_batch <= 2 and fastest.stride == view.itemsize:
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
        p.by_runs = view.n_kept == 0 or view.n_batch > 0 and fastest.stride < max(channel.stride, -channel.stride)

    if p.by_runs:
        p.chunk = 1
        if p.tiled:                                                 # any RUN rows are gathered into one run
            p.inner = run_width(min(<Py_ssize_t> RUN, p.n_units))
            p.block_units = RUN
        else:
            p.inner = run_width(p.run)
            rows = div(p.run, p.inner)
            p.block_units = max(1, min(div(RUN, p.run), div(BLOCK_ROWS // 8, rows // 8 + rows % 8 + 1)))
        p.pieces = ceil_div(p.run, RUN)
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
    p.n_blocks = ceil_div(p.n_units, p.block_units) * p.pieces

    tasks = p.n_slabs * p.n_chunks
    p.n_segments = min(p.n_blocks, view.n_rows * p.chunk * view.itemsize // <Py_ssize_t> TASK_BYTES)
    p.n_segments = max(1, min(p.n_segments, div(TASKS, tasks)))
    p.granule = GRANULE if tasks == 1 else 1
    return p


cdef Block make_block(const View *view, const Plan *p, Py_ssize_t slab, Py_ssize_t first_channel, Py_ssize_t channels,
                      Py_ssize_t index, const uint64_t *anchor, double *tile) noexcept nogil:
    """Block number `index` of some channels: where it lies, or, tiled, its copy in `tile`."""
    cdef Block b
    cdef Py_ssize_t group = div(index, p.pieces), first = group * p.block_units, n = min(p.block_units, p.n_units - first)
    cdef Py_ssize_t skip = (index - group * p.pieces) * RUN, run = min(<Py_ssize_t> RUN, p.run - skip)
    cdef Py_ssize_t itemsize = view.itemsize
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
        b.n_rows = div(run, b.width)
        b.n_samples = max(1, b.n_rows)
        b.tail = run - b.n_rows * b.width
        b.ahead = b.table_pitch if p.pieces == 1 else div(AHEAD, itemsize)  # the next run, or further on in this one
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
    cdef Py_ssize_t at = first, left, c, stride = 0, done = 0, channel_stride = last_kept(view).stride
    cdef int i, last = view.n_batch - 1
    cdef bint contiguous
    for i in range(last, -1, -1):
        index[i] = at % view.batch[i].n
        at //= view.batch[i].n
    if last >= 0:
        stride = view.batch[last].stride
    # Rows that follow each other as the channels do are one run; an anchor is a channel's own.
    contiguous = stride == channels * channel_stride and view.element not in (INT64, UINT64)
    while done < n:
        at = 0
        for i in range(last + 1):
            at += index[i] * view.batch[i].stride
        left = min(view.batch[last].n - index[last], n - done) if last >= 0 else 1
        if p.by_runs:
            load(data + at, stride, left, view.element, view.swapped, anchor, 0, tile + done)
        elif contiguous:
            load(data + at, channel_stride, left * channels, view.element, view.swapped, anchor, 0, tile + done * channels)
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


cdef Py_ssize_t group_place(const View *view, const Plan *p, Py_ssize_t group) noexcept nogil:
    """Where in the sink the first channel of a group belongs."""
    cdef Py_ssize_t slab = div(group, p.n_chunks)
    return slab_place(view, slab, (group - slab * p.n_chunks) * p.chunk)


cdef Py_ssize_t group_channels(const View *view, const Plan *p, Py_ssize_t group) noexcept nogil:
    """How many channels a group has: the last chunk of a slab may be narrower."""
    return min(p.chunk, last_kept(view).n - (group - div(group, p.n_chunks) * p.n_chunks) * p.chunk)
