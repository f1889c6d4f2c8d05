"""`postback simulate`: the whole decision for one postback, step by step. Nothing is claimed, cached or logged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zlib import crc32

import msgspec

from dedup.port import TOKEN_BYTES, Verdict
from dedup.scripts import Client
from ingest import money
from ingest.answers import Answer, answer
from ingest.app import rules_of
from ingest.catalog import Snapshot
from ingest.catalog_rows import load_snapshot
from ingest.clicks import Click, unpack_click
from ingest.commands.output import coloured, console, facts, table
from ingest.commands.session import CommandError, open_redis, prepared
from ingest.config import Config
from ingest.decide import Decision, decide
from ingest.outcome import Outcome, Result
from ingest.receiver import new_receipt
from ingest.recorder import (
    Arrival,
    choose_click_id,
    outcome_of,
    read_postback,
    signature_of,
)
from ingest.vault import ensure_vault
from ingest.wire import Postback, read_query
from storage.clicks import fetch_clicks
from storage.postgres import Pool, close, open_pool
from storage.records import Record

_CLAIMED: Final = """
SELECT coalesce(trim_scale(coalesce(original_amount, sale_amount)) || coalesce(original_currency, currency), '')
FROM conversions
WHERE conversion_id = $1 AND clicked_at = $2
"""
_COLUMNS: Final = {
    "received_us": "received_at",
    "clicked_ms": "clicked_at",
    "event_ms": "event_at",
    "sale_micros": "sale_amount",
    "revenue_micros": "revenue",
    "payout_micros": "payout",
    "original_micros": "original_amount",
    "exchange_rate_nanos": "exchange_rate",
}
"""What a record's fields are called in the tables."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a decision and what it found."""

    step: str
    found: str


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would become of a postback. `verdict`: accepted, duplicate, conflict or rejected. `record` is what would be
    stored, amounts as decimals in texts."""

    verdict: str
    conversion_id: str | None
    reason: str | None
    detail: str | None
    steps: list[Step]
    record: dict[str, object] = field(default_factory=dict)


async def show_simulation(config: Config, text: str, *, as_json: bool) -> None:
    """Decide `text`, a query or a whole URL, as if it came in now, and print how."""
    async with prepared(config) as urls, open_redis(urls.redis_url) as redis:
        pool = await open_pool(urls.postgres_dsn, 1)
        try:
            made = await Simulator(config, redis, pool).run(text)
        finally:
            await close(pool)
    if as_json:
        console().print(json.dumps(asdict(made), ensure_ascii=False), soft_wrap=True)
    else:
        _show(made)


class Simulator:
    """Decides as a receiver does, with clicks and claims that are only looked at."""

    def __init__(self, config: Config, redis: Client, pool: Pool) -> None:
        self._config = config
        self._redis = redis
        self._pool = pool
        self._steps: list[Step] = []

    async def run(self, text: str) -> Simulation:
        """Raises CommandError where `text` holds nothing, and what the servers answer."""
        pairs = read_query(text.strip().rpartition("?")[2] if "://" in text else text.strip().removeprefix("?"))
        if not pairs:
            raise CommandError("expected a postback's parameters, such as 'click_id=demo-us-1&goal=install'")
        async with self._pool.acquire() as connection:
            vault = await asyncio.to_thread(ensure_vault, self._config.secret_key_path)
            snapshot = await load_snapshot(connection, vault)
        arrival = Arrival(new_receipt(None), pairs)
        click_id, own = snapshot.reading(None).click_ids(pairs)
        named = [*own.values(), *([] if click_id is None else [click_id])]
        clicks = {click_id: await self._click(click_id) for click_id in dict.fromkeys(named)}
        if own:
            click_id = choose_click_id(own, click_id, clicks, snapshot)
        click = None if click_id is None else clicks[click_id]
        postback = read_postback(arrival, click_id, click, snapshot)
        self._trace("postback", _said(postback))
        if postback.security_token is not None and _has_tokens(click, snapshot):
            self._trace("token", "given")
        signed = signature_of(arrival, click, snapshot)
        decision = decide(arrival.receipt, postback, click, snapshot, rules_of(self._config), self._trace, signed)
        outcome = outcome_of(decision, await self._claim(decision))
        self._trace("answer", _answer(answer(outcome)))
        return Simulation(
            verdict=_verdict(outcome),
            conversion_id=None if outcome.conversion_id is None else str(outcome.conversion_id),
            reason=_text(outcome.reason or decision.record.reason),
            detail=outcome.detail,
            steps=self._steps,
            record=record_columns(decision.record),
        )

    def _trace(self, step: str, found: str) -> None:
        self._steps.append(Step(step, found))

    async def _click(self, click_id: str) -> Click | None:
        packed = await self._read(click_id, ".")
        if packed is not None:
            self._trace("look-up", "the click is in Redis")
            return unpack_click(packed)
        for stored in await fetch_clicks(self._pool, [click_id]):
            self._trace("look-up", "the click is in Postgres; a receiver would put it into Redis")
            return Click(stored.campaign_id, stored.publisher_id, stored.clicked_ms, stored.country)
        self._trace("look-up", "neither Redis nor Postgres knows the click")
        return None

    async def _claim(self, decision: Decision) -> Verdict:
        """Whether the decision's claim is free, in Redis and in the table that is the second lock."""
        claim, click_ms = decision.claim, decision.record.clicked_ms
        if claim is None or claim.field is None or click_ms is None:
            return Verdict.ACCEPTED
        held = await self._read(decision.record.click_id or "", claim.field)
        if held is not None:
            return self._compare("yes", held[TOKEN_BYTES:].decode(), decision.fact.decode())
        stored = await self._stored(claim.conversion_id, click_ms)
        if stored is not None:
            # The sender would be told `accepted`; the writer finds the row, and logs this one as a repeat.
            return self._compare("Redis has forgotten it, but the conversion is stored", stored, decision.fact.decode())
        self._trace("claimed", "no: this one would be counted")
        return Verdict.ACCEPTED

    def _compare(self, how: str, before: str, now: str) -> Verdict:
        if before == now:
            self._trace("claimed", f"{how}: with the same amount ({now or 'none'}), not counted again")
            return Verdict.DUPLICATE
        self._trace("claimed", f"{how}: with {before or 'no amount'}, not with {now or 'none'}, not counted again")
        return Verdict.CONFLICT

    async def _read(self, click_id: str, name: str) -> bytes | None:
        partition = crc32(click_id.encode()) % self._config.redis.partitions
        value = await self._redis.hget(f"pb:{{{partition}}}:click:{click_id}", name)
        assert not isinstance(value, str)  # the client answers in bytes
        return value

    async def _stored(self, conversion_id: str, clicked_ms: int) -> str | None:
        clicked_at = _EPOCH + timedelta(milliseconds=clicked_ms)
        fact: str | None = await self._pool.fetchval(_CLAIMED, conversion_id, clicked_at)
        return fact


def record_columns(record: Record) -> dict[str, object]:
    """The record as a row: names of the tables' columns, amounts as decimals, times as RFC 3339."""
    return {
        _COLUMNS.get(name, name): _column(name, value)
        for name, value in msgspec.structs.asdict(record).items()
        if name not in {"log_id", "remote_ip"}
    }


def _column(name: str, value: object) -> object:
    if isinstance(value, int):
        if name.endswith("_micros"):
            return money.format_micros(value)
        if name.endswith("_nanos"):
            return money.format_rate_nanos(value)
        if name.endswith("_us"):
            return (_EPOCH + timedelta(microseconds=value)).isoformat()
        if name.endswith("_ms"):
            return (_EPOCH + timedelta(milliseconds=value)).isoformat(timespec="milliseconds")
        return value
    return value if value is None or isinstance(value, dict) else str(value)


def _said(postback: Postback) -> str:
    names = ("click_id", "goal", "txn_id", "sale_amount", "currency", "event_id", "status")
    said = [f"{name} = {value}" for name in names if (value := getattr(postback, name)) is not None]
    if postback.event_ms is not None:
        said.append(f"event_time = {_column('event_ms', postback.event_ms)}")
    said += [f"param {name} = {value}" for name, value in postback.params.items()]
    return ", ".join(said) or "nothing that is known"


def _has_tokens(click: Click | None, snapshot: Snapshot) -> bool:
    campaign = snapshot.campaigns.get(click.campaign_id) if click else None
    return campaign is not None and bool(campaign.advertiser.token_digests)


def _verdict(outcome: Outcome) -> str:
    """A refusal is `rejected` in the log, also where the sender is told 403."""
    return Result.REJECTED.value if outcome.result is Result.INVALID else outcome.result.value


def _answer(said: Answer) -> str:
    if said.content_type.startswith("image/"):
        return f"{said.status}, {said.content_type} of {len(said.body)} bytes"
    return f"{said.status} {said.body.decode()}".rstrip()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _show(made: Simulation) -> None:
    out = console()
    out.print(table(("step", "found"), [(step.step, step.found) for step in made.steps]))
    summary = [("would be", coloured(made.verdict))]
    summary += [
        (name, coloured(value))
        for name, value in (("conversion", made.conversion_id), ("reason", made.reason), ("detail", made.detail))
        if value is not None
    ]
    out.print(facts(summary))
