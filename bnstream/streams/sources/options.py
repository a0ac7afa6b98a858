"""The options of reading: how a source of one format or another is to be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, Literal, TypedDict

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.selection import as_names, as_sequence, option_of

SECRET = {"storage_options"}


class Reading(TypedDict, total=False):
    """The keyword arguments that `fit` and `apply` share: options of reading, each for some formats."""

    format: str | None
    """The format of files, as a suffix without its dot ("csv"), by default that of their names."""
    item: Literal["row", "batch"] | None
    """What the items of an iterable are: rows, each with a value of every channel, or batches of rows. Needed where
    they may be either."""
    key: Any
    """The part of each item of an iterable to use, by its index or its key, such as 0 for pairs (x, y); a tuple
    of several leads to a part of a part."""
    mode: str | None
    """The mode of Pillow that all images are converted to, such as "RGB"; by default all must have the same mode."""
    scale: bool | None
    """Whether images are scaled to float32 from 0 to 1, as ``ToTensor`` of torchvision does."""
    per_pixel: bool | None
    """Whether each pixel of images of one size has statistics of its own, of shape (height, width, channels)."""
    exclude: str | Sequence[str] | None
    """Tables and .npz files: the names of columns to leave out, also by patterns: ``["id", "*_flag"]``. In `apply`, the
    channels of the state that are not used."""
    numeric: bool | None
    """Tables and .npz files: whether columns of text, dates and the like are left out. Not for `apply`."""
    element_axis: Literal["channels", "pooled"] | None
    """Tables: whether the elements of lists, such as embeddings, are channels, named "emb[0]" and so on, or pooled into
    one channel. By default they are channels, and all lists of a column have the same length. Not for `apply`."""
    storage_options: Mapping[str, Any] | Sequence[str] | None
    """Options of the file system of a URL, as in pandas: ``{"anon": True}``, or ["anon=true"] as in the command, where
    a value may be JSON. No message or checkpoint holds them."""
    sheet: str | int | None
    """Spreadsheets: the name of the sheet, or its index; by default the first."""
    delimiter: str | None
    """Text files: the character between the fields; " " for runs of spaces and tabs; by default a comma, semicolon, tab
    or bar, whichever the first row has most of, and a tab in .tsv files."""
    header: bool | int | None
    """Text files: whether the first row holds the names of the columns, or which row does, from 0 on. By default it
    does, unless it may be data, which is refused, or `names` are given."""
    names: str | Sequence[str] | None
    """Text files: the names of all columns; with ``header=True`` in place of those in the file."""
    skip_rows: int | None
    """Text files: the number of lines to skip before the first row."""
    comment: str | None
    """Text files: what begins a comment, which goes to the end of its line."""
    na_values: str | float | Sequence[str | float] | None
    """Text files: words that stand for missing values, besides the empty field and the words of pandas ("NA", "nan",
    ...). A number stands for all ways to write it."""
    decimal: str | None
    """Text files: the decimal mark, by default a point."""
    thousands: str | None
    """Text files: the thousands mark, between groups of three digits; by default none."""
    encoding: str | None
    """Text files and JSON: their encoding by its name in Python, by default UTF-8, or by a byte-order mark."""
    quote: str | None
    """Text files: the character that encloses fields, by default '"', and "" for none."""
    variables: str | Sequence[str] | None
    """The variables of a Dataset, or the arrays of an HDF5, NetCDF or Zarr file, such as ("t2m", "group/x"); by default
    all variables, or the only array."""
    dim: str | Sequence[str] | None
    """The dimensions to reduce, where they have names; the others are kept, and each of their positions is a channel.
    By default those of a Dataset are all reduced, and an array keeps its channel axis."""
    diff: str | None
    """A dimension: the statistics are those of the steps x[t + 1] - x[t] along it, in float64."""
    short_rows: Literal["pad"] | None
    """Text files: "pad" reads the fields that a row lacks at its end as missing; by default such a row is an error."""


def options_of(function: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, by name; None means not given. The formats check what only they know.

    Raises
    ------
    TypeError
        If one is unknown or of the wrong type.
    ValueError
        If one is none of its choices, or names are missing or given twice.
    """
    for name in given:
        if name not in Reading.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return {name: CHECKS[name](name, value) if name in CHECKS else value
            for name, value in given.items() if value is not None}


def one_of(*choices: str) -> Callable[[str, Any], Any]:
    """A check that an option is one of some choices."""
    def check(name: str, value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r:.60}")
        return value

    return check


def as_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r:.60}")
    return value


def as_dimension(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be the name of one dimension, got {value!r:.60}")
    return value


def as_words(name: str, given: Any) -> tuple[str, ...]:
    """A word, or several of them; numbers are words as Python prints them."""
    if isinstance(given, Mapping):
        raise TypeError(f"{name} ({option_of(name)}) must be words that all columns share, got the mapping "
                        f"{given!r:.60}")
    return tuple(map(str, as_sequence(name, [given] if isinstance(given, Real) else given, "word", str | Real)))


def as_storage_options(name: str, given: Any) -> dict[str, Any]:
    """The storage options as a mapping; raise TypeError unless they are one, or texts KEY=VALUE."""
    if isinstance(given, Mapping):
        return {str(key): value for key, value in given.items()}
    texts = list(given) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(text, str) and "=" in text for text in texts):
        raise TypeError(f"{name} (--storage-option) must be a mapping, or a list of texts KEY=VALUE")
    pairs = (text.partition("=") for text in texts)
    return {key: of_json(value) for key, _, value in pairs}


def of_json(text: str) -> Any:
    """A value that is written as JSON, or a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


# What checks an option, by its name, and returns it in the form that sources read and checkpoints record.
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "item": one_of("row", "batch"), "element_axis": one_of("channels", "pooled"), "short_rows": one_of("pad"),
    "scale": as_flag, "per_pixel": as_flag, "numeric": as_flag,
    "exclude": partial(as_names, kinds=Hashable), "variables": as_names, "dim": as_names, "diff": as_dimension,
    "names": lambda name, given: as_names(name, as_words(name, given)), "na_values": as_words,
    "storage_options": as_storage_options,
}


def recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a checkpoint records, and that a resumed pass must share: not those that may hold secrets."""
    return {name: value for name, value in options.items() if name not in SECRET}


def require_taken(options: Mapping[str, Any], takes: frozenset[str], name: str) -> None:
    """Raise SourceError if a source does not take an option that is given."""
    for option, value in options.items():
        if option not in takes:
            shown = "" if option in SECRET else f", got {option}={value!r:.60}"
            raise SourceError(f"{name} takes no {option}{shown}; leave it out ({option_of(option)}), which is for "
                              "other kinds of sources")
