"""What requests to the API carry, checked: queries, bodies, versions."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import orjson
from aiohttp import web

from ingest.catalog_change import Kind
from ingest.catalog_file import CatalogError
from ingest.catalog_service import MAX_PAGE, Key, NoSuchError
from ingest.catalog_table import CatalogProblem

MAX_DOCUMENT_BYTES: Final = 512 << 10
DEFAULT_LIMIT: Final = 50
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
_ETAG: Final = re.compile(r'"([0-9]{1,9})"', re.ASCII)
_LIMIT: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_MAX_ID_DIGITS: Final = 19

ReadBody = Callable[[web.Request], Awaitable[bytes]]
"""Reads a body within limits of size and time. Raises UnreadableError."""


class RefusedError(Exception):
    """The request is refused before anything is asked of the catalog."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


def key_in(request: web.Request, kind: Kind, name: str = "id") -> Key:
    """The key in the path. Raises NoSuchError for what can be none."""
    text = request.match_info[name]
    if kind is Kind.EXCHANGE_RATE:
        return text
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_ID_DIGITS):
        raise NoSuchError(kind, text)
    return int(text)


def query_of(request: web.Request, *known: str) -> dict[str, str]:
    """The query's names and values, each once. Raises CatalogError for a name twice or, where `known` are given, for
    another one."""
    problems: list[CatalogProblem] = []
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name in found:
            problems.append(CatalogProblem(name, "is given twice"))
        elif known and name not in known:
            problems.append(CatalogProblem(name, f"there is no such parameter; there are: {', '.join(known)}"))
        found[name] = value
    if problems:
        raise CatalogError(problems)
    return found


def page_of(request: web.Request) -> tuple[dict[str, str], str | None, int]:
    """(filters, cursor, limit) of a list's query. Raises CatalogError."""
    query = query_of(request)
    cursor, limit = query.pop("cursor", None), query.pop("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit) or not 0 < int(limit) <= MAX_PAGE:
        raise CatalogError([CatalogProblem("limit", f"expected a whole number from 1 to {MAX_PAGE}")])
    return query, cursor, int(limit)


async def document_in(request: web.Request, read_body: ReadBody, media_types: Iterable[str]) -> dict[str, object]:
    """The JSON object in the body. Raises RefusedError, UnreadableError."""
    media_types = tuple(media_types)
    if request.content_type not in media_types:
        raise RefusedError(415, f"Content-Type: expected {' or '.join(media_types)}")
    if (request.content_length or 0) > MAX_DOCUMENT_BYTES:
        raise RefusedError(413, f"body: longer than {MAX_DOCUMENT_BYTES} bytes")
    body = await read_body(request)
    if len(body) > MAX_DOCUMENT_BYTES:
        raise RefusedError(413, f"body: longer than {MAX_DOCUMENT_BYTES} bytes")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"body: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise CatalogError(["expected a JSON object"])
    return document


def version_in(request: web.Request, document: dict[str, object]) -> tuple[int, int]:
    """(the version that the sender has read, the status that says it is another now): 412 for If-Match, 409 for
    `version` in the document, which is taken out of it. Raises RefusedError 428 where there is none."""
    in_body = document.pop("version", None)
    if in_body is not None and (isinstance(in_body, bool) or not isinstance(in_body, int)):
        raise CatalogError([CatalogProblem("version", "expected a whole number")])
    header = request.headers.get("If-Match")
    if header is None:
        if in_body is None:
            raise RefusedError(428, 'name the version that you have read: If-Match: "3", or "version": 3 in the body')
        return in_body, 409
    match = _ETAG.fullmatch(header.strip())
    if match is None:
        raise CatalogError([CatalogProblem("If-Match", 'expected one version in quotes, as ETag has it: "3"')])
    if in_body is not None and in_body != int(match[1]):
        raise CatalogError([CatalogProblem("version", "is another than that of If-Match")])
    return int(match[1]), 412
