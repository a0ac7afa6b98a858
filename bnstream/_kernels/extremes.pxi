# The least and the greatest element of each column, or by runs of each channel.
#
# EXTREMES takes every element, in its own type, and passes over NaN: two operations a vector of the type, a load, and a
# quarter of a load and a store. Where all elements count, MOMENTS does the same between its steps, from the L1 cache. For 16
# float32 in AVX-512 these are 3.5 operations beside the 10 of the moments.
#
# SOME_EXTREMES takes the elements that count, as doubles, and a NaN that counts stays. It is for blocks with weights, and
# for those where NaN or inf has been seen.

cdef inline void extreme_rows(const native *x, Py_ssize_t pitch, Py_ssize_t n_rows, Py_ssize_t width, double *least,
                              double *greatest) noexcept nogil:
    if native is f32:
        extremes_f32(x, pitch, n_rows, width, least, greatest)
    elif native is f64:
        extremes_f64(x, pitch, n_rows, width, least, greatest)
    elif native is f16:
        extremes_f16(x, pitch, n_rows, width, least, greatest)
    elif native is bf16:
        extremes_bf16(x, pitch, n_rows, width, least, greatest)
    elif native is i16:
        extremes_i16(x, pitch, n_rows, width, least, greatest)
    elif native is u16:
        extremes_u16(x, pitch, n_rows, width, least, greatest)
    elif native is i32:
        extremes_i32(x, pitch, n_rows, width, least, greatest)
    elif native is u32:
        extremes_u32(x, pitch, n_rows, width, least, greatest)
    elif native is i64:
        extremes_i64(x, pitch, n_rows, width, least, greatest)
    elif native is u64:
        extremes_u64(x, pitch, n_rows, width, least, greatest)
    elif native is uint8_t:
        extremes_u8(x, pitch, n_rows, width, least, greatest)
    else:
        extremes_i8(x, pitch, n_rows, width, least, greatest)


cdef inline void extreme_run(const native *x, Py_ssize_t n, double *least, double *greatest) noexcept nogil:
    if native is f32:
        extremes_of_run_f32(x, n, least, greatest)
    elif native is f64:
        extremes_of_run_f64(x, n, least, greatest)
    elif native is f16:
        extremes_of_run_f16(x, n, least, greatest)
    elif native is bf16:
        extremes_of_run_bf16(x, n, least, greatest)
    elif native is i16:
        extremes_of_run_i16(x, n, least, greatest)
    elif native is u16:
        extremes_of_run_u16(x, n, least, greatest)
    elif native is i32:
        extremes_of_run_i32(x, n, least, greatest)
    elif native is u32:
        extremes_of_run_u32(x, n, least, greatest)
    elif native is i64:
        extremes_of_run_i64(x, n, least, greatest)
    elif native is u64:
        extremes_of_run_u64(x, n, least, greatest)
    elif native is uint8_t:
        extremes_of_run_u8(x, n, least, greatest)
    else:
        extremes_of_run_i8(x, n, least, greatest)


cdef inline void extremes(const native *x, const Block *b, const Columns *w) noexcept nogil:
    """Add all elements of a block."""
    cdef const Layout *at = &b.layout[0]
    cdef char *least = <char *> w.least
    cdef char *greatest = <char *> w.greatest
    cdef Py_ssize_t i, c
    for i in range(b.n_tables):
        if b.by_runs:
            for c in range(b.n_channels):
                extreme_run(x + c * at.channel_pitch, b.width, <double *> (least + c * sizeof(native)),
                            <double *> (greatest + c * sizeof(native)))
        else:
            extreme_rows(x, at.pitch, b.n_rows, b.width, w.least, w.greatest)
            extreme_rows(x + b.n_rows * at.pitch, 0, b.tail > 0, b.tail, w.least, w.greatest)
        x += at.table_pitch


cdef inline void some_vector(const native *x, const Block *b, Count count, bint one, Py_ssize_t at, const double *flags,
                             Py_ssize_t n, double *least, double *greatest) noexcept nogil:
    """Add those of n elements that count. Their weights begin at place `at`."""
    cdef vec v = values_of(x, n, nothing()), low = get(least), high = get(greatest)
    cdef vec weight = weights_at(b.weights, at, one, count)
    cdef mask m = counted(<Count> (count | NONZERO) if count & WEIGHTED else count, v, weight, b.weights, at, one, n)
    if flags != NULL:
        m = m & nonzero(load_some_f64(<const f64 *> flags, n) if n < VECTOR else get(flags))
    low = pick(m & (below(v, low) | not_number(v)), v, low)
    high = pick(m & (below(high, v) | not_number(v)), v, high)
    put(least, low)
    put(greatest, high)


cdef inline void some_extremes(const native *x, const Block *b, Count count, const Columns *w) noexcept nogil:
    """Add the elements of a block that count."""
    cdef const Layout *layout = &b.layout[0]
    cdef double low[VECTOR]
    cdef double high[VECTOR]
    cdef Py_ssize_t i, c, r, j, k, width, at = 0
    cdef const native *run
    cdef const double *flags
    for i in range(b.n_tables):
        for c in range(b.n_channels if b.by_runs else 0):
            run = x + c * layout.channel_pitch
            for k in range(VECTOR):
                low[k] = w.least[c]
                high[k] = w.greatest[c]
            flags = b.flags + c * b.width if b.flags != NULL else NULL
            j = 0
            while j < b.width:
                some_vector(run + j, b, count, True, at + j, flags + j if flags != NULL else NULL, min(b.width - j, VECTOR),
                            low, high)
                j += VECTOR
            for k in range(VECTOR):
                w.least[c] = lesser(low[k], w.least[c])
                w.greatest[c] = greater(high[k], w.greatest[c])
        for r in range(0 if b.by_runs else b.n_rows + (b.tail > 0)):
            width = b.width if r < b.n_rows else b.tail
            flags = b.flags + r * b.width if b.flags != NULL else NULL
            j = 0
            while j < width:
                some_vector(x + r * layout.pitch + j, b, count, False, r, flags + j if flags != NULL else NULL,
                            min(width - j, VECTOR), w.least + j, w.greatest + j)
                j += VECTOR
        at += b.width
        x += layout.table_pitch


cdef inline double lesser(double a, double b) noexcept nogil:
    """The lesser, or NaN if either is."""
    return a if (a < b) | (a != a) else b


cdef inline double greater(double a, double b) noexcept nogil:
    return a if (a > b) | (a != a) else b


cdef void fill_extremes(Element element, Py_ssize_t n, double *least, double *greatest) noexcept nogil:
    """Nothing: what is greater, or less, than every element."""
    cdef uint64_t high = 0x7ff0000000000000, low = 0xfff0000000000000
    cdef int size = 8
    if element == FLOAT32:
        high, low, size = 0x7f800000, 0xff800000, 4
    elif element in (FLOAT16, BFLOAT16, INT16):
        high, low, size = 0x7fff, 0x8000, 2
    elif element == INT8:
        high, low, size = 0x7f, 0x80, 1
    elif element == INT32:
        high, low, size = 0x7fffffff, 0x80000000, 4
    elif element == INT64:
        high, low = 0x7fffffffffffffff, 0x8000000000000000
    elif element in (UINT8, UINT16, UINT32, UINT64):
        high, low = <uint64_t> -1, 0
        size = 1 if element == UINT8 else (2 if element == UINT16 else (4 if element == UINT32 else 8))
    fill(least, n, size, high)
    fill(greatest, n, size, low)


cdef void decoded(Element element, Py_ssize_t n, const double *elements, double *out) noexcept nogil:
    """Extremes as doubles. -0 becomes 0, since the order of the elements decides which of them is found."""
    cdef double high = high_half(0, element), low = low_half(0)
    cdef Anchors none
    cdef Py_ssize_t i, size = 8
    none.high = &high
    none.low = &low
    if element in (FLOAT16, BFLOAT16):
        decode_keys(<uint16_t *> elements, n)
    if element in (UINT8, INT8):
        size = 1
    elif element in (UINT16, INT16, FLOAT16, BFLOAT16):
        size = 2
    elif element in (FLOAT32, INT32, UINT32):
        size = 4
    load(<const char *> elements, size, n, element, False, &none, 0, out)
    for i in range(n):
        out[i] += 0.0
