"""`postback query` and `postback grant-readonly`: what analysts are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingest.commands.output import console, table
from ingest.commands.session import CommandError, open_database
from ingest.commands.sql import Format, run_sql
from ingest.config import Config
from storage.analytics import ParameterError, Value, analyst_queries, grant_readonly
from storage.postgres import PostgresError

_OPTIONS: Final = {"since": "from", "until": "to"}
_INSUFFICIENT_PRIVILEGE: Final = "42501"


def list_queries() -> None:
    """Print each query's name, parameters and question."""
    rows = [(query.name, " ".join(query.parameters), query.answers) for query in analyst_queries().values()]
    console().print(table(("query", "takes", "answers"), rows))


def run_query(config: Config, name: str, values: Mapping[str, Value | None], form: Format) -> int:
    """Run one; the exit status. Raises CommandError for an unknown name or a parameter that is missing."""
    query = analyst_queries().get(name)
    if query is None:
        raise CommandError(f"there is no query {name!r}: `postback query` lists them")
    try:
        statement = query.given({key: value for key, value in values.items() if value is not None})
    except ParameterError as error:
        options = " ".join(f"--{_OPTIONS.get(key, key)} …" for key in query.parameters)
        raise CommandError(f"{error}: postback query {name} {options}") from None
    return run_sql(config, statement, form)


async def make_readonly(config: Config, role: str) -> None:
    """Create the role if it is not there, and let it read what analysts need."""
    async with open_database(config) as connection:
        try:
            is_new = await grant_readonly(connection, role)
        except PostgresError as error:
            if getattr(error, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
                raise
            raise CommandError(
                f"PostgreSQL: {error}; this command needs postgres.dsn to name a role that owns the tables,"
                " and that may create roles if this one is not there"
            ) from None
    console().print(f"{role} may read {'and was created' if is_new else 'what analysts need'}")
    if is_new:
        console().print("set a password with psql's \\password, or let pg_hba.conf say how it logs in")
