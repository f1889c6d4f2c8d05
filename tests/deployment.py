"""Reading what is in deploy/, and running the tools that check it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.app import FINISH_S
from ingest.config import Config, load_config

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
_PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"))


def tool(name: str) -> str:
    """A program of the environment or of the machine; without it the test is skipped."""
    found = shutil.which(name, path=_PLACES)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def accepted(*command: str | Path, cwd: Path = DEPLOY) -> str:
    """What a tool prints; fails with it unless the tool is content."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@cache
def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def settings(environ: Mapping[str, str]) -> Config:
    """The configuration that the program would run under. Fails where there is no such setting."""
    environ = {name: value for name, value in environ.items() if name.startswith("POSTBACK_")}
    return load_config(None, environ)


def interpolated(text: str) -> str:
    """A compose file with its variables' defaults, and a word for what must be given."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)


def seconds(duration: str) -> float:
    """Of "75s", which all of compose, systemd and Kubernetes understand."""
    match = re.fullmatch(r"(\d+)s", duration)
    assert match, duration
    return float(match[1])


def longest_stop_s(config: Config) -> float:
    """From SIGTERM to the end of `postback serve`: the drain, what is under way, and a worker that had to be killed."""
    return config.server.drain / 1000 + FINISH_S + 5 + 5
