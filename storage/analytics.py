"""What analysts are given: queries with parameters, and the tables that a role of theirs may read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Final

from storage.postgres import Connection
from storage.sqlfiles import FOLDER, queries

Value = int | str | datetime

_PARAMETER: Final = re.compile(r"(?<!:):(')?([a-z]+)(?(1)')")

READABLE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "conversions": (),
        "conversions_net": (),
        "status_changes": (),
        "adjustments": (),
        "clicks": (),
        "postback_log": (),
        "replays": (),
        "parked_postbacks": (
            "postback_id",
            "received_at",
            "parked_at",
            "until",
            "look_at",
            "click_ids",
            "click_id",
            "goal_value",
            "txn_id",
            "remote_ip",
            "params",
        ),
        "conversions_hourly": (),
        "conversions_daily": (),
        "clicks_hourly": (),
        "clicks_daily": (),
        "log_hourly": (),
        "log_daily": (),
        "performance_hourly": (),
        "performance_daily": (),
        "goals_hourly": (),
        "goals_daily": (),
        "advertisers": ("id", "name", "profile", "status"),
        "publishers": (),
        "campaigns": (),
        "goals": (),
        "goal_rates": (),
        "exchange_rates": (),
        "dead_letters": ("dead_letter_id", "failed_at", "entry_id", "kind", "error"),
    }
)
"""Tables and views by name, with the columns that may be read; none: all of them. What is not named is not readable:
secrets, keys, and whatever a later version adds until somebody adds it here."""


class ParameterError(ValueError):
    """A query is not given what it asks for; the message names it."""


@dataclass(frozen=True, slots=True)
class Query:
    """A file of `storage/sql/analytics`. `answers` is the question it opens with; parameters stand in it as psql has
    them: `:campaign`, `:'since'`."""

    name: str
    answers: str
    sql: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """Their names, in the order of their first use."""
        return tuple(dict.fromkeys(match[2] for match in _PARAMETER.finditer(self.sql)))

    def given(self, values: Mapping[str, Value]) -> str:
        """The statement with its parameters filled in, as psql would. Raises ParameterError where one is missing."""

        def literal(match: re.Match[str]) -> str:
            value = values.get(match[2])
            if value is None:
                raise ParameterError(f"query {self.name} needs {match[2]}")
            if isinstance(value, int):
                return str(value)
            text = value.isoformat() if isinstance(value, datetime) else value
            quoted = text.replace("'", "''")
            return f"'{quoted}'"

        return _PARAMETER.sub(literal, self.sql)


@cache
def analyst_queries() -> Mapping[str, Query]:
    """The queries of docs/analytics.md by name. Read once."""
    found = {}
    for path in sorted((FOLDER / "analytics").glob("*.sql")):
        first, _, sql = path.read_text(encoding="utf-8").partition("\n")
        found[path.stem] = Query(path.stem, first.removeprefix("--").strip(), sql.strip().removesuffix(";"))
    return MappingProxyType(found)


async def grant_readonly(connection: Connection, role: str) -> bool:
    """Make `role` one that may read what analysts need and nothing else; whether it was created for that.

    A role that is there keeps its password and whether it may log in. In one transaction; raises what Postgres answers.
    """
    sql = queries("analytics")
    quoted = '"' + role.replace('"', '""') + '"'
    async with connection.transaction():
        is_new = not await connection.fetchval(sql["role_exists"], role)
        if is_new:
            await connection.execute(sql["create_role"].format(role=quoted))
        for block in ("revoke", "settings"):
            await connection.execute(sql[block].format(role=quoted))
        for table, columns in READABLE.items():
            of = f" ({', '.join(columns)})" if columns else ""
            await connection.execute(sql["grant"].format(of=of, table=table, role=quoted))
    return is_new
