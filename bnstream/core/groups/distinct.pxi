# The distinct keys of a batch, and the place of each key among them: by a table where they are near each other, else by a
# hash table.

ctypedef struct Present:        # which keys there are, of those from `low` on
    uint64_t low
    uint64_t extent
    uint8_t *marks
    bint empty


cdef inline bint reach(Present *p, uint64_t key, uint64_t start, uint64_t limit) noexcept nogil:
    """Have room for a key, if it is near enough."""
    return not p.empty and key - p.low < p.extent or extend(p, key, start, limit)


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
    cdef Py_ssize_t i, first = 0, stop
    cdef integer least, greatest
    cdef uint64_t origin
    cdef uint8_t *marks
    while first < n:
        stop = min(first + LOOK_KEYS, n)
        for i in range(LOOK_KEYS * <Py_ssize_t> sizeof(integer) // LINE_BYTES):
            soon(<const char *> (keys + stop) + STREAM_AHEAD + i * LINE_BYTES)
        least = greatest = keys[first]
        for i in range(first, stop):
            least = keys[i] if keys[i] < least else least
            greatest = keys[i] if keys[i] > greatest else greatest
        if not (reach(p, <uint64_t> least, start, limit) and reach(p, <uint64_t> greatest, start, limit)):
            return False
        origin, marks = p.low, p.marks
        for i in range(first, stop):
            marks[<uint64_t> keys[i] - origin] = 1
        first = stop
    return True


cdef bint look(const integer *keys, Py_ssize_t n, uint64_t start, uint64_t limit, int threads,
               Present *found) noexcept nogil:
    """Mark the keys that there are, on several threads."""
    cdef int t, failed = 0
    for t in prange(threads, num_threads=threads, schedule='static'):
        failed |= not look_through(keys + n * t // threads, n * (t + 1) // threads - n * t // threads, start, limit,
                                   &found[t])
    return not failed


ctypedef struct Codes:          # The place of a key is table[key - low], by the bits of its `size` bytes.
    const void *keys
    int size
    uint64_t low
    const int32_t *table


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

    cdef Codes codes(self):
        cdef Codes found
        found.keys, found.size = cnp.PyArray_DATA(self.keys), cnp.PyArray_ITEMSIZE(self.keys)
        found.low, found.table = self.low, <const int32_t *> cnp.PyArray_DATA(self.table)
        return found

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
    if n == 0:
        raise ValueError("expected at least one key, got none")
    all_of.empty = True
    for t in range(64):
        present[t].empty = True
        present[t].marks = NULL
    try:
        dense = look_by_type(keys, n, start, limit, threads, present)
        for t in range(threads):
            if dense and not present[t].empty:
                dense = reach(&all_of, present[t].low, start, limit) and \
                    reach(&all_of, present[t].low + present[t].extent - 1, start, limit)
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
    cdef bint busy              # A call is about to replace the states of these groups.
    cdef public bint omit       # what `update_few` does about NaN

    def __init__(self):
        self.busy = self.omit = False
        self.keys, self.slots = np.empty(8, np.int64), np.full(16, -1, np.int32)
        self.n, self.shift = 0, 60

    def __len__(self):
        return self.n

    @cython.critical_section
    def __enter__(self):
        """Keep `update_few` away. One that works now is waited for."""
        self.busy = True

    @cython.critical_section
    def __exit__(self, kind, error, trace):
        self.busy = False

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

    @cython.critical_section
    def cut(self, Py_ssize_t n):
        """Forget the keys from place n on. This takes no memory."""
        cdef Py_ssize_t i
        self.n = n
        memset(cnp.PyArray_DATA(self.slots), 0xff, cnp.PyArray_NBYTES(self.slots))      # -1
        for i in range(n):
            self.put((<const int64_t *> cnp.PyArray_DATA(self.keys))[i], i)

    @cython.critical_section
    def all(self):
        """All keys, in the order of their places."""
        return self.keys[:self.n].copy()

    @cython.critical_section
    def of(self, ndarray keys):
        """The place of each of some int64, -1 where there is none."""
        cdef Py_ssize_t i, n = keys.shape[0]
        cdef ndarray found = np.empty(n, np.int64)
        cdef int64_t *out = <int64_t *> cnp.PyArray_DATA(found)
        cdef const int64_t *key = <const int64_t *> cnp.PyArray_DATA(keys)
        for i in range(n):
            out[i] = self.find(key[i])
        return found

    @cython.critical_section
    def add_all(self, ndarray keys):
        """Add int64 that are not there, and differ."""
        cdef Py_ssize_t i
        while self.n + keys.shape[0] > self.keys.shape[0]:      # first, so that there is memory for all or for none
            self.grow()
        for i in range(keys.shape[0]):
            self.add((<const int64_t *> cnp.PyArray_DATA(keys))[i])
