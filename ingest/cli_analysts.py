"""The commands for analysts: what can be typed. What they do is in `ingest.commands`, imported when it is asked for."""

# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from ingest.cli_options import TIME_FORMATS, ConfigFile, as_utc

Since = Annotated[
    datetime | None,
    typer.Option("--from", metavar="TIME", formats=TIME_FORMATS, help="2026-11-01 or 2026-11-01T12:00:00; UTC."),
]
Until = Annotated[
    datetime | None, typer.Option("--to", metavar="TIME", formats=TIME_FORMATS, help="Up to, and without, this time.")
]


def add_analyst_commands(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.command()(query)
    app.command()(export)
    app.command()(reconcile)
    app.command("grant-readonly")(grant_readonly)


def query(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="None: list them.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    campaign: Annotated[int | None, typer.Option(metavar="ID")] = None,
    advertiser: Annotated[int | None, typer.Option(metavar="ID")] = None,
    publisher: Annotated[int | None, typer.Option(metavar="ID")] = None,
    click: Annotated[str | None, typer.Option(metavar="ID", help="A click's id.")] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How rows are shown.")] = "table",
    config: ConfigFile = None,
) -> None:
    """Run one of the analysts' queries, or list them."""
    from ingest.commands.analytics import list_queries, run_query
    from ingest.commands.session import quietly
    from ingest.commands.sql import Format

    if name is None:
        list_queries()
        return
    values = {
        "since": _utc(since), "until": _utc(until), "campaign": campaign, "advertiser": advertiser,
        "publisher": publisher, "click": click,
    }  # fmt: skip
    raise typer.Exit(run_query(quietly(config), name, values, Format(form)))


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A name in .parquet or .csv.")],
    since: Annotated[datetime, typer.Option("--from", metavar="TIME", formats=TIME_FORMATS, help="UTC.")],
    until: Annotated[datetime, typer.Option("--to", metavar="TIME", formats=TIME_FORMATS, help="Up to, and without.")],
    rows: Annotated[
        Literal["conversions", "log", "clicks", "hours", "days"],
        typer.Option("--table", help="conversions: as they stand now; hours, days: rollups with names."),
    ] = "conversions",
    form: Annotated[
        Literal["parquet", "csv"] | None, typer.Option("--format", help="None: as FILE's name ends.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write the rows of a time range to FILE, by when they were received; clicks by when they were made."""
    from ingest.commands.export import FileFormat, export_rows, format_of
    from ingest.commands.session import quietly
    from storage.export import Exported, TimeRange

    when = TimeRange(as_utc(since), as_utc(until))
    file_format = format_of(file) if form is None else FileFormat(form)
    asyncio.run(export_rows(quietly(config), file, Exported(rows), when, file_format))


def reconcile(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, or NDJSON: .csv, .ndjson, .jsonl")],
    campaign: Annotated[int | None, typer.Option(metavar="ID", help="Whose transactions the list holds.")] = None,
    advertiser: Annotated[int | None, typer.Option(metavar="ID", help="Those of all its campaigns.")] = None,
    since: Since = None,
    until: Until = None,
    click_id: Annotated[str | None, typer.Option(metavar="NAME", help="The list's column of click ids.")] = None,
    txn_id: Annotated[str | None, typer.Option(metavar="NAME", help="Of its own ids of the events.")] = None,
    goal: Annotated[str | None, typer.Option(metavar="NAME", help="Of the goals' values.")] = None,
    amount: Annotated[str | None, typer.Option(metavar="NAME", help="Of amounts.")] = None,
    currency: Annotated[str | None, typer.Option(metavar="NAME", help="Of currencies.")] = None,
    status: Annotated[str | None, typer.Option(metavar="NAME", help="Of statuses; none: all in it is owed.")] = None,
    time: Annotated[str | None, typer.Option(metavar="NAME", help="Of times.")] = None,
    compare: Annotated[Literal["sale", "revenue"], typer.Option(help="What amounts are.")] = "sale",
    tolerance: Annotated[str, typer.Option(metavar="AMOUNT", help="A difference that is none.")] = "0",
    out: Annotated[Path | None, typer.Option("--csv", metavar="OUT", help="Write all that differs there.")] = None,
    config: ConfigFile = None,
) -> None:
    """Compare an advertiser's own list of transactions with what is stored. Exits with 1 if anything differs."""
    from ingest.commands.reconcile import Asked
    from ingest.commands.reconcile import reconcile as compare_list
    from ingest.commands.session import quietly
    from ingest.money import AmountError, parse_amount
    from ingest.reconciling import Columns

    try:
        tolerance_micros = parse_amount(tolerance)
    except AmountError as error:
        raise typer.BadParameter(str(error), param_hint="--tolerance") from None
    asked = Asked(
        Columns(click_id, txn_id, goal, amount, currency, status, time),
        campaign,
        advertiser,
        _utc(since),
        _utc(until),
        compare == "sale",
        tolerance_micros,
    )
    raise typer.Exit(asyncio.run(compare_list(quietly(config), file, asked, out)))


def grant_readonly(
    role: Annotated[str, typer.Argument(metavar="NAME", help="The role; made if it is not there.")],
    config: ConfigFile = None,
) -> None:
    """Let a PostgreSQL role read what analysts need, and no secret."""
    from ingest.commands.analytics import make_readonly
    from ingest.commands.session import quietly

    asyncio.run(make_readonly(quietly(config), role))


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else as_utc(at)
