"""A worker that looks at its own stack as it works: `python -m benchmarks.sampled FILE`, orders on standard input.

SIGPROF comes after each millisecond of processor time (or each tick of the kernel, if that is longer): waiting is not
seen. What C code takes is seen in the Python function that called it. FILE is JSON: how often each stack was met, a
stack being its functions from the outermost, joined by ";".
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import orjson

from ingest import worker

EVERY_S: Final = 0.001
_ROOT: Final = Path(__file__).resolve().parent.parent


class Sampler:
    """Counts stacks from `start` to `stop`."""

    def __init__(self) -> None:
        self._stacks: Counter[tuple[CodeType, ...]] = Counter()

    def start(self) -> None:
        """Look from now on."""
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def stop(self) -> dict[str, int]:
        """How often each stack was met."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        found: Counter[str] = Counter()
        for stack, count in self._stacks.items():
            found[";".join(_name(code) for code in reversed(stack))] += count
        return dict(found)

    def _look(self, _: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1


def _name(code: CodeType) -> str:
    path = Path(code.co_filename)
    if path.is_relative_to(_ROOT) and ".venv" not in path.parts:
        where = ".".join(path.relative_to(_ROOT).with_suffix("").parts)
    else:
        where = ".".join(path.with_suffix("").parts[-2:])
    return f"{where}:{code.co_qualname}"


def main() -> None:
    """Work as `ingest.worker` does, then write the file."""
    sampler = Sampler()
    sampler.start()
    worker.main()
    Path(sys.argv[1]).write_bytes(orjson.dumps(sampler.stop()))


if __name__ == "__main__":
    main()
