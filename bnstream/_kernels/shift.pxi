# The shift of the first block is the mean of eight elements. The shift of every other block is the mean of the block before.
# It is nearly always within a fraction of a standard deviation of the mean. If it is so far away that it costs m2 two bits,
# the block is summed again about the mean: by runs only the channels concerned, by columns all of them. (With the first row
# as the shift and one bit as the limit, a third of all channels of normal data would be summed again.) The mean has the
# rounding errors of the distance. So where values of next to no weight have put the shift at 1e60, it takes three times.

cdef enum:
    MOST_SWEEPS = 42            # Each brings the shift nearer by 2**-51; the range of doubles is 2**2098.

cdef inline double tree(double a, double b, double c, double d, double e, double f, double g, double h) noexcept nogil:
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


cdef inline double eighth(const native *x, const Anchors *anchors, Py_ssize_t i) noexcept nogil:
    return 0.125 * value_of(x, anchors, i)


cdef inline void eight_means(const native *x, const Py_ssize_t *at, Py_ssize_t channel_pitch, Py_ssize_t channels,
                             const Anchors *anchors, Py_ssize_t pitch, double *shift) noexcept nogil:
    """Anchors are `pitch` apart."""
    cdef Py_ssize_t c, i
    for c in range(channels):
        i = c * pitch
        shift[c] = tree(eighth(x + at[0], anchors, i), eighth(x + at[1], anchors, i), eighth(x + at[2], anchors, i),
                        eighth(x + at[3], anchors, i), eighth(x + at[4], anchors, i), eighth(x + at[5], anchors, i),
                        eighth(x + at[6], anchors, i), eighth(x + at[7], anchors, i))
        x += channel_pitch


cdef inline double mean_of_finite(const native *x, const Py_ssize_t *at, const Anchors *anchors,
                                  Py_ssize_t i) noexcept nogil:
    """The mean of eight elements of one channel, with the last finite one in the place of each that is NaN or inf."""
    cdef double terms[8]
    cdef double last = NAN
    cdef int r
    for r in range(8):
        terms[r] = eighth(x + at[r], anchors, i)
        last = terms[r] if finite(terms[r]) else last
    for r in range(8):
        terms[r] = terms[r] if finite(terms[r]) else last
    return tree(terms[0], terms[1], terms[2], terms[3], terms[4], terms[5], terms[6], terms[7])


cdef inline Py_ssize_t weighty(const Block *b, Py_ssize_t first) noexcept nogil:
    """The offset of the nearest batch position from `first` on that counts, or else of the nearest one before it."""
    cdef Py_ssize_t i = first
    while i < b.n - 1 and not counts(b.weights, i, b.count):
        i += 1
    while i > 0 and not counts(b.weights, i, b.count):
        i -= 1
    return i // b.width * b.layout[0].table_pitch + i % b.width if b.by_runs else i * b.layout[0].pitch


cdef inline bint guess(const native *x, const Block *b, const Columns *w) noexcept nogil:
    """A first shift near the data of each channel: the mean of eight of its elements, or the bias of bytes.

    Return whether any of these elements is NaN or inf.

    The division by eight is exact, so that the mean of equal numbers is that number and their variance is 0. If there are
    fewer elements, the last one is taken several times.
    """
    cdef f64_out shift = w.mean
    cdef Py_ssize_t at[8]
    cdef Py_ssize_t r, c, n_bad = 0, channel_pitch = b.layout[0].channel_pitch
    if native is uint8_t or native is int8_t:
        for c in range(b.n_channels):
            shift[c] = bias(x)
    else:
        for r in range(8):
            if b.count != ALL:
                at[r] = weighty(b, r * b.n // 8)
            else:
                at[r] = min(r, b.n_samples - 1) * b.sample_pitch + (0 if b.by_runs else r * b.inner // 8)
        if channel_pitch == 1:
            eight_means(x, at, 1, b.n_channels, &w.anchors, b.inner, shift)
        else:
            eight_means(x, at, channel_pitch, b.n_channels, &w.anchors, b.inner, shift)
        for c in range(b.n_channels):
            n_bad += not finite(shift[c])
        if n_bad > 0:
            for c in range(b.n_channels):
                if not finite(shift[c]):
                    shift[c] = mean_of_finite(x + c * channel_pitch, at, &w.anchors, c * b.inner)
    return n_bad > 0


cdef void guess_shift(const Block *b, bint whole, Work *w) noexcept nogil:
    cdef Columns columns = w.columns
    cdef Py_ssize_t c
    if b.flags != NULL:         # NaN is not taken for a shift.
        for c in range(b.n_sums):
            columns.mean[c] = NAN
        set_unselected(b, 0, columns.mean)
    columns.mean = w.shift
    w.careful = sweep(GUESS, b, b.count, &columns)
    prepare_shift(w.shift, b.n_channels, whole)


cdef inline void prepare_shift(double *shift, Py_ssize_t channels, bint whole) noexcept nogil:
    """Make shifts finite, and integers for integers, so that their sums stay exact."""
    cdef Py_ssize_t c
    for c in range(channels):
        shift[c] = 0 if not finite(shift[c]) else (rint(shift[c]) if whole else shift[c])


cdef bint move_shift(Work *w, Py_ssize_t channels, bint whole) noexcept nogil:
    """If s * s / n has cost m2 = q - s * s / n two bits, move the shift to the mean. Return whether any has moved.

    The sums of integers are exact, but s * s / n is not. It is large if a mask has left out all that `guess` has seen.
    """
    cdef const Columns *sums = &w.columns
    cdef Py_ssize_t c
    cdef int n_far = 0
    for c in range(channels):
        w.moved[c] = far(sums.n[c], sums.s[c], sums.q[c])
        n_far += w.moved[c] != 0
    if n_far > 0:
        for c in range(channels):
            if w.moved[c] != 0:
                w.shift[c] += sums.s[c] / sums.n[c]
        prepare_shift(w.shift, channels, whole)
    return n_far > 0


cdef inline bint far(double n, double s, double q) noexcept nogil:
    """Whether s * s > 0.75 * q * n. These products may overflow where s and q do not."""
    return s / n * s > 0.75 * q
