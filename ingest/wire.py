"""The wire format: what a postback says, before anybody knows whose click it is.

`read_queries`, `read_body` and `read_bulk` make names and values of a request; `interpret` makes a Postback of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from ingest.bodies import (
    MAX_ITEMS,
    Fault,
    Nested,
    Pairs,
    Sent,
    UnreadableError,
    bulk_lines,
    pairs_of,
    plain,
    read_body,
    read_bulk,
    read_fields,
    read_objects,
    read_queries,
    read_query,
    together,
)
from ingest.macros import MACRO_OPENERS, MACRO_WORDS, is_macro
from ingest.reasons import Reason
from ingest.text import BLANKS, REPLACEMENT, clean, problem, valid
from ingest.times import parse_time_ms

__all__ = [
    "MAX_ITEMS",
    "STANDARD_ALIASES",
    "Fault",
    "Pairs",
    "Postback",
    "Reason",
    "Sent",
    "UnreadableError",
    "bulk_lines",
    "interpret",
    "names_for",
    "pairs_of",
    "plain",
    "read_body",
    "read_bulk",
    "read_fields",
    "read_objects",
    "read_queries",
    "read_query",
    "together",
]

MAX_TEXT_BYTES: Final = 255
MAX_PARAMS: Final = 32
MAX_PARAM_NAME_BYTES: Final = 64
MAX_PARAM_BYTES: Final = 1024

STANDARD_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "click_id": "click_id",
        "clickid": "click_id",
        "transaction_id": "click_id",
        "cid": "click_id",
        "subid": "click_id",
        "goal": "goal",
        "goal_value": "goal",
        "event": "goal",
        "txn_id": "txn_id",
        "order_id": "txn_id",
        "action_id": "txn_id",
        "txid": "txn_id",
        "sale_amount": "sale_amount",
        "amount": "sale_amount",
        "sum": "sale_amount",
        "currency": "currency",
        "security_token": "security_token",
        "event_id": "event_id",
        "event_time": "event_time",
        "status": "status",
    }
)
"""Every accepted name -> the standard name it stands for."""

_NAMES_OF: Final = {
    field: tuple(name for name, standard in STANDARD_ALIASES.items() if standard == field)
    for field in STANDARD_ALIASES.values()
}
FIELDS: Final = tuple(_NAMES_OF)
"""The standard names."""
NO_CLICK_ID: Final = Fault(Reason.MISSING_CLICK_ID, "click_id: missing")
_TEXT_FIELDS: Final = ("click_id", "goal", "txn_id", "event_id")
STATUSES: Final = frozenset({"approved", "pending", "rejected", "cancelled"})
_DROPPED: Final = "_dropped"
_CUT: Final = "_cut"
COUNTS: Final = (_DROPPED, _CUT)
"""Params of ours: how many parameters are missing, and how many are not whole."""
_NO_ALIASES: Final[Mapping[str, str]] = MappingProxyType({})


class Postback(msgspec.Struct, frozen=True, gc=False):
    """What was said. A struct, since a frozen dataclass of this size costs 2 us more to make.

    `sale_amount` is text as it was given, to be parsed in the decision; `currency` is upper-cased, not yet known to be
    one; `event_ms` is epoch ms. `params` is everything else, at most 32 names of 64 bytes with values of 1 KiB, fit for
    JSON in Postgres; `_dropped` counts the parameters beyond, `_cut` what was cut; `event_time` is kept there if it is
    unreadable. Where `fault` is set, the other fields are what could be read, made fit for the log.
    """

    click_id: str | None
    goal: str | None
    txn_id: str | None
    sale_amount: str | None
    currency: str | None
    security_token: str | None
    event_id: str | None
    event_ms: int | None
    status: str | None
    params: dict[str, object]
    fault: Fault | None

    def __repr__(self) -> str:
        """All but the token, which must not reach a log."""
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "security_token"]
        return f"Postback({', '.join(shown)})"


def names_for(aliases: Mapping[str, str]) -> dict[str, str]:
    """An advertiser's own names over the standard ones."""
    return {**STANDARD_ALIASES, **aliases}


def interpret(
    sent: Sent,
    aliases: Mapping[str, str] = _NO_ALIASES,
    *,
    secret_names: frozenset[str] = frozenset(),
) -> Postback:
    """The postback that was sent; never raises.

    `aliases` are the advertiser's own names -> standard names. A field that one of them gives is not read from its
    standard names: those are kept in params. Without, a field given twice must have one value. Values are trimmed;
    empty ones and unexpanded macros count as missing. `secret_names` never get into params.
    """
    pairs = pairs_of(sent)
    names, secret_names = own_names(pairs, aliases, secret_names)
    fault: Fault | None = None
    values: dict[str, str] = {}
    params: dict[str, object] = {}
    dropped = cut = 0
    for name, value in pairs:
        field = names.get(name)
        if field is not None:
            text = value.strip(BLANKS)
            if not text:
                continue
            if text[0] in MACRO_OPENERS or text in MACRO_WORDS:
                if isinstance(value, Nested):
                    if field != "event_time":
                        fault = fault or _bad(field, "expected a plain value")
                elif is_macro(text):
                    continue
            if values.setdefault(field, text) != text:
                fault = fault or _bad(field, "given twice with different values")
        elif name in secret_names:
            continue
        elif len(params) >= MAX_PARAMS and name not in params:
            dropped += 1
        elif (
            type(value) is str
            and len(value) <= MAX_PARAM_BYTES
            and len(name) <= MAX_PARAM_NAME_BYTES
            and value.isascii()
            and value.isprintable()
            and name.isascii()
            and name.isprintable()
        ):
            params.setdefault(name, value)
        else:
            key, key_cut = clean(name, MAX_PARAM_NAME_BYTES)
            if key not in params:
                params[key], value_cut = clean(value, MAX_PARAM_BYTES)
                cut += key_cut + value_cut

    for field in _TEXT_FIELDS:
        text = values.get(field, "")
        if not (len(text) <= MAX_TEXT_BYTES and text.isascii() and text.isprintable()):
            wrong = problem(text, MAX_TEXT_BYTES)
            if wrong is not None:
                fault = fault or _bad(field, wrong)
                values[field] = clean(text, MAX_TEXT_BYTES)[0]
    get = values.get
    click_id = get("click_id")
    amount = get("sale_amount")
    if amount is not None:
        amount = _loggable(amount)
    currency = get("currency")
    if currency is not None:
        # Only ASCII: upper-casing makes ASCII letters of some others.
        currency = currency.upper() if currency.isascii() else currency
        currency = _loggable(currency)
    token = get("security_token")
    if token is not None:
        token = valid(token)
    status = get("status")
    if status is not None:
        status = status.lower()
        if status not in STATUSES:
            fault = fault or _bad("status", "expected approved, pending, rejected or cancelled")
            status = _loggable(status)
    event_ms: int | None = None
    event_time = get("event_time")
    if event_time is not None:
        event_ms = parse_time_ms(event_time)
        if event_ms is None:
            params["event_time"], time_cut = clean(event_time, MAX_PARAM_BYTES)
            cut += time_cut
    if click_id is None:
        fault = fault or NO_CLICK_ID

    # A sender's own parameters of these names make way for the counts.
    dropped += (params.pop(_DROPPED, None) is not None) + (params.pop(_CUT, None) is not None)
    if dropped:
        params[_DROPPED] = dropped
    if cut:
        params[_CUT] = cut
    return Postback(
        click_id,
        get("goal"),
        get("txn_id"),
        amount,
        currency,
        token,
        get("event_id"),
        event_ms,
        status,
        params,
        fault,
    )


def own_names(
    pairs: Pairs, aliases: Mapping[str, str], secret_names: frozenset[str]
) -> tuple[Mapping[str, str], frozenset[str]]:
    """The names that count where `aliases` give some of the fields, and the names that must not get into params."""
    if not aliases:
        return STANDARD_ALIASES, secret_names
    names = names_for(aliases)
    for own_name, value in pairs:
        field = aliases.get(own_name)
        if field is not None and _is_given(value):
            for name in _NAMES_OF.get(field, ()):
                if name not in aliases:
                    names.pop(name, None)
            if field == "security_token":
                secret_names |= {"security_token"}
    return names, secret_names


def _is_given(value: str) -> bool:
    text = value.strip(BLANKS)
    return bool(text) and (isinstance(value, Nested) or not is_macro(text))


def _bad(field: str, wrong: str) -> Fault:
    return Fault(Reason.BAD_PARAMETER, f"{field}: {wrong}")


def _loggable(text: str) -> str:
    """A copy fit for the log. If it was cut it ends in U+FFFD, so that it cannot be read as another value."""
    if len(text) <= MAX_TEXT_BYTES and text.isascii() and text.isprintable():
        return text
    copy, was_cut = clean(text, MAX_TEXT_BYTES)
    return copy + REPLACEMENT if was_cut else copy
