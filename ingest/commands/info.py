"""`postback info`: where things are."""

from __future__ import annotations

import json

from ingest.commands.output import console, facts
from ingest.commands.servers import running_servers
from ingest.compiled import NOT_BUILT, is_built
from ingest.config import EMBEDDED, Config
from ingest.engines import running_urls
from ingest.engines.explain import hide_password
from ingest.serve import connectable


def places(config: Config) -> dict[str, str | None]:
    """The contract of `info --json`. The URLs are usable as they are, with their passwords; None: it does not run."""
    servers = running_servers(config)
    urls = running_urls(config)
    port = config.server.port
    configured_url = f"http://{connectable(config.server.host)}:{port}" if port else None
    configured_redis = None if config.redis.url == EMBEDDED else config.redis.url
    configured_postgres = None if config.postgres.dsn == EMBEDDED else config.postgres.dsn
    return {
        "url": servers[0].url if servers else configured_url,
        "redis_url": urls.redis_url if urls else configured_redis,
        "postgres_dsn": urls.postgres_dsn if urls else configured_postgres,
        "data_dir": str(config.data_path),
        "admin_key_file": str(config.admin_key_path),
    }


def show_info(config: Config, *, as_json: bool) -> None:
    """Print them, and whether compiled code is there."""
    found = places(config)
    out = console()
    if as_json:
        out.print(json.dumps({**found, "compiled": is_built()}), soft_wrap=True)
        return
    shown = {name: "not running" if value is None else hide_password(value) for name, value in found.items()}
    shown["compiled"] = "yes" if is_built() else NOT_BUILT
    out.print(facts(shown.items()))
