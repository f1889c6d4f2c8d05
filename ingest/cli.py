"""The command line of `postback`: what can be typed. What a command does is in `ingest.commands`, imported when it is
asked for: `--help` is quick."""

# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from ingest import __version__
from ingest.cli_analysts import add_analyst_commands
from ingest.cli_examples import add_examples
from ingest.cli_lifecycle import add_lifecycle_commands
from ingest.cli_options import TIME_FORMATS, AsJson, ConfigFile, as_utc
from ingest.cli_outbound import outbound_app

app = typer.Typer(
    name="postback",
    help="Counts postbacks: exactly once, correct to the cent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
clicks_app = typer.Typer(help="Register clicks from files.", no_args_is_help=True, rich_markup_mode=None)
catalog_app = typer.Typer(help="Campaigns, goals and rates as files.", no_args_is_help=True, rich_markup_mode=None)
dead_letters_app = typer.Typer(
    help="What PostgreSQL refused for its data.", no_args_is_help=True, rich_markup_mode=None
)
keys_app = typer.Typer(help="Who may use the API, beside the admin key.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(clicks_app, name="clicks")
app.add_typer(catalog_app, name="catalog")
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(keys_app, name="keys")
app.add_typer(outbound_app, name="outbound")
add_analyst_commands(app)
add_lifecycle_commands(app)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"postback {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigFile = None,
    role: Annotated[
        Literal["all", "receiver", "writer"], typer.Option(help="What this machine runs; all: both.")
    ] = "all",
    sample: Annotated[bool, typer.Option("--sample", help="Load the sample campaigns into an empty catalog.")] = False,
) -> None:
    """Run the receivers and writers, with embedded engines unless configured otherwise, until SIGTERM or Ctrl-C."""
    if sample and role == "writer":
        raise typer.BadParameter("a writer takes no postbacks: load the sample with --role all or receiver")
    from ingest.commands.serve import run_server
    from ingest.commands.session import configured
    from ingest.serve import ServeRole

    run_server(configured(config), config, ServeRole(role), sample=sample)


@app.command()
def migrate(config: ConfigFile = None) -> None:
    """Bring the schema of the database up to date."""
    from ingest.commands.migrate import migrate_database
    from ingest.commands.session import quietly

    asyncio.run(migrate_database(quietly(config)))


@app.command()
def status(
    watching: Annotated[bool, typer.Option("--watch", help="Rates, latencies and the like, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, max=3600, metavar="S", help="Seconds between two views.")] = 2.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what runs and waits, and what became of the last hour's postbacks. Exits with 1 unless all is ready."""
    from ingest.commands.session import quietly
    from ingest.commands.status import show_status

    if watching:
        if as_json:
            raise typer.BadParameter("expected --watch or --json: machines have /metrics")
        from ingest.commands.watch import watch

        raise typer.Exit(watch(quietly(config), every))
    raise typer.Exit(asyncio.run(show_status(quietly(config), as_json=as_json)))


@app.command()
def info(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show where things are: the server, the engines, the data, the admin key's file."""
    from ingest.commands.info import show_info
    from ingest.commands.session import quietly

    show_info(quietly(config), as_json=as_json)


@app.command()
def demo(config: ConfigFile = None) -> None:
    """Send postbacks to the running server that show every verdict, and show the rows they come to."""
    from ingest.commands.demo import run_demo
    from ingest.commands.session import quietly

    raise typer.Exit(asyncio.run(run_demo(quietly(config))))


@clicks_app.command("import")
def clicks_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, or NDJSON: .csv, .ndjson, .jsonl")],
    config: ConfigFile = None,
) -> None:
    """Register the clicks of FILE. Idempotent: the first registration of a click stays."""
    from ingest.commands.clicks import import_click_file
    from ingest.commands.session import quietly

    raise typer.Exit(asyncio.run(import_click_file(quietly(config), file)))


@catalog_app.command("import")
def catalog_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A catalog in TOML.")], config: ConfigFile = None
) -> None:
    """Create or update what is in FILE, by id: all of it, or nothing if something is wrong with it."""
    from ingest.commands.catalog import import_catalog_file
    from ingest.commands.session import quietly

    asyncio.run(import_catalog_file(quietly(config), file))


@catalog_app.command("export")
def catalog_export(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="None: standard output.")] = None,
    config: ConfigFile = None,
) -> None:
    """Write the whole catalog to FILE. Security tokens are written as digests."""
    from ingest.commands.catalog import export_catalog_file
    from ingest.commands.session import quietly

    asyncio.run(export_catalog_file(quietly(config), file))


@dead_letters_app.command("list")
def dead_letters_list(
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show the newest N.")] = 100,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show when each was refused and why, and whose click and conversion it is."""
    from ingest.commands.dead_letters import list_dead_letters
    from ingest.commands.session import quietly

    asyncio.run(list_dead_letters(quietly(config), limit, as_json=as_json))


@dead_letters_app.command("retry")
def dead_letters_retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID...", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    config: ConfigFile = None,
) -> None:
    """Store them after all, once what they were refused for is mended. Nothing is counted twice by it. Exits with 1
    unless all are stored."""
    if bool(ids) is everything:
        raise typer.BadParameter("expected either ids or --all")
    from ingest.commands.dead_letters import retry_dead_letters
    from ingest.commands.session import quietly

    raise typer.Exit(asyncio.run(retry_dead_letters(quietly(config), None if everything else ids)))


@dead_letters_app.command("discard")
def dead_letters_discard(ids: Annotated[list[int], typer.Argument(metavar="ID...")], config: ConfigFile = None) -> None:
    """Delete them for good, and print what they held."""
    from ingest.commands.dead_letters import discard
    from ingest.commands.session import quietly

    asyncio.run(discard(quietly(config), ids))


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(metavar="NAME", help="Whose it is; stands in the catalog's history.")],
    role: Annotated[
        Literal["read", "admin", "clicks"],
        typer.Option(help="read: looks at everything; admin: changes it too; clicks: registers clicks, no more."),
    ] = "read",
    config: ConfigFile = None,
) -> None:
    """Make a key and print it. It is shown this once."""
    from ingest.api_keys import Role
    from ingest.commands.keys import create_key
    from ingest.commands.session import quietly

    asyncio.run(create_key(quietly(config), name, Role(role)))


@keys_app.command("list")
def keys_list(config: ConfigFile = None) -> None:
    """Show all keys, revoked ones too."""
    from ingest.commands.keys import list_keys
    from ingest.commands.session import quietly

    asyncio.run(list_keys(quietly(config)))


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[int, typer.Argument(metavar="ID", help="As `postback keys list` shows it.")],
    config: ConfigFile = None,
) -> None:
    """Make a key worthless, within five seconds everywhere."""
    from ingest.commands.keys import revoke_key
    from ingest.commands.session import quietly

    asyncio.run(revoke_key(quietly(config), key_id))


@app.command()
def adjust(
    what: Annotated[
        list[str],
        typer.Argument(metavar="FILE|NAME=VALUE...", help="A CSV file with a header, or one line's names and values."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    made_by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who is on record for it; none: who is logged in.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Refund, charge back or correct conversions, or give them a status. Idempotent. Exits with 1 if any is refused."""
    from ingest.commands.adjust import adjust_by_file, adjust_one
    from ingest.commands.session import quietly

    if len(what) == 1 and "=" not in what[0]:
        raise typer.Exit(asyncio.run(adjust_by_file(quietly(config), Path(what[0]), made_by, dry_run=dry_run)))
    raise typer.Exit(asyncio.run(adjust_one(quietly(config), what, made_by, dry_run=dry_run)))


@app.command()
def url(
    campaign: Annotated[int, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")],
    goal: Annotated[
        str | None,
        typer.Argument(metavar="GOAL", help="The goal's value or id; none: one URL for all goals.", show_default=False),
    ] = None,
    sender: Annotated[
        str, typer.Option(metavar="SENDER", help="Whose macros; `postback senders` lists them.")
    ] = "generic",
    macro: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MACRO", help="A macro of the advertiser's own, as txn_id={order_id}; repeatable."),
    ] = None,
    event_time: Annotated[bool, typer.Option("--event-time", help="With the time of the event.")] = False,
    base: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the advertiser reaches us; none: this server's own address."),
    ] = None,
    curl: Annotated[bool, typer.Option("--curl", help="A line for a shell, with sample values.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the event postback to hand to the advertiser, with macros for its system to fill in."""
    from ingest.commands.session import quietly
    from ingest.commands.url import show_url

    asyncio.run(
        show_url(
            quietly(config),
            campaign,
            goal,
            base,
            sender_name=sender,
            macros=macro or (),
            with_time=event_time,
            as_curl=curl,
            as_json=as_json,
        )
    )


@app.command()
def senders(as_json: AsJson = False) -> None:
    """Show the macros of each sender that `postback url` knows."""
    from ingest.commands.url import show_senders

    show_senders(as_json=as_json)


@app.command()
def simulate(
    postback: Annotated[
        str, typer.Argument(metavar="POSTBACK", help="A query such as 'click_id=…&goal=…', a URL, or a JSON object.")
    ],
    remote_ip: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="Where it comes from; none: from nowhere known.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide one postback step by step, and write nothing."""
    from ingest.commands.session import quietly
    from ingest.commands.simulate import show_simulation

    asyncio.run(show_simulation(quietly(config), postback, remote_ip=remote_ip, as_json=as_json))


@app.command()
def replay(
    reason: Annotated[list[str], typer.Option(metavar="REASON", help="Why they were rejected; repeatable.")],
    since: Annotated[
        datetime,
        typer.Option(metavar="TIME", formats=TIME_FORMATS, help="Received since: 2026-11-01T12:00:00, or a day; UTC."),
    ],
    until: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", formats=TIME_FORMATS, help="And before; none: until now.", show_default=False),
    ] = None,
    campaign: Annotated[int | None, typer.Option(metavar="ID", help="None: of all campaigns.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would come to, and write nothing.")] = False,
    made_by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who is on record for it; none: who is logged in.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide logged rejections again, on the catalog of now, by the time they were received. Nothing is counted twice
    by it. Exits with 1 if Redis did not take some."""
    from ingest.commands.replay import replay as replay_rejections
    from ingest.commands.session import quietly
    from storage.export import TimeRange
    from storage.replays import Wanted

    when = TimeRange(as_utc(since), datetime.now(UTC) if until is None else as_utc(until))
    wanted = Wanted(tuple(reason), when, campaign)
    raise typer.Exit(asyncio.run(replay_rejections(quietly(config), wanted, made_by, is_dry=dry_run, as_json=as_json)))


@app.command()
def sql(
    statement: Annotated[
        str | None,
        typer.Argument(metavar="[STATEMENT]", help="None: a shell, or what is piped in.", show_default=False),
    ] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How rows are shown.")] = "table",
    config: ConfigFile = None,
) -> None:
    """Run SQL on the configured Postgres."""
    from ingest.commands.session import quietly
    from ingest.commands.sql import Format, run_sql

    raise typer.Exit(run_sql(quietly(config), statement, Format(form)))


add_examples(app)


def main() -> None:
    """The console script: errors that a person can do something about are told in a line, without a traceback."""
    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        from ingest.commands.failure import explain
        from ingest.commands.output import console

        message = explain(error)
        if message is None:
            raise
        err = console(stderr=True)
        err.print("error: ", style="bold red", end="")
        err.print(message, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
