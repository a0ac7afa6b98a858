"""Errors of sources: `SourceError`, and the contexts that turn other errors into messages that say what to do."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


class SourceError(ValueError):
    """A source that cannot be read or has no statistics; the message says what is wrong, where, and what to do.

    Examples
    --------
    >>> import bnstream
    >>> try:
    ...     bnstream.fit("nowhere.csv")
    ... except bnstream.SourceError as error:
    ...     print(error)
    there is no file nowhere.csv
    """


class SourceAxisError(SourceError, np.exceptions.AxisError):
    """A channel axis that an array does not have."""


class UnreachableError(SourceError):
    """A source that could not be read to its end, but may be later: its server or the network failed."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise errors of reading as `SourceError`, and a TypeError as a TypeError, with the name of what was read."""
    try:
        yield
    except SourceError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, OverflowError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{name}: {error}") from error
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
