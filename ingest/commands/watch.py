"""`postback status --watch`: rates, latencies, what waits, and the latest rejections, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import aiohttp
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ingest.commands.figures import Figures, Scrape, read_scrape
from ingest.commands.output import coloured, console, facts, table
from ingest.commands.status import ANSWER_S, PartitionStatus, Status, look
from ingest.config import Config
from ingest.engines import running_urls
from storage.activity import Filter, PostbackEntry, fetch_latest
from storage.postgres import AWAY, PostgresError, close, open_pool

REJECTIONS: Final = 5
_OUTCOMES: Final = ("accepted", "duplicate", "conflict", "rejected")
_HISTOGRAMS: Final = (
    ("recorded in", "postback_record_seconds"),
    ("committed in", "postback_commit_seconds"),
    ("from queue to commit", "postback_commit_age_seconds"),
    ("sent to publishers in", "postback_outbound_seconds"),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """All that one view shows. `figures` None: no server has been scraped twice; `rejections` None: Postgres did not
    say."""

    status: Status
    figures: Figures | None
    rejections: Sequence[PostbackEntry] | None


def watch(config: Config, every_s: float) -> int:
    """Show it every `every_s` seconds until Ctrl-C; once, of so long, where the output is no terminal. The exit status:
    1 unless all was ready at the end."""
    status = Status()

    async def run() -> None:
        nonlocal status
        out = console()
        before = await _scrape(status := await look(config, with_hour=False))
        if not out.is_terminal:
            await asyncio.sleep(every_s)
            status, _, moment = await _next(config, before)
            out.print(view(moment))
            return
        with Live(Text("the first figures come at once …"), console=out, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(every_s)
                status, before, moment = await _next(config, before)
                live.update(view(moment), refresh=True)

    with suppress(KeyboardInterrupt):  # that is how it is ended
        asyncio.run(run())
    return 0 if status.is_ready else 1


def view(moment: Moment) -> Group:
    """As it is shown."""
    status, figures = moment.status, moment.figures
    problems = [server.problem for server in status.servers] + [status.redis_problem, status.postgres_problem]
    state = [("state", coloured("ready" if status.is_ready else "not ready"))]
    state += [("", coloured(problem)) for problem in dict.fromkeys(problems) if problem]
    parts: list[RenderableType] = [facts(state)]
    if figures is None:
        parts.append(Text("no server answers: start it with `postback serve`"))
    else:
        parts += [_rates(figures), _latencies(figures)]
    parts.append(facts(_waiting(status.queue, figures)))
    if moment.rejections:
        parts.append(_rejections(moment.rejections))
    elif moment.rejections is not None:
        parts.append(Text("no rejections in the last 30 days"))
    return Group(*parts)


def _rates(figures: Figures) -> RenderableType:
    rates = figures.rates_by("postback_outcomes_total", "outcome")
    names = [*_OUTCOMES, *sorted(rates.keys() - set(_OUTCOMES))]
    row = [f"{figures.rate('postback_received_total'):,.1f}", *(f"{rates.get(name, 0.0):,.1f}" for name in names)]
    columns = ("a second: received", *names)
    return table(columns, [row], right=columns)


def _latencies(figures: Figures) -> RenderableType:
    rows = [
        (name, *(_duration(figures.quantile(metric, share)) for share in (0.5, 0.9, 0.99)))
        for name, metric in _HISTOGRAMS
    ]
    return table(("latency", "half", "90 %", "99 %"), rows, right=("half", "90 %", "99 %"))


def _waiting(queue: Sequence[PartitionStatus], figures: Figures | None) -> list[tuple[str, str]]:
    """(what, how much)."""
    ages = [part.oldest_age_s for part in queue if part.oldest_age_s is not None]
    oldest = f", the oldest for {_duration(max(ages))}" if ages else ""
    rows = [("backlog", f"{sum(part.backlog for part in queue):,}{oldest}")]
    if figures is None:
        return rows
    resting = figures.level("postback_outbound_resting_hosts")
    spooled, drained = figures.rate("postback_spooled_total"), figures.rate("postback_drained_total")
    spool_mib = figures.level("postback_spool_bytes") / (1 << 20)
    messages = f"{figures.level('postback_outbound_waiting'):,.0f}"
    return [
        *rows,
        ("in flight", f"{figures.level('postback_in_flight'):,.0f}"),
        ("parked", f"{figures.level('postback_parked'):,.0f}"),
        ("spool", f"{spool_mib:,.1f} MiB, {spooled:,.1f} in and {drained:,.1f} out a second"),
        ("caps unknown", f"{figures.rate('postback_caps_unknown_total'):,.1f} a second"),
        ("outbound waiting", f"{messages}, {resting:,.0f} hosts rest" if resting else messages),
    ]


def _rejections(entries: Sequence[PostbackEntry]) -> RenderableType:
    rows = [
        (
            f"{entry.received_at:%Y-%m-%d %H:%M:%S}",
            Text(entry.reason or "", "red"),
            entry.campaign or "",
            entry.click_id or "",
            entry.goal_value or "",
        )
        for entry in entries
    ]
    return table(("rejected", "reason", "campaign", "click", "goal"), rows)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1_000:,.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"


async def _next(config: Config, before: Scrape | None) -> tuple[Status, Scrape | None, Moment]:
    """What is so now, and since `before`."""
    status = await look(config, with_hour=False)
    after, rejections = await asyncio.gather(_scrape(status), _latest_rejections(config, status))
    figures = Figures(before, after) if before and after else None
    return status, after, Moment(status, figures, rejections)


async def _scrape(status: Status) -> Scrape | None:
    """Of all servers that answer; None where none does."""
    texts = [text for text in await asyncio.gather(*(_metrics(one.url) for one in status.servers)) if text is not None]
    return read_scrape(time.monotonic(), texts) if texts else None


async def _metrics(url: str) -> str | None:
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/metrics") as answer:
            return await answer.text() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):  # what is wrong with it is said by its state
        return None


async def _latest_rejections(config: Config, status: Status) -> Sequence[PostbackEntry] | None:
    urls = running_urls(config)
    if urls is None or status.postgres_problem is not None:
        return None
    try:
        pool = await open_pool(urls.postgres_dsn, 1)
        try:
            return await fetch_latest(pool, REJECTIONS, Filter(outcome="rejected"))
        finally:
            await close(pool)
    except (*AWAY, PostgresError):  # the next look says what is wrong with it
        return None
