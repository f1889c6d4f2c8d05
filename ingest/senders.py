"""Senders of postbacks and the macros that each fills in, as their documents give them: a table, without code for any
one of them. docs/senders.md is made from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

import msgspec

FIELDS: Final = ("click_id", "goal", "txn_id", "event_id", "sale_amount", "currency", "event_time")
"""The standard names that a macro can be for."""


class Sender(msgspec.Struct, frozen=True):
    """One system that sends postbacks.

    `macros` are by our standard names, as they stand in a URL; for a name that is not there no macro is known.
    `unverified` are the names whose macros the sender's own documents were not seen to give: they are in other
    platforms' guides to it, and to be checked in its panel. `link_parameter`: what carries our click id in the
    sender's tracking link. `methods`: the HTTP methods it can use, the usual one first. `place`: where a person enters
    the URL. `sources`: titles of the sender's documents. `notes`: what a person has to know, each a sentence.
    """

    name: str
    title: str
    link_parameter: str
    macros: Mapping[str, str]
    place: str
    unverified: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("GET",)


GENERIC: Final = Sender(
    name="generic",
    title="Any server",
    link_parameter="click_id",
    macros={field: f"{{{field}}}" for field in FIELDS},
    place="the advertiser's own system: its people put their values in place of the macros",
    methods=("GET", "POST"),
)

_ATTRIBUTION: Final = (
    Sender(
        name="appsflyer",
        title="AppsFlyer",
        link_parameter="clickid",
        macros={
            "click_id": "{clickid}",
            "goal": "{event_name}",
            "sale_amount": "{event_revenue}",
            "currency": "{event_revenue_currency}",
            "event_time": "{event_time}",
        },
        place="AppsFlyer's partner team enters it: send it the postbacks for installs and for in-app events",
        sources=("Base postback specification for ad networks", "Postback macros for analytics partners"),
        notes=(
            "Older integrations write (clickid), (event-name), (orig-monetary), (currency) and (timestamp) instead.",
            "AppsFlyer puts an order's id into the JSON of the event's value only.",
        ),
    ),
    Sender(
        name="adjust",
        title="Adjust",
        link_parameter="label",
        macros={
            "click_id": "{label}",
            "goal": "{event_name}",
            "sale_amount": "{revenue_float}",
            "currency": "{currency}",
            "event_time": "{created_at}",
        },
        place="Campaign Lab, or the tracking link itself: install_callback, event_callback_ with the event's token",
        sources=("Partner placeholders", "Event callbacks", "Ad revenue callbacks", "Callback structure"),
        notes=(
            "In a tracking link the whole callback URL is percent-encoded, its macros included.",
            "{revenue} is in cents: do not use it as an amount.",
            "What Adjust does not know it leaves out of the callback.",
        ),
    ),
    Sender(
        name="branch",
        title="Branch",
        link_parameter="~click_id",
        macros={
            "click_id": "${(last_attributed_touch_data.~click_id)!}",
            "goal": "${(name)!}",
            "txn_id": "${(event_data.transaction_id)!}",
            "event_id": "${(id)!}",
            "sale_amount": "${(event_data.revenue)!}",
            "currency": "${(event_data.currency)!}",
            "event_time": "${(event_timestamp)!}",
        },
        place="Branch's dashboard, the ad partner's postback configuration: one postback for each event",
        unverified=frozenset({"click_id"}),
        sources=("Postback Macros & Functions", "Advanced Postback Configuration"),
        notes=("An event that the app renames has its name in ${(customer_event_alias)!}.",),
    ),
    Sender(
        name="singular",
        title="Singular",
        link_parameter="cl",
        macros={
            "click_id": "{cl?YOUR_NETWORK}",
            "goal": "{EVTNAME}",
            "sale_amount": "{AMOUNT}",
            "currency": "{CURRENCY}",
            "event_time": "{UTCM}",
        },
        place="agreed with Singular's partner team; the advertiser's Partner Configuration can change it",
        unverified=frozenset({"currency"}),
        sources=("Postback Macros and Passthrough Parameters for Ad Networks",),
        notes=("Put the name that Singular knows us by in place of YOUR_NETWORK.",),
    ),
    Sender(
        name="kochava",
        title="Kochava",
        link_parameter="click_id",
        macros={
            "click_id": "{click_id}",
            "goal": "{event_name}",
            "sale_amount": "{revenue}",
            "event_time": "{timestamp}",
        },
        place="Kochava's partner onboarding form; or Partner Configuration, Add a Configuration, Custom Postback",
        unverified=frozenset({"click_id", "goal", "sale_amount", "event_time"}),
        sources=("Create a Custom Postback",),
    ),
)

_NETWORKS: Final = (
    Sender(
        name="tune",
        title="TUNE",
        link_parameter="aff_sub",
        macros={
            "click_id": "{aff_sub}",
            "txn_id": "{adv_sub}",
            "sale_amount": "{sale_amount}",
            "currency": "{currency}",
        },
        place="the offer's partner postback (partner conversion URL), one for each goal",
        unverified=frozenset({"click_id", "txn_id", "sale_amount", "currency"}),
        sources=("Passing Values to a Partner Conversion URL",),
        notes=(
            "{transaction_id} is TUNE's id of the click, the same for all events: it is no txn_id.",
            "{adv_sub} has the order's id only where the network's advertiser sends it there.",
        ),
    ),
    Sender(
        name="everflow",
        title="Everflow",
        link_parameter="sub1",
        macros={
            "click_id": "{sub1}",
            "goal": "{event_name}",
            "sale_amount": "{sale_amount}",
            "currency": "{currency}",
        },
        place="Partners, Postbacks, Add Postback: one for the conversion, one for each event",
        unverified=frozenset({"goal", "sale_amount", "currency"}),
        sources=("Your Guide To Parameters & Macros", "Getting Started: Partner Postbacks"),
        notes=("{transaction_id} is Everflow's id of the click, the same for all events: it is no txn_id.",),
    ),
    Sender(
        name="affise",
        title="Affise",
        link_parameter="sub1",
        macros={
            "click_id": "{sub1}",
            "goal": "{goal}",
            "txn_id": "{transactionid}",
            "event_id": "{transactionid}",
            "sale_amount": "{order_sum}",
            "currency": "{order_currency}",
            "event_time": "{timestamp}",
        },
        place="the affiliate's postbacks, global or for the offer and its goal",
        sources=("Affiliate postback URL macros",),
        notes=(
            "{sum} is what Affise pays, not the price of the order.",
            "Its {status} is a number (1, 2, 3, 5) that is not ours: leave it out.",
        ),
    ),
)

_TRACKERS: Final = (
    Sender(
        name="voluum",
        title="Voluum",
        link_parameter="click_id",
        macros={"click_id": "{externalid}", "sale_amount": "{payout}"},
        place="the traffic source, Postback URL",
        unverified=frozenset({"sale_amount"}),
        sources=("Traffic Source Postback URL",),
        notes=(
            "In the traffic source, External ID has to be the parameter that carries our click id.",
            "{payout} is what the tracker earns with the conversion, which need not be the buyer's price.",
        ),
        methods=("GET", "POST"),
    ),
    Sender(
        name="keitaro",
        title="Keitaro",
        link_parameter="external_id",
        macros={
            "click_id": "{external_id}",
            "goal": "{status}",
            "txn_id": "{tid}",
            "event_id": "{tid}",
            "sale_amount": "{revenue}",
        },
        place="the campaign, S2S postbacks, Add a postback; or the traffic source",
        sources=("S2S postback placeholders", "S2S postbacks"),
        notes=(
            "{status} is lead, sale or rejected: as a goal it counts only where goals have these values.",
            "{revenue} is what the tracker earns with the conversion, which need not be the buyer's price.",
        ),
        methods=("GET", "POST"),
    ),
)

SENDERS: Final[Mapping[str, Sender]] = MappingProxyType(
    {sender.name: sender for sender in (GENERIC, *_ATTRIBUTION, *_NETWORKS, *_TRACKERS)}
)
"""By name."""


class UnknownSenderError(ValueError):
    """There is no such sender; the message names those that there are."""


def find_sender(name: str) -> Sender:
    """The sender, without regard to case. Raises UnknownSenderError."""
    sender = SENDERS.get(name.casefold())
    if sender is None:
        known = ", ".join(SENDERS)
        raise UnknownSenderError(f"there is no sender {name!r}; {suggestion(name, SENDERS)}there are: {known}")
    return sender


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean …? ` with the known words that are like it; nothing where none is."""
    by_key = {name.casefold(): name for name in known}
    near = [by_key[key] for key in get_close_matches(word.casefold(), by_key, n=3)]
    return f"did you mean {' or '.join(near)}? " if near else ""
