# Few groups: each row is copied to the buffer of its group, and a full buffer is summed.

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


cdef inline void fill_rows(Portions *p, const code *keys, const Codes *codes, Py_ssize_t start, Py_ssize_t stop,
                           Py_ssize_t n, Filling *f) noexcept nogil:
    """Copy rows of n bytes. A literal n makes each copy a few moves."""
    cdef Py_ssize_t i, g, stride = p.stride, room = p.size * n, weight_bytes = p.weight_bytes
    cdef code low = <code> codes.low
    cdef const int32_t *table = codes.table
    cdef const char *row = p.rows + start * stride
    cdef const char *weights = p.weights
    cdef char *first = f.rows
    cdef char **next = f.next
    cdef char *to
    for i in range(start, stop):
        g = table[<code> (keys[i] - low)]
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


cdef void fill_buffers(Portions *p, const code *keys, const Codes *codes, Py_ssize_t start, Py_ssize_t stop,
                       Py_ssize_t n_groups, Filling *f) noexcept nogil:
    """Copy the rows of a piece to the buffers of their groups, and sum these whenever they are full, and at the end."""
    cdef Py_ssize_t g, n = p.n_bytes
    for g in range(n_groups):
        f.next[g] = f.rows + g * p.size * n
        f.done[g] = 0
    f.n_parts = 0
    if n == 4:
        fill_rows(p, keys, codes, start, stop, 4, f)
    elif n == 8:
        fill_rows(p, keys, codes, start, stop, 8, f)
    elif n == 16:
        fill_rows(p, keys, codes, start, stop, 16, f)
    elif n == 32:
        fill_rows(p, keys, codes, start, stop, 32, f)
    elif n == 64:
        fill_rows(p, keys, codes, start, stop, 64, f)
    else:
        fill_rows(p, keys, codes, start, stop, n, f)
    for g in range(n_groups):
        if f.next[g] > f.rows + g * p.size * n:
            finish_portion(p, f, g)


cdef void fill_by_type(Portions *p, const Codes *codes, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t n_groups,
                       Filling *f) noexcept nogil:
    if codes.size == 1:
        fill_buffers(p, <const uint8_t *> codes.keys, codes, start, stop, n_groups, f)
    elif codes.size == 2:
        fill_buffers(p, <const uint16_t *> codes.keys, codes, start, stop, n_groups, f)
    elif codes.size == 4:
        fill_buffers(p, <const uint32_t *> codes.keys, codes, start, stop, n_groups, f)
    else:
        fill_buffers(p, <const uint64_t *> codes.keys, codes, start, stop, n_groups, f)


cdef void fill_pieces(Portions *p, const Codes *codes, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t piece,
                      Py_ssize_t first, Py_ssize_t n_groups, Py_ssize_t begin, Py_ssize_t end,
                      Filling *fillings) noexcept nogil:
    cdef Py_ssize_t k, at
    for k in range(begin, end):
        at = start + (first + k) * piece
        fill_by_type(p, codes, at, min(stop, at + piece), n_groups, &fillings[k])
