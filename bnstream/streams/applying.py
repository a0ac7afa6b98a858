"""apply: normalize a source of any size by the statistics of its channels, and write it to a file or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Unpack

from bnstream.core.affine import Affine, default_channel_axis
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.checks import integer, path_of
from bnstream.core.groups.affine import GroupAffine, Unknown
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.labels import counted
from bnstream.core.moments import Moments
from bnstream.statefiles import load
from bnstream.statefiles.overwriting import require_replaceable
from bnstream.streams.channels import without
from bnstream.streams.checks import (
    as_by,
    as_clip,
    as_float_dtype,
    as_keep,
    require_counts,
    require_keys,
    require_local,
    require_no_data,
    require_output,
)
from bnstream.streams.cursor import Cursor, Progress
from bnstream.streams.folders import Record, is_folder, making, one_by_one, paths_in
from bnstream.streams.outputs import Output
from bnstream.streams.parallel import map_pieces
from bnstream.streams.sources import Reading, Source, Wanted, open_sources, options_of
from bnstream.streams.sources.options import recorded
from bnstream.streams.sources.source import local_files

KNOWN = (Moments, GroupedMoments, BatchNorm)    # what holds statistics to apply


def apply(
    state: Moments | GroupedMoments | BatchNorm | str | os.PathLike[str],
    source: Any,
    out: str | os.PathLike[str],
    *,
    by: str | Sequence[str] | None = None,
    unknown: Unknown = "raise",
    channel_axis: int | None = None,
    eps: float | None = None,
    chunk_rows: int | None = None,
    n_threads: int | None = None,
    keep: str | Sequence[str] | None = None,
    inverse: bool = False,
    dtype: Any = None,
    clip: float | tuple[float, float] | None = None,
    out_format: str | None = None,
    resume: bool = False,
    force: bool | None = None,
    progress: Callable[[Progress], object] | None = None,
    **reading_options: Unpack[Reading],
) -> int:
    """Normalize a source of any size by the statistics of its channels, and write it to a file or a folder.

    Parameters
    ----------
    state : Moments, GroupedMoments, BatchNorm or path
        The statistics, or a state file: mean and variance (``ddof=0``) of a `Moments`, or of the group of each row; the
        running estimates, gamma and beta of a layer.
    source
        As for `fit`. The columns of a table that `state` names are normalized. The other columns are copied, those of
        CSV files as text.
    out : path
        A .npy file, which holds the named columns only, or a .parquet, .arrow or .csv file. It appears when it is
        complete; until then a hidden file is beside it. It is not read from a folder or glob. A folder, which exists or
        whose name ends with a slash, gets one output for each file of the source, below a folder or glob in the same
        place, with the same name.
    by : str or sequence of str, optional
        The columns of a table that hold the keys of its rows, for a `GroupedMoments`; by default those that it was
        fitted by.
    unknown : {"raise", "total", "nan"}, default "raise"
        What to do about rows whose key has no group: raise an error that names the key; normalize these rows by the
        statistics of all groups; or make them NaN.
    channel_axis : int, optional
        The channel axis of arrays, by default that of the data that `state` was computed from, which may have had
        several channel axes or none. Not for arrays of one axis, tables and images.
    eps : float, optional
        Added to the variance, by default 0 or the eps of the layer. A channel of variance 0 (with eps 0) is centered
        and not divided.
    chunk_rows, n_threads, progress
        As for `fit`. The threads load and normalize.
    keep : str or sequence of str, optional
        The other columns of tables to copy, by default all: names, and patterns such as ``"*"`` or ``"id_*"`` for those
        that every source has.
    inverse : bool, default False
        Map normalized values back: ``(y - beta) / gamma * sqrt(var + eps) + mean``.
    dtype : {"float16", "float32", "float64"}, optional
        The dtype of the result, by default that of the data; see Notes.
    clip : float or pair of floats, optional
        Limits of the normalized values: ``clip=5`` is ``(-5, 5)``. Missing values and NaN stay.
    out_format : {"npy", "parquet", "arrow", "csv"}, optional
        The format of the outputs in a folder, by default that of each file, where it is one of these.
    resume : bool, default False
        Write those outputs of a folder that an earlier call with the same arguments did not complete.
    force : bool, optional
        Whether to replace what exists: True, even the source or the state, and write even below a folder that is a
        source; False, nothing, as the command without --force. By default older files are replaced, and these are not.
    **reading_options
        How to read the source, as for `fit`.

    Returns
    -------
    int
        Number of rows written by this call.

    Raises
    ------
    TypeError
        If `state` or `source` is not of the kinds above, or an argument is of the wrong type.
    SourceError
        As for `fit`, and if channels are missing or sources differ in the columns to copy. `out` is then as it was; in
        a folder, the outputs that are complete stay.
    ValueError
        If `out` has an unsupported suffix, is a source or below one and not to be replaced; if `state` has channels
        without statistics, or a gamma of 0 with `inverse`; if an option is out of range, or does not go with another.
    OSError
        If `out` cannot be written, or exists and is not to be replaced; it is then as it was.

    See Also
    --------
    fit : compute the statistics of a source.
    normalize : do the same to an array.

    Notes
    -----
    The result has the dtype of the data if that is floating, the widest where sources differ. Otherwise it is float32
    for arrays and float64 for tables. Missing values stay missing.

    A single output cannot be resumed; a folder of outputs can.

    Examples
    --------
    >>> import os, tempfile, numpy as np, bnstream
    >>> x = np.array([[1.0], [3.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bnstream.apply(bnstream.fit(x), x, os.path.join(folder, "y.npy"))
    ...     np.load(os.path.join(folder, "y.npy")).ravel().tolist()
    2
    [-1.0, 1.0]
    """
    require_counts(chunk_rows, n_threads)
    require_local(out)
    path, to_folder = path_of("out", out), is_folder(out)
    require_output(path, to_folder, out_format, resume)
    options = options_of("apply", reading_options)
    known: Any = without(known_of(state), options.pop("exclude", ()))
    if "numeric" in options:
        raise ValueError("apply normalizes the columns that the statistics name; leave out numeric (--numeric), which "
                         "is for fit")
    affine = map_of(known, eps, by, unknown, inverse=inverse, clip=as_clip(clip, inverse), dtype=as_float_dtype(dtype))
    axis = None if channel_axis is None else integer("channel_axis", channel_axis)
    sources = open_sources(source, Wanted(
        affine.names, axis, default_axis=-1 if isinstance(known, GroupedMoments) else default_channel_axis(known),
        whole_rows=True, reading=options, out=path,
    ))
    if isinstance(affine, GroupAffine):
        require_keys(sources, affine.by)
    keep, where = as_keep(keep, sources), known if axis is None else None
    record = None
    if to_folder:
        sources = one_by_one(sources)
        outputs = [Output(one, [source], affine, where, keep)
                   for one, source in zip(paths_in(path, sources, out_format), sources, strict=True)]
        record = Record(path, {"state": affine.digest(), "channel_axis": axis, "keep": keep, **recorded(options)})
    else:
        outputs = [Output(path, sources, affine, where, keep, needs_rows=True)]
    resumed = record is not None and resume and record.resume()
    require_harmless(outputs, sources, source, state, force=bool(force), old=resumed or force is None)
    cursor = Cursor(sources, {})

    def write(output: Output, n_sources: int) -> None:
        sources_to_here = sources[:n_sources]
        with closing(map_pieces(output.normalized, sources_to_here, cursor, chunk_rows, n_threads)) as parts:
            output.write(parts, sources_to_here, cursor, progress)

    if record is None:
        write(outputs[0], len(sources))
        return cursor.n_rows
    with making([path, *(output.path.parent for output in outputs)]), record.kept():
        for index, output in enumerate(outputs):
            if not record.has(output.path, sources[index]):
                cursor.index, cursor.start = index, 0
                write(output, index + 1)
                record.add(output.path, sources[index])
    return cursor.n_rows


def map_of(known: Any, eps: float | None, by: Any, unknown: Unknown, **options: Any) -> Affine | GroupAffine:
    """The map that statistics define, for all rows or for those of each group."""
    if not isinstance(known, GroupedMoments):
        if by is not None or unknown != "raise":
            raise ValueError("by (--by) and unknown (--unknown) are for statistics by group, as fit computes them with "
                             f"by=; got those of a {type(known).__name__}")
        return Affine(known, eps, **options)
    names = as_by(by, known.names, None) or known.key_names
    if names is None:
        raise ValueError("the statistics do not tell which columns hold their keys; name them with by= (--by)")
    if known.kinds is not None and len(names) != len(known.kinds):
        raise ValueError(f"by must name {counted(len(known.kinds), 'column', 'columns')}, as the keys of the "
                         f"statistics have, got {list(names)}")
    return GroupAffine(known, eps, unknown=unknown, by=names, **options)


def require_harmless(
    outputs: Sequence[Output], sources: Sequence[Source], source: Any, state: Any, *, force: bool, old: bool
) -> None:
    """Raise an error if an output would replace what it should not, or be taken for data by the next pass.

    old: whether outputs that are there may be replaced.
    """
    inputs = local_files(sources)
    states = [] if isinstance(state, KNOWN) else [state]
    for output in outputs:
        require_replaceable(output.path, [*inputs, *states], force=force, old=old)
        require_no_data(output.path, source, inputs, force=force)


def known_of(state: Any) -> Moments | GroupedMoments | BatchNorm:
    """The state that is given, or that a file holds; raise an error unless it has statistics to apply."""
    if not isinstance(state, (*KNOWN, str, os.PathLike)):
        raise TypeError("state must be a Moments, a GroupedMoments, a BatchNorm or the path of a state file, got "
                        f"{type(state).__name__}")
    known: Any = state if isinstance(state, KNOWN) else load(state)
    if not isinstance(known, KNOWN):
        raise ValueError(f"{state} holds a {type(known).__name__}, which apply does not take; expected a Moments, a "
                         "GroupedMoments or a BatchNorm")
    return known  # type: ignore[no-any-return]
