"""A page per click: the click, all that happened to it, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from aiohttp import web

from ingest.console import words
from ingest.console.formats import instant, money
from ingest.console.visits import Route, Visit
from storage.activity import MAX_OF_CLICK, ClickStory, fetch_click_story
from storage.outbox import Attempt, Message
from storage.postgres import Pool, Row


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to the click. `code` gives its colour; `why` is for people."""

    at: datetime
    code: str
    what: str
    why: str
    conversion_id: str | None = None


class Clicks:
    """The handler."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def routes(self) -> Sequence[Route]:
        """What there is."""
        return (Route("GET", "/click", self._page),)

    async def _page(self, visit: Visit) -> web.Response:
        click_id = visit.query("id")
        if click_id is None:
            return await visit.page("click.html", click_id="", story=None)
        story = await fetch_click_story(self._pool, click_id)
        is_known = story.click is not None or bool(story.conversions or story.log or story.parked)
        return await visit.page(
            "click.html",
            200 if is_known else 404,
            click_id=click_id,
            story=story,
            happenings=sorted(happenings(story), key=lambda one: one.at),
            there=await asyncio.to_thread(_there, story.click),
            limit=MAX_OF_CLICK,
        )


def happenings(story: ClickStory) -> Iterator[Happening]:
    """All of it, in no order."""
    if story.click is not None:
        where = f" in {story.click['country']}" if story.click["country"] else ""
        yield Happening(story.click["clicked_at"], "click", "Click", f"Somebody clicked{where}.")
        yield Happening(story.click["registered_at"], "click", "Click registered", "The tracker told us of it.")
    for row in story.conversions:
        yield Happening(
            row["received_at"],
            "accepted",
            f"Counted: {row['goal'] or row['goal_value']}",
            f"{_worth(row)} {words.explain('', row['reason'])}".strip(),
            str(row["conversion_id"]),
        )
    for row in story.log:
        goal = f" {row['goal_value']}" if row["goal_value"] else ""
        yield Happening(
            row["received_at"],
            row["outcome"],
            f"{row['outcome'].capitalize()}:{goal}" if goal else row["outcome"].capitalize(),
            words.explain(row["outcome"], row["reason"]),
            None if row["conversion_id"] is None else str(row["conversion_id"]),
        )
    for row in story.parked:
        yield Happening(
            row["received_at"],
            "parked",
            f"Parked: {row['goal_value'] or 'no goal named'}",
            f"{words.OUTCOMES['parked']} It waits until {instant(row['until'])}.",
        )
    for row in story.replays:
        yield Happening(
            row["replayed_at"],
            row["outcome"],
            f"Decided again: {row['outcome']}",
            f"By {row['made_by']}. {words.explain(row['outcome'], row['reason'])}",
            None if row["conversion_id"] is None else str(row["conversion_id"]),
        )
    for row in story.status_changes:
        who = f" ({row['made_by']})" if row["made_by"] else ""
        said = f": {row['reason']}" if row["reason"] else "."
        yield Happening(
            row["received_at"],
            row["status"],
            f"Status: {row['status']}",
            f"{words.SOURCES.get(row['source'], row['source']).capitalize()}{who}{said}",
            str(row["conversion_id"]),
        )
    for row in story.adjustments:
        said = f": {row['reason']}" if row["reason"] else "."
        yield Happening(
            row["recorded_at"],
            "adjustment",
            f"{row['kind'].capitalize()} {row['reference']}",
            f"Revenue {money(row['revenue'])}, payout {money(row['payout'])}, by {row['made_by']}{said}",
            str(row["conversion_id"]),
        )

    for message in story.messages:
        yield from _telling(message)


def _telling(message: Message) -> Iterator[Happening]:
    """The attempts to tell a publisher, and how it ended if not by one of them."""
    who = f"publisher {message.publisher_id}"
    for attempt in message.log:
        what = f"Told {who}" if attempt.error is None else f"Could not tell {who}"
        code = "accepted" if attempt.error is None else "rejected"
        yield Happening(attempt.at, code, what, f"{message.host}: {_answered(attempt)}.", message.conversion_id)
    if message.done_at is not None and message.state != "sent":
        what = f"Message to {who}: {message.state.replace('_', ' ')}"
        yield Happening(message.done_at, "parked", what, words.TOLD[message.state], message.conversion_id)


def _answered(attempt: Attempt) -> str:
    """503 after 12 ms: it did not take it."""
    came = f"{attempt.status or 'no status'} after {attempt.took_ms:,} ms"
    return came if attempt.error is None else f"{came}: {words.FAULTS.get(attempt.error, attempt.error)}"


def _worth(row: Row) -> str:
    """What a conversion was counted with."""
    sale = "" if row["sale_amount"] is None else f"sale {money(row['sale_amount'])}, "
    text = (
        f"Version {row['goal_version']} of the goal: {sale}revenue {money(row['revenue'])}, payout"
        f" {money(row['payout'])} {row['currency']}; {row['first_status']}."
    )
    if row["original_amount"] is not None:
        text += (
            f" The sale was {money(row['original_amount'])} {row['original_currency']}, converted at"
            f" {row['exchange_rate'].normalize():f}."
        )
    if row["release_at"] is not None:
        text += f" It is approved by itself on {instant(row['release_at'])} unless something else is decided."
    return text


def _there(click: Row | None) -> str | None:
    """The click's time in the campaign's zone, if that is not UTC. Time zones are files: call it in a thread."""
    if click is None or click["timezone"] in {None, "UTC"}:
        return None
    try:
        zone = ZoneInfo(click["timezone"])
    except (LookupError, ValueError, OSError):
        return None
    return f"{click['clicked_at'].astimezone(zone):%Y-%m-%d %H:%M:%S} {click['timezone']}"
