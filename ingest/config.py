"""Configuration: a TOML file, overridden from the environment, checked key by key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from dedup.address import parse_address
from ingest.addresses import Addresses
from ingest.units import Duration, Size, decode_text

ENV_PREFIX = "POSTBACK_"
NO_SETTINGS = {"POSTBACK_CONFIG", "POSTBACK_COMPILED"}
"""Where the file is, and what `hatch_build.py` is told."""
EMBEDDED = "embedded"
_OTHER_PATHS = {"", "/postbacks", "/clicks", "/healthz", "/readyz", "/metrics"}
_OTHER_FOLDERS = ("/api/v1/", "/console/")

MAX_PARK_MS = 30 * 86_400_000
"""How long a postback may wait for its click."""


LEAST_KEPT_MS = 30 * 86_400_000
"""How long conversions are kept at least, if not for ever: what was parked comes so late."""


MAX_ATTEMPT_MS = 60_000
"""How long a publisher's server may take to answer."""


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key and says what to do."""


class Ack(StrEnum):
    """When an answer may be given: once written to Redis, once its append-only file is fsynced, once replicated."""

    WRITTEN = "written"
    FSYNCED = "fsynced"
    REPLICATED = "replicated"


class LogFormat(StrEnum):
    """How log lines look; auto: console on a terminal, JSON otherwise."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]


class ServerConfig(_Section, frozen=True):
    """The HTTP side."""

    host: str = "127.0.0.1"
    port: Port = 8080
    receivers: Annotated[int, Meta(ge=1, le=256)] = 1
    paths: tuple[str, ...] = ("/postback",)
    trusted_proxies: tuple[str, ...] = ()
    max_body: Size = Size(8 << 20)
    header_timeout: Duration = Duration(10_000)
    body_timeout: Duration = Duration(10_000)
    keepalive: Duration = Duration(75_000)
    max_connections: Positive = 10_000
    drain: Duration = Duration(0)
    fast_path: bool = True


class RedisConfig(_Section, frozen=True):
    """The shared hot state."""

    url: str = EMBEDDED
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 1
    max_backlog: Positive = 5_000_000
    ack: Ack = Ack.WRITTEN


class PostgresConfig(_Section, frozen=True):
    """The truth."""

    dsn: str = EMBEDDED
    pool: Annotated[int, Meta(ge=1, le=100)] = 4


class WriterConfig(_Section, frozen=True):
    """The process that moves the queue into Postgres."""

    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    batch_rows: Annotated[int, Meta(ge=1, le=100_000)] = 5_000
    batch_age: Duration = Duration(200)


class SpoolConfig(_Section, frozen=True):
    """The local spool of a receiver."""

    dir: str = ""
    max_bytes: Size = Size(1 << 30)


class ClicksConfig(_Section, frozen=True):
    """Rules on clicks; a campaign may set its own window and min_age."""

    window: Duration = Duration(90 * 86_400_000)
    min_age: Duration = Duration(0)
    park_unknown: Duration = Duration(0)


class OutboundConfig(_Section, frozen=True):
    """What is sent to publishers, and where it may go."""

    allow_http: bool = False
    allow_networks: tuple[str, ...] = ()
    ports: tuple[Port, ...] = (80, 443)
    timeout: Duration = Duration(10_000)
    give_up: Duration = Duration(86_400_000)
    at_once: Annotated[int, Meta(ge=1, le=1_000)] = 64
    at_once_each: Annotated[int, Meta(ge=1, le=1_000)] = 8


class RetentionConfig(_Section, frozen=True):
    """How long rows are kept; 0: for ever."""

    postback_log: Duration = Duration(90 * 86_400_000)
    clicks: Duration = Duration(0)
    conversions: Duration = Duration(0)
    outbound_messages: Duration = Duration(30 * 86_400_000)


class PrivacyConfig(_Section, frozen=True):
    """What is kept of who sent a postback."""

    addresses: Addresses = Addresses.FULL


class AdminConfig(_Section, frozen=True):
    """The people's side."""

    key_file: str = ""
    secret_key_file: str = ""
    console: bool = True


class TracingConfig(_Section, frozen=True):
    """Traces of a sample of postbacks."""

    endpoint: str = ""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.001
    service_name: str = "postback"

    @property
    def is_on(self) -> bool:
        """Whether anything is traced."""
        return bool(self.endpoint) and self.sample_ratio > 0


class LogConfig(_Section, frozen=True):
    """Logs."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.AUTO


class Config(_Section, frozen=True):
    """Everything that can be set. Paths left empty are under `data_dir`."""

    data_dir: str = "./var"
    server: ServerConfig = ServerConfig()
    redis: RedisConfig = RedisConfig()
    postgres: PostgresConfig = PostgresConfig()
    writer: WriterConfig = WriterConfig()
    spool: SpoolConfig = SpoolConfig()
    clicks: ClicksConfig = ClicksConfig()
    outbound: OutboundConfig = OutboundConfig()
    retention: RetentionConfig = RetentionConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    admin: AdminConfig = AdminConfig()
    tracing: TracingConfig = TracingConfig()
    log: LogConfig = LogConfig()

    @property
    def data_path(self) -> Path:
        """`data_dir`, absolute."""
        return Path(self.data_dir).absolute()

    @property
    def admin_key_path(self) -> Path:
        """The file that holds the admin key."""
        return Path(self.admin.key_file).absolute() if self.admin.key_file else self.data_path / "admin.key"

    @property
    def secret_key_path(self) -> Path:
        """The file that holds the key of the signing secrets."""
        named = self.admin.secret_key_file
        return Path(named).absolute() if named else self.data_path / "secret.key"

    @property
    def spool_path(self) -> Path:
        """The folder of the spool."""
        return Path(self.spool.dir).absolute() if self.spool.dir else self.data_path / "spool"


def _environment(environ: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """POSTBACK_SECTION__KEY variables as a nested mapping; a comma separates the items of a list."""
    found: dict[str, Any] = {}
    for name, value in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or name in NO_SETTINGS:
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        default = known.get(section)
        if isinstance(default, dict) and key in default:
            is_list = isinstance(default[key], list | tuple)
            found.setdefault(section, {})[key] = (
                [item.strip() for item in value.split(",") if item.strip()] if is_list else value
            )
        elif default is not None and not key and not isinstance(default, dict):
            found[section] = value
        else:
            raise ConfigError(
                f"environment variable {name}: there is no such setting; config.example.toml lists them all"
            )
    return found


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def load_config(path: Path | None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of `path` (None: defaults only) under the environment. Raises ConfigError naming the key."""
    environ = os.environ if environ is None else environ
    data: dict[str, Any] = {}
    where = "environment"
    if path is not None:
        where = str(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; copy config.example.toml and edit it") from None
        except IsADirectoryError:
            raise ConfigError(f"{path}: is a folder, not a configuration file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    known = msgspec.to_builtins(Config(), enc_hook=int)
    try:
        config = _convert(data, strict=True)
        from_environment = _environment(environ, known)
        if from_environment:
            where = "environment"
            config = _convert(_merge(data, from_environment), strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_readable(str(error))}") from None
    _check(config, where)
    return config


def _convert(data: dict[str, Any], *, strict: bool) -> Config:
    return msgspec.convert(data, Config, strict=strict, dec_hook=decode_text)


def _readable(message: str) -> str:
    """msgspec's "... - at `$.server.port`" with the key first."""
    text, separator, at = message.rpartition(" - at `$")
    if not separator:
        text, at = message, ""
    key = at.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.+)`", text)
    if unknown:
        key = f"{key}.{unknown[1]}" if key else unknown[1]
        return f"{key}: there is no such setting; config.example.toml lists them all"
    text = text[0].lower() + text[1:]
    return f"{key}: {text}" if key else text


def _check(config: Config, where: str) -> None:
    """What the types do not say."""

    def refuse(key: str, problem: str) -> None:
        raise ConfigError(f"{where}: {key}: {problem}")

    if not config.server.paths:
        refuse("server.paths", "at least one path is needed")
    for path in config.server.paths:
        if not path.startswith("/") or path.rstrip("/") in _OTHER_PATHS or f"{path}/".startswith(_OTHER_FOLDERS):
            refuse("server.paths", f"{path!r} cannot be a postback path")
    if config.redis.url != EMBEDDED:
        try:
            parse_address(config.redis.url)
        except ValueError as error:
            refuse("redis.url", f'{error}; or "embedded"')
    if config.postgres.dsn != EMBEDDED and not config.postgres.dsn.startswith(("postgresql://", "postgres://")):
        refuse("postgres.dsn", 'expected "embedded" or a DSN that starts with postgresql://')
    for key, networks in (
        ("server.trusted_proxies", config.server.trusted_proxies),
        ("outbound.allow_networks", config.outbound.allow_networks),
    ):
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                refuse(key, str(error))
    if config.tracing.endpoint and not _is_plain_url(config.tracing.endpoint):
        refuse(
            "tracing.endpoint",
            'expected a URL such as "http://127.0.0.1:4318", and no password: OTEL_EXPORTER_OTLP_HEADERS is for that',
        )
    if config.clicks.park_unknown > MAX_PARK_MS:
        refuse("clicks.park_unknown", "expected at most 30d: waiting takes room, and nobody is told meanwhile")
    if not 0 < config.outbound.timeout <= MAX_ATTEMPT_MS:
        refuse("outbound.timeout", "expected 1ms to 60s")
    if 0 < config.retention.conversions < LEAST_KEPT_MS:
        refuse("retention.conversions", "expected 0s (for ever) or at least 30d")
    if config.clicks.window == 0:
        refuse("clicks.window", "must be longer than 0")


def _is_plain_url(text: str) -> bool:
    """Whether it is http or https, to a host, as nobody in particular, with no query."""
    try:
        url = urlsplit(text)
        is_plain = url.username is None and not url.query and not url.fragment
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0 and is_plain
    except ValueError:
        return False
