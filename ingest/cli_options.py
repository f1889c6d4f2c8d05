"""Options that many commands have."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="POSTBACK_CONFIG",
        help="The configuration; none: ./config.toml if there is one, else the defaults.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
TIME_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S"]


def as_utc(at: datetime) -> datetime:
    """A time that was typed: UTC unless it says otherwise."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
