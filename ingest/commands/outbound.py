"""`postback outbound`: publishers' postbacks: their templates, their secrets, what was sent."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import orjson

from ingest.app import delivery_of, policy_of
from ingest.commands.output import console, facts, table, visible
from ingest.commands.session import CommandError, login_name, open_database
from ingest.config import Config
from ingest.money import format_micros
from ingest.outbound.delivery import macro_values
from ingest.outbound.networks import RefusedError
from ingest.outbound.signing import OUTBOUND, new_secret
from ingest.outbound.templates import Template, TemplateError, parse_template, render
from ingest.units import format_duration
from ingest.vault import ensure_vault
from storage.outbox import Attempt, DueMessage, Message, State, list_messages, retry_given_up
from storage.postgres import Connection, IntegrityError
from storage.publisher_postbacks import (
    PublisherPostback,
    archive_postback,
    list_postbacks,
    put_postback,
    put_secret,
    sealed_secret,
)


async def show_postbacks(config: Config, *, as_json: bool) -> None:
    """Print the templates in force."""
    async with open_database(config) as connection:
        rows = await list_postbacks(connection)
    if as_json:
        sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    if not rows:
        console().print("none: `postback outbound set PUBLISHER URL` makes one")
        return
    lines = [
        (
            str(row.publisher_id),
            row.publisher_name,
            _goal(row.goal_id),
            row.method,
            row.url,
            "yes" if row.is_signed else "no",
            f"{row.waiting:,}",
            f"{row.given_up:,}",
        )
        for row in rows
    ]
    columns = ("publisher", "name", "goal", "method", "url", "signed", "waiting", "given up")
    console().print(table(columns, lines, right=("publisher", "waiting", "given up")))


async def set_postback(config: Config, publisher_id: int, url: str, goal_id: int | None, method: str) -> None:
    """Create or replace. Raises CommandError."""
    template = _checked(config, url)
    async with _of_publisher(config, publisher_id, goal_id) as connection:
        await put_postback(connection, publisher_id, goal_id, template.text, template.host, method, login_name())
    console().print(
        f"publisher {publisher_id} is told of {_goals(goal_id)}: what is approved from now on;"
        " `postback outbound test` tries it"
    )


async def remove_postback(config: Config, publisher_id: int, goal_id: int | None) -> None:
    """End one. Raises CommandError."""
    async with open_database(config) as connection:
        withdrawn = await archive_postback(connection, publisher_id, goal_id, login_name())
    if withdrawn is None:
        raise _no_postback(publisher_id, goal_id)
    console().print(f"publisher {publisher_id} is not told of {_goals(goal_id)} any more; {withdrawn:,} were withdrawn")


async def make_secret(config: Config, publisher_id: int) -> None:
    """A new secret, printed this once. Raises CommandError."""
    secret = new_secret()
    sealed = ensure_vault(config.secret_key_path).seal(secret, OUTBOUND)
    async with _of_publisher(config, publisher_id, None) as connection:
        await put_secret(connection, publisher_id, sealed, login_name())
    console(stderr=True).print(
        f"postbacks to publisher {publisher_id} are signed from now on, on machines that have the same"
        " admin.secret_key_file; the secret is not shown again:"
    )
    sys.stdout.write(f"{secret}\n")


async def remove_secret(config: Config, publisher_id: int) -> None:
    """Nothing is signed any more."""
    async with open_database(config) as connection:
        await put_secret(connection, publisher_id, None, login_name())
    console().print(f"postbacks to publisher {publisher_id} are not signed")


async def try_postback(config: Config, publisher_id: int, goal_id: int | None, *, dry_run: bool) -> int:
    """Send one with sample values, or only show it. The exit status: 1 if it failed. Raises CommandError."""
    async with open_database(config) as connection:
        rows = {(row.publisher_id, row.goal_id): row for row in await list_postbacks(connection)}
        row = rows.get((publisher_id, goal_id)) or rows.get((publisher_id, None))
        secret = await sealed_secret(connection, publisher_id)
    if row is None:
        raise _no_postback(publisher_id, goal_id)
    message = replace(_sample(row, goal_id), sealed_secret=secret)
    target = render(_checked(config, row.url), macro_values(message))
    console().print(
        f"{row.method} {target.origin}{target.path}{'?' if target.query else ''}{target.query}", soft_wrap=True
    )
    if dry_run:
        return 0
    async with delivery_of(config) as delivery:
        attempt = await delivery.attempt(message)
    console().print(_said(attempt))
    return 0 if attempt.error is None else 1


async def show_messages(
    config: Config, *, state: State | None, publisher_id: int | None, conversion: str | None, limit: int, as_json: bool
) -> None:
    """Print messages, the latest first; of one conversion each attempt. Raises CommandError."""
    try:
        conversion_id = str(UUID(conversion)) if conversion else None
    except ValueError:
        raise CommandError(f"--conversion: {conversion!r} is not a conversion's id") from None
    async with open_database(config) as connection:
        messages = await list_messages(
            connection, state=state, publisher_id=publisher_id, conversion_id=conversion_id, limit=limit
        )
    if as_json:
        sys.stdout.write(orjson.dumps(messages, option=orjson.OPT_INDENT_2).decode() + "\n")
    elif not messages:
        console().print("none")
    elif conversion_id:
        _show_attempts(messages[0])
    else:
        lines = [
            (
                message.conversion_id,
                str(message.publisher_id),
                message.host,
                message.state,
                str(message.attempts),
                _said(message.log[-1]) if message.log else "",
                _when(message.done_at or message.due_at),
            )
            for message in messages
        ]
        columns = ("conversion", "publisher", "host", "state", "attempts", "the last", "done or due at")
        console().print(table(columns, lines, right=("publisher", "attempts")))


async def retry_messages(config: Config, publisher_id: int) -> None:
    """What was given up is tried anew."""
    async with open_database(config) as connection:
        count = await retry_given_up(connection, publisher_id, config.outbound.give_up)
    console().print(f"{count:,} wait again, for {format_duration(config.outbound.give_up)} at most")


@asynccontextmanager
async def _of_publisher(config: Config, publisher_id: int, goal_id: int | None) -> AsyncIterator[Connection]:
    async with open_database(config, may_migrate=True) as connection:
        try:
            yield connection
        except IntegrityError:
            goal = "" if goal_id is None else f", or no goal {goal_id}"
            raise CommandError(f"there is no publisher {publisher_id}{goal} in the catalog") from None


def _checked(config: Config, url: str) -> Template:
    try:
        return parse_template(url, policy_of(config))
    except (TemplateError, RefusedError) as error:
        raise CommandError(f"{visible(url)}: {error}") from None


def _no_postback(publisher_id: int, goal_id: int | None) -> CommandError:
    return CommandError(
        f"publisher {publisher_id} has no postback for {_goals(goal_id)}; `postback outbound list` shows what there is"
    )


def _sample(row: PublisherPostback, goal_id: int | None) -> DueMessage:
    """Values that nobody takes for real ones."""
    now = datetime.now(UTC)
    return DueMessage(
        conversion_id=str(uuid4()),
        clicked_at=now,
        attempts=0,
        left_ms=0,
        publisher_id=row.publisher_id,
        url=row.url,
        host="",
        method=row.method,
        sealed_secret=None,
        click_id="test-click",
        goal_value="test",
        goal_id=goal_id or row.goal_id or 0,
        txn_id="test-txn",
        country="US",
        currency="USD",
        payout_micros=0,
        event_at=now,
        click_params={f"sub{number}": f"test-sub{number}" for number in range(1, 21)},
    )


def _show_attempts(message: Message) -> None:
    console().print(
        facts(
            (
                ("conversion", message.conversion_id),
                ("publisher", str(message.publisher_id)),
                ("host", message.host),
                ("payout", format_micros(message.payout_micros)),
                ("state", message.state),
                ("made at", _when(message.created_at)),
                ("due at", _when(message.due_at) if message.done_at is None else ""),
                ("tried until", _when(message.until)),
                ("done at", _when(message.done_at)),
                ("attempts", str(message.attempts)),
            )
        )
    )
    lines = [(_when(attempt.at), _said(attempt), f"{attempt.took_ms:,}") for attempt in message.log]
    console().print(table(("attempt at", "what came", "ms"), lines, right=("ms",)))


def _said(attempt: Attempt) -> str:
    words = ("delivered" if attempt.error is None else attempt.error, str(attempt.status or ""))
    return " ".join(word for word in words if word)


def _goal(goal_id: int | None) -> str:
    return "all" if goal_id is None else str(goal_id)


def _goals(goal_id: int | None) -> str:
    return "all goals" if goal_id is None else f"goal {goal_id}"


def _when(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
