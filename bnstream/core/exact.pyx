"""Exact statistics: n, the sum and the sum of squares of every channel as integers, and what follows from them.

Addition of integers is associative and commutative: equal data gives equal sums, whatever its cut, order or layout.
Mean and variance are ratios of integers, rounded once: from their 100 leading bits, and where these leave it open, by
`core.exactsums` from all bits.
"""

import math

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport fabs, fma, frexp, ldexp, sqrt
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from numpy cimport ndarray

from bnstream._kernels._integers cimport add_limb, add_limbs, multiply64
from bnstream._kernels._table cimport (
    BFLOAT16, COUNTED, FLOAT16, FLOAT32, FLOAT64, INT64, NANS, NUMBERS, PLUS_INFS, MINUS_INFS, SMALL, UINT64, Element,
    Kernels, Limbs, View,
)
from bnstream.core.view cimport make_view

from bnstream._kernels import capsule
from bnstream.core import exactsums
from bnstream.core.exactsums import fewest_limbs, hexadecimal, integers

cnp.import_array()

include "../_kernels/pairs.pxi"

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")

cdef int64_t MOST_COUNTED = <int64_t> 1 << 62       # values of a channel, for which there is room

include "naturals.pxi"


cdef pair divide(pair a, pair b) noexcept nogil:
    """a / b to about 100 bits."""
    cdef double q = a.hi / b.hi
    cdef pair rest = add(a, negative(scale(b, q)))
    return fast_two_sum(q, rest.hi / b.hi)


cdef pair root_of(pair a) noexcept nogil:
    """The square root of a to about 100 bits."""
    cdef double root = sqrt(a.hi)
    return fast_two_sum(root, (fma(-root, root, a.hi) + a.lo) / (2 * root))


cdef pair pair_of_count(int64_t n) noexcept nogil:
    return two_sum(<double> (n >> 32) * 4294967296.0, <uint32_t> n)


cdef bint rounded(pair a, int exponent, double *out) noexcept nogil:
    """Set `out` to a * 2**exponent, correctly rounded. Return whether a, which errs by less than 2**-96, leaves no doubt."""
    cdef double error = fabs(a.hi) * 1.262177448353619e-29       # 2**-96
    cdef int own
    out[0] = a.hi + (a.lo + error)
    if out[0] != a.hi + (a.lo - error):
        return False
    frexp(out[0], &own)
    if not -1000 < own + exponent < 1020:       # A denormal number would be rounded twice.
        return out[0] == 0
    out[0] = ldexp(out[0], exponent)
    return True


cdef bint covers(const Limbs *a, const Limbs *b) noexcept nogil:
    """Whether a has all limbs that b has."""
    return (a.s_first <= b.s_first and a.q_first <= b.q_first and a.s_first + a.s_limbs >= b.s_first + b.s_limbs
            and a.q_first + a.q_limbs >= b.q_first + b.q_limbs)


cdef Limbs window_of(Element element) noexcept:
    """The limbs for 2**62 elements of a type: those of its largest square, 62 bits and a sign."""
    cdef Limbs window
    window.limbs = NULL
    window.counts = NULL
    window.step = 1
    window.s_first = window.q_first = 0
    window.s_limbs, window.q_limbs = 2, 3
    if element == FLOAT64:
        window.s_first, window.s_limbs, window.q_first, window.q_limbs = -17, 34, -34, 67
    elif element == FLOAT32 or element == BFLOAT16:
        window.s_first, window.s_limbs, window.q_first, window.q_limbs = -3, 6, -5, 10
    elif element == FLOAT16:
        window.s_first, window.s_limbs, window.q_first, window.q_limbs = -1, 3, -1, 3
    return window


cdef Limbs union_of(const Limbs *a, const Limbs *b) noexcept:
    cdef Limbs window = a[0]
    window.s_first, window.q_first = min(a.s_first, b.s_first), min(a.q_first, b.q_first)
    window.s_limbs = max(a.s_first + a.s_limbs, b.s_first + b.s_limbs) - window.s_first
    window.q_limbs = max(a.q_first + a.q_limbs, b.q_first + b.q_limbs) - window.q_first
    return window


cdef void negate(uint64_t *limbs, Py_ssize_t n) noexcept nogil:
    """Negate an integer, in place."""
    cdef Py_ssize_t i
    cdef uint64_t limb, carry = 1
    for i in range(n):
        limb = ~limbs[i]
        limbs[i] = 0
        carry = add_limb(&limbs[i], limb, carry)


@cython.auto_pickle(False)
cdef class ExactSums:
    """Counts, sums and sums of squares of channels.

    The sums of a channel are two's complement integers, in `limbs` of 64 bits: those of the sum, lower ones first, then
    those of the sum of squares. All channels have the same window, which says what the limbs stand for.
    """

    def __init__(self):
        raise TypeError("make ExactSums with restored()")

    @staticmethod
    cdef ExactSums zeros(Py_ssize_t n, Limbs window):
        cdef ExactSums made = ExactSums.__new__(ExactSums)
        made.n_channels = n
        made.pitch = window.s_limbs + window.q_limbs
        made.limbs = np.zeros((n, made.pitch), np.uint64)
        made.table = np.zeros((n, COUNTED), np.int64)
        made.of = window
        made.of.limbs = <uint64_t *> cnp.PyArray_DATA(made.limbs)
        made.of.counts = <int64_t *> cnp.PyArray_DATA(made.table)
        return made

    @staticmethod
    def restored(counts, s, int s_unit, q, int q_unit):
        """The inverse of `digits`, with the counts, (4, channels)."""
        cdef ExactSums made
        cdef Limbs window = window_of(FLOAT64), least = window_of(FLOAT32)
        if 64 * least.s_first <= s_unit and s_unit + 64 * s.shape[1] <= 192 and (
                64 * least.q_first <= q_unit and q_unit + 64 * q.shape[1] <= 320):
            window = least
        made = ExactSums.zeros(len(s), window)
        made.table[...] = np.asarray(counts, np.int64).T
        most = made.table.astype(np.float64).sum(1).max(initial=0)
        if len(q) != len(s) or made.table.min(initial=0) < 0 or most > 2.0**62:
            raise ValueError("expected as many sums as sums of squares, and counts from 0 to 2**62")
        if max(s.shape[1], q.shape[1]) > ROOM or s_unit < -1074 or q_unit < -2148:
            raise ValueError("no data has as many digits as these sums")
        for limbs, own, unit in ((made.limbs[:, :window.s_limbs], integers(s), s_unit - 64 * window.s_first),
                                 (made.limbs[:, window.s_limbs:], integers(q), q_unit - 64 * window.q_first)):
            data = bytearray()
            try:
                for value in own:
                    data += (value << unit).to_bytes(8 * limbs.shape[1], "little", signed=True)
            except OverflowError:
                raise ValueError("no data has sums as large as these") from None
            limbs[:] = np.frombuffer(data, "<u8").reshape(limbs.shape)
        return made

    cdef ExactSums copied(self):
        """A consistent copy: no Python runs while the memory is read."""
        cdef ExactSums made = ExactSums.zeros(self.n_channels, self.of)
        memcpy(made.of.limbs, self.of.limbs, self.n_channels * self.pitch * sizeof(uint64_t))
        memcpy(made.of.counts, self.of.counts, self.n_channels * COUNTED * sizeof(int64_t))
        return made

    cdef ExactSums widened(self, const Limbs *window):
        """A copy whose window covers another one as well."""
        cdef ExactSums made = ExactSums.zeros(self.n_channels, union_of(&self.of, window))
        made.add(self)
        return made

    cdef void add(self, ExactSums other) noexcept:
        """Add sums, whose window this one covers. No Python runs."""
        cdef const uint64_t *theirs
        cdef uint64_t *own
        cdef Py_ssize_t c, k, s_place = other.of.s_first - self.of.s_first
        cdef Py_ssize_t q_place = self.of.s_limbs + other.of.q_first - self.of.q_first
        for c in range(self.n_channels):
            own, theirs = self.of.limbs + c * self.pitch, other.of.limbs + c * other.pitch
            add_limbs(own + s_place, self.of.s_limbs - s_place, theirs, other.of.s_limbs)
            add_limbs(own + q_place, self.pitch - q_place, theirs + other.of.s_limbs, other.of.q_limbs)
        for k in range(self.n_channels * COUNTED):
            self.of.counts[k] += other.of.counts[k]

    cdef void subtract(self, ExactSums other) noexcept:
        """The same for the negative of these sums."""
        self.negate()
        self.add(other)
        self.negate()

    cdef void negate(self) noexcept:
        """Negate the counts and the sums, in place."""
        cdef Py_ssize_t c, k
        for c in range(self.n_channels):
            negate(self.of.limbs + c * self.pitch, self.of.s_limbs)
            negate(self.of.limbs + c * self.pitch + self.of.s_limbs, self.of.q_limbs)
        for k in range(self.n_channels * COUNTED):
            self.of.counts[k] = -self.of.counts[k]

    @property
    def counts(self):
        """Of shape (4, channels): numbers, NaN, inf and -inf."""
        return self.table.T

    @property
    def n(self):
        return self.table.sum(1)

    def __len__(self):
        return self.n_channels

    def __getitem__(self, channels):
        """The sums of some channels, in this order."""
        limbs = self.limbs[channels]
        cdef ExactSums made = ExactSums.zeros(len(limbs), self.of)
        made.limbs[...], made.table[...] = limbs, self.table[channels]
        return made

    cdef tuple integers_of(self, Py_ssize_t c):
        """The sum and the sum of squares of a channel as ints, in units of 2**(64 * s_first) and 2**(64 * q_first)."""
        limbs = self.limbs[c:c + 1]
        return integers(limbs[:, :self.of.s_limbs])[0], integers(limbs[:, self.of.s_limbs:])[0]

    cdef tuple spread_of(self, Py_ssize_t c):
        """n**2 times the variance of the numbers of a channel, and the exponent of its unit."""
        s, q = self.integers_of(c)
        cdef int unit = min(128 * self.of.s_first, 64 * self.of.q_first)
        n = int(self.of.counts[c * COUNTED + NUMBERS])
        return ((n * q << 64 * self.of.q_first - unit) - (s * s << 128 * self.of.s_first - unit)), unit

    cdef bint finite_channel(self, Py_ssize_t c) noexcept:
        """Whether a channel has numbers alone."""
        cdef const int64_t *counts = self.of.counts + c * COUNTED
        return counts[NUMBERS] > 0 and counts[NANS] == 0 and counts[PLUS_INFS] == 0 and counts[MINUS_INFS] == 0

    cdef bint finite(self) noexcept:
        """Whether no channel has NaN or inf."""
        cdef Py_ssize_t k
        for k in range(self.n_channels * COUNTED):
            if k % COUNTED != NUMBERS and self.of.counts[k] != 0:
                return False
        return True

    cdef void leave_out(self) noexcept:
        """Count no NaN and inf."""
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            memset(self.of.counts + c * COUNTED + NANS, 0, (COUNTED - NANS) * sizeof(int64_t))

    cdef double mean_of(self, Py_ssize_t c) except? -1:
        """The mean of a channel, correctly rounded, NaN of nothing."""
        cdef const int64_t *counts = self.of.counts + c * COUNTED
        cdef Natural sum
        cdef pair ratio
        cdef double mean
        cdef int exponent
        cdef bint negative
        if not self.finite_channel(c):
            if counts[NANS] > 0 or counts[PLUS_INFS] > 0 and counts[MINUS_INFS] > 0:
                return math.nan
            return math.inf if counts[PLUS_INFS] > 0 else (-math.inf if counts[MINUS_INFS] > 0 else math.nan)
        negative = set_magnitude(&sum, self.of.limbs + c * self.pitch, self.of.s_limbs, self.of.s_first)
        ratio = divide(leading(&sum, &exponent), pair_of_count(counts[NUMBERS]))
        if rounded(ratio, exponent, &mean):
            return -mean if negative else mean
        return exactsums.quotient(self.integers_of(c)[0], counts[NUMBERS], 64 * self.of.s_first)

    cdef bint set_spread(self, Py_ssize_t c, void *to) noexcept:
        """Set it to n**2 times the variance of the numbers of a channel. Return whether no data has these sums."""
        cdef Natural *spread = <Natural *> to
        cdef Natural sum, other
        cdef const uint64_t *limbs = self.of.limbs + c * self.pitch
        cdef bint negative
        set_magnitude(&sum, limbs, self.of.s_limbs, self.of.s_first)
        set_square(&other, &sum)
        negative = set_magnitude(&sum, limbs + self.of.s_limbs, self.of.q_limbs, self.of.q_first)
        set_multiple(spread, &sum, self.of.counts[c * COUNTED + NUMBERS])
        sum = spread[0]
        return set_difference(spread, &sum, &other) or negative

    cdef double var_of(self, Py_ssize_t c, double ddof, bint root, bint sum) except? -1:
        """The variance of a channel, its square root, or the sum of squared deviations; correctly rounded."""
        cdef int64_t n = self.of.counts[c * COUNTED + NUMBERS]
        cdef pair whole = pair_of_count(n), less = add_double(whole, -ddof), ratio
        cdef Natural spread
        cdef double result
        cdef int exponent
        cdef bint short_n = n >> 53 == 0            # so that n and n - ddof are exact
        if not self.finite_channel(c):
            return 0 if sum and not self.table[c].any() else math.nan
        if ddof == -math.inf:
            return 0
        if not (sum or (<double> n > ddof if short_n else n > <object> ddof)):
            return math.nan
        self.set_spread(c, &spread)
        ratio = divide(leading(&spread, &exponent), whole if sum else multiply(whole, less))
        if root and ratio.hi > 0:
            ratio = root_of(ratio)
        if short_n and rounded(ratio, exponent // 2 if root else exponent, &result):
            return result
        exact, unit = self.spread_of(c)
        if sum:
            return exactsums.quotient(exact, n, unit)
        a, b = ddof.as_integer_ratio()
        return (exactsums.square_root if root else exactsums.quotient)(exact * b, n * (n * b - a), unit)

    cdef ndarray each_var(self, double ddof, bint root, bint sum):
        cdef ndarray out = np.empty(self.n_channels)
        cdef double *to = <double *> cnp.PyArray_DATA(out)
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            to[c] = self.var_of(c, ddof, root, sum)
        return out

    def mean(self):
        """The mean of every channel."""
        cdef ndarray out = np.empty(self.n_channels)
        cdef double *to = <double *> cnp.PyArray_DATA(out)
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            to[c] = self.mean_of(c)
        return out

    def m2(self):
        """The sum of squared deviations of every channel."""
        return self.each_var(0, False, True)

    def var(self, double ddof, bint root=False):
        """The variance of every channel, or its square root; NaN where n - ddof is not positive."""
        return self.each_var(ddof, root, False)

    def rows(self):
        """The eight rows of a plain state, (8, channels). Where m2 is too large they are those of x * 2**-POWER."""
        cdef Py_ssize_t c
        rows = np.zeros((8, self.n_channels))
        n, mean, m2 = self.n, self.mean(), self.m2()
        for c in range(self.n_channels):
            rows[:, c] = n[c], mean[c] if n[c] else 0, 0, m2[c], 0, 0, n[c], 0
            if self.finite_channel(c):
                spread, unit = self.spread_of(c)
                rows[:, c] = exactsums.rows_of(int(n[c]), self.integers_of(c)[0], 64 * self.of.s_first, spread, unit)
        return rows

    def digits(self):
        """The sums as limbs of as few bits as hold them, and their units: the same for equal sums."""
        s, q = self.limbs[:, :self.of.s_limbs], self.limbs[:, self.of.s_limbs:]
        return *fewest_limbs(integers(s), 64 * self.of.s_first), *fewest_limbs(integers(q), 64 * self.of.q_first)

    cdef Py_ssize_t impossible(self) noexcept:
        """The first channel whose sums no data has; -1 if there is none. No Python runs."""
        cdef Natural spread, squares
        cdef const int64_t *counts
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            counts = self.of.counts + c * COUNTED
            if min(min(counts[NUMBERS], counts[NANS]), min(counts[PLUS_INFS], counts[MINUS_INFS])) < 0:
                return c
            # The mean of squares is at least the square of the mean, and one number has no spread.
            set_magnitude(&squares, self.of.limbs + c * self.pitch + self.of.s_limbs, self.of.q_limbs, 0)
            if self.set_spread(c, &spread) or (spread.n if counts[NUMBERS] == 1 else squares.n) > 0 and counts[NUMBERS] < 2:
                return c
        return -1

    def require_possible(self):
        """Raise ValueError if no data has these sums."""
        cdef Py_ssize_t c = self.impossible()
        if c >= 0:
            raise ValueError(f"no data has the statistics of channel {c}")

    cdef int require_room(self, ExactSums part) except -1:
        """Raise OverflowError if the limbs may have no room for both sums."""
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            if self.counted(c) > MOST_COUNTED - part.counted(c):
                raise OverflowError("expected at most 2**62 values in a channel, got "
                                    f"{<object> self.counted(c) + part.counted(c):,}; divide the weights by a common factor")
        return 0

    cdef int64_t counted(self, Py_ssize_t c) noexcept:
        """The count of a channel, with what is not finite."""
        cdef const int64_t *counts = self.of.counts + c * COUNTED
        return counts[NUMBERS] + counts[NANS] + counts[PLUS_INFS] + counts[MINUS_INFS]

    cdef int64_t most(self) noexcept:
        """The largest count of a channel."""
        cdef int64_t most = 0
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            most = max(most, self.counted(c))
        return most

    cdef void shift(self, int bits) noexcept:
        """Multiply the counts and the sums by 2**bits, which is less than 2**64."""
        cdef uint64_t *limbs
        cdef Py_ssize_t c, i
        if bits == 0:
            return
        for c in range(self.n_channels):
            limbs = self.of.limbs + c * self.pitch
            for i in range(self.pitch - 1, -1, -1):
                limbs[i] <<= bits
                if i > 0 and i != self.of.s_limbs:
                    limbs[i] |= limbs[i - 1] >> 64 - bits
        for i in range(self.n_channels * COUNTED):
            self.of.counts[i] <<= bits

    def lines(self):
        """A line of text for each channel, the same for equal sums in any window."""
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            s, q = self.integers_of(c)
            counts = " ".join(map(str, self.table[c].tolist()))
            yield f"{counts} {hexadecimal(s, 64 * self.of.s_first)} {hexadecimal(q, 64 * self.of.q_first)}"

    def __eq__(self, other):
        if not isinstance(other, ExactSums):
            return NotImplemented
        cdef ExactSums a = self, b = other
        if a.n_channels != b.n_channels:
            return False
        a, b = a.widened(&b.of), b.widened(&a.of)
        return np.array_equal(a.table, b.table) and np.array_equal(a.limbs, b.limbs)

    __hash__ = None


def side_by_side(parts):
    """The sums of the channels of all parts."""
    cdef Limbs window = window_of(UINT64)
    cdef ExactSums part, made
    for part in parts:
        window = union_of(&window, &part.of)
    made = ExactSums.zeros(sum(map(len, parts)), window)
    first = 0
    for part in parts:
        made.limbs[first:first + len(part)] = part.widened(&window).limbs
        made.table[first:first + len(part)] = part.table
        first += len(part)
    return made


cdef ExactSums sums_of_array(ndarray a, unsigned long long axes, ndarray mask, int threads, ExactSums own=None,
                             bint refuse=False):
    """The exact sums of an array over its batch axes, of the elements that a mask selects.

    Those of a small array are added to `own`, if this has the limbs, and `own` is returned. With `refuse`, they are not if
    the array holds NaN or inf, and None is returned. No Python runs between the first addition and the return.
    """
    cdef View view
    cdef Element element
    cdef Limbs window
    cdef ExactSums to = own
    cdef bint small = cnp.PyArray_NBYTES(a) < SMALL
    cdef int failed
    make_view(&view, axes, a, None, None, None, mask)
    element = view.operand[0].element
    window = window_of(element)
    if element in (INT64, UINT64):
        view.operand[0].element = FLOAT64       # so that the bits are copied as they are
    view.in_place = view.in_place and not view.weighted and element not in (INT64, UINT64)
    if own is None or not small or not covers(&own.of, &window) or own.most() > MOST_COUNTED - view.n_rows:
        to = ExactSums.zeros(view.n_channels, window)
    if small:
        failed = kernels.exact(&view, &to.of, element, threads)
    else:
        with nogil:
            failed = kernels.exact(&view, &to.of, element, threads)
    if failed:
        raise MemoryError("no memory for the scratch of an update")
    if refuse and to is own and not own.finite():
        own.negate()                            # -(-(own + part) + part) is own
        failed = kernels.exact(&view, &own.of, element, threads)
        own.negate()
        if failed:
            raise MemoryError("no memory to take out a batch with NaN or inf again; the statistics hold it now")
        return None
    return to


cdef ExactSums weighted_sums(ndarray a, unsigned long long axes, ndarray mask, ndarray counts, int threads):
    """The exact sums of an array each of whose batch positions counts several times: those of each bit of the counts."""
    cdef ExactSums total = None, part
    cdef object selected
    cdef int bit
    if counts.sum(dtype=np.float64) > 2.0**62 or counts.sum() > MOST_COUNTED:
        raise OverflowError(f"expected weights that add up to at most 2**62, got {sum(counts.ravel().tolist()):,}; "
                            "divide them by a common factor")
    found = int(np.bitwise_or.reduce(counts, axis=None))
    for bit in range(max(1, found.bit_length())):
        if found and not found >> bit & 1:
            continue
        selected = (<object> counts >> bit & 1).astype(np.bool_)
        part = sums_of_array(a, axes, selected if mask is None else mask & selected, threads)
        part.shift(bit)
        if total is None:
            total = part
        else:
            total.add(part)
    return total
