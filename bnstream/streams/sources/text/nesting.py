"""How deeply JSON is nested. Parsers call themselves for each level, and a stack that is full ends the process."""

import numpy as np

DEEPEST = 200       # Levels of lists and objects, about, at most. The stack of a thread holds some thousands.
TOO_DEEP = f"more than {DEEPEST} levels deep; leave out what is nested so, or write it as text"
OTHERS = bytes({*range(256)} - {*b'"[]{}'})
STEPS = np.zeros(256, np.int8)
STEPS[[*b"[{"]], STEPS[[*b"]}"]] = 1, -1


def is_too_deep(text: bytes) -> bool:
    """Whether lists and objects in lines of JSON are nested more deeply than `DEEPEST`.

    Nothing is open between two braces with nothing but a line end between: a comma would be there, too. Few objects
    have so many lists and objects that they are looked at.
    """
    return any(len(part) > DEEPEST < part.count(b"[") + part.count(b"{") and depth(part) > DEEPEST
               for part in text.split(b"}\n{"))


def depth(text: bytes) -> int:
    """The number of levels of lists and objects, but for those that enclose nothing."""
    marks = text.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, OTHERS)
    for pair in (b'""', b"[]", b"{}"):      # Most marks are in such pairs.
        marks = marks.replace(pair, b"")
    a = np.frombuffer(marks, np.uint8)
    is_outside = np.cumsum(a == ord('"'), dtype=np.uint8) % 2 == 0      # of texts
    return int(np.cumsum(STEPS[a] * is_outside, dtype=np.int64).max(initial=0))
