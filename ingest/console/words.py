"""Codes in words, for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "unknown_click": "No click with this id is registered: the tracker has not sent it, or the sender gave another"
        " id than ours.",
        "click_expired": "The postback came after the campaign's attribution window had ended.",
        "click_too_fresh": "The postback came sooner after the click than the campaign allows, which suggests that it"
        " is not genuine.",
        "unknown_campaign": "The click belongs to a campaign that the catalog does not have.",
        "campaign_inactive": "The campaign is paused or archived: only active ones take conversions.",
        "unknown_goal": "The campaign has no goal with this value, or the postback names none and there is no default"
        " goal.",
        "goal_inactive": "The goal is paused or archived: only active ones take conversions.",
        "outside_coverage": "No rate of the goal covers the click's publisher and country.",
        "missing_sale_amount": "The price is a percentage of the sale, and the postback gives no sale_amount.",
        "bad_amount": "The sale_amount cannot be read as an amount of money.",
        "bad_currency": "The currency is no code of ISO 4217.",
        "no_exchange_rate": "The sale is in another currency than the campaign's, and no exchange rate was in force.",
        "missing_click_id": "The postback names no click, or a macro stands where the click id should be.",
        "bad_parameter": "A parameter cannot be used: given twice with different values, too long, or not readable.",
        "bad_token": "The security token is missing or wrong.",
        "bad_signature": "The signature is missing, wrong, or too old.",
        "address_not_allowed": "The postback came from an address that is not on the advertiser's list.",
        "over_cap": "A cap on the goal or the campaign was reached: what the cap says became of the conversion.",
        "goal_not_assigned": "The goal is private and the publisher is not on its list: recorded with payout 0.",
    }
)
OUTCOMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accepted": "Counted.",
        "duplicate": "The same event with the same amount was counted before: not counted again.",
        "conflict": "The same event was counted before with another amount: not counted again, and worth a look.",
        "rejected": "Not counted.",
        "parked": "Its click is not known yet: it is decided again when the click arrives.",
        "invalid": "It cannot be read as a postback, or its sender is not allowed: not counted.",
    }
)
SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postback": "a later postback of the same event gave this status",
        "operator": "a person or a file set it",
        "hold": "the goal's hold has passed without another decision",
    }
)
TOLD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "waiting": "Not delivered yet.",
        "sent": "Delivered.",
        "given_up": "It failed until its time was over.",
        "withdrawn": "The conversion is not approved any more, or nothing is to be called.",
    }
)
"""States of a message to a publisher."""
FAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "http_status": "it did not take it",
        "redirect": "it sent us elsewhere, and redirects are not followed",
        "timeout": "no answer in time",
        "connection": "no connection, or it was cut",
        "tls": "its certificate or its TLS cannot be trusted",
        "dns": "its name is not known",
        "protocol": "what it answered is no HTTP",
        "address_refused": "its address is none that may be called",
        "url_refused": "the URL, filled in, is none that may be called",
        "defect": "a defect of this program, its log has more",
        "no_key": "the publisher's secret cannot be opened: the writer has another key file",
    }
)
"""Why an attempt to tell a publisher failed."""
POLICIES: Final[Mapping[str, str]] = MappingProxyType(
    {"no": "No", "yes": "Yes", "yes_with_txn_id": "Yes with txn_id (recommended)"}
)


def explain(outcome: str, reason: str | None = None) -> str:
    """What an outcome with its reason means; of a code that is not known, nothing."""
    parts = (OUTCOMES.get(outcome, ""), REASONS.get(reason or "", ""))
    return " ".join(part for part in parts if part)
