"""The servers that run on a data folder, by the files that they keep there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ingest.commands.session import CommandError
from ingest.config import Config
from ingest.serve import state_path


@dataclass(frozen=True, slots=True)
class Server:
    """A running `postback serve`."""

    pid: int
    url: str
    role: str


def running_servers(config: Config) -> list[Server]:
    """Those that run on this data folder; one that takes postbacks first."""
    path = state_path(config)
    servers = (_read_server(path), _read_server(path.with_name("writer.json")))
    return [server for server in servers if server is not None]


def _read_server(path: Path) -> Server | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        server = Server(int(said["pid"]), str(said["url"]), str(said["role"]))
    except PermissionError:
        raise CommandError(f"{path} cannot be read: run this as the user that the server runs as") from None
    except (OSError, ValueError, LookupError, TypeError):  # not there, or not whole
        return None
    return server if _is_alive(server.pid) else None


def _is_alive(pid: int) -> bool:
    """One that was killed leaves its file behind."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
