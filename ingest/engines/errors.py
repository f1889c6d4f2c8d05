"""What goes wrong with an embedded engine."""

from __future__ import annotations

from dataclasses import dataclass


class EngineError(Exception):
    """An embedded engine cannot run; the message says why and what to do."""


class EngineBusyError(EngineError):
    """Another process supervises the engines of this data folder; the message names it."""


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """An engine that ended though nobody asked it to. `returncode` is negative for a signal."""

    name: str
    returncode: int
    log_tail: str
