"""Nothing disappears silently: after a load with faults the metrics' two sides are equal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from ingest.metrics import METRICS, Kind
from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.platform import Client, client_of, load_sample
from tests.program import ROOT, Program, running
from tests.proxy import Mode, proxy_to

MIXED = [
    {"click_id": "nobody", "goal": "install"},
    {},
    {"click_id": "drift0-1", "goal": "install", "txn_id": "bulk"},
]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"


async def _sums(client: Client) -> dict[str, float]:
    """Each metric, summed over its labels."""
    async with client.http.get(f"{client.program.url}/metrics") as response:
        text = await response.text()
    sums: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            sums[name.partition("{")[0]] += float(value)
            if 'outcome="unavailable"' in name:
                sums["unavailable"] += float(value)
    return sums


async def _without_redis(program: Program) -> set[str]:
    """The receivers that have not noticed yet that Redis is back: they spool, and answer 202."""
    away = set()
    for line in program.log:
        if line["event"] == "Redis is away: postbacks go to the spool":
            away.add(str(line["role"]))
        elif line["event"] in {"Redis is back", "stopped"}:
            away.discard(str(line["role"]))
    return away


def _intake_drift(sums: dict[str, float]) -> float:
    came = sums["postback_received_total"] + sums["postback_drained_total"]
    went = sums["postback_outcomes_total"] + sums["postback_spooled_total"] + sums["postback_refused_total"]
    return came - went - sums["postback_in_flight"]


async def test_after_a_load_with_faults_both_sides_are_equal(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    settings = {"SERVER__RECEIVERS": "2", "SPOOL__MAX_BYTES": "64KiB", "WRITER__BATCH_AGE": "20ms"}
    with (
        proxy_to(redis_url.removeprefix("unix://")) as proxy,
        running(tmp_path, f"redis://127.0.0.1:{proxy.port}", postgres_dsn, **settings) as program,
    ):
        async with client_of(program, postgres_dsn) as client:
            load = Load(client, senders=12, name="drift")
            await load.start()
            await load.until(200)
            for mode in (Mode.REFUSE, Mode.FREEZE, Mode.DROP_REPLIES):
                proxy.set(mode)
                await load.until(600 if mode is Mode.REFUSE else 50)  # enough to fill the spool
                # Beside the ledger: rejections, repeats, and what is no postback at all.
                await client.get("click_id=drift0-0&goal=nonsense")
                await client.post("/postbacks", json=MIXED)
                proxy.set(Mode.PASS)
                proxy.cut()
                await load.until(100)
            os.kill(program.workers("writer")[0], signal.SIGKILL)
            os.kill(program.workers("receiver")[0], signal.SIGTERM)
            await load.until(200)
            ledger = await load.finish()
            await eventually(lambda: _without_redis(program), lambda names: not names)
            for sender in range(12):
                status, said = await client.get(f"click_id=drift{sender}-0&goal=purchase&txn_id=t0&sale_amount=1")
                assert (status, said["status"]) == (200, "conflict")
            ledger.attempted.add(("drift0-1", "bulk"))
            assert ledger.tries["503 unavailable"] > 0
            assert ledger.tries["202 spooled"] > 0
            assert ledger.tries["200 accepted"] > 0

            await assert_kept(client, ledger)
            conversions, logged = await client.both_counts()

            def is_settled(sums: dict[str, float]) -> bool:
                """Written, drained, and seen by the writer's next look at the queue."""
                waiting = sums["postback_backlog"] + sums["postback_spool_bytes"]
                return waiting == _intake_drift(sums) == 0 and sums["postback_queued"] >= conversions + logged

            sums = await eventually(lambda: _sums(client), is_settled, within_s=60)
            assert sums["postback_in_flight"] == 0
            assert sums["postback_spooled_total"] > 0
            assert sums["postback_refused_total"] > 0
            assert sums["postback_drained_total"] >= sums["postback_spooled_total"]
            # Each queue entry has been stored. It counts again when it is delivered again; and the tables have one row
            # of what was queued twice, because the first reply was lost.
            assert sums["postback_stored_total"] >= sums["postback_queued"]
            at_once = sums["postback_outcomes_total"] - sums["unavailable"] - sums["postback_drained_total"]
            assert conversions + logged >= at_once > 0


def test_the_rules_speak_of_metrics_that_exist() -> None:
    suffixes = {Kind.COUNTER: ("_total",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_count", "_sum")}
    known = {metric.name + suffix for metric in METRICS for suffix in suffixes[metric.kind]}
    expressions = re.sub(r"#.*|(?:summary|description):.*", "", RULES.read_text(encoding="utf-8"))
    said = set(re.findall(r"(?<![:\w])postback_\w+", expressions))
    assert said
    assert said <= known | {"postback_backlog"}


def test_promtool_accepts_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH")
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
