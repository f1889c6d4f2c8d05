"""Cursors: where a page ended, as a text that means nothing to who holds it. Pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import TypeVar

import orjson

T = TypeVar("T")


def cursor_at(name: str, *key: object) -> str:
    """The cursor after `key` in the list `name`; dates are texts."""
    return urlsafe_b64encode(orjson.dumps([name, *key])).decode().rstrip("=")


def after_cursor(cursor: str | None, name: str, first: T, read: Callable[[list[object]], T]) -> T:
    """The key that the cursor holds, as `read` makes it; `first` without a cursor. ValueError for what is none of this
    list."""
    if cursor is None:
        return first
    try:
        told, *key = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if told != name:
            raise ValueError(told)
        return read(key)
    except (ValueError, TypeError):
        raise ValueError("is not one that this list gave; leave it out to begin anew") from None
