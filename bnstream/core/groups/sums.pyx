"""The rows of a batch by group: distinct keys, and the states of the rows of each.

    keys -> distinct keys, ascending, and a table: key -> place among them
    few groups:   each row is copied to the buffer of its group; a full buffer, a portion, is summed -> a part
    many groups:  rows are copied to buckets of neighboring groups; those of a bucket are sorted, and summed by portions
    parts, merged in order -> states

    distinct.pxi        the distinct keys        fewgroups.pxi, manygroups.pxi       the rows of a piece, by group
    portions.pxi        portions and parts       fewrows.pxi                         updates of a few rows

A portion is summed as `Moments.update` sums these rows, and merged as it merges them. So the state of a group has the
bits of a `Moments` that was given its rows of each piece, a portion at a time, whatever the threads.

Costs of a row of n bytes with a key of k, past the cache: n + 2k bytes read for few groups, beside 2n in the L2 cache. For
many, k again, and n + 2 bytes written to the buckets and read from them.
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
    OMIT, PROPAGATE, Policy, as_array, axes_named, batch_axes, is_of_positions, make_view, mask_of, policy_of, weights_of,
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
    SORTED_BYTES = 8388608      # The rows of a bucket of more are not sorted, but their numbers.
    LOOK_KEYS = 512             # Keys are looked at so many at a time.
    LINE_BYTES = 64             # of a cache line
    STREAM_AHEAD = 4096         # bytes between a prefetch and its load, where rows and keys are read in their order

# What is known of the state of a group, as bits.
cpdef enum:
    HAS_WEIGHTS = 1             # n is a sum of weights
    HARD = 2                    # its m2 may exceed the largest float; only `Moments` adds to it

# What a portion came to.
cdef enum:
    PLAIN = 0
    LARGE = 1
    NOT_FINITE = 2
    NO_MEMORY = 3

ctypedef fused code:            # The bits of a key: differences of keys wrap around, so that signs do not matter.
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused integer:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t


include "distinct.pxi"
include "portions.pxi"
include "fewgroups.pxi"
include "manygroups.pxi"
include "fewrows.pxi"


def pitch_of(Py_ssize_t n_channels):
    """The doubles in a row of a state, with a padding."""
    return padded(n_channels)


def array_of(object x):
    """An array, as `Moments.update` takes it."""
    return as_array(x)


def axes_in(object axis, int ndim):
    """The batch axes that an argument names, as numbers from 0, ascending."""
    return axes_named(batch_axes(axis, ndim), ndim)


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


def take_over(ndarray table, ndarray flags, ndarray places, ndarray others, ndarray other_flags, owner, dict attributes):
    """Replace the states at some places of a table by others, and set attributes of the owner.

    No Python runs in between, and it takes no memory, so that a failure or an interruption comes before all of this or
    after it.
    """
    cdef Py_ssize_t i, at, size = cnp.PyArray_DIM(table, 1) * cnp.PyArray_DIM(table, 2)
    cdef double *to = <double *> cnp.PyArray_DATA(table)
    cdef const double *state = <const double *> cnp.PyArray_DATA(others)
    for i in range(cnp.PyArray_DIM(places, 0)):
        at = (<const int64_t *> cnp.PyArray_DATA(places))[i]
        memcpy(to + at * size, state + i * size, size * sizeof(double))
        (<uint8_t *> cnp.PyArray_DATA(flags))[at] = (<const uint8_t *> cnp.PyArray_DATA(other_flags))[i]
    for name, value in attributes.items():
        setattr(owner, name, value)


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
        cdef ndarray memory
        cdef Codes codes = self.lookup.codes()
        cdef double *states = <double *> cnp.PyArray_DATA(self.states)
        cdef uint8_t *flags = <uint8_t *> cnp.PyArray_DATA(self.flags)
        cdef list found = [], buffers = []
        cdef Portions *of_thread = self.portions_of_threads(threads)
        most = min(most, stop - start)
        threads = min(<Py_ssize_t> threads, n_pieces)
        in_round = max(<Py_ssize_t> threads, min(<Py_ssize_t> 64, PARTS_BYTES // max(<Py_ssize_t> 1, most * part_bytes)))
        in_round = min(n_pieces, in_round // threads * threads)
        while len(buffers) < threads:
            buffers.append(np.empty(n_groups * (p.size * (p.n_bytes + p.weight_bytes) + 12) + 16, np.uint8))
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
                for k in range(last - first):       # The pieces of a thread are neighbors, and share its buffers.
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
                        fill_pieces(&of_thread[t], &codes, start, stop, self.piece, first, n_groups,
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
        cdef Py_ssize_t n_groups = self.n_groups, n = stop - start, bucket, most, longest, n_begins, n_numbers
        cdef Py_ssize_t row = p.n_bytes + p.weight_bytes
        cdef Buckets s
        cdef int t
        cdef ndarray memory
        cdef Codes codes = self.lookup.codes()
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
        memory = self.room(1, n * (row + 2) + 64)
        s.groups = <uint16_t *> cnp.PyArray_DATA(memory)
        s.rows = <char *> s.groups + (2 * n + 63) // 64 * 64
        s.weights = s.rows + n * p.n_bytes
        memory = counts
        s.counts = <Py_ssize_t *> cnp.PyArray_DATA(memory)
        memory = begins
        s.begins = <Py_ssize_t *> cnp.PyArray_DATA(memory)
        for t in range(threads):
            memory = self.room(2 + t, s.n_buckets * (s.batch * (p.n_bytes + 2) + 2))
            room[t] = <char *> cnp.PyArray_DATA(memory)
        with nogil:
            deal_by_type(&of_thread[0], &codes, start, n, threads, &s)
        most = <Py_ssize_t> np.diff(begins).max()
        longest = max(p.size, min(most, SORTED_BYTES // row))
        n_begins = (<Py_ssize_t> 1 << s.shift) + 1
        n_numbers = n_begins + (most if most > longest else 0)      # with the order of a bucket that there is no room for
        bucket = 0
        for t in range(threads):
            memory = self.room(2 + t, longest * row + (p.height * p.pitch + 8) * sizeof(double)
                               + n_numbers * <Py_ssize_t> sizeof(uint32_t))
            work[t].part = <double *> cnp.PyArray_DATA(memory)
            work[t].begins = <uint32_t *> (work[t].part + p.height * p.pitch)
            work[t].order = work[t].begins + n_begins
            work[t].rows = <char *> (work[t].begins + n_numbers + n_numbers % 2)    # Those of float64 are looked at.
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
        found = []
        for g in troubled:
            found.append((int(g), int(outcomes[g]), start, stop, int(ranks[g])))
        return found
