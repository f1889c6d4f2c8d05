"""What deploy/ shows and alerts on is what the program measures, and docs/operations.md says what to do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.metrics import METRICS, Kind
from ingest.outcome import Result
from ingest.reasons import Reason
from storage.partitions import ahead_until
from tests.deployment import DEPLOY, ROOT, accepted, documents, tool

PROMETHEUS = DEPLOY / "prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "postback.json"
OPERATIONS = ROOT / "docs" / "operations.md"
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""
VALUES = {"outcome": {result.value for result in Result}, "reason": {reason.value for reason in Reason} | {""}}
"""What stands in these labels."""


def _series() -> dict[str, set[str]]:
    """Names as Prometheus sees them, each with its labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        labels = set(metric.labels) | SCRAPED
        match metric.kind:
            case Kind.COUNTER:
                found[f"{metric.name}_total"] = labels
            case Kind.GAUGE:
                found[metric.name] = labels
            case Kind.HISTOGRAM:
                found |= {f"{metric.name}_sum": labels, f"{metric.name}_count": labels}
                found[f"{metric.name}_bucket"] = labels | {"le"}
    return found


SERIES = _series()


@cache
def _rules() -> list[dict[str, Any]]:
    return [rule for group in documents(ALERTS)[0]["groups"] for rule in group["rules"]]


def _alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in _rules() if "alert" in rule}


def _recorded() -> dict[str, set[str]]:
    """Series that rules record, with the labels they are summed by."""
    found: dict[str, set[str]] = {}
    for rule in _rules():
        if "record" in rule:
            by = re.match(r"sum by \(([^)]*)\)", rule["expr"])
            found[rule["record"]] = set(re.split(r",\s*", by[1])) if by else set()
    return found


@cache
def _dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in _dashboard()["panels"] if panel["type"] != "row"]


def _expressions() -> Iterator[tuple[str, str]]:
    for rule in _rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in _panels():
        for target in panel["targets"]:
            yield f"{panel['title']}-{target['refId']}", target["expr"]


def _without_strings(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)


@pytest.mark.parametrize(("where", "expression"), list(_expressions()), ids=lambda value: value.partition("{")[0][:40])
def test_what_is_asked_for_is_measured(where: str, expression: str) -> None:
    known = SERIES | _recorded()
    bare = _without_strings(expression)
    used = re.findall(r"\bpostback[_:][\w:]+", bare)
    assert used or "up{" in bare or "probe_success" in bare or "ALERTS{" in bare
    labels: set[str] = set()
    for name in used:
        assert name in known, f"{where}: {name}"
        labels |= known[name]
    for name, matchers in re.findall(r"\b(postback[_:][\w:]+)\{([^}]*)\}", expression):
        for label, _, wanted in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            assert label in known[name], f"{where}: {name} has no label {label}"
            for value in wanted.split("|"):
                assert value in VALUES.get(label, {value}), f"{where}: {label} is never {value!r}"
    for grouping in re.findall(r"\b(?:by|without) \(([^)]*)\)", bare):
        for label in re.split(r",\s*", grouping):
            assert label in labels, f"{where}: nothing has a label {label}"


def test_a_template_names_labels_that_the_series_has() -> None:
    for panel in _panels():
        for target in panel["targets"]:
            grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            left = {label for group in grouped for label in re.split(r",\s*", group)} - {"le"}
            for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                assert label in left or (not grouped and label == "instance"), panel["title"]


def test_promtool_understands_every_panel(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"panel:{panel['id']}:{target['refId']}",
            "expr": target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for panel in _panels()
        for target in panel["targets"]
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    accepted(tool("promtool"), "check", "rules", path)


def test_promtool_accepts_the_configuration() -> None:
    accepted(tool("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    accepted(tool("promtool"), "test", "rules", "alerts.test.yml", cwd=PROMETHEUS)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    tests = documents(PROMETHEUS / "alerts.test.yml")[0]["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(_alerts())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(_alerts())


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    runbook = OPERATIONS.read_text(encoding="utf-8").partition("\n## Runbook\n")[2]
    headings = re.findall(r"^### (Postback\w+)$", runbook, re.MULTILINE)
    assert headings == sorted(headings)
    assert set(headings) == set(_alerts()), "docs/operations.md has a runbook for each alert, and for no other"
    for name, alert in _alerts().items():
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert alert["annotations"]["summary"]
        text = runbook.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert len(text.split()) > 25, f"{name}: a runbook says what it means and what to do"


def test_panels_stand_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in _dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(panel["description"] for panel in _panels())


def test_the_handbook_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", OPERATIONS.read_text(encoding="utf-8")):
        assert (OPERATIONS.parent / target).exists(), target


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)),
        (datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)),
    ],
)
def test_partitions_reach_to_the_end_of_next_month(now: datetime, until: datetime) -> None:
    assert ahead_until(now) == until
