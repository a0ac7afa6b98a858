# cython: language_level=3
"""What the compiled parts of bnstream say to each other: plain structs.

A `View` goes in, a `Sink` says where the answer goes, `Kernels` is the table of functions that each variant fills.
"""

cdef enum:
    MAX_DIMS = 64               # NumPy's own limit (NPY_MAXDIMS)
    MAX_OPERANDS = 4
    WEIGHTS = 3                 # the operand that holds the weights, if there are any
    GRANULE = 8                 # doubles of the longest vector
    SMALL = 65536               # bytes; below, letting go of the GIL costs more than it gives

cdef enum:                      # rows of a state, of a weighted state, and of a layer, which begins with a state
    N, MEAN, MEAN_LO, M2, M2_LO
    N_LO = 5                    # of a weighted state: what rounding left of n, the sum of weights
    SQUARES = 6                 # of a weighted state: the sum of squared weights
    GAMMA = 5
    BETA = 6
    STATE_ROWS = 5
    WEIGHTED_ROWS = 7
    LAYER_ROWS = 7

cdef enum:                      # rows of the gradients of a layer's parameters
    GRAD_BETA, GRAD_GAMMA

cdef inline Py_ssize_t padded(Py_ssize_t n_channels) noexcept nogil:
    """Whole vectors: the loop across 17 channels takes as long as that across 24 where its end is scalar."""
    return (n_channels + GRANULE - 1) & -GRANULE


cdef enum Element:              # what one element of the array is; the first six are read in place
    FLOAT32, FLOAT64, UINT8, INT8, UINT16, INT16
    FLOAT16, BFLOAT16, INT32, UINT32, INT64, UINT64, BOOL

ctypedef struct Operand:        # one of the arrays that are walked together
    char *data
    Element element
    Py_ssize_t itemsize
    bint swapped                # bytes of each element in the other order

ctypedef struct Dim:
    Py_ssize_t n
    Py_ssize_t place            # channels only: places from one entry to the next in a result of one number a channel
    Py_ssize_t stride[MAX_OPERANDS]     # bytes from one entry to the next

ctypedef struct View:           # any arrays and batch axes as (batch dims, channel dims), neighbours merged
    Operand operand[MAX_OPERANDS]       # x; x, y; x, dy, dx; and weights
    int n_operands              # without the weights
    int n_read                  # the first of them are read; the last one may be written
    bint weighted               # each batch position has a weight, 0 where it is left out
    bint in_place               # they can be as they lie: native elements and byte order, strides of whole elements
    int n_batch
    int n_kept
    Dim batch[MAX_DIMS]         # by falling stride of x: the last one is walked fastest
    Dim kept[MAX_DIMS]
    Py_ssize_t n_rows           # values per channel
    Py_ssize_t n_channels

ctypedef struct Sink:           # where the answer goes: a state, or mean and var, never both
    double *state               # five rows of n_channels: n, mean, mean_lo, m2, m2_lo
    Py_ssize_t pitch            # places from one row of the state to the next, a multiple of GRANULE
    char *mean
    char *var
    Element element             # of mean and var: floating
    double ddof

ctypedef struct Layer:          # what becomes of each channel: (x - mean) / sqrt(m2 / n + eps) * gamma + beta
    double *rows                # seven: those of a state, gamma, beta
    Py_ssize_t pitch
    double eps

ctypedef struct Kernels:
    # Each answers 0, or -1 where memory ran out.
    int (*accumulate)(const View *view, const Sink *sink, bint omit, int n_threads) noexcept nogil
    # operands x, y: y <- x as the layer says; `standardize` makes the layer's state that of x before. Who is to `look` for
    # inf in x answers 1 if there is any.
    int (*affine)(const View *view, const Layer *layer, bint look, int n_threads) noexcept nogil
    int (*standardize)(const View *view, const Layer *layer, bint omit, int n_threads) noexcept nogil
    # operands x, dy: grads <- the gradients of beta and of gamma, two rows; and operand dx: that of x, too
    int (*gradients)(const View *view, const Layer *layer, double *grads, bint omit, int n_threads) noexcept nogil
    int (*backward)(const View *view, const Layer *layer, double *grads, bint omit, int n_threads) noexcept nogil
    # a <- a merged with b; each is a state with its pitch. `rest`, or NULL, is what rounding left of a's sums of weights
    void (*merge)(double *a, Py_ssize_t a_pitch, double *rest, const double *b, Py_ssize_t b_pitch,
                  Py_ssize_t n) noexcept nogil
