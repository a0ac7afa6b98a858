"""Text files of tables, plain or compressed."""

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import types

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.selection import selected
from bnstream.streams.sources.source import Piece, UnlikeError, Wanted
from bnstream.streams.sources.tables.columns import is_numeric, selected_names
from bnstream.streams.sources.tables.embeddings import Field
from bnstream.streams.sources.tables.table import TableFile, sliced
from bnstream.streams.sources.text.dialect import NA_WORDS, Dialect
from bnstream.streams.sources.text.faults import advice, first_fault, option_for
from bnstream.streams.sources.text.header import Layout, are_row_names, is_header, is_numbers, named
from bnstream.streams.sources.text.lines import has_open_quote, rows
from bnstream.streams.sources.text.parsing import Parser, RowError, comment_hint, native
from bnstream.streams.sources.text.rowtext import BLOCK_BYTES, RowText

LOOK_BYTES = 1 << 16        # Bytes of text from which the types of the columns are inferred.


class CsvFile(TableFile):
    """A text file of a table: separated by commas or the like, compressed or not.

    Several threads parse blocks of whole rows, each block by itself: a column may hold integers in one block and
    floating-point numbers in another. pyarrow parses all of them; comments, and runs of spaces between fields, are
    rewritten before, and so are short rows once pyarrow has found them.
    """

    takes = TableFile.takes | {"delimiter", "header", "names", "skip_rows", "comment", "na_values", "decimal",
                               "thousands", "encoding", "quote", "short_rows"}

    def __init__(self, file: File, wanted: Wanted) -> None:
        self.dialect, self.layout = Dialect(wanted.reading), Layout.of(wanted.reading)      # before the file is opened
        super().__init__(file, wanted)

    def inspect(self, wanted: Wanted) -> Mapping[str, Field]:
        self.text = RowText(self.file, self.dialect)
        self.extent = self.text.extent
        self.start = self.text.after_lines(self.layout.skip_rows)
        if self.dialect.delimiter is None:
            self.text.find_delimiter(self.first_row()[1])
            self.dialect = self.text.dialect
        after, first = self.first_row()
        cells = self.cells(first)
        self.parser = Parser(self.dialect, self.header_of(cells))
        if self.layout.header is not False:
            self.start = after
        self.row_names: list[str] = []      # the name of the column that has one in the rows alone
        try:
            table = self.look()
        except SourceError as error:
            table = self.with_row_names(cells, error)
            if table is None:
                raise self.explained(error, first) from error
            cells = ["", *cells]
        if self.layout.header is None and not is_header(cells, table, self.dialect):
            raise SourceError(f"{self.file}: its first row, {shown(first)}, may be data or names of columns; pass "
                              "header=False (--no-header) if it is data, header=True (--header) if it holds the names, "
                              "skip_rows= (--skip-rows) if it is neither")
        return dict.fromkeys(self.choose(wanted, cells, table), Field())

    def first_row(self) -> tuple[int, bytes]:
        """Where the row with the names ends, and its text; without names, the first row."""
        row = self.text.row(self.start, self.layout.first_row, LOOK_BYTES)
        if row is None:
            expected = "rows" if self.layout.header is False else "a header with the names of the columns"
            raise SourceError(f"{self.file} is empty; expected {expected}")
        return row

    def cells(self, row: bytes) -> list[str]:
        """The fields of a row."""
        try:
            row.decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.file}: its first row is not UTF-8: {error}; give its encoding with encoding= "
                              "(--encoding), such as 'latin-1'") from error
        return Parser(self.dialect, []).cells(row)

    def header_of(self, cells: list[str]) -> list[str]:
        """The names of all columns, for the fields of the first row."""
        names = self.layout.names
        if names is None:
            return [str(i) for i in range(len(cells))] if self.layout.header is False else named(cells)
        unnamed = named([*names, ""])[len(names):] if not cells[-1].strip() and len(names) == len(cells) - 1 else []
        in_place = self.layout.header is not False      # Names in place of a header need not be as many as its own.
        if len(names) + len(unnamed) != len(cells) and not in_place:
            raise SourceError(f"{self.file} has {len(cells)} columns, got {len(names)} names (--names): "
                              f"{', '.join(names)}; give one for each column")
        return [*names, *unnamed]

    def look(self) -> Any:
        """The table of the first rows after the names."""
        _, block = next(self.text.blocks(self.start, LOOK_BYTES), (0, None))
        if block is None:
            return pa.table([pa.nulls(0)] * len(self.parser.header), self.parser.header)
        with self.located(self.start, block):
            return self.parser.parse(block)

    def with_row_names(self, cells: list[str], error: SourceError) -> Any:
        """The table of the first rows if each of them begins with a name, for which the header has no field.

        R writes tables so. If the last fields are all empty, each row rather ends with a delimiter.
        """
        fault = error.__cause__
        if self.layout.names or self.layout.header is False or self.dialect.pads or not (
            isinstance(fault, RowError) and (fault.row, fault.excess) == (0, 1)
        ):
            return None
        _, block = next(self.text.blocks(self.start, LOOK_BYTES))
        parser = Parser(self.dialect, named(["", *cells]))
        try:
            table = parser.parse(block)
        except RowError:
            return None
        first, last = (parser.texts(block, name) for name in (parser.header[0], parser.header[-1]))
        text = bytes(parser.plain(block))
        quoted = all(text[row.start] == ord(self.dialect.quote or "\0") for row in rows(text, self.dialect))
        if not are_row_names(first, self.dialect, quoted=quoted, n_names=len(cells)) or (
            not any(map(str.strip, last)) or not any(is_numbers(column.type) for column in table.columns[1:])
        ):
            return None
        self.parser, self.row_names = parser, parser.header[:1]
        return table

    def explained(self, error: SourceError, first: bytes) -> SourceError:
        """An error of the first rows with what may be done about it, for the text of the row with the names."""
        if "comment=" in str(error):
            return error
        hint = "; skip the lines before the names of the columns with skip_rows= (--skip-rows)"
        hint = comment_hint(first.decode()) or hint
        if isinstance(error.__cause__, RowError) and error.__cause__.excess >= 0:
            hint += ", or name every column with names= and header=True (--names, --header)"
        return SourceError(f"{error}; the first row is {shown(first)}{hint}")

    def choose(self, wanted: Wanted, cells: list[str], table: Any) -> Sequence[str]:
        """Choose the columns to read, and their types; return those that are channels."""
        parser, schema = self.parser, table.schema
        self.empty = None       # a column without a name or values, as lines that end with a delimiter make one
        if len(cells) > 1 and not cells[-1].strip() and types.is_null(schema[-1].type) and (
            parser.header[-1] not in (self.layout.names or ())
        ):
            self.empty = parser.header[-1]
            schema = schema.remove(len(schema) - 1)
        try:
            names = selected_names(self.name, schema, wanted, self.row_names)
            self.columns_there = schema.names
        except SourceError as error:
            raise SourceError(f"{error}{self.hint(wanted, schema)}") from None
        if wanted.reading.get("numeric"):
            self.doubt = self.left_out(wanted, table, names)
        numeric = [*names, *([] if wanted.weights is None else [wanted.weights])]
        kinds = {name: schema.field(name).type for name in numeric}
        parser.numeric = frozenset(numeric)
        parser.kinds = {name: kind for name, kind in kinds.items() if types.is_boolean(kind)}
        self.numbers = {name for name, kind in kinds.items() if not types.is_boolean(kind) and not types.is_null(kind)}
        if not self.dialect.thousands:
            parser.expected = {name: kind for name, kind in kinds.items() if types.is_float64(kind)}
        if wanted.whole_rows:       # The other columns are copied as text.
            fields = [(name, pa.float64() if name in parser.numeric else pa.string()) for name in schema.names]
            parser.kinds |= {name: kind for name, kind in fields if name not in parser.numeric}
            self.schema = pa.schema(fields)
        else:
            texts = {name: schema.field(name).type for name in wanted.by}
            parser.kinds |= {name: kind if types.is_integer(kind) or types.is_boolean(kind) else pa.string()
                             for name, kind in texts.items()}
            parser.include = [*numeric, *wanted.by, *([self.empty] if self.empty and wanted.columns is None else [])]
        self.na_words, self.na_texts = (*NA_WORDS, *self.dialect.na_values), ("", *self.dialect.na_values)
        self.checked: Any = None        # the last schema that was found right
        return names

    def left_out(self, wanted: Wanted, table: Any, channels: Sequence[str]) -> str:
        """A warning if a column of text is left out, whose values another option would make numbers."""
        options = {name: value for name, value in wanted.reading.items() if name != "numeric"}
        asked = {*selected(self.name, table.column_names, wanted._replace(reading=options), lambda _: True)}
        asked -= {*channels, *self.row_names}
        for name, column in zip(table.column_names, table.columns, strict=True):
            if name in asked and types.is_string(column.type):
                found = option_for(map(str, column.to_pylist()), self.dialect)
                if found:
                    return f"{self.name}: numeric=True (--numeric) leaves out {name!r}, which has {found}"
        return ""

    def hint(self, wanted: Wanted, schema: Any) -> str:
        """What may be done about columns that are not numeric."""
        header = self.parser.header
        if len(set(header)) < len(header):
            return "; give each column a name of its own with names= and header=True (--names, --header)"
        if comment_hint(header[0]):
            return comment_hint(header[0])
        _, block = next(self.text.blocks(self.start, LOOK_BYTES), (0, None))
        columns = [name for name in map(str, wanted.columns or schema.names)
                   if name in schema.names and not is_numeric(schema.field(name).type)]
        if block is None or not columns:
            return ""
        values = self.parser.texts(block, columns[0])
        n_words = {len(value.split()) for value in values} | {min(2, len(header[0].split()))}
        if len(header) == 1 and min(n_words) > 1 and len(n_words) <= 2:
            return "; pass delimiter=' ' (--delimiter ' ') if spaces separate the columns"
        place = first_fault(values, self.dialect)
        value = values[place] if values else ""
        if self.layout.header is False and values and place == 0 and not self.dialect.is_number(value):
            return (f"; {columns[0]!r} has {value[:60]!r} in the first row: pass header=True (--header) if that holds "
                    "names")
        if advice(value, self.dialect).startswith("pass na_values") and not any(map(self.dialect.is_number, values)):
            return ""
        line = self.line(self.start, block, place)
        return f"; {columns[0]!r} has {value[:60]!r} in line {line:,}: {advice(value, self.dialect)}"

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        start = max(start, self.start)
        # A block costs some microseconds for each column, so that it should have some rows of a very wide file.
        n_bytes = BLOCK_BYTES * min(4, 1 + len(self.parser.header) // 8192)
        for stop, block in self.text.blocks(start, n_bytes):
            yield Piece(partial(self.load, start, block, chunk_rows), None, stop, f"bytes {start:,} to {stop:,}")
            start = stop

    @cached_property
    def beginning(self) -> bytes:
        """The bytes to the end of the names."""
        with self.file.open() as content:
            return content.read(self.text.text.mark_bytes + self.start)

    def together(self, files: Sequence[File], chunk_rows: int | None) -> Iterable[Any]:
        """Load files that begin with the same bytes as this one, to the end of the names, as one block."""
        beginning, parts = self.beginning, []
        ends = not self.start or beginning.endswith((b"\n", b"\r"))      # otherwise other names may begin with the last
        if self.extent is None or self.row_names or not ends:       # rows with names are recognized in each file
            raise UnlikeError
        for file in files:
            with file.open() as content:
                text = content.read()
            is_marked = text.startswith(codecs.BOM_UTF8, len(beginning))        # as it may be if there are no names
            if is_marked or not text.startswith(beginning) or b"\0" in text:
                raise UnlikeError
            if has_open_quote(text, self.dialect, len(beginning)):
                raise UnlikeError
            parts += [memoryview(text)[len(beginning):], b"" if text.endswith((b"\n", b"\r")) else b"\n"]
        return self.load(0, native(*parts), chunk_rows)

    def load(self, start: int, block: Any, chunk_rows: int | None) -> Iterator[Any]:
        with self.located(start, block):
            table = self.parser.parse(block)
            if table.schema != self.checked:
                self.require_types(table, block)
                self.checked = table.schema
        if self.empty in table.column_names:
            table = table.drop_columns(self.empty)
        return sliced(table.to_batches(), chunk_rows)

    def require_types(self, table: Any, block: Any) -> None:
        """Raise RowError if a column has other values than it is to have."""
        for field in table.schema:
            kind, name = field.type, field.name
            if name == self.empty and not types.is_null(kind):
                values = self.parser.texts(block, name)
                place = next(i for i, value in enumerate(values) if not self.dialect.is_missing(value))
                raise RowError(place, f"the last column has {values[place][:60]!r}, but neither a name nor values "
                                      "before; give it a name with names= and header=True (--names, --header)")
            mixed = types.is_boolean(kind) and name in self.numbers
            if name in self.parser.numeric and (mixed or not is_numeric(kind)):
                values = self.parser.texts(block, name)
                place = first_fault(values, self.dialect)
                raise RowError(place, f"column {name!r} is of type {kind}, not numeric, such as "
                                      f"{values[place][:60]!r}; {advice(values[place], self.dialect)}")

    @contextmanager
    def located(self, start: int, block: Any) -> Iterator[None]:
        """Say of errors of the rows of a block in which line they are."""
        try:
            yield
        except RowError as error:
            raise SourceError(f"{self.name}, line {self.line(start, block, error.row):,}: {error}") from error

    def line(self, start: int, block: Any, row: int) -> int:
        """The number of the line in which a row of a block begins."""
        text = bytes(self.parser.plain(block))
        lines = [found.line for found in rows(text, self.dialect)]
        return self.text.line_of(start) + lines[min(row, len(lines) - 1)]


def shown(row: bytes) -> str:
    """The beginning of a row, for messages."""
    return repr(row.decode(errors="replace").strip()[:60])
