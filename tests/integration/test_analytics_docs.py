"""docs/analytics.md, from its heading "Queries" on, is made of the query files and the schema's comments.

`UPDATE_DOCS=1` with this file writes it anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.analytics import READABLE, Query, analyst_queries
from storage.postgres import Connection, close, connect

PAGE: Final = Path(__file__).parents[2] / "docs" / "analytics.md"
GENERATED: Final = "\n## Queries\n"

_DESCRIBED: Final = """
SELECT relkind::text, obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass($1)
"""
_COLUMNS: Final = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum)
FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""
_TYPES: Final = {"timestamp with time zone": "timestamptz", "timestamp(3) with time zone": "timestamptz(3)"}


async def test_the_page_is_made_from_queries_and_comments(postgres_dsn: str) -> None:
    text = await asyncio.to_thread(PAGE.read_text, encoding="utf-8")
    by_hand, _, _ = text.partition(GENERATED)
    connection = await connect(postgres_dsn)
    try:
        dictionary = [line for table in READABLE for line in await _table(connection, table)]
    finally:
        await close(connection)
    page = "\n".join((by_hand + GENERATED, *_queries(), "## Data dictionary", "", *dictionary))
    if os.environ.get("UPDATE_DOCS"):
        await asyncio.to_thread(PAGE.write_text, page, encoding="utf-8")
    assert await asyncio.to_thread(PAGE.read_text, encoding="utf-8") == page, (
        "write it anew: UPDATE_DOCS=1 .venv/bin/python -m pytest tests/integration/test_analytics_docs.py"
    )


def _queries() -> Iterator[str]:
    for query in analyst_queries().values():
        yield from (f"### {query.name}", "", query.answers, "", "```sql", query.sql, "```", "")
        yield from _command(query)


def _command(query: Query) -> Iterator[str]:
    options = {"since": "--from 2026-11-01", "until": "--to 2026-11-08", "campaign": "--campaign 100",
               "advertiser": "--advertiser 1", "publisher": "--publisher 10", "click": "--click demo-us-1"}  # fmt: skip
    yield f"`postback query {' '.join([query.name, *(options[name] for name in query.parameters)])}`"
    yield ""


async def _table(connection: Connection, name: str) -> list[str]:
    described = await connection.fetchrow(_DESCRIBED, name)
    assert described is not None
    assert described[1], f"{name} has no comment"
    lines = [f"### {name}", "", f"{'A view. ' if described[0] == 'v' else ''}{described[1]}", ""]
    lines += ["| column | type | |", "|---|---|---|"]
    for column, type_name, is_required, comment in await connection.fetch(_COLUMNS, name):
        if READABLE[name] and column not in READABLE[name]:
            continue
        null = "" if is_required or described[0] == "v" else " or null"
        said = (comment or "").replace("|", "\\|")
        lines.append(f"| `{column}` | {_TYPES.get(type_name, type_name)}{null} | {said} |")
    return [*lines, ""]
