# Adding a batch to a `Moments`: the kernels compute its state, or its exact sums, and what is tracked of it.

cdef enum:
    UPDATE_ROWS = WEIGHTED_ROWS + TRACKED_ROWS


cdef int add_batch(Moments m, ndarray a, unsigned long long axes, ndarray mask, object weights, object n_threads) except -1:
    """Compute the state of a batch, and merge it into that of a plain `Moments`."""
    cdef ndarray given = None if weights is None else weights_of(weights, mask, a, axes)
    cdef View view
    cdef Sink sink
    cdef Py_ssize_t n_bytes = cnp.PyArray_NBYTES(a)
    cdef Py_ssize_t c
    cdef int threads = threads_for(n_bytes, n_threads)
    cdef int failed, i
    cdef double small[UPDATE_ROWS * 64]
    cdef double *part = small
    cdef double *exponent = NULL
    cdef ndarray exponents
    cdef bint large, weighted = weights is not None
    cdef Tracked tracked
    cdef int careful = False
    cdef tuple track = m.track
    cdef ndarray missing = None
    make_view(&view, axes, a, None, None, given, mask)
    if view.n_rows == 0 or view.n_channels == 0:
        return 0
    check_channels(m, a, axes, view.n_channels)
    shape = m.shape                     # for `take_in`, in case another thread sets it meanwhile
    sink.pitch = padded(view.n_channels)
    if sink.pitch > 64:
        part = NULL
        if sink.pitch <= PY_SSIZE_T_MAX // <Py_ssize_t> (UPDATE_ROWS * sizeof(double)):
            part = <double *> malloc(UPDATE_ROWS * sink.pitch * sizeof(double))
        if part == NULL:
            raise MemoryError(f"no memory for the state of {view.n_channels} channels")
    sink.state = part
    try:
        if len(track) > 0:
            tracked = to_track(part + WEIGHTED_ROWS * sink.pitch, sink.pitch, track, &careful)
            with nogil:
                failed = kernels.accumulate_tracked(&view, &sink, &tracked, m.policy == OMIT, threads)
        elif n_bytes < SMALL:
            failed = kernels.accumulate(&view, &sink, m.policy == OMIT, threads)
        else:
            with nogil:
                failed = kernels.accumulate(&view, &sink, m.policy == OMIT, threads)
        if failed:
            raise MemoryError("no memory for the scratch of an update")
        if len(track) > 0 and "missing" in track:
            missing = missing_of(m, a, axes, given, mask, &view, &sink, careful, threads)
        large = not moderate(part, sink.pitch, view.n_channels)
        if large:
            exponents = np.zeros(sink.pitch)
            if look_again(&view, &sink, a, axes, given, mask, m.policy == OMIT, threads,
                          <double *> cnp.PyArray_DATA(exponents)):
                exponent = <double *> cnp.PyArray_DATA(exponents)
            if m.policy == RAISE:
                require_finite_part(m, a, axes, &sink, view.n_channels)
        for i in range(WEIGHTED_ROWS if weighted else STATE_ROWS):  # The kernels fill the padding of whole states alone.
            for c in range(view.n_channels, sink.pitch):
                part[i * sink.pitch + c] = 0
        shape = kept_shape(a, axes, False) if shape is None else shape
        lock = acquire(m.lock)
        try:
            sketches = None
            if lock is not None and "quantiles" in track:
                sketches = sketches_with(m, a, axes, mask, view.n_channels)
            take_in(m, part, sink.pitch, shape, weighted, exponent, large, part + WEIGHTED_ROWS * sink.pitch, missing,
                    sketches, track)
        finally:
            release(lock)
    finally:
        if part != small:
            free(part)
    return 0


cdef object sketches_with(Moments m, ndarray a, unsigned long long axes, ndarray mask, Py_ssize_t size):
    """New sketches of quantiles, of the `size` channels with a batch."""
    return m._sketches_with_batch(a, axes_named(axes, a.ndim), mask, size)


cdef ndarray missing_of(Moments m, ndarray a, unsigned long long axes, ndarray weights, ndarray mask, const View *view,
                        const Sink *part, bint careful, int threads):
    """How many of the selected elements of a batch are NaN or inf: int64, a number for each channel; None for 0.

    Where the kernel has met none this costs nothing. Otherwise the finite ones are counted by `accumulate`, unless n is
    their count.
    """
    cdef ndarray missing
    cdef int64_t *out
    cdef const double *counts = part.state + N * part.pitch
    cdef View again
    cdef Sink finite
    cdef ndarray rows, selected
    cdef Py_ssize_t c
    cdef int failed
    if m.policy == RAISE or m.policy == OMIT and not careful:
        return None
    if m.policy == PROPAGATE and moderate(part.state, part.pitch, view.n_channels):
        return None
    missing = np.zeros(part.pitch, np.int64)
    out = <int64_t *> cnp.PyArray_DATA(missing)
    if weights is not None:
        mask = weights != 0 if mask is None else mask & (weights != 0)
    if weights is not None or m.policy == PROPAGATE:
        make_view(&again, axes, a, None, None, None, mask)
        rows = np.empty((WEIGHTED_ROWS, part.pitch))
        finite.state = <double *> cnp.PyArray_DATA(rows)
        finite.pitch = part.pitch
        with nogil:
            failed = kernels.accumulate(&again, &finite, True, threads)
        if failed:
            raise MemoryError("no memory for the scratch of an update")
        counts = finite.state + N * part.pitch
    selected = selected_of(a, axes, mask)
    for c in range(view.n_channels):
        out[c] = (<int64_t *> cnp.PyArray_DATA(selected))[c] - <int64_t> counts[c]
    return missing


@cython.critical_section
cdef int add_exactly(Moments m, ndarray a, unsigned long long axes, ndarray mask, object weights,
                     object n_threads) except -1:
    """Add the sums of a batch to those of an exact `Moments`."""
    cdef ExactSums part, own = m.sums
    cdef tuple track = m.track
    cdef int threads = threads_for(cnp.PyArray_NBYTES(a), n_threads)
    cdef ndarray counts = None if weights is None else counts_of(weights, mask, a, axes)
    cdef ndarray found = None, missing = None
    if cnp.PyArray_SIZE(a) == 0:
        return 0
    shape = m.shape if m.shape is not None else kept_shape(a, axes, False)
    check_channels(m, a, axes, math.prod(shape))
    if "min" in track:
        found = extremes_of(m, a, axes, mask, counts, threads)
    sketches = sketches_with(m, a, axes, mask, math.prod(shape)) if "quantiles" in track else None
    if counts is not None:
        part = weighted_sums(a, axes, mask, counts, threads)
    else:
        part = sums_of_array(a, axes, mask, threads, own, m.policy == RAISE)
    if part is None or part is own and own is not m.sums:    # refused, or another thread has widened the sums
        part = sums_of_array(a, axes, mask, threads)
    if m.policy == RAISE and not part.finite():
        require_finite(np.where(part.counts[1:].any(0), NAN, 0.0).reshape(shape))
    if m.policy == OMIT:
        if "missing" in track:
            missing = np.zeros(padded(len(part)), np.int64)
            missing[:len(part)] = part.counts[1:].sum(0)
        part.leave_out()
    if part is not own:
        add_sums(m, part, shape, track)
    take_in_tracked(m, NULL if found is None else <const double *> cnp.PyArray_DATA(found), padded(m.size), missing,
                    NULL, NULL, sketches)
    return 0


cdef ndarray extremes_of(Moments m, ndarray a, unsigned long long axes, ndarray mask, ndarray counts, int threads):
    """The least and the greatest elements, by a read of their own; NaN is passed over."""
    cdef View view
    cdef Tracked tracked
    cdef tuple track = ("min", "max")
    cdef Sink none
    cdef ndarray found
    cdef int careful = False, failed
    if counts is not None:
        mask = counts != 0 if mask is None else mask & (counts != 0)
    make_view(&view, axes, a, None, None, None, mask)
    found = nothing_tracked(track, view.n_channels)
    tracked = to_track(<double *> cnp.PyArray_DATA(found), found.shape[1], track, &careful)
    tracked.alone = True
    none.state = NULL
    with nogil:
        failed = kernels.accumulate_tracked(&view, &none, &tracked, m.policy == OMIT, threads)
    if failed:
        raise MemoryError("no memory for the scratch of an update")
    return found


cdef int check_channels(Moments m, ndarray a, unsigned long long axes, Py_ssize_t n_channels) except -1:
    cdef int i, kept = 0
    if m.shape is None:
        if m._names is not None and kept_shape(a, axes, False) != (len(m._names),):
            raise ValueError(f"expected {len(m._names)} channels, one for each name, got channels of shape "
                             f"{kept_shape(a, axes, False)} from a batch of shape {(<object> a).shape} with "
                             f"axis={m.axis!r}")
        return 0
    for i in range(a.ndim):
        if not axes >> i & 1:
            if kept == len(m.shape) or a.shape[i] != <Py_ssize_t> m.shape[kept]:
                break
            kept += 1
    else:
        if kept == len(m.shape):
            return 0
    raise ValueError(f"expected channels of shape {m.shape} as in the batches before, got "
                     f"{kept_shape(a, axes, False)} from a batch of shape {(<object> a).shape} with axis={m.axis!r}")


cdef int require_finite_part(Moments m, ndarray a, unsigned long long axes, const Sink *part,
                             Py_ssize_t n_channels) except -1:
    cdef Py_ssize_t c
    cdef ndarray mean
    cdef const double *means = part.state + MEAN * part.pitch
    for c in range(n_channels):
        if means[c] - means[c] != 0:
            mean = np.empty(kept_shape(a, axes, False))
            memcpy(cnp.PyArray_DATA(mean), means, n_channels * sizeof(double))
            return require_finite(mean)
    return 0


cdef Tracked to_track(double *rows, Py_ssize_t pitch, tuple track, int *careful):
    cdef Tracked tracked
    tracked.rows = rows
    tracked.pitch = pitch
    tracked.extremes = "min" in track
    tracked.powers = "skewness" in track
    tracked.alone = False
    tracked.careful = careful
    return tracked


cdef ndarray selected_of(ndarray a, unsigned long long axes, ndarray mask):
    """How many elements of each channel a mask with the axes of a selects: int64, of the channels in one axis."""
    cdef int64_t repeats = 1
    cdef int i
    counts = np.ones((1,) * a.ndim, np.int64)
    if mask is not None:
        counts = mask.sum(axes_named(axes, a.ndim), dtype=np.int64, keepdims=True)
    for i in range(a.ndim):
        if axes >> i & 1 and (mask is None or mask.shape[i] == 1):
            repeats *= a.shape[i]
    return np.ascontiguousarray(np.broadcast_to(counts * repeats, kept_shape(a, axes, True)).ravel())
