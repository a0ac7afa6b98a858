# Which elements count, and how much. The weights of a block are copied to scratch, one for each batch position. They are
# doubles, or the flags of a mask: bytes, which stay in the L1 cache together with x.

ctypedef enum Count:            # which elements count, and how much
    ALL = 0
    FINITE = 1                  # those that are neither NaN nor inf
    MASKED = 2                  # those whose flag is not 0
    WEIGHTED = 4                # each as much as its weight
    NONZERO = 8                 # those whose weight is not 0: x may be NaN or inf elsewhere
    FINITE_MASKED = FINITE | MASKED
    FINITE_WEIGHTED = FINITE | WEIGHTED
    NONZERO_WEIGHTED = NONZERO | WEIGHTED


cdef inline Count count_of(const View *view) noexcept nogil:
    if not view.weighted:
        return ALL
    return MASKED if view.operand[WEIGHTS].element == BOOL else WEIGHTED


cdef inline Count with_finite(Count count, bint omit) noexcept nogil:
    """The same without NaN and inf, if they are to be left out."""
    return <Count> (count | FINITE) if omit else count


cdef inline bint has_weights(const View *view) noexcept nogil:
    """Whether n is a sum of weights, not a count."""
    return count_of(view) == WEIGHTED


cdef inline Py_ssize_t bytes_of(Py_ssize_t n, Count count) noexcept nogil:
    """The bytes of n weights."""
    cdef Py_ssize_t size = sizeof(flag) if count & MASKED else (sizeof(double) if count & WEIGHTED else 0)
    return n * size


cdef inline bint counts(const char *weights, Py_ssize_t i, Count count) noexcept nogil:
    """Whether a weight is not 0."""
    return (<const flag *> weights)[i] != 0 if count & MASKED else (<const double *> weights)[i] != 0


cdef inline Py_ssize_t weights_room(Count count) noexcept nogil:
    """The doubles that the weights of a block take: at most PIECE_ELEMENTS, and a vector loaded from the last one on."""
    return round_up(bytes_of(PIECE_ELEMENTS + GRANULE, count) // <Py_ssize_t> sizeof(double), GRANULE)


cdef inline void load_flags(const char *source, Py_ssize_t stride, Py_ssize_t n, flag *out) noexcept nogil:
    cdef Py_ssize_t i
    if stride == 1:
        for i in range(n):
            out[i] = -(source[i] != 0)
    else:
        for i in range(n):
            out[i] = -(source[i * stride] != 0)


cdef void load_weights(const View *view, Py_ssize_t first, Py_ssize_t n, char *out) noexcept nogil:
    """Copy the weights of n batch positions to out, in the order of the batch dims."""
    cdef Count count = count_of(view)
    cdef const Operand *o = &view.operand[WEIGHTS]
    cdef const char *data
    cdef Dim fastest = view.batch[view.n_batch - 1] if view.n_batch > 0 else no_dim(view)
    cdef Py_ssize_t stride = fastest.stride[WEIGHTS], left
    while n > 0:
        data = o.data + offset_of(view.batch, view.n_batch, first, WEIGHTS)
        left = min(n, fastest.n - first % fastest.n)
        if count == MASKED:
            load_flags(data, stride, left, <flag *> out)
        else:
            load(data, stride, left, o.element, False, NULL, 0, <double *> out)
        out += bytes_of(left, count)
        first += left
        n -= left


cdef void sum_weights(const char *weights, Py_ssize_t n, Count count, double *total, double *squares) noexcept nogil:
    """The sum of n weights, and that of their squares."""
    cdef const flag *mask = <const flag *> weights
    cdef const double *each = <const double *> weights
    cdef double sums[32]
    cdef double sums_of_squares[32]
    cdef Py_ssize_t i, j, n_true = 0
    if count == MASKED:
        for i in range(n):
            n_true += mask[i] != 0
        total[0] = squares[0] = n_true
        return
    memset(sums, 0, sizeof(sums))
    memset(sums_of_squares, 0, sizeof(sums_of_squares))
    for i in range(0, n - 31, 32):
        for j in range(32):
            sums[j] += each[i + j]
            sums_of_squares[j] += each[i + j] * each[i + j]
    for i in range(n & -32, n):
        sums[i % 32] += each[i]
        sums_of_squares[i % 32] += each[i] * each[i]
    total[0] = sum_of_array(sums, 32)
    squares[0] = sum_of_array(sums_of_squares, 32)
