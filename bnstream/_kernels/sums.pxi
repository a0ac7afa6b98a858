# The innermost loops: the sums of d = x - shift and of d * d. They read each element once.
#
# The loops run across columns and take eight rows at a time, so that one load and store of an accumulator serves eight
# elements. Each element costs a conversion, a subtraction, a product and two additions. The width of vectors changes no bit.
# From the L2 cache, one core with AVX-512 runs these loops at 30 GB/s, a quarter of the rate of a plain read.

# Types that are summed in double. Sums of the integers are exact, because blocks are short and shifts are integers.
ctypedef fused number:
    f32
    f64
    i16
    u16

# Types that are read in place.
ctypedef fused native:
    f32
    f64
    i16
    u16
    uint8_t
    int8_t

# Types that are summed in 32-bit integers.
ctypedef fused byte:
    uint8_t
    int8_t


cdef inline Py_ssize_t strip_of(const native *x) noexcept nogil:
    """The columns of a strip."""
    return max(<Py_ssize_t> STRIP, <Py_ssize_t> (LINE // sizeof(native)))


cdef inline double tree(double a, double b, double c, double d, double e, double f, double g, double h) noexcept nogil:
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


cdef inline bint finite(double x) noexcept nogil:
    return x - x == 0


cdef inline void eight_rows(const number *x, Py_ssize_t pitch, Py_ssize_t width, const double *shift, bint one,
                            f64_out s, f64_out q) noexcept nogil:
    """Add eight rows of `width` columns, which have a shift each, or one shift if they are of `one` channel."""
    cdef Py_ssize_t j
    cdef double a, b, c, d, e, f, g, h, k
    for j in range(width):
        k = shift[0 if one else j]
        a = x[j] - k
        b = x[j + pitch] - k
        c = x[j + 2 * pitch] - k
        d = x[j + 3 * pitch] - k
        e = x[j + 4 * pitch] - k
        f = x[j + 5 * pitch] - k
        g = x[j + 6 * pitch] - k
        h = x[j + 7 * pitch] - k
        s[j] += tree(a, b, c, d, e, f, g, h)
        q[j] += tree(a * a, b * b, c * c, d * d, e * e, f * f, g * g, h * h)


cdef inline void one_row(const number *x, Py_ssize_t first, Py_ssize_t width, const double *shift, bint one,
                         f64_out s, f64_out q) noexcept nogil:
    """Add one row, from column `first` on. The loop includes the columns before it, to be of whole vectors."""
    cdef Py_ssize_t j
    cdef double d
    for j in range(width):
        d = x[j] - shift[0 if one else j]
        d = d if j >= first else 0.0
        s[j] += d
        q[j] += d * d


cdef void columns(const number *x, Py_ssize_t pitch, Py_ssize_t n_rows, Py_ssize_t width, Py_ssize_t ahead,
                  const double *shift, f64_out s, f64_out q) noexcept nogil:
    """Add n_rows rows of `width` columns, `pitch` elements apart, to s and q. Prefetch `ahead` elements ahead."""
    cdef Py_ssize_t r, i, j, strip = strip_of(x), n_strips = width // strip
    cdef const number *row
    for r in range(0, n_rows - 7, 8):
        row = x + r * pitch
        for j in range(n_strips):
            for i in range(8):
                prefetch(row + j * strip + ahead + i * pitch, strip * sizeof(number))
            eight_rows(row + j * strip, pitch, strip, shift + j * strip, False, s + j * strip, q + j * strip)
        j = n_strips * strip
        eight_rows(row + j, pitch, width - j, shift + j, False, s + j, q + j)
    for r in range(n_rows & -8, n_rows):
        one_row(x + r * pitch, 0, width, shift, False, s, q)


ctypedef struct Sums:           # sums over some elements
    double n                    # weights
    double s                    # deviations; backward: dy
    double q                    # squares of deviations; backward: dy * (x - mean)


cdef inline double counted(double x, double weight) noexcept nogil:
    return weight if finite(x) else 0.0


cdef inline double deviation(double x, double shift, double weight, Count count) noexcept nogil:
    return x - shift if (finite(x) if count == FINITE else weight != 0) else 0.0


cdef inline Sums two_of(const number *x, Py_ssize_t pitch, double shift, const double *weights, Py_ssize_t step,
                        Count count) noexcept nogil:
    """What two elements with their weights add to the sums."""
    cdef double v = weight_of(weights, 0, count), w = weight_of(weights, step, count), a, b
    cdef Sums sums
    if count & FINITE:
        v *= finite(x[0])           # A product, as GCC 12 does not vectorize two conditions.
        w *= finite(x[pitch])
    a = deviation(x[0], shift, v, count)
    b = deviation(x[pitch], shift, w, count)
    sums.n = v + w
    v *= a
    w *= b
    sums.s = v + w
    sums.q = v * a + w * b
    return sums


cdef inline Sums plus(Sums a, Sums b) noexcept nogil:
    a.n += b.n
    a.s += b.s
    a.q += b.q
    return a


cdef inline void eight_rows_weighted(const number *x, Py_ssize_t pitch, Py_ssize_t width, const double *shift,
                                     const double *weights, bint one, Count count, f64_out n, f64_out s,
                                     f64_out q) noexcept nogil:
    """As `eight_rows`, with weights. Rows are taken in twos: the elements and weights of eight do not fit in registers."""
    cdef Py_ssize_t j, step = pitch if one else 1
    cdef const double *weight
    cdef double z
    cdef Sums sums, more, rest
    for j in range(width):
        weight = weights + step_of(j if one else 0, count)
        z = shift[0 if one else j]
        sums = two_of(x + j, pitch, z, weight, step, count)
        more = two_of(x + j + 2 * pitch, pitch, z, weight + 2 * step, step, count)
        sums = plus(sums, more)
        more = two_of(x + j + 4 * pitch, pitch, z, weight + 4 * step, step, count)
        rest = two_of(x + j + 6 * pitch, pitch, z, weight + 6 * step, step, count)
        sums = plus(sums, plus(more, rest))
        if count & FINITE:
            n[j] += sums.n
        s[j] += sums.s
        q[j] += sums.q


cdef inline void eight_rows_some(const number *x, Py_ssize_t pitch, Py_ssize_t width, const double *shift,
                                 const double *weights, bint one, Count count, f64_out n, f64_out s,
                                 f64_out q) noexcept nogil:
    """As `eight_rows`, for the elements that count. Flags are those of rows, or of the elements of `one` channel."""
    cdef Py_ssize_t j, k, step = pitch if one else 1
    cdef double a, b, c, d, e, f, g, h, z, va, vb, vc, vd, ve, vf, vg, vh
    for j in range(width):
        z = shift[0 if one else j]
        k = j if one else 0
        va = weight_of(weights, k, count)
        vb = weight_of(weights, k + step, count)
        vc = weight_of(weights, k + 2 * step, count)
        vd = weight_of(weights, k + 3 * step, count)
        ve = weight_of(weights, k + 4 * step, count)
        vf = weight_of(weights, k + 5 * step, count)
        vg = weight_of(weights, k + 6 * step, count)
        vh = weight_of(weights, k + 7 * step, count)
        if count & FINITE:
            va = counted(x[j], va)
            vb = counted(x[j + pitch], vb)
            vc = counted(x[j + 2 * pitch], vc)
            vd = counted(x[j + 3 * pitch], vd)
            ve = counted(x[j + 4 * pitch], ve)
            vf = counted(x[j + 5 * pitch], vf)
            vg = counted(x[j + 6 * pitch], vg)
            vh = counted(x[j + 7 * pitch], vh)
            n[j] += tree(va, vb, vc, vd, ve, vf, vg, vh)
        a = deviation(x[j], z, va, count)
        b = deviation(x[j + pitch], z, vb, count)
        c = deviation(x[j + 2 * pitch], z, vc, count)
        d = deviation(x[j + 3 * pitch], z, vd, count)
        e = deviation(x[j + 4 * pitch], z, ve, count)
        f = deviation(x[j + 5 * pitch], z, vf, count)
        g = deviation(x[j + 6 * pitch], z, vg, count)
        h = deviation(x[j + 7 * pitch], z, vh, count)
        s[j] += tree(a, b, c, d, e, f, g, h)
        q[j] += tree(a * a, b * b, c * c, d * d, e * e, f * f, g * g, h * h)


cdef inline void some_rows(const number *x, Py_ssize_t pitch, Py_ssize_t width, const double *shift, const double *weights,
                           bint one, Count count, f64_out n, f64_out s, f64_out q) noexcept nogil:
    if count & WEIGHTED:
        eight_rows_weighted(x, pitch, width, shift, weights, one, count, n, s, q)
    else:
        eight_rows_some(x, pitch, width, shift, weights, one, count, n, s, q)


cdef inline void one_row_some(const number *x, Py_ssize_t width, const double *shift, const double *weights, bint one,
                              Count count, f64_out n, f64_out s, f64_out q) noexcept nogil:
    cdef Py_ssize_t j
    cdef double d, weight
    for j in range(width):
        weight = weight_of(weights, j if one else 0, count)
        if count & FINITE:
            weight = counted(x[j], weight)
            n[j] += weight
        d = deviation(x[j], shift[0 if one else j], weight, count)
        s[j] += weight * d
        q[j] += weight * d * d


cdef inline void columns_some(const number *x, Py_ssize_t pitch, Py_ssize_t n_rows, Py_ssize_t width, Py_ssize_t ahead,
                              const double *shift, const char *weights, Count count, f64_out n, f64_out s,
                              f64_out q) noexcept nogil:
    cdef Py_ssize_t r, i, j, strip = strip_of(x), n_strips = width // strip
    cdef const number *row
    cdef const double *each
    cdef double room[8]
    for r in range(0, n_rows - 7, 8):
        row = x + r * pitch
        each = doubles(weights + bytes_of(r, count), 8, count, room)
        for j in range(n_strips):
            for i in range(8):
                prefetch(row + j * strip + ahead + i * pitch, strip * sizeof(number))
            some_rows(row + j * strip, pitch, strip, shift + j * strip, each, False, count, n + j * strip, s + j * strip,
                      q + j * strip)
        j = n_strips * strip
        some_rows(row + j, pitch, width - j, shift + j, each, False, count, n + j, s + j, q + j)
    for r in range(n_rows & -8, n_rows):
        each = doubles(weights + bytes_of(r, count), 1, count, room)
        one_row_some(x + r * pitch, width, shift, each, False, count, n, s, q)


cdef inline void exact_row(const double *x, Py_ssize_t width, const double *shift, f64_out s, f64_out s_lo, f64_out q,
                           f64_out q_lo) noexcept nogil:
    """Add a row to sums that are pairs of doubles. The pairs are not normalized. Their lower halves add up exactly."""
    cdef Py_ssize_t j
    cdef double d
    cdef pair sum, square
    for j in range(width):
        d = x[j] - shift[j]
        sum = two_sum(s[j], d)
        s[j] = sum.hi
        s_lo[j] += sum.lo
        square = two_product(d, d)
        sum = two_sum(q[j], square.hi)
        q[j] = sum.hi
        q_lo[j] += sum.lo + square.lo


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


cdef void byte_columns(const byte *x, Py_ssize_t pitch, Py_ssize_t n_rows, Py_ssize_t width, Py_ssize_t ahead,
                       uint32_t *room, f64_out s, f64_out q) noexcept nogil:
    """As `columns`, for bytes about their bias, with room for two numbers of each column.

    Sums of 262,143 rows fit in 32 bits, and no block has as many.
    """
    cdef i32_out s32 = <int32_t *> room
    cdef u32_out q32 = room + width
    cdef Py_ssize_t r, i, j
    cdef const byte *row
    for j in range(width):
        s32[j] = 0
        q32[j] = 0
    for r in range(0, n_rows - 7, 8):
        row = x + r * pitch
        for j in range(width // LINE):
            for i in range(8):
                prefetch(row + j * LINE + ahead + i * pitch, LINE)
            eight_byte_rows(row + j * LINE, pitch, LINE, s32 + j * LINE, q32 + j * LINE)
        j = width & -LINE
        eight_byte_rows(row + j, pitch, width - j, s32 + j, q32 + j)
    for r in range(n_rows & -8, n_rows):
        for j in range(width):
            s32[j] += x[r * pitch + j] - bias(x)
            q32[j] += square(x[r * pitch + j] - bias(x))
    for j in range(width):
        s[j] += s32[j]
        q[j] += q32[j]


cdef inline double eighth(double x) noexcept nogil:
    return 0.125 * x


cdef inline void eight_means(const number *x, const Py_ssize_t *at, Py_ssize_t channel_pitch, Py_ssize_t channels,
                             double *shift) noexcept nogil:
    cdef Py_ssize_t c, i
    for c in range(channels):
        i = c * channel_pitch
        shift[c] = tree(eighth(x[at[0] + i]), eighth(x[at[1] + i]), eighth(x[at[2] + i]), eighth(x[at[3] + i]),
                        eighth(x[at[4] + i]), eighth(x[at[5] + i]), eighth(x[at[6] + i]), eighth(x[at[7] + i]))


cdef inline Py_ssize_t weighty(const Block *b, Py_ssize_t first) noexcept nogil:
    """The offset of the nearest batch position from `first` on that counts, or else of the nearest one before it."""
    cdef Py_ssize_t i = first
    while i < b.n - 1 and not counts(b.weights, i, b.count):
        i += 1
    while i > 0 and not counts(b.weights, i, b.count):
        i -= 1
    return i // b.width * b.layout[0].table_pitch + i % b.width if b.by_runs else i * b.layout[0].pitch


cdef inline void guess(const number *x, const Block *b, f64_out shift) noexcept nogil:
    """A first shift near the data of each channel: the mean of eight of its elements.

    The division by eight is exact, so that the mean of equal numbers is that number and their variance is 0. If there are
    fewer elements, the last one is taken several times.
    """
    cdef Py_ssize_t at[8]
    cdef Py_ssize_t r, c, n_bad = 0, channel_pitch = b.layout[0].channel_pitch
    for r in range(8):
        if b.count != ALL:
            at[r] = weighty(b, r * b.n // 8)
        else:
            at[r] = min(r, b.n_samples - 1) * b.sample_pitch + (0 if b.by_runs else r * b.inner // 8)
    if channel_pitch == 1:
        eight_means(x, at, 1, b.n_channels, shift)
    else:
        eight_means(x, at, channel_pitch, b.n_channels, shift)
    for c in range(b.n_channels):
        n_bad += not finite(shift[c])
    if n_bad > 0:
        for c in range(b.n_channels):
            for r in range(8):                      # The mean is NaN or inf: take a finite element instead.
                if not finite(shift[c]):
                    shift[c] = x[at[r] + c * channel_pitch]
