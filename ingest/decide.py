"""The decision: click -> campaign -> goal -> rate -> money. Pure: no I/O, no clock; the same input, the same answer.

Rules are those of docs/architecture.md, in the order in which they are checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

import msgspec

from dedup.policy import Claim, claim_for, uuid_text
from ingest import money
from ingest.addresses import Addresses, is_in, stored_address
from ingest.arrival import Receipt
from ingest.catalog import Advertiser, Campaign, Goal, GoalType, Rate, Snapshot, Status, token_digest
from ingest.clicks import Click
from ingest.iso import CURRENCIES
from ingest.reasons import Reason
from ingest.signatures import Signed
from ingest.signatures import problem as signature_problem
from ingest.wire import Postback
from storage.records import Kind, Record
from storage.statuses import GIVEN

# Looked up once: a member costs ten times what a name does.
_ACTIVE: Final = Status.ACTIVE
_PRIVATE: Final = GoalType.PRIVATE
_CONVERSION: Final = Kind.CONVERSION

Trace = Callable[[str, str], None]
"""Told each step of a decision: its name and what was found."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds where a campaign sets nothing of its own, milliseconds; and what is stored of senders' addresses."""

    window_ms: int
    min_age_ms: int = 0
    park_unknown_ms: int = 0
    addresses: Addresses = Addresses.FULL


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a postback is not counted. `detail` is for the sender: the field and what was wrong with it, no more."""

    reason: Reason
    detail: str


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What a postback comes to: a conversion to claim, or a refusal for the log (then `claim` is None). One that is to
    be parked is a refusal as it would be logged."""

    receipt: Receipt
    record: Record
    kind: Kind
    claim: Claim | None = None
    fact: bytes = b""
    expires_ms: int = 0
    refusal: Refusal | None = None
    advertiser: Advertiser | None = None


class Sale(msgspec.Struct, frozen=True, gc=False):
    """A sale in the campaign's currency; what was sent, where it was converted."""

    micros: int | None = None
    fact: bytes = b""
    original_micros: int | None = None
    original_currency: str | None = None
    rate_nanos: int | None = None


class _RefusedError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        self.refusal = Refusal(reason, detail)


def decide(
    receipt: Receipt,
    postback: Postback,
    click: Click | None,
    snapshot: Snapshot,
    rules: Rules,
    trace: Trace | None = None,
    signed: Signed | None = None,
    proven_for: int | None = None,
) -> Decision:
    """Decide one postback. `click` is the one that its click_id names, None where there is none; `signed` what it is
    signed with; `proven_for` the advertiser whose it was found to be before."""
    campaign = snapshot.campaigns.get(click.campaign_id) if click else None
    try:
        return _accept(receipt, postback, click, campaign, snapshot, rules, trace, signed, proven_for)
    except _RefusedError as refused:
        if trace:
            trace("refused", f"{refused.refusal.reason}: {refused.refusal.detail}")
        return _reject(receipt, postback, click, campaign, rules, refused.refusal)


def _accept(
    receipt: Receipt,
    postback: Postback,
    click: Click | None,
    campaign: Campaign | None,
    snapshot: Snapshot,
    rules: Rules,
    trace: Trace | None,
    signed: Signed | None,
    proven_for: int | None,
) -> Decision:
    if postback.fault:
        raise _RefusedError(postback.fault.reason, postback.fault.detail)
    click_id = postback.click_id
    if click is None or click_id is None:
        raise _RefusedError(Reason.UNKNOWN_CLICK, "click_id: no such click")
    if trace:
        country = click.country or "no country"
        trace("click", f"{click_id}: campaign {click.campaign_id}, publisher {click.publisher_id}, {country}")
    if campaign is None:
        raise _RefusedError(Reason.UNKNOWN_CAMPAIGN, "click_id: its campaign does not exist")
    advertiser = campaign.advertiser
    if trace:
        trace("campaign", f"{campaign.id} {campaign.name!r} of {advertiser.name!r}, {campaign.currency}")
    if advertiser.id != proven_for:
        if advertiser.allowed_networks and not is_in(receipt.remote_ip, advertiser.allowed_networks):
            raise _RefusedError(Reason.ADDRESS_NOT_ALLOWED, "address: not one of the advertiser's")
        _check_token(advertiser, postback.security_token)
        if advertiser.signing_keys:
            _check_signature(advertiser, signed, receipt.received_us // 1000)
    if campaign.status is not _ACTIVE:
        raise _RefusedError(Reason.CAMPAIGN_INACTIVE, "click_id: its campaign is not active")
    window_ms = _check_age(campaign, click, receipt.received_us // 1000, rules)
    goal = _goal(campaign, postback.goal)
    if trace:
        trace("goal", f"{goal.id} {goal.title!r}, version {goal.version}, track_multiple = {goal.track_multiple}")
    found = goal.rate_for(click.publisher_id, click.country)
    if found is None:
        raise _RefusedError(Reason.OUTSIDE_COVERAGE, "click_id: its country is not covered by the goal")
    (for_publisher, for_country), rate = found
    if trace:
        trace("rate", f"for publisher {for_publisher or 'any'}, country {for_country or 'any'}")
    sale = _sale(postback, campaign, rate, snapshot, receipt.received_us // 1000)
    revenue_micros, payout_micros = _amounts(rate, sale)
    reason: Reason | None = None
    if is_unassigned(goal, click.publisher_id):
        reason, payout_micros = Reason.GOAL_NOT_ASSIGNED, 0
    if trace:
        trace(
            "money",
            f"sale {_shown(sale.micros)}, revenue {_shown(revenue_micros)}, payout {_shown(payout_micros)}"
            f" {campaign.currency}{f' ({reason})' if reason else ''}",
        )
    claim = claim_for(
        goal.track_multiple,
        click_id,
        click.clicked_ms,
        goal.id,
        postback.txn_id,
        postback.event_id,
        receipt.postback_id,
    )
    if trace:
        trace("claim", claim.field or "nothing: each one counts")
        trace("conversion", str(claim.conversion_id))
    params = postback.params
    if postback.event_id:
        params = params | {"event_id": postback.event_id}
    # By position, in the order of the line: by name it would take six times as long.
    record = Record(
        uuid_text(receipt.postback_id.hex()),
        receipt.received_us,
        reason,
        advertiser.id,
        click.publisher_id,
        campaign.id,
        goal.id,
        goal.value,
        goal.version,
        click_id,
        click.clicked_ms,
        postback.txn_id,
        claim.conversion_id,
        GIVEN + postback.status if postback.status else goal.implied_status,
        click.country,
        campaign.currency,
        sale.micros,
        revenue_micros,
        payout_micros,
        sale.original_micros,
        sale.original_currency,
        sale.rate_nanos,
        postback.event_ms,
        stored_address(receipt.remote_ip, rules.addresses),
        params,
    )
    expires_ms = click.clicked_ms + window_ms
    return Decision(receipt, record, _CONVERSION, claim, sale.fact, expires_ms, None, advertiser)


def is_unassigned(goal: Goal, publisher_id: int) -> bool:
    """Whether the goal is private and the publisher is not on its list: it is not paid then."""
    return goal.type is _PRIVATE and publisher_id not in goal.publishers


def _check_token(advertiser: Advertiser, token: str | None) -> None:
    if not advertiser.token_digests:
        return
    if token is None:
        raise _RefusedError(Reason.BAD_TOKEN, "security_token: missing")
    if not is_token(advertiser, token):
        raise _RefusedError(Reason.BAD_TOKEN, "security_token: not accepted")


def is_token(advertiser: Advertiser, token: str) -> bool:
    """Whether it is one of the advertiser's. Every live one is compared, whichever matches: the time tells nothing."""
    digest = token_digest(token)
    matches = 0
    for known in advertiser.token_digests:
        matches += compare_digest(digest, known)
    return matches > 0


def _check_signature(advertiser: Advertiser, signed: Signed | None, received_ms: int) -> None:
    wrong = signature_problem(signed, advertiser.signing_keys, received_ms, advertiser.signature_window_ms)
    if wrong is not None:
        raise _RefusedError(Reason.BAD_SIGNATURE, wrong)


def _check_age(campaign: Campaign, click: Click, received_ms: int, rules: Rules) -> int:
    window_ms = rules.window_ms if campaign.window_ms is None else campaign.window_ms
    min_age_ms = rules.min_age_ms if campaign.min_age_ms is None else campaign.min_age_ms
    age_ms = received_ms - click.clicked_ms
    if age_ms > window_ms:
        raise _RefusedError(Reason.CLICK_EXPIRED, "click_id: the click is too old")
    if min_age_ms and age_ms < min_age_ms:
        raise _RefusedError(Reason.CLICK_TOO_FRESH, "click_id: too soon after the click")
    return window_ms


def _goal(campaign: Campaign, value: str | None) -> Goal:
    if value is None:
        goal = campaign.default_goal
        if goal is None:
            raise _RefusedError(Reason.UNKNOWN_GOAL, "goal: missing, and the campaign has no default goal")
    else:
        found = campaign.goals.get(value.casefold())
        if found is None:
            raise _RefusedError(Reason.UNKNOWN_GOAL, "goal: the campaign has no such goal")
        goal = found
    if goal.status is not _ACTIVE:
        raise _RefusedError(Reason.GOAL_INACTIVE, "goal: not active")
    return goal


def _sale(postback: Postback, campaign: Campaign, rate: Rate, snapshot: Snapshot, received_ms: int) -> Sale:
    if postback.sale_amount is None:
        if rate.needs_sale:
            raise _RefusedError(Reason.MISSING_SALE_AMOUNT, "sale_amount: missing")
        return Sale()
    try:
        sent_micros = money.parse_amount(postback.sale_amount)
    except money.AmountError as error:
        raise _RefusedError(Reason.BAD_AMOUNT, f"sale_amount: {error}") from None
    currency = postback.currency or campaign.currency
    if currency not in CURRENCIES:
        raise _RefusedError(Reason.BAD_CURRENCY, "currency: not an ISO 4217 code")
    fact = f"{money.format_micros(sent_micros)}{currency}".encode()
    if currency == campaign.currency:
        return Sale(sent_micros, fact)
    rate_nanos = rate_in_force(snapshot, currency, campaign.currency, received_ms)
    if rate_nanos is None:
        raise _RefusedError(Reason.NO_EXCHANGE_RATE, f"currency: {currency} cannot be converted")
    sale_micros = money.convert(sent_micros, rate_nanos)
    if sale_micros >= money.LIMIT_MICROS:
        raise _RefusedError(Reason.BAD_AMOUNT, "sale_amount: too large")
    return Sale(sale_micros, fact, sent_micros, currency, rate_nanos)


def rate_in_force(snapshot: Snapshot, currency: str, to: str, at_ms: int) -> int | None:
    """Nanos of the exchange rate at that time; None where there was none yet."""
    rates = snapshot.exchange_rates.get((currency, to))
    return rates.at(at_ms) if rates else None


def _amounts(rate: Rate, sale: Sale) -> tuple[int, int]:
    """Revenue and payout in micros."""
    revenue_micros, payout_micros = money.amounts(rate, sale.micros or 0)
    if revenue_micros >= money.LIMIT_MICROS or payout_micros >= money.LIMIT_MICROS:
        raise _RefusedError(Reason.BAD_AMOUNT, "sale_amount: too large")
    return revenue_micros, payout_micros


def _reject(
    receipt: Receipt,
    postback: Postback,
    click: Click | None,
    campaign: Campaign | None,
    rules: Rules,
    refusal: Refusal,
) -> Decision:
    """For the log, or to be parked, with all that was sent: enough to decide it again."""
    sent: dict[str, object] = {
        "sale_amount": postback.sale_amount,
        "currency": postback.currency,
        "event_id": postback.event_id,
        "event_time": None if postback.event_ms is None else str(postback.event_ms),
        "status": postback.status,
        "_detail": refusal.detail,
    }
    record = Record(
        log_id=uuid_text(receipt.postback_id.hex()),
        received_us=receipt.received_us,
        reason=refusal.reason,
        advertiser_id=campaign.advertiser.id if campaign else None,
        campaign_id=click.campaign_id if click else None,
        click_id=postback.click_id,
        goal_value=postback.goal,
        txn_id=postback.txn_id,
        remote_ip=stored_address(receipt.remote_ip, rules.addresses),
        params=postback.params | {name: value for name, value in sent.items() if value is not None},
    )
    is_parked = refusal.reason is Reason.UNKNOWN_CLICK and rules.park_unknown_ms > 0
    return Decision(
        receipt,
        record,
        Kind.PARKED if is_parked else Kind.REJECTION,
        refusal=refusal,
        advertiser=campaign.advertiser if campaign else None,
    )


def _shown(micros: int | None) -> str:
    return "-" if micros is None else money.format_micros(micros)
