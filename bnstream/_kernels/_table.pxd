# cython: language_level=3
"""What the compiled parts of bnstream say to each other: plain structs.

A `View` goes in, a `Sink` says where the answer goes, `Kernels` is the table of functions that each variant fills.
"""

cdef enum:
    MAX_DIMS = 64               # NumPy's own limit (NPY_MAXDIMS)
    GRANULE = 8                 # doubles of the longest vector

cdef enum Element:              # what one element of the array is; the first six are read in place
    FLOAT32, FLOAT64, UINT8, INT8, UINT16, INT16
    FLOAT16, BFLOAT16, INT32, UINT32, INT64, UINT64, BOOL

ctypedef struct Dim:
    Py_ssize_t n
    Py_ssize_t stride           # bytes from one entry to the next in the array
    Py_ssize_t out              # channels only: places from one entry to the next in the result

ctypedef struct View:           # any array and batch axes as (batch dims, channel dims), neighbours merged
    const char *data
    Element element
    Py_ssize_t itemsize
    bint in_place               # read as it lies: native element, native byte order, strides of whole elements
    bint swapped                # bytes of each element in the other order
    int n_batch
    int n_kept
    Dim batch[MAX_DIMS]         # by falling stride: the last one is walked fastest
    Dim kept[MAX_DIMS]
    Py_ssize_t n_rows           # values per channel
    Py_ssize_t n_channels

ctypedef struct Sink:           # where the answer goes: a state, or mean and var, never both
    double *state               # five rows of n_channels: n, mean, mean_lo, m2, m2_lo
    Py_ssize_t pitch            # places from one row of the state to the next, a multiple of GRANULE
    void *mean
    void *var
    bint single                 # mean and var are float32, else float64
    double ddof

ctypedef struct Kernels:
    # 0, or -1 where memory ran out
    int (*accumulate)(const View *view, const Sink *sink, bint omit, int n_threads) noexcept nogil
    # a <- a merged with b; each is a state with its pitch
    void (*merge)(double *a, Py_ssize_t a_pitch, const double *b, Py_ssize_t b_pitch, Py_ssize_t n) noexcept nogil
