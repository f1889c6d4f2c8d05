"""`postback replay`: logged rejections, decided again after the catalog was put right."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dedup.caps import CapCounters
from dedup.client import connect as connect_redis
from dedup.durability import Durability, time_limit_s
from dedup.port import QueueUnavailableError
from dedup.redis import RedisDeduplicator
from ingest.app import expiry, now_ms, rules_of
from ingest.cap_gate import CapGate
from ingest.cap_recount import CapRecount
from ingest.catalog import Snapshot
from ingest.catalog_rows import load_snapshot
from ingest.click_source import ClickSource
from ingest.commands.output import coloured, console, table
from ingest.commands.session import CommandError, login_name, open_postgres, prepared
from ingest.config import Config
from ingest.engines import EngineUrls
from ingest.metrics import Metrics
from ingest.money import format_micros
from ingest.observers import CapMetrics, RecorderMetrics
from ingest.reasons import Reason
from ingest.recorder import Recorder
from ingest.replay import PROVEN, UNPROVEN, Redecided, Replay, Verdict
from ingest.stored_clicks import StoredClicks
from ingest.vault import ensure_vault
from storage.postgres import Pool, close, open_pool
from storage.replays import Wanted, count_rejections, stream_rejections

_WHY_NOT: Final = {
    Reason.BAD_TOKEN: "tokens are never stored: the sender has to send these again",
    Reason.BAD_SIGNATURE: "signatures are never stored: the sender has to send these again",
    Reason.BAD_PARAMETER: "what was wrong with these was cut or left out in the log: the sender has to send them again",
}
_EXPLAINED: Final = {
    Verdict.SENT_AGAIN: "sent again: each one of its goal counts, and one like it was counted later; left as it is",
    Verdict.INCOMPLETE: "incomplete: something that may count was not logged while the advertiser was not known; left",
    Verdict.UNAVAILABLE: "unavailable: Redis did not take it; run the same command again",
}


class _Report:
    """What becomes of them, and the money of what is counted."""

    def __init__(self) -> None:
        self.verdicts: Counter[tuple[str, Verdict, str]] = Counter()
        self.counted: Counter[tuple[int, str]] = Counter()
        self.revenue_micros: Counter[tuple[int, str]] = Counter()
        self.payout_micros: Counter[tuple[int, str]] = Counter()

    def add(self, decided: Sequence[Redecided]) -> None:
        for one in decided:
            self.verdicts[one.row.reason, one.verdict, one.reason or ""] += 1
            record = one.decision.record
            if one.verdict is Verdict.ACCEPTED and record.campaign_id is not None:
                key = (record.campaign_id, record.currency or "")
                self.counted[key] += 1
                self.revenue_micros[key] += record.revenue_micros or 0
                self.payout_micros[key] += record.payout_micros or 0

    def facts(self, *, is_dry: bool) -> dict[str, object]:
        """For machines."""
        return {
            "dry_run": is_dry,
            "postbacks": [
                {"was": was, "becomes": verdict, "reason": reason or None, "count": count}
                for (was, verdict, reason), count in sorted(self.verdicts.items())
            ],
            "accepted": [
                {
                    "campaign_id": campaign_id,
                    "currency": currency,
                    "conversions": count,
                    "revenue": format_micros(self.revenue_micros[campaign_id, currency]),
                    "payout": format_micros(self.payout_micros[campaign_id, currency]),
                }
                for (campaign_id, currency), count in sorted(self.counted.items())
            ],
        }

    def show(self, snapshot: Snapshot, *, is_dry: bool) -> None:
        """For people."""
        out = console()
        if not self.verdicts:
            out.print("no such rejections, or all were replayed before")
            return
        rows = [
            (was, coloured(f"{verdict}"), reason, f"{count:,}")
            for (was, verdict, reason), count in sorted(self.verdicts.items())
        ]
        became = "would become" if is_dry else "became"
        out.print(table(("was", became, "reason", "postbacks"), rows, right=("postbacks",)))
        if self.counted:
            money = [
                (
                    f"{campaign_id} {snapshot.campaigns[campaign_id].name}",
                    currency,
                    f"{count:,}",
                    f"+{format_micros(self.revenue_micros[campaign_id, currency])}",
                    f"+{format_micros(self.payout_micros[campaign_id, currency])}",
                )
                for (campaign_id, currency), count in sorted(self.counted.items())
            ]
            numbers = ("conversions", "revenue", "payout")
            out.print(table(("campaign", "currency", *numbers), money, right=numbers))
        met = {verdict for _, verdict, _ in self.verdicts}
        for verdict in (verdict for verdict in Verdict if verdict in met and verdict in _EXPLAINED):
            out.print(_EXPLAINED[verdict])
        campaigns = [snapshot.campaigns[campaign_id] for campaign_id, _ in self.counted]
        if any(goal.caps for campaign in campaigns for goal in campaign.goals.values()):
            out.print("there are caps: what is over one is counted as the cap says, which these sums do not show")
        if is_dry:
            out.print("nothing was written; the same without --dry-run does it")


async def replay(config: Config, wanted: Wanted, made_by: str | None, *, is_dry: bool, as_json: bool) -> int:
    """Decide them again and, unless it `is_dry`, record them. The exit status: 1 if Redis did not take some."""
    _check(wanted)
    report = _Report()
    async with prepared(config) as urls:
        pool = await open_pool(urls.postgres_dsn, 2)
        try:
            async with pool.acquire() as connection:
                vault = await asyncio.to_thread(ensure_vault, config.secret_key_path)
                snapshot = await load_snapshot(connection, vault)
            await _run(config, urls, pool, snapshot, wanted, None if is_dry else made_by or login_name(), report)
        except QueueUnavailableError as error:
            raise CommandError(f"Redis: {error}; what was done so far is kept, run the same command again") from None
        finally:
            await close(pool)
    if as_json:
        console().print(json.dumps(report.facts(is_dry=is_dry), ensure_ascii=False), soft_wrap=True)
    else:
        report.show(snapshot, is_dry=is_dry)
    return 1 if any(verdict is Verdict.UNAVAILABLE for _, verdict, _ in report.verdicts) else 0


async def _run(
    config: Config,
    urls: EngineUrls,
    pool: Pool,
    snapshot: Snapshot,
    wanted: Wanted,
    made_by: str | None,
    report: _Report,
) -> None:
    """`made_by` None: nothing is written."""
    durability = Durability(config.redis.ack)
    async with AsyncExitStack() as stack:
        redis = connect_redis(urls.redis_url, timeout_s=time_limit_s(durability))
        stack.push_async_callback(redis.aclose)
        deduplicator = RedisDeduplicator(
            redis,
            partitions=config.redis.partitions,
            max_backlog=config.redis.max_backlog,
            durability=durability,
        )
        rules = rules_of(config)
        clicks = ClickSource(
            deduplicator, StoredClicks(pool, now_ms).lookup, expires_ms=expiry(lambda: snapshot, rules)
        )
        metrics = Metrics()
        counters = CapCounters(redis, durability=durability)
        recount = CapRecount(counters, redis, pool, partitions=config.redis.partitions)
        caps = CapGate(counters, recount.ensure, CapMetrics(metrics))
        stack.push_async_callback(caps.close)
        recorder = Recorder(deduplicator, clicks, lambda: snapshot, rules, RecorderMetrics(metrics), caps=caps)
        again = Replay(snapshot, rules, pool, deduplicator.claimed, wanted.campaign_id)
        connection = await stack.enter_async_context(open_postgres(urls.postgres_dsn))
        progress = stack.enter_context(_progress())
        task = progress.add_task("rejections", total=await count_rejections(connection, wanted))
        async for rows in stream_rejections(connection, wanted):
            decided = await again.decide(rows)
            if made_by is not None:
                decided = await again.record(decided, recorder.record, made_by)
            report.add(decided)
            progress.advance(task, len(rows))


def _check(wanted: Wanted) -> None:
    known = PROVEN | UNPROVEN
    for reason in wanted.reasons:
        if reason in set(Reason) and (why := _WHY_NOT.get(Reason(reason))):
            raise CommandError(f"--reason {reason}: {why}")
        if reason not in known:
            raise CommandError(f"--reason {reason}: expected one of {', '.join(sorted(known))}")
    if wanted.when.since >= wanted.when.until:
        raise CommandError("--since must be before --until")


def _progress() -> Progress:
    err = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )
