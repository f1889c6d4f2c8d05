"""Click files: CSV and NDJSON, line by line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ingest.click_file import read_file
from ingest.clicks import ClickError
from ingest.row_file import MAX_LINE_BYTES, RowFileError
from storage.rows import NewClick

NOW_MS = 1_793_534_400_000
HEADER = "click_id,campaign_id,publisher_id,clicked_at,country,sub1\n"
ROW = "c{0},100,10,1793534400,US,s{0}\n"


def read(name: str, data: str | bytes) -> list[tuple[int, str]]:
    """(line number, click id or problem)"""
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return [
        (number, item.click_id if isinstance(item, NewClick) else str(item))
        for number, item in read_file(Path(name), file, NOW_MS)
    ]


def test_csv() -> None:
    file = io.BytesIO((HEADER + ROW.format(1)).encode())
    assert list(read_file(Path("x.CSV"), file, NOW_MS)) == [(2, NewClick("c1", 100, 10, NOW_MS, "US", {"sub1": "s1"}))]


def test_csv_columns_come_in_any_order_and_with_a_byte_order_mark() -> None:
    data = "\ufeffclicked_at, publisher_id ,campaign_id,click_id\r\n1793534400,10,100,c1\r\n\r\n1793534400,10,100,c2"
    assert read("x.csv", data) == [(2, "c1"), (4, "c2")]


def test_bad_csv_lines_are_named_and_the_others_stand() -> None:
    data = HEADER.encode() + b"".join(
        [
            ROW.format(1).encode(),
            b"c2,100,10\n",
            b"c3,100,10,1793534400,US,s,extra\n",
            b"c\xff4,100,10,1793534400,US,s\n",
            b"c5,100,10,1793534400,US,\xff\n",
            b"c6,,10,1793534400,US,s\n",
            b'"c7",100,10,1793534400,US,"two\nlines"\n',
            b"c8,100,10,1793534400,US," + b"x" * MAX_LINE_BYTES + b"\n",
            ROW.format(9).encode(),
        ]
    )
    assert read("x.csv", data) == [
        (2, "c1"),
        (3, "has 3 columns, the header has 6"),
        (4, "has 7 columns, the header has 6"),
        (5, "click_id: not valid UTF-8"),
        (6, "c5"),
        (7, "campaign_id: missing"),
        (9, "c7"),
        (10, "longer than 64 KiB"),
        (11, "c9"),
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("", "missing: click_id, campaign_id, publisher_id, clicked_at"),
        ("click_id,campaign_id,clicked_at\n", "missing: publisher_id"),
        ("click_id;campaign_id;publisher_id;clicked_at\n", "with commas between them; missing: click_id"),
        (HEADER.replace("country", "sub1"), "names a column twice: sub1"),
    ],
)
def test_a_bad_header_refuses_the_file(data: str, problem: str) -> None:
    with pytest.raises(RowFileError) as caught:
        read("x.csv", data)
    assert str(caught.value).startswith("x.csv: the first line")
    assert problem in str(caught.value)


def test_ndjson() -> None:
    good = '{"click_id":"c%d","campaign_id":100,"publisher_id":10,"clicked_at":1793534400123,"sub1":"a"}'
    data = b"\n".join(
        [
            (good % 1).encode(),
            b"",
            b"{",
            b"[1]",
            b"\xff",
            b'{"click_id":"c6","sub1":"' + b"x" * MAX_LINE_BYTES + b'"}',
            b'{"click_id":"c7"}',
            (good % 8).encode(),
        ]
    )
    found = read("x.ndjson", data)
    assert [number for number, _ in found] == [1, 3, 4, 5, 6, 7, 8]
    assert found[0][1] == "c1"
    assert found[1][1].startswith("not valid JSON: ")
    assert found[2][1] == "expected a JSON object"
    assert found[3][1].startswith("not valid JSON: ")
    assert found[4][1] == "longer than 64 KiB"
    assert found[5][1] == "campaign_id: missing"
    assert found[6][1] == "c8"
    assert read("x.jsonl", data) == found


def test_a_line_as_long_as_may_be_is_read() -> None:
    start, end = '{"click_id":"c1","campaign_id":1,"publisher_id":1,"clicked_at":1793534400,"p":"', '"}\n'
    line = start + "x" * (MAX_LINE_BYTES - len(start) - len(end)) + end
    assert len(line) == MAX_LINE_BYTES
    assert read("x.ndjson", line * 2) == [(1, "c1"), (2, "c1")]


@pytest.mark.parametrize("name", ["x.json", "x.csv.gz", "clicks", "x.tsv"])
def test_an_unknown_ending_is_refused(name: str) -> None:
    with pytest.raises(RowFileError, match=r"must end in \.csv, \.ndjson or \.jsonl"):
        read(name, "")


def test_problems_are_click_errors() -> None:
    ((_, item),) = read_file(Path("x.ndjson"), io.BytesIO(b"[]"), NOW_MS)
    assert isinstance(item, ClickError)
