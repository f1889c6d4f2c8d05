"""Requests that are plain enough to be read without an HTTP parser: whole in one piece, and of a narrow grammar.

Pure. What this module reads, aiohttp's parser reads the same way; what it does not know for certain it leaves to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

MAX_TARGET: Final = 8000
"""Longer request lines are the parser's to refuse."""
MAX_SIMPLE_BODY: Final = 65_536

_HEADERS: Final = re.compile(rb"(?:[A-Za-z0-9-]{1,64}: [!-~](?:[ -~]{0,1000}[!-~])?\r\n){1,32}\r\n")
_HARMLESS: Final = frozenset(
    {
        *("host", "user-agent", "accept", "accept-language", "accept-encoding", "x-request-id", "x-real-ip"),
        *("cache-control", "pragma", "referer", "origin", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"),
        *("traceparent", "tracestate", "x-amzn-trace-id", "via", "from", "date"),
    }
)
"""Headers that change nothing in how a postback is read."""


class SimpleHeaders(msgspec.Struct, frozen=True, gc=False):
    """What matters of a block of headers. `content_length` None: there is no body."""

    content_type: str = ""
    content_length: int | None = None
    forwarded_for: str | None = None


class SimpleRequest(msgspec.Struct, frozen=True, gc=False):
    """A request for a postback, read whole. `body` None: it is a GET."""

    query: str
    body: bytes | None
    headers: SimpleHeaders


def read_simple(data: bytes, paths: frozenset[bytes]) -> SimpleRequest | None:
    """The request that `data` is, from its first byte to its last; None where a parser had better look at it."""
    line_end = data.find(b"\r\n", 0, MAX_TARGET)
    if line_end < 0 or data[line_end - 9 : line_end] != b" HTTP/1.1":
        return None
    if data.startswith(b"GET "):
        target_at, head_end, body = 4, len(data), None
    elif data.startswith(b"POST "):
        target_at, head_end = 5, data.find(b"\r\n\r\n", line_end) + 4
        body = data[head_end:]
    else:
        return None
    path, _, query = data[target_at : line_end - 9].partition(b"?")
    if path not in paths or not query.isascii() or b" " in query or b"#" in query:
        return None
    text = query.decode("ascii")
    if not text.isprintable():
        return None
    headers = read_headers(data[line_end + 2 : head_end])
    if headers is None:
        return None
    if body is None:
        if headers.content_length is not None or headers.content_type:
            return None
    elif headers.content_length != len(body) or not body or len(body) > MAX_SIMPLE_BODY:
        return None
    return SimpleRequest(text, body, headers)


@lru_cache(maxsize=4096)
def read_headers(block: bytes) -> SimpleHeaders | None:
    """What matters of the headers, up to and with the empty line; None where any of them is not known to be harmless.

    Remembered: a sender's headers are the same from request to request.
    """
    if _HEADERS.fullmatch(block) is None:
        return None
    content_type, content_length, forwarded_for = "", None, None
    seen: set[str] = set()
    for line in block[:-4].decode("ascii").split("\r\n"):
        name, _, value = line.partition(": ")
        name = name.lower()
        if name in seen:
            return None
        seen.add(name)
        if name == "content-type":
            content_type = value
        elif name == "content-length":
            if not value.isdigit() or len(value) > 6:
                return None
            content_length = int(value)
        elif name == "x-forwarded-for":
            forwarded_for = value
        elif name == "connection":
            if value.lower() != "keep-alive":
                return None
        elif name not in _HARMLESS:
            return None
    if "host" not in seen:
        return None
    return SimpleHeaders(content_type.partition(";")[0].strip().lower(), content_length, forwarded_for)
