"""Parsing blocks of rows by pyarrow, each column with the type of its values in the block."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import compute, csv, types

from bnstream.core.labels import counted
from bnstream.streams.sources.tables.columns import is_numeric
from bnstream.streams.sources.text.dialect import NA_WORDS, Dialect
from bnstream.streams.sources.text.lines import rows

CACHE_BYTES = 1 << 16       # Bytes of text that are searched at a time, in the cache.
PAD = "; pass short_rows='pad' (--short-rows pad) if its last fields are missing"
BIG_HEX = r"^\s*0[xX]0*[89a-fA-F][0-9a-fA-F]{15}\s*$"       # beyond int64, in which pyarrow wraps it


class RowError(ValueError):
    """A fault of a row of a block, which pyarrow counts from 0 on, without empty ones."""

    def __init__(self, row: int, message: str, excess: int = 0) -> None:
        super().__init__(message)
        self.row, self.excess = row, excess     # how many fields it has too many


class ShortRows(Exception):     # noqa: N818  (no fault: the rows are padded)
    """Rows of a text that lack fields, by their places as of `RowError`, with how many each lacks."""

    def __init__(self, lacking: Mapping[int, int]) -> None:
        super().__init__(lacking)
        self.lacking = lacking


class Parser:
    """Parses blocks of rows of a dialect, with the names of all columns.

    The type of a column is that of its values in the block. Where fractions are expected, other types are not tried,
    and fewer words are looked for: pyarrow then takes a third of the time for a block of thousands of columns.
    """

    def __init__(self, dialect: Dialect, header: Sequence[str]) -> None:
        self.dialect, self.header = dialect, list(header)
        words, pads = {*NA_WORDS, *dialect.na_values}, ("", " ")
        self.words = [*words, " "]
        self.padded = [before + word + after for word in words for before in pads for after in pads]
        self.na_numbers = [float(word) for word in dialect.na_values if re.fullmatch(r"[+-]?\d+\.?\d*", word)]
        self.include: Sequence[str] | None = None       # None for all columns
        self.numeric: Collection[str] = header          # the columns that are to hold numbers
        self.kinds: dict[str, Any] = {}         # the types of columns that are not found by their values
        self.expected: dict[str, Any] = {}      # the types of columns that are likely to hold fractions

    def parse(self, block: Any) -> Any:
        """The table of a block of rows.

        Raises
        ------
        RowError
            If a row has the wrong length, or a value is not of the type that its column is to have.
        """
        return self.padding(self.parsed, self.plain(block))

    def padding(self, parse: Callable[[Any], Any], text: Any) -> Any:
        """What a function of a text returns for it, or for the text with its short rows padded, if it has any."""
        try:
            return parse(text)
        except ShortRows as short:
            return parse(native(with_fields(bytes(text), short.lacking, self.dialect)))

    def parsed(self, text: Any) -> Any:
        """As `parse`, of a text of a dialect that pyarrow reads."""
        table = self.as_expected(text) if self.expected else None
        if table is None:
            table = self.read(text, self.include, self.kinds)
        hexed = cache(partial(has_hex, text))
        before, names = table.columns, table.column_names
        after = [self.converted(column, name, text, hexed) for column, name in zip(before, names, strict=True)]
        if any(new is not old for new, old in zip(after, before, strict=True)):
            table = pa.Table.from_arrays(after, names)
        return table

    def as_expected(self, text: Any) -> Any:
        """The table of a text whose columns have the types that are expected; None if they may have others."""
        try:
            table = self.read(text, self.include, {**self.kinds, **self.expected}, self.words)
        except RowError:
            return None
        others = (field.type for field in table.schema if field.name in self.numeric)
        return table if all(map(is_numeric, others)) else None

    def converted(self, column: Any, name: str, text: Any, hexed: Callable[[], bool]) -> Any:
        """The column with what pyarrow does not read: unsigned integers, thousands marks, missing numbers."""
        if types.is_float64(column.type) or types.is_int64(column.type):
            column = self.unsigned(column, name, text, hexed)
        elif types.is_string(column.type) and self.dialect.thousands and name in self.numeric:
            column = self.ungrouped(column)
        return without(column, self.na_numbers) if self.na_numbers and name in self.numeric else column

    def plain(self, block: Any) -> Any:
        """The block as an Arrow buffer in a dialect that pyarrow reads."""
        if not self.dialect.rewrites:
            return block
        return native(self.dialect.plain(bytes(block)) or b"\n")        # pyarrow refuses an empty text

    def read(
        self, text: Any, include: Sequence[str] | None, kinds: Mapping[str, Any], words: Sequence[str] | None = None
    ) -> Any:
        """Read a text of a dialect that pyarrow reads. By default, words for missing values may have spaces beside.

        Raises
        ------
        RowError
            As `parse`.
        ShortRows
            If rows lack fields, and are to be padded.
        """
        faults: list[Any] = []
        lacking: dict[int, int] = {}

        def handle(row: Any) -> str:
            if not row.text.strip():        # pandas takes a row of spaces for an empty one
                return "skip"
            if self.dialect.pads and row.actual_columns < row.expected_columns:
                lacking[row.number - 1] = row.expected_columns - row.actual_columns
                return "skip"
            faults.append(row)
            return "error"

        options = csv.ConvertOptions(include_columns=include, column_types=kinds, null_values=words or self.padded,
                                     decimal_point=self.dialect.decimal)
        read_options = csv.ReadOptions(column_names=self.header, use_threads=False, block_size=len(text) + 1)
        try:
            table = csv.read_csv(pa.BufferReader(text), read_options, self.options(invalid_row_handler=handle), options)
        except pa.ArrowInvalid as error:
            if faults:
                row, n = faults[0], counted(faults[0].actual_columns, "field", "fields")
                message = f"{n}, expected {row.expected_columns}: {row.text.strip()[:60]!r}"
                excess = row.actual_columns - row.expected_columns
                hint = comment_hint(row.text) or (PAD if excess < 0 else "")
                raise RowError(row.number - 1, message + hint, excess) from error
            found = re.search(r"column #(\d+): (?:Row #(\d+): )?CSV conversion error to (.*)", str(error), re.DOTALL)
            if found is None:
                raise
            column, number, message = found.groups()
            message = f"column {self.header[int(column)]!r} is to hold values of type {message}"
            if "UTF8" in message:
                message += "; give the encoding of the text with encoding= (--encoding), such as 'latin-1'"
            raise RowError(int(number or 1) - 1, message) from error
        if lacking:
            raise ShortRows(lacking)
        return table

    def options(self, **more: Any) -> Any:
        """The options of pyarrow for the dialect that it reads."""
        delimiter = "\t" if self.dialect.by_blanks else self.dialect.delimiter
        return csv.ParseOptions(delimiter=delimiter, quote_char=self.dialect.quote or False, **more)

    def texts(self, block: Any, name: str) -> list[str]:
        """The values of a column as they are written."""
        read = partial(self.read, include=[name], kinds={name: pa.string()})
        column = self.padding(read, self.plain(block)).column(0)
        return [str(value) for value in column.to_pylist()]

    def unsigned(self, column: Any, name: str, text: Any, hexed: Callable[[], bool]) -> Any:
        """A column of numbers in unsigned integers where its integers are beyond int64."""
        if not len(column):
            return column
        x = present_or_0(column.chunk(0))
        low, high = x.min(), x.max()
        if types.is_int64(column.type):
            if low >= 0 or not hexed():
                return column
            written = self.read(text, [name], {name: pa.string()}).column(0)
            big = compute.match_substring_regex(written, BIG_HEX)
            if not compute.any(big).as_py():
                return column
        elif max(-low, high) < 2.0**53 or not (x == np.floor(x)).all():
            return column
        elif name in self.expected and types.is_int64((found := self.read(text, [name], {}).column(0)).type):
            return found
        elif not (low >= 0 and 2.0**63 <= high <= 2.0**64):
            return column
        try:
            return self.read(text, [name], {name: pa.uint64()}).column(0)
        except RowError:        # They are not written as integers.
            if types.is_int64(column.type):
                row = compute.index(big, True).as_py()
                raise RowError(row, f"column {name!r} has {written[row].as_py()!r}, beyond int64, and negative numbers "
                                    "near it; they fit no type of integers") from None
            return column

    def ungrouped(self, column: Any) -> Any:
        """A column of text with the type of its values without thousands marks; itself if it still holds text."""
        plain = compute.replace_substring_regex(column, self.dialect.group, r"\1")
        sink = pa.BufferOutputStream()
        style = csv.WriteOptions(include_header=False, quoting_style="all_valid")
        csv.write_csv(pa.table([plain], ["text"]), sink, style)
        options = csv.ReadOptions(column_names=["text"], use_threads=False, block_size=sink.tell() + 1)
        kinds = csv.ConvertOptions(null_values=self.padded, decimal_point=self.dialect.decimal)
        table = csv.read_csv(pa.BufferReader(sink.getvalue()), options, convert_options=kinds)
        return table.column(0) if is_numeric(table.schema[0].type) else column

    def cells(self, row: bytes) -> list[str]:
        """The fields of one row as text."""
        text = native(self.dialect.plain(row) + b"\n" if self.dialect.rewrites else row + b"\n")
        widths = [1]

        def count(row: Any) -> str:
            widths.append(row.actual_columns)
            return "skip"

        def read(n: int) -> Any:
            names = [str(i) for i in range(n)]
            read_options = csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1)
            kinds = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), null_values=[], true_values=[],
                                       false_values=[])         # lists that would be made again for each column
            options = self.options(newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=count)
            return csv.read_csv(pa.BufferReader(text), read_options, options, kinds)

        table = read(1)
        if len(widths) > 1:
            table = read(widths[-1])
        return [str(column[0]) for column in table.columns]


def with_fields(text: bytes, lacking: Mapping[int, int], dialect: Dialect) -> bytes:
    """A text of a dialect that pyarrow reads, with empty fields at the end of the rows that lack some."""
    mark = ("\t" if dialect.by_blanks else dialect.delimiter or "").encode()
    parts, start = [], 0
    for i, row in enumerate(rows(text, dialect)):
        if i in lacking:
            parts += [text[start:row.stop], mark * lacking[i]]
            start = row.stop
    return b"".join([*parts, text[start:]])


def comment_hint(row: str) -> str:
    """What to say if a row looks like a comment."""
    mark = row.lstrip()[:1]
    return f"; pass comment={mark!r} (--comment '{mark}') if it is a comment" if mark and mark in "#%!/" else ""


def has_hex(text: Any) -> bool:
    """Whether a text may hold hexadecimal numbers."""
    a = np.frombuffer(text, np.uint8)
    for first in range(0, len(a), CACHE_BYTES):
        part = a[first:first + CACHE_BYTES + 1]
        if (((part[1:] | 0x20) == ord("x")) & (part[:-1] == ord("0"))).any():
            return True
    return False


def present_or_0(column: Any) -> NDArray[Any]:
    """The values of a column without a copy; any number in place of those missing."""
    return np.frombuffer(column.buffers()[1], column.type.to_pandas_dtype(), len(column))


def without(column: Any, values: Sequence[float]) -> Any:
    """A column of numbers in which some values are missing."""
    if not is_numeric(column.type) or types.is_null(column.type):
        return column
    found = compute.is_in(column.cast(pa.float64(), safe=False), pa.array(values, pa.float64()))
    return compute.if_else(found, pa.scalar(None, column.type), column)


def native(*parts: Any) -> Any:
    """Copy a text, in one or more parts, for pyarrow's CSV reader to memory that Arrow owns.

    A thread of the reader may release the text while Python shuts down. Releasing a Python object then aborts
    the process.
    """
    memory = pa.allocate_buffer(sum(map(len, parts)))
    writer = pa.FixedSizeBufferWriter(memory)
    for part in parts:
        writer.write(part)
    return memory
