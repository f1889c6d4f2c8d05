"""The commands for how long data is kept: what can be typed. What they do is in `ingest.commands`, imported when it is
asked for."""

# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ingest.cli_options import AsJson, ConfigFile


def add_lifecycle_commands(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.command()(partitions)
    app.command()(erase)


def partitions(
    drop_expired: Annotated[bool, typer.Option("--drop-expired", help="Drop what is due now.")] = False,
    detach: Annotated[
        tuple[str, str],
        typer.Option(metavar="TABLE MONTH", help="Archive a month that is past, then drop it: conversions 2026-01."),
    ] = ("", ""),
    archive: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where --detach writes it: a name in .csv.gz.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the monthly partitions and when each is dropped; or drop, or archive. With --drop-expired it exits with 1 if
    something is left."""
    from ingest.commands.partitions import archive_month, drop_due, show_partitions
    from ingest.commands.session import quietly

    table, month = detach
    if bool(table) is not (archive is not None) or (drop_expired and table):
        raise typer.BadParameter("expected --detach TABLE MONTH with --archive FILE, or --drop-expired")
    if dry_run and not (drop_expired or table):
        raise typer.BadParameter("--dry-run goes with --drop-expired or --detach")
    if table and archive:
        asyncio.run(archive_month(quietly(config), table, month, archive, dry_run=dry_run))
    elif drop_expired:
        raise typer.Exit(asyncio.run(drop_due(quietly(config), dry_run=dry_run)))
    else:
        asyncio.run(show_partitions(quietly(config), as_json=as_json))


def erase(
    click_id: Annotated[str, typer.Argument(metavar="CLICK_ID", help="Whose personal data.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")] = False,
    made_by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who is on record for it; none: who is logged in.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Erase what a click and its postbacks brought beside ids and money: parameters and senders' addresses. Idempotent.
    Exits with 1 if something was left for now."""
    from ingest.commands.erase import erase_click
    from ingest.commands.session import quietly

    raise typer.Exit(asyncio.run(erase_click(quietly(config), click_id, made_by, dry_run=dry_run)))
