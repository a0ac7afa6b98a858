# Copies of what a `Moments` holds, each of one moment, whatever other threads do, and a `Moments` made of them.

cdef dict TRACKED_ROW = {name: row for row, name in enumerate(("min", "max", "m3", "m3_lo", "m4", "m4_lo"))}


cdef tuple channels(Moments m):
    """The shape of the channels; before the first batch as many as there are names, or one."""
    if m.shape is not None:
        return m.shape
    return () if m._names is None else (len(m._names),)


@cython.critical_section
cdef ndarray snapshot(Moments m):
    """A consistent copy of the state, (SCALED_ROWS, *shape), made under the GIL, which NumPy's copy would release."""
    cdef tuple shape = channels(m)
    cdef ndarray rows = np.zeros((SCALED_ROWS, *shape))
    cdef Py_ssize_t i, size = m.size, n_bytes = size * sizeof(double)
    cdef char *out = <char *> cnp.PyArray_DATA(rows)
    cdef const char *state
    if m.shape is None or not size:
        return rows
    if m.exact:
        rows[...] = m.sums.copied().rows().reshape((<object> rows).shape)
        return rows
    if m.shape is not shape:        # A first batch came while the rows were allocated.
        return snapshot(m)
    state = <const char *> cnp.PyArray_DATA(m.state)
    for i in range(SCALED_ROWS):
        memcpy(out + i * n_bytes, state + i * cnp.PyArray_STRIDE(m.state, 0), n_bytes)
    if not m.weighted:
        memcpy(out + SQUARES * n_bytes, state, n_bytes)
    return rows


def rows_of(Moments m):
    """A consistent copy of the state of a `Moments`, whatever other threads do.

    Returns
    -------
    ndarray of float64 or None
        Of shape (5, *channels), its rows named by `rows.ROWS`; (7, *channels), named by `rows.WEIGHTED_ROWS`, once
        there were weights; (8, *channels), named by `rows.SCALED_ROWS`, where m2 exceeds the largest float in some
        channel. Then the squared weights are 0 if there were no weights. None before the first batch.
    """
    if m.shape is None:
        return None
    rows = snapshot(m)
    if not (m.scaled or rows[EXPONENT].any()):
        return rows[:WEIGHTED_ROWS if m.weighted else STATE_ROWS]
    if not m.weighted:
        rows[SQUARES] = 0
    return rows


@cython.critical_section
cpdef ExactSums sums_of(Moments m):
    """A copy of the exact sums of a `Moments`, of its channels in one axis; None before the first batch."""
    return None if m.sums is None else m.sums.copied()


@cython.critical_section
def tracked_of(Moments m):
    """A copy of what a `Moments` tracks: arrays of the shape of the channels, by the names of `tracking.ARRAYS`.

    Of exact statistics, `missing` has what is left out of their sums, and the extremes are NaN where these count NaN.
    Before the first batch there are none.
    """
    cdef tuple names = arrays_of(m.track)
    cdef dict found = {name: np.empty(m.size, np.int64 if name == "missing" else np.float64) for name in names}
    cdef tuple shape = m.shape
    cdef Py_ssize_t row
    if shape is None:
        return {}
    for name in names:
        if name == "quantiles":
            found[name] = m._sketches_by_channel(m.size)
        elif name == "missing":
            memcpy(cnp.PyArray_DATA(found[name]), cnp.PyArray_DATA(m.left_out), m.size * sizeof(int64_t))
        else:
            row = TRACKED_ROW[name]
            memcpy(cnp.PyArray_DATA(found[name]), <double *> cnp.PyArray_DATA(m.tracked) + row * m.tracked.shape[1],
                   m.size * sizeof(double))
    if m.exact and "min" in found:
        has_nan = m.sums.copied().counts[1] > 0
        found["min"][has_nan] = found["max"][has_nan] = NAN
    return {name: values.reshape(shape) for name, values in found.items()}


def consistent(Moments m):
    """The rows of a plain `Moments`, or the sums of an exact one, and what it tracks, of one moment."""
    if m.lock is not None:
        lock = acquire(m.lock)
        try:
            return sums_of(m) if m.exact else rows_of(m), tracked_of(m)
        finally:
            release(lock)
    while True:
        n_changes = m.n_changes
        found = sums_of(m) if m.exact else rows_of(m), tracked_of(m)
        if m.n_changes == n_changes:
            return found


@cython.critical_section
def add_missing(Moments m, counts):
    """Count values that no update has seen as missing: a number, or one for each channel. Nothing is checked."""
    if m.left_out is None or m.shape is None:
        return
    more = np.zeros(padded(m.size), np.int64)
    more[:m.size] = np.broadcast_to(counts, m.shape).ravel()
    m.left_out += more
    m.n_changes += 1


def made_of(found, dict tracked, tuple shape, axis, nan_policy, names, bint exact, tuple track):
    """A `Moments` of what `consistent` returns. Nothing is checked."""
    cdef Moments m
    if exact and found is not None:
        m = exact_moments_from(found, shape, axis, nan_policy, names)
    elif exact:
        m = Moments(axis, nan_policy=nan_policy, names=names, exact=True)
    else:
        m = moments_from(found, axis, nan_policy, names)
    set_track(m, track)
    set_tracked(m, tracked)
    return m


def with_tracked(Moments m, dict tracked):
    """The same `Moments`, tracking what these arrays hold; see `tracked_of`. Nothing is checked."""
    set_track(m, track_of(tracked))
    set_tracked(m, tracked)
    return m


cdef int set_tracked(Moments m, dict arrays) except -1:
    """Set what is tracked to arrays of the names that its track calls for."""
    cdef str name
    if m.shape is None or not arrays:
        return 0
    m.tracked, m.left_out, m.powers = nothing_tracked(m.track, m.size), none_missing(m.track, m.size), "skewness" in m.track
    for name, values in arrays.items():
        if name == "quantiles":
            m._set_sketches(values)
        elif name == "missing":
            m.left_out[:m.size] = values.ravel()
        else:
            m.tracked[TRACKED_ROW[name], :m.size] = values.ravel()
    return 0


def exact_moments_from(sums, tuple shape, axis=0, nan_policy="raise", names=None, tracked=None):
    """An exact `Moments` with these sums, of channels of this shape, and what it tracks. Nothing is checked."""
    cdef Moments m = Moments(axis, nan_policy=nan_policy, exact=True, track=track_of(tracked or ()))
    m.shape, m.size, m.sums = shape, math.prod(shape), sums
    m.names = names
    set_tracked(m, tracked or {})
    return m


def moments_from(rows, axis=0, nan_policy="raise", names=None, tracked=None):
    """A `Moments` with the given state, and what it tracks: the inverse of `rows_of` and `tracked_of`.

    Its values are not checked.

    Raises
    ------
    ValueError
        If `rows` are not 5, 7 or 8 rows of float64.
    """
    cdef Moments m = Moments(axis, nan_policy=nan_policy, track=track_of(tracked or ()))
    if rows is not None:
        if rows.dtype != np.float64 or len(rows) not in (STATE_ROWS, WEIGHTED_ROWS, SCALED_ROWS):
            raise ValueError(f"expected a state of {STATE_ROWS}, {WEIGHTED_ROWS} or {SCALED_ROWS} rows of float64, got "
                             f"shape {rows.shape} of {rows.dtype}")
        m.shape = rows.shape[1:]
        m.size = math.prod(m.shape)
        m.scaled = len(rows) == SCALED_ROWS and rows[EXPONENT].any()
        m.weighted = has_weights(rows)
        m.state = np.zeros((SCALED_ROWS, padded(m.size)))
        m.state[:len(rows), :m.size] = rows.reshape(len(rows), m.size)
        m.large = m.scaled or not moderate(<const double *> cnp.PyArray_DATA(m.state), m.state.shape[1], m.size)
    m.names = names
    set_tracked(m, tracked or {})
    return m


cdef ndarray nothing_tracked(tuple track, Py_ssize_t n_channels):
    """The rows of what is tracked of no data; None if they are not needed."""
    if "min" not in track and "skewness" not in track:
        return None
    rows = np.zeros((TRACKED_ROWS, padded(n_channels)))
    rows[LEAST], rows[GREATEST] = np.inf, -np.inf
    return rows


cdef ndarray none_missing(tuple track, Py_ssize_t n_channels):
    return np.zeros(padded(n_channels), np.int64) if "missing" in track else None
