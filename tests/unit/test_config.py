"""Configuration: defaults, the example file, the environment, and errors that name the key."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from ingest.config import Config, ConfigError, load_config
from ingest.orders import Orders, Role, decode_orders, encode_orders
from ingest.units import Duration, Size, format_duration, parse_duration_ms

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def _file(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_example_file_shows_every_key_with_its_default() -> None:
    assert load_config(EXAMPLE, {}) == Config()
    said = EXAMPLE.read_text(encoding="utf-8")
    for section, value in msgspec.to_builtins(Config(), enc_hook=int).items():
        keys = value if isinstance(value, dict) else {section: value}
        for key in keys:
            assert re.search(rf"^{key} = ", said, re.MULTILINE), f"{section}.{key} is not in config.example.toml"


def test_every_key_of_the_example_can_be_set_from_the_environment() -> None:
    environment = {
        "POSTBACK_DATA_DIR": "/data",
        "POSTBACK_SERVER__PORT": "0",
        "POSTBACK_SERVER__PATHS": "/postback, /aff_lsr",
        "POSTBACK_REDIS__URL": "rediss://r.example:6380/1",
        "POSTBACK_REDIS__ACK": "fsynced",
        "POSTBACK_WRITER__BATCH_AGE": "1s",
        "POSTBACK_SPOOL__MAX_BYTES": "2GiB",
        "POSTBACK_ADMIN__CONSOLE": "false",
    }
    config = load_config(None, environment)
    assert config.data_dir == "/data"
    assert config.server.port == 0
    assert config.server.paths == ("/postback", "/aff_lsr")
    assert config.redis.url == "rediss://r.example:6380/1"
    assert config.redis.ack == "fsynced"
    assert config.writer.batch_age == 1000
    assert config.spool.max_bytes == 2 << 30
    assert config.admin.console is False


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "[server]\nport = 1\nhost = '::1'\n")
    config = load_config(path, {"POSTBACK_SERVER__PORT": "2"})
    assert (config.server.port, config.server.host) == (2, "::1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprt = 1", "server.prt: there is no such setting"),
        ("[serverr]\nport = 1", "serverr: there is no such setting"),
        ("[server]\nport = '80'", "server.port: expected `int`"),
        ("[server]\nport = 70000", "server.port: expected `int` <= 65535"),
        ("[server]\nreceivers = 0", "server.receivers: expected `int` >= 1"),
        ("[server]\npaths = []", "server.paths: at least one path"),
        ("[server]\npaths = ['/clicks']", "server.paths: '/clicks' cannot be a postback path"),
        ("[server]\npaths = ['postback']", "server.paths: 'postback' cannot be a postback path"),
        ("[server]\ntrusted_proxies = ['10.0.0.0/33']", "server.trusted_proxies: '10.0.0.0/33'"),
        ("[clicks]\nwindow = 90", "clicks.window: expected a duration"),
        ("[clicks]\nwindow = '0s'", "clicks.window: must be longer than 0"),
        ("[clicks]\npark_unknown = '31d'", "clicks.park_unknown: "),
        ("[spool]\nmax_bytes = '1GB'", "spool.max_bytes: expected a size"),
        ("[redis]\nack = 'maybe'", "redis.ack: "),
        ("[redis]\nurl = 'http://x'", "redis.url: expected"),
        ("[postgres]\ndsn = 'mysql://x'", "postgres.dsn: expected"),
        ("[tracing]\nendpoint = 'collector:4318'", "tracing.endpoint: expected a URL"),
        ("[tracing]\nendpoint = 'http://user:secret@collector'", "tracing.endpoint: expected a URL"),
        ("[tracing]\nsample_ratio = 1.5", "tracing.sample_ratio: expected `float` <= 1"),
        ("data_dir = ", "not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError, match=re.escape(said)) as raised:
        load_config(path, {})
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "name", ["POSTBACK_SERVER__PRT", "POSTBACK_NOTHING", "POSTBACK_SERVER", "POSTBACK_DATA_DIR__X"]
)
def test_an_unknown_variable_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_config(None, {name: "1"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.toml", {})
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "ms"), [("250ms", 250), ("5s", 5000), ("90m", 5_400_000), ("2h", 7_200_000), ("90d", 7_776_000_000)]
)
def test_durations_read_and_write(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms
    assert parse_duration_ms(format_duration(ms)) == ms


def test_a_worker_gets_the_same_configuration() -> None:
    config = load_config(None, {"POSTBACK_CLICKS__WINDOW": "3d", "POSTBACK_SERVER__PATHS": "/a,/b"})
    orders = Orders(Role.WRITER, 1, config, "redis://r", "postgresql://p", 8080)
    assert decode_orders(encode_orders(orders)) == orders
    copy = decode_orders(encode_orders(orders)).config
    assert isinstance(copy.clicks.window, Duration)
    assert isinstance(copy.server.max_body, Size)
