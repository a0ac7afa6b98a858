"""Normalization of one array, forward and backward. The layers keep what lasts from call to call."""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from numpy cimport ndarray

from bnstream._kernels._runtime cimport threads_for
from bnstream._kernels._table cimport (
    BETA, BFLOAT16, FLOAT16, FLOAT32, FLOAT64, GAMMA, GRAD_BETA, GRAD_GAMMA, GRAD_ROWS, M2, M2_LO, MAX_DIMS, MEAN,
    MEAN_LO, N, NORM_ROWS, SMALL, STATE_ROWS, Elementwise, Kernels, Norm, Sink, View, padded,
)
from bnstream.core.large cimport look_again, restored
from bnstream.core.locks cimport acquire, release
from bnstream.core.result cimport overlap, result_like, same_shape
from bnstream.core.view cimport (
    OMIT, PROPAGATE, RAISE, Policy, as_array, at_axes, axes_named, batch_axes, kept_shape, make_view, mask_of, not_finite,
    policy_of,
)

from bnstream._kernels import capsule
from bnstream.core.dtypes import is_real, rounded
from bnstream.core.labels import counted

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")
cdef double FAR = 4e291     # smaller means are below half an ulp of the largest float
cdef enum:
    FEW = 64            # channels whose gradients are on the stack
    RUNNING_MEAN = 0, RUNNING_VAR, SPREAD, INITIAL_WEIGHT, BATCH_MEAN, BATCH_VAR    # those of `RunningEstimates`


cdef unsigned long long batch_axes_of(object channel_axis, int ndim) except? 0:
    """The axes reduced over, as bits: all but the channel axis or axes."""
    if channel_axis is None:
        raise TypeError("channel_axis must be an int or a tuple of ints, got None")
    if isinstance(channel_axis, (tuple, list)):
        places = []
        for axis in channel_axis:
            if isinstance(axis, int) and ndim:
                places.append(axis % ndim)
        if places != sorted(places):
            raise ValueError(f"channel_axis must name axes in the order of the array, got {channel_axis!r}; parameters have "
                             "the shape of the channels in that order")
    return ~batch_axes(channel_axis, ndim, "channel_axis") & ~0ULL >> (64 - ndim)


cdef int check(int failed) except -1:
    if failed < 0:
        raise MemoryError("no memory for the scratch of a normalization")
    return 0


cdef ndarray real_array(object values, str name):
    """Parameters as an array of real numbers."""
    cdef ndarray a
    if cnp.PyArray_CheckExact(values) and cnp.PyArray_TYPE(<ndarray> values) in (cnp.NPY_DOUBLE, cnp.NPY_FLOAT):
        return values
    try:
        a = as_array(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if not is_real(a.dtype):
        raise TypeError(f"{name} must be of real numbers, got dtype {a.dtype}")
    return a


@cython.auto_pickle(False)
@cython.freelist(8)
@cython.final
cdef class Forward:
    """One normalization of x: the coefficients of its channels, and what backward needs.

    There are seven rows of float64, with a column for each channel of each instance or virtual batch: n, mean, mean_lo, m2,
    m2_lo, gamma, beta. The first five are a state: in training that of the batch, in inference n = 1 with the given mean
    and variance.
    """

    def __dealloc__(self):
        free(self.rows)
        free(self.each_room)

    cdef double *row(self, int i) noexcept:
        return self.rows + i * self.pitch

    cdef Norm norm(self) noexcept:
        cdef Norm fields
        fields.rows = self.rows
        fields.pitch = self.pitch
        fields.eps = self.eps
        fields.plain = self.plain
        fields.about_zero = self.about_zero
        fields.each = &self.each if self.each.gamma != NULL else NULL
        return fields

    cdef int view_of(self, View *view, ndarray x, ndarray y=None, ndarray dx=None) except -1:
        if self.virtual_batch == 0:
            make_view(view, self.axes, x, y, dx, None, self.where, self.instance if self.of_instances else 0,
                      self.group)
        else:
            make_view(view, self.axes << 1, self.divided(x), self.divided(y), self.divided(dx), None,
                      self.divided(self.where))
        if self.each.gamma != NULL and view.operand[0].element not in (FLOAT32, FLOAT64, FLOAT16, BFLOAT16):
            view.in_place = False       # Only floats have loops with elementwise parameters.
        return 0

    cdef int require_same_shape(self) except -1:
        """Raise ValueError if x has another shape than in the call. The mask and the strides would not fit it."""
        if self.x.ndim != self.ndim or memcmp(cnp.PyArray_DIMS(self.x), self.lengths, self.ndim * sizeof(Py_ssize_t)):
            raise ValueError(f"x has changed its shape since the call, {(<object> self.x).shape}; reshape it to a new array")
        return 0

    cdef ndarray divided(self, ndarray a):
        """An array with the axes of x, its first one divided in two: that of the virtual batches, and that of their rows."""
        if a is None or self.virtual_batch == 0:
            return a
        rows = min(self.virtual_batch, a.shape[0])      # A mask may have one row for all.
        return (<object> a).reshape(a.shape[0] // rows, rows, *(<object> a).shape[1:])

    cdef str place(self, Py_ssize_t c):
        """Where statistics `c` come from."""
        cdef tuple index = tuple(map(int, np.unravel_index(c % self.instance, kept_shape(self.x, self.axes, False))))
        channel = f"channel {index[0] if len(index) == 1 else index}"
        return channel if self.virtual_batch == 0 else f"{channel} of virtual batch {c // self.instance}"

    cdef bint small(self) noexcept:
        """Whether releasing the GIL would cost more than it gains."""
        return cnp.PyArray_NBYTES(self.x) < SMALL

    cdef int threads(self, object n_threads) except -1:
        return threads_for(cnp.PyArray_NBYTES(self.x), n_threads)

    cdef int fill(self, int i, double value) except -1:
        cdef Py_ssize_t c
        cdef double *row = self.row(i)
        for c in range(self.n_channels):
            row[c] = value
        return 0

    cdef int set_row(self, int i, object values, str name) except -1:
        """A parameter of each channel, or one number for all."""
        cdef Py_ssize_t c, n = self.n_channels
        cdef double *row = self.row(i)
        cdef ndarray a = real_array(values, name)
        if a.ndim == 0:
            return self.fill(i, a)
        if self.one_row(a) and cnp.PyArray_ISCARRAY_RO(a):
            if cnp.PyArray_TYPE(a) == cnp.NPY_DOUBLE:
                memcpy(row, cnp.PyArray_DATA(a), n * sizeof(double))
                return 0
            if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT:
                for c in range(n):
                    row[c] = (<const float *> cnp.PyArray_DATA(a))[c]
                return 0
        shape = kept_shape(self.x, self.axes, False)
        if self.broadcasting:       # `varying_axes` has found that it broadcasts; along the other axes it has length 1
            given = (1,) * (self.x.ndim - a.ndim) + (<object> a).shape
            a = (<object> a).reshape(at_axes(given, ~self.axes))
        elif (<object> a).shape != shape:
            raise ValueError(f"{name} must have the shape of the channels, {shape}, for x of shape "
                             f"{(<object> self.x).shape}; got {(<object> a).shape}")
        a = np.ascontiguousarray(np.broadcast_to(a, shape), np.float64)
        memcpy(row, cnp.PyArray_DATA(a), n * sizeof(double))
        return 0

    cdef bint one_row(self, ndarray a) noexcept:
        """Whether a has one axis, that of the channels."""
        cdef unsigned long long kept = ~self.axes & ~0ULL >> (64 - self.x.ndim)
        if a.ndim != 1 or a.shape[0] != self.n_channels:
            return False
        return kept == 1ULL << (self.x.ndim - 1) or (not self.broadcasting and kept != 0 and kept & (kept - 1) == 0)

    cdef int repeat(self, int i) except -1:
        """Repeat the parameter of the first instance for all."""
        cdef double *row = self.row(i)
        cdef Py_ssize_t c
        for c in range(self.instance, self.n_channels):
            row[c] = row[c - self.instance]
        return 0

    cdef int set_where(self, object where) except -1:
        cdef ndarray mask = mask_of(where, self.x, self.axes)
        self.where = None if mask is None else mask.copy("K")       # kept for backward
        return 0

    cdef int set_statistics(self, object mean, object var, str prefix) except -1:
        """Normalize by a given mean and variance."""
        self.set_row(MEAN, mean, prefix + "mean")
        self.set_row(M2, var, prefix + "var")
        return self.start_inference(prefix + "var", np.ndim(var) == 0)

    cdef int start_inference(self, str name, bint one) except -1:
        """Complete the state of inference, once mean and variance are in their rows; the variance is `one` for all."""
        cdef Py_ssize_t c, n_negative = 0
        cdef const double *variance = self.row(M2)
        self.fill(N, 1)
        self.fill(MEAN_LO, 0)
        for c in range(self.n_channels):
            n_negative += variance[c] < 0
        if n_negative == 0:
            return 0
        for c in range(self.n_channels):
            if variance[c] < 0:
                index = () if one else tuple(map(int, np.unravel_index(c, kept_shape(self.x, self.axes, False))))
                place = f" in channel {index[0]}" if len(index) == 1 else f" at index {index}" if index else ""
                raise ValueError(f"{name} must not be negative, got {variance[c]}{place}")
        return 0

    def infer(self, ndarray running, out, n_threads):
        """Normalize x by running estimates."""
        cdef const double *rows = <const double *> cnp.PyArray_DATA(running)
        cdef Py_ssize_t n = self.n_channels
        with cython.critical_section(running):
            memcpy(self.row(MEAN), rows + RUNNING_MEAN * n, n * sizeof(double))
            memcpy(self.row(M2), rows + RUNNING_VAR * n, n * sizeof(double))
        self.start_inference("running_var", False)
        return self.apply(out, n_threads)

    cpdef int accumulate(self, object nan_policy, object n_threads) except -1:
        """Take the statistics of x itself, without normalizing it."""
        cdef Policy policy = policy_of(nan_policy)
        cdef int failed, threads = self.threads(n_threads)
        cdef View view
        cdef Sink sink
        if self.skip(policy):
            return 0
        self.view_of(&view, self.x, self.x)         # the plan of `train`, and so its bits
        self.start_training(&view, policy)
        sink.state = self.rows
        sink.pitch = self.pitch
        if self.n_channels and view.n_rows:
            with nogil:
                failed = kernels.accumulate(&view, &sink, policy == OMIT, threads)
            check(failed)
            self.check_state(policy, False, threads)
        return 0

    cdef bint skip(self, Policy policy) except -1:
        """Under the policy "omit", skip a batch that `where` leaves out: the result and all gradients are 0."""
        if policy != OMIT or self.where is None or self.x.size == 0 or self.where.any():
            return False
        self.fill(MEAN, 0)
        self.fill(M2, 1)
        self.start_inference("var", True)
        self.training = self.omit = self.skipped = True
        return True

    cdef int start_training(self, const View *view, Policy policy) except -1:
        if view.n_rows < 2 and not self.of_instances:
            what = "an empty batch" if view.n_rows == 0 else "one value"
            parts = f" in virtual batches of {self.virtual_batch}" if self.virtual_batch > 0 else ""
            raise ValueError(f"training needs at least 2 values in each channel, got {what} from x of shape "
                             f"{(<object> self.x).shape}{parts}; use a larger batch, or inference mode")
        self.training = True
        self.omit = policy == OMIT
        return 0

    cdef bint check_state(self, Policy policy, bint replaced, int threads) except -1:
        """Raise ValueError unless training can use the statistics of the batch.

        Return whether finite data has got other statistics by a second look at x, as its squares are large. There is none
        if the result has `replaced` x.
        """
        cdef const double *n = self.row(N)
        cdef const double *mean = self.row(MEAN)
        cdef const double *m2 = self.row(M2)
        cdef Py_ssize_t c, i, first = 0, n_bad = 0
        if self.of_instances:
            return self.require_bounded(policy)
        if policy == OMIT or self.where is not None:
            if self.where is not None and not self.where.any():
                raise ValueError("where leaves out every value of the batch, and training needs at least 2 in each channel; "
                                 "leave the batch out, pass nan_policy='omit' to skip it, or use inference mode")
            mask = self.divided(self.where)
            for i in range(self.n_channels // self.instance):
                first = i * self.instance
                if policy == OMIT and self.left_out(first) and not mask[i % len(mask)].any():
                    continue
                for c in range(first, first + self.instance):
                    if n[c] < 2:
                        raise ValueError("training needs at least 2 values in each channel, got "
                                         f"{int(n[c])} in {self.place(c)}, not counting those that where or "
                                         "nan_policy='omit' leaves out; leave the batch out, or use inference mode")
        for c in range(self.n_channels):
            n_bad += (mean[c] - mean[c]) + (m2[c] - m2[c]) != 0     # NaN, which only NaN and inf give
        if n_bad == 0 or replaced:
            return False
        looked = self.second_look(policy, threads)
        n_bad = 0
        for c in range(self.n_channels - 1, -1, -1):
            if mean[c] - mean[c] != 0:
                first = c
                n_bad += 1
        if policy != PROPAGATE and n_bad > 0:
            raise not_finite(n_bad, self.n_channels, f"in {self.place(first)}")
        for c in range(self.n_channels):
            if m2[c] == INFINITY and mean[c] - mean[c] == 0:
                raise ValueError("the squared deviations of the batch sum to more than float64 can hold in "
                                 f"{self.place(c)}; scale x down")
        return looked

    cdef bint left_out(self, Py_ssize_t first) noexcept:
        """Whether no value counts in the virtual batch with the statistics from the first one on."""
        cdef const double *n = self.row(N)
        cdef Py_ssize_t c
        if self.virtual_batch == 0 or self.where is None:
            return False
        for c in range(first, first + self.instance):
            if n[c] > 0:
                return False
        return True

    cdef bint require_bounded(self, Policy policy) except -1:
        """Raise ValueError if sums of finite values of an instance overflow: there is no second look. Under "raise", also
        raise it if there is NaN or inf."""
        cdef const double *n = self.row(N)
        cdef const double *mean = self.row(MEAN)
        cdef const double *m2 = self.row(M2)
        cdef Py_ssize_t c, n_bad = 0
        for c in range(self.n_channels):
            n_bad += mean[c] - mean[c] != 0
        if n_bad > 0:
            finite = np.isfinite(self.x) if self.where is None else np.isfinite(self.x) | ~self.where
            finite = finite.all(axis=axes_named(self.axes, self.x.ndim)).reshape(-1, self.group)
            lost = ~np.isfinite(self.statistics()[MEAN]).reshape(-1, self.group).all(axis=1) & finite.all(axis=1)
            if lost.any():
                raise ValueError(f"the values of x sum to more than float64 can hold in {lost.sum()} of {lost.size} groups "
                                 "of values; scale x down")
            if policy == RAISE:
                raise ValueError(f"NaN or inf in {n_bad} of {self.n_channels} channels of instances, which running "
                                 "estimates would keep; clean the data, or leave such values out with where")
        n_bad = 0
        for c in range(self.n_channels):
            n_bad += (m2[c] + n[c] * mean[c] * mean[c] if self.about_zero else m2[c]) == INFINITY and mean[c] - mean[c] == 0
        if n_bad > 0:
            raise ValueError(f"the squares of x sum to more than float64 can hold in {n_bad} of {self.n_channels} groups of "
                             "values; scale x down")
        return False

    cdef bint second_look(self, Policy policy, int threads) except -1:
        """Look again at x, where the statistics of finite data overflow. m2 becomes inf where it exceeds float64."""
        cdef ndarray exponents = np.zeros(self.n_channels)
        cdef double *exponent = <double *> cnp.PyArray_DATA(exponents)
        cdef Py_ssize_t c
        cdef View view
        cdef Sink sink
        sink.state = self.rows
        sink.pitch = self.pitch
        self.view_of(&view, self.x)
        if not look_again(&view, &sink, self.divided(self.x), self.axes << (self.virtual_batch > 0), None,
                          self.divided(self.where), policy == OMIT, threads, exponent):
            return False
        for c in range(self.n_channels):
            if exponent[c] == 0:
                continue
            self.row(MEAN)[c] = restored(self.row(MEAN)[c], exponent[c])
            self.row(MEAN_LO)[c] = restored(self.row(MEAN_LO)[c], exponent[c])
            self.row(M2)[c] = INFINITY
            self.row(M2_LO)[c] = 0
        return True

    cpdef ndarray apply(self, object out, object n_threads):
        """Normalize x by the rows as they are now. If the result replaces x, x is None from then on."""
        return self.apply_and_look(out, n_threads, NULL)

    cdef ndarray apply_and_look(self, object out, object n_threads, bint *has_inf):
        """Normalize x, and tell whether it held inf, unless `has_inf` is NULL."""
        cdef bint replaced
        cdef ndarray y = result_like(self.x, out, self.result_dtype, &replaced)
        cdef Norm fields = self.norm()
        cdef int failed = 0, threads = self.threads(n_threads)
        cdef ndarray quarters
        cdef View view
        self.view_of(&view, self.x, y)
        if view.n_rows and view.n_channels:
            if view.operand[0].element == FLOAT64 and self.any_far():
                quarters = self.quarters()
                fields.rows = <double *> cnp.PyArray_DATA(quarters)
                view.in_place = False
                view.scale = 0.25
            if self.small():
                failed = kernels.affine(&view, &fields, has_inf != NULL, threads)
            else:
                with nogil:
                    failed = kernels.affine(&view, &fields, has_inf != NULL, threads)
            check(failed)
        if has_inf != NULL:
            has_inf[0] = failed == 1
        if replaced:
            self.x = None
        return y

    cdef bint any_far(self) noexcept:
        """Whether x - mean may overflow for a finite x."""
        cdef const double *mean = self.row(MEAN)
        cdef Py_ssize_t c, n_far = 0
        for c in range(self.n_channels):
            n_far += fabs(mean[c]) > FAR
        return n_far > 0

    cdef ndarray quarters(self):
        """The rows for an x that is multiplied by 1/4, (NORM_ROWS, pitch): (x / 4 - mean / 4) * (4 * scale) + beta."""
        cdef ndarray rows = np.zeros((NORM_ROWS, self.pitch))
        cdef double *row = <double *> cnp.PyArray_DATA(rows)
        cdef Py_ssize_t c
        memcpy(row, self.rows, NORM_ROWS * self.pitch * sizeof(double))
        for c in range(self.n_channels):
            row[MEAN * self.pitch + c] *= 0.25
            row[MEAN_LO * self.pitch + c] *= 0.25
            row[GAMMA * self.pitch + c] *= 4
        return rows

    cpdef ndarray train(self, object out, object nan_policy, object n_threads):
        """Normalize x by its own statistics. If the result replaces x, x is None from then on."""
        cdef bint replaced
        cdef Policy policy = policy_of(nan_policy)
        cdef ndarray y = result_like(self.x, out, self.result_dtype, &replaced)
        cdef Norm fields = self.norm()
        cdef int failed, threads
        cdef View view
        if self.skip(policy):
            return self.apply(y, n_threads)
        if replaced and (policy != PROPAGATE or self.where is not None or cnp.PyArray_TYPE(self.x) == cnp.NPY_DOUBLE):
            # A refused batch must not be lost: all of it is checked before anything is written. Squares of float64 may
            # overflow under any policy.
            self.accumulate(nan_policy, n_threads)
            return self.apply(y, n_threads)
        threads = self.threads(n_threads)
        self.view_of(&view, self.x, y)
        self.start_training(&view, policy)
        if self.result_only and self.plain and policy == PROPAGATE and view.operand[0].element != FLOAT64:
            fields.rows = NULL          # Only the squares of float64 can overflow. No others are looked at.
        if self.n_channels and view.n_rows:
            if self.small():
                failed = kernels.standardize(&view, &fields, policy == OMIT, threads)
            else:
                with nogil:
                    failed = kernels.standardize(&view, &fields, policy == OMIT, threads)
            check(failed)
            if fields.rows != NULL and self.check_state(policy, replaced, threads):
                return self.apply(y, n_threads)
        if replaced:
            self.x = None
        return y

    cdef int blend(self, double *mean, double *var, Py_ssize_t first, Py_ssize_t n_channels, double momentum, double ddof,
                   bint of_sd) except -1:
        """running <- (1 - momentum) * running + momentum * batch, of the mean, and of the variance or `of_sd`.

        The statistics are those of n channels from the first one on. The GIL is kept, so that no thread sees half of it.
        ddof is below 2, and so below n.
        """
        cdef const double *n = self.row(N) + first
        cdef const double *batch_mean = self.row(MEAN) + first
        cdef const double *m2 = self.row(M2) + first
        cdef double sd
        cdef Py_ssize_t c
        for c in range(n_channels):
            mean[c] = (1 - momentum) * mean[c] + momentum * batch_mean[c]
            if of_sd:
                sd = (1 - momentum) * sqrt(var[c] + self.eps) + momentum * sqrt(m2[c] / (n[c] - ddof) + self.eps)
                sd = sd * sd - self.eps
                var[c] = 0 if sd < 0 else sd            # NaN stays
            else:
                var[c] = (1 - momentum) * var[c] + momentum * (m2[c] / (n[c] - ddof))
        return 0

    cdef int weigh(self, double *spread, Py_ssize_t first, Py_ssize_t n_channels, double momentum) except -1:
        """Update the sum of w**2 / n over the batches of weight w, and in the row after it the weight of the start."""
        cdef const double *n = self.row(N) + first
        cdef double *initial = spread + n_channels
        cdef double rest = 1 - momentum
        cdef Py_ssize_t c
        for c in range(n_channels):
            spread[c] = rest * rest * spread[c] + momentum * momentum / n[c]
            initial[c] *= rest
        return 0

    def statistics(self):
        """The seven rows, (7, channels), as a view."""
        cdef cnp.npy_intp shape[2]
        cdef ndarray rows
        shape[0] = NORM_ROWS
        shape[1] = self.pitch
        rows = cnp.PyArray_SimpleNewFromData(2, shape, cnp.NPY_DOUBLE, self.rows)
        cnp.set_array_base(rows, self)
        return rows[:, :self.n_channels]

    def batch_statistics(self):
        """The five rows of the state of the whole batch, (5, channels): those of its virtual batches, merged in order."""
        cdef ndarray state = self.statistics()[:STATE_ROWS, :self.instance].copy()
        cdef Py_ssize_t i, n = self.instance
        for i in range(1, self.n_channels // n):
            kernels.merge(<double *> cnp.PyArray_DATA(state), n, NULL, self.rows + i * n, self.pitch, n)
        return state

    def backward(self, dy, out, tuple dtypes, n_threads, bint keep_x=False):
        """Return the gradients of x, gamma and beta. `dtypes` holds the dtypes of the last two, or None for a parameter that
        does not exist. With `keep_x`, `out` must not be x."""
        cdef ndarray a = real_array(dy, "dy"), dx, x = self.x
        cdef Norm fields = self.norm()
        cdef double small[GRAD_ROWS * FEW]
        cdef double *grads = small
        cdef Elementwise each = self.each
        cdef int failed, threads
        cdef bint replaced
        cdef View view
        if x is None:
            raise RuntimeError("the call wrote its result over x, which backward needs; call without out=x")
        self.require_same_shape()
        if not same_shape(a, x):
            raise ValueError(f"dy must have the shape of x in the call, {(<object> x).shape}, got {(<object> a).shape}")
        dx = result_like(x, out, None, &replaced)
        if replaced and keep_x:
            raise ValueError("out is the x of this call, which further calls of its backward pass need; pass dy, or another "
                             "array")
        overlap(a, dx, "dy")
        threads = self.threads(n_threads)
        self.view_of(&view, x, a, dx)
        if self.pitch > FEW:
            grads = <double *> malloc(GRAD_ROWS * self.pitch * sizeof(double))
        if each.gamma != NULL:
            each.of_gamma = <double *> calloc(max(1, 2 * each.n), sizeof(double))
            each.of_beta = each.of_gamma + each.n
            fields.each = &each
        try:
            if grads == NULL or each.gamma != NULL and each.of_gamma == NULL:
                raise MemoryError("no memory for the gradients of the parameters")
            memset(grads, 0, GRAD_ROWS * self.pitch * sizeof(double))
            if view.n_rows and view.n_channels:
                if self.small():
                    failed = self.gradients(&view, &fields, grads, threads)
                else:
                    with nogil:
                        failed = self.gradients(&view, &fields, grads, threads)
                check(failed)
                if not self.training:
                    self.scale_gradient(a, dx, threads)
                if self.ratio is not None:
                    self.renormalize_gradient(grads)
            of_gamma = self.parameter_gradient(grads + GRAD_GAMMA * self.pitch, each.of_gamma, dtypes[0])
            return dx, of_gamma, self.parameter_gradient(grads + GRAD_BETA * self.pitch, each.of_beta, dtypes[1])
        finally:
            if grads != small:
                free(grads)
            free(each.of_gamma)

    cdef int gradients(self, const View *view, const Norm *norm, double *grads, int threads) noexcept nogil:
        if self.training:
            return kernels.backward(view, norm, grads, self.omit, threads)
        return kernels.gradients(view, norm, grads, self.omit, threads)

    cdef int scale_gradient(self, ndarray dy, ndarray dx, int threads) except -1:
        """In inference, dx = dy * scale: an affine map without mean and beta."""
        cdef ndarray rows = np.zeros((NORM_ROWS, self.pitch))
        cdef Norm fields = self.norm()
        cdef int i, failed
        cdef View view
        fields.rows = <double *> cnp.PyArray_DATA(rows)
        for i in (N, M2, GAMMA):
            memcpy(fields.rows + i * self.pitch, self.row(i), self.pitch * sizeof(double))
        self.view_of(&view, dy, dx)
        if self.small():
            failed = kernels.affine(&view, &fields, False, threads)
        else:
            with nogil:
                failed = kernels.affine(&view, &fields, False, threads)
        return check(failed)

    cdef int renormalize_gradient(self, double *grads) except -1:
        """Turn the gradient of gamma into that of Batch Renormalization, whose xhat is r * xhat + d."""
        cdef ndarray r = np.ascontiguousarray(self.ratio[0], np.float64), d = np.ascontiguousarray(self.ratio[1], np.float64)
        cdef double *of_gamma = grads + GRAD_GAMMA * self.pitch
        cdef Py_ssize_t c
        for c in range(self.n_channels):
            of_gamma[c] = (<double *> cnp.PyArray_DATA(r))[c] * of_gamma[c] + (
                (<double *> cnp.PyArray_DATA(d))[c] * grads[GRAD_BETA * self.pitch + c])
        return 0

    cdef object parameter_gradient(self, double *row, const double *of_each, dtype):
        """The gradient of a parameter from those of the channels, which change, or of the batch positions; or None."""
        cdef Py_ssize_t n = self.instance
        cdef double *of_instance
        cdef Py_ssize_t half, i, count
        if dtype is None:
            return None
        if self.each.gamma != NULL:
            return self.gradient(of_each, self.each.n, dtype).reshape(at_axes((<object> self.x).shape, self.axes))
        count = self.n_channels // n if n > 0 else 0
        if count == 0:
            return np.zeros(n, dtype)
        while count > 1:        # Add up the instances in halves, so that equal terms do not all round to the same side.
            half = (count + 1) // 2
            of_instance = row + half * n
            for i in range((count - half) * n):
                row[i] += of_instance[i]
            count = half
        return self.gradient(row, n, dtype)

    cdef object gradient(self, const double *row, Py_ssize_t n_values, dtype):
        """Values in a dtype."""
        cdef cnp.npy_intp n = n_values
        cdef Py_ssize_t c
        cdef ndarray out
        if (<cnp.dtype> dtype).type_num == cnp.NPY_FLOAT:
            out = cnp.PyArray_SimpleNew(1, &n, cnp.NPY_FLOAT)
            for c in range(n):
                (<float *> cnp.PyArray_DATA(out))[c] = <float> row[c]
            return out
        out = cnp.PyArray_SimpleNew(1, &n, cnp.NPY_DOUBLE)
        memcpy(cnp.PyArray_DATA(out), row, n * sizeof(double))
        return out if (<cnp.dtype> dtype).type_num == cnp.NPY_DOUBLE else rounded(out, dtype)


def normalize_and_look(x, mean, gamma, beta):
    """`normalize` by a variance of 1, and whether x holds inf; another pass would take a quarter more time."""
    cdef bint has_inf
    cdef Forward forward = broadcast_forward(x, mean, 1, gamma, beta, 0)
    return forward.apply_and_look(None, None, &has_inf), has_inf


cdef Forward new_forward(object x, object channel_axis, int least_ndim, object gamma, object beta, double eps,
                         Py_ssize_t virtual_batch=0):
    """A forward with parameters of the shape of the channels, whose statistics are still to come."""
    cdef ndarray a = as_array(x)
    if 0 < a.ndim < least_ndim:
        raise ValueError(f"expected an array of at least {least_ndim} dimensions, a batch and its channels, got shape "
                         f"{(<object> a).shape}; make a batch of one sample with x[None]")
    return forward_over(a, batch_axes_of(channel_axis, a.ndim), False, gamma, beta, eps, False, virtual_batch)


cdef Forward broadcast_forward(object x, object mean, object var, object gamma, object beta, double eps):
    """A forward in inference whose parameters broadcast against x. Its channels lie along the axes that they vary along."""
    cdef ndarray a = as_array(x)
    cdef unsigned long long kept = 0, every = batch_axes(None, a.ndim)
    cdef Forward f
    mean, var = real_array(mean, "mean"), real_array(var, "var")
    gamma = None if gamma is None else real_array(gamma, "gamma")
    beta = None if beta is None else real_array(beta, "beta")
    kept = varying_axes(a, mean, "mean") | varying_axes(a, var, "var")
    if gamma is not None:
        kept |= varying_axes(a, gamma, "gamma")
    if beta is not None:
        kept |= varying_axes(a, beta, "beta")
    f = forward_over(a, every & ~kept, True, gamma, beta, eps)
    f.set_statistics(mean, var, "")
    return f


cdef unsigned long long varying_axes(ndarray x, ndarray a, str name) except? 0:
    """The axes of x along which a parameter varies when it broadcasts against x, as bits."""
    cdef unsigned long long axes = 0
    cdef int i, before = x.ndim - a.ndim
    cdef bint fits = before >= 0
    if fits:
        for i in range(a.ndim):
            if a.shape[i] != 1:
                fits = fits and a.shape[i] == x.shape[before + i]
                axes |= 1ULL << (before + i)
    if not fits:
        raise ValueError(f"{name} of shape {(<object> a).shape} does not broadcast against x of shape {(<object> x).shape}; "
                         "give it length 1 along the batch axes, as keepdims=True does, or pass channel_axis for parameters "
                         "of one axis")
    return axes


cdef Forward forward_over(ndarray x, unsigned long long axes, bint broadcasting, object gamma, object beta, double eps,
                          bint plain=False, Py_ssize_t virtual_batch=0):
    """A forward that reduces over some axes, with its parameters, or none if it is plain."""
    cdef Forward f = Forward.__new__(Forward)
    cdef Py_ssize_t n_parts = x.shape[0] // virtual_batch if virtual_batch > 0 else 1
    cdef int i
    if not 0 <= eps < INFINITY:
        raise ValueError(f"eps must be a finite number of at least 0, got {eps}")
    f.x = x
    f.ndim = x.ndim
    memcpy(f.lengths, cnp.PyArray_DIMS(x), x.ndim * sizeof(Py_ssize_t))
    f.axes = axes
    f.broadcasting = broadcasting
    f.group = 1
    f.eps = eps
    f.n_channels = 1
    for i in range(x.ndim):
        if not axes >> i & 1:
            f.n_channels *= x.shape[i]
    f.instance = f.n_channels
    f.pitch = padded(n_parts * f.n_channels)
    if f.n_channels <= PY_SSIZE_T_MAX // n_parts // <Py_ssize_t> (2 * NORM_ROWS * sizeof(double)):
        f.rows = <double *> malloc(max(1, NORM_ROWS * f.pitch) * sizeof(double))
    if f.rows == NULL:
        raise MemoryError(f"no memory for the parameters of {n_parts * f.n_channels} channels")
    if plain:
        f.plain = True
        return f
    if gamma is None:
        f.fill(GAMMA, 1)
    else:
        f.set_row(GAMMA, gamma, "gamma")
    if beta is None:
        f.fill(BETA, 0)
    else:
        f.set_row(BETA, beta, "beta")
    f.virtual_batch = virtual_batch
    f.n_channels *= n_parts
    f.repeat(GAMMA)
    f.repeat(BETA)
    return f


def forward_of(x, Py_ssize_t n_channels, gamma, beta, double eps, Py_ssize_t channel_axis, where, result_dtype,
               Py_ssize_t virtual_batch=0):
    """A forward of a layer, whose statistics are still to come: those of the batch, or of its virtual batches."""
    cdef ndarray a = as_array(x)
    cdef Py_ssize_t axis = channel_axis + a.ndim if channel_axis < 0 else channel_axis
    cdef Forward f
    if a.ndim >= 2 and 0 <= axis < a.ndim and a.shape[axis] != n_channels:
        raise ValueError(f"expected {counted(n_channels)} along axis {channel_axis}, got {a.shape[axis]} from x of shape "
                         f"{(<object> a).shape}; channel_axis says which axis holds them")
    f = new_forward(a, channel_axis, 2, gamma, beta, eps, checked_virtual_batch(a, axis, virtual_batch))
    f.set_where(where)
    f.result_dtype = result_dtype
    return f


cdef Py_ssize_t checked_virtual_batch(ndarray x, Py_ssize_t channel_axis, Py_ssize_t virtual_batch) except -1:
    """The rows of a virtual batch along axis 0; 0 if the batch is no larger than one."""
    if virtual_batch == 0 or x.ndim < 2:
        return 0
    if channel_axis == 0:
        raise ValueError("virtual_batch divides axis 0, which holds the channels of this layer; move them with np.moveaxis, "
                         "and set channel_axis")
    if x.shape[0] <= virtual_batch:
        return 0
    if x.ndim == MAX_DIMS:
        raise ValueError(f"virtual_batch needs x of at most {MAX_DIMS - 1} dimensions, got {MAX_DIMS}")
    if x.shape[0] % virtual_batch:
        raise ValueError(f"virtual_batch must divide the rows of the batch, got virtual_batch={virtual_batch} and x of "
                         f"shape {(<object> x).shape}; leave {counted(x.shape[0] % virtual_batch, 'row', 'rows')} "
                         "out, or fill the batch up and mark what is to be used with where")
    return virtual_batch


def move_estimates(Forward forward, ndarray running, ndarray n_batches, momentum, double ddof, bint of_sd, pooled=None,
                   of_batch=None, ndarray exact=None):
    """Move running estimates, as `RunningEstimates` has them, by the statistics of a batch, or of one virtual batch after
    the other.

    Batch Renormalization moves the standard deviation, with eps, rather than the variance. Where pooled statistics are
    kept, `of_batch` is merged into them. Without a momentum the estimates become `exact`. No Python runs in
    between, so that an interruption, such as Ctrl-C, comes before all of this or after it. Without a GIL, the lock of the
    rows keeps other threads out.
    """
    with cython.critical_section(running):
        move_rows(forward, running, n_batches, momentum, ddof, of_sd, pooled, of_batch, exact)


cdef int move_rows(Forward forward, ndarray running, ndarray n_batches, object momentum, double ddof, bint of_sd,
                   object pooled, object of_batch, ndarray exact) except -1:
    cdef double *rows = <double *> cnp.PyArray_DATA(running)
    cdef double *batch_var = rows + BATCH_VAR * running.shape[1]
    cdef double weight = 0 if momentum is None else momentum
    cdef Py_ssize_t c, i, first, n = running.shape[1]
    if pooled is not None:
        pooled.merge(of_batch)
    if momentum is None:
        memcpy(rows, cnp.PyArray_DATA(exact), BATCH_MEAN * n * sizeof(double))
    for i in range(forward.n_channels // n):
        first = i * n
        if forward.left_out(first):
            continue
        (<cnp.npy_int64 *> cnp.PyArray_DATA(n_batches))[0] += 1
        if momentum is not None:
            forward.blend(rows + RUNNING_MEAN * n, rows + RUNNING_VAR * n, first, n, weight, ddof, of_sd)
            forward.weigh(rows + SPREAD * n, first, n, weight)
        memcpy(rows + BATCH_MEAN * n, forward.row(MEAN) + first, n * sizeof(double))
        for c in range(n):
            batch_var[c] = forward.row(M2)[first + c] / forward.row(N)[first + c]
    return 0


def copied(ndarray array, ndarray other):
    """Copies of two arrays that `move_estimates` moves, of one moment."""
    cdef ndarray one = np.empty_like(array), two = np.empty_like(other)
    with cython.critical_section(array):
        memcpy(cnp.PyArray_DATA(one), cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
        memcpy(cnp.PyArray_DATA(two), cnp.PyArray_DATA(other), cnp.PyArray_NBYTES(other))
    return one, two


def locked(lock, function, *arguments):
    """Call a function while a lock is held.

    Unlike in a with statement, no Python runs between the lock and the call, so that no interruption leaves it locked.
    """
    acquire(lock)
    try:
        return function(*arguments)
    finally:
        release(lock)


def replace(list targets, list sources, owner=None, dict attributes=None):
    """Copy each source into its target, and set attributes of their owner.

    No Python runs in between, so that an interruption, such as Ctrl-C, comes before all of this or after it.
    """
    with cython.critical_section(targets[0] if targets else owner):
        replace_all(targets, sources, owner, attributes)


cdef int replace_all(list targets, list sources, object owner, dict attributes) except -1:
    cdef ndarray target, source
    cdef Py_ssize_t i
    for i in range(len(targets)):
        target, source = targets[i], sources[i]
        cnp.PyArray_CopyInto(target, source)
    if attributes is not None:
        for name, value in attributes.items():
            setattr(owner, name, value)
    return 0
