# The sums of bytes about their bias, in integers: by columns squares in 16 bits, sums in 32. They are exact.

# Types that are summed in 32-bit integers.
ctypedef fused byte:
    uint8_t
    int8_t


cdef inline int16_t bias(const byte *x) noexcept nogil:
    """The shift of bytes. It makes them -128 to 127, so that the sum of two squares fits in 16 bits."""
    return 128 if byte is uint8_t else 0


cdef inline uint16_t square(int16_t x) noexcept nogil:
    return x * x


cdef inline void eight_byte_rows(const byte *x, Py_ssize_t pitch, Py_ssize_t width, i32_out s, u32_out q) noexcept nogil:
    cdef Py_ssize_t j
    cdef int16_t a, b, c, d, e, f, g, h, k = bias(x)
    cdef uint16_t ab, cd, ef, gh
    for j in range(width):
        a = x[j] - k
        b = x[j + pitch] - k
        c = x[j + 2 * pitch] - k
        d = x[j + 3 * pitch] - k
        e = x[j + 4 * pitch] - k
        f = x[j + 5 * pitch] - k
        g = x[j + 6 * pitch] - k
        h = x[j + 7 * pitch] - k
        ab = square(a) + square(b)
        cd = square(c) + square(d)
        ef = square(e) + square(f)
        gh = square(g) + square(h)
        s[j] += <int16_t> (a + b + c + d + e + f + g + h)
        q[j] += (<uint32_t> ab + cd) + (<uint32_t> ef + gh)


cdef void byte_columns(const byte *x, Py_ssize_t pitch, Py_ssize_t n_rows, Py_ssize_t width, uint32_t *room, f64_out s,
                       f64_out q) noexcept nogil:
    """Add n_rows rows of bytes about their bias, with room for two numbers of each column.

    Eight rows are one of each eighth. Sums of 262,143 rows fit in 32 bits, and no block has as many.
    """
    cdef i32_out s32 = <int32_t *> room
    cdef u32_out q32 = room + width
    cdef Py_ssize_t r, j, eighth = n_rows // 8
    for j in range(width):
        s32[j] = 0
        q32[j] = 0
    for r in range(eighth):
        j = 0
        while j <= width - LINE_BYTES:
            eight_byte_rows(x + r * pitch + j, eighth * pitch, LINE_BYTES, s32 + j, q32 + j)
            j += LINE_BYTES
        eight_byte_rows(x + r * pitch + j, eighth * pitch, width - j, s32 + j, q32 + j)
    for r in range(8 * eighth, n_rows):
        for j in range(width):
            s32[j] += x[r * pitch + j] - bias(x)
            q32[j] += square(x[r * pitch + j] - bias(x))
    for j in range(width):
        s[j] += s32[j]
        q[j] += q32[j]


cdef inline void byte_run(const byte *x, Py_ssize_t n, double *s, double *q) noexcept nogil:
    """Add a run of n bytes about their bias. Sums of 131,071 fit in 32 bits, and no piece has as many."""
    cdef int32_t sum = 0, squares = 0
    cdef int16_t d
    cdef Py_ssize_t i
    for i in range(n):
        d = x[i] - bias(x)
        sum += d
        squares += d * d
    s[0] += sum
    q[0] += squares
