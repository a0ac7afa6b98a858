# The sums of a run of one channel: in memory's order, as rows of LANES columns, whose accumulators stay in the L1 cache.
# Read so, with a prefetch, it comes from memory as fast as by a plain read, where rows of 128 columns took a quarter longer.

cdef inline double sum_of(const double *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef double lane[8]
    for j in range(8):
        lane[j] = 0
    for i in range(n // 8):
        for j in range(8):
            lane[j] += x[8 * i + j]
    for j in range(n & 7):
        lane[j] += x[(n & -8) + j]
    return tree(lane[0], lane[1], lane[2], lane[3], lane[4], lane[5], lane[6], lane[7])


cdef inline double sum_of_lanes(const double *x) noexcept nogil:
    """The same of LANES doubles: their loop takes whole vectors."""
    cdef double lane[8]
    cdef Py_ssize_t j
    for j in range(8):
        lane[j] = (x[j] + x[j + 8]) + (x[j + 16] + x[j + 24])
    return tree(lane[0], lane[1], lane[2], lane[3], lane[4], lane[5], lane[6], lane[7])


cdef inline void run_sums(const number *x, Py_ssize_t n, Py_ssize_t ahead, double shift, double *s,
                          double *q) noexcept nogil:
    """Add a run of one channel to s and q, as rows of LANES columns, the last one from its end back."""
    cdef double lane_s[LANES]
    cdef double lane_q[LANES]
    cdef Py_ssize_t i, rest = n % (8 * LANES)
    for i in range(LANES):
        lane_s[i] = lane_q[i] = 0
    for i in range(n // (8 * LANES)):
        prefetch(x + ahead, 8 * LANES * sizeof(number))
        eight_rows(x, LANES, LANES, &shift, True, lane_s, lane_q)
        x += 8 * LANES
    prefetch(x + ahead, rest * sizeof(number))
    for i in range(rest // LANES):
        one_row(x, 0, LANES, &shift, True, lane_s, lane_q)
        x += LANES
    rest = n % LANES
    if n > LANES and rest > 0:
        one_row(x + rest - LANES, LANES - rest, LANES, &shift, True, lane_s, lane_q)
    elif rest > 0:
        one_row(x, 0, rest, &shift, True, lane_s, lane_q)
    s[0] += sum_of_lanes(lane_s)
    q[0] += sum_of_lanes(lane_q)


cdef inline void run_sums_omit(const number *x, Py_ssize_t n, double shift, double *count, double *s,
                               double *q) noexcept nogil:
    cdef double shifts[LANES]
    cdef double lane_n[LANES]
    cdef double lane_s[LANES]
    cdef double lane_q[LANES]
    cdef Py_ssize_t i, rows = n // LANES
    for i in range(LANES):
        shifts[i] = shift
        lane_n[i] = lane_s[i] = lane_q[i] = 0
    columns_omit(x, LANES, rows, LANES, shifts, lane_n, lane_s, lane_q)
    columns_omit(x + rows * LANES, 0, n > rows * LANES, n - rows * LANES, shifts, lane_n, lane_s, lane_q)
    count[0] += sum_of_lanes(lane_n)
    s[0] += sum_of_lanes(lane_s)
    q[0] += sum_of_lanes(lane_q)


cdef inline void byte_run_sums(const byte *x, Py_ssize_t n, Py_ssize_t ahead, double *s, double *q) noexcept nogil:
    cdef double lane_s[BYTE_LANES]
    cdef double lane_q[BYTE_LANES]
    cdef Py_ssize_t rows = n // BYTE_LANES
    memset(lane_s, 0, sizeof(lane_s))
    memset(lane_q, 0, sizeof(lane_q))
    byte_columns(x, BYTE_LANES, rows, BYTE_LANES, ahead, lane_s, lane_q)
    byte_columns(x + rows * BYTE_LANES, 0, n > rows * BYTE_LANES, n - rows * BYTE_LANES, 0, lane_s, lane_q)
    s[0] += sum_of(lane_s, BYTE_LANES)
    q[0] += sum_of(lane_q, BYTE_LANES)
