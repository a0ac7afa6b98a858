"""Requests to a server that may fail: which are sent again, and the message if they fail in the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from bnstream.streams.sources.errors import SourceError, UnreachableError

T = TypeVar("T")

# Seconds to wait before a request is sent again.
PAUSES: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
# What may pass: the codes of HTTP, and the errors of Python, aiohttp, botocore, Google and Azure by the names of their
# classes, because none of these packages need be installed.
PASSING_CODES = {408, 425, 429, 500, 502, 503, 504}
PASSING_ERRORS = {"ConnectionError", "TimeoutError", "ClientConnectionError", "ClientPayloadError", "HTTPClientError",
                  "IncompleteReadError", "ServiceRequestError", "ServiceResponseError", "TransportError"}
FORBIDDEN_CODES = {401, 403}


def persistent(request: Callable[[], T], name: str, place: str) -> T:
    """The result of a request, which is sent again after faults that may pass.

    Raises
    ------
    UnreachableError
        If it still fails after the last try. The message says where, but not with which password or signature.
    SourceError
        If the server refuses it.
    """
    for tries in range(len(PAUSES) + 1):
        try:
            return request()
        except SourceError:
            raise
        except Exception as error:      # each package has its own errors, which share no class
            where = f"{name}, {place}" if place else name
            if not may_pass(error):
                raise SourceError(f"{where}: {told(error, name)}{advice(error)}") from error
            if tries == len(PAUSES):
                raise UnreachableError(f"{where}: {told(error, name)}, after {tries + 1} tries") from error
        time.sleep(PAUSES[tries])
    raise AssertionError


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and the errors that caused it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def code_of(error: BaseException) -> int | None:
    """The status code of HTTP that an error carries."""
    for name in ("status", "status_code", "code"):
        code = getattr(error, name, None)
        if isinstance(code, int):
            return code
    response = getattr(error, "response", None)
    code = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    return code if isinstance(code, int) else None


def deciding(error: BaseException) -> BaseException | None:
    """The first cause of an error that shows what happened to the request."""
    return next((cause for cause in causes(error) if code_of(cause) is not None or is_of_network(cause)), None)


def is_of_network(error: BaseException) -> bool:
    return bool(PASSING_ERRORS & {kind.__name__ for kind in type(error).__mro__})


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    cause = deciding(error)
    return cause is not None and (is_of_network(cause) or code_of(cause) in PASSING_CODES)


def is_missing(error: BaseException) -> bool:
    """Whether an error says that there is no such file."""
    cause = deciding(error)
    return isinstance(error, FileNotFoundError) if cause is None else code_of(cause) in (404, 410)


def told(error: BaseException, name: str) -> str:
    """What an error says, in one line and without the secrets of its URLs."""
    cause = deciding(error) or error
    if not is_of_network(cause) and getattr(cause, "message", None):
        return f"the server answers {code_of(cause)} {getattr(cause, 'message', '')}"
    text = re.sub(r"[^\s\"'/@:]+:[^\s\"'/@]+@", "", without_secrets(" ".join(str(cause).split())))
    return text.replace(name, "").strip() or type(cause).__name__


def advice(error: BaseException) -> str:
    """What to do about a refusal."""
    refused = any(code_of(cause) in FORBIDDEN_CODES or "Credential" in type(cause).__name__ for cause in causes(error))
    if not refused and not isinstance(error, PermissionError):
        return ""
    return "; give credentials with storage_options= (--storage-option), or for public data anon=true"


def without_secrets(url: str) -> str:
    """A URL, or a text with URLs, without passwords and without queries, which hold signatures."""
    url = re.sub(r"(\b(?:https?|ftp|sftp)://)[^/@\s]*@", r"\1", url)
    url = re.sub(r"(://)[^/@\s:]*:[^/@\s]*@", r"\1", url)
    return re.sub(r"(\bhttps?://[^\s?#'\"]*)[?#][^\s'\"]*?(?=::|[\s'\"]|$)", r"\1", url)
