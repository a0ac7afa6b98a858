"""The columns of a record batch that hold the keys of groups."""

from collections.abc import Sequence
from typing import Any

from bnstream.streams.sources import Source


def key_columns(batch: Any, by: Sequence[str], source: Source, kinds: Sequence[str] | None = None) -> dict[str, Any]:
    """The columns by name, null where a row has no key.

    Text, as that of CSV files that are copied, may hold keys of other kinds: "int" or "bool".
    """
    from pyarrow import compute, types  # type: ignore[import-untyped]

    found = {}
    for i, name in enumerate(by):
        column = batch.column(batch.schema.get_field_index(name))
        if types.is_string(column.type) or types.is_large_string(column.type):
            kind = "str" if kinds is None else kinds[i]
            column = without(column, source.na_words if kind in ("int", "bool") else source.na_texts)
            if kind in ("int", "bool"):
                column = compute.utf8_trim_whitespace(column).cast("int64" if kind == "int" else "bool")
        found[name] = column
    return found


def without(column: Any, words: Sequence[str]) -> Any:
    """A column of text, null where it has one of these words, whatever spaces are around."""
    import pyarrow as pa
    from pyarrow import compute

    if not words:
        return column
    is_word = compute.is_in(compute.utf8_trim_whitespace(column), pa.array(words, column.type))
    return compute.if_else(is_word, None, column) if compute.any(is_word).as_py() else column
