"""The names of the columns of a text: those of its first row, unless that holds data."""

from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from typing import Any, NamedTuple

from pyarrow import types  # type: ignore[import-untyped]

from bnstream.core.checks import integer
from bnstream.streams.sources.text.dialect import Dialect

YEARS = range(1800, 2101)       # Numbers that may be the names of columns.


class Layout(NamedTuple):
    """The options of reading that say where the names of the columns are."""

    header: bool | int | None
    """Whether the first row holds names, or which row does; None if that is to be found."""
    names: tuple[str, ...] | None
    """The names that the caller gives."""
    skip_rows: int
    """Lines before the first row."""

    @classmethod
    def of(cls, reading: Mapping[str, Any]) -> "Layout":
        """The layout that options of reading say. Where names are given, the first row holds data unless
        `header` says otherwise.

        Raises
        ------
        TypeError
            If an option is of the wrong type.
        ValueError
            If one is out of range.
        """
        names = reading.get("names")
        header = reading.get("header", None if names is None else False)
        if header is not None and not isinstance(header, bool):
            header = integer("header", header, first=0)
        return cls(header, names, integer("skip_rows", reading.get("skip_rows", 0), first=0))

    @property
    def first_row(self) -> int:
        """The row with the names, or the first of data."""
        return self.header if self.header is not None and not isinstance(self.header, bool) else 0


def is_header(cells: Sequence[str], below: Any, dialect: Dialect) -> bool:
    """Whether the first row is sure to hold names, for the table of the rows that follow.

    It does if it holds no number, or a text above numbers, or years above other numbers, or nothing above the numbers
    of the rows, which is how pandas writes an index. Otherwise it may be data, or counts of the rows and columns.
    """
    numbers = [dialect.is_number(cell) for cell in cells]
    columns = [column if is_numbers(column.type) else None for column in below.columns]
    if not any(numbers):
        return True
    if holds_counts(cells, numbers, columns):
        return False
    for cell, number, column in zip(cells, numbers, columns, strict=True):
        if column is not None and not number and not dialect.is_missing(cell):
            return True
    if not cells[0] and columns[0] is not None and columns[0].to_pylist() == [*range(len(below))]:
        return True
    years = [int(cell) if cell.isdecimal() else -1 for cell, number in zip(cells, numbers, strict=True) if number]
    steps = {b - a for a, b in pairwise(years)}
    is_series = len(steps) == 1 and min(steps) > 0 and (len(years) > 2 or steps == {1})
    under = [column for column, number in zip(columns, numbers, strict=True) if number and column is not None]
    return is_series and years[0] in YEARS and years[-1] in YEARS and bool(under) and not any(map(has_year, under))


def holds_counts(cells: Sequence[str], numbers: Sequence[bool], columns: Sequence[Any]) -> bool:
    """Whether the first row may begin with counts of the rows and columns, as in files of scikit-learn.

    It does if several integers that do not increase come before words, and all are above numbers. Names that are
    integers, such as years, increase.
    """
    n = numbers.index(False) if False in numbers else 0
    counts = [int(cell) for cell in cells[:n] if cell.strip().isdecimal()]
    is_series = all(a < b for a, b in pairwise(counts))
    are_above_numbers = all(column is not None for column in columns)
    return len(counts) == n and not is_series and not any(numbers[n:]) and are_above_numbers


def are_row_names(fields: Sequence[str], dialect: Dialect, *, quoted: bool, n_names: int) -> bool:
    """Whether the first fields of the rows, for which the header has no name, are sure to name the rows.

    They do if they differ, as R demands, and are quoted, or are not numbers, or count the rows. Below a single name,
    which may be a title, it is not enough that they count the rows.
    """
    if len(set(fields)) < len(fields):
        return False
    if quoted or not all(map(dialect.is_number, fields)):
        return True
    return n_names > 1 and [*fields] == [str(i) for i in range(1, len(fields) + 1)]


def is_numbers(kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def has_year(column: Any) -> bool:
    return any(value in YEARS for value in column.to_pylist())


def named(cells: Sequence[str]) -> list[str]:
    """The names in a row without the spaces around them; columns without a name get those that pandas gives them."""
    names = [cell.strip() for cell in cells]
    taken = set(names)
    for i, name in enumerate(names):
        if not name:
            found = (f"Unnamed: {i}" + (f".{n}" if n else "") for n in count())
            names[i] = next(one for one in found if one not in taken)
            taken.add(names[i])
    return names
