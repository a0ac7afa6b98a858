"""Messages about values that are not numbers: which is the first, and which option of reading may read it."""

import re
import shlex
from collections.abc import Iterable, Sequence

from bnstream.streams.sources.text.dialect import Dialect


def first_fault(values: Sequence[str], dialect: Dialect) -> int:
    """The place of the first value that is neither missing nor a number; if there is none, of the first in hexadecimal,
    which does not go with other numbers."""
    present = [(i, value) for i, value in enumerate(values) if not dialect.is_missing(value)]
    faults = [i for i, value in present if not dialect.is_number(value)]
    faults += [i for i, value in present if re.match(r"\s*[+-]?0x", value, re.IGNORECASE)]
    return next(iter(faults), present[0][0] if present else 0)


def option_for(values: Iterable[str], dialect: Dialect) -> str:
    """The first value that is not a number, and the option that makes numbers of all such values; "" if none does."""
    found = ""
    for value in values:
        if dialect.is_missing(value) or dialect.is_number(value):
            continue
        option = advice(value, dialect)
        if not option.startswith(("pass decimal", "pass thousands")):
            return ""
        found = found or f"{value[:60]!r}: {option}"
    return found


def advice(value: str, dialect: Dialect) -> str:
    """The option that may make a number of a value."""
    beside, value = value, value.strip()
    if not beside.isascii() and dialect.is_number(value):
        return "remove the white space that is not ASCII beside the number"
    if dialect.decimal == "," and not dialect.thousands and re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?", value):
        return "pass thousands='.' (--thousands .) if it is a number"
    if dialect.decimal == "." and re.fullmatch(r"[+-]?\d*,\d+(e[+-]?\d+)?", value, re.IGNORECASE):
        if re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", value):
            return "pass decimal=',' (--decimal ,) if it is a decimal comma, thousands=',' (--thousands ,) if not"
        return "pass decimal=',' (--decimal ,) if it is a decimal comma"
    if dialect.decimal == "." and re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?", value):
        return "pass decimal=',' and thousands='.' (--decimal , --thousands .) if it is a number"
    grouped = re.fullmatch(r"[+-]?\d{1,3}([^\w.+-])\d{3}(\1\d{3})*(\.\d*)?", value)
    if grouped and not dialect.thousands:
        return f"pass thousands={grouped[1]!r} (--thousands {shlex.quote(grouped[1])}) if it is a number"
    return f"pass na_values=[{value!r}] (--na-values {shlex.quote(value)}) if it stands for a missing value"
