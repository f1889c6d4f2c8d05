"""`postback outbound`: what can be typed. What it does is in `ingest.commands`, imported when it is asked for."""

# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import typer

from ingest.cli_options import AsJson, ConfigFile

Publisher = Annotated[int, typer.Argument(metavar="PUBLISHER", help="The publisher's id.")]
Goal = Annotated[int | None, typer.Option(metavar="ID", help="For this goal only; none: for all without their own.")]

outbound_app = typer.Typer(
    help="What publishers are told of approved conversions.", no_args_is_help=True, rich_markup_mode=None
)


@outbound_app.command("list")
def outbound_list(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the publishers' postbacks, and how many messages of each wait and were given up."""
    from ingest.commands.outbound import show_postbacks
    from ingest.commands.session import quietly

    asyncio.run(show_postbacks(quietly(config), as_json=as_json))


@outbound_app.command("set")
def outbound_set(
    publisher: Publisher,
    url: Annotated[str, typer.Argument(metavar="URL", help="With macros such as {click_id}; docs/outbound.md.")],
    goal: Goal = None,
    method: Annotated[Literal["GET", "POST"], typer.Option(help="POST: the query is sent as a form.")] = "GET",
    config: ConfigFile = None,
) -> None:
    """Call URL for the publisher's approved conversions, from now on. Replaces what was set before."""
    from ingest.commands.outbound import set_postback
    from ingest.commands.session import quietly

    asyncio.run(set_postback(quietly(config), publisher, url, goal, method))


@outbound_app.command("remove")
def outbound_remove(publisher: Publisher, goal: Goal = None, config: ConfigFile = None) -> None:
    """Call it no more. Messages that wait are withdrawn."""
    from ingest.commands.outbound import remove_postback
    from ingest.commands.session import quietly

    asyncio.run(remove_postback(quietly(config), publisher, goal))


@outbound_app.command("secret")
def outbound_secret(
    publisher: Publisher,
    remove: Annotated[bool, typer.Option("--remove", help="Sign no more.")] = False,
    config: ConfigFile = None,
) -> None:
    """Make a secret that the publisher's postbacks are signed with, and print it. It is shown this once."""
    from ingest.commands.outbound import make_secret, remove_secret
    from ingest.commands.session import quietly

    asyncio.run((remove_secret if remove else make_secret)(quietly(config), publisher))


@outbound_app.command("test")
def outbound_test(
    publisher: Publisher,
    goal: Goal = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the request, and send nothing.")] = False,
    config: ConfigFile = None,
) -> None:
    """Send one postback with sample values and payout 0, and show what came of it. Exits with 1 if it failed."""
    from ingest.commands.outbound import try_postback
    from ingest.commands.session import quietly

    raise typer.Exit(asyncio.run(try_postback(quietly(config), publisher, goal, dry_run=dry_run)))


@outbound_app.command("messages")
def outbound_messages(
    state: Annotated[
        Literal["waiting", "sent", "given_up", "withdrawn"] | None, typer.Option(help="Only those.")
    ] = None,
    publisher: Annotated[int | None, typer.Option(metavar="ID", help="Only this publisher's.")] = None,
    conversion: Annotated[str | None, typer.Option(metavar="ID", help="This one, with its attempts.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show the latest N.")] = 100,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show messages to publishers, the latest first, and how their last attempts went."""
    from ingest.commands.outbound import show_messages
    from ingest.commands.session import quietly

    asyncio.run(
        show_messages(
            quietly(config), state=state, publisher_id=publisher, conversion=conversion, limit=limit, as_json=as_json
        )
    )


@outbound_app.command("retry")
def outbound_retry(publisher: Publisher, config: ConfigFile = None) -> None:
    """Try again what was given up of a publisher, once its server works."""
    from ingest.commands.outbound import retry_messages
    from ingest.commands.session import quietly

    asyncio.run(retry_messages(quietly(config), publisher))
