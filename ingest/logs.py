"""Logging: structlog, to standard error; console lines on a terminal, JSON otherwise."""

from __future__ import annotations

import logging
import sys

import orjson
import structlog
from structlog.typing import Processor

from ingest.config import LogConfig, LogFormat


def configure_logging(config: LogConfig, **bound: str) -> None:
    """Configure this process' logs. `bound` is on each line, e.g. role="receiver"."""
    as_console = config.format is LogFormat.CONSOLE or (config.format is LogFormat.AUTO and sys.stderr.isatty())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    level = logging.getLevelNamesMapping()[config.level.upper()]
    if as_console:
        structlog.configure(
            processors=[*processors, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        )
    else:
        structlog.configure(
            processors=[
                *processors,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)
    # What libraries say through the standard library: warnings and worse only.
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", force=True)


def said(error: Exception) -> str:
    """The error in one line; some have no text of their own."""
    return str(error) or type(error).__name__
