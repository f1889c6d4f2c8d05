"""The event postback that an advertiser is handed: the URL to call, with macros for its own system to fill in. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from dedup.policy import TrackMultiple
from ingest.catalog import Advertiser, Campaign, Goal, Status
from ingest.senders import FIELDS, GENERIC, Sender, suggestion
from ingest.wire import STANDARD_ALIASES, names_for

PLACEHOLDER: Final = "YOUR_TOKEN"
"""Stands where a person has to enter the security token: it is kept as a digest and cannot be shown."""

_SAMPLES: Final = {
    "txn_id": "order-1001",
    "event_id": "event-1001",
    "sale_amount": "49.99",
    "event_time": "2026-01-15T12:00:00Z",
}
_WITHOUT: Final = {
    "txn_id": "only the first event of each click counts, unless a txn_id is entered by hand",
    "event_id": "a repeat that the sender makes on its own may count again",
    "sale_amount": "the price needs it, and without it each postback is refused with missing_sale_amount",
    "currency": "amounts are taken to be in the campaign's currency, {currency}",
    "event_time": "the time of receipt is all that is known",
}
_NOWHERE: Final[Mapping[str, str]] = MappingProxyType({})


class EventUrlError(ValueError):
    """No URL can be made of what was asked; the message says why and what to do."""


class Filled(StrEnum):
    """Who puts the value of a parameter in: it stands there already, the sender does, or a person has to."""

    FIXED = "fixed"
    SENDER = "sender"
    PERSON = "person"


class Parameter(msgspec.Struct, frozen=True):
    """One parameter: its standard name, the name and the value as they stand in the URL. `verified`: a macro that the
    sender's own document gives, or no macro."""

    field: str
    name: str
    value: str
    filled: Filled
    verified: bool = True


class EventUrl(msgspec.Struct, frozen=True):
    """An event postback. `url` goes into the sender's panel as it is, at `place`; `link_parameter` is what has to carry
    the click id in the sender's tracking link. `curl`: a line for a shell with sample values. `notes`: what a person
    has to know, each a sentence."""

    sender: str
    title: str
    methods: tuple[str, ...]
    url: str
    parameters: tuple[Parameter, ...]
    link_parameter: str
    place: str
    notes: tuple[str, ...]
    curl: str


def event_url(
    base: str,
    path: str,
    campaign: Campaign,
    goal: Goal | None,
    sender: Sender = GENERIC,
    *,
    macros: Mapping[str, str] = _NOWHERE,
    with_time: bool = False,
    sample_click_id: str = "click-1001",
) -> EventUrl:
    """The event postback for a goal: only what bears on it, each under the advertiser's own name where it has one.

    `base` is where the receiver is reached ("https://t.example.com"), `path` one of its postback paths. Without a goal
    the URL is for all goals of the campaign, and the sender fills in which. `macros` are the advertiser's own, by
    standard name, and win over the sender's. Raises EventUrlError.
    """
    _check(base, macros)
    fields = _fields(campaign, goal, with_time)
    parameters = tuple(_parameters(campaign.advertiser, goal, sender, macros, fields))
    address = f"{base.rstrip('/')}{path}?"
    samples = _SAMPLES | {
        "click_id": sample_click_id,
        "currency": campaign.currency,
        "goal": next(iter(campaign.goals.values())).value if campaign.goals else "",
    }
    sample = address + "&".join(f"{_encoded(one.name)}={_sample(one, samples)}" for one in parameters)
    method = sender.methods[0]
    return EventUrl(
        sender=sender.name,
        title=sender.title,
        methods=sender.methods,
        url=address + "&".join(f"{_encoded(one.name)}={one.value}" for one in parameters),
        parameters=parameters,
        link_parameter=sender.link_parameter,
        place=sender.place,
        notes=tuple(_notes(campaign, goal, sender, parameters, fields)),
        curl=shlex.join(["curl", *([] if method == "GET" else ["-X", method]), sample]),
    )


def find_goal(campaign: Campaign, id_or_value: str) -> Goal | None:
    """The campaign's goal by its value (without regard to case) or its id; a value wins over another goal's id."""
    by_value = campaign.goals.get(id_or_value.casefold())
    if by_value is not None:
        return by_value
    return next((goal for goal in campaign.goals.values() if str(goal.id) == id_or_value), None)


def _check(base: str, macros: Mapping[str, str]) -> None:
    address = urlsplit(base)
    if address.scheme not in {"http", "https"} or not address.netloc or address.query or address.fragment:
        raise EventUrlError(f"expected an address such as https://t.example.com, not {base!r}")
    for field, text in macros.items():
        if field not in FIELDS:
            raise EventUrlError(f"no macro is for {field!r}; {suggestion(field, FIELDS)}there are: {', '.join(FIELDS)}")
        if not text or not text.isprintable() or any(mark in text for mark in "&#"):
            raise EventUrlError(f"the macro for {field} cannot stand in a URL: it is empty, or holds & or #")


def _fields(campaign: Campaign, goal: Goal | None, with_time: bool) -> tuple[str, ...]:
    """What bears on the goal, or on any of them, beside click and goal; standard names."""
    all_goals = campaign.goals.values()
    goals = [goal] if goal else [one for one in all_goals if one.status is Status.ACTIVE] or list(all_goals)
    policies = {one.track_multiple for one in goals}
    needs_sale = any(rate.needs_sale for one in goals for rate in one.rates.values())
    wanted = {
        "txn_id": TrackMultiple.YES_WITH_TXN_ID in policies,
        "event_id": TrackMultiple.YES in policies,
        "sale_amount": needs_sale,
        "currency": needs_sale,
        "event_time": with_time,
    }
    return tuple(field for field, is_wanted in wanted.items() if is_wanted)


def _parameters(
    advertiser: Advertiser, goal: Goal | None, sender: Sender, own_macros: Mapping[str, str], fields: Sequence[str]
) -> Iterator[Parameter]:
    known = {**sender.macros, **own_macros}
    for field in ("click_id", "goal", *fields):
        name = _name(advertiser, field)
        if goal and field == "goal":
            yield Parameter(field, name, _encoded(goal.value), Filled.FIXED)
        elif field in known:
            verified = field in own_macros or field not in sender.unverified
            yield Parameter(field, name, known[field], Filled.SENDER, verified)
        elif field in {"click_id", "goal"}:
            raise EventUrlError(f"no macro of {sender.title} for {field} is known: choose a goal, or give the macro")
    if advertiser.token_digests:
        yield Parameter("security_token", _name(advertiser, "security_token"), PLACEHOLDER, Filled.PERSON)


def _name(advertiser: Advertiser, field: str) -> str:
    """What the advertiser calls the field: its own name if it has just one, else the first name that still means it."""
    names = names_for(advertiser.aliases)
    own = [name for name, standard in advertiser.aliases.items() if standard == field]
    usual = [name for name, standard in STANDARD_ALIASES.items() if standard == field and names[name] == field]
    return own[0] if len(own) == 1 else (usual or own or [field])[0]


def _encoded(text: str) -> str:
    return quote(text, safe="")


def _sample(parameter: Parameter, samples: Mapping[str, str]) -> str:
    return _encoded(samples[parameter.field]) if parameter.filled is Filled.SENDER else parameter.value


def _notes(
    campaign: Campaign, goal: Goal | None, sender: Sender, parameters: Sequence[Parameter], fields: Sequence[str]
) -> Iterator[str]:
    advertiser = campaign.advertiser
    if goal is None:
        yield "One URL for all goals: the value of each goal must be what the sender calls its event."
    if campaign.status is not Status.ACTIVE or (goal is not None and goal.status is not Status.ACTIVE):
        yield "The campaign or the goal is not active: postbacks are refused until it is."
    given = {one.field for one in parameters}
    for field in fields:
        if field not in given:
            without = _WITHOUT[field].format(currency=campaign.currency)
            yield f"No macro of {sender.title} for {field} is known: {without}."
    unsure = [f"{one.value} for {one.field}" for one in parameters if not one.verified]
    if unsure:
        yield f"Not verified in {sender.title}'s own documents, check in its panel: {', '.join(unsure)}."
    yield from sender.notes
    if "security_token" in given:
        yield f"Put the advertiser's security token in place of {PLACEHOLDER}: as a digest it cannot be shown here."
    if advertiser.signing_keys:
        yield "The advertiser's postbacks must be signed, which no macro can do: see docs/security.md."
    if advertiser.allowed_networks:
        yield "Postbacks are taken from the advertiser's addresses only: from elsewhere the answer is 403."
