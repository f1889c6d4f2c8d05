"""`postback sql`: statements on the configured Postgres, given, piped or typed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from ingest.commands.output import console, visible
from ingest.commands.session import CANNOT_CONNECT, CommandError
from ingest.commands.sql_text import Column, Rows, as_csv, as_json, as_table, split_statements
from ingest.config import Config
from ingest.engines import attached
from ingest.engines.explain import explain_postgres_error, hide_password
from ingest.logs import said
from storage.postgres import AWAY, CONNECT_TIMEOUT_S, PostgresError

_PYTHONS_OWN: Final = frozenset(
    "bool bytea char bpchar varchar text name json jsonb uuid int2 int4 int8 float4 float8 oid regclass".split()
)
"""Types whose Python value says exactly what Postgres says; all others are taken as Postgres' own text."""

_TABLES: Final = """
SELECT relname AS "table", CASE relkind WHEN 'v' THEN 'view' WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS kind,
       obj_description(oid, 'pg_class') AS description
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition
ORDER BY 1
"""
_COLUMNS: Final = """
SELECT attname AS "column", format_type(atttypid, atttypmod) AS type,
       CASE WHEN attnotnull THEN 'not null' END AS "null",
       col_description(attrelid, attnum) AS description
FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""
_HELP: Final = r"""Statements end with a semicolon.
  \d         the tables
  \d NAME    the columns of a table
  \q         leave (also Ctrl-D)
"""


class Format(StrEnum):
    """How rows are shown."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def run_sql(config: Config, text: str | None, form: Format) -> int:
    """Run `text`; without it what comes on standard input, line by line. The exit status: 1 if a statement failed and
    nobody was there to see it."""
    with asyncio.Runner() as runner:
        shell = _Shell(runner, config, form)
        try:
            shell.open()
            if text is not None:
                return shell.run_all(text)
            if sys.stdin.isatty():
                shell.interact()
                return 0
            return shell.run_lines(iter(sys.stdin.readline, ""))
        finally:
            shell.close()


class _Shell:
    """One connection. Between statements nothing runs: so a person may be asked for the next one."""

    def __init__(self, runner: asyncio.Runner, config: Config, form: Format) -> None:
        self._runner = runner
        self._config = config
        self._form = form
        self._stack = AsyncExitStack()
        self._connection: Any = None
        self._dsn = ""
        self._exact: set[str] = set()

    def open(self) -> None:
        """Connect. Raises EngineError, CommandError."""
        urls = self._runner.run(self._stack.enter_async_context(attached(self._config)))
        self._dsn = urls.postgres_dsn
        self._runner.run(self._connect())

    def close(self) -> None:
        """End the connection, and embedded engines that were started for it."""
        if self._connection is not None:
            self._connection.terminate()
        self._runner.run(self._stack.aclose())

    def run_all(self, text: str) -> int:
        """Statements, in order, up to the first that fails."""
        statements, rest = split_statements(text)
        for statement in [*statements, rest.strip()]:
            if statement and not self._run(statement):
                return 1
        return 0

    def run_lines(self, lines: Iterator[str]) -> int:
        """Each statement as soon as it is there; one that fails is shown, and it goes on."""
        waiting = ""
        failed = False
        for line in lines:
            if not waiting.strip() and line.startswith("\\"):
                if not self._run_command(line):
                    break
                continue
            statements, waiting = split_statements(waiting + line)
            for statement in statements:
                failed |= not self._run(statement)
        if waiting.strip():
            failed |= not self._run(waiting.strip())
        return 1 if failed else 0

    def interact(self) -> None:
        """Ask until \\q or Ctrl-D."""
        out = console()
        out.print(f"{hide_password(self._dsn)}\n\\? for help, \\q to leave", soft_wrap=True)
        with _history():
            waiting = ""
            while True:
                try:
                    line = input("postback-> " if waiting else "postback=> ")
                    if not waiting and line.startswith("\\"):
                        if not self._run_command(line):
                            return
                        continue
                    statements, waiting = split_statements(f"{waiting}{line}\n")
                    waiting = waiting.lstrip()
                    for statement in statements:
                        self._run(statement)
                except EOFError:
                    out.print()
                    return
                except KeyboardInterrupt:  # of what is typed, or of what runs: asyncpg cancels it on the server
                    out.print("cancelled")
                    waiting = ""

    def _run_command(self, line: str) -> bool:
        """A backslash command; False: leave."""
        name, _, argument = line.strip().rstrip(";").partition(" ")
        match name:
            case "\\q":
                return False
            case "\\d" if argument.strip():
                self._run(_COLUMNS, argument.strip())
            case "\\d":
                self._run(_TABLES)
            case _:
                sys.stdout.write(_HELP)
        return True

    def _run(self, statement: str, *arguments: str) -> bool:
        """Run one and show what it gives, or what is wrong with it; whether it went well."""
        try:
            self._show(*self._runner.run(self._fetch(statement, arguments)))
        except CommandError as error:
            self._show_error(str(error))
        except (PostgresError, *AWAY) as error:
            lines = [said(error)]
            lines += [f"{name}: {more}" for name in ("detail", "hint") if (more := getattr(error, name, None))]
            self._show_error("\n".join(lines))
        else:
            return True
        return False

    async def _connect(self) -> None:
        """Without a limit on how long a statement takes: a person is there to end it."""
        try:
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                statement_cache_size=0,
                server_settings={"application_name": "postback sql"},
            )
        except CANNOT_CONNECT as error:
            raise CommandError(explain_postgres_error(error, self._dsn)) from None
        self._exact.clear()

    async def _fetch(self, statement: str, arguments: tuple[str, ...]) -> tuple[list[Column], Rows, str]:
        """(columns, rows, what Postgres says was done)"""
        if self._connection.is_closed():
            await self._connect()
        prepared = await self._connection.prepare(statement, name="")
        if await self._take_exactly(prepared.get_attributes()):
            prepared = await self._connection.prepare(statement, name="")
        rows = await prepared.fetch(*arguments)
        columns = [Column(attribute.name, attribute.type.name) for attribute in prepared.get_attributes()]
        return columns, [tuple(row) for row in rows], prepared.get_statusmsg()

    async def _take_exactly(self, attributes: Any) -> bool:
        """Have the columns' types sent as Postgres' text: no Python type stands for infinity, or keeps all digits."""
        changed = False
        for attribute in attributes:
            name, schema = attribute.type.name.removesuffix("[]"), attribute.type.schema
            if name in _PYTHONS_OWN or name in self._exact:
                continue
            self._exact.add(name)
            try:
                await self._connection.set_type_codec(name, schema=schema, encoder=str, decoder=str, format="text")
            except (ValueError, asyncpg.InterfaceError):  # not a scalar type: shown as Python does
                continue
            changed = True
        return changed

    def _show(self, columns: list[Column], rows: Rows, done: str) -> None:
        if not columns:
            console(stderr=self._form is not Format.TABLE).print(visible(done or ""))
            return
        match self._form:
            case Format.TABLE:
                width = console().width if sys.stdout.isatty() else None
                sys.stdout.write(as_table(columns, rows, width=width))
            case Format.CSV:
                sys.stdout.write(as_csv(columns, rows))
            case Format.JSON:
                sys.stdout.write(as_json(columns, rows))
        sys.stdout.flush()

    @staticmethod
    def _show_error(text: str) -> None:
        sys.stdout.flush()
        err = console(stderr=True)
        err.print("error: ", style="bold red", end="")
        err.print(visible(text), soft_wrap=True)


@contextmanager
def _history() -> Iterator[None]:
    """Line editing, with the lines of earlier times."""
    import readline  # noqa: PLC0415  changes how input() works: only where a person types

    path = Path.home() / ".postback_history"
    try:
        readline.read_history_file(path)
    except OSError:  # none yet
        readline.clear_history()
    try:
        yield
    finally:
        readline.set_history_length(1000)
        try:
            readline.write_history_file(path)
        except OSError as error:
            console(stderr=True).print(f"the history is not kept: {error}")
