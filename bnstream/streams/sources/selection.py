"""Which columns are channels: by names and patterns, without some, of numbers alone."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from typing import Any

from bnstream.core.labels import listed
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.source import Wanted

MAGIC = re.compile(r"[*?\[]")       # A name with one of these may be a pattern.


def as_sequence(argument: str, given: Any, noun: str = "name", kinds: Any = str) -> tuple[Any, ...]:
    """The names in an argument. A string is one name, wherever names are taken.

    Raises
    ------
    TypeError
        If it is neither a string nor a sequence of the `kinds`.
    """
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else None
    if names is None or not all(isinstance(name, kinds) for name in names):
        raise TypeError(f"{argument} ({option_of(argument)}) must be a {noun} or a sequence of {noun}s, got "
                        f"{given!r:.60}")
    return names


def as_names(argument: str, given: Any, kinds: Any = str) -> tuple[Any, ...]:
    """As `as_sequence`; raise SourceError unless there are some names and they differ."""
    names = as_sequence(argument, given, kinds=kinds)
    if len(set(names)) < max(len(names), 1):
        raise SourceError(f"{argument} ({option_of(argument)}) must be one or more different names, got {list(names)}")
    return names


def option_of(argument: str) -> str:
    """The option of the command that sets an argument."""
    return f"--{argument.replace('_', '-')}"


def selected(
    name: str, names: Sequence[str], wanted: Wanted, is_numeric: Callable[[str], bool],
    default: Sequence[str] | None = None, noun: str = "column",
) -> list[str]:
    """The names of the channels among all `names` of a source, whose own name is for messages.

    By default these are the `default` names, or without these all but the weights. A name in `columns` that the source
    lacks is returned as it is, for the caller to report.

    Raises
    ------
    SourceError
        If a pattern matches no name, a name to exclude is missing, or nothing is left.
    """
    def no_such(what: str) -> SourceError:
        return SourceError(f"{name} has no {noun} {what}; its {noun}s are {listed(names)}")

    others = [one for one in names if one not in wanted.beside]
    known = set(names)
    if wanted.columns is None:
        chosen = list(others if default is None else default)
    elif wanted.whole_rows:         # these are the names in a state, and no patterns
        chosen = [*map(str, wanted.columns)]
    else:
        chosen = matching([*map(str, wanted.columns)], known, others, no_such)
    left_out = excluded(wanted.reading.get("exclude", ()), names, no_such)
    left = [one for one in chosen if one not in left_out]
    if wanted.reading.get("numeric"):
        left = [one for one in left if one not in known or is_numeric(one)]
    if chosen and not left:
        raise no_such("left, as exclude= or numeric= (--exclude, --numeric) leave out all that are selected")
    return left


def excluded(patterns: Sequence[Any], names: Sequence[str], no_such: Callable[[str], Exception]) -> set[str]:
    """The names to leave out, given by names and patterns; raise what `no_such` makes for one that finds none."""
    known, exclude = set(names), [*map(str, patterns)]
    for one in exclude:
        if one not in known and not MAGIC.search(one):
            raise no_such(repr(one))
    return set(matching(exclude, known, names, no_such))


def matching(
    patterns: Sequence[str], known: set[str], others: Sequence[str], no_such: Callable[[str], Exception]
) -> list[str]:
    """The names among `others` that match patterns, written like those of files, and other names, each once.

    The name of a column is not taken for a pattern.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern in known or not MAGIC.search(pattern):
            found[pattern] = None
            continue
        match = re.compile(translate(pattern)).match
        matches = [one for one in others if match(one)]
        if not matches:
            raise no_such(f"{pattern!r}, nor one that this matches")
        found |= dict.fromkeys(matches)
    return [*found]
