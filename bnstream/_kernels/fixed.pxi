# Sums of columns that are exact in doubles, where the range of the column allows it.
#
# A bin begins with 1.5 * 2**52 units. As long as it is between 2**52 and 2**53 units, it is a whole number of them, its bits
# count them, and an addition leaves a rest of at most half a unit, which is a double. These are the units of the bins of a
# column with |x| < 2**e and at most 256 elements (e - 43 stands for 2**(e - 43)), and the vector operations an element:
#
#                      sum of x        sum of x * x                 what x * x loses             operations
#   up to 24 bits      e - 43          2e - 43, its rest 2e - 86                                 7, or 10 with a check
#   up to 32 bits      e - 43          2e - 43, its rest 2e - 86    likewise 2e - 86             9
#   float64            e - 43, e - 87  2e - 43, 2e - 87, 2e - 131   2e - 95, 2e - 139, 2e - 183  26
#
# The first bin of x * x only grows. It begins 256 units higher, as 256 additions may round away 128. If it ends below 2**53
# units, the sum of x * x is below 2**(2e + 8), that of |x| therefore below 2**(e + 8), and that of what is lost below
# 2**(2e - 45): no bin has left its range. A last rest may have digits below its unit. Where the type does not rule it out,
# its addition is checked: `lost` collects the bits of what it rounded away. So no column has to be looked at before it is
# summed. Sums that turn out not to be exact are dropped, and the column is added again with a window, its 2**e, that suits
# it; or, if none does, element by element.

cdef enum:
    BINS = 8                    # the most bins of a column
    NO_WINDOW = -32768
    MOST_SETTLED = 256          # parts or blocks after which totals are added to limbs; 288 * 2**54 < 2**63

cdef double START = 1.5                 # of a bin, times 2**52 units
cdef double HIGHER = 1.5 + 2.0**-44     # 256 units more

ctypedef enum Width:            # what is known of the elements
    WHOLE                       # integers of at most 16 bits: plain sums are exact
    INTEGER                     # integers of at most 32 bits
    HALF                        # float16: all of its numbers are in one window
    SINGLE                      # at most 24 bits
    DOUBLE
    LONG                        # integers of 64 bits: element by element

ctypedef struct Fixed:          # rows with a number for each column, or by runs for each channel
    Width width
    int n_bins
    int last_digit              # of the type
    Element element             # of x
    Limbs to                    # the sums of the channels
    double *starts[BINS]
    double *sums[BINS]
    int64_t *totals[BINS]       # of sums that were exact, in units
    int64_t *lost
    int64_t *window


cdef inline Width width_of(Element element, bint tiled) noexcept nogil:
    if element in (INT64, UINT64):
        return LONG
    if element in (INT32, UINT32):
        return DOUBLE if tiled else INTEGER
    if element == FLOAT32 or element == BFLOAT16:
        return SINGLE
    if element == FLOAT16:
        return SINGLE if tiled else HALF
    return DOUBLE if element == FLOAT64 else WHOLE


cdef inline int last_digit_of(Element element) noexcept nogil:
    """The exponent of the last digit that a number of this type can have."""
    if element == FLOAT64:
        return -1074
    if element == FLOAT32 or element == BFLOAT16:
        return -149
    return -24 if element == FLOAT16 else 0


cdef inline int unit_of(Width width, int k, int e) noexcept nogil:
    """The exponent of the unit of bin k in the window 2**e."""
    if width == WHOLE:
        return 0
    if k == 0:
        return e - 43
    if width != DOUBLE:
        return 2 * e - (43 if k == 1 else 86)
    if k == 1:
        return e - 87
    return 2 * e - (43 + 44 * (k - 2) if k < 5 else 95 + 44 * (k - 5))


cdef inline int first_square(Width width) noexcept nogil:
    """The first bin of x * x."""
    return 2 if width == DOUBLE else 1


cdef inline double power_of_two(int exponent) noexcept nogil:
    return as_double(<uint64_t> (exponent + 1023) << 52)


cdef inline int exponent_of(double x) noexcept nogil:
    """The e with 2**(e - 1) <= |x| < 2**e; -1021 for denormal numbers."""
    cdef uint64_t bits
    memcpy(&bits, &x, sizeof(bits))
    return max(<int> (bits >> 52 & 0x7ff), 1) - 1022


cdef inline void open_window(const Fixed *f, Py_ssize_t j, int e) noexcept nogil:
    cdef int k
    f.window[j] = e
    for k in range(f.n_bins):
        f.starts[k][j] = (HIGHER if k == first_square(f.width) else START) * power_of_two(unit_of(f.width, k, e) + 52)


cdef inline int window_for(const Fixed *f, double most, double least) noexcept nogil:
    """A window for numbers from `least` to `most`, with room for some four times as large; NO_WINDOW if their digits do not
    fit in one."""
    cdef int e = exponent_of(most), digits = 8 if f.element == BFLOAT16 else (53 if f.width == DOUBLE else 24)
    cdef int last = max(exponent_of(least) - digits, f.last_digit), span = 87 if f.width == DOUBLE else 43
    if e - last > span:
        return NO_WINDOW
    e = min(e + 2, last + span)
    return NO_WINDOW if f.width == DOUBLE and not -440 < e < 500 else e


cdef inline vec add_to_bin(vec *bin, vec term) noexcept nogil:
    """Add to a bin, and return the rest."""
    cdef vec sum = bin[0] + term, rest = minus(term, sum - bin[0])
    bin[0] = sum
    return rest


cdef inline void add_last(vec *bin, longs *lost, vec term) noexcept nogil:
    """Add to a bin, and collect the bits of the rest."""
    lost[0] = lost[0] | bits_of(add_to_bin(bin, term))


cdef inline void add_terms(Width width, vec *bins, longs *lost, vec x) noexcept nogil:
    """Add x and x * x to the bins."""
    cdef vec square = x * x
    if width == DOUBLE:
        add_last(&bins[1], lost, add_to_bin(&bins[0], x))
        add_last(&bins[4], lost, add_to_bin(&bins[3], add_to_bin(&bins[2], square)))
        bins[7] = plus(bins[7], add_to_bin(&bins[6], add_to_bin(&bins[5], fma_of(x, x, -square))))
        return
    if width == SINGLE:
        add_last(&bins[0], lost, x)
    else:
        bins[0] = plus(bins[0], x)
    bins[2] = plus(bins[2], add_to_bin(&bins[1], square))
    if width == INTEGER:
        bins[2] = plus(bins[2], fma_of(x, x, -square))


cdef inline longs astray(longs lost, vec squares, vec start) noexcept nogil:
    """Not 0 where the sums are not exact. The rest of -0 is -0."""
    return lost << 1 | (bits_of(squares) ^ bits_of(start)) >> 52


cdef inline int bins_of(Width width) noexcept nogil:
    return 2 if width == WHOLE else (8 if width == DOUBLE else 3)


cdef inline Center nothing() noexcept nogil:
    """What `values_of` subtracts only from 64-bit integers."""
    cdef Center center
    center.mean = center.high = center.low = all_of(0)
    return center


cdef inline int rows_together(Width width) noexcept nogil:
    """How many rows are summed together."""
    return 4 if width == DOUBLE else 8


cdef inline void bin_vector(Width width, int n_rows, const native *x, Py_ssize_t step, const Fixed *f, Py_ssize_t j,
                            Py_ssize_t n) noexcept nogil:
    """Add `n_rows`, a compile-time constant, to the bins of n columns from column j on."""
    cdef Center center = nothing()
    cdef vec bins[BINS]
    cdef longs lost = get_longs(f.lost + j)
    cdef int k, r
    for k in range(bins_of(width)):
        bins[k] = get(f.sums[k] + j)
    for r in range(n_rows):
        add_terms(width, bins, &lost, values_of(x + j + r * step, n, center))
    for k in range(bins_of(width)):
        put(f.sums[k] + j, bins[k])
    put_longs(f.lost + j, lost)


cdef inline void bin_rows(Width width, int n_rows, const native *x, Py_ssize_t step, Py_ssize_t n_columns,
                          const Fixed *f) noexcept nogil:
    cdef Py_ssize_t j = 0
    cdef int r
    while j < n_columns - VECTOR + 1:
        bin_vector(width, n_rows, x, step, f, j, VECTOR)
        j += VECTOR
    if j < n_columns:
        for r in range(n_rows):
            bin_vector(width, 1, x + r * step, 0, f, j, n_columns - j)


cdef inline void bin_table(Width width, const native *x, const Block *b, const Fixed *f) noexcept nogil:
    """Sum the columns of a table. Like the loops of the moments, it adds one row of each section together."""
    cdef Py_ssize_t r, pitch = b.layout[0].pitch, step = b.n_rows // rows_together(width)
    cdef Py_ssize_t n_bytes = round_up(b.width, GRANULE) * sizeof(double)
    cdef int k
    for k in range(bins_of(width)):
        memcpy(f.sums[k], f.starts[k], n_bytes)
    memset(f.lost, 0, n_bytes)
    for r in range(step):
        bin_rows(width, rows_together(width), x + r * pitch, step * pitch, b.width, f)
    for r in range(rows_together(width) * step, b.n_rows + (b.tail > 0)):
        bin_rows(width, 1, x + r * pitch, 0, b.width if r < b.n_rows else b.tail, f)


cdef inline bint bin_run(Width width, const native *x, Py_ssize_t n, const Fixed *f, Py_ssize_t c) noexcept nogil:
    """Add at most PART_ELEMENTS elements of one channel to its totals, if the sums are exact. Return whether they are."""
    cdef Center center = nothing()
    cdef vec bins[LANES][BINS]  # LANES // VECTOR of them are used.
    cdef vec starts[BINS]
    cdef longs lost[LANES]
    cdef longs wrong, total
    cdef Py_ssize_t i, some
    cdef int k, lane, squares = first_square(width)
    for k in range(bins_of(width)):
        starts[k] = all_of(f.starts[k][c])
        for lane in range(LANES // VECTOR):
            bins[lane][k] = starts[k]
    for lane in range(LANES // VECTOR):
        lost[lane] = bits_of(all_of(0))
    for i in range(n // LANES):
        for lane in range(LANES // VECTOR):
            add_terms(width, bins[lane], &lost[lane], values_of(x + lane * VECTOR, VECTOR, center))
        x += LANES
    n %= LANES
    for lane in range(LANES // VECTOR):
        some = min(n - lane * VECTOR, VECTOR)
        if some > 0:
            add_terms(width, bins[lane], &lost[lane], values_of(x + lane * VECTOR, some, center))
    wrong = bits_of(all_of(0))
    for lane in range(LANES // VECTOR):
        wrong = wrong | astray(lost[lane], bins[lane][squares], starts[squares])
    if any_set(wrong):
        return False
    for k in range(bins_of(width)):
        total = bits_of(all_of(0))
        for lane in range(LANES // VECTOR):
            total = total + (bits_of(bins[lane][k]) - bits_of(starts[k]))
        f.totals[k][c] += sum_of_longs(total)
    return True


cdef inline bint settle_vector(Width width, const Fixed *f, Py_ssize_t j) noexcept nogil:
    """Add the sums of a vector of columns to their totals, if all are exact. Return whether they are; else `lost` tells
    which are not."""
    cdef int k, squares = first_square(width)
    cdef longs wrong = astray(get_longs(f.lost + j), get(f.sums[squares] + j), get(f.starts[squares] + j))
    if any_set(wrong):
        put_longs(f.lost + j, wrong)
        return False
    for k in range(bins_of(width)):
        put_longs(f.totals[k] + j,
                  get_longs(f.totals[k] + j) + (bits_of(get(f.sums[k] + j)) - bits_of(get(f.starts[k] + j))))
    return True


cdef void settle_column(const Fixed *f, Py_ssize_t j) noexcept nogil:
    cdef int64_t sum, start
    cdef int k
    for k in range(f.n_bins):
        memcpy(&sum, &f.sums[k][j], sizeof(sum))
        memcpy(&start, &f.starts[k][j], sizeof(start))
        f.totals[k][j] += sum - start
