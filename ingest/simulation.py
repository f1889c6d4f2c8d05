"""What would become of a postback: the decision a receiver would make of it, step by step. Clicks and claims are looked
at, and nothing is written, cached or claimed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from dedup.cap_types import Charge
from dedup.port import Verdict
from ingest.answers import Answer, answer, unreadable
from ingest.arrival import Arrival
from ingest.caps import cap_text, concerning, measured, over
from ingest.catalog import Cap, Snapshot
from ingest.clicks import Click, unpack_click
from ingest.decide import Decision, Rules, decide
from ingest.macros import is_macro
from ingest.outcome import Outcome, Result
from ingest.receipts import new_receipt
from ingest.record_columns import column, record_columns, status_of
from ingest.recorder import advertiser_of, all_click_ids, choose_click_id, outcome_of, read_postback, signature_of
from ingest.text import BLANKS
from ingest.wire import (
    NO_CLICK_ID,
    Fault,
    Pairs,
    Postback,
    Sent,
    UnreadableError,
    names_for,
    pairs_of,
    read_body,
    read_fields,
)
from storage.clicks import fetch_clicks
from storage.facts import stored_fact
from storage.postgres import Pool
from storage.statuses import GIVEN

_SAID: Final = ("click_id", "goal", "txn_id", "sale_amount", "currency", "event_id", "status")
_ADDRESS: Final = re.compile("https?://|/", re.IGNORECASE)


class Claims(Protocol):
    """What is asked of deduplication, by reading alone."""

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        """See `dedup.port.Deduplicator`."""

    async def claimed(self, click_id: str, field: str) -> bytes | None:
        """The fact that is claimed in the click's field, None where nothing is. Raises QueueUnavailableError."""


class Taken(Protocol):
    """What is asked of the counters of caps, by reading alone."""

    async def taken(self, campaign_id: int, charges: Sequence[Charge]) -> list[int | None]:
        """What is taken of each counter, None where it is unknown. Raises QueueUnavailableError."""


class Standing(StrEnum):
    """How a claim stands. `none`: nothing is claimed, each one counts. `stored`: Redis has forgotten the claim, but the
    conversion is in Postgres; the sender is answered `accepted`, and the writer logs a repeat."""

    NONE = "none"
    FREE = "free"
    HELD = "held"
    STORED = "stored"


class Step(msgspec.Struct, frozen=True):
    """One step of a decision and what it found."""

    step: str
    found: str


class ClaimState(msgspec.Struct, frozen=True):
    """The claim that the postback would take: its field in the click's hash, what it says (amount and currency) and,
    where that is taken, what was said first."""

    standing: Standing
    field: str | None
    fact: str
    first_fact: str | None = None


class Answered(msgspec.Struct, frozen=True):
    """The HTTP answer that the sender would read; no body: one that is no text, or empty."""

    status: int
    content_type: str
    body: str | None


class Simulation(msgspec.Struct, frozen=True):
    """What would become of a postback. `verdict`: accepted, duplicate, conflict, rejected, or invalid where it cannot
    be read. `record` is what would be stored: a row's columns, amounts as decimals in texts. `claim`: None where
    nothing would be counted anyway."""

    verdict: str
    conversion_id: str | None
    reason: str | None
    detail: str | None
    steps: list[Step]
    record: dict[str, object]
    claim: ClaimState | None
    answer: Answered


async def simulate(
    text: str,
    snapshot: Snapshot,
    rules: Rules,
    claims: Claims,
    pool: Pool,
    *,
    remote_ip: str | None = None,
    caps: Taken | None = None,
) -> Simulation:
    """Decide `text` as if it came in now from `remote_ip`: a query, a whole URL or a JSON object, as a sender would
    send it. Without `caps` none is looked at. Raises QueueUnavailableError and what `storage.postgres` names."""
    try:
        pairs = _read(text)
    except UnreadableError as error:
        return _invalid(unreadable(error.status, error.fault), error.fault)
    if not pairs:
        return _invalid(unreadable(400, NO_CLICK_ID), NO_CLICK_ID)
    return await _Simulator(snapshot, rules, claims, pool, caps).run(Arrival(new_receipt(remote_ip), pairs))


class _Simulator:
    """One simulation. The steps are those of `ingest.recorder`, one by one."""

    def __init__(self, snapshot: Snapshot, rules: Rules, claims: Claims, pool: Pool, caps: Taken | None) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._claims = claims
        self._pool = pool
        self._caps = caps
        self._steps: list[Step] = []

    async def run(self, arrival: Arrival) -> Simulation:
        snapshot, sent = self._snapshot, arrival.sent
        named = click_id, own = snapshot.reading(None).click_ids(sent)
        clicks = {one: await self._click(one) for one in dict.fromkeys(all_click_ids(named))}
        if own:
            click_id = choose_click_id(own, click_id, clicks, snapshot)
        click = None if click_id is None else clicks[click_id]
        advertiser = advertiser_of(click, snapshot)
        postback = read_postback(arrival, click_id, click, snapshot)
        self._trace("postback", _said(postback))
        unfilled = ", ".join(_unfilled(pairs_of(sent), names_for(advertiser.aliases if advertiser else {})))
        if unfilled:
            self._trace("macros", f"not filled in, so missing: {unfilled}")
        if advertiser is not None and advertiser.token_digests and postback.security_token is not None:
            self._trace("token", "given")
        signed = signature_of(arrival, click, snapshot)
        decision = decide(arrival.receipt, postback, click, snapshot, self._rules, self._trace, signed)
        claim = await self._claim(decision)
        verdict = _verdict_of(claim)
        if verdict is Verdict.ACCEPTED and snapshot.has_caps and self._caps is not None:
            decision = await self._under_caps(decision, self._caps)
        outcome = outcome_of(decision, verdict)
        if verdict is not Verdict.ACCEPTED and (decision.record.status or "").startswith(GIVEN):
            self._trace("status", f"the conversion that was counted first becomes {status_of(decision.record)}")
        forgotten = claim is not None and claim.standing is Standing.STORED
        answered = answer(outcome_of(decision, Verdict.ACCEPTED) if forgotten else outcome)
        self._trace("answer", _answer(answered))
        return Simulation(
            verdict=_result(outcome),
            conversion_id=outcome.conversion_id,
            reason=_text(outcome.reason or decision.record.reason),
            detail=outcome.detail,
            steps=self._steps,
            record=record_columns(decision.record),
            claim=claim,
            answer=_answered(answered),
        )

    def _trace(self, step: str, found: str) -> None:
        self._steps.append(Step(step, found))

    async def _click(self, click_id: str) -> Click | None:
        (packed,) = await self._claims.clicks([click_id])
        if packed is not None:
            self._trace("look-up", "the click is in Redis")
            return unpack_click(packed)
        for stored in await fetch_clicks(self._pool, [click_id]):
            self._trace("look-up", "the click is in Postgres; a receiver would put it into Redis")
            return Click(stored.campaign_id, stored.publisher_id, stored.clicked_ms, stored.country)
        self._trace("look-up", "neither Redis nor Postgres knows the click")
        return None

    async def _claim(self, decision: Decision) -> ClaimState | None:
        """How the decision's claim stands, in Redis and in the table that is the second lock."""
        claim, clicked_ms = decision.claim, decision.record.clicked_ms
        if claim is None or clicked_ms is None:
            return None
        fact = decision.fact.decode()
        if claim.field is None:
            return ClaimState(Standing.NONE, None, fact)
        held = await self._claims.claimed(decision.record.click_id or "", claim.field)
        if held is not None:
            return self._taken(ClaimState(Standing.HELD, claim.field, fact, held.decode()), "yes")
        stored = await stored_fact(self._pool, claim.conversion_id, clicked_ms)
        if stored is not None:
            how = "Redis has forgotten it, but the conversion is stored"
            return self._taken(ClaimState(Standing.STORED, claim.field, fact, stored), how)
        self._trace("claimed", "no: this one would be counted")
        return ClaimState(Standing.FREE, claim.field, fact)

    async def _under_caps(self, decision: Decision, caps: Taken) -> Decision:
        """The decision as the first cap leaves it that it would cross."""
        concerned = concerning(decision, self._snapshot)
        if not concerned:
            return decision
        taken = await caps.taken(decision.record.campaign_id or 0, [charge for _, charge in concerned])
        crossed: list[Cap] = []
        for (cap, charge), already in zip(concerned, taken, strict=True):
            if already is None:
                self._trace("cap", f"{cap_text(cap)}: what is taken is not known yet, a receiver would have it counted")
                continue
            fits = already + charge.amount <= cap.limit
            left = measured(cap, max(0, cap.limit - already))
            self._trace("cap", f"{cap_text(cap)}: {left} left{'' if fits else f', so it is over: {cap.action}'}")
            if not fits:
                crossed.append(cap)
        return over(decision, crossed[0]) if crossed else decision

    def _taken(self, claim: ClaimState, how: str) -> ClaimState:
        before, now = claim.first_fact, claim.fact
        if before == now:
            self._trace("claimed", f"{how}: with the same amount ({now or 'none'}), not counted again")
        else:
            self._trace("claimed", f"{how}: with {before or 'no amount'}, not with {now or 'none'}, not counted again")
        return claim


def _read(text: str) -> Sent:
    """Raises UnreadableError."""
    text = text.strip()
    if text.startswith(("{", "[")):
        return read_body("application/json", text.encode("utf-8", "surrogatepass"))
    if _ADDRESS.match(text):
        text = text.partition("?")[2].partition("#")[0]
    return read_fields(text.removeprefix("?"))


def _unfilled(pairs: Pairs, names: Mapping[str, str]) -> Iterator[str]:
    """The parameters that hold a macro instead of a value."""
    for name, value in pairs:
        if name in names and is_macro(value.strip(BLANKS)):
            yield f"{name} = {value.strip(BLANKS)}"


def _verdict_of(claim: ClaimState | None) -> Verdict:
    if claim is None or claim.first_fact is None:
        return Verdict.ACCEPTED
    return Verdict.DUPLICATE if claim.first_fact == claim.fact else Verdict.CONFLICT


def _invalid(said: Answer, fault: Fault) -> Simulation:
    steps = [Step("postback", f"cannot be read: {fault.detail}"), Step("answer", _answer(said))]
    return Simulation(Result.INVALID.value, None, fault.reason.value, fault.detail, steps, {}, None, _answered(said))


def _said(postback: Postback) -> str:
    said = [f"{name} = {value}" for name in _SAID if (value := getattr(postback, name)) is not None]
    if postback.event_ms is not None:
        said.append(f"event_time = {column('event_ms', postback.event_ms)}")
    said += [f"param {name} = {value}" for name, value in postback.params.items()]
    return ", ".join(said) or "nothing that is known"


def _result(outcome: Outcome) -> str:
    """A refusal is `rejected` in the log, also where the sender is told 403."""
    return Result.REJECTED.value if outcome.result is Result.INVALID else outcome.result.value


def _answered(said: Answer) -> Answered:
    is_text = said.body and not said.content_type.startswith("image/")
    return Answered(said.status, said.content_type, said.body.decode() if is_text else None)


def _answer(said: Answer) -> str:
    if said.content_type.startswith("image/"):
        return f"{said.status}, {said.content_type} of {len(said.body)} bytes"
    return f"{said.status} {said.body.decode()}".rstrip()


def _text(value: object) -> str | None:
    return None if value is None else str(value)
