"""`postback url`: the event postback to hand to an advertiser. `postback senders`: whose macros are known."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence

import msgspec

from ingest.catalog import Campaign, Goal, Snapshot
from ingest.catalog_rows import load_snapshot
from ingest.commands.info import places
from ingest.commands.output import console, facts, table
from ingest.commands.session import CommandError, open_database
from ingest.config import Config
from ingest.event_url import EventUrl, EventUrlError, event_url, find_goal
from ingest.senders import FIELDS, SENDERS, UnknownSenderError, find_sender, suggestion
from ingest.vault import ensure_vault


async def show_url(
    config: Config,
    campaign_id: int,
    goal_name: str | None,
    base: str | None,
    *,
    sender_name: str,
    macros: Sequence[str],
    with_time: bool,
    as_curl: bool,
    as_json: bool,
) -> None:
    """Print the URL alone to standard output, what a person has to know about it to standard error. Raises CommandError
    where something of it does not exist."""
    try:
        sender = find_sender(sender_name)
    except UnknownSenderError as error:
        raise CommandError(str(error)) from None
    own_macros = dict(map(_own_macro, macros))
    async with open_database(config) as connection:
        snapshot = await load_snapshot(connection, await asyncio.to_thread(ensure_vault, config.secret_key_path))
        base = base or places(config)["url"]
    if base is None:
        raise CommandError("server.port is 0 and no server runs: give the address with --base")
    campaign = _campaign(snapshot, campaign_id)
    goal = None if goal_name is None else _goal(campaign, goal_name)
    path = config.server.paths[0]
    try:
        made = event_url(base, path, campaign, goal, sender, macros=own_macros, with_time=with_time)
    except EventUrlError as error:
        raise CommandError(str(error)) from None
    if as_json:
        console().print(json.dumps(msgspec.to_builtins(made), ensure_ascii=False), soft_wrap=True)
        return
    sys.stdout.write((made.curl if as_curl else made.url) + "\n")
    sys.stdout.flush()
    _explain(made)


def show_senders(*, as_json: bool) -> None:
    """Print what is known of each sender; a macro that its own documents were not seen to give has a question mark."""
    if as_json:
        sys.stdout.write(json.dumps([_described(name) for name in SENDERS], ensure_ascii=False) + "\n")
        return
    rows = [
        (
            sender.name,
            sender.title,
            sender.link_parameter,
            *(sender.macros.get(field, "") + "?" * (field in sender.unverified) for field in FIELDS),
        )
        for sender in SENDERS.values()
    ]
    console().print(table(("sender", "system", "link parameter", *FIELDS), rows))


def _described(name: str) -> dict[str, object]:
    sender = SENDERS[name]
    described: dict[str, object] = msgspec.to_builtins(sender)
    return described | {"unverified": sorted(sender.unverified)}


def _explain(made: EventUrl) -> None:
    rows = [
        ("sender", made.title),
        ("enter it at", made.place),
        ("method", " or ".join(made.methods)),
        ("tracking link", f"{made.link_parameter} has to carry the click id"),
        *(("note", note) for note in made.notes),
    ]
    console(stderr=True).print(facts(rows))


def _own_macro(text: str) -> tuple[str, str]:
    field, _, macro = text.partition("=")
    if not macro:
        raise CommandError(f"--macro: expected NAME=MACRO such as 'txn_id={{order_id}}', not {text!r}")
    return field, macro


def _campaign(snapshot: Snapshot, campaign_id: int) -> Campaign:
    campaign = snapshot.campaigns.get(campaign_id)
    if campaign is not None:
        return campaign
    ids = [str(known) for known in sorted(snapshot.campaigns)]
    known = ", ".join(ids[:20]) or "none yet: `postback catalog import FILE`"
    raise CommandError(f"there is no campaign {campaign_id}; {suggestion(str(campaign_id), ids)}there are: {known}")


def _goal(campaign: Campaign, name: str) -> Goal:
    goal = find_goal(campaign, name)
    if goal is not None:
        return goal
    values = sorted(goal.value for goal in campaign.goals.values())
    known = ", ".join(values) or "none"
    raise CommandError(f"campaign {campaign.id} has no goal {name!r}; {suggestion(name, values)}its goals: {known}")
