"""Logged rejections, decided again: on the catalog of now, by the time they were received."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from ingest.arrival import Arrival, Receipt
from ingest.catalog import Snapshot
from ingest.clicks import Click
from ingest.decide import Decision, Rules
from ingest.macros import is_macro
from ingest.outcome import Outcome, Result
from ingest.reasons import Reason
from ingest.recorder import all_click_ids, choose_click_id, decide_arrival
from ingest.text import REPLACEMENT
from ingest.wire import COUNTS, STANDARD_ALIASES, Pairs
from storage.clicks import fetch_clicks
from storage.postgres import Pool, borrowed
from storage.replays import LoggedRejection, NewReplay, Stored, Suspect, add_replays, sent_again, stored_conversions

PROVEN: Final = frozenset(
    {
        Reason.CAMPAIGN_INACTIVE,
        Reason.CLICK_EXPIRED,
        Reason.CLICK_TOO_FRESH,
        Reason.UNKNOWN_GOAL,
        Reason.GOAL_INACTIVE,
        Reason.OUTSIDE_COVERAGE,
        Reason.MISSING_SALE_AMOUNT,
        Reason.BAD_AMOUNT,
        Reason.BAD_CURRENCY,
        Reason.NO_EXCHANGE_RATE,
    }
)
"""Found after address, token and signature were found right."""
UNPROVEN: Final = frozenset(
    {Reason.UNKNOWN_CLICK, Reason.UNKNOWN_CAMPAIGN, Reason.MISSING_CLICK_ID, Reason.ADDRESS_NOT_ALLOWED}
)
"""Found before that: an advertiser who asks for a token or a signature is not satisfied, since neither is stored."""
LIMIT_S: Final = 30.0

_FIELDS: Final = ("sale_amount", "event_time", "status")
_OURS: Final = frozenset({"_detail", "event_id", "currency", *COUNTS, *_FIELDS})
_DROPPED: Final = COUNTS[0]

Claimed = Callable[[str, str], Awaitable[bytes | None]]
"""The fact that is claimed in a click's field. Raises QueueUnavailableError."""
Record = Callable[[Sequence[Arrival]], Awaitable[Sequence[Outcome]]]
"""Records arrivals, as `ingest.recorder` does."""


class Verdict(StrEnum):
    """What becomes of a rejection. `sent again`: each one counts, and the like was counted later, by a postback of its
    own. `incomplete`: not all that was sent is in the log. Neither is touched."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    SENT_AGAIN = "sent again"
    INCOMPLETE = "incomplete"
    UNAVAILABLE = "unavailable"


_OUTCOMES: Final = {
    Result.ACCEPTED: Verdict.ACCEPTED,
    Result.DUPLICATE: Verdict.DUPLICATE,
    Result.CONFLICT: Verdict.CONFLICT,
    Result.REJECTED: Verdict.REJECTED,
    Result.INVALID: Verdict.REJECTED,
}
_RECORDED: Final = frozenset({Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.CONFLICT})
_SETTLED: Final = frozenset({*_RECORDED, Verdict.REJECTED})


class Redecided(msgspec.Struct, frozen=True):
    """A rejection and what it comes to. `is_certain`: whatever Redis may say, which forgets."""

    row: LoggedRejection
    arrival: Arrival
    decision: Decision
    verdict: Verdict
    is_certain: bool = True

    @property
    def reason(self) -> Reason | None:
        """Why it is still rejected."""
        return self.decision.refusal.reason if self.decision.refusal and self.verdict is Verdict.REJECTED else None


class Replay:
    """One run, in the order the rejections came. It counts nothing twice: a postback keeps its id, by which claims and
    conversions know it, and repeats find what was claimed or stored first."""

    def __init__(self, snapshot: Snapshot, rules: Rules, pool: Pool, claimed: Claimed, campaign_id: int | None) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._pool = pool
        self._claimed = claimed
        self._campaign_id = campaign_id
        self._seen: dict[str, bytes] = {}

    async def decide(self, rows: Sequence[LoggedRejection]) -> list[Redecided]:
        """What each would come to if it was recorded now; those that turn out to be of another campaign are left out.
        Reads, and writes nothing."""
        arrivals = [arrival_of(row) for row in rows]
        clicks = await self._clicks(arrivals)
        made = [(row, arrival, self._decide(arrival, clicks)) for row, arrival in zip(rows, arrivals, strict=True)]
        if self._campaign_id is not None:
            made = [one for one in made if one[2].record.campaign_id == self._campaign_id]
        stored, again = await self._counted(made)
        return [
            await self._judge(row, arrival, decision, stored, is_again=row.log_id in again)
            for row, arrival, decision in made
        ]

    async def record(self, decided: Sequence[Redecided], record: Record, made_by: str) -> list[Redecided]:
        """The same, with what became of them: recorded, and remembered in `replays`."""
        mine = [one for one in decided if one.verdict in _RECORDED]
        outcomes = iter(await record([one.arrival for one in mine]) if mine else ())
        done = [_told(one, next(outcomes)) if one.verdict in _RECORDED else one for one in decided]
        settled = [one for one in done if one.verdict in _SETTLED]
        async with borrowed(self._pool, LIMIT_S) as connection:
            await add_replays(connection, [_new_replay(one) for one in settled], made_by)
        return done

    async def _clicks(self, arrivals: Sequence[Arrival]) -> dict[str, Click]:
        reading = self._snapshot.reading(None)
        named: dict[str, None] = {}
        for arrival in arrivals:
            named.update(dict.fromkeys(all_click_ids(reading.click_ids(arrival.sent))))
        found = await fetch_clicks(self._pool, list(named))
        return {one.click_id: Click(one.campaign_id, one.publisher_id, one.clicked_ms, one.country) for one in found}

    def _decide(self, arrival: Arrival, clicks: Mapping[str, Click]) -> Decision:
        snapshot = self._snapshot
        click_id, own = snapshot.reading(None).click_ids(arrival.sent)
        if own:
            known = {one: clicks.get(one) for one in own.values()}
            click_id = choose_click_id(own, click_id, known, snapshot)
        click = None if click_id is None else clicks.get(click_id)
        return decide_arrival(arrival, click_id, click, snapshot, self._rules)

    async def _counted(
        self, made: Sequence[tuple[LoggedRejection, Arrival, Decision]]
    ) -> tuple[Mapping[str, Stored], set[object]]:
        """Of what would be counted: the conversions that are there, and the rows whose like was counted later."""
        ids, suspects = [], []
        for row, _, decision in made:
            record, claim = decision.record, decision.claim
            if claim is None or record.click_id is None or record.clicked_ms is None or record.goal_id is None:
                continue
            ids.append((claim.conversion_id, record.clicked_ms))
            if claim.field is None:
                fact = decision.fact.decode()
                suspects.append(
                    Suspect(row.log_id, record.click_id, record.goal_id, record.txn_id, fact, row.received_us)
                )
        async with borrowed(self._pool, LIMIT_S) as connection:
            return await stored_conversions(connection, ids), {*await sent_again(connection, suspects)}

    async def _judge(
        self,
        row: LoggedRejection,
        arrival: Arrival,
        decision: Decision,
        stored: Mapping[str, Stored],
        *,
        is_again: bool,
    ) -> Redecided:
        claim = decision.claim
        if claim is None:
            return Redecided(row, arrival, decision, Verdict.REJECTED)
        if not is_whole(row, decision, self._snapshot):
            return Redecided(row, arrival, decision, Verdict.INCOMPLETE)
        first = stored.get(claim.conversion_id)
        if first is not None:
            # Of the same time: its own, recorded by a run that came to no end.
            is_own = first.received_us == row.received_us
            return Redecided(
                row, arrival, decision, Verdict.ACCEPTED if is_own else _repeat(first.fact.encode(), decision)
            )
        if is_again:
            return Redecided(row, arrival, decision, Verdict.SENT_AGAIN)
        if claim.field is None:
            return Redecided(row, arrival, decision, Verdict.ACCEPTED, is_certain=False)
        seen = self._seen.get(claim.conversion_id)
        if seen is not None:
            return Redecided(row, arrival, decision, _repeat(seen, decision))
        held = await self._claimed(decision.record.click_id or "", claim.field)
        self._seen[claim.conversion_id] = decision.fact if held is None else held
        verdict = Verdict.ACCEPTED if held is None else _repeat(held, decision)
        return Redecided(row, arrival, decision, verdict, is_certain=False)


def arrival_of(row: LoggedRejection) -> Arrival:
    """The postback as it came, as far as the log says: all but its secrets. Names that its advertiser has of its own
    stand in params where the advertiser was not known yet, and are read by the catalog of now."""
    fields: list[tuple[str, object]] = [("click_id", row.click_id), ("goal", row.goal_value), ("txn_id", row.txn_id)]
    fields += [(name, row.params.get(name)) for name in _FIELDS]
    fields.append(("currency", _as_sent(row.params.get("currency"))))
    given: Pairs = [(name, str(value)) for name, value in fields if value is not None]
    names = {name for name, _ in given}
    # A standard name that made way for one of the advertiser's own stands in params with a value that did not count.
    others = [
        (name, str(value))
        for name, value in row.params.items()
        if name not in _OURS and STANDARD_ALIASES.get(name) not in names
    ]
    event_id = row.params.get("event_id")
    return Arrival(
        Receipt(row.log_id.bytes, row.received_us, row.remote_ip),
        [*given, *others],
        None if event_id is None else str(event_id),
        proven_for=row.advertiser_id if row.reason in PROVEN else None,
    )


def _as_sent(currency: object) -> object:
    """A spelling that is not taken for a macro: the log has it in capitals, in which it may be one."""
    if not isinstance(currency, str):
        return None
    return currency[:1].lower() + currency[1:] if is_macro(currency) else currency


def is_whole(row: LoggedRejection, decision: Decision, snapshot: Snapshot) -> bool:
    """Whether nothing is missing in the log that may count. What was left out there, or replaced, counts for nothing,
    unless the advertiser was not known then: it may have been under one of its own names."""
    if row.advertiser_id is not None or decision.advertiser is None:
        return True
    names = {name for name, field in decision.advertiser.aliases.items() if field != "security_token"}
    if names & snapshot.secret_names or (names and _DROPPED in row.params):
        return False
    return not any(REPLACEMENT in str(row.params.get(name, "")) for name in names)


def _repeat(first: bytes, decision: Decision) -> Verdict:
    return Verdict.DUPLICATE if first == decision.fact else Verdict.CONFLICT


def _told(one: Redecided, outcome: Outcome) -> Redecided:
    """With what the recorder says, unless more is known."""
    verdict = _OUTCOMES.get(outcome.result, Verdict.UNAVAILABLE)
    if verdict is not Verdict.UNAVAILABLE and one.is_certain:
        return one
    return msgspec.structs.replace(one, verdict=verdict)


def _new_replay(one: Redecided) -> NewReplay:
    return NewReplay(
        one.row.log_id, one.row.received_us, one.verdict.value, one.reason, one.decision.record.conversion_id
    )
