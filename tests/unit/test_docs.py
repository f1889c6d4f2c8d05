"""The documents say what the code does. `UPDATE_DOCS=1` with this file writes docs/metrics.md anew."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import msgspec
import pytest
from typer.core import TyperGroup
from typer.main import get_command

from ingest.cli import app
from ingest.config import Config
from ingest.metrics import describe
from ingest.outcome import Result
from ingest.reasons import Reason

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
SECURITY = ROOT / "SECURITY.md"
SIGNING = ROOT / "docs" / "security.md"
METRICS = ROOT / "docs" / "metrics.md"
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", SECURITY, SIGNING, ARCHITECTURE, METRICS, *ADRS]

_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_UNITS_MS = {"ms": 1, "s": 1000, "min": 60_000, "d": 86_400_000}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _section(path: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", _text(path), re.MULTILINE | re.DOTALL)
    assert found, f"{path.name} has no heading {heading!r}"
    return found[1]


def _rows(text: str) -> list[list[str]]:
    """The cells of all tables' rows, their heads left out."""
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_metrics_page_is_made_from_the_list() -> None:
    page = "\n".join(
        (
            "# Metrics",
            "",
            "At `/metrics`, over all processes of one `postback serve`. Written by tests/unit/test_docs.py from",
            "`ingest.metrics`.",
            "",
            *describe(),
            "",
        )
    )
    if os.environ.get("UPDATE_DOCS"):
        METRICS.write_text(page, encoding="utf-8")
    assert _text(METRICS) == page, "write it anew: UPDATE_DOCS=1 .venv/bin/python -m pytest tests/unit/test_docs.py"


def test_every_reason_is_explained() -> None:
    said = [reason for cells in _rows(_section(README, "Reasons")) for reason in _code(cells[0])]
    assert sorted(said) == sorted(reason.value for reason in Reason)


def test_every_answer_is_explained() -> None:
    said = {status for cells in _rows(_section(README, "Answers")) for status in _code(cells[1])}
    assert said == {result.value for result in Result}


def test_every_setting_is_listed() -> None:
    said = {
        "".join(_code(cells[0])).strip("[]"): [key for key in _code(cells[1]) if key.isidentifier()]
        for cells in _rows(_section(README, "Configuration"))
    }
    sections = msgspec.to_builtins(Config(), enc_hook=int)
    known = {name: list(section) for name, section in sections.items() if isinstance(section, dict)}
    known[""] = [name for name, value in sections.items() if not isinstance(value, dict)]
    assert said == known


def _commands(group: TyperGroup, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}"


def test_every_command_is_listed() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    said = " ".join(cells[0] for cells in _rows(_section(README, "Commands")))
    for command in _commands(group, "postback"):
        assert re.search(rf"`{command}\b", said), f"{command} is not in the README's commands"


def test_every_module_has_a_line() -> None:
    said = {name for cells in _rows(_text(ARCHITECTURE)) for name in _code(cells[0]) if re.match(r"\w+\.\w+$", name)}
    found = set()
    for package in ("ingest", "dedup", "storage"):
        for path in (ROOT / package).iterdir():
            if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists():
                found.add(f"{package}.{path.stem}")
    assert said == found, "docs/architecture.md lists every module, and no other"


def test_every_script_has_a_line() -> None:
    said = {name for cells in _rows(_section(ARCHITECTURE, "Redis")) for name in _code(cells[0])}
    found = {
        str(path.relative_to(ROOT)) for package in ("dedup", "storage") for path in (ROOT / package).rglob("*.lua")
    }
    assert {name for name in said if name.endswith(".lua")} == found


LIMITS = [(cells[1], _code(cells[2])[0]) for cells in _rows(_section(ARCHITECTURE, "Limits"))]


@pytest.mark.parametrize(("said", "where"), LIMITS)
def test_a_limit_is_what_the_code_says(said: str, where: str) -> None:
    section, _, key = where.rpartition(".")
    if hasattr(Config(), section):
        value = getattr(getattr(Config(), section), key)
        is_duration = said.rpartition(" ")[2] in _UNITS_MS
        assert value == (_ms(said) if is_duration else _number(said))
        return
    value = getattr(import_module(section), key)
    if said == "year 2000":
        assert value == 946_684_800_000
    elif key.endswith("_MS"):
        assert value == _ms(said)
    elif key.endswith("_S"):
        assert value * 1000 == _ms(said)
    elif key.endswith("_MICROS"):
        assert said == "10^12 units"
        assert value == 10**12 * 10**6
    else:
        assert value == _number(said)


def _number(said: str) -> int:
    number, _, unit = said.replace(",", "").partition(" ")
    return int(number) * _UNITS[unit or "bytes"]


def _ms(said: str) -> int:
    number, _, unit = said.partition(" ")
    return int(number) * _UNITS_MS[unit]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _text(path)):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_decisions_have_their_parts() -> None:
    for number, path in enumerate(ADRS, 1):
        assert path.name.startswith(f"{number:04}-")
        text = _text(path)
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Status", "Context", "Decision", "Consequences"]
    assert ADRS
