# Portions: some rows of one group, which lie one after the other, and their states.

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
