# The sums of a run of one channel, in the order of memory.

cdef inline void prefetch_run(Op op, const native *x, const native *dy, Py_ssize_t n) noexcept nogil:
    prefetch(x, n * sizeof(native))
    if op == GRADIENTS:
        prefetch(dy, n * sizeof(native))


cdef inline void prefetch_line(const native *x, Py_ssize_t j) noexcept nogil:
    """Prefetch element j if it is the first one of a cache line, taking x to begin at one."""
    if j % (LINE_BYTES // <Py_ssize_t> sizeof(native)) == 0:
        prefetch(x + j, 1)


cdef inline Sums sum_of_lanes(Op op, Sums *lanes) noexcept nogil:
    """Halve the lanes until they fill one vector."""
    cdef Py_ssize_t k, n = LANES // VECTOR
    while n > 1:
        n //= 2
        for k in range(n):
            lanes[k] = both(op, lanes[k], lanes[n + k])
    return lanes[0]


cdef inline void sum_run(Op op, Count count, const native *x, const native *dy, Py_ssize_t x_ahead, Py_ssize_t dy_ahead,
                         Py_ssize_t n, const Columns *w, const char *weights) noexcept nogil:
    """Add a run of n elements of one channel: part by part, because equal terms all round to the same side. A part is a
    table of lanes, whose sums stay in registers."""
    cdef Sums lanes[LANES]      # LANES // VECTOR of them are used.
    cdef Sums total
    cdef Center center = center_of(x, w, 0, True)
    cdef const native *start
    cdef Py_ssize_t i, j, k, part
    while n > 0:
        part = min(n, PART_ELEMENTS)
        n -= part
        start = x
        for k in range(LANES // VECTOR):
            lanes[k].n = lanes[k].squares = lanes[k].s = lanes[k].q = all_of(0)
            if op == POWERS:
                lanes[k].cubes = lanes[k].fourths = all_of(0)
        for i in range(part // (8 * LANES)):
            prefetch_run(op, x + x_ahead, dy + dy_ahead, 8 * LANES)
            for k in range(LANES // VECTOR):
                j = k * VECTOR
                total = eight_terms(op, count, True, x + j, dy + j, LANES, LANES, center, weights, j, LANES, VECTOR)
                lanes[k] = both(op, lanes[k], total)
            x += 8 * LANES
            dy += 8 * LANES
            weights += bytes_of(8 * LANES, count)
        part %= 8 * LANES
        prefetch_run(op, x + x_ahead, dy + dy_ahead, part)
        for i in range(part // LANES):
            for k in range(LANES // VECTOR):
                j = k * VECTOR
                total = term(op, count, True, x + j, dy + j, center, weights, j, VECTOR)
                lanes[k] = both(op, lanes[k], total)
            x += LANES
            dy += LANES
            weights += bytes_of(LANES, count)
        part %= LANES
        for k in range(LANES // VECTOR):
            j = k * VECTOR
            if j < part:
                total = term(op, count, True, x + j, dy + j, center, weights, j, min(part - j, VECTOR))
                lanes[k] = both(op, lanes[k], total)
        x += part
        dy += part
        weights += bytes_of(part, count)
        if op == MORE or op == POWERS and count == ALL and w.least != NULL:     # from the L1 cache
            extreme_run(start, x - start, w.least, w.greatest)
        total = sum_of_lanes(op, lanes)
        if op in (MOMENTS, MORE, POWERS) and count & FINITE:
            w.n[0] += sum_of(total.n)
            if count & WEIGHTED:
                w.squares[0] += sum_of(total.squares)
        w.s[0] += sum_of(total.s)
        w.q[0] += sum_of(total.q)
        if op == POWERS:
            w.cubes[0] += sum_of(total.cubes)
            w.fourths[0] += sum_of(total.fourths)
