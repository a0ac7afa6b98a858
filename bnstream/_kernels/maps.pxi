# Maps: one result for each element, row by row. Past the cache, neighboring rows in turns took twice as long on Zen 4. If
# rows are so wide that their coefficients do not stay in the L1 cache, four rows share one load of them, one of each section
# of a table. By runs, the coefficients of the channel stay in registers.

cdef enum:
    MAP_ROWS = 4

ctypedef struct Coefficients:   # of a vector of columns, or of one channel
    Center center
    vec scale
    vec beta
    vec slope
    vec rest                    # see elementwise.pxi
    Py_ssize_t to_beta


cdef inline Coefficients coefficients_of(Op op, const native *x, const Columns *w, Py_ssize_t j, bint one) noexcept nogil:
    cdef Coefficients by
    by.center = center_of(x, w, j, one)
    by.to_beta = w.to_beta
    by.scale = all_of(w.scale[0]) if one else get(w.scale + j)
    by.beta = all_of(w.beta[0]) if one else get(w.beta + j)
    if op == SLOPE:
        by.slope = all_of(w.slope[0]) if one else get(w.slope + j)
    return by


cdef inline vec slope_of(vec dy, vec d, Coefficients by) noexcept nogil:
    return minus(minus(dy * by.scale, by.beta), d * by.slope)


cdef inline mask map_vector(Op op, Count count, bint one, bint stream, const native *x, const native *dy, char *y,
                            Coefficients by, const char *weights, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Map n elements of a row from column j on. Return which of them are inf, for LOOK."""
    cdef vec value = values_of(x + j, n, by.center)     # x is read before y is written, which may replace it.
    cdef vec d = minus(value, by.center.mean), g
    cdef Py_ssize_t at = j if one else 0
    if op == SLOPE:
        g = values_of(dy + j, n, by.center)
        if count == WEIGHTED:
            g = g * weights_at(weights, at, one, count)
        d = slope_of(g, d, by)
    else:
        d = plus(d * by.scale, by.beta)
        if count == WEIGHTED:
            d = plus(d * weights_at(weights, at, one, count), get(<const double *> weights + at + by.to_beta))
    if count & ~WEIGHTED:
        d = keep(d, counted(count, value, weights_at(weights, at, one, count), weights, at, one, n))
    write(x, y + j * result_size(x), d, n, stream)
    return infinite(value) if op == LOOK else first(0)


cdef inline mask map_columns(Op op, Count count, bint one, bint stream, int rows, const native *x, const native *dy,
                             char *y, Coefficients by, const Table *t, const Columns *w, const char *weights,
                             Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Map n columns from column j on, of one row or of one in each section. Unless they are of `one` channel, each has
    coefficients of its own."""
    cdef Py_ssize_t r, step = t.n_rows // MAP_ROWS
    cdef mask found = first(0)
    if not one:
        by = coefficients_of(op, x, w, j, False)
    for r in range(rows):
        found = found | map_vector(op, count, one, stream, x + r * step * t.x.pitch, dy + r * step * t.dy.pitch,
                                   y + r * step * t.y.pitch * result_size(x), by, weights + bytes_of(r * step, count), j, n)
    return found


cdef inline mask map_row(Op op, Count count, bint one, bint stream, int rows, const native *x, const native *dy, char *y,
                         const Table *t, Py_ssize_t width, const Columns *w, const char *weights) noexcept nogil:
    """Map one row of `width` columns, or one in each section; or a run of `one` channel."""
    cdef Coefficients by = coefficients_of(op, x, w, 0, True)
    cdef mask found = first(0)
    cdef Py_ssize_t j = 0
    cdef bint ahead = t.x.ahead != 0
    while j < width - VECTOR + 1:
        if one and stream and ahead:
            prefetch_line(x + t.x.ahead, j)
            if op == SLOPE:
                prefetch_line(dy + t.dy.ahead, j)
        found = found | map_columns(op, count, one, stream, rows, x, dy, y, by, t, w, weights, j, VECTOR)
        j += VECTOR
    if j < width:
        found = found | map_columns(op, count, one, stream, rows, x, dy, y, by, t, w, weights, j, width - j)
    return found


cdef inline mask map_table(Op op, Count count, bint stream, const native *x, const native *dy, char *y, const Table *t,
                           const Columns *w, const char *weights) noexcept nogil:
    cdef Py_ssize_t r, n = t.n_rows // MAP_ROWS if t.width > NARROW_COLUMNS and not stream else 0   # Narrow rows stream.
    cdef mask found = first(0)
    for r in range(n):
        found = found | map_row(op, count, False, stream, MAP_ROWS, x + r * t.x.pitch, dy + r * t.dy.pitch,
                                y + r * t.y.pitch * result_size(x), t, t.width, w, weights + bytes_of(r, count))
    for r in range(n * MAP_ROWS, t.n_rows + (t.tail > 0)):
        found = found | map_row(op, count, False, stream, 1, x + r * t.x.pitch, dy + r * t.dy.pitch,
                                y + r * t.y.pitch * result_size(x), t, t.width if r < t.n_rows else t.tail, w,
                                weights + bytes_of(r, count))
    return found
