# The reverse of load: doubles of a tile to elements of any floating type, each rounded once.

cdef inline void store64(const double *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, char *out) noexcept nogil:
    cdef uint64_t bits
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(&bits, source + i, 8)
        bits = swap64(bits) if swapped else bits
        memcpy(out + i * stride, &bits, 8)


cdef inline void store32(const double *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, char *out) noexcept nogil:
    cdef uint32_t bits
    cdef float value
    cdef Py_ssize_t i
    for i in range(n):
        value = <float> source[i]
        memcpy(&bits, &value, 4)
        bits = swap32(bits) if swapped else bits
        memcpy(out + i * stride, &bits, 4)


cdef inline void store16(const double *source, Py_ssize_t stride, Py_ssize_t n, bint swapped, Element element,
                         char *out) noexcept nogil:
    cdef uint16_t bits
    cdef Py_ssize_t i
    for i in range(n):
        bits = to_half(source[i]) if element == FLOAT16 else to_bfloat(source[i])
        bits = swap16(bits) if swapped else bits
        memcpy(out + i * stride, &bits, 2)


cdef inline void store_elements(const double *source, Py_ssize_t stride, Py_ssize_t n, Element element, bint swapped,
                                char *out) noexcept nogil:
    if element == FLOAT64:
        store64(source, stride, n, swapped, out)
    elif element == FLOAT32:
        store32(source, stride, n, swapped, out)
    elif element == FLOAT16:
        store16(source, stride, n, swapped, FLOAT16, out)
    else:
        store16(source, stride, n, swapped, BFLOAT16, out)


cdef void store(const double *source, Py_ssize_t stride, Py_ssize_t n, const Operand *o, char *out) noexcept nogil:
    """Convert n doubles to elements, `stride` bytes apart. Literal stride and byte order vectorize the usual case."""
    if stride == o.itemsize and not o.swapped:
        if o.itemsize == 2:
            store_elements(source, 2, n, o.element, False, out)
        elif o.itemsize == 4:
            store_elements(source, 4, n, o.element, False, out)
        else:
            store_elements(source, 8, n, o.element, False, out)
    else:
        store_elements(source, stride, n, o.element, o.swapped, out)


cdef void move(const Operand *o, char *at, Py_ssize_t stride, Py_ssize_t n, const Anchors *anchors, Py_ssize_t anchor_step,
               double *tile, bint back) noexcept nogil:
    """Load n elements to a tile, or store them `back` from it."""
    if back:
        store(tile, stride, n, o, at)
    else:
        load(at, stride, n, o.element, o.swapped, anchors, anchor_step, tile)
