"""The program itself, as a process: started on a free port, spoken to over HTTP, ended or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.commands import Fork

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """A running `postback serve`."""

    process: subprocess.Popen[bytes] | Fork
    data_dir: Path
    url: str
    log_path: Path

    @property
    def admin_key(self) -> str:
        """What POST /clicks asks for."""
        return (self.data_dir / "admin.key").read_text(encoding="ascii").strip()

    @property
    def log(self) -> list[dict[str, object]]:
        """The log's lines so far."""
        lines = self.log_path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def workers(self, role: str) -> list[int]:
        """The pids of the workers of a role, as the log has them last."""
        last = {line["worker"]: line["pid"] for line in self.log if line.get("event") == "worker ready"}
        return [int(str(pid)) for worker, pid in last.items() if str(worker).startswith(role)]

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


def environment(data_dir: Path, redis_url: str, postgres_dsn: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The program's environment: nothing of ours but what it needs, JSON logs, a free port, a writer in a hurry."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTBACK_")}
    return kept | {
        "POSTBACK_DATA_DIR": str(data_dir),
        "POSTBACK_SERVER__PORT": "0",
        "POSTBACK_REDIS__URL": redis_url,
        "POSTBACK_POSTGRES__DSN": postgres_dsn,
        "POSTBACK_LOG__FORMAT": "json",
        "POSTBACK_WRITER__BATCH_AGE": "50ms",
        # The HTTP client reads the machine's certificates when it is imported, a tenth of what a worker imports.
        "SSL_CERT_FILE": os.devnull,
        "SSL_CERT_DIR": os.devnull,
        **{f"POSTBACK_{name}": value for name, value in settings.items()},
    }


@contextmanager
def running(
    data_dir: Path,
    redis_url: str = "embedded",
    postgres_dsn: str = "embedded",
    *,
    role: str = "all",
    **settings: str,
) -> Iterator[Program]:
    """`postback serve`, ready; `settings` as SERVER__RECEIVERS="2". At the end what still runs is ended, in a hurry."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log_path = data_dir / f"serve-{time.monotonic_ns()}.log"
    state = data_dir / "run" / ("writer.json" if role == "writer" else "server.json")
    process = Fork(
        ["serve", "--role", role],
        env=environment(data_dir, redis_url, postgres_dsn, settings),
        cwd=ROOT,
        stdin=Path(os.devnull),
        stdout=log_path,
        stderr=log_path,
    )
    program = Program(process, data_dir, "", log_path)
    try:
        yield replace(program, url=wait_until_ready(process, state, log_path))
    finally:
        _end(program)


def wait_until_ready(process: subprocess.Popen[bytes] | Fork, state: Path, log_path: Path) -> str:
    """The URL of a `serve` that says in `state` where it is."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"serve ended with {process.returncode}:\n{log_path.read_text(encoding='utf-8')}")
        if state.exists():
            said = json.loads(state.read_text(encoding="utf-8"))
            if said["pid"] == process.pid:
                return str(said["url"])
        time.sleep(0.02)
    raise AssertionError(f"serve was not ready in time:\n{log_path.read_text(encoding='utf-8')}")


def _end(program: Program) -> None:
    """SIGTERM for the supervisor, which ends its engines, and SIGKILL for its workers: nobody waits for them."""
    if program.process.poll() is not None:
        return
    program.process.send_signal(signal.SIGTERM)
    for pid in program.workers(""):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        program.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        program.process.kill()
        program.process.wait()
