"""`postback serve`: engines, checks, schema, then workers until SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from ingest.admin import ensure_admin_key
from ingest.app import FINISH_S, guard_of, writer_operations
from ingest.catalog_kept import is_kept, kept_path
from ingest.checks import check_engines
from ingest.config import Config
from ingest.engines import EngineError, Engines, EngineUrls, running_urls
from ingest.engines.checks import Severity
from ingest.http_server import bind, start_server
from ingest.metrics import Metrics
from ingest.orders import Orders, Role, encode_orders
from ingest.supervisor import Supervisor, WorkerSpec
from ingest.vault import ensure_vault

ORPHANS_S: Final = 5.0
"""How long the port is waited for, beyond the drain, that workers of a killed `serve` still hold."""
ORPHANS_POLL_S: Final = 0.1
OTLP: Final = "opentelemetry.exporter.otlp.proto.http"

log = structlog.get_logger()


class ServeRole(StrEnum):
    """Which workers this machine runs."""

    ALL = "all"
    RECEIVER = "receiver"
    WRITER = "writer"


class ServeError(Exception):
    """The program cannot start; the message says why and what to do."""


def state_path(config: Config) -> Path:
    """Where a running `serve` says where it is, for `postback info`."""
    return config.data_path / "run" / "server.json"


async def serve(
    config: Config,
    role: ServeRole,
    *,
    before_workers: Callable[[EngineUrls], Awaitable[None]],
    on_ready: Callable[[str], None],
) -> None:
    """Run until SIGTERM or SIGINT, then drain. Raises ServeError or EngineError where it cannot start.

    `before_workers` is awaited once the engines run and have their schema; `on_ready` is told the URL.
    """
    _require_extras(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        port = await _free_port(config, role)
        # Bound but never listening: keeps the port ours while workers come and go.
        stack.callback(bind(config.server.host, port, shared=True).close)

        urls = await _engines(config, stack)
        await _check(config, role, urls)
        for kind, _ in _counts(config, role):
            stack.enter_context(_alone(config, kind))
        ensure_admin_key(config.admin_key_path)
        ensure_vault(config.secret_key_path)
        await before_workers(urls)
        environment = _environment(config)
        specs = [
            WorkerSpec(kind, index, encode_orders(Orders(kind, index, config, urls.redis_url, urls.postgres_dsn, port)))
            for kind, count in _counts(config, role)
            for index in range(count)
        ]
        supervisor = Supervisor(specs, environment)
        timeout_s = config.server.drain / 1000 + FINISH_S + 5
        stack.push_async_callback(supervisor.stop, timeout_s)
        starting = asyncio.create_task(supervisor.start())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        await starting
        if role is ServeRole.WRITER:
            await _serve_operations(config, port, stack)
        url = f"http://{connectable(config.server.host)}:{port}"
        _write_state(config, role, url, stack)
        on_ready(url)
        log.info("serving", url=url, role=role, receivers=config.server.receivers)
        await stopped
        log.info("stopping")
    log.info("stopped")


def _require_extras(config: Config) -> None:
    """Raises ServeError where something is set that needs what is not installed."""
    if config.tracing.is_on and not (_is_installed("opentelemetry.sdk") and _is_installed(OTLP)):
        raise ServeError(
            "tracing.endpoint is set, but OpenTelemetry is not installed:"
            " pip install 'postback[otel]', or leave tracing.endpoint empty"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor what it would be in
        return False


async def _free_port(config: Config, role: ServeRole) -> int:
    """The port that nobody else listens on, once workers are gone that a killed `serve` of ours may have left: they
    drain when they notice. Raises ServeError."""
    patience_s = config.server.drain / 1000 + ORPHANS_S if _was_killed(config, role) else 0.0
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        try:
            with bind(config.server.host, config.server.port, shared=False) as reserved:
                port: int = reserved.getsockname()[1]
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE or loop.time() >= deadline:
                raise ServeError(
                    f"server.port: cannot listen on {config.server.host}:{config.server.port}: {error.strerror};"
                    " stop the program that uses it or choose another port (0: any free one)"
                ) from None
        await asyncio.sleep(ORPHANS_POLL_S)  # not our children: their end sends us no event


def _was_killed(config: Config, role: ServeRole) -> bool:
    """Whether the last `serve` of this data_dir had no time to take back where it is."""
    try:
        said = json.loads(_state_path(config, role).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return not _is_alive(said["pid"])


@contextmanager
def _alone(config: Config, kind: Role) -> Iterator[None]:
    """Nobody else runs workers of this kind with this data_dir: they would share a spool's name and say where they are
    in one place. Raises ServeError."""
    path = config.data_path / "run" / f"{kind}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ServeError(
                f"data_dir: process {holder} runs the {kind}s of {config.data_path} already;"
                " stop it first, or give this one a data_dir of its own"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _counts(config: Config, role: ServeRole) -> list[tuple[Role, int]]:
    writers = [(Role.WRITER, config.writer.processes)]
    receivers = [(Role.RECEIVER, config.server.receivers)]
    match role:
        case ServeRole.ALL:
            return writers + receivers
        case ServeRole.RECEIVER:
            return receivers
        case ServeRole.WRITER:
            return writers


async def _engines(config: Config, stack: AsyncExitStack) -> EngineUrls:
    """The servers: those that another `serve` of this data_dir runs, else our own."""
    running = running_urls(config)
    if running is not None:
        return running
    engines = await Engines.start(config)
    stack.push_async_callback(engines.stop)
    watch = asyncio.create_task(_keep_engines(engines))

    async def stop_watching() -> None:
        watch.cancel()
        await asyncio.wait([watch])

    stack.push_async_callback(stop_watching)
    return engines.urls


async def _keep_engines(engines: Engines) -> None:
    backoff_s = 0.1
    while True:
        failure = await engines.wait_failed()
        log.error("engine died, starting it again", engine=failure.name, code=failure.returncode, log=failure.log_tail)
        try:
            await engines.restart_dead()
            backoff_s = 0.1
        except EngineError as error:
            log.error("engine does not start", error=str(error), again_in_s=backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, 5.0)


async def _check(config: Config, role: ServeRole, urls: EngineUrls) -> None:
    """Refuse what cannot work, warn of what is risky."""
    # Receivers start with the catalog they kept while Postgres is away, writers wait for it.
    can_wait = role is ServeRole.WRITER or await asyncio.to_thread(is_kept, kept_path(config.data_path))
    refusals = []
    for problem in await check_engines(
        config, urls, redis_may_be_away=role is not ServeRole.ALL, postgres_may_be_away=can_wait
    ):
        if problem.severity is Severity.REFUSE:
            refusals.append(problem.message)
        else:
            log.warning(problem.message)
    if refusals:
        raise ServeError("\n".join(refusals))


def _environment(config: Config) -> dict[str, str]:
    """The workers' environment: ours, less settings (they come with the orders), plus a fresh folder for metrics."""
    folder = config.data_path / "run" / f"metrics-{os.getpid()}"
    for old in folder.parent.glob("metrics-*"):
        if not _is_alive(int(old.name.partition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return {name: value for name, value in os.environ.items() if not name.startswith("POSTBACK_")}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def connectable(host: str) -> str:
    """The address at which a server on `host` can be reached from here."""
    if host in {"0.0.0.0", ""}:  # noqa: S104  said, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


async def _serve_operations(config: Config, port: int, stack: AsyncExitStack) -> None:
    """Writers take no traffic: this process answers for them."""
    app = web.Application()
    metrics = Metrics()
    operations = writer_operations(metrics)
    operations.add_to(app)
    listening = bind(config.server.host, port, shared=True)
    guard = guard_of(config, metrics)
    server = await start_server(app, listening, guard, keepalive_s=config.server.keepalive / 1000, finish_s=1)
    stack.push_async_callback(server.cleanup)


def _state_path(config: Config, role: ServeRole) -> Path:
    path = state_path(config)
    return path.with_name("writer.json") if role is ServeRole.WRITER else path


def _write_state(config: Config, role: ServeRole, url: str, stack: AsyncExitStack) -> None:
    path = _state_path(config, role)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({"pid": os.getpid(), "url": url, "role": role}), encoding="utf-8")
    temporary.replace(path)
    stack.callback(path.unlink, missing_ok=True)
