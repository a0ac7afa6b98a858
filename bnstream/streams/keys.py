"""The columns of a record batch that hold the keys of groups."""

from collections.abc import Sequence
from typing import Any

from bnstream.core.groups.keys import LARGEST
from bnstream.streams.sources import Source

BOOLS = {"true": True, "1": True, "false": False, "0": False}


def keys_in(batch: Any, by: Sequence[str], source: Source, kinds: Sequence[str] | None = None) -> dict[str, Any]:
    """The columns by name, null where a row has no key.

    Text, as that of CSV files that are copied, may hold keys of other kinds: "int" or "bool".
    """
    from pyarrow import types  # type: ignore[import-untyped]

    found = {}
    for i, name in enumerate(by):
        column = batch.column(batch.schema.get_field_index(name))
        if types.is_string(column.type) or types.is_large_string(column.type):
            kind = "str" if kinds is None else kinds[i]
            column = typed(column, kind, name, source.na_words) if kind in ("int", "bool") else \
                without(column, source.na_texts)
        found[name] = column
    return found


def typed(column: Any, kind: str, name: str, na_words: Sequence[str]) -> Any:
    """Text as keys of another kind, null where it has one of these words."""
    import pyarrow as pa

    encoded = column.dictionary_encode()
    values = [key_of(text.strip(), kind, name, na_words) for text in encoded.dictionary.to_pylist()]
    beyond = max((value for value in values if value is not None), default=0) >= LARGEST
    key_type = pa.bool_() if kind == "bool" else pa.uint64() if beyond else pa.int64()
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(values, key_type))


def key_of(text: str, kind: str, name: str, na_words: Sequence[str]) -> int | bool | None:
    """One key; None if it is missing."""
    if text in na_words:
        return None
    try:
        key = BOOLS[text.lower()] if kind == "bool" else int(text)
        if not -LARGEST <= key < 2 * LARGEST:
            raise OverflowError
        return key
    except (KeyError, ValueError, OverflowError):
        raise ValueError(f"column {name!r} has the key {text!r:.60}, but the keys of the statistics are of {kind}; "
                         "mend it in the file, or fit statistics of files like this one") from None


def without(column: Any, words: Sequence[str]) -> Any:
    """A column of text, null where it has one of these words, whatever spaces are around."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import compute

    if not words:
        return column
    is_word = compute.is_in(compute.utf8_trim_whitespace(column), pa.array(words, column.type))
    return compute.if_else(is_word, None, column) if compute.any(is_word).as_py() else column
