"""Rows as a catalog file: the inverse of `ingest.catalog_file`. What is as when left out is left out."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Final

from ingest.catalog_documents import Document, document_of
from storage.rows import CatalogRows, GoalRow

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_TABLES: Final = ("rates", "caps")
"""Keys whose values are tables of their own."""


def format_catalog(rows: CatalogRows) -> str:
    """The file's text. Security tokens are digests, signing secrets encrypted: none can be read from it."""
    goals: defaultdict[int, list[GoalRow]] = defaultdict(list)
    for goal in rows.goals:
        goals[goal.campaign_id].append(goal)
    blocks: list[Iterable[str]] = []
    for advertiser in rows.advertisers:
        blocks += _blocks("advertisers", document_of(advertiser))
    for publisher in rows.publishers:
        blocks += _blocks("publishers", document_of(publisher))
    for campaign in rows.campaigns:
        blocks += _blocks("campaigns", document_of(campaign))
        for goal in goals[campaign.id]:
            blocks += _blocks("campaigns.goals", document_of(goal))
    for rate in rows.exchange_rates:
        blocks += _blocks("exchange_rates", document_of(rate))
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)


def _blocks(name: str, document: Document) -> Iterator[list[str]]:
    """The table, then the tables under it."""
    yield [
        f"[[{name}]]",
        *(
            f"{_key(key)} = {_value(value)}"
            for key, value in document.items()
            if key not in _TABLES and not _is_none(value)
        ),
    ]
    for key in _TABLES:
        tables = document.get(key)
        for table in tables if isinstance(tables, list) else ():
            yield from _blocks(f"{name}.{key}", table)


def _is_none(value: object) -> bool:
    """Whether a key with this value can as well be left out."""
    return value is None or value is False or value in ([], {})


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case date():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return f"{{ {', '.join(f'{_key(key)} = {_value(inner)}' for key, inner in value.items())} }}"
        case _:
            return _text(str(value))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """A TOML basic string: JSON's, but that DEL is escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
