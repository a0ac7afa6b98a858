# cython: language_level=3
"""The interface between the kernels and their callers: plain structs, and the names of the rows of a state.

A caller describes its arrays in a `View`, and in a `Sink` or a `Norm` what to do with them. Then it calls one of the
functions in `Kernels`, which each variant fills in.
"""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    MAX_DIMS = 64               # NumPy's own limit (NPY_MAXDIMS)
    MAX_OPERANDS = 5
    WEIGHTS = 3                 # index of the operand that holds the weights of a weighted view
    FLAGS = 4                   # index of the operand that holds the flags of a selective view
    RESULT = 5                  # index of the stride in a result with one number per channel
    STRIDES = 6
    GRANULE = 8                 # doubles in the longest vector
    SMALL = 65536               # bytes of input below which releasing the GIL costs more than it gains

# Rows of a state, of a weighted state, of a scaled state and of a norm. All begin with the rows of a state.
cdef enum:
    N = 0                       # number of values, or sum of weights
    MEAN = 1
    MEAN_LO = 2                 # what rounding left of the mean
    M2 = 3                      # sum of squared deviations from the mean
    M2_LO = 4                   # what rounding left of m2
    STATE_ROWS = 5
    N_LO = 5                    # weighted state: what rounding left of n
    SQUARES = 6                 # weighted state: sum of squared weights
    WEIGHTED_ROWS = 7
    EXPONENT = 7                # scaled state: 0, or POWER; see core/large.pyx
    SCALED_ROWS = 8
    GAMMA = 5                   # norm
    BETA = 6                    # norm
    NORM_ROWS = 7

# Rows of what is tracked beside a state; see track.pxi.
cdef enum:
    LEAST = 0                   # inf of nothing
    GREATEST = 1                # -inf of nothing
    M3 = 2                      # sum of the third powers of the deviations from the mean
    M3_LO = 3                   # what rounding left of m3
    M4 = 4                      # sum of their fourth powers
    M4_LO = 5
    TRACKED_ROWS = 6

# Rows of the gradients of a norm, which backward needs in this order.
cdef enum:
    GRAD_BETA = 0               # sum of dy
    GRAD_GAMMA = 1              # sum of dy * xhat
    POOLED_BETA = 2             # the sums of gamma times these over a group of channels
    POOLED_GAMMA = 3
    GRAD_ROWS = 4


# Counts of an exact state: numbers, and what is not finite.
cdef enum:
    NUMBERS = 0
    NANS = 1
    PLUS_INFS = 2
    MINUS_INFS = 3
    COUNTED = 4


cdef inline Py_ssize_t padded(Py_ssize_t n_channels) noexcept nogil:
    """n_channels rounded up to whole vectors: with a scalar end, a loop over 17 channels takes as long as one over 24."""
    return (n_channels + GRANULE - 1) & -GRANULE


cdef enum Element:              # type of the elements of an array; the kernels read all but BOOL in place
    FLOAT32, FLOAT64, UINT8, INT8, UINT16, INT16, FLOAT16, BFLOAT16, INT32, UINT32, INT64, UINT64
    BOOL

ctypedef struct Operand:        # one of the arrays that a kernel walks together
    char *data
    Element element
    Py_ssize_t itemsize
    bint swapped                # elements are in the byte order that is not the machine's

ctypedef struct Dim:
    Py_ssize_t n
    Py_ssize_t stride[STRIDES]  # bytes between neighboring entries; at RESULT, places between those of a channel dim

ctypedef struct View:           # arrays as batch dims and channel dims; neighboring dims are merged where strides allow
    Operand operand[MAX_OPERANDS]       # x; or x, y; or x, dy, dx; and at their own indices weights and flags
    int n_operands              # not counting weights and flags
    int n_read                  # The first n_read operands are read. The one after them, if any, may be written.
    bint weighted               # every batch position has a weight; weight 0 leaves it out
    bint selective              # every element has a flag; flag 0 leaves it out; never in place
    bint in_place               # operands have native elements and byte order, and strides of whole elements
    double scale                # a power of two that x is multiplied by; 1 if x is read in place
    int n_batch
    int n_kept
    Dim batch[MAX_DIMS]         # by decreasing stride of x: the last one varies fastest
    Dim kept[MAX_DIMS]          # channel dims
    Py_ssize_t n_rows           # values in each channel
    Py_ssize_t n_channels
    Py_ssize_t instance         # channels of an instance, whose bits depend on no other instance; 0: of the whole batch
    Py_ssize_t group            # neighboring channels that share their statistics; 1, or a divisor of `instance`

ctypedef struct Sink:           # where the result goes: either a state, or mean and var
    double *state               # STATE_ROWS rows of n_channels, or WEIGHTED_ROWS if the view has weights; or NULL
    Py_ssize_t pitch            # doubles from one row of the state to the next, a multiple of GRANULE
    char *mean
    char *var
    Element element             # type of mean and var: floating
    double ddof

ctypedef struct Tracked:        # what is found beside a state
    double *rows                # TRACKED_ROWS rows of n_channels, or NULL; those that are not asked for are left as they are
    Py_ssize_t pitch
    bint extremes               # LEAST and GREATEST
    bint powers                 # M3 and M4
    bint alone                  # no state: the extremes alone, where NaN changes nothing
    int *careful                # set to 1 if NaN or inf may have been left out

ctypedef struct Limbs:          # exact sums of every channel as integers: two's complement, lower limbs first
    uint64_t *limbs             # of each channel: those of the sum, then those of the sum of squares
    int64_t *counts             # of each channel: COUNTED
    Py_ssize_t step             # from one channel to the next
    int s_limbs
    int q_limbs
    int s_first                 # The first limb of the sum stands for multiples of 2**(64 * s_first),
    int q_first                 # that of the sum of squares for multiples of 2**(64 * q_first).

ctypedef struct Elementwise:    # parameters of batch positions: the result is multiplied by gamma, then beta is added
    double *gamma               # n of them, and room for a whole vector at the end; likewise beta
    double *beta
    double *of_gamma            # their gradients
    double *of_beta
    Py_ssize_t n                # batch positions

ctypedef struct Norm:           # the map y = (x - mean) / sqrt(m2 / n + eps) * gamma + beta of every channel
    double *rows                # NORM_ROWS rows of n_channels; `standardize` needs none if it is plain
    Py_ssize_t pitch            # doubles from one row to the next
    double eps
    bint plain                  # gamma is 1 and beta 0: their rows are not read
    bint about_zero             # m2 is taken about 0 instead of the mean, and 0 is subtracted
    const Elementwise *each     # or NULL; never with weights, flags, `omit`, `look` or `gradients`

# The functions of one variant. Those that return an int return 0, or -1 if memory ran out.
# `omit` leaves out every x that is NaN or inf.
ctypedef struct Kernels:
    # Operand x: write the state, or the mean and variance, of x to the sink.
    int (*accumulate)(const View *view, const Sink *sink, bint omit, int n_threads) noexcept nogil
    # Operands x, y: apply the norm to x. With `look`, return 1 if x holds inf.
    int (*affine)(const View *view, const Norm *norm, bint look, int n_threads) noexcept nogil
    # Operands x, y: write the state of x to the norm, if it has rows, then apply it.
    int (*standardize)(const View *view, const Norm *norm, bint omit, int n_threads) noexcept nogil
    # Operands x, dy, dx: write the gradients of beta and gamma to `grads`, GRAD_ROWS rows with the norm's pitch.
    # dx is left as it is.
    int (*gradients)(const View *view, const Norm *norm, double *grads, bint omit, int n_threads) noexcept nogil
    # Operands x, dy, dx: do the same, and write the gradient of x to dx.
    int (*backward)(const View *view, const Norm *norm, double *grads, bint omit, int n_threads) noexcept nogil
    # Convert n elements, `stride` bytes apart, to doubles; integers of 64 bits are not among them.
    void (*convert)(const char *source, Py_ssize_t stride, Py_ssize_t n, Element element, bint swapped,
                    double *out) noexcept nogil
    # Exact sums: add those of operand x, of this element, whose 64-bit integers the view calls FLOAT64. The limbs must
    # have room for all sums of 2**62 elements of the type. If memory runs out, a view of fewer than SMALL bytes has added
    # nothing; others may have added some.
    int (*exact)(const View *view, const Limbs *sums, Element element, int n_threads) noexcept nogil
    # Merge state b into state a, for n channels. `n_lo` is the row N_LO of a weighted state a, or NULL.
    void (*merge)(double *a, Py_ssize_t a_pitch, double *n_lo, const double *b, Py_ssize_t b_pitch,
                  Py_ssize_t n) noexcept nogil
    # Operand x: do what `accumulate` does for a state, and write what is tracked. That alone needs no state in the sink.
    int (*accumulate_tracked)(const View *view, const Sink *sink, const Tracked *tracked, bint omit,
                              int n_threads) noexcept nogil
    # Merge what is tracked of b into that of a, before their states are merged: both are as they were.
    void (*merge_tracked)(double *a, Py_ssize_t a_pitch, const double *a_state, Py_ssize_t a_state_pitch, const double *b,
                          Py_ssize_t b_pitch, const double *b_state, Py_ssize_t b_state_pitch,
                          Py_ssize_t n) noexcept nogil
