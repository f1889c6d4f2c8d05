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
from benchmarks.parts_report import PARTS_SVG, Cost, Part, PartCosts, draw_parts
from benchmarks.plots import Bars, Line, bar_chart, line_chart
from benchmarks.report import RATIOS, markdown, ratio_values
from benchmarks.rows import Sample, check_count, sample_of
from benchmarks.workload import get_request, make_clicks, make_postbacks
from ingest.compiled import is_built
from tests.program import ROOT

NOW_MS = 1_790_000_000_000
ROWS = ("receiver", "writer", "bare COPY")
SVG = "{http://www.w3.org/2000/svg}"


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


def test_each_part_is_measured_and_drawn(tmp_path: Path) -> None:
    if file_system(tmp_path) == "tmpfs":
        pytest.skip("the temporary folder is in memory: nothing durable can be measured there")
    places = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.parts", "--rounds", "1", "--postbacks", "300", "--seed", "1", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert table[0][2:-1] == [*(["compiled code"] if is_built() else []), "the rules alone"]
    assert [cells[0] for cells in table[2:]] == [*Part, "together"]
    for cells in table[2:]:
        assert all(float(own_us) > 0 for own_us in cells[2:-1])
    engines = {cells[0]: cells[-1].split()[0] for cells in table[2:-1] if cells[-1]}
    assert engines == {"click": "redis", "claim": "redis", "queue read": "redis", "commit": "postgres"}
    drawing = ElementTree.fromstring((tmp_path / "out" / PARTS_SVG).read_text())
    assert {part.value for part in Part} < {text.text for text in drawing.findall(f"{SVG}text")}


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
    circles = drawing.findall(f"{SVG}circle")
    assert len(circles) == 4
    for circle in circles:
        assert plots.LEFT <= float(circle.attrib["cx"]) <= plots.WIDTH - plots.RIGHT
        assert plots.TOP <= float(circle.attrib["cy"]) <= plots.HEIGHT - plots.BOTTOM
    first, second, third, _ = (float(circle.attrib["cx"]) for circle in circles)
    assert first < second < third


def test_a_bar_is_as_long_as_its_value_and_stands_with_its_group() -> None:
    groups = [Bars("A < B", [2.0, 4.0, None]), Bars("other", [None, None, 1.0])]
    drawing = ElementTree.fromstring(bar_chart("title", "x", ["one", "two", "three"], groups))
    _, first, second, third = drawing.findall(f"{SVG}rect")
    widths = [float(bar.attrib["width"]) for bar in (first, second, third)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert widths[1] == pytest.approx(4 * widths[2], abs=0.4)
    assert len({bar.attrib["fill"] for bar in (first, second, third)}) == 3
    tops = [float(bar.attrib["y"]) for bar in (first, second, third)]
    assert tops[1] == tops[0] + plots.BAR
    assert tops[2] == tops[1] + plots.BAR + plots.GAP
    height = float(drawing.attrib["viewBox"].split()[3])
    assert tops[2] + plots.BAR < height - plots.BOTTOM
    assert {"A < B", "other", "one", "two", "three", "4.0"} <= {text.text for text in drawing.findall(f"{SVG}text")}


def test_the_report_shows_what_each_part_costs() -> None:
    parse, claim = Cost(Part.PARSE, 1.5, 4.0), Cost(Part.CLAIM, either_us=3.0, engine="redis", engine_us=9.0)
    text = markdown({}, [], (), PartCosts(7, 10_240, 1, {"taken by other programs": "0.2%"}, [parse, claim]))
    assert "| parse | names and values read | 1.5 | 4.0 |  |" in text
    assert "| claim | claimed and queued | 3.0 | 3.0 | redis 9.0 |" in text
    assert "| together | | 4.5 | 7.0 | 9.0 |" in text
    assert f"]({PARTS_SVG})" in text
    assert "10,240 postbacks" in text
    assert "- noise: taken by other programs 0.2%" in text
    assert PARTS_SVG not in markdown({}, [])


def test_without_compiled_code_there_is_one_bar_for_each_part() -> None:
    parse, claim = Cost(Part.PARSE, None, 4.0), Cost(Part.CLAIM, either_us=3.0, engine="redis", engine_us=9.0)
    measured = PartCosts(7, 10_240, 1, {"taken by other programs": "0.2%"}, [parse, claim])
    assert "| together | | 7.0 | 9.0 |" in markdown({}, [], (), measured)
    drawing = ElementTree.fromstring(draw_parts(measured))
    assert len(drawing.findall(f"{SVG}rect")) == 3
    assert "compiled code" not in {text.text for text in drawing.findall(f"{SVG}text")}


def test_stacks_become_a_flame_graph_and_figures() -> None:
    stacks = {"m:main;a.b:read": 3, "m:main;a.b:read;c:parse<1>": 5, "m:main;d:send": 2}
    own, with_below = by_function(stacks)
    assert own == {"a.b:read": 3, "c:parse<1>": 5, "d:send": 2}
    assert with_below == {"m:main": 10, "a.b:read": 8, "c:parse<1>": 5, "d:send": 2}
    assert by_part(stacks, {"c:": "parse", "a.": "read"}) == {"read": 3, "parse": 5, "the rest": 2}
    drawing = ElementTree.fromstring(flame_graph("a title", stacks))
    titles = [title.text or "" for title in drawing.iter(f"{SVG}title")]
    assert "c:parse<1>: 5 samples, 50.0%" in titles
