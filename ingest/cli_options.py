"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
