# Exact sums: of x, and of x * x, as integers in fixed units. Addition of integers is associative: no cut, order, layout or
# number of threads changes a bit.
#
#   tile of doubles -> columns of at most BLOCK_ROWS elements -> exact sums as doubles -> integers in limbs of 64 bits
#
# A bin is a sum that begins with 1.5 * 2**(a + 9), for terms below 2**a. It takes of each term what is a multiple of
# 2**(a - 43), and leaves the rest, which is at most 2**(a - 44). No addition of 256 terms is rounded otherwise: the bin
# stays between 2**(a + 9) and 2**(a + 10). The sum of rests is exact if it has at most 53 bits. For a column with
# |x| < 2**e, where all x are multiples of 2**u:
#
#   up to 24 bits   sum of x; a bin of x * x, and the sum of its rests                                        7 operations
#   up to 32 bits   x * x has more than 53 bits: the sum of rests takes what is lost of it as well            9 operations
#   float64         a bin of x, two of x * x, two of what x * x loses, and three sums of rests                20 operations
#
# The sums of rests are exact where e - u is at most 44, and for float64 at most 89: that of the rests of x is then below
# 2**(e - 36), and those of the squares and of what they lose have fewer digits. A column whose range is wider, or with NaN
# or inf, and 64-bit integers are added element by element.

cdef enum:
    LIMB_BITS = 64
    LANE_ROWS = 8               # rows of a table that are summed together

ctypedef enum Kind:             # what the 64 bits of a tile's element are
    OF_DOUBLE, OF_SIGNED, OF_UNSIGNED

ctypedef struct Exact:          # sums of a channel: two's complement, lower limbs first
    uint64_t *s
    uint64_t *q
    int64_t *counts             # of COUNTED


cdef inline void add_limb(uint64_t *limbs, Py_ssize_t n, Py_ssize_t i, uint64_t value, bint negative) noexcept nogil:
    """Add value * 2**(64 * i), or subtract it."""
    cdef uint64_t before
    while value != 0 and i < n:
        before = limbs[i]
        limbs[i] = before - value if negative else before + value
        value = before < value if negative else limbs[i] < before       # the carry
        i += 1


cdef inline void add_integer(uint64_t *limbs, Py_ssize_t n, uint64_t value, Py_ssize_t place, bint negative) noexcept nogil:
    """Add value * 2**place units, or subtract it."""
    cdef Py_ssize_t i = place // LIMB_BITS, shift = place % LIMB_BITS
    add_limb(limbs, n, i, value << shift, negative)
    if shift > 0:
        add_limb(limbs, n, i + 1, value >> (LIMB_BITS - shift), negative)


cdef inline uint64_t mantissa_of(double x, Py_ssize_t *exponent) noexcept nogil:
    """|x| = mantissa * 2**exponent, for a finite x."""
    cdef uint64_t bits
    cdef Py_ssize_t e
    memcpy(&bits, &x, sizeof(bits))
    e = bits >> 52 & 0x7ff
    exponent[0] = max(e, 1) - 1075
    bits &= (<uint64_t> 1 << 52) - 1
    return bits if e == 0 else bits | <uint64_t> 1 << 52


cdef inline void add_double_to(uint64_t *limbs, Py_ssize_t n, Py_ssize_t unit, double x) noexcept nogil:
    """Add a double. Its digits below the unit are zeros."""
    cdef Py_ssize_t exponent
    cdef uint64_t mantissa = mantissa_of(x, &exponent)
    if mantissa == 0:
        return
    while exponent < unit:
        mantissa >>= 1
        exponent += 1
    add_integer(limbs, n, mantissa, exponent - unit, x < 0)


cdef inline void add_element(const ExactSums *to, Py_ssize_t channel, double x, Kind kind) noexcept nogil:
    """Add one element and its square. What is not finite is counted by itself."""
    cdef uint64_t *limbs = to.limbs + channel * (to.s_limbs + to.q_limbs)
    cdef int64_t *counts = to.counts + channel * COUNTED
    cdef Py_ssize_t exponent = 0, place
    cdef uint64_t mantissa, high, low
    cdef bint negative
    memcpy(&mantissa, &x, sizeof(mantissa))
    if kind == OF_DOUBLE:
        if not finite(x):
            counts[NUMBERS] -= 1
            counts[NANS if x != x else (PLUS_INFS if x > 0 else MINUS_INFS)] += 1
            return
        negative = x < 0
        mantissa = mantissa_of(x, &exponent)
    else:
        negative = kind == OF_SIGNED and <int64_t> mantissa < 0
        mantissa = 0 - mantissa if negative else mantissa
    if mantissa == 0:
        return
    while exponent < to.s_unit:             # The digits below the unit are zeros.
        mantissa >>= 1
        exponent += 1
    add_integer(limbs, to.s_limbs, mantissa, exponent - to.s_unit, negative)
    limbs += to.s_limbs
    high = mantissa >> 32
    low = <uint32_t> mantissa
    place = 2 * exponent - to.q_unit
    add_integer(limbs, to.q_limbs, low * low, place, False)
    add_integer(limbs, to.q_limbs, high * low, place + 33, False)
    add_integer(limbs, to.q_limbs, high * high, place + 64, False)


cdef inline Py_ssize_t last_digit(double least, Element element) noexcept nogil:
    """u, where all numbers of this type that are `least` or more are multiples of 2**u."""
    cdef int exponent
    if element == FLOAT64 or element == FLOAT32 or element == BFLOAT16:
        frexp(least, &exponent)
        if element == FLOAT64:
            return max(exponent - 53, -1074)
        return max(exponent - 24, -149) if element == FLOAT32 else max(exponent - 8, -133)
    return -24 if element == FLOAT16 else 0


cdef inline int exponent_of(double most) noexcept nogil:
    """e, where most < 2**e."""
    cdef int exponent
    frexp(most, &exponent)
    return exponent


cdef inline bint sums_exactly(double most, double least, Element element) noexcept nogil:
    """Whether the sums of a column in this range are exact in doubles."""
    cdef Py_ssize_t e, u
    if not finite(most):
        return False
    if most == 0:
        return True
    e = exponent_of(most)
    u = last_digit(least, element)
    if element == FLOAT64:      # The squares, and what they lose, are doubles as well.
        return e - u <= 89 and e < 500 and 2 * u > -1074
    return e - u <= 44


cdef enum:
    BINS = 8                    # the most sums of a column

ctypedef struct Fixed:          # rows with a number for each column
    double *most                # the range of |x|, but for 0
    double *least
    double *sums[BINS]          # of x: a bin, rests; of x * x: two bins, rests; of what x * x loses: two bins, rests
    double *starts[BINS]        # of the bins


cdef inline double start_of(Py_ssize_t exponent) noexcept nogil:
    """The start of a bin for terms below 2**exponent."""
    return ldexp(1.5, exponent + 9)


cdef inline void start_bins(const Fixed *f, Py_ssize_t j, Element element) noexcept nogil:
    """Set the sums of a column to their starts."""
    cdef Py_ssize_t e = exponent_of(f.most[j])
    cdef double start
    cdef int k
    for k in range(BINS):
        start = 0
        if element == FLOAT64:
            if k == 0:
                start = start_of(e)
            elif k == 2 or k == 3:
                start = start_of(2 * e - 44 * (k - 2))
            elif k == 5 or k == 6:
                start = start_of(2 * e - 54 - 44 * (k - 5))
        elif k == 2:
            start = start_of(2 * e)
        f.sums[k][j] = f.starts[k][j] = start


cdef inline void widen_range(const double *x, Py_ssize_t n, f64_out most, f64_out least) noexcept nogil:
    cdef Py_ssize_t j
    cdef double a
    for j in range(n):
        a = fabs(x[j])
        most[j] = a if a > most[j] else most[j]
        least[j] = a if 0 < a < least[j] else least[j]


cdef inline vec put_in(vec *bin, vec term) noexcept nogil:
    """Add to a bin, and return the rest."""
    cdef vec sum = plus(bin[0], term), rest = minus(term, minus(sum, bin[0]))
    bin[0] = sum
    return rest


cdef inline void add_fixed(Element element, const double *x, Py_ssize_t pitch, int rows, const Fixed *f, Py_ssize_t j,
                           Py_ssize_t n) noexcept nogil:
    """Add some rows to the sums of n columns from column j on."""
    cdef vec sums[BINS]
    cdef vec d, square
    cdef int r, k, n_bins = BINS if element == FLOAT64 else 4
    for k in range(n_bins):
        sums[k] = get(f.sums[k] + j)
    for r in range(rows):
        d = load_f64(<const f64 *> x + r * pitch + j) if n == VECTOR else load_some_f64(<const f64 *> x + r * pitch + j, n)
        square = d * d
        if element == FLOAT64:
            sums[1] = plus(sums[1], put_in(&sums[0], d))
            sums[4] = plus(sums[4], put_in(&sums[3], put_in(&sums[2], square)))
            sums[7] = plus(sums[7], put_in(&sums[6], put_in(&sums[5], fma_of(d, d, -square))))
        else:
            sums[0] = plus(sums[0], d)
            sums[3] = plus(sums[3], put_in(&sums[2], square))
            if element == INT32:
                sums[3] = plus(sums[3], fma_of(d, d, -square))
    for k in range(n_bins):
        put(f.sums[k] + j, sums[k])


cdef inline void add_rows(Element element, const double *x, Py_ssize_t pitch, int rows, Py_ssize_t width,
                          const Fixed *f) noexcept nogil:
    cdef Py_ssize_t j = 0
    while j < width - VECTOR + 1:
        add_fixed(element, x, pitch, rows, f, j, VECTOR)
        j += VECTOR
    if j < width:
        add_fixed(element, x, pitch, rows, f, j, width - j)


cdef inline void add_table(Element element, const double *x, Py_ssize_t n_rows, Py_ssize_t width, Py_ssize_t tail,
                           const Fixed *f) noexcept nogil:
    cdef Py_ssize_t r = 0
    while r + LANE_ROWS <= n_rows:
        add_rows(element, x + r * width, width, LANE_ROWS, width, f)
        r += LANE_ROWS
    while r < n_rows:
        add_rows(element, x + r * width, width, 1, width, f)
        r += 1
    add_rows(element, x + n_rows * width, width, 1, tail, f)


cdef inline void settle_bins(const Fixed *f, Py_ssize_t j, Py_ssize_t channel, const ExactSums *to) noexcept nogil:
    """Add the sums of a column to those of its channel."""
    cdef uint64_t *limbs = to.limbs + channel * (to.s_limbs + to.q_limbs)
    cdef double sum
    cdef int k
    for k in range(BINS):
        sum = f.sums[k][j] - f.starts[k][j]
        if sum != 0 and k < 2:
            add_double_to(limbs, to.s_limbs, to.s_unit, sum)
        elif sum != 0:
            add_double_to(limbs + to.s_limbs, to.q_limbs, to.q_unit, sum)


cdef void sum_exactly(const double *x, Py_ssize_t n_rows, Py_ssize_t width, Py_ssize_t tail, Element element, Kind kind,
                      const Fixed *f, Py_ssize_t first, Py_ssize_t channels, Py_ssize_t inner,
                      const ExactSums *to) noexcept nogil:
    """Add a table of at most BLOCK_ROWS contiguous rows, and the first `tail` elements of one more, to the sums of channels
    from the first one on. The columns are an array (fold, channels, inner)."""
    cdef Py_ssize_t i, j, r, c
    cdef bint fast = element not in (INT64, UINT64)
    if fast:
        for j in range(width):
            f.most[j] = 0
            f.least[j] = INFINITY
        for r in range(n_rows):
            widen_range(x + r * width, width, f.most, f.least)
        widen_range(x + n_rows * width, tail, f.most, f.least)
        for j in range(width):
            start_bins(f, j, element)
        if element == FLOAT64:
            add_table(FLOAT64, x, n_rows, width, tail, f)
        elif element == INT32 or element == UINT32:
            add_table(INT32, x, n_rows, width, tail, f)
        else:
            add_table(FLOAT32, x, n_rows, width, tail, f)
    j = 0
    while j < width:
        for c in range(channels):
            for i in range(inner):
                # A column with NaN, which has no place in a range, has a sum that is NaN.
                if fast and finite(f.sums[0][j]) and sums_exactly(f.most[j], f.least[j], element):
                    settle_bins(f, j, first + c, to)
                else:
                    for r in range(n_rows + (j < tail)):
                        add_element(to, first + c, x[r * width + j], kind)
                j += 1


cdef void count_block(const Block *b, Py_ssize_t first, const ExactSums *to) noexcept nogil:
    """Count the elements that are selected, and set the others to 0."""
    cdef Py_ssize_t c, i, k, n_positions = b.n if b.count == ALL else 0
    cdef double *x = <double *> b.layout[0].data
    cdef const flag *positions = <const flag *> b.weights
    if b.flags != NULL:
        set_unselected(b, 0, NULL)
    if b.count != ALL:
        for i in range(b.n):
            n_positions += positions[i] != 0
    for c in range(b.n_channels):
        to.counts[(first + c) * COUNTED + NUMBERS] += n_positions if b.flags == NULL else 0
    if b.flags == NULL and n_positions == b.n:
        return
    for i in range(b.n):
        for c in range(b.n_channels):
            # A block by columns is an array (units, channels, inner), one by runs (channels, positions).
            k = c * b.n + i if b.by_runs else (i // b.inner * b.n_channels + c) * b.inner + i % b.inner
            if b.flags != NULL:
                to.counts[(first + c) * COUNTED + NUMBERS] += b.flags[k] != 0
            elif positions[i] == 0:
                x[k] = 0


cdef int exact_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """Add a task to its sums: those of its channels, or if its chunk has several, its own."""
    cdef const Plan *p = &job.plan
    cdef Task t = make_task(job.view, p, task)
    cdef double stack[ROOM_DOUBLES]
    cdef Py_ssize_t i, c, j, part, first = t.place, limbs
    cdef ExactSums to = job.exact[0]
    cdef Element element = job.element
    cdef Kind kind = OF_SIGNED if element == INT64 else (OF_UNSIGNED if element == UINT64 else OF_DOUBLE)
    cdef Anchors anchors
    cdef Scratch scratch
    cdef Fixed f
    cdef Block b
    cdef const double *x
    if not make_scratch(job.view, p, (2 + 2 * BINS) * p.pitch, stack, &scratch):
        return -1
    f.most = scratch.rows
    f.least = f.most + p.pitch
    for i in range(BINS):
        f.sums[i] = f.most + (2 + i) * p.pitch
        f.starts[i] = f.most + (2 + BINS + i) * p.pitch
    anchors.high = anchors.low = NULL
    if p.chunk_tasks > 1 or t.step != 1:
        limbs = to.s_limbs + to.q_limbs
        first = 0
        to.limbs += job.view.n_channels * limbs + task * p.chunk * limbs
        to.counts += job.view.n_channels * COUNTED + task * p.chunk * COUNTED
    for i in range(t.start, t.stop):
        b = make_block(job.view, p, &t, i, &anchors, scratch.tile)
        count_block(&b, first, &to)
        x = <const double *> b.layout[0].data
        if not b.by_runs:
            sum_exactly(x, b.n_rows, b.width, b.tail, element, kind, &f, first, t.channels, b.inner, &to)
            continue
        for c in range(t.channels):
            for j in range(ceil_div(b.n, PART_ELEMENTS)):
                part = min(b.n - j * PART_ELEMENTS, <Py_ssize_t> PART_ELEMENTS)
                sum_exactly(x + c * b.n + j * PART_ELEMENTS, part // LANES, LANES, part % LANES, element, kind, &f,
                            first + c, 1, 1, &to)
    give_back(&scratch)
    return 0


cdef void merge_exact(const Job *job) noexcept nogil:
    """Add the sums of tasks to those of their channels."""
    cdef const ExactSums *to = job.exact
    cdef Py_ssize_t limbs = to.s_limbs + to.q_limbs, n = job.view.n_channels, task, c, i, k
    cdef const uint64_t *part
    cdef uint64_t *sums
    cdef Task t
    for task in range(n_tasks(job)):
        t = make_task(job.view, &job.plan, task)
        for c in range(t.channels):
            part = to.limbs + (n + task * job.plan.chunk + c) * limbs
            sums = to.limbs + (t.place + c * t.step) * limbs
            for i in range(limbs):          # q may not carry into the next channel, nor s into q.
                k = to.s_limbs if i < to.s_limbs else limbs
                add_limb(sums, k, i, part[i], False)
            for i in range(COUNTED):
                to.counts[(t.place + c * t.step) * COUNTED + i] += to.counts[(n + task * job.plan.chunk + c) * COUNTED + i]


cdef Py_ssize_t exact_channels(const View *view, int n_threads) noexcept nogil:
    """The channels that `limbs` and `counts` need room for: those of the view, and those of tasks that share them."""
    cdef Job job = make_job(view, NULL, NULL, False, n_threads, SUM)
    if job.plan.chunk_tasks == 1 and last_kept(view).stride[RESULT] == 1:
        return view.n_channels
    return view.n_channels + n_tasks(&job) * job.plan.chunk


cdef int exact(const View *view, const ExactSums *sums, Element element, int n_threads) noexcept nogil:
    cdef Job job = make_job(view, NULL, NULL, False, n_threads, SUM)
    cdef int failed
    job.exact = sums
    job.element = element
    failed = perform(&job, exact_task, n_tasks(&job), False)
    if not failed and (job.plan.chunk_tasks > 1 or last_kept(view).stride[RESULT] != 1):
        merge_exact(&job)
    return failed
