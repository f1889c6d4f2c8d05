"""`python -m benchmarks.parts`: what a postback costs, part by part."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from benchmarks.engines import NotDurableError
from benchmarks.parts_measured import POSTBACKS, ROUNDS, measure_parts
from benchmarks.parts_report import PARTS_SVG, draw_parts, parts_section
from benchmarks.run import OUT, say, short_lived_folder
from ingest.engines import EngineError


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; figures are medians over them.")] = ROUNDS,
    postbacks: Annotated[int, typer.Option(min=1, help="Of a round.")] = POSTBACKS,
    seed: Annotated[int | None, typer.Option(help="Of the postbacks; printed, to repeat a run.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the engines' data goes: on a disk.")] = None,
    out: Annotated[Path, typer.Option(help="Where the drawing goes.")] = OUT,
) -> None:
    """Measure the parts of a postback's way, with compiled code and by the rules alone."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    try:
        with short_lived_folder(data_dir) as folder:
            measured = uvloop.run(measure_parts(folder, seed, say, postbacks=postbacks, rounds=rounds))
    except (EngineError, NotDurableError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    out.mkdir(parents=True, exist_ok=True)
    (out / PARTS_SVG).write_text(draw_parts(measured), encoding="utf-8")
    typer.echo("\n".join(parts_section(measured)))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
