# Elements that are not read in place: in another byte order, at strides that do not suit the loops, bool, and any in a view
# with flags or with operands of mixed types. They are converted to doubles in a tile.
#
# From 64-bit integers the anchor of their channel is subtracted before they are rounded, so that no digit of a deviation is
# lost. Each half of an integer, as the last digits of a power of two, is a double, and so is each half of the anchor. The
# difference of two halves is exact.

ctypedef struct Anchors:        # of each channel, or column, of 64-bit integers
    double *high
    double *low


cdef inline double high_half(uint64_t bits, Element element) noexcept nogil:
    """2**84 + the upper half * 2**32. With the sign bit turned, signed integers are unsigned ones."""
    return as_double((bits ^ (<uint64_t> 1 << 63) if element == INT64 else bits) >> 32 | <uint64_t> 0x4530000000000000)


cdef inline double low_half(uint64_t bits) noexcept nogil:
    """2**52 + the lower half."""
    return as_double(<uint32_t> bits | <uint64_t> 0x4330000000000000)


cdef inline double number64(uint64_t bits, const Anchors *anchors, Py_ssize_t i, Element element) noexcept nogil:
    """An integer less an anchor, rounded once, or a float64 itself."""
    if element == FLOAT64:
        return as_double(bits)
    return (high_half(bits, element) - anchors.high[i]) + (low_half(bits) - anchors.low[i])


cdef inline double number32(uint32_t a, Element element) noexcept nogil:
    if element == FLOAT32:
        return as_float(a)
    if element == INT32:
        return <int32_t> a
    return a


cdef inline double number16(uint16_t a, Element element) noexcept nogil:
    if element == FLOAT16:
        return half(a)
    if element == BFLOAT16:
        return bfloat(a)
    if element == INT16:
        return <int16_t> a
    return a


# A literal stride makes a vector loop of the usual cases: neighbors, and every second element, such as real parts.

cdef inline void each64(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        const Anchors *anchors, Py_ssize_t anchor_step, double *out) noexcept nogil:
    cdef uint64_t bits
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(&bits, source + i * stride, 8)
        out[i] = number64(swap64(bits) if swapped else bits, anchors, i * anchor_step, element)


cdef inline void load64(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        const Anchors *anchors, Py_ssize_t anchor_step, double *out) noexcept nogil:
    if stride == 8 and not swapped:
        each64(source, 8, n, False, element, anchors, anchor_step, out)
    elif stride == 16 and not swapped:
        each64(source, 16, n, False, element, anchors, anchor_step, out)
    else:
        each64(source, stride, n, swapped, element, anchors, anchor_step, out)


cdef inline void each32(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        double *out) noexcept nogil:
    cdef uint32_t bits
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(&bits, source + i * stride, 4)
        out[i] = number32(swap32(bits) if swapped else bits, element)


cdef inline void load32(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        double *out) noexcept nogil:
    if stride == 4 and not swapped:
        each32(source, 4, n, False, element, out)
    elif stride == 8 and not swapped:
        each32(source, 8, n, False, element, out)
    else:
        each32(source, stride, n, swapped, element, out)


cdef inline void each16(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        double *out) noexcept nogil:
    cdef uint16_t bits
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(&bits, source + i * stride, 2)
        out[i] = number16(swap16(bits) if swapped else bits, element)


cdef inline void load16(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        double *out) noexcept nogil:
    if stride == 2 and not swapped:
        each16(source, 2, n, False, element, out)
    elif stride == 4 and not swapped:
        each16(source, 4, n, False, element, out)
    else:
        each16(source, stride, n, swapped, element, out)


cdef void load(const char *source, Py_ssize_t stride, Py_ssize_t n, Element element, bint swapped,
               const Anchors *anchors, Py_ssize_t anchor_step, double *out) noexcept nogil:
    """Convert n elements, `stride` bytes apart, to doubles. A literal element gives each type a loop of its own."""
    cdef Py_ssize_t i
    if element == BOOL and stride == 1:
        for i in range(n):
            out[i] = source[i] != 0
    elif element == BOOL:
        for i in range(n):
            out[i] = source[i * stride] != 0
    elif element == UINT8:
        for i in range(n):
            out[i] = (<const uint8_t *> source)[i * stride]
    elif element == INT8:
        for i in range(n):
            out[i] = (<const int8_t *> source)[i * stride]
    elif element == UINT16:
        load16(source, stride, n, swapped, UINT16, out)
    elif element == INT16:
        load16(source, stride, n, swapped, INT16, out)
    elif element == FLOAT16:
        load16(source, stride, n, swapped, FLOAT16, out)
    elif element == BFLOAT16:
        load16(source, stride, n, swapped, BFLOAT16, out)
    elif element == FLOAT32:
        load32(source, stride, n, swapped, FLOAT32, out)
    elif element == INT32:
        load32(source, stride, n, swapped, INT32, out)
    elif element == UINT32:
        load32(source, stride, n, swapped, UINT32, out)
    elif element == FLOAT64:
        load64(source, stride, n, swapped, FLOAT64, anchors, anchor_step, out)
    elif element == INT64:
        load64(source, stride, n, swapped, INT64, anchors, anchor_step, out)
    else:
        load64(source, stride, n, swapped, UINT64, anchors, anchor_step, out)


cdef void convert(const char *source, Py_ssize_t stride, Py_ssize_t n, Element element, bint swapped,
                  double *out) noexcept nogil:
    load(source, stride, n, element, swapped, NULL, 0, out)


cdef inline uint64_t nearest_integer(double x, Element element) noexcept nogil:
    """The 64-bit integer nearest to x, or 0 for NaN."""
    if x != x:
        return 0
    if element == INT64:
        return <uint64_t> <int64_t> rint(min(max(x, -9223372036854775808.0), 9223372036854774784.0))
    return <uint64_t> rint(min(max(x, 0.0), 18446744073709549568.0))


cdef inline void set_anchor(const Anchors *anchors, Py_ssize_t c, uint64_t bits, Element element) noexcept nogil:
    anchors.high[c] = high_half(bits, element)
    anchors.low[c] = low_half(bits)


cdef pair anchor_value(const Anchors *anchors, Py_ssize_t c, Element element) noexcept nogil:
    """An anchor itself."""
    return two_sum(anchors.high[c] - high_half(0, element), anchors.low[c] - low_half(0))
