# How a `Moments` takes in the state of a batch or of another object, and how it is taken out. A call that raises changes
# nothing.

cdef int take_over(Moments m, Moments them) except -1:
    """Add the statistics of another object."""
    cdef ndarray theirs, found, missing
    cdef const double *part
    cdef Py_ssize_t pitch, c
    cdef bint large
    names = require_same_channels(m, them)
    if them.shape is None:
        track = of_both(m.track, m.shape is not None, them.track, False)
        m.names = names
        keep_track(m, track)
        return 0
    if m.exact and not them.exact or them.exact and m.state is not None:
        raise unlike(m.exact)
    if them.exact:
        if m.policy != PROPAGATE and not them.sums.finite():
            raise not_finite_there(m)
        found, missing, part_sums = them.tracked, them.left_out, them.sums.copied()
        sketches = m._merged_sketches(them._sketches) if "quantiles" in them.track else None
        add_sums(m, part_sums, them.shape, them.track)
        take_in_tracked(m, NULL if found is None else <const double *> cnp.PyArray_DATA(found), padded(m.size), missing,
                        NULL, NULL, sketches)
        m.exact, m._names = True, names
        return 0
    theirs = them.state         # This reference keeps it alive if another thread replaces the state of `them`.
    part = <const double *> cnp.PyArray_DATA(theirs)
    pitch = theirs.shape[1]
    large = them.large or not moderate(part, pitch, pitch)
    if large and m.policy != PROPAGATE:
        for c in range(pitch):
            if not (isfinite(part[MEAN * pitch + c]) and isfinite(part[M2 * pitch + c])):
                raise not_finite_there(m)
    sketches = m._merged_sketches(them._sketches) if "quantiles" in them.track else None
    found = them.tracked
    take_in(m, part, pitch, them.shape, them.weighted, part + EXPONENT * pitch if them.scaled else NULL, large,
            NULL if found is None else <const double *> cnp.PyArray_DATA(found), them.left_out, sketches, them.track)
    m._names = names
    return 0


@cython.critical_section
cdef int take_in(Moments m, const double *part, Py_ssize_t pitch, tuple shape, bint weighted, const double *exponent,
                 bint large, const double *found, ndarray missing, object sketches, tuple track) except -1:
    """Merge a part into the state, and what has been found of what is tracked. This keeps the GIL, so that no thread
    sees or loses half of it.

    If the part is `weighted`, it has the rows of a weighted state. `exponent` is one more row, or NULL. `large` tells
    that the part is not `moderate`. `track` is what is tracked of the part; another thread may have changed that of
    this object.
    """
    cdef ndarray fresh = None, rows = None, left_out = None
    cdef tuple own, kept
    cdef double *state
    cdef double *room = NULL
    cdef Py_ssize_t size = 0, c
    while True:
        own, kept = m.track, kept_with(m, track)
        if m.state is None:
            fresh = np.zeros((SCALED_ROWS, pitch))
            size = math.prod(shape)
            rows, left_out = nothing_tracked(kept, pitch), none_missing(kept, pitch)
            if m.exact:                 # Another thread may have come first while memory was allocated,
                raise unlike(True)      # and have merged exact statistics.
        if m.shape is not None and m.shape is not shape and m.shape != shape:
            raise ValueError(f"expected channels of shape {m.shape} as here, got {shape}")
        if m.track is own:
            break
    if large or m.large:
        large = True
        room = <double *> malloc(ROOM_ROWS * pitch * sizeof(double))
        if room == NULL:
            raise MemoryError(f"no memory for the states of {pitch} channels")
    if kept is not own:
        keep_track(m, kept)
    if m.state is None:
        m.state, m.tracked, m.left_out, m.powers = fresh, rows, left_out, "skewness" in kept
        m.shape = shape
        m.size = size
    state = <double *> cnp.PyArray_DATA(m.state)
    if len(m.track) > 0:
        take_in_tracked(m, found, pitch, missing, state, part, sketches)
    if weighted and not m.weighted:
        memcpy(state + SQUARES * pitch, state, pitch * sizeof(double))
        m.weighted = True
    if m.weighted:
        for c in range(pitch):
            state[N_LO * pitch + c] += part[N_LO * pitch + c] if weighted else 0
            state[SQUARES * pitch + c] += part[SQUARES * pitch + c] if weighted else part[c]
    if large:
        m.large = True
        m.scaled = merge_large(state, pitch, m.weighted, part, exponent, room)
        free(room)
    else:
        kernels.merge(state, pitch, state + N_LO * pitch if m.weighted else NULL, part, pitch, pitch)
    return 0


cdef void take_in_tracked(Moments m, const double *found, Py_ssize_t pitch, ndarray missing, const double *state,
                          const double *part, object sketches) noexcept:
    """Merge what has been found of what is tracked, before the states are merged. No Python runs.

    The sketches have been merged already.
    """
    cdef int64_t *own
    cdef Py_ssize_t c
    m.n_changes += 1
    if "quantiles" in m.track:
        m._sketches = sketches
    if missing is not None and m.left_out is not None:
        own = <int64_t *> cnp.PyArray_DATA(m.left_out)
        for c in range(m.size):
            own[c] += (<int64_t *> cnp.PyArray_DATA(missing))[c]
    if m.tracked is not None:
        kernels.merge_tracked(<double *> cnp.PyArray_DATA(m.tracked), pitch, state if m.powers else NULL, pitch,
                              found, pitch, part, pitch, m.size)


cdef int add_sums(Moments m, ExactSums part, tuple shape, tuple track) except -1:
    """Add exact sums to the state, of data of which `track` is tracked."""
    cdef tuple own, kept
    while True:
        own, kept = m.track, kept_with(m, track)
        rows, left_out = nothing_tracked(kept, len(part)), none_missing(kept, len(part))
        if m.state is not None:         # Another thread has updated an empty object meanwhile.
            raise unlike(False)
        if m.shape is not None and m.shape != shape:
            raise ValueError(f"expected channels of shape {m.shape} as here, got {shape}")
        if m.sums is not None:
            widen(m, part)
            m.sums.require_room(part)
        if m.track is own:
            break
    keep_track(m, kept)
    if m.sums is None:
        m.shape, m.size = shape, len(part)
        m.sums, m.tracked, m.left_out = part, rows, left_out
    else:
        m.sums.add(part)
    return 0


cdef tuple kept_with(Moments m, tuple track):
    """What is tracked with data of which `track` is tracked. Afterwards `keep_track` needs no memory."""
    cdef tuple kept = m.track
    if kept is not track:
        kept = of_both(kept, m.shape is not None, track, True)
        make_lock(m, kept)
    return kept


cdef int keep_track(Moments m, tuple track) except -1:
    """Track this, no more than until now if there is data."""
    set_track(m, track)
    m.powers = "skewness" in track
    if "min" not in track and "skewness" not in track:
        m.tracked = None
    if "missing" not in track:
        m.left_out = None
    if "quantiles" not in track:
        m._sketches = None
    return 0


cdef int set_track(Moments m, tuple track) except -1:
    m.track = track
    return make_lock(m, track)


cdef int make_lock(Moments m, tuple track) except -1:
    """Make the lock that quantiles need, if they are tracked and there is none."""
    if "quantiles" in track and m.lock is None:
        m.lock = threading.RLock()
    return 0


cdef int widen(Moments m, ExactSums part) except -1:
    """Make room for sums. No Python runs between the last look and the return."""
    cdef ExactSums own = m.sums, wider
    while not covers(&own.of, &part.of):
        wider = own.widened(&part.of)
        if m.sums is own:
            m.sums = wider
        own = m.sums
    return 0


cdef int take_out(Moments m, Moments them) except -1:
    """Take the statistics of another object out."""
    cdef ExactSums part
    cdef Py_ssize_t c
    if not m.exact or not them.exact and them.shape is not None:
        raise ValueError("only exact statistics can be taken apart, as others are rounded; make both with exact=True")
    require_same_channels(m, them)
    if them.sums is None:
        return 0
    if m.sums is None:
        raise ValueError("expected a part of these statistics to take out, but they are empty")
    if "min" in m.track:
        raise ValueError("min and max cannot be taken out again: what is left may have the same or others; make Moments "
                         "that are to be taken apart without track='min' and 'max'")
    if "quantiles" in m.track:
        raise ValueError("quantiles cannot be taken out again, as their sketches are samples; make Moments that are to "
                         "be taken apart without track='quantiles'")
    part = them.sums.copied()
    track = of_both(m.track, True, them.track, True)
    if "missing" in track and (m.left_out < them.left_out).any():
        raise ValueError("expected a part of these statistics to take out, got one with more missing values")
    widen(m, part)
    m.sums.subtract(part)
    c = m.sums.impossible()
    if c >= 0:
        m.sums.add(part)
        channel = c if m._names is None else repr(m._names[c])
        raise ValueError(f"expected a part of these statistics to take out, got other data: no data has the statistics "
                         f"of channel {channel} that would be left")
    keep_track(m, track)
    if "missing" in track:
        m.left_out -= them.left_out
    m.n_changes += 1
    return 0


cdef tuple require_same_channels(Moments m, Moments them):
    """Raise ValueError unless both have the same channels, or one none yet. Return their names."""
    cdef tuple names = them._names if m._names is None else m._names
    if them._names is not None and them._names != names:
        raise ValueError(f"expected channels named {list(names)} as here, got {list(them._names)} in the other "
                         "Moments")
    shape = (len(names),) if m.shape is None and names is not None else m.shape
    if them.shape is not None and shape is not None and shape != them.shape:
        raise ValueError(f"expected channels of shape {shape} as here, got {them.shape} in the other Moments")
    return names


cdef object unlike(bint exact):
    kinds = ("plain", "exact")
    return ValueError(f"expected {kinds[exact]} statistics as here, got {kinds[not exact]} ones; make both with exact=True, "
                      "or neither")


cdef object not_finite_there(Moments m):
    return ValueError(f"expected finite statistics, as nan_policy={m.nan_policy!r} has them here, got NaN or inf in the "
                      "other Moments; merge them into one with nan_policy='propagate'")
