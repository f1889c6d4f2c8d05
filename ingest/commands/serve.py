"""`postback serve`: the program itself."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import uvloop

from ingest.commands.output import console
from ingest.commands.sample import load_sample
from ingest.config import Config
from ingest.engines import EngineUrls
from ingest.logs import configure_logging
from ingest.serve import ServeRole, serve

_SAMPLE = {
    "imported": "The sample catalog and its clicks are loaded.",
    "present": "The sample catalog was there already.",
    "other": "The catalog is not empty: the sample was not loaded. Its clicks would belong to your campaigns.",
}


def run_server(config: Config, config_file: Path | None, role: ServeRole, *, sample: bool) -> None:
    """Serve until SIGTERM or SIGINT; `config_file` as it was given."""
    configure_logging(config.log, role="supervisor")

    said = ""

    async def load(urls: EngineUrls) -> None:
        nonlocal said
        if sample:
            said = _SAMPLE[(await load_sample(urls.postgres_dsn)).catalog]

    def welcome(url: str) -> None:
        if sample:
            console().print(welcome_text(config, _program(), config_file, url, said), soft_wrap=True)
            sys.stdout.flush()

    uvloop.run(serve(config, role, before_workers=load, on_ready=welcome))


def welcome_text(config: Config, program: str, config_file: Path | None, url: str, sample: str) -> str:
    """The first words to somebody new, each command ready to paste."""
    option = f" --config {shlex.quote(str(config_file))}" if config_file else ""
    query = "select goal_value, click_id, revenue, payout, currency from conversions"
    return f"""
postback serves at {url}
{sample}

  A first postback       curl '{url}{config.server.paths[0]}?click_id=demo-us-1&goal=install'
  Every verdict there is {program} demo{option}
  What was counted       {program} sql{option} '{query}'
  The admin key          {config.admin_key_path}
  Stop                   Ctrl-C
"""


def _program() -> str:
    """This command as one has to type it here."""
    typed = sys.argv[0]
    if Path(typed).name != "postback":
        return "postback"
    found = shutil.which("postback")
    return "postback" if found and Path(found).resolve() == Path(typed).resolve() else typed
