"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web

from ingest.catalog_table import CatalogProblem

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2


def problem(
    status: int,
    detail: str,
    *,
    errors: Iterable[CatalogProblem] = (),
    headers: Mapping[str, str] | None = None,
    version: int | None = None,
) -> web.Response:
    """An answer that says what is wrong. `errors` name fields; `version`: the present one of what was to be changed."""
    told: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        told["errors"] = [error._asdict() for error in errors]
    if version is not None:
        told["version"] = version
    return web.Response(
        status=status,
        body=orjson.dumps(told),
        content_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def unprocessable(errors: Iterable[CatalogProblem]) -> web.Response:
    """422: what is wrong with which field."""
    found = tuple(errors)
    return problem(422, "; ".join(map(str, found)), errors=found)


def unavailable() -> web.Response:
    """503: Postgres is away. A change may have been made all the same."""
    return problem(
        503,
        "the database cannot be asked, or did not answer in time; read again before you change again",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )
