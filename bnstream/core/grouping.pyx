"""The rows of a batch by group: distinct keys, and the states of the rows of each.

    keys -> distinct keys, ascending, and a table: key -> place among them
    few groups:   each row is copied to the buffer of its group; a full buffer, a portion, is summed -> a part
    many groups:  row numbers are sorted by group, in buckets; then each group's rows are gathered, a portion at a time
    parts, merged in order -> states

A portion is summed as `Moments.update` sums these rows, and merged as it merges them. So the state of a group has the
bits of a `Moments` that was given its rows of each piece, a portion at a time, whatever the threads.

Costs of a row of n bytes with a key of k, past the cache: n + k bytes read for few groups, beside 2n in the L2 cache. For
many, k again, 8 and 16 bytes written and read for the sort, and n bytes read where they lie, a cache line at least.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython.parallel cimport prange
from libc.math cimport isfinite
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from numpy cimport ndarray

from bnstream._kernels._runtime cimport threads_for
from bnstream._kernels._table cimport (
    FLOAT64, M2, MEAN, N_LO, SQUARES, STATE_ROWS, WEIGHTED_ROWS, Kernels, Sink, View, padded,
)
from bnstream.core.large cimport moderate
from bnstream.core.view cimport (
    OMIT, PROPAGATE, Policy, batch_axes, is_of_positions, make_view, mask_of, policy_of, weights_of,
)

from bnstream._kernels import capsule

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")

cdef extern from * nogil:
    """
    #include <string.h>
    #if defined(__GNUC__)
    #define BN_SOON(p) __builtin_prefetch((p), 0, 3)
    #else
    #define BN_SOON(p) ((void)(p))
    #endif
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #include <stdint.h>
    /* Copy around the caches, where both ends of the target are at multiples of 16 bytes. */
    static inline void bn_copy_out(char *to, const char *from, ptrdiff_t n) {
        if (((uintptr_t)to | (uintptr_t)n) & 15) { memcpy(to, from, n); return; }
        for (ptrdiff_t i = 0; i < n; i += 16)
            _mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
    }
    #define bn_copied_out() _mm_sfence()
    #else
    #define bn_copy_out memcpy
    #define bn_copied_out() ((void)0)
    #endif
    """
    void soon "BN_SOON"(const void *p)
    void copy_out "bn_copy_out"(char *to, const char *of, Py_ssize_t n)
    void copied_out "bn_copied_out"()

cdef enum:
    PORTION_BYTES = 32768       # A portion has about as many,
    PORTION_ROWS = 256          # or so many values of each channel, if that is more,
    WIDE_BYTES = 4194304        # but not more bytes than this.
    PIECE_BYTES = 4194304       # A piece has at least as many where groups are few,
    PIECE_PORTIONS = 4          # and so many portions for each group.
    FEW_BYTES = 33554432        # Groups are few if their buffers have at most as many bytes.
    MANY_PORTION = 256          # Where groups are many, a piece has about as many rows of each,
    LEAST_BYTES = 67108864      # but at least as many bytes
    MOST_BYTES = 1073741824     # and at most as many.
    PARTS_BYTES = 8388608       # The parts of a round of pieces have about as many.
    MAX_BUCKETS = 4096
    BUCKET_BYTES = 524288       # A bucket has about as many, so that its rows are sorted in the L2 cache.
    DEALT_BYTES = 524288        # The buffers from which rows are written to buckets have about as many,
    BATCH_BYTES = 4096          # and one has at most as many.
    SORTED_BYTES = 67108864     # A bucket of more is not sorted.
    STREAM_AHEAD = 2048         # bytes between a prefetch and its load, where rows are read in their order

# What is known of the state of a group, as bits.
cdef enum:
    HAS_WEIGHTS = 1             # n is a sum of weights
    HARD = 2                    # its m2 may exceed the largest float; only `Moments` adds to it

# What a portion came to.
cdef enum:
    PLAIN = 0
    LARGE = 1
    NOT_FINITE = 2
    NO_MEMORY = 3

ctypedef fused integer:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef struct Present:        # which keys there are, of those from `low` on
    uint64_t low
    uint64_t extent
    uint8_t *marks
    bint empty


cdef bint extend(Present *p, uint64_t key, uint64_t start, uint64_t limit) noexcept nogil:
    """Make room for a key, and twice the room that there was. Differences of keys wrap around. `start` is the least key of
    the dtype: from there, keys are in order."""
    cdef uint64_t low = key - start, high = low, first, last, slack
    cdef uint8_t *marks
    if not p.empty:
        first = p.low - start
        last = first + p.extent - 1
        low = first if first < low else low
        high = last if last > high else high
        if high - low >= limit:
            return False
        slack = min(p.extent, limit - 1 - (high - low))
        if low < first:
            low -= min(slack, low)
        elif high + slack > high:
            high += slack
    marks = <uint8_t *> calloc(high - low + 1, 1)
    if marks == NULL:
        return False
    if not p.empty:
        memcpy(marks + (first - low), p.marks, p.extent)
        free(p.marks)
    p.marks, p.low, p.extent, p.empty = marks, low + start, high - low + 1, False
    return True


cdef bint look_through(const integer *keys, Py_ssize_t n, uint64_t start, uint64_t limit, Present *p) noexcept nogil:
    """Mark the keys. Return False if they are too far apart, or there is no memory."""
    cdef Py_ssize_t i
    cdef uint64_t origin = p.low, extent = 0 if p.empty else p.extent, at
    cdef uint8_t *marks = p.marks
    for i in range(n):
        at = <uint64_t> keys[i] - origin
        if at >= extent:
            if not extend(p, <uint64_t> keys[i], start, limit):
                return False
            origin, extent, marks = p.low, p.extent, p.marks
            at = <uint64_t> keys[i] - origin
        marks[at] = 1
    return True


cdef bint look(const integer *keys, Py_ssize_t n, uint64_t start, uint64_t limit, int threads,
               Present *found) noexcept nogil:
    """Mark the keys that there are, on several threads."""
    cdef int t, failed = 0
    for t in prange(threads, num_threads=threads, schedule='static'):
        failed |= not look_through(keys + n * t // threads, n * (t + 1) // threads - n * t // threads, start, limit,
                                   &found[t])
    return not failed


@cython.final
@cython.auto_pickle(False)
cdef class Lookup:
    """The place of each key of a batch among its distinct keys: ``table[key - low]``.

    Attributes
    ----------
    keys : ndarray
        The keys, or where these are far apart their numbers, of any integer dtype.
    distinct : ndarray
        The distinct keys, ascending, of the dtype of the keys given.
    """

    cdef readonly ndarray keys
    cdef readonly ndarray distinct
    cdef ndarray table          # of int32; 0 where there is no key
    cdef uint64_t low

    def renumber(self, ndarray places):
        """Give each distinct key another place, an int32."""
        self.table = places[self.table]

    def places(self, Py_ssize_t start, Py_ssize_t stop):
        """The places of the keys from start to stop, an array of int32."""
        keys = np.asarray(self.keys[start:stop])
        wide = keys.astype(np.uint64 if keys.dtype.kind == "u" else np.int64, copy=False).view(np.uint64)
        return self.table[wide - np.uint64(self.low)]


def lookup(ndarray keys, object n_threads=None):
    """Find the distinct keys of a batch.

    Parameters
    ----------
    keys : ndarray
        Of one axis and any integer dtype in the byte order of the machine, contiguous, with at least one key.
    """
    cdef Lookup found = Lookup()
    cdef Py_ssize_t n = keys.shape[0]
    cdef int threads = min(threads_for(cnp.PyArray_NBYTES(keys), n_threads), 64), t
    cdef Present present[64]
    cdef Present all_of
    cdef uint64_t limit = max(<Py_ssize_t> 65536, min(4 * n, <Py_ssize_t> 1 << 27))
    cdef uint64_t start = <uint64_t> <int64_t> int(np.iinfo(keys.dtype).min)
    cdef bint dense
    cdef ndarray marks
    all_of.empty = True
    for t in range(64):
        present[t].empty = True
        present[t].marks = NULL
    try:
        dense = look_by_type(keys, n, start, limit, threads, present)
        for t in range(threads):
            if dense and not present[t].empty:
                dense = extend(&all_of, present[t].low, start, limit) and \
                    extend(&all_of, present[t].low + present[t].extent - 1, start, limit)
                if dense:
                    add_marks(&all_of, &present[t])
        if not dense:
            return sparse_lookup(keys)
        marks = np.empty(all_of.extent, np.bool_)
        memcpy(cnp.PyArray_DATA(marks), all_of.marks, all_of.extent)
    finally:
        for t in range(64):
            free(present[t].marks)
        if not all_of.empty:
            free(all_of.marks)
    found.keys, found.low = keys, all_of.low
    where = np.flatnonzero(marks)
    table = np.zeros(len(marks), np.int32)
    table[where] = np.arange(len(where), dtype=np.int32)
    found.table = table
    found.distinct = (where.astype(np.uint64) + np.uint64(all_of.low)).view(np.int64 if start else np.uint64).astype(
        keys.dtype)
    return found


cdef void add_marks(Present *a, const Present *b) noexcept nogil:
    cdef uint64_t i
    cdef uint8_t *to = a.marks + (b.low - a.low)
    for i in range(b.extent):
        to[i] |= b.marks[i]


cdef bint look_by_type(ndarray keys, Py_ssize_t n, uint64_t start, uint64_t limit, int threads, Present *present) except -1:
    cdef void *data = cnp.PyArray_DATA(keys)
    cdef int size = cnp.PyArray_ITEMSIZE(keys)
    cdef bint dense
    if keys.dtype.kind == "i":
        with nogil:
            if size == 1:
                dense = look(<const int8_t *> data, n, start, limit, threads, present)
            elif size == 2:
                dense = look(<const int16_t *> data, n, start, limit, threads, present)
            elif size == 4:
                dense = look(<const int32_t *> data, n, start, limit, threads, present)
            else:
                dense = look(<const int64_t *> data, n, start, limit, threads, present)
    else:
        with nogil:
            if size == 1:
                dense = look(<const uint8_t *> data, n, start, limit, threads, present)
            elif size == 2:
                dense = look(<const uint16_t *> data, n, start, limit, threads, present)
            elif size == 4:
                dense = look(<const uint32_t *> data, n, start, limit, threads, present)
            else:
                dense = look(<const uint64_t *> data, n, start, limit, threads, present)
    return dense


cdef object sparse_lookup(ndarray keys):
    """The same by a hash table, in which each distinct key gets a number in the order of their coming."""
    cdef Lookup found = Lookup()
    cdef Py_ssize_t n = keys.shape[0], i, at
    cdef Places places = Places()
    wide = np.ascontiguousarray(keys.astype(np.uint64 if keys.dtype.kind == "u" else np.int64, copy=False))
    cdef const int64_t *key = <const int64_t *> cnp.PyArray_DATA(wide)
    cdef ndarray numbers = np.empty(n, np.uint32)
    cdef uint32_t *number = <uint32_t *> cnp.PyArray_DATA(numbers)
    for i in range(n):
        at = places.find(key[i])
        if at < 0:
            at = places.add(key[i])
        number[i] = at
    first = places.all().view(wide.dtype)
    order = np.argsort(first, kind="stable")
    table = np.empty(len(order), np.int32)
    table[order] = np.arange(len(order), dtype=np.int32)
    found.keys, found.low, found.table = numbers, 0, table
    found.distinct = first[order].astype(keys.dtype)
    return found


@cython.final
@cython.auto_pickle(False)
cdef class Places:
    """A hash table: the place of each of some integers of 64 bits, in the order in which they were added."""

    cdef ndarray keys           # in that order, with room for more
    cdef ndarray slots          # places, -1 where there is none
    cdef Py_ssize_t n
    cdef int shift
    cdef public bint busy       # A call is about to replace the states of these groups.
    cdef public bint omit       # what `update_few` does about NaN

    def __init__(self):
        self.busy = self.omit = False
        self.keys, self.slots = np.empty(8, np.int64), np.full(16, -1, np.int32)
        self.n, self.shift = 0, 60

    def __len__(self):
        return self.n

    cdef inline Py_ssize_t find(self, int64_t key) noexcept nogil:
        cdef const int32_t *slots = <const int32_t *> cnp.PyArray_DATA(self.slots)
        cdef const int64_t *keys = <const int64_t *> cnp.PyArray_DATA(self.keys)
        cdef uint64_t mask = (<uint64_t> 1 << (64 - self.shift)) - 1
        cdef uint64_t i = <uint64_t> key * <uint64_t> 0x9E3779B97F4A7C15 >> self.shift
        while slots[i] >= 0:
            if keys[slots[i]] == key:
                return slots[i]
            i = (i + 1) & mask
        return -1

    cdef Py_ssize_t add(self, int64_t key) except -1:
        """Add a key that is not there."""
        if self.n == self.keys.shape[0]:
            self.grow()
        (<int64_t *> cnp.PyArray_DATA(self.keys))[self.n] = key
        self.put(key, self.n)
        self.n += 1
        return self.n - 1

    cdef inline void put(self, int64_t key, Py_ssize_t place) noexcept nogil:
        cdef int32_t *slots = <int32_t *> cnp.PyArray_DATA(self.slots)
        cdef uint64_t mask = (<uint64_t> 1 << (64 - self.shift)) - 1
        cdef uint64_t i = <uint64_t> key * <uint64_t> 0x9E3779B97F4A7C15 >> self.shift
        while slots[i] >= 0:
            i = (i + 1) & mask
        slots[i] = place

    cdef int grow(self) except -1:
        cdef Py_ssize_t i, n = self.keys.shape[0]
        if n >= <Py_ssize_t> 1 << 30:
            raise MemoryError("expected at most 2**30 groups")
        keys = np.empty(2 * n, np.int64)
        keys[:n] = self.keys
        slots = np.full(4 * n, -1, np.int32)
        self.keys, self.slots = keys, slots
        self.shift -= 1
        for i in range(self.n):
            self.put((<const int64_t *> cnp.PyArray_DATA(self.keys))[i], i)
        return 0

    def all(self):
        """All keys, in the order of their places."""
        return self.keys[:self.n].copy()

    def of(self, ndarray keys):
        """The place of each of some int64, -1 where there is none."""
        cdef Py_ssize_t i, n = keys.shape[0]
        cdef ndarray found = np.empty(n, np.int64)
        cdef int64_t *out = <int64_t *> cnp.PyArray_DATA(found)
        cdef const int64_t *key = <const int64_t *> cnp.PyArray_DATA(keys)
        for i in range(n):
            out[i] = self.find(key[i])
        return found

    def add_all(self, ndarray keys):
        """Add int64 that are not there, and differ."""
        cdef Py_ssize_t i
        for i in range(keys.shape[0]):
            self.add((<const int64_t *> cnp.PyArray_DATA(keys))[i])


ctypedef struct Portions:       # the rows of a batch, and how a portion of them is summed
    const char *rows
    Py_ssize_t stride           # bytes from a row to the next
    Py_ssize_t n_bytes          # of a row
    const char *weights         # NULL if there are none; they are contiguous
    Py_ssize_t weight_bytes     # of the batch positions of a row
    bint weighted               # Else they are a mask.
    View view                   # of two rows, or as `view_of_rows` left it
    View one                    # of one row
    Py_ssize_t row_values       # values of each channel in a row, and what the first batch dim has of them
    Py_ssize_t row_extent
    bint omit
    bint propagate
    bint plain_rows             # Each element of a row is a channel.
    Py_ssize_t n_channels
    Py_ssize_t pitch
    Py_ssize_t height           # rows of a part
    Py_ssize_t size             # most rows of a portion


cdef inline int classify(const Portions *p, const char *rows, Py_ssize_t n, const double *part) noexcept nogil:
    """Whether a part can be merged as it is. m2 of finite float64 may exceed the largest float, that of others does not."""
    cdef Py_ssize_t c, i
    cdef bint lost
    cdef int found = PLAIN
    cdef double mean, m2
    if moderate(part, p.pitch, p.n_channels):
        return PLAIN
    for c in range(p.n_channels):
        mean = part[MEAN * p.pitch + c]
        m2 = part[M2 * p.pitch + c]
        if part[c] * mean * mean + m2 < 1e290:
            continue
        if p.one.operand[0].element == FLOAT64:
            lost = p.plain_rows and p.propagate and not p.one.operand[0].swapped and not (isfinite(mean) and isfinite(m2))
            if lost:
                for i in range(n):
                    if not isfinite((<const double *> (rows + i * p.n_bytes))[c]):
                        break
                else:
                    lost = False
            if not lost:
                return LARGE
        found = NOT_FINITE
    return PLAIN if p.propagate else found


cdef int sum_portion(Portions *p, char *rows, char *weights, Py_ssize_t n, double *part) noexcept nogil:
    """Write the state of n rows, which lie one after the other, to a part. Return what it came to."""
    cdef View *view = &p.one if n == 1 else &p.view
    cdef Sink sink
    cdef Py_ssize_t i, c
    if n > 1:
        view.n_rows = p.row_values * n
        view.batch[0].n = p.row_extent * n
    view.operand[0].data = rows
    if weights != NULL:
        view.operand[3].data = weights
    sink.state = part
    sink.pitch = p.pitch
    if kernels.accumulate(view, &sink, p.omit, 1):
        return NO_MEMORY
    for i in range(p.height):
        for c in range(p.n_channels, p.pitch):
            part[i * p.pitch + c] = 0
    return classify(p, rows, n, part)


cdef inline void take_part(const Portions *p, double *state, Py_ssize_t height, uint8_t *flags,
                           const double *part) noexcept nogil:
    """Merge a part into the state of a group, as `Moments` does."""
    cdef Py_ssize_t c, pitch = p.pitch
    cdef bint weighted = p.weighted
    if weighted and not flags[0] & HAS_WEIGHTS:
        memcpy(state + SQUARES * pitch, state, pitch * sizeof(double))
        flags[0] |= HAS_WEIGHTS
    if flags[0] & HAS_WEIGHTS:
        for c in range(pitch):
            state[N_LO * pitch + c] += part[N_LO * pitch + c] if weighted else 0
            state[SQUARES * pitch + c] += part[SQUARES * pitch + c] if weighted else part[c]
    kernels.merge(state, pitch, state + N_LO * pitch if flags[0] & HAS_WEIGHTS else NULL, part, pitch, pitch)


ctypedef struct Filling:        # of one piece by one thread, where groups are few
    char *rows                  # buffers of all groups
    char *weights
    char **next                 # where the next row of each group goes
    double *parts
    int32_t *groups             # of each part
    uint32_t *ranks             # rows of its group in the piece before each part
    uint32_t *done              # rows of each group that have been summed
    uint8_t *outcome            # of each part
    Py_ssize_t n_parts
    int failed


cdef void finish_portion(Portions *p, Filling *f, Py_ssize_t g) noexcept nogil:
    cdef char *rows = f.rows + g * p.size * p.n_bytes
    cdef Py_ssize_t n = (f.next[g] - rows) // p.n_bytes
    f.groups[f.n_parts] = g
    f.ranks[f.n_parts] = f.done[g]
    f.outcome[f.n_parts] = sum_portion(p, rows, NULL if p.weights == NULL else f.weights + g * p.size * p.weight_bytes, n,
                                       f.parts + f.n_parts * p.height * p.pitch)
    f.failed |= f.outcome[f.n_parts] == NO_MEMORY
    f.n_parts += 1
    f.done[g] += n
    f.next[g] = rows


cdef inline void fill_rows(Portions *p, const integer *keys, uint64_t low, const int32_t *table, Py_ssize_t start,
                           Py_ssize_t stop, Py_ssize_t n, Filling *f) noexcept nogil:
    """Copy rows of n bytes. A literal n makes each copy a few moves."""
    cdef Py_ssize_t i, g, stride = p.stride, room = p.size * n, weight_bytes = p.weight_bytes
    cdef const char *row = p.rows + start * stride
    cdef const char *weights = p.weights
    cdef char *first = f.rows
    cdef char **next = f.next
    cdef char *to
    for i in range(start, stop):
        g = table[<uint64_t> keys[i] - low]
        soon(row + STREAM_AHEAD)
        to = next[g]
        memcpy(to, row, n)
        if weights != NULL:
            memcpy(f.weights + (g * p.size + (to - (first + g * room)) // n) * weight_bytes, weights + i * weight_bytes,
                   weight_bytes)
        row += stride
        to += n
        next[g] = to
        if to == first + (g + 1) * room:
            finish_portion(p, f, g)


cdef void fill_buffers(Portions *p, const integer *keys, uint64_t low, const int32_t *table, Py_ssize_t start,
                       Py_ssize_t stop, Py_ssize_t n_groups, Filling *f) noexcept nogil:
    """Copy the rows of a piece to the buffers of their groups, and sum these whenever they are full, and at the end."""
    cdef Py_ssize_t g, n = p.n_bytes
    for g in range(n_groups):
        f.next[g] = f.rows + g * p.size * n
        f.done[g] = 0
    f.n_parts = 0
    if n == 4:
        fill_rows(p, keys, low, table, start, stop, 4, f)
    elif n == 8:
        fill_rows(p, keys, low, table, start, stop, 8, f)
    elif n == 16:
        fill_rows(p, keys, low, table, start, stop, 16, f)
    elif n == 32:
        fill_rows(p, keys, low, table, start, stop, 32, f)
    elif n == 64:
        fill_rows(p, keys, low, table, start, stop, 64, f)
    else:
        fill_rows(p, keys, low, table, start, stop, n, f)
    for g in range(n_groups):
        if f.next[g] > f.rows + g * p.size * n:
            finish_portion(p, f, g)


cdef void fill_by_type(Portions *p, const void *keys, int size, bint signed_, uint64_t low, const int32_t *table,
                       Py_ssize_t start, Py_ssize_t stop, Py_ssize_t n_groups, Filling *f) noexcept nogil:
    if signed_:
        if size == 1:
            fill_buffers(p, <const int8_t *> keys, low, table, start, stop, n_groups, f)
        elif size == 2:
            fill_buffers(p, <const int16_t *> keys, low, table, start, stop, n_groups, f)
        elif size == 4:
            fill_buffers(p, <const int32_t *> keys, low, table, start, stop, n_groups, f)
        else:
            fill_buffers(p, <const int64_t *> keys, low, table, start, stop, n_groups, f)
    elif size == 1:
        fill_buffers(p, <const uint8_t *> keys, low, table, start, stop, n_groups, f)
    elif size == 2:
        fill_buffers(p, <const uint16_t *> keys, low, table, start, stop, n_groups, f)
    elif size == 4:
        fill_buffers(p, <const uint32_t *> keys, low, table, start, stop, n_groups, f)
    else:
        fill_buffers(p, <const uint64_t *> keys, low, table, start, stop, n_groups, f)


ctypedef struct Buckets:        # the rows of one piece, where groups are many, by bucket
    char *rows
    char *weights
    uint16_t *groups            # of each row, in its bucket
    Py_ssize_t *counts          # of each thread and bucket, then where its rows begin
    Py_ssize_t *begins          # of each bucket, and the end
    int shift                   # The bucket of a group is its number without so many bits.
    Py_ssize_t n_buckets
    Py_ssize_t batch            # rows that are written to a bucket at a time
    char **room                 # of each thread, for such rows of each bucket, and their groups
    Py_ssize_t room_bytes


cdef void count_keys(const integer *keys, uint64_t low, const int32_t *table, Py_ssize_t start, Py_ssize_t stop,
                     int shift, Py_ssize_t *counts) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(start, stop):
        counts[table[<uint64_t> keys[i] - low] >> shift] += 1


cdef inline void deal_rows(const Portions *p, Py_ssize_t first, const integer *keys, uint64_t low,
                           const int32_t *table, Py_ssize_t start, Py_ssize_t stop, const Buckets *s, int t,
                           Py_ssize_t n) noexcept nogil:
    """Copy rows of n bytes to their buckets: those of a batch from `first` on, to which the keys belong. They go by way of
    buffers, so that whole cache lines are written."""
    cdef Py_ssize_t i, b, k, batch = s.batch, n_buckets = s.n_buckets, stride = p.stride
    cdef Py_ssize_t *places = s.counts + t * n_buckets
    cdef uint64_t g
    cdef int shift = s.shift
    cdef const char *row = p.rows + (first + start) * stride
    cdef char *buffers = s.room[t]
    cdef uint16_t *groups = <uint16_t *> (buffers + n_buckets * batch * n)
    cdef uint16_t *fill = groups + n_buckets * batch
    memset(fill, 0, n_buckets * sizeof(uint16_t))
    for i in range(start, stop):
        g = table[<uint64_t> keys[i] - low]
        soon(row + STREAM_AHEAD)
        b = g >> shift
        k = fill[b]
        memcpy(buffers + (b * batch + k) * n, row, n)
        groups[b * batch + k] = <uint16_t> (g - (<uint64_t> b << shift))
        row += stride
        k += 1
        fill[b] = k
        if k == batch:
            copy_out(s.rows + places[b] * n, buffers + b * batch * n, batch * n)
            memcpy(s.groups + places[b], groups + b * batch, batch * sizeof(uint16_t))
            places[b] += batch
            fill[b] = 0
    for b in range(n_buckets):
        memcpy(s.rows + places[b] * n, buffers + b * batch * n, fill[b] * n)
        memcpy(s.groups + places[b], groups + b * batch, fill[b] * sizeof(uint16_t))
        places[b] += fill[b]
    copied_out()


cdef void deal(const Portions *p, Py_ssize_t first, const integer *keys, uint64_t low,
               const int32_t *table, Py_ssize_t start, Py_ssize_t stop, const Buckets *s, int t) noexcept nogil:
    cdef Py_ssize_t n = p.n_bytes, i, b
    cdef Py_ssize_t *places = s.counts + t * s.n_buckets
    if p.weights != NULL:
        for i in range(start, stop):
            b = table[<uint64_t> keys[i] - low] >> s.shift
            memcpy(s.weights + places[b] * p.weight_bytes, p.weights + (first + i) * p.weight_bytes, p.weight_bytes)
            places[b] += 1
        for i in range(start, stop):
            places[table[<uint64_t> keys[i] - low] >> s.shift] -= 1
    if n == 4:
        deal_rows(p, first, keys, low, table, start, stop, s, t, 4)
    elif n == 8:
        deal_rows(p, first, keys, low, table, start, stop, s, t, 8)
    elif n == 16:
        deal_rows(p, first, keys, low, table, start, stop, s, t, 16)
    elif n == 32:
        deal_rows(p, first, keys, low, table, start, stop, s, t, 32)
    elif n == 64:
        deal_rows(p, first, keys, low, table, start, stop, s, t, 64)
    else:
        deal_rows(p, first, keys, low, table, start, stop, s, t, n)


cdef void deal_all(const Portions *p, Py_ssize_t first, const integer *keys, uint64_t low,
                   const int32_t *table, Py_ssize_t start, Py_ssize_t stop, int threads, const Buckets *s) noexcept nogil:
    """Copy the rows of a piece to their buckets, in their order, on several threads."""
    cdef Py_ssize_t n = stop - start, b, at = 0, k
    cdef int t
    for t in prange(threads, num_threads=threads, schedule='static'):
        count_keys(keys, low, table, start + n * t // threads, start + n * (t + 1) // threads, s.shift,
                   s.counts + t * s.n_buckets)
    for b in range(s.n_buckets):
        s.begins[b] = at
        for t in range(threads):
            k = s.counts[t * s.n_buckets + b]
            s.counts[t * s.n_buckets + b] = at
            at += k
    s.begins[s.n_buckets] = at
    for t in prange(threads, num_threads=threads, schedule='static'):
        deal(p, first, keys, low, table, start + n * t // threads, start + n * (t + 1) // threads, s, t)


cdef void deal_by_type(const Portions *p, Py_ssize_t first, const void *keys, int size, bint signed_, uint64_t low,
                       const int32_t *table, Py_ssize_t start, Py_ssize_t stop, int threads,
                       const Buckets *s) noexcept nogil:
    if signed_:
        if size == 1:
            deal_all(p, first, <const int8_t *> keys, low, table, start, stop, threads, s)
        elif size == 2:
            deal_all(p, first, <const int16_t *> keys, low, table, start, stop, threads, s)
        elif size == 4:
            deal_all(p, first, <const int32_t *> keys, low, table, start, stop, threads, s)
        else:
            deal_all(p, first, <const int64_t *> keys, low, table, start, stop, threads, s)
    elif size == 1:
        deal_all(p, first, <const uint8_t *> keys, low, table, start, stop, threads, s)
    elif size == 2:
        deal_all(p, first, <const uint16_t *> keys, low, table, start, stop, threads, s)
    elif size == 4:
        deal_all(p, first, <const uint32_t *> keys, low, table, start, stop, threads, s)
    else:
        deal_all(p, first, <const uint64_t *> keys, low, table, start, stop, threads, s)


ctypedef struct Sorting:        # of a bucket, by one thread
    char *rows                  # by group, as far as there is room for them
    char *weights
    Py_ssize_t room             # rows
    double *part
    uint32_t *begins            # where the rows of each group begin, and the end
    uint8_t *outcomes           # of each group of the piece
    uint32_t *ranks
    int failed


cdef void find_begins(const Buckets *s, Py_ssize_t first, Py_ssize_t stop, uint32_t *begins) noexcept nogil:
    """Where the rows of each group of a bucket begin among those from first to stop."""
    cdef Py_ssize_t i, n_groups = <Py_ssize_t> 1 << s.shift
    cdef uint32_t at = 0, k
    memset(begins, 0, (n_groups + 1) * sizeof(uint32_t))
    for i in range(first, stop):
        begins[s.groups[i]] += 1
    for i in range(n_groups + 1):
        k = begins[i]
        begins[i] = at
        at += k


cdef inline void sort_rows(const Portions *p, const Buckets *s, Py_ssize_t first, Py_ssize_t stop, const Sorting *w,
                           Py_ssize_t n) noexcept nogil:
    """Copy rows of n bytes by group. Each place in `begins` moves on to the end of its group."""
    cdef Py_ssize_t i
    cdef uint32_t *places = w.begins
    cdef const uint16_t *groups = s.groups
    cdef const char *row = s.rows + first * n
    cdef char *rows = w.rows
    cdef uint32_t at
    for i in range(first, stop):
        at = places[groups[i]]
        places[groups[i]] = at + 1
        soon(row + STREAM_AHEAD)
        memcpy(rows + at * n, row, n)
        row += n
        if p.weights != NULL:
            memcpy(w.weights + at * p.weight_bytes, s.weights + i * p.weight_bytes, p.weight_bytes)


cdef void sort_bucket(const Portions *p, const Buckets *s, Py_ssize_t first, Py_ssize_t stop, Sorting *w) noexcept nogil:
    cdef Py_ssize_t n = p.n_bytes
    if n == 4:
        sort_rows(p, s, first, stop, w, 4)
    elif n == 8:
        sort_rows(p, s, first, stop, w, 8)
    elif n == 16:
        sort_rows(p, s, first, stop, w, 16)
    elif n == 32:
        sort_rows(p, s, first, stop, w, 32)
    elif n == 64:
        sort_rows(p, s, first, stop, w, 64)
    else:
        sort_rows(p, s, first, stop, w, n)


cdef void add_portion(Portions *p, char *rows, char *weights, Py_ssize_t n, Py_ssize_t g, Py_ssize_t rank,
                      double *states, Py_ssize_t height, uint8_t *flags, Sorting *w) noexcept nogil:
    """Sum a portion and merge it, unless an earlier one of the group could not be merged; the first such is noted."""
    cdef int outcome = LARGE
    if w.outcomes[g] != PLAIN:
        return
    if not flags[g] & HARD:
        outcome = sum_portion(p, rows, weights, n, w.part)
    if outcome == PLAIN:
        take_part(p, states + g * height * p.pitch, height, &flags[g], w.part)
        return
    w.outcomes[g] = outcome
    w.ranks[g] = rank
    w.failed |= outcome == NO_MEMORY


cdef void sum_sorted(Portions *p, const Buckets *s, Py_ssize_t bucket, Py_ssize_t n_groups, Sorting *w,
                     double *states, Py_ssize_t height, uint8_t *flags) noexcept nogil:
    """Add the rows of a bucket, once they are sorted, to the states of their groups."""
    cdef Py_ssize_t i, g, n, at, stop, first = bucket << s.shift
    at = 0
    for i in range(min(<Py_ssize_t> 1 << s.shift, n_groups - first)):
        stop = w.begins[i]
        g = at
        while at < stop:
            n = min(stop - at, p.size)
            add_portion(p, w.rows + at * p.n_bytes, NULL if p.weights == NULL else w.weights + at * p.weight_bytes, n,
                        first + i, at - g, states, height, flags, w)
            at += n


cdef void sum_one_by_one(Portions *p, const Buckets *s, Py_ssize_t bucket, Py_ssize_t n_groups, Sorting *w,
                         double *states, Py_ssize_t height, uint8_t *flags) noexcept nogil:
    """Do the same for a bucket that there is no room for: look for the rows of each group, a portion at a time."""
    cdef Py_ssize_t i, g, k, rank, first = bucket << s.shift
    for g in range(min(<Py_ssize_t> 1 << s.shift, n_groups - first)):
        if w.begins[g] == w.begins[g + 1]:
            continue
        k = rank = 0
        for i in range(s.begins[bucket], s.begins[bucket + 1]):
            if s.groups[i] != g:
                continue
            memcpy(w.rows + k * p.n_bytes, s.rows + i * p.n_bytes, p.n_bytes)
            if p.weights != NULL:
                memcpy(w.weights + k * p.weight_bytes, s.weights + i * p.weight_bytes, p.weight_bytes)
            k += 1
            if k == p.size or rank + k == w.begins[g + 1] - w.begins[g]:
                add_portion(p, w.rows, NULL if p.weights == NULL else w.weights, k, first + g, rank, states, height, flags,
                            w)
                rank += k
                k = 0


cdef void sum_buckets(Portions *p, const Buckets *s, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t n_groups,
                      Sorting *w, double *states, Py_ssize_t height, uint8_t *flags) noexcept nogil:
    cdef Py_ssize_t bucket
    for bucket in range(begin, end):
        find_begins(s, s.begins[bucket], s.begins[bucket + 1], w.begins)
        if s.begins[bucket + 1] - s.begins[bucket] <= w.room:
            sort_bucket(p, s, s.begins[bucket], s.begins[bucket + 1], w)
            sum_sorted(p, s, bucket, n_groups, w, states, height, flags)
        else:
            sum_one_by_one(p, s, bucket, n_groups, w, states, height, flags)


def axes_in(object axis, int ndim):
    """The batch axes that an argument names, as numbers from 0, ascending."""
    cdef unsigned long long bits = batch_axes(axis, ndim)
    return tuple([i for i in range(ndim) if bits >> i & 1])


def arranged(ndarray x, tuple axes, object weights, object where):
    """Weights and a mask for a batch: with its axes, each of its length or 1; and whether the mask is of batch positions."""
    cdef unsigned long long bits = batch_axes(axes, x.ndim)
    cdef ndarray mask = None if where is None else mask_of(where, x, bits)
    cdef ndarray given = None if weights is None else weights_of(weights, mask, x, bits)
    return given, mask, mask is None or is_of_positions(mask, x, bits)


def merge_groups(ndarray states, ndarray flags, ndarray others, ndarray other_flags, bint propagate):
    """Merge states of groups into as many others, of the same channels, rows and pitch.

    Returns
    -------
    list of int
        The places of those that were not merged: only `Moments` can, or refuses to.
    """
    cdef Portions p
    cdef Py_ssize_t g, c, size = states.shape[1] * states.shape[2]
    cdef double *state = <double *> cnp.PyArray_DATA(states)
    cdef const double *part = <const double *> cnp.PyArray_DATA(others)
    cdef uint8_t *flag = <uint8_t *> cnp.PyArray_DATA(flags)
    cdef const uint8_t *other = <const uint8_t *> cnp.PyArray_DATA(other_flags)
    cdef double mean, m2
    cdef bint hard
    cdef list left = []
    p.pitch = states.shape[2]
    for g in range(states.shape[0]):
        hard = (flag[g] | other[g]) & HARD != 0
        if not hard and not moderate(part, p.pitch, p.pitch):
            hard = not propagate
            for c in range(p.pitch):
                mean, m2 = part[MEAN * p.pitch + c], part[M2 * p.pitch + c]
                hard = hard or isfinite(mean) and isfinite(m2) and not part[c] * mean * mean + m2 < 1e290 or m2 > 1.7e308
        if hard:
            left.append(g)
        else:
            p.weighted = other[g] & HAS_WEIGHTS != 0
            take_part(&p, state, states.shape[1], &flag[g], part)
        state += size
        part += size
    return left


def update_few(Places places, ndarray states, ndarray flags, tuple shape, object batch, object keys):
    """Add a few rows, if all is as usual: arrays, keys that are integers of known groups, moderate numbers.

    Returns
    -------
    bool
        Whether they were added. If not, nothing has changed.
    """
    cdef ndarray a, k
    cdef View view
    cdef Sink sink
    cdef Py_ssize_t n, i, j, m, n_channels, row_bytes, pitch, height, part_size
    cdef Py_ssize_t at[64]
    cdef int kind, dims
    cdef double *parts = NULL
    cdef double *part
    cdef double *state
    cdef char *rows
    cdef const char *data
    cdef uint8_t *flag
    cdef double small[3072]
    if not (cnp.PyArray_CheckExact(batch) and cnp.PyArray_CheckExact(keys)):
        return False
    a, k = batch, keys
    dims = cnp.PyArray_NDIM(a)
    if cnp.PyArray_NDIM(k) != 1 or dims != 2 or not cnp.PyArray_ISCARRAY_RO(a) or not cnp.PyArray_ISCARRAY_RO(k):
        return False
    n, n_channels = cnp.PyArray_DIM(a, 0), cnp.PyArray_DIM(a, 1)
    kind = cnp.PyArray_TYPE(k)
    pitch = padded(n_channels)
    if n < 2 or n > 64 or cnp.PyArray_DIM(k, 0) != n or len(shape) != 1 or <Py_ssize_t> shape[0] != n_channels or \
            cnp.PyArray_NBYTES(a) > 16384 or cnp.PyArray_DIM(states, 2) != pitch or \
            cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE) or \
            not (kind == cnp.NPY_INT32 or kind == cnp.NPY_INT64) or places.busy:
        return False
    height = cnp.PyArray_DIM(states, 1)
    flag = <uint8_t *> cnp.PyArray_DATA(flags)
    for i in range(n):
        if kind == cnp.NPY_INT32:
            at[i] = places.find((<const int32_t *> cnp.PyArray_DATA(k))[i])
        else:
            at[i] = places.find((<const int64_t *> cnp.PyArray_DATA(k))[i])
        if at[i] < 0 or flag[at[i]] != 0:
            return False
    part_size = STATE_ROWS * pitch
    row_bytes = cnp.PyArray_NBYTES(a) // n
    parts = small
    if n * part_size * sizeof(double) + n * row_bytes > sizeof(small):
        parts = <double *> malloc(n * part_size * sizeof(double) + n * row_bytes)
        if parts == NULL:
            raise MemoryError("no memory for the sums of a batch by group")
    rows = <char *> (parts + n * part_size)
    data = <const char *> cnp.PyArray_DATA(a)
    view.n_rows = 0
    try:
        for i in range(n):
            part = parts + i * part_size
            m = 1
            for j in range(i + 1, n):
                m += at[j] == at[i]
            for j in range(i):
                if at[j] == at[i]:
                    m = 0
            if m == 0:
                part[0] = -1
                continue
            if m == 1:
                one_row(data + i * row_bytes, cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT, n_channels, pitch, part)
            else:
                if view.n_rows == 0:
                    make_view(&view, 1, a)
                m = 0
                for j in range(i, n):
                    if at[j] == at[i]:
                        memcpy(rows + m * row_bytes, data + j * row_bytes, row_bytes)
                        m += 1
                view.operand[0].data = rows
                view.n_rows = view.batch[0].n = m
                sink.state, sink.pitch = part, pitch
                if kernels.accumulate(&view, &sink, places.omit, 1):
                    return False
                for j in range(STATE_ROWS):
                    memset(part + j * pitch + n_channels, 0, (pitch - n_channels) * sizeof(double))
            if not moderate(part, pitch, n_channels):
                return False
        for i in range(n):
            part = parts + i * part_size
            if part[0] >= 0:
                state = <double *> cnp.PyArray_DATA(states) + at[i] * height * pitch
                kernels.merge(state, pitch, NULL, part, pitch, pitch)
        return True
    finally:
        if parts != small:
            free(parts)


cdef inline void one_row(const char *row, bint single, Py_ssize_t n, Py_ssize_t pitch, double *part) noexcept nogil:
    """The state of one row, as the kernels have it: its own mean, 0 instead of -0, and no deviation."""
    cdef Py_ssize_t c
    memset(part, 0, STATE_ROWS * pitch * sizeof(double))
    for c in range(n):
        part[c] = 1
        part[MEAN * pitch + c] = ((<const float *> row)[c] if single else (<const double *> row)[c]) + 0.0


def portion_rows(Py_ssize_t row_bytes, Py_ssize_t row_values):
    """How many rows of a group are summed at a time, of so many bytes and values of each channel."""
    cdef Py_ssize_t least = min(max(<Py_ssize_t> 1, PORTION_ROWS // row_values), WIDE_BYTES // row_bytes)
    return max(<Py_ssize_t> 1, max(PORTION_BYTES // row_bytes, least))


def piece_rows(Py_ssize_t row_bytes, Py_ssize_t row_values, Py_ssize_t n_groups):
    """How many rows of a batch are taken at a time, if it has so many groups."""
    cdef Py_ssize_t portion = portion_rows(row_bytes, row_values)
    if n_groups * portion * row_bytes <= FEW_BYTES:
        return max(PIECE_BYTES // row_bytes, PIECE_PORTIONS * n_groups * portion)
    return max(<Py_ssize_t> 1, min(<Py_ssize_t> MOST_BYTES // row_bytes,
                                   max(<Py_ssize_t> LEAST_BYTES // row_bytes, MANY_PORTION * n_groups)))


@cython.final
@cython.auto_pickle(False)
cdef class GroupSums:
    """The sums of a batch by group, a piece at a time.

    Parameters
    ----------
    batch : ndarray
        With the axis of the keys first; each row contiguous.
    weights, mask : ndarray or None
        As `weights_of` and `mask_of` have them, of batch positions, contiguous.
    axes : int
        The batch axes, as bits; the first axis is one.
    scratch : list
        Of arrays for any use, from calls before; others are added.
    """

    cdef ndarray batch, weights, states, flags
    cdef Lookup lookup
    cdef Portions p
    cdef Py_ssize_t height, n_groups
    cdef list scratch
    cdef readonly Py_ssize_t portion, piece

    def __init__(self, ndarray batch, ndarray weights, ndarray mask, unsigned long long axes, Lookup lookup, str nan_policy,
                 ndarray states, ndarray flags, list scratch):
        cdef Portions *p = &self.p
        cdef Policy policy = policy_of(nan_policy)
        cdef ndarray given = weights if weights is not None else mask
        cdef ndarray one = np.empty((1, *(<object> batch).shape[1:]), batch.dtype), w = None
        cdef Py_ssize_t values = 1
        cdef int i
        self.batch, self.weights, self.lookup, self.states, self.flags = batch, given, lookup, states, flags
        two = np.empty((2, *(<object> batch).shape[1:]), batch.dtype)
        if given is not None:
            w = np.empty((1, *(<object> given).shape[1:]), given.dtype)
        make_view(&p.one, axes, one, None, None, w if weights is not None else None, w if weights is None else None)
        if given is not None:
            w = np.empty((2, *(<object> given).shape[1:]), given.dtype)
        make_view(&p.view, axes, two, None, None, w if weights is not None else None, w if weights is None else None)
        p.rows = <const char *> cnp.PyArray_DATA(batch)
        p.stride = batch.strides[0]
        p.n_bytes = cnp.PyArray_NBYTES(one)
        p.weights = NULL if given is None else <const char *> cnp.PyArray_DATA(given)
        p.weight_bytes = 0 if given is None else cnp.PyArray_NBYTES(w) // 2
        p.omit = policy == OMIT
        p.propagate = policy == PROPAGATE
        p.n_channels = p.one.n_channels
        for i in range(1, batch.ndim):
            if axes >> i & 1:
                values *= batch.shape[i]
        p.plain_rows = values == 1
        p.row_values, p.row_extent = p.view.n_rows // 2, p.view.batch[0].n // 2
        p.pitch = states.shape[2]
        p.height = STATE_ROWS if given is None else WEIGHTED_ROWS
        p.weighted = weights is not None
        self.n_groups, self.height = states.shape[0], states.shape[1]
        self.scratch = scratch
        self.portion = p.size = portion_rows(p.n_bytes, values)
        self.piece = piece_rows(p.n_bytes, values, self.n_groups)

    cdef Portions *portions_of_threads(self, int threads) except NULL:
        """A copy for each thread, which changes its views."""
        cdef ndarray memory = self.room(0, threads * sizeof(Portions))
        cdef Portions *copies = <Portions *> cnp.PyArray_DATA(memory)
        cdef int t
        for t in range(threads):
            copies[t] = self.p
        return copies

    cdef ndarray room(self, int place, Py_ssize_t n_bytes):
        """Memory for one purpose. It is used again, as new memory costs more than all else: its pages are cleared first."""
        while len(self.scratch) <= place:
            self.scratch.append(np.empty(0, np.uint8))
        if self.scratch[place].size < n_bytes:
            self.scratch[place] = None
            self.scratch[place] = np.empty(n_bytes, np.uint8)
        return self.scratch[place]

    def read(self, ndarray rows, Py_ssize_t start):
        """Read the rows from `start` on in this array instead of the batch."""
        self.batch = rows
        self.p.stride = rows.strides[0]
        self.p.rows = <const char *> cnp.PyArray_DATA(rows) - start * self.p.stride

    def add(self, Py_ssize_t start, Py_ssize_t stop, object n_threads=None):
        """Add the rows from start to stop, which begin at a piece.

        Returns
        -------
        list of tuple
            Of each group that cannot be added here, in order: its place, what its rows came to, the piece that they are in,
            from and to, and how many rows of the group in this piece have been added.
        """
        cdef int threads = min(threads_for((stop - start) * self.p.n_bytes, n_threads), 64)
        if self.n_groups * self.portion * self.p.n_bytes > FEW_BYTES:
            found = []
            while start < stop:
                found += self.add_many(start, min(stop, start + self.piece), threads)
                start += self.piece
            return found
        return self.add_few(start, stop, threads)

    cdef list add_few(self, Py_ssize_t start, Py_ssize_t stop, int threads):
        cdef Portions *p = &self.p
        cdef Py_ssize_t n_groups = self.n_groups, most = self.piece // p.size + n_groups
        cdef Py_ssize_t part_bytes = p.height * p.pitch * sizeof(double)
        cdef Py_ssize_t n_pieces = (stop - start + self.piece - 1) // self.piece
        cdef Py_ssize_t in_round, first, k, i, g, piece, last
        cdef int t
        cdef Filling *fillings
        cdef Filling *f
        cdef ndarray keys = self.lookup.keys, memory
        cdef const void *key = cnp.PyArray_DATA(keys)
        cdef int size = cnp.PyArray_ITEMSIZE(keys)
        cdef bint signed_ = keys.dtype.kind == "i"
        cdef uint64_t low = self.lookup.low
        cdef const int32_t *table = <const int32_t *> cnp.PyArray_DATA(self.lookup.table)
        cdef double *states = <double *> cnp.PyArray_DATA(self.states)
        cdef uint8_t *flags = <uint8_t *> cnp.PyArray_DATA(self.flags)
        cdef list found = []
        cdef Portions *of_thread = self.portions_of_threads(threads)
        most = min(most, stop - start)
        threads = min(<Py_ssize_t> threads, n_pieces)
        in_round = max(<Py_ssize_t> threads, min(<Py_ssize_t> 64, PARTS_BYTES // max(<Py_ssize_t> 1, most * part_bytes)))
        in_round = min(n_pieces, in_round // threads * threads)
        buffers = [np.empty(n_groups * (p.size * (p.n_bytes + p.weight_bytes) + 12) + 16, np.uint8)
                   for _ in range(threads)]
        notes = np.empty(in_round * (most * (part_bytes + 9)), np.uint8)
        fillings = <Filling *> calloc(in_round, sizeof(Filling))
        if fillings == NULL:
            raise MemoryError("no memory for the sums of a batch by group")
        try:
            for k in range(in_round):
                f = &fillings[k]
                memory = notes
                f.parts = <double *> (<char *> cnp.PyArray_DATA(memory) + k * most * part_bytes)
                f.groups = <int32_t *> (<char *> cnp.PyArray_DATA(memory) + in_round * most * part_bytes) + k * most
                f.ranks = <uint32_t *> (<char *> cnp.PyArray_DATA(memory) + in_round * most * (part_bytes + 4)) + k * most
                f.outcome = <uint8_t *> cnp.PyArray_DATA(memory) + in_round * most * (part_bytes + 8) + k * most
            first = 0
            while first < n_pieces:
                last = min(n_pieces, first + in_round)
                for k in range(last - first):       # The pieces of a thread are neighbours, and share its buffers.
                    f = &fillings[k]
                    for t in range(threads):
                        if (last - first) * t // threads <= k < (last - first) * (t + 1) // threads:
                            memory = buffers[t]
                            f.next = <char **> cnp.PyArray_DATA(memory)
                            f.done = <uint32_t *> (f.next + n_groups)
                            f.rows = <char *> (f.done + n_groups + n_groups % 2)
                            f.weights = f.rows + n_groups * p.size * p.n_bytes
                with nogil:
                    for t in prange(threads, num_threads=threads, schedule='static'):
                        fill_pieces(&of_thread[t], key, size, signed_, low, table, start, stop, self.piece, first, n_groups,
                                    (last - first) * t // threads, (last - first) * (t + 1) // threads, fillings)
                for k in range(last - first):
                    f = &fillings[k]
                    if f.failed:
                        raise MemoryError("no memory for the sums of a batch by group")
                    for i in range(f.n_parts):
                        g = f.groups[i]
                        if f.outcome[i] == PLAIN and not flags[g] & HARD:
                            take_part(p, states + g * self.height * p.pitch, self.height, &flags[g],
                                      f.parts + i * p.height * p.pitch)
                            continue
                        piece = start + (first + k) * self.piece
                        if not flags[g] & HARD or f.ranks[i] == 0:
                            found.append((g, max(f.outcome[i], <uint8_t> LARGE), piece, min(stop, piece + self.piece),
                                          f.ranks[i]))
                        flags[g] |= HARD
                first = last
        finally:
            free(fillings)
        return found

    cdef list add_many(self, Py_ssize_t start, Py_ssize_t stop, int threads):
        cdef Portions *p = &self.p
        cdef Py_ssize_t n_groups = self.n_groups, n = stop - start, bucket, longest, row = p.n_bytes + p.weight_bytes
        cdef Buckets s
        cdef int t
        cdef ndarray keys = self.lookup.keys, memory
        cdef const void *key = cnp.PyArray_DATA(keys)
        cdef int size = cnp.PyArray_ITEMSIZE(keys)
        cdef bint signed_ = keys.dtype.kind == "i"
        cdef uint64_t low = self.lookup.low
        cdef const int32_t *table = <const int32_t *> cnp.PyArray_DATA(self.lookup.table)
        cdef double *states = <double *> cnp.PyArray_DATA(self.states)
        cdef uint8_t *flags = <uint8_t *> cnp.PyArray_DATA(self.flags)
        cdef ndarray outcomes = np.zeros(n_groups, np.uint8), ranks = np.zeros(n_groups, np.uint32)
        cdef Sorting work[64]
        cdef char *room[64]
        cdef Py_ssize_t shares[65]
        cdef Portions *of_thread = self.portions_of_threads(threads)
        s.shift = 0
        while n_groups >> s.shift > max(<Py_ssize_t> 1, min(<Py_ssize_t> MAX_BUCKETS, n * row // BUCKET_BYTES)) \
                and s.shift < 16:
            s.shift += 1
        s.n_buckets = (n_groups - 1 >> s.shift) + 1
        s.batch = max(<Py_ssize_t> 1, min(<Py_ssize_t> BATCH_BYTES, DEALT_BYTES // s.n_buckets) // p.n_bytes)
        s.room = room
        counts, begins = np.zeros((threads, s.n_buckets), np.intp), np.empty(s.n_buckets + 1, np.intp)
        memory = self.room(1, n * (row + 2))
        s.rows = <char *> cnp.PyArray_DATA(memory)
        s.weights = s.rows + n * p.n_bytes
        s.groups = <uint16_t *> (s.weights + n * p.weight_bytes)
        memory = counts
        s.counts = <Py_ssize_t *> cnp.PyArray_DATA(memory)
        memory = begins
        s.begins = <Py_ssize_t *> cnp.PyArray_DATA(memory)
        for t in range(threads):
            memory = self.room(2 + t, s.n_buckets * (s.batch * (p.n_bytes + 2) + 2))
            room[t] = <char *> cnp.PyArray_DATA(memory)
        with nogil:
            deal_by_type(&of_thread[0], start, <const char *> key + start * size, size, signed_, low, table, 0, n, threads,
                         &s)
        longest = max(p.size, min(<Py_ssize_t> np.diff(begins).max(), SORTED_BYTES // row))
        bucket = 0
        for t in range(threads):
            memory = self.room(2 + t, longest * row + (p.height * p.pitch + 8) * sizeof(double)
                               + (<Py_ssize_t> 4 << s.shift))
            work[t].part = <double *> cnp.PyArray_DATA(memory)
            work[t].begins = <uint32_t *> (work[t].part + p.height * p.pitch)
            work[t].rows = <char *> (work[t].begins + (<Py_ssize_t> 1 << s.shift) + 1)
            work[t].weights = work[t].rows + longest * p.n_bytes
            work[t].room = longest
            work[t].outcomes = <uint8_t *> cnp.PyArray_DATA(outcomes)
            work[t].ranks = <uint32_t *> cnp.PyArray_DATA(ranks)
            work[t].failed = False
            shares[t] = bucket
            while bucket < s.n_buckets and s.begins[bucket] < n * (t + 1) // threads:
                bucket += 1
        shares[threads] = s.n_buckets
        with nogil:
            for t in prange(threads, num_threads=threads, schedule='static'):
                sum_buckets(&of_thread[t], &s, shares[t], shares[t + 1], n_groups, &work[t], states, self.height, flags)
        for t in range(threads):
            if work[t].failed:
                raise MemoryError("no memory for the sums of a batch by group")
        troubled = np.flatnonzero(outcomes)
        np.asarray(self.flags)[troubled] |= HARD
        return [(int(g), int(outcomes[g]), start, stop, int(ranks[g])) for g in troubled]


cdef void fill_pieces(Portions *p, const void *keys, int size, bint signed_, uint64_t low, const int32_t *table,
                      Py_ssize_t start, Py_ssize_t stop, Py_ssize_t piece, Py_ssize_t first, Py_ssize_t n_groups,
                      Py_ssize_t begin, Py_ssize_t end, Filling *fillings) noexcept nogil:
    cdef Py_ssize_t k, at
    for k in range(begin, end):
        at = start + (first + k) * piece
        fill_by_type(p, keys, size, signed_, low, table, at, min(stop, at + piece), n_groups, &fillings[k])
