"""The composition root: what each process is made of. Nothing else builds anything."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog
from redis.asyncio import Redis

from dedup.caps import CapCounters
from dedup.client import connect as connect_redis
from dedup.durability import Durability, time_limit_s
from dedup.port import Deduplicator
from dedup.redis import RedisDeduplicator
from dedup.scripts import Client
from dedup.wire import Wire
from ingest.addresses import parse_networks
from ingest.admin import AdminKey, ensure_admin_key
from ingest.advertiser_duty import AdvertiserDuty
from ingest.api.handlers import CatalogApi
from ingest.api_keys import KeyRing, stored_keys
from ingest.cap_duty import CapDuty
from ingest.cap_gate import CapGate
from ingest.cap_recount import CapRecount
from ingest.catalog import Snapshot
from ingest.catalog_feed import CatalogFeed
from ingest.catalog_kept import kept_path
from ingest.catalog_service import CatalogService
from ingest.click_api import ClickApi, Registered
from ingest.click_source import ClickSource
from ingest.clicks import Click
from ingest.compiled import NOT_BUILT
from ingest.config import Config
from ingest.connections import Guard, connection_limit
from ingest.decide import Rules
from ingest.http_server import bind, receiver_app, start_server
from ingest.intake import Intake
from ingest.metrics import Metrics
from ingest.observers import CapMetrics, IntakeMetrics, RecorderMetrics, UnparkingMetrics, WriterMetrics
from ingest.ops import Operations
from ingest.orders import Orders
from ingest.outbound.delivery import Delivery
from ingest.outbound.networks import Policy, parse_policy
from ingest.outbound.observer import OutboundMetrics
from ingest.outbound.sender import Outbound, Pace
from ingest.outbound.signing import OUTBOUND
from ingest.parking import Parking
from ingest.plain import MakePlain, NothingPlain, plain_maker
from ingest.plain_requests import PlainRequests
from ingest.receipts import new_receipt
from ingest.receiver import Receiver
from ingest.recorder import Recorder
from ingest.short_cut import fast_path, stamp
from ingest.spool import Spool
from ingest.stored_clicks import StoredClicks
from ingest.unparking import Unparking
from ingest.vault import Vault, ensure_vault
from ingest.writer_duties import WriterDuties
from storage.postgres import Pool, open_pool
from storage.postgres import close as close_postgres
from storage.retention import Keep
from storage.rows import NewClick
from storage.writer import Writer, WriterObserver

if TYPE_CHECKING:
    from ingest.console.handlers import Console
    from ingest.traced import Traced

MAX_WAITING = 10_000
"""Postbacks that may wait for their turn in one receiver; more are refused."""
MAX_BODY_BYTES = 256 << 20
"""Bodies that one receiver holds at once; more are refused."""
EDITING_CONNECTIONS = 2
"""To Postgres, of each receiver, for those who look at the catalog and change it."""
LOOKING_CONNECTIONS = 2
"""To Postgres, of each receiver, for what the console shows beside the catalog."""
FINISH_S = 30.0
"""How long requests under way may take once a drain began."""

log = structlog.get_logger()


def now_ms() -> int:
    """The clock: epoch ms."""
    return time.time_ns() // 1_000_000


def rules_of(config: Config) -> Rules:
    """The configured rules on clicks and addresses."""
    clicks = config.clicks
    return Rules(clicks.window, clicks.min_age, clicks.park_unknown, config.privacy.addresses)


def keep_of(config: Config) -> Keep:
    """How long rows are kept."""
    kept = config.retention
    return Keep(kept.postback_log, kept.clicks, kept.conversions, kept.outbound_messages, config.clicks.window)


def traced_of(orders: Orders) -> Traced | None:
    """What traces the parts of a process; None where nothing is traced, and then OpenTelemetry is not even imported."""
    config = orders.config
    if not config.tracing.is_on:
        return None
    from ingest.traced import Traced  # noqa: PLC0415  an extra
    from ingest.tracing import open_tracing  # noqa: PLC0415  as above

    return Traced(open_tracing(config.tracing, orders.role, f"{consumer_name(config, orders.index)}-{orders.role}"))


def plain_of(config: Config) -> MakePlain:
    """What decides plain postbacks; the log says which way it went."""
    if not config.server.fast_path:
        log.info("compiled code not used", why="server.fast_path is false")
        return NothingPlain
    make_plain = plain_maker()
    if make_plain is NothingPlain:
        log.info("compiled code not used", why=NOT_BUILT)
    else:
        log.info("compiled code in use")
    return make_plain


def expiry(snapshot: Callable[[], Snapshot], rules: Rules) -> Callable[[Click], int]:
    """When a click stops to convert, epoch ms."""

    def expires_ms(click: Click) -> int:
        campaign = snapshot().campaigns.get(click.campaign_id)
        window_ms = campaign.window_ms if campaign and campaign.window_ms is not None else rules.window_ms
        return click.clicked_ms + window_ms

    return expires_ms


async def run_receiver(orders: Orders, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Serve until `stop`, then drain."""
    config = orders.config
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        traced = traced_of(orders)
        if traced is not None:
            stack.push_async_callback(traced.close)
        durability = Durability(config.redis.ack)
        redis = connect_redis(orders.redis_url, timeout_s=time_limit_s(durability))
        stack.push_async_callback(redis.aclose)
        wire = Wire(redis) if isinstance(redis, Redis) else None  # a cluster has a way of its own
        if wire is not None:
            stack.push_async_callback(wire.aclose)
        pool = await open_pool(orders.postgres_dsn, config.postgres.pool)
        stack.push_async_callback(close_postgres, pool)
        vault = ensure_vault(config.secret_key_path)
        feed = CatalogFeed(orders.postgres_dsn, kept_path(config.data_path), vault=vault)
        await feed.start()
        stack.push_async_callback(feed.close)

        rules = rules_of(config)
        deduplicator = RedisDeduplicator(
            redis,
            partitions=config.redis.partitions,
            max_backlog=config.redis.max_backlog,
            durability=durability,
            wire=wire,
        )
        port: Deduplicator = deduplicator if traced is None else traced.deduplicator(deduplicator)
        stored = StoredClicks(pool, now_ms)
        lookup = stored.lookup if traced is None else traced.lookup(stored.lookup)
        clicks = ClickSource(port, lookup, expires_ms=expiry(lambda: feed.snapshot, rules))
        parking = Parking(vault, rules.park_unknown_ms)
        counters = CapCounters(redis, durability=durability)
        recount = CapRecount(counters, redis, pool, partitions=config.redis.partitions)
        caps = CapGate(counters, recount.ensure, CapMetrics(metrics))
        stack.push_async_callback(caps.close)
        recorder = Recorder(
            port,
            clicks,
            lambda: feed.snapshot,
            rules,
            RecorderMetrics(metrics),
            parking.park,
            caps,
            plain_of(config),
        )
        unparking = Unparking(parking, recorder, clicks, pool, UnparkingMetrics(metrics))
        spool = Spool(config.spool_path, max_bytes=config.spool.max_bytes)

        async def can_claim() -> bool:
            return await deduplicator.problem() is None

        intake = Intake(recorder, spool, config.spool_path, can_claim, IntakeMetrics(metrics))
        trusted = parse_networks(config.server.trusted_proxies)
        receiver = Receiver(
            intake.record if traced is None else traced.record(intake.record),
            metrics,
            trusted_proxies=trusted,
            body_timeout_s=config.server.body_timeout / 1000,
            max_body=config.server.max_body,
            max_waiting=MAX_WAITING,
            max_body_bytes=MAX_BODY_BYTES,
            stamp=stamp() if config.server.fast_path else new_receipt,
        )
        drained = asyncio.Event()
        working = [asyncio.create_task(intake.drain(drained)), asyncio.create_task(unparking.run(drained))]
        for task in working:
            # It ends before its time only by a defect; then this process ends in order, and another takes its place.
            task.add_done_callback(lambda _: stop.set())

        async def stop_draining() -> None:
            drained.set()
            unparking.wake()
            await asyncio.gather(*working)

        stack.push_async_callback(stop_draining)
        stack.push_async_callback(receiver.close)
        key = AdminKey(ensure_admin_key(config.admin_key_path))

        async def register(new: Sequence[NewClick]) -> Mapping[str, Registered]:
            registered = await stored.register(new)
            unparking.wake()
            return registered

        # Of its own: those who edit the catalog never keep a click waiting for a connection.
        editing = await open_pool(orders.postgres_dsn, EDITING_CONNECTIONS)
        stack.push_async_callback(close_postgres, editing)
        service = CatalogService(editing, vault)
        keys = KeyRing(key, stored_keys(pool), time.monotonic)
        click_api = ClickApi(receiver, register, clicks, deduplicator, keys, metrics, now_ms)
        catalog_api = CatalogApi(service, keys, receiver.read_body, config.server.paths[0])
        console = None
        if config.admin.console:
            looking = await open_pool(orders.postgres_dsn, LOOKING_CONNECTIONS)
            stack.push_async_callback(close_postgres, looking)
            console = await open_console(
                config, service, keys, vault, looking, deduplicator, counters, redis, lambda: feed.snapshot, receiver
            )
        operations = Operations(metrics, intake.problem)
        app = receiver_app(
            receiver,
            click_api,
            catalog_api,
            operations,
            console,
            paths=config.server.paths,
            max_body=config.server.max_body,
        )
        fast = fast_path(PlainRequests(config.server.paths, trusted), receiver.submit)
        server = await start_server(
            app,
            bind(config.server.host, orders.port, shared=True),
            guard_of(config, metrics),
            keepalive_s=config.server.keepalive / 1000,
            finish_s=FINISH_S,
            fast=fast if config.server.fast_path else None,
        )
        ready()
        await stop.wait()
        operations.draining = True
        fast.is_open = False
        log.info("draining")
        if console is not None:
            console.close()  # what streams would keep the drain waiting
        # Load balancers see readyz fail and send no more; until then everything is served.
        await asyncio.sleep(config.server.drain / 1000)
        await server.cleanup()
    log.info("stopped")


async def open_console(
    config: Config,
    service: CatalogService,
    keys: KeyRing,
    vault: Vault,
    pool: Pool,
    deduplicator: RedisDeduplicator,
    counters: CapCounters,
    redis: Client,
    snapshot: Callable[[], Snapshot],
    receiver: Receiver,
) -> Console:
    """The console, over what a receiver has."""
    from ingest.console.assembly import build_console  # noqa: PLC0415  commands start without its templates
    from ingest.console.pages import Pages  # noqa: PLC0415  as above

    return build_console(
        await asyncio.to_thread(Pages),
        service,
        keys,
        vault,
        pool,
        claims=deduplicator,
        caps=counters,
        snapshot=snapshot,
        rules=rules_of(config),
        redis=redis,
        partitions=config.redis.partitions,
        spool=config.spool_path,
        path=config.server.paths[0],
        trusted=parse_networks(config.server.trusted_proxies),
        read_body=receiver.read_body,
    )


def guard_of(config: Config, metrics: Metrics) -> Guard:
    """What guards the connections of a process that listens."""
    return Guard(
        metrics.counter("postback_connections_cut"),
        max_connections=connection_limit(config.server.max_connections),
        header_timeout_s=config.server.header_timeout / 1000,
    )


def policy_of(config: Config) -> Policy:
    """Where publishers' postbacks may go."""
    outbound = config.outbound
    return parse_policy(allow_http=outbound.allow_http, networks=outbound.allow_networks, ports=outbound.ports)


def delivery_of(config: Config) -> Delivery:
    """What sends one. The vault is opened when something is signed: a writer of no signed ones needs no key file."""

    def open_secret(sealed: str) -> str:
        return ensure_vault(config.secret_key_path).open(sealed, OUTBOUND)

    timeout_s = config.outbound.timeout / 1000
    return Delivery(policy_of(config), open_secret, timeout_s=timeout_s, connections=config.outbound.at_once)


def outbound_of(config: Config, pool: Pool, delivery: Delivery, metrics: Metrics) -> Outbound:
    """The sender of a writer process."""
    pace = Pace(
        timeout_s=config.outbound.timeout / 1000,
        give_up_ms=config.outbound.give_up,
        at_once=config.outbound.at_once,
        at_once_each=config.outbound.at_once_each,
    )
    return Outbound(pool, delivery.attempt, pace, OutboundMetrics(metrics))


async def run_writer(orders: Orders, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Move the queue into Postgres until `stop`."""
    config = orders.config
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        redis = connect_redis(orders.redis_url, timeout_s=5.0, connections=config.redis.partitions * 2 + 4, retries=0)
        stack.push_async_callback(redis.aclose)
        pool = await open_pool(orders.postgres_dsn, config.postgres.pool)
        stack.push_async_callback(close_postgres, pool)
        observer: WriterObserver = WriterMetrics(metrics)
        traced = traced_of(orders)
        if traced is not None:
            stack.push_async_callback(traced.close)
            observer = traced.writer(observer)
        writer = Writer(
            redis,
            pool,
            partitions=config.redis.partitions,
            # The same after a restart: what was left pending is then taken up at once.
            consumer=consumer_name(config, orders.index),
            observer=observer,
            batch_rows=config.writer.batch_rows,
            batch_age_ms=config.writer.batch_age,
        )
        duties = WriterDuties(redis, pool, metrics, partitions=config.redis.partitions, keep=keep_of(config))
        recount = CapRecount(CapCounters(redis), redis, pool, partitions=config.redis.partitions)
        working = [
            asyncio.create_task(duties.run(stop)),
            asyncio.create_task(CapDuty(recount, pool, metrics).run(stop)),
            asyncio.create_task(AdvertiserDuty(pool, metrics).run(stop)),
        ]
        delivery = await stack.enter_async_context(delivery_of(config))
        sending = asyncio.create_task(outbound_of(config, pool, delivery, metrics).run(stop))
        sending.add_done_callback(lambda _: stop.set())  # before its time only by a defect: then this process ends
        ready()
        await writer.run(stop)
        for duty in working:
            duty.cancel()  # it may be waiting for a Postgres that hangs
        await asyncio.wait([*working, sending])
    log.info("stopped")


def consumer_name(config: Config, index: int) -> str:
    """Of this writer alone, and the same after a restart: two programs of one host have different folders."""
    folder = sha256(str(config.data_path).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{folder}-{index}"


def writer_operations(metrics: Metrics) -> Operations:
    """What a supervisor of writers alone answers with: its metrics are its workers'."""
    return Operations(metrics, _always_ready)


async def _always_ready() -> str | None:
    return None
