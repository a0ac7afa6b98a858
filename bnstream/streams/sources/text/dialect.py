"""How a text holds a table: what separates, quotes and comments, and how its numbers are written."""

import codecs
import copy
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

LINE_ENDS = b"\r\n"
LIKELY = ",;\t|"        # The delimiters that are found without being asked for.
# What pandas reads as missing.
NA_WORDS = ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
            "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)|0x[0-9a-f]{1,16}", re.IGNORECASE | re.ASCII)
HELD = b"\0"            # Stands for a quoted field while the text around it is rewritten.


class Dialect:
    """The options of reading that say how a text holds a table, and what follows from them.

    Raises
    ------
    TypeError
        If an option is of the wrong type.
    ValueError
        If an option is out of range, or two of them contradict each other.
    """

    def __init__(self, reading: Mapping[str, Any]) -> None:
        self.delimiter = mark("delimiter", reading["delimiter"]) if "delimiter" in reading else None
        self.quote = reading.get("quote", '"')
        if self.quote != "":
            mark("quote", self.quote)
        self.trusted = "quote" in reading       # The caller says what quotes, and no quote is taken for a fault.
        self.comment: str | None = reading.get("comment")
        if self.comment is not None and (not isinstance(self.comment, str) or not self.comment.strip()):
            raise ValueError("comment (--comment) must be what begins a comment, such as '#', got "
                             f"{self.comment!r:.60}")
        self.decimal = mark("decimal", reading.get("decimal", "."))
        self.thousands = mark("thousands", reading["thousands"], ascii_only=False) if "thousands" in reading else None
        require_different({"quote": self.quote, "decimal": self.decimal, "thousands": self.thousands})
        require_different({"quote": self.quote, "delimiter": self.delimiter, "comment": self.comment})
        self.na_values: tuple[str, ...] = reading.get("na_values", ())
        self.pads = "short_rows" in reading     # Rows that lack fields get empty ones at their end.
        self.encoding: str | None = reading.get("encoding")
        require_encoding(self.encoding)

    def with_delimiter(self, delimiter: str) -> "Dialect":
        """The same dialect with the delimiter that was found."""
        found = copy.copy(self)
        found.delimiter = delimiter
        found.__dict__.pop("quoted", None)      # which depends on it
        return found

    @property
    def by_blanks(self) -> bool:
        """Whether runs of spaces and tabs separate."""
        return self.delimiter == " "

    @property
    def separators(self) -> str:
        """What may separate two fields."""
        return LIKELY if self.delimiter is None else " \t" if self.by_blanks else self.delimiter

    @cached_property
    def quoted(self) -> re.Pattern[bytes] | None:
        """A quoted field, with its closing quote as ``closing``, empty if there is none; or a ``comment``.

        A quote opens a field only where the field begins.
        """
        patterns = []
        if self.quote:
            q, before = re.escape(self.quote), re.escape(self.separators + "\r\n")
            patterns.append(f"{q}(?<![^{before}]{q})[^{q}]*(?:{q}{q}[^{q}]*)*(?P<closing>{q}?)")
        if self.comment:
            blanks = "[ \t]*" if self.by_blanks else " *"
            patterns.append(f"(?P<comment>{blanks}{re.escape(self.comment)}[^\r\n]*)")
        return re.compile("|".join(patterns).encode()) if patterns else None

    def masked(self, text: bytes) -> bytes:
        """The text with spaces for line ends in quotes: all places are the same, and each line end ends a row."""
        hidden = bytes.maketrans(LINE_ENDS, b"  ")
        return text if self.quoted is None else self.quoted.sub(lambda match: match[0].translate(hidden), text)

    @property
    def rewrites(self) -> bool:
        """Whether pyarrow does not read the dialect, but what `plain` makes of it."""
        return self.comment is not None or self.by_blanks

    def plain(self, text: bytes) -> bytes:
        """The text without comments, and with a tab for each run of blanks that separates fields. It keeps its lines.

        Raises
        ------
        ValueError
            If it holds a byte 0.
        """
        if HELD in text:
            raise ValueError("the text holds a zero byte; give its encoding with encoding= (--encoding)")
        kept: list[bytes] = []

        def hold(match: re.Match[bytes]) -> bytes:
            if match.lastgroup == "comment":
                return b""
            kept.append(match[0])
            return HELD

        if self.quoted is not None and any(m and m.encode() in text for m in (self.quote, self.comment)):
            text = self.quoted.sub(hold, text)
        if self.by_blanks:
            text = tabbed(text)
        fields = iter(kept)
        return re.sub(HELD, lambda _: next(fields), text) if kept else text

    def is_number(self, text: str) -> bool:
        """Whether a field is written as a number."""
        text = text.strip()
        if self.thousands:
            text = re.sub(self.group, r"\1", text)
        if self.decimal != ".":
            text = text.replace(".", "?").replace(self.decimal, ".")
        return NUMBER.fullmatch(text) is not None

    @property
    def group(self) -> str:
        """The pattern of a thousands mark with the three digits after it, for Python and for RE2."""
        return rf"{re.escape(self.thousands or '')}(\d\d\d)\b"

    def is_missing(self, text: str) -> bool:
        return text.strip() in (*NA_WORDS, *self.na_values)


def tabbed(text: bytes) -> bytes:
    """Text with one tab for each run of spaces and tabs, and none at the ends of its lines."""
    text = text.replace(b" ", b"\t")
    while b"\t\t" in text:
        text = text.replace(b"\t\t", b"\t")
    for end in (b"\n", b"\r"):
        text = text.replace(b"\t" + end, end).replace(end + b"\t", end)
    return text.strip(b"\t")


def mark(option: str, value: Any, *, ascii_only: bool = True) -> str:
    """A mark of the dialect; raise an error unless it is one character that no number holds."""
    if not isinstance(value, str):
        raise TypeError(f"{option} (--{option}) must be one character, got {value!r:.60}")
    value = {r"\t": "\t", r"\s+": " "}.get(value, value)       # as shells and pandas write them
    if len(value) != 1 or value in "\r\n\0+-" or value.isalnum() or (ascii_only and not value.isascii()):
        raise ValueError(f"{option} (--{option}) must be one {'ASCII ' if ascii_only else ''}character, no letter, "
                         f"digit, sign or line end, got {value!r:.60}")
    return value


def require_different(marks: Mapping[str, str | None]) -> None:
    """Raise ValueError if two marks are the same."""
    seen: dict[str, str] = {}
    for option, value in marks.items():
        if value and value in seen:
            raise ValueError(f"{seen[value]} and {option} are both {value!r} (--{seen[value]}, --{option}); give "
                             "different ones")
        if value:
            seen[value] = option


def require_encoding(encoding: str | None) -> None:
    """Raise ValueError unless Python knows how to decode text that is encoded so."""
    if encoding is not None and not isinstance(encoding, str):
        raise TypeError(f"encoding (--encoding) must be the name of an encoding, got {encoding!r:.60}")
    try:
        "".encode(encoding or "utf-8")
        codecs.lookup(encoding or "utf-8")
    except LookupError as error:
        raise ValueError(f"encoding (--encoding) must be one that Python knows, such as 'utf-16' or 'latin-1', got "
                         f"{encoding!r:.60}: {error}") from error
