"""`record(arrivals) -> outcomes`: the one way in. Clicks of the batch, the decision for each, one claim call."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from dedup.port import TOKEN_BYTES, Deduplicator, Entry, QueueUnavailableError, Verdict
from ingest.arrival import Arrival, Waiting, read_all
from ingest.cap_gate import CapGate, Passed
from ingest.catalog import Advertiser, Profile, Snapshot
from ingest.click_source import ClickSource
from ingest.clicks import Click, unpack_click
from ingest.decide import Decision, Rules, decide
from ingest.outcome import AWAY, PARKED, UNAVAILABLE, Outcome, Result
from ingest.plain import MakePlain, NothingPlain, Plain
from ingest.reasons import Reason
from ingest.signatures import Signed, signed_parameters
from ingest.wire import NO_CLICK_ID, Postback, pairs_of
from storage.records import Kind, encode

_RESULTS: Final = {
    Verdict.ACCEPTED: Result.ACCEPTED,
    Verdict.DUPLICATE: Result.DUPLICATE,
    Verdict.CONFLICT: Result.CONFLICT,
}
# Looked up once: a member costs ten times what a name does.
_BY_DEFAULT: Final = Profile.JSON
_PARKED: Final = Kind.PARKED
_FULL: Final = Verdict.FULL
_UNAVAILABLE: Final = Verdict.UNAVAILABLE
_FORBIDDEN: Final = frozenset({Reason.BAD_TOKEN, Reason.BAD_SIGNATURE, Reason.ADDRESS_NOT_ALLOWED})


Admit = Callable[[Advertiser, bool], bool]
"""Whether one more postback may pass now: the advertiser it is for, and whether it proved to be the advertiser's."""


Park = Callable[[Arrival, Decision, Sequence[str]], Decision]
"""Puts the arrival, which may be about any of these clicks, into a decision to park it; without room, rejects it."""


class RecorderObserver(Protocol):
    """Told of each batch."""

    def recorded(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """A batch has its outcomes, `seconds` after it began. What is AWAY has none yet."""


class Recorder:
    """Records batches of postbacks, each exactly as often as its goal says."""

    def __init__(
        self,
        deduplicator: Deduplicator,
        clicks: ClickSource,
        snapshot: Callable[[], Snapshot],
        rules: Rules,
        observer: RecorderObserver,
        park: Park | None = None,
        caps: CapGate | None = None,
        make_plain: MakePlain = NothingPlain,
    ) -> None:
        """`park` None: nothing is parked, whatever the rules say. `caps` may be None only if no catalog has any.
        `make_plain`: what decides plain postbacks ahead of the rules in this package, by default nothing."""
        self._deduplicator = deduplicator
        self._clicks = clicks
        self._snapshot = snapshot
        self._rules = rules if park else dataclasses.replace(rules, park_unknown_ms=0)
        self._park = park
        self._caps = caps
        self._observer = observer
        self._make_plain = make_plain
        self._plain: tuple[Snapshot, Plain] | None = None

    async def record(self, arrivals: Sequence[Waiting], admit: Admit | None = None) -> list[Outcome]:
        """One outcome for each, in order; AWAY where an engine did not answer. Never raises for an engine's sake.

        What `admit` refuses is UNAVAILABLE, before anything is claimed.
        """
        started = time.perf_counter()
        snapshot = self._snapshot()
        sheet = self._plain_for(snapshot).read(arrivals)
        named = _named(arrivals, sheet.rest, snapshot)
        packed = await self._fetch(arrivals, sheet.click_ids, named)
        entries = sheet.decide(packed)
        named |= _named(arrivals, [place for place in sheet.rest if place not in named], snapshot)
        decisions, refused = self._decide(named, packed, snapshot, admit)
        passed: Passed | None = None
        if snapshot.has_caps and decisions:
            assert self._caps is not None, "a catalog with caps needs them held"
            held = list(decisions)
            passed = await self._caps.hold(list(decisions.values()), snapshot)
            decisions = {held[at]: decision for at, decision in zip(passed.places, passed.decisions, strict=True)}
        for place, decision in decisions.items():
            entries[place] = entry_of(decision)
        said = iter(await self._deduplicator.claim([entry for entry in entries if entry is not None]))
        verdicts = [_UNAVAILABLE if entry is None else next(said) for entry in entries]
        if passed is not None and self._caps is not None:
            await self._caps.settle(passed, [verdicts[place] for place in decisions])
        outcomes = sheet.outcomes(verdicts)
        for place, decision in decisions.items():
            outcomes[place] = outcome_of(decision, verdicts[place])
        for place in refused:
            outcomes[place] = UNAVAILABLE
        self._observer.recorded(outcomes, time.perf_counter() - started)
        return outcomes

    def _plain_for(self, snapshot: Snapshot) -> Plain:
        if self._plain is None or self._plain[0] is not snapshot:
            self._plain = snapshot, self._make_plain(snapshot, self._rules)
        return self._plain[1]

    async def _fetch(
        self, arrivals: Sequence[Waiting], plain: Sequence[str | None], named: Mapping[int, Named]
    ) -> Mapping[str, bytes | None]:
        """Each click that any of them may be about, as `ClickSource.fetch` gives it; none while Redis is away."""
        click_ids = [click_id for click_id in plain if click_id is not None]
        for one in named.values():
            click_ids += one.click_ids
        if not click_ids:
            return {}
        try:
            return await self._clicks.fetch(click_ids, arrivals[0].receipt.received_us // 1000)
        except QueueUnavailableError:
            return {}

    def _decide(
        self,
        named: Mapping[int, Named],
        packed: Mapping[str, bytes | None],
        snapshot: Snapshot,
        admit: Admit | None,
    ) -> tuple[dict[int, Decision], list[int]]:
        """The decisions by place, in order, and the places of those that are not admitted. Those whose clicks cannot be
        looked up are in neither."""
        decisions: dict[int, Decision] = {}
        refused: list[int] = []
        for place in sorted(named):
            one = named[place]
            clicks = {click_id: _unpacked(packed[click_id]) for click_id in one.click_ids if click_id in packed}
            click_id = one.standard
            if one.own:
                click_id = choose_click_id(one.own, click_id, clicks, snapshot)
            if click_id is not None and click_id not in clicks:
                continue
            click = None if click_id is None else clicks[click_id]
            decision = decide_arrival(one.arrival, click_id, click, snapshot, self._rules)
            if admit is not None and decision.advertiser and not admit(decision.advertiser, not is_forbidden(decision)):
                refused.append(place)
                continue
            if self._park is not None and decision.kind is _PARKED:
                decision = self._park(one.arrival, decision, one.click_ids)
            decisions[place] = decision
        return decisions, refused


class Named(msgspec.Struct, frozen=True, gc=False):
    """A postback and which click it may be about: see `Reading.click_ids`. `click_ids`: all, own ones first."""

    arrival: Arrival
    standard: str | None
    own: Mapping[str, str]
    click_ids: Sequence[str]


def _named(arrivals: Sequence[Waiting], places: Sequence[int], snapshot: Snapshot) -> dict[int, Named]:
    """Those of the arrivals that stand at these places, by place."""
    named: dict[int, Named] = {}
    if not places:
        return named
    reading = snapshot.reading(None)
    for place, arrival in zip(places, read_all([arrivals[place] for place in places]), strict=True):
        standard, own = found = reading.click_ids(arrival.sent)
        named[place] = Named(arrival, standard, own, all_click_ids(found))
    return named


def _unpacked(packed: bytes | None) -> Click | None:
    return None if packed is None else unpack_click(packed)


def choose_click_id(
    own: Mapping[str, str], standard: str | None, clicks: Mapping[str, Click | None], snapshot: Snapshot
) -> str | None:
    """The click_id under the name that the click's own advertiser uses; else the one under a standard name."""
    for name, click_id in own.items():
        if click_id not in clicks:
            return click_id  # it cannot be told yet
        advertiser = advertiser_of(clicks[click_id], snapshot)
        if advertiser is not None and advertiser.aliases.get(name) == "click_id":
            return click_id
    return standard if standard is not None else next(iter(own.values()))


def advertiser_of(click: Click | None, snapshot: Snapshot) -> Advertiser | None:
    """Whose campaign was clicked."""
    campaign = snapshot.campaigns.get(click.campaign_id) if click else None
    return campaign.advertiser if campaign else None


def all_click_ids(named: tuple[str | None, Mapping[str, str]]) -> list[str]:
    """Each click_id that `Reading.click_ids` found, those under own names first."""
    standard, own = named
    return [*own.values(), *([] if standard is None else [standard])]


def decide_arrival(
    arrival: Arrival, click_id: str | None, click: Click | None, snapshot: Snapshot, rules: Rules
) -> Decision:
    """The decision on an arrival whose click_id is chosen and whose click is known, or known to be none."""
    postback = read_postback(arrival, click_id, click, snapshot)
    signed = signature_of(arrival, click, snapshot)
    return decide(arrival.receipt, postback, click, snapshot, rules, signed=signed, proven_for=arrival.proven_for)


def read_postback(arrival: Arrival, click_id: str | None, click: Click | None, snapshot: Snapshot) -> Postback:
    """What the arrival says, with its chosen click_id, under the names that the click's advertiser uses."""
    postback = snapshot.reading(advertiser_of(click, snapshot)).read(arrival.sent)
    if arrival.fault is not None:
        return replace(postback, fault=arrival.fault)
    if arrival.idempotency_key is not None and postback.event_id is None:
        postback = replace(postback, event_id=arrival.idempotency_key)
    if click_id is None or click_id == postback.click_id:
        return postback
    fault = None if postback.fault == NO_CLICK_ID else postback.fault
    return replace(postback, click_id=click_id, fault=fault)


def signature_of(arrival: Arrival, click: Click | None, snapshot: Snapshot) -> Signed | None:
    """What the arrival is signed with, in the header or in parameters, if its advertiser asks for a signature."""
    advertiser = advertiser_of(click, snapshot)
    if advertiser is None or not advertiser.signing_keys:
        return None
    return arrival.signed or signed_parameters(pairs_of(arrival.sent), arrival.idempotency_key)


def entry_of(decision: Decision) -> Entry:
    """The decision as the queue takes it."""
    record, claim = decision.record, decision.claim
    # The token is its own id's random end: a claim that is repeated, from the spool too, is known as its own.
    value = decision.receipt.postback_id[-TOKEN_BYTES:] + decision.fact
    field = claim.field.encode() if claim and claim.field else b""
    return Entry(record.click_id or "", field, value, decision.expires_ms, decision.kind.encode(), encode(record))


def is_forbidden(decision: Decision) -> bool:
    """Whether the sender did not prove to be the advertiser."""
    return decision.refusal is not None and decision.refusal.reason in _FORBIDDEN


def outcome_of(decision: Decision, verdict: Verdict) -> Outcome:
    """What is answered once the queue has, or has not, taken the decision."""
    if verdict is _UNAVAILABLE:
        return AWAY
    if verdict is _FULL:
        return UNAVAILABLE
    profile = decision.advertiser.profile if decision.advertiser else _BY_DEFAULT
    refusal = decision.refusal
    if decision.kind is _PARKED:
        return PARKED
    if refusal is not None:
        result = Result.INVALID if is_forbidden(decision) else Result.REJECTED
        return Outcome(result, None, refusal.reason, refusal.detail, profile)
    return Outcome(_RESULTS[verdict], decision.record.conversion_id, None, None, profile)
