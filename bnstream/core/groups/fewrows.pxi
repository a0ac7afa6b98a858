# An update of a few rows, which takes about as long as one of `Moments`: no array is made.

@cython.critical_section
def update_few(Places places, object g, object batch, object keys):
    """Add a few rows to the states of a GroupedMoments, if all is as usual: arrays, keys that are integers of known groups,
    moderate numbers. `places` are those of its groups; their lock keeps out what replaces the states.

    Returns
    -------
    bool
        Whether they were added. If not, nothing has changed.
    """
    cdef ndarray a, k, states = g._states.table, flags = g._states.flags
    cdef tuple shape = g._states.shape
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
