# Elements that are not read in place: in another byte order, at strides that do not suit the loops, integers of 32 and 64
# bits, bool, and any in a view with flags or with operands of mixed types. They are converted to doubles in a tile. From
# 64-bit integers the anchor is first subtracted in integer arithmetic, so that no digit of a deviation is lost.

cdef inline int64_t high(uint64_t bits, Element element) noexcept nogil:
    """The upper half of a 64-bit integer, whose value is high * 2**32 + low."""
    return <int64_t> bits >> 32 if element == INT64 else <int64_t> (bits >> 32)


cdef inline int64_t low(uint64_t bits) noexcept nogil:
    return <uint32_t> bits


cdef inline double number64(uint64_t a, uint64_t b, Element element) noexcept nogil:
    """a - b of integers, rounded once: the difference of each half has 33 bits. For float64, a itself."""
    if element == FLOAT64:
        return as_double(a)
    return <double> (high(a, element) - high(b, element)) * 4294967296.0 + <double> (low(a) - low(b))


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


cdef inline void load64(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        const uint64_t *anchor, Py_ssize_t anchor_step, double *out) noexcept nogil:
    cdef uint64_t bits
    cdef Py_ssize_t i
    if stride == 8 and not swapped:
        for i in range(n):
            memcpy(&bits, source + i * 8, 8)
            out[i] = number64(bits, anchor[i * anchor_step], element)
        return
    for i in range(n):
        memcpy(&bits, source + i * stride, 8)
        out[i] = number64(swap64(bits) if swapped else bits, anchor[i * anchor_step], element)


cdef inline void load32(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        double *out) noexcept nogil:
    cdef uint32_t bits
    cdef Py_ssize_t i
    if stride == 4 and not swapped:       # The usual case is vectorized.
        for i in range(n):
            memcpy(&bits, source + i * 4, 4)
            out[i] = number32(bits, element)
        return
    for i in range(n):
        memcpy(&bits, source + i * stride, 4)
        out[i] = number32(swap32(bits) if swapped else bits, element)


cdef inline void load16(const char *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                        double *out) noexcept nogil:
    cdef uint16_t bits
    cdef Py_ssize_t i
    if stride == 2 and not swapped:       # The usual case is vectorized.
        for i in range(n):
            memcpy(&bits, source + i * 2, 2)
            out[i] = number16(bits, element)
        return
    for i in range(n):
        memcpy(&bits, source + i * stride, 2)
        out[i] = number16(swap16(bits) if swapped else bits, element)


cdef void load(const char *source, Py_ssize_t stride, Py_ssize_t n, Element element, bint swapped,
               const uint64_t *anchor, Py_ssize_t anchor_step, double *out) noexcept nogil:
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
        load64(source, stride, n, swapped, FLOAT64, anchor, anchor_step, out)
    elif element == INT64:
        load64(source, stride, n, swapped, INT64, anchor, anchor_step, out)
    else:
        load64(source, stride, n, swapped, UINT64, anchor, anchor_step, out)


cdef uint64_t anchor_of(const char *source, bint swapped) noexcept nogil:
    cdef uint64_t bits
    memcpy(&bits, source, 8)
    return swap64(bits) if swapped else bits


cdef pair anchor_value(uint64_t bits, Element element) noexcept nogil:
    return two_sum(<double> high(bits, element) * 4294967296.0, <double> low(bits))
