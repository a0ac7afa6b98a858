# How a view is divided. The plan depends on the view alone, so it is the same for any number of threads. Only a map, whose
# bits no division changes, divides each chunk into as many tasks as there are threads.
#
#               channels of a slab ->
#               chunk 0    chunk 1    chunk 2
#             +----------+----------+--------+
#   batch     | task 0:  | task 1   | task 2 |    A view is one or more slabs.
#   positions |  block 0 |          |        |    A slab is divided into chunks, side by side.
#      |      |  block 1 |          |        |    A chunk is divided into tasks, one below the other.
#      v      +----------+----------+--------+    A task is done by one thread, block after block.
#             | task 3:  | task 4   | task 5 |
#             |  block 2 |          |        |
#             +----------+----------+--------+
#
#   A block by columns: one table               A block by runs: one table for each unit
#
#            +---------------+                           run of channel 0   run of channel 1
#   section  | row           |                    unit 0 +----------------+ +----------------+ ...
#            | row           |                           | piece          | |                |
#            +---------------+                    unit 1 +----------------+ +----------------+ ...
#   section  | row           |
#            | row           |                    A piece is divided into parts, and a part into rows of lanes:
#            +---------------+                    +------+------+------+------+
#            : |             :                    | lane | lane | lane | lane | ...
#              |                                  +------+------+------+------+
#              column: one position in every row
#
# instance  The channels of one instance, in a view of instances. No bit of its results depends on the others.
# group     Neighboring channels that share their statistics.
# slab      The channels at one index of all channel dims but the last. Its size is that of the last channel dim.
# chunk     Neighboring channels of a slab: at most NARROW_COLUMNS, or WIDE_COLUMNS past the cache, and by runs as many
#           channels. It is narrower if that gives more tasks, or keeps its data in the cache for a second pass.
# task      Consecutive blocks of a chunk. A chunk is divided only into tasks of at least TASK_BYTES, or half as many for
#           backward, and only until the view has TASKS tasks. Chunks of a map are divided for the threads, into tasks of at
#           least LEAST_BYTES. A thread takes neighboring tasks, the same ones in a second pass.
# team      Neighboring tasks that add to the same sums of elementwise parameters; see elementwise.pxi.
# partial   The result of one task of a chunk that has several. All partials together hold at most PARTIAL_CHANNELS channels.
# block     Consecutive units of a task: by columns at most BLOCK_ROWS rows and about BLOCK_BYTES bytes, by runs at most
#           BLOCK_RUNS runs and PIECE_ELEMENTS elements of each channel. Its sums are taken about one shift for each channel.
# unit      What blocks are made of. By columns: the elements of a chunk at one batch position, or at `inner` neighboring
#           ones. By runs: one run of each channel, such as an image of (N, C, H, W); if tiled, one batch position.
# table     Rows of columns, as the loops walk them: all rows of a block by columns, or, by runs, the runs of one unit.
# section   An eighth of the rows of a table, or a quarter for the gradients and for wide maps, which take one row of each
#           together.
# row       `fold` units of a block by columns, read as one where channels are few; by runs one run, or LANES elements of a
#           part.
# column    One position in every row. It belongs to one channel. A row of one unit has as many as its chunk.
# run       Neighboring elements of one channel: the whole last batch dim. If tiled, the positions of a block.
# piece     The elements of a run in one block: at most PIECE_ELEMENTS.
# part      Elements of a piece that are summed by themselves first: at most PART_ELEMENTS. Bytes have no parts.
# lane      A column of a part: LANES of them.
# tile      A copy of a block as doubles, for operands that cannot be read or written in place: at most TILE_DOUBLES. The
#           flags of a selective view have a tile as well.
# granule   The doubles in the longest vector, GRANULE. The states of a single chunk come in whole granules.

# Constants of the loops.
cdef enum:
    LINE_BYTES = 64             # A cache line has as many.
    PAGE_BYTES = 4096           # A page of memory has at least as many.
    SOON_BYTES = 512            # As many are read soon after what is before them.
    STREAM_BYTES = 16           # Results go around the caches in pieces of as many.
    LANES = 8                   # A part has as many lanes.
    AHEAD_BYTES = 4096          # A load of a run is prefetched so far ahead, where runs are read in the order of memory.

# Sizes of blocks. In a block by columns, and in a part, 32 sums of eight elements are added to each accumulator, or 64 sums
# of four for gradients by columns. More would cost accuracy, as equal terms all round to the same side. The bounds of mean
# and variance, docs/explanation/bounds.md, depend on these sizes.
cdef enum:
    BLOCK_ROWS = 256            # A block by columns has at most as many rows,
    BLOCK_BYTES = 2097152       # and at most as many bytes, unless eight rows have more.
    PIECE_ELEMENTS = 16384      # A piece has at most as many elements, or four times as many bytes without flags.
    PART_ELEMENTS = 2048        # A part has at most as many elements.
    FOLDED_COLUMNS = 256        # A row of several units has at most as many columns.
    BLOCK_RUNS = 16             # A block has at most as many runs of each channel,
    FEW_ELEMENTS = 2048         # and should have at least as many elements of each channel.
    TILE_DOUBLES = 32768        # A tile has at most as many elements.
    ROOM_DOUBLES = 1536         # The scratch of a task is on the stack up to this size; stacks may be 64 KiB in all.
    STATE_DOUBLES = 640         # So are the states of its channels where they have no other place.
    STRIP = 256                 # Elementwise gradients are summed in strips of as many positions, whose sums stay in L1.
    STRIP_DOUBLES = 6 * 256 + 8     # Sums of a strip and four rows of its results, from a cache line on.

# Sizes of chunks.
cdef enum:
    NARROW_COLUMNS = 512        # A chunk has at most as many columns: their accumulators, 12 KB, stay in the L1 cache.
    WIDE_COLUMNS = 2048         # Past the cache it has at most as many: 512 would cost a quarter of the time.
    PAST_BYTES = 16777216       # An array of as many bytes is past the cache.
    CACHED_BYTES = 917504       # As many stay in an L2 cache of 1 MiB, common since 2017; 512 KB cost backward a third.
    NEAR_BYTES = 131072         # Runs of instances have at most as many; with 900 KB, layer norm took 1.2 times as long.
    FEWEST_RUNS = 4             # But a chunk has at least as many of them, if they stay in the cache.
    FEWEST_COLUMNS = 16         # Weighted rows of fewer channels become runs. Chunks of weighted runs have at least as many.
    JUMP_BYTES = 32768          # A unit of as many bytes is worth the jump to the next one.

# Numbers of tasks.
cdef enum:
    TASKS = 32                  # A view has about as many tasks, if there is enough to do.
    TASK_BYTES = 262144         # A task that shares its chunk has at least as many bytes; half as many for backward.
    LEAST_BYTES = 16384         # A task of a map, or one that has its channels alone, has at least as many.
    PARTIAL_CHANNELS = 16384    # All partials together have at most as many channels: 918 KB.

ctypedef uint8_t flag           # of a mask: 0 or 255

ctypedef enum Purpose:          # what the plan is for
    SUM                         # moments: one pass of reading, and states to merge
    TRAIN                       # moments, then one result for each element, from the cache where the data fits
    BACKWARD                    # sums, which merge at little cost, then the same
    MAP                         # one result for each element

ctypedef struct Plan:
    bint integers               # of x
    bint whole                  # integers without weights: their sums are exact
    bint anchored               # 64-bit integers: an anchor of its channel is subtracted from x first
    bint by_runs                # by runs, else by columns
    bint tiled                  # blocks are copied to tiles
    bint stream                 # The result is large and is not x or dy, so it is written around the caches.
    Py_ssize_t n_slabs
    Py_ssize_t chunk            # channels of a chunk; the last one of a slab may have fewer
    Py_ssize_t slab_chunks      # chunks of a slab
    Py_ssize_t n_chunks         # of all slabs
    Py_ssize_t fold             # units of a row, by columns
    Py_ssize_t inner            # neighboring elements of each channel in a unit, by columns
    Py_ssize_t run              # elements of a run, by runs
    Dim unit
    Py_ssize_t block_units      # units of a block
    Py_ssize_t piece            # most elements of a piece
    Py_ssize_t run_pieces       # pieces of a run
    Py_ssize_t chunk_blocks     # blocks of a chunk
    Py_ssize_t chunk_tasks      # tasks of a chunk
    Py_ssize_t channels_ahead   # between a load in the second pass of a task and its prefetch: a chunk, or 0 for none
    Py_ssize_t granule          # The number of states is a multiple of this.
    Py_ssize_t pitch            # doubles between the rows of a task's scratch that hold a number per column or channel
    Py_ssize_t state_pitch      # doubles between those that hold a number per channel

ctypedef struct Task:
    Py_ssize_t chunk            # index of its chunk among those of all slabs
    Py_ssize_t slab             # index of its slab
    Py_ssize_t first            # index of its first channel in the last channel dim
    Py_ssize_t channels
    Py_ssize_t start, stop      # its blocks, of those of the chunk
    Py_ssize_t place, step      # of its channels in a result with one number per channel


cdef inline Py_ssize_t div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a // b for a >= 0, b > 0, without the 40 cycles of a 64-bit division if the quotient is trivial or the numbers small.

    Fifteen such divisions would double the time of a small update.
    """
    if b == 1:
        return a
    if a < b:
        return 0
    if a >> 31 == 0:
        return <uint32_t> a // <uint32_t> b
    return a // b


cdef inline Py_ssize_t elements(Py_ssize_t n_bytes, Py_ssize_t itemsize) noexcept nogil:
    """n_bytes / itemsize, where n_bytes is a stride and may be negative."""
    return -div(-n_bytes, itemsize) if n_bytes < 0 else div(n_bytes, itemsize)


cdef inline Py_ssize_t round_up(Py_ssize_t a, Py_ssize_t power_of_two) noexcept nogil:
    return (a + power_of_two - 1) & -power_of_two


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return 1 if 0 < a <= b else div(a + b - 1, b)


cdef inline Dim no_dim(const View *view) noexcept nogil:
    """A dim of one entry, with the stride of contiguous elements."""
    cdef Dim one
    cdef int k
    one.n = 1
    for k in range(MAX_OPERANDS):
        one.stride[k] = view.operand[k].itemsize if k < view.n_operands else 1
    one.stride[RESULT] = 1
    return one


cdef inline Dim last_kept(const View *view) noexcept nogil:
    """The channel dim that is divided into chunks."""
    return view.kept[view.n_kept - 1] if view.n_kept > 0 else no_dim(view)


cdef inline bint apart(const View *view, const Dim *dim, Py_ssize_t n) noexcept nogil:
    """Whether neighboring entries of a dim are n elements apart in every operand."""
    cdef int k
    for k in range(view.n_operands):
        if dim.stride[k] != n * view.operand[k].itemsize:
            return False
    return True


cdef bint faster(const View *view, const Dim *a, const Dim *b) noexcept nogil:
    """Whether a has shorter strides than b in every operand. If neither has, tiles of several channels suit both."""
    cdef int k
    for k in range(view.n_operands):
        if max(a.stride[k], -a.stride[k]) >= max(b.stride[k], -b.stride[k]):
            return False
    return True


cdef inline Py_ssize_t offset_of(const Dim *dims, int n_dims, Py_ssize_t index, int operand) noexcept nogil:
    """The offset of an entry of some dims, the last of which varies fastest."""
    cdef Py_ssize_t offset = 0, rest
    cdef int i
    for i in range(n_dims - 1, -1, -1):
        rest = div(index, dims[i].n)
        offset += (index - rest * dims[i].n) * dims[i].stride[operand]
        index = rest
    return offset


cdef inline Py_ssize_t channel_offset(const View *view, int operand, Py_ssize_t slab, Py_ssize_t channel) noexcept nogil:
    """The offset of a channel of a slab."""
    return offset_of(view.kept, view.n_kept - 1, slab, operand) + channel * last_kept(view).stride[operand]


cdef inline bint columns_fit(const View *view, const Plan *p, Py_ssize_t run, Purpose purpose) noexcept nogil:
    """Whether runs are so short that they are read as columns, where the runs of all channels are contiguous.

    Columns cost more the fewer runs share them, some 3 ns for each column; a run costs 5 ns.
    """
    cdef Dim channel = last_kept(view)
    cdef Py_ssize_t longest = min(<Py_ssize_t> 64, div(3 * p.unit.n - 1, 2))
    if not apart(view, &channel, run) or view.weighted or view.selective or p.anchored and p.tiled:
        return False
    if purpose == MAP:
        longest = min(<Py_ssize_t> 64, 4 * p.unit.n)
    return run <= longest


cdef inline void choose_walk(const View *view, Purpose purpose, Plan *p) noexcept nogil:
    """Set `by_runs`, `tiled`, and the unit with its `inner` elements or its run."""
    cdef Dim channel = last_kept(view), fastest = view.batch[view.n_batch - 1] if view.n_batch > 0 else no_dim(view)
    p.tiled = not view.in_place or view.weighted and p.integers and purpose != MAP      # selective: not in place
    p.by_runs = False
    p.inner = p.run = 1
    p.unit = fastest
    if view.instance > 0:
        p.by_runs = p.tiled or view.n_batch > 1 or view.instance < FEWEST_COLUMNS or not apart(view, &channel, 1)
        p.tiled = p.tiled or p.by_runs and (view.n_batch > 1 or not apart(view, &fastest, 1))
        if p.by_runs:
            p.unit = no_dim(view)
            p.run = fastest.n
    elif view.n_batch <= 1 and apart(view, &channel, 1) and (view.n_kept > 0 or view.n_batch == 0):
        # Channels last: rows of columns, or, with weights on few channels, gathered into runs.
        if view.weighted and channel.n < FEWEST_COLUMNS:
            p.tiled = p.by_runs = True
    elif 1 <= view.n_batch <= 2 and apart(view, &fastest, 1):
        p.unit = view.batch[0] if view.n_batch == 2 else no_dim(view)
        p.by_runs = not columns_fit(view, p, fastest.n, purpose)
        p.run = fastest.n if p.by_runs else 1
        p.inner = 1 if p.by_runs else fastest.n
    else:
        p.tiled = True
        p.unit.n = view.n_rows
        p.by_runs = view.n_kept == 0 or view.n_batch > 0 and faster(view, &fastest, &channel)
    if p.by_runs and p.tiled:           # Any batch positions are gathered into one run.
        p.unit.n = view.n_rows
        p.run = 1


cdef inline Py_ssize_t divided(const View *view, const Plan *p) noexcept nogil:
    """The most channels of a chunk that leave enough tasks."""
    cdef Py_ssize_t itemsize = view.operand[0].itemsize, n_bytes = view.n_rows * view.n_channels * itemsize, tasks, widest
    tasks = max(1, min(<Py_ssize_t> TASKS, n_bytes // <Py_ssize_t> LEAST_BYTES))
    widest = ceil_div(view.n_channels, tasks)
    if p.unit.n > 1:
        widest = max(widest, min(div(JUMP_BYTES, p.run * itemsize), ceil_div(view.n_channels, TASKS // 4)))
    return widest


cdef inline Py_ssize_t fitting_channels(const View *view, Py_ssize_t most_bytes) noexcept nogil:
    """How many channels have at most as many bytes, in all operands that are read."""
    cdef Py_ssize_t n_bytes = 0
    cdef int k
    for k in range(view.n_read):
        n_bytes += view.operand[k].itemsize
    return div(most_bytes, max(1, view.n_rows * n_bytes))


cdef inline Py_ssize_t cached_channels(const View *view) noexcept nogil:
    """How many channels stay in the cache for a second pass."""
    return fitting_channels(view, CACHED_BYTES)


cdef inline bint holds_groups(const View *view, Py_ssize_t chunk) noexcept nogil:
    """Whether chunks of this size hold whole groups, and stay in the cache for a second pass."""
    cdef Dim channel = last_kept(view)
    if view.group > 1 and (channel.stride[RESULT] != 1 or channel.n % view.group != 0 or chunk % view.group != 0):
        return False
    return chunk <= cached_channels(view)


cdef inline void choose_chunk(const View *view, Purpose purpose, Plan *p) noexcept nogil:
    """Set `chunk` and `slab_chunks`: as many channels as the loops like, fewer for more tasks or for a second pass."""
    cdef Dim channel = last_kept(view)
    cdef Py_ssize_t n = channel.n, widest, fitting, whole
    cdef bint past = view.n_rows * view.n_channels * view.operand[0].itemsize >= <Py_ssize_t> PAST_BYTES
    past = past and view.instance == 0
    if p.by_runs and p.tiled:
        widest = max(1, min(<Py_ssize_t> NARROW_COLUMNS, div(TILE_DOUBLES, view.n_rows)))
        if view.weighted and apart(view, &channel, 1):
            widest = FEWEST_COLUMNS
    else:
        widest = WIDE_COLUMNS if past and not p.tiled else NARROW_COLUMNS
        if not p.by_runs:
            widest = div(widest, p.inner)
        elif not past or p.unit.n * ceil_div(p.run, p.piece) < TASKS:
            widest = min(widest, divided(view, p))
        if p.by_runs and view.weighted:
            widest = max(widest, <Py_ssize_t> FEWEST_COLUMNS)
        if purpose in (TRAIN, BACKWARD):
            fitting = cached_channels(view)
            if view.instance > 0 and p.by_runs:
                fitting = min(fitting, max(<Py_ssize_t> FEWEST_RUNS, fitting_channels(view, NEAR_BYTES)))
            if fitting >= (1 if p.by_runs or p.inner > 1 else NARROW_COLUMNS):
                widest = min(widest, fitting)
    p.chunk = ceil_div(n, ceil_div(n, widest))
    if not p.by_runs and p.inner == 1 and p.chunk < n:
        p.chunk = min(widest, round_up(p.chunk, 16))
    if view.group > 1 and purpose in (TRAIN, BACKWARD):
        whole = max(<Py_ssize_t> 1, div(p.chunk, view.group)) * view.group
        if holds_groups(view, whole) and not (p.by_runs and p.tiled and
                                              whole * min(view.n_rows, PIECE_ELEMENTS) > TILE_DOUBLES):
            p.chunk = whole
    p.slab_chunks = ceil_div(n, p.chunk)


cdef inline void choose_block(const View *view, Purpose purpose, Plan *p) noexcept nogil:
    """Set `fold`, `block_units` and the pieces."""
    cdef Py_ssize_t width = p.chunk * p.inner
    cdef bint adjacent
    p.fold = p.run_pieces = 1
    if p.by_runs and p.tiled:
        p.block_units = min(div(TILE_DOUBLES, p.chunk), <Py_ssize_t> PIECE_ELEMENTS)
        return
    if p.by_runs:
        p.run_pieces = ceil_div(p.run, p.piece)
        p.block_units = max(div(p.unit.n, TASKS), div(FEW_ELEMENTS, p.run))
        p.block_units = max(1, min(p.block_units, min(div(p.piece, p.run), BLOCK_RUNS)))
        return
    adjacent = p.tiled or apart(view, &p.unit, width)
    if p.chunk == last_kept(view).n and adjacent and not view.weighted and view.instance == 0:
        while 2 * p.fold * width <= FOLDED_COLUMNS and 16 * p.fold <= p.unit.n:    # Rows of few channels make short vectors.
            p.fold *= 2
    width *= p.fold
    p.block_units = BLOCK_ROWS
    if purpose in (MAP, BACKWARD):      # Fewer rows cost little, and make more tasks of a small array.
        p.block_units = min(p.block_units, max(64, round_up(div(p.unit.n, 4 * p.fold), 8)))
    if p.tiled:
        p.block_units = min(p.block_units, max(1, div(TILE_DOUBLES, width)))
    else:
        p.block_units = min(p.block_units, max(8, div(BLOCK_BYTES, width * view.operand[0].itemsize) // 8 * 8))
    p.block_units *= p.fold


cdef inline Py_ssize_t n_sums(const Plan *p, Py_ssize_t channels) noexcept nogil:
    """How many sums some channels have: one for each column of a row, or by runs, where fold and inner are 1, for each."""
    return p.fold * channels * p.inner


cdef inline Py_ssize_t row_pitch(Py_ssize_t n) noexcept nogil:
    """A pitch for rows of n doubles. It is no multiple of a page, as all rows would then share the same cache sets."""
    n = round_up(n, GRANULE)
    return n if n % 512 else n + GRANULE


cdef inline bint streams_result(const View *view) noexcept nogil:
    """Whether no cache holds x and the result, which replaces no operand: what has just been read is cached."""
    cdef int k, last = view.n_operands - 1
    if view.n_rows * view.n_channels * view.operand[last].itemsize < <Py_ssize_t> PAST_BYTES:
        return False
    for k in range(last):
        if view.operand[k].data == view.operand[last].data:
            return False
    return True


cdef inline Py_ssize_t instance_tasks(const View *view, const Plan *p) noexcept nogil:
    """The tasks of a chunk where no bit may depend on other instances: one, if the data stays in the cache."""
    cdef Py_ssize_t width = 1 if p.by_runs else min(view.instance, <Py_ssize_t> NARROW_COLUMNS)
    if width <= cached_channels(view):
        return 1
    return max(1, min(p.chunk_blocks, min(TASKS, view.n_rows * width * view.operand[0].itemsize // TASK_BYTES)))


cdef Plan make_plan(const View *view, Purpose purpose, int n_threads) noexcept nogil:
    cdef Plan p
    cdef Py_ssize_t least = TASK_BYTES // 2 if purpose == BACKWARD else TASK_BYTES, most = TASKS, width
    p.anchored = view.operand[0].element in (INT64, UINT64)
    p.integers = view.operand[0].element not in (FLOAT32, FLOAT64, FLOAT16, BFLOAT16)
    p.whole = p.integers and not view.weighted
    p.piece = 4 * PIECE_ELEMENTS if view.operand[0].itemsize == 1 and not view.weighted else PIECE_ELEMENTS
    p.n_slabs = div(view.n_channels, last_kept(view).n)
    choose_walk(view, purpose, &p)
    choose_chunk(view, purpose, &p)
    choose_block(view, purpose, &p)
    p.n_chunks = p.n_slabs * p.slab_chunks
    p.chunk_blocks = ceil_div(p.unit.n, p.block_units) * p.run_pieces
    if purpose == MAP:
        least = LEAST_BYTES
        most = n_threads * p.n_chunks if p.n_chunks < TASKS else 1
    p.chunk_tasks = min(p.chunk_blocks, view.n_rows * p.chunk * view.operand[0].itemsize // least)
    p.chunk_tasks = max(1, min(p.chunk_tasks, div(most, p.n_chunks), div(PARTIAL_CHANNELS, p.n_chunks * p.chunk)))
    if view.instance > 0 and purpose != MAP:
        p.chunk_tasks = instance_tasks(view, &p)
    p.channels_ahead = p.chunk if p.by_runs and purpose in (TRAIN, BACKWARD) and p.chunk_tasks == 1 else 0
    p.granule = GRANULE if p.n_chunks == 1 else 1
    width = n_sums(&p, p.chunk)
    p.pitch = row_pitch(width)
    p.state_pitch = row_pitch(p.chunk)
    p.stream = purpose != SUM and not p.tiled and (p.by_runs or width <= NARROW_COLUMNS) and streams_result(view)
    return p


cdef Task make_task(const View *view, const Plan *p, Py_ssize_t task) noexcept nogil:
    """Task number `task`, counted across the chunks of all slabs, so that the rows of neighboring tasks are neighbors."""
    cdef Task t
    cdef Dim channel = last_kept(view)
    cdef Py_ssize_t index
    index = div(task, p.n_chunks)
    t.chunk = task - index * p.n_chunks
    t.slab = div(t.chunk, p.slab_chunks)
    t.first = (t.chunk - t.slab * p.slab_chunks) * p.chunk
    t.channels = min(p.chunk, channel.n - t.first)          # The last chunk of a slab may be narrower.
    t.start = div(p.chunk_blocks * index, p.chunk_tasks)
    t.stop = div(p.chunk_blocks * (index + 1), p.chunk_tasks)
    t.place = channel_offset(view, RESULT, t.slab, t.first)
    t.step = channel.stride[RESULT]
    return t
