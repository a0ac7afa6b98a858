"""Spreadsheets, read with pandas: Excel (.xlsx, .xls) and OpenDocument (.ods)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.tables.batches import Batches, BatchFile
from bnstream.streams.sources.tables.table import TableFile


class ExcelFile(BatchFile):
    """A sheet of a spreadsheet, which has at most a million rows and is read into memory as a whole."""

    takes = TableFile.takes | {"sheet"}

    @contextmanager
    def open(self) -> Iterator[Batches]:
        table = self.table(self.wanted.reading.get("sheet", 0))

        def read(columns: list[str], rows: int) -> Iterator[Any]:
            return iter(table.select(columns).to_batches(rows))

        yield Batches(table.schema, read)

    def table(self, sheet: str | int) -> Any:
        """The rows of a sheet, given by its name or its index."""
        try:
            with self.file.open() as content, without_warnings("openpyxl"), pandas.ExcelFile(content) as book:
                names = book.sheet_names
                if sheet not in names and str(sheet).isdecimal() and int(sheet) < len(names):
                    sheet = names[int(sheet)]
                if sheet not in names:
                    raise SourceError(f"{self.name} has no sheet {sheet!r}; its sheets are {', '.join(names)}")
                frame = pandas.read_excel(book, sheet_name=sheet)
        except ImportError as error:
            raise ModuleNotFoundError(f"{self.name} cannot be read: {error}") from error
        except (KeyError, SyntaxError, TypeError, LookupError) as error:        # of the library that reads the format
            raise SourceError(f"{self.name} cannot be read as a spreadsheet: {error}") from error
        columns = [column_of(frame.iloc[:, i]) for i in range(frame.shape[1])]
        return pa.table(columns, [*map(str, frame.columns)])


@contextmanager
def without_warnings(module: str) -> Iterator[None]:
    """Ignore warnings of a module: of openpyxl, they are about styles and extensions that hold no values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=rf"{module}\.", category=UserWarning)
        yield


def column_of(series: Any) -> Any:
    """A column of pandas, as text if its values are of several types."""
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array(series.map(str, na_action="ignore"), pa.string(), from_pandas=True)
