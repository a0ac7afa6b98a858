# How a view is cut up: a plan of tasks and blocks, decided by the view alone, and so the same for any number of threads.
# A block whose shift was so far from the mean that it has cost digits is summed again, twice at the most.

cdef enum:
    LINE = 64               # bytes of a cache line
    STRIP = 32              # elements between prefetches, or a line of them; GCC 12 unrolls loops of 16 doubles as scalars
    LANES = 32              # a run is summed in; 16 and 64 were slower
    BYTE_LANES = 128        # bytes are
    AHEAD = 16384           # bytes from a load to its prefetch ...
    RUN_AHEAD = 4096        # ... where memory is read in order, run after run
    JUMP = 32768            # bytes of an image worth the jump to the next
    NARROW = 512            # columns at a time at the most: 12 KB of accumulators, which stay in the L1 cache ...
    WIDTH = 2048            # ... and of an array past the cache, where half a page of each row costs a quarter of the time
    PAST = 16777216         # bytes of such an array
    BLOCK_BYTES = 2097152   # of a block of columns
    BLOCK_ROWS = 256        # of each column: 32 additions, as equal terms round to one side and the mean may err by 8 eps
    RUN = 65536             # elements of a block of runs, of one channel ...
    PART = 8192             # ... of as many additions to each lane ...
    UNITS = 16              # ... and runs at the most
    FEW = 2048              # elements worth a block
    FEWEST_COLUMNS = 16     # channels, to be columns of rows with weights
    ROOM = 8320             # doubles of a task's numbers on its stack: 16 rows of NARROW columns, padded
    TILE = 32768            # doubles of scratch for what cannot be read in place
    TASKS = 32              # at least so many, where there is enough to do ...
    TASK_BYTES = 262144     # ... with this much of the same channels for each
    LEAST = 16384           # ... or of others
    PARTS = 16384           # channels of all their states: 655 KB
    CACHED = 917504         # bytes of an L2 cache of 1 MiB, as the servers since 2017 have; 512 KB cost a third of backward

ctypedef enum Purpose:          # what the plan is for
    ONCE                        # to read: moments, gradients
    TWICE                       # training, backward: the second time from the cache, where they fit
    MAP                         # one result for each element

ctypedef struct Plan:
    bint by_runs                # else by columns
    bint tiled                  # through scratch ...
    bint anchored               # ... less an anchor of each channel: 64-bit integers
    bint whole                  # integers without weights, which add up exactly
    Py_ssize_t n_slabs          # channel dims but the last, flattened
    Py_ssize_t chunk            # channels of a task, of the last channel dim
    Py_ssize_t n_chunks
    Py_ssize_t fold             # rows read as one
    Py_ssize_t inner            # batch elements beside each other within a channel
    Py_ssize_t run              # by runs: elements of one
    Dim unit                    # what blocks divide: rows, or runs
    Py_ssize_t block_units
    Py_ssize_t piece            # elements of a block of runs, of one channel
    Py_ssize_t pieces           # blocks that a long run is cut into
    Py_ssize_t n_blocks
    Py_ssize_t n_segments
    Py_ssize_t granule          # channels of a state come in so many: a whole vector, where there is one chunk
    Py_ssize_t pitch            # from one row of a task's numbers to the next: of each column or channel ...
    Py_ssize_t state_pitch      # ... of each channel

ctypedef struct Segment:        # what a task does: some channels, some blocks of their rows
    Py_ssize_t group            # which channels: slab and chunk
    Py_ssize_t slab, first, channels    # of the last channel dim
    Py_ssize_t start, stop
    Py_ssize_t place, step      # of its channels in a result


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


cdef inline Py_ssize_t elements(Py_ssize_t n_bytes, Py_ssize_t itemsize) noexcept nogil:
    """n_bytes / itemsize of a stride, which may be negative."""
    return -div(-n_bytes, itemsize) if n_bytes < 0 else div(n_bytes, itemsize)


cdef inline Py_ssize_t round_up(Py_ssize_t a, Py_ssize_t power_of_two) noexcept nogil:
    return (a + power_of_two - 1) & -power_of_two


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return 1 if 0 < a <= b else div(a + b - 1, b)


cdef inline Dim no_dim(const View *view) noexcept nogil:
    """A dim of one entry, as if the next lay beside it."""
    cdef Dim one
    cdef int k
    one.n = one.place = 1
    for k in range(view.n_operands):
        one.stride[k] = view.operand[k].itemsize
    return one


cdef inline Dim last_kept(const View *view) noexcept nogil:
    """The channel dim that tasks divide."""
    return view.kept[view.n_kept - 1] if view.n_kept > 0 else no_dim(view)


cdef inline bint apart(const View *view, const Dim *dim, Py_ssize_t n) noexcept nogil:
    """Whether the entries of a dim are n elements apart, in every operand."""
    cdef int k
    for k in range(view.n_operands):
        if dim.stride[k] != n * view.operand[k].itemsize:
            return False
    return True


cdef bint faster(const View *view, const Dim *a, const Dim *b) noexcept nogil:
    """Whether a is walked in shorter steps than b, in every operand: else tiles of several channels serve both ways."""
    cdef int k
    for k in range(view.n_operands):
        if max(a.stride[k], -a.stride[k]) >= max(b.stride[k], -b.stride[k]):
            return False
    return True


cdef Py_ssize_t fold_of(Py_ssize_t width, Py_ssize_t n_rows) noexcept nogil:
    """How many rows to read as one, a power of two: few channels make short vectors."""
    cdef Py_ssize_t fold = 1
    while 2 * fold * width <= NARROW and 16 * fold <= n_rows:
        fold *= 2
    return fold


cdef Py_ssize_t longest_columns(Py_ssize_t n_runs, Py_ssize_t itemsize, Purpose purpose) noexcept nogil:
    """Runs up to this, beside each other, are taken as columns. Where there are few of a channel, columns cost more than
    they give, but sums of a channel at a time cost even more."""
    if purpose != MAP:
        return 256 if n_runs >= 8 else (64 if n_runs > 1 or itemsize == 1 else 32)
    return 64 if n_runs >= 32 else (12 if n_runs >= 4 else 8)


cdef Py_ssize_t row_pitch(Py_ssize_t n) noexcept nogil:
    """A pitch for rows of n doubles: not a page, where all rows would fall on the same cache lines."""
    n = round_up(n, GRANULE)
    return n if n % 512 else n + GRANULE


cdef Py_ssize_t widest_chunk(const View *view, const Plan *p, Purpose purpose) noexcept nogil:
    """How many channels a task is to have at the most."""
    cdef Py_ssize_t widest, tasks, fitting, each = 0, itemsize = view.operand[0].itemsize
    cdef Py_ssize_t n_bytes = view.n_rows * view.n_channels * itemsize
    cdef Dim channel = last_kept(view)
    cdef int k
    if p.by_runs and p.tiled:
        if view.weighted and apart(view, &channel, 1):
            return FEWEST_COLUMNS
        return max(1, min(<Py_ssize_t> NARROW, div(TILE, view.n_rows)))
    widest = WIDTH if n_bytes >= <Py_ssize_t> PAST and not p.tiled else NARROW
    if not p.by_runs:
        widest = div(widest, p.inner)
    elif n_bytes < <Py_ssize_t> PAST or p.unit.n * ceil_div(p.run, p.piece) < TASKS:      # tasks of channels, not of images
        tasks = max(1, min(<Py_ssize_t> TASKS, n_bytes // <Py_ssize_t> LEAST))
        widest = min(widest, ceil_div(view.n_channels, tasks))
        if p.unit.n > 1:
            widest = max(widest, min(div(JUMP, p.run * itemsize), ceil_div(view.n_channels, TASKS // 4)))
    if purpose == TWICE:
        for k in range(view.n_read):
            each += view.operand[k].itemsize
        fitting = div(<Py_ssize_t> CACHED, max(1, view.n_rows * each))
        if fitting >= (1 if p.by_runs or p.inner > 1 else NARROW):
            widest = min(widest, fitting)
    return widest


cdef Plan make_plan(const View *view, Purpose purpose) noexcept nogil:
    cdef Plan p
    cdef int last = view.n_batch - 1
    cdef Dim channel, fastest
    cdef Py_ssize_t tasks, widest, itemsize = view.operand[0].itemsize
    cdef bint integers
    channel = last_kept(view)
    fastest = view.batch[last] if view.n_batch > 0 else no_dim(view)

    p.n_slabs = div(view.n_channels, channel.n)
    p.anchored = view.operand[0].element in (INT64, UINT64)
    integers = view.operand[0].element not in (FLOAT32, FLOAT64, FLOAT16, BFLOAT16)
    p.whole = integers and not view.weighted
    p.tiled = not view.in_place or view.weighted and integers and purpose != MAP
    p.piece = PART if view.weighted else RUN        # whose weights stay in the cache
    p.by_runs = False
    p.fold = p.inner = p.run = p.pieces = 1
    p.unit = fastest
    if view.n_batch <= 1 and apart(view, &channel, 1) and (view.n_kept > 0 or view.n_batch == 0):
        if view.weighted and channel.n < FEWEST_COLUMNS:            # gathered into runs
            p.tiled = p.by_runs = True                              # else columns: a table, channels last
    elif 1 <= view.n_batch <= 2 and apart(view, &fastest, 1):
        p.unit = view.batch[0] if view.n_batch == 2 else no_dim(view)
        if (apart(view, &channel, fastest.n) and fastest.n <= longest_columns(p.unit.n, itemsize, purpose)
                and not p.anchored and not view.weighted):
            p.inner = fastest.n                                     # columns: short runs beside each other
        else:
            p.by_runs = True                                        # long runs
            p.run = fastest.n
    else:
        p.tiled = True
        p.unit.n = view.n_rows
        p.by_runs = view.n_kept == 0 or view.n_batch > 0 and faster(view, &fastest, &channel)

    widest = widest_chunk(view, &p, purpose)
    p.chunk = ceil_div(channel.n, ceil_div(channel.n, widest))
    p.n_chunks = ceil_div(channel.n, p.chunk)
    if p.by_runs and p.tiled:                                       # any rows are gathered into one run
        p.unit.n = view.n_rows
        p.run = 1
        p.block_units = min(div(TILE, p.chunk), <Py_ssize_t> PART)
        p.pitch = p.chunk
    elif p.by_runs:
        p.pieces = ceil_div(p.run, p.piece)
        p.block_units = max(div(p.unit.n, TASKS), div(FEW, p.run))
        p.block_units = max(1, min(p.block_units, min(div(p.piece, p.run), UNITS)))
        p.pitch = p.chunk
    else:
        if p.inner == 1 and p.chunk < channel.n:
            p.chunk = min(widest, round_up(p.chunk, 16))
            p.n_chunks = ceil_div(channel.n, p.chunk)
        if p.chunk == channel.n and (p.tiled or apart(view, &p.unit, channel.n * p.inner)) and not view.weighted:
            p.fold = fold_of(p.chunk * p.inner, p.unit.n)
        p.pitch = p.fold * p.chunk * p.inner
        if p.tiled:
            p.block_units = min(BLOCK_ROWS, max(1, div(TILE, p.pitch))) * p.fold
        else:
            p.block_units = min(BLOCK_ROWS, max(8, div(BLOCK_BYTES, p.pitch * itemsize) // 8 * 8)) * p.fold
    p.pitch = row_pitch(p.pitch)
    p.state_pitch = row_pitch(p.chunk)
    p.n_blocks = ceil_div(p.unit.n, p.block_units) * p.pieces

    tasks = p.n_slabs * p.n_chunks
    p.n_segments = min(p.n_blocks, view.n_rows * p.chunk * itemsize // <Py_ssize_t> TASK_BYTES)
    p.n_segments = max(1, min(p.n_segments, div(TASKS, tasks), div(PARTS, tasks * p.chunk)))
    p.granule = GRANULE if tasks == 1 else 1
    return p


cdef Segment make_segment(const View *view, const Plan *p, Py_ssize_t task) noexcept nogil:
    cdef Segment t
    cdef Dim channel = last_kept(view)
    cdef Py_ssize_t segment
    t.group = div(task, p.n_segments)
    segment = task - t.group * p.n_segments
    t.slab = div(t.group, p.n_chunks)
    t.first = (t.group - t.slab * p.n_chunks) * p.chunk
    t.channels = min(p.chunk, channel.n - t.first)          # the last chunk of a slab may be narrower
    t.start = div(p.n_blocks * segment, p.n_segments)
    t.stop = div(p.n_blocks * (segment + 1), p.n_segments)
    t.place = slab_place(view, t.slab, t.first)
    t.step = channel.place
    return t


cdef Py_ssize_t slab_place(const View *view, Py_ssize_t slab, Py_ssize_t first_channel) noexcept nogil:
    cdef Py_ssize_t place = 0
    cdef int i
    if view.n_kept == 0:
        return 0
    for i in range(view.n_kept - 2, -1, -1):
        place += slab % view.kept[i].n * view.kept[i].place
        slab //= view.kept[i].n
    return place + first_channel * view.kept[view.n_kept - 1].place
