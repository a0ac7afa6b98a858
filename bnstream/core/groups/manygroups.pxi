# Many groups: rows are copied to buckets of neighboring groups, which fit the cache; then those of a bucket are sorted by
# group, and summed.

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


cdef void count_keys(const code *keys, const Codes *codes, Py_ssize_t start, Py_ssize_t stop, int shift,
                     Py_ssize_t *counts) noexcept nogil:
    cdef Py_ssize_t i
    cdef code low = <code> codes.low
    cdef const int32_t *table = codes.table
    for i in range(start, stop):
        counts[table[<code> (keys[i] - low)] >> shift] += 1


cdef inline void deal_rows(const Portions *p, Py_ssize_t first, const code *keys, const Codes *codes, Py_ssize_t start,
                           Py_ssize_t stop, const Buckets *s, int t, Py_ssize_t n) noexcept nogil:
    """Copy rows of n bytes to their buckets: those of a batch from `first` on, to which the keys belong. They go by way of
    buffers, so that whole cache lines are written."""
    cdef Py_ssize_t i, b, k, batch = s.batch, n_buckets = s.n_buckets, stride = p.stride
    cdef Py_ssize_t *places = s.counts + t * n_buckets
    cdef code low = <code> codes.low
    cdef const int32_t *table = codes.table
    cdef uint64_t g
    cdef int shift = s.shift
    cdef const char *row = p.rows + (first + start) * stride
    cdef uint16_t *fill = <uint16_t *> s.room[t]
    cdef uint16_t *groups = fill + n_buckets
    cdef char *buffers = <char *> (groups + n_buckets * batch)
    memset(fill, 0, n_buckets * sizeof(uint16_t))
    for i in range(start, stop):
        g = table[<code> (keys[i] - low)]
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


cdef void deal(const Portions *p, Py_ssize_t first, const code *keys, const Codes *codes, Py_ssize_t start,
               Py_ssize_t stop, const Buckets *s, int t) noexcept nogil:
    cdef Py_ssize_t n = p.n_bytes, i, b
    cdef Py_ssize_t *places = s.counts + t * s.n_buckets
    cdef code low = <code> codes.low
    cdef const int32_t *table = codes.table
    if p.weights != NULL:
        for i in range(start, stop):
            b = table[<code> (keys[i] - low)] >> s.shift
            memcpy(s.weights + places[b] * p.weight_bytes, p.weights + (first + i) * p.weight_bytes, p.weight_bytes)
            places[b] += 1
        for i in range(start, stop):
            places[table[<code> (keys[i] - low)] >> s.shift] -= 1
    if n == 4:
        deal_rows(p, first, keys, codes, start, stop, s, t, 4)
    elif n == 8:
        deal_rows(p, first, keys, codes, start, stop, s, t, 8)
    elif n == 16:
        deal_rows(p, first, keys, codes, start, stop, s, t, 16)
    elif n == 32:
        deal_rows(p, first, keys, codes, start, stop, s, t, 32)
    elif n == 64:
        deal_rows(p, first, keys, codes, start, stop, s, t, 64)
    else:
        deal_rows(p, first, keys, codes, start, stop, s, t, n)


cdef void deal_all(const Portions *p, Py_ssize_t first, const code *keys, const Codes *codes, Py_ssize_t start,
                   Py_ssize_t stop, int threads, const Buckets *s) noexcept nogil:
    """Copy the rows of a piece to their buckets, in their order, on several threads."""
    cdef Py_ssize_t n = stop - start, b, at = 0, k
    cdef int t
    for t in prange(threads, num_threads=threads, schedule='static'):
        count_keys(keys, codes, start + n * t // threads, start + n * (t + 1) // threads, s.shift,
                   s.counts + t * s.n_buckets)
    for b in range(s.n_buckets):
        s.begins[b] = at
        for t in range(threads):
            k = s.counts[t * s.n_buckets + b]
            s.counts[t * s.n_buckets + b] = at
            at += k
    s.begins[s.n_buckets] = at
    for t in prange(threads, num_threads=threads, schedule='static'):
        deal(p, first, keys, codes, start + n * t // threads, start + n * (t + 1) // threads, s, t)


cdef void deal_by_type(const Portions *p, const Codes *codes, Py_ssize_t first, Py_ssize_t n, int threads,
                       const Buckets *s) noexcept nogil:
    """Deal n rows from `first` on."""
    if codes.size == 1:
        deal_all(p, first, <const uint8_t *> codes.keys + first, codes, 0, n, threads, s)
    elif codes.size == 2:
        deal_all(p, first, <const uint16_t *> codes.keys + first, codes, 0, n, threads, s)
    elif codes.size == 4:
        deal_all(p, first, <const uint32_t *> codes.keys + first, codes, 0, n, threads, s)
    else:
        deal_all(p, first, <const uint64_t *> codes.keys + first, codes, 0, n, threads, s)


ctypedef struct Sorting:        # of a bucket, by one thread
    char *rows                  # by group, as far as there is room for them
    char *weights
    Py_ssize_t room             # rows
    double *part
    uint32_t *begins            # where the rows of each group begin, and the end
    uint32_t *order             # numbers of the rows of a bucket for which there is no room, by group
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


cdef void sum_by_number(Portions *p, const Buckets *s, Py_ssize_t bucket, Py_ssize_t n_groups, Sorting *w,
                        double *states, Py_ssize_t height, uint8_t *flags) noexcept nogil:
    """Do the same for a bucket that there is no room for: sort the numbers of its rows, and gather a portion at a time."""
    cdef Py_ssize_t i, g, k, n, at = 0, stop, begin, start = s.begins[bucket], first = bucket << s.shift
    for i in range(start, s.begins[bucket + 1]):
        g = s.groups[i]
        w.order[w.begins[g]] = i - start
        w.begins[g] += 1
    for g in range(min(<Py_ssize_t> 1 << s.shift, n_groups - first)):
        begin = at
        stop = w.begins[g]
        while at < stop:
            n = min(stop - at, p.size)
            for k in range(n):
                i = start + w.order[at + k]
                memcpy(w.rows + k * p.n_bytes, s.rows + i * p.n_bytes, p.n_bytes)
                if p.weights != NULL:
                    memcpy(w.weights + k * p.weight_bytes, s.weights + i * p.weight_bytes, p.weight_bytes)
            add_portion(p, w.rows, NULL if p.weights == NULL else w.weights, n, first + g, at - begin, states, height, flags,
                        w)
            at += n


cdef void sum_buckets(Portions *p, const Buckets *s, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t n_groups,
                      Sorting *w, double *states, Py_ssize_t height, uint8_t *flags) noexcept nogil:
    cdef Py_ssize_t bucket
    for bucket in range(begin, end):
        find_begins(s, s.begins[bucket], s.begins[bucket + 1], w.begins)
        if s.begins[bucket + 1] - s.begins[bucket] <= w.room:
            sort_bucket(p, s, s.begins[bucket], s.begins[bucket + 1], w)
            sum_sorted(p, s, bucket, n_groups, w, states, height, flags)
        else:
            sum_by_number(p, s, bucket, n_groups, w, states, height, flags)
