# The sums of a run of one channel. A run is read in the order of memory, as rows of LANES elements, whose accumulators stay
# in the L1 cache. With a prefetch this is as fast as a plain read from memory; rows of 128 elements took a quarter longer.

cdef inline double sum_of(double *x, Py_ssize_t n) noexcept nogil:
    """The sum of x, taken in halves because equal terms added in turn all round to the same side. x is overwritten."""
    cdef Py_ssize_t i, half
    while n > 1:
        half = (n + 1) // 2
        for i in range(n // 2):
            x[i] += x[half + i]
        n = half
    return x[0]


cdef inline void part_sums(const number *x, Py_ssize_t n, Py_ssize_t ahead, double shift, double *s,
                           double *q) noexcept nogil:
    """Add a part of n elements to s and q, as rows of lanes. The last row ends with the last element."""
    cdef double lane_s[LANES]
    cdef double lane_q[LANES]
    cdef Py_ssize_t i, n_rows = n // LANES, tail = n % LANES
    for i in range(LANES):
        lane_s[i] = lane_q[i] = 0
    for i in range(n_rows // 8):
        prefetch(x + ahead, 8 * LANES * sizeof(number))
        eight_rows(x, LANES, LANES, &shift, True, lane_s, lane_q)
        x += 8 * LANES
    prefetch(x + ahead, n % (8 * LANES) * sizeof(number))
    for i in range(n_rows % 8):
        one_row(x, 0, LANES, &shift, True, lane_s, lane_q)
        x += LANES
    if n > LANES and tail > 0:
        one_row(x + tail - LANES, LANES - tail, LANES, &shift, True, lane_s, lane_q)
    elif tail > 0:
        one_row(x, 0, tail, &shift, True, lane_s, lane_q)
    s[0] += sum_of(lane_s, LANES)
    q[0] += sum_of(lane_q, LANES)


cdef inline void run_sums(const number *x, Py_ssize_t n, Py_ssize_t ahead, double shift, double *s,
                          double *q) noexcept nogil:
    """Add a run of one channel to s and q, part by part, because equal terms all round to the same side."""
    cdef Py_ssize_t i
    for i in range(n // PART):
        part_sums(x + i * PART, PART, ahead, shift, s, q)
    if n % PART > 0:
        part_sums(x + n // PART * PART, n % PART, ahead, shift, s, q)


cdef inline void run_sums_some(const number *x, Py_ssize_t n, Py_ssize_t ahead, double shift, const char *weights,
                               Count count, double *total, double *s, double *q) noexcept nogil:
    """Add the elements that count to s and q. With FINITE, add their weights to total, which then differ by channel."""
    cdef double lane_n[LANES]
    cdef double lane_s[LANES]
    cdef double lane_q[LANES]
    cdef double room[8 * LANES]
    cdef const double *each
    cdef Py_ssize_t i, part
    while n > 0:
        part = min(n, PART)
        n -= part
        for i in range(LANES):
            lane_n[i] = lane_s[i] = lane_q[i] = 0
        while part >= 8 * LANES:
            prefetch(x + ahead, 8 * LANES * sizeof(number))
            each = doubles(weights, 8 * LANES, count, room)
            some_rows(x, LANES, LANES, &shift, each, True, count, lane_n, lane_s, lane_q)
            x += 8 * LANES
            weights += bytes_of(8 * LANES, count)
            part -= 8 * LANES
        each = doubles(weights, part, count, room)
        weights += bytes_of(part, count)
        while part > 0:
            one_row_some(x, min(part, LANES), &shift, each, True, count, lane_n, lane_s, lane_q)
            x += min(part, LANES)
            each += step_of(min(part, LANES), count)
            part -= LANES
        if count & FINITE:
            total[0] += sum_of(lane_n, LANES)
        s[0] += sum_of(lane_s, LANES)
        q[0] += sum_of(lane_q, LANES)


cdef inline void byte_run_sums(const byte *x, Py_ssize_t n, Py_ssize_t ahead, double *s, double *q) noexcept nogil:
    cdef double lane_s[BYTE_LANES]
    cdef double lane_q[BYTE_LANES]
    cdef uint32_t room[2 * BYTE_LANES]
    cdef Py_ssize_t rows = n // BYTE_LANES
    memset(lane_s, 0, sizeof(lane_s))
    memset(lane_q, 0, sizeof(lane_q))
    byte_columns(x, BYTE_LANES, rows, BYTE_LANES, ahead, room, lane_s, lane_q)
    byte_columns(x + rows * BYTE_LANES, 0, n > rows * BYTE_LANES, n - rows * BYTE_LANES, 0, room, lane_s, lane_q)
    s[0] += sum_of(lane_s, BYTE_LANES)
    q[0] += sum_of(lane_q, BYTE_LANES)
