"""The benchmark works, and can fail."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import plots
from benchmarks.flame import by_function, by_part, flame_graph
from benchmarks.load import LoadResult
from benchmarks.measure import file_system
from benchmarks.plots import Line, line_chart
from benchmarks.report import RATIOS, markdown, ratio_values
from benchmarks.rows import Sample, check_count, sample_of
from benchmarks.workload import get_request, make_clicks, make_postbacks
from tests.program import ROOT

NOW_MS = 1_790_000_000_000
ROWS = ("receiver", "writer", "bare COPY")


def result(*, refused: int = 0, failed: int = 0) -> LoadResult:
    return LoadResult(1000, 0, 1.0, refused, {"read": failed}, 1000, 1500, 2000, 2500, 3000)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on PATH")
def test_a_quick_run_measures_and_counts(tmp_path: Path) -> None:
    if file_system(tmp_path) == "tmpfs":
        pytest.skip("the temporary folder is in memory: nothing durable can be measured there")
    options = [part for row in ROWS for part in ("--row", row)] + ["--events", "400", "--connections", "8"]
    places = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--quick", "--seed", "1", *options, *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (samples,) = report["rounds"]
    assert samples.keys() == set(ROWS)
    for sample in samples.values():
        assert sample["problems"] == []
        assert sample["events"] > 300
        assert sample["cpu_us"] > 0
    assert samples["writer"]["events"] == samples["bare COPY"]["events"] >= samples["receiver"]["events"]
    assert report["facts"]["engines"]["appendfsync"] == "always"
    assert "writer / bare COPY" in (tmp_path / "out" / "report.md").read_text()
    assert str(tmp_path) not in json.dumps(report)


@pytest.mark.parametrize(("found", "is_right"), [(999, False), (1000, True), (1010, True), (1011, False)])
def test_a_row_that_stored_less_than_it_answered_is_invalid(found: int, is_right: bool) -> None:
    assert (check_count("the queue", found, 1000, 10) == []) is is_right


def test_refused_and_failed_requests_make_a_row_invalid() -> None:
    assert sample_of(result(), 0.1, []).problems == ()
    assert "not 2xx" in sample_of(result(refused=3), 0.1, []).problems[0]
    assert "failed" in sample_of(result(failed=1), 0.1, []).problems[0]


def test_invalid_rows_are_marked_and_give_no_ratio() -> None:
    good = Sample(1000, 1.0, 20.0)
    bad = Sample(1000, 1.0, 10.0, problems=("1000 were answered, 900 are in the queue",))
    text = markdown({}, [{"aiohttp-empty": good, "receiver": bad}])
    assert "INVALID" in text
    assert "900 are in the queue" in text
    assert ratio_values(RATIOS[0], [{"aiohttp-empty": good, "receiver": bad}]) == []
    assert ratio_values(RATIOS[0], [{"aiohttp-empty": good, "receiver": good}]) == [1.0]


def test_the_load_is_the_same_for_a_seed_and_each_postback_its_own() -> None:
    def requests(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [get_request(postback) for postback in make_postbacks(rng, make_clicks(rng, 500, NOW_MS))]

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)
    assert len(set(requests(1))) == 500
    names = {request.split(b" ")[1].count(b"&") + 1 for request in requests(1)}
    assert names == set(range(6, 15))


@pytest.mark.parametrize("is_log", [False, True])
def test_a_chart_holds_every_point(*, is_log: bool) -> None:
    points = [(1.0, 249.0), (16.0, 3583.0), (1000.0, 6944.0)]
    drawing = ElementTree.fromstring(
        line_chart("A < B", "x", "y", [Line("one", points), Line("two", points[:1])], is_log_x=is_log, is_log_y=is_log)
    )
    circles = drawing.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 4
    for circle in circles:
        assert plots.LEFT <= float(circle.attrib["cx"]) <= plots.WIDTH - plots.RIGHT
        assert plots.TOP <= float(circle.attrib["cy"]) <= plots.HEIGHT - plots.BOTTOM
    first, second, third, _ = (float(circle.attrib["cx"]) for circle in circles)
    assert first < second < third


def test_stacks_become_a_flame_graph_and_figures() -> None:
    stacks = {"m:main;a.b:read": 3, "m:main;a.b:read;c:parse<1>": 5, "m:main;d:send": 2}
    own, with_below = by_function(stacks)
    assert own == {"a.b:read": 3, "c:parse<1>": 5, "d:send": 2}
    assert with_below == {"m:main": 10, "a.b:read": 8, "c:parse<1>": 5, "d:send": 2}
    assert by_part(stacks, {"c:": "parse", "a.": "read"}) == {"read": 3, "parse": 5, "the rest": 2}
    drawing = ElementTree.fromstring(flame_graph("a title", stacks))
    titles = [title.text or "" for title in drawing.iter("{http://www.w3.org/2000/svg}title")]
    assert "c:parse<1>: 5 samples, 50.0%" in titles
