# Elements that are read and written in place, as vectors of doubles.

# Types that are read in place.
ctypedef fused native:
    f32
    f64
    f16
    bf16
    i16
    u16
    i32
    u32
    i64
    u64
    uint8_t
    int8_t

ctypedef struct Center:         # what is subtracted from elements
    vec mean
    vec high                    # halves of the anchors of 64-bit integers, which are subtracted first
    vec low


cdef inline bint finite(double x) noexcept nogil:
    return x - x == 0


cdef inline vec values_of(const native *x, Py_ssize_t n, Center center) noexcept nogil:
    """The first n elements as doubles, 64-bit integers less their anchors. Up to VECTOR, any finite numbers follow."""
    if native is f32:
        return load_f32(x) if n == VECTOR else load_some_f32(x, n)
    elif native is f64:
        return load_f64(x) if n == VECTOR else load_some_f64(x, n)
    elif native is f16:
        return load_f16(x) if n == VECTOR else load_some_f16(x, n)
    elif native is bf16:
        return load_bf16(x) if n == VECTOR else load_some_bf16(x, n)
    elif native is i16:
        return load_i16(x) if n == VECTOR else load_some_i16(x, n)
    elif native is u16:
        return load_u16(x) if n == VECTOR else load_some_u16(x, n)
    elif native is i32:
        return load_i32(x) if n == VECTOR else load_some_i32(x, n)
    elif native is u32:
        return load_u32(x) if n == VECTOR else load_some_u32(x, n)
    elif native is i64:
        return load_i64(x, center.high, center.low) if n == VECTOR else load_some_i64(x, n, center.high, center.low)
    elif native is u64:
        return load_u64(x, center.high, center.low) if n == VECTOR else load_some_u64(x, n, center.high, center.low)
    elif native is uint8_t:
        return load_u8(x) if n == VECTOR else load_some_u8(x, n)
    else:
        return load_i8(x) if n == VECTOR else load_some_i8(x, n)


cdef inline double value_of(const native *x, const Anchors *anchors, Py_ssize_t i) noexcept nogil:
    """An element as a double, a 64-bit integer less anchor i."""
    if native is i64 or native is u64:
        return number64(x[0], anchors, i, INT64 if native is i64 else UINT64)
    elif native is f16:
        return half(x[0].bits)
    elif native is bf16:
        return bfloat(x[0].bits)
    else:
        return x[0]


cdef inline Py_ssize_t result_size(const native *x) noexcept nogil:
    """The bytes of an element of the result for x, which has the type of x if that is floating, else float32."""
    if native is f64 or native is f16 or native is bf16:
        return sizeof(native)
    else:
        return sizeof(f32)


cdef inline void write(const native *x, char *y, vec v, Py_ssize_t n, bint stream) noexcept nogil:
    """Store the first n elements of a result for x, or `stream` them to memory."""
    if native is f64:
        if n == VECTOR and stream:
            stream_f64(<f64 *> y, v)
        elif n == VECTOR:
            store_f64(<f64 *> y, v)
        else:
            store_some_f64(<f64 *> y, v, n)
    elif native is f16:
        if n == VECTOR:
            store_f16(<f16 *> y, v)
        else:
            store_some_f16(<f16 *> y, v, n)
    elif native is bf16:
        if n == VECTOR:
            store_bf16(<bf16 *> y, v)
        else:
            store_some_bf16(<bf16 *> y, v, n)
    else:
        if n == VECTOR and stream:
            stream_f32(<f32 *> y, v)
        elif n == VECTOR:
            store_f32(<f32 *> y, v)
        else:
            store_some_f32(<f32 *> y, v, n)
