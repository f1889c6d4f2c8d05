"""Statements as they are typed, results as they are shown."""

from __future__ import annotations

import csv
import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.commands.sql_text import Column, as_csv, as_json, as_table, shown, split_statements

NUMBER = Column("n", "numeric")
TEXT = Column("t", "text")

# Parts in which a semicolon ends nothing.
_WHOLE = [
    "select 1",
    "'a;b'",
    "'it''s; fine'",
    "E'back\\'slash;'",
    '"col;umn"',
    '"two"";"',
    "$$ body; $$",
    "$fn$ $$;$$ ; $fn$",
    "-- a comment; ' \" $$\n",
    "/* block; /* nested; */ ' */",
    "$1",
    "a$b$",
    "name",
    " ",
    "\n",
]


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("", [], ""),
        ("select 1", [], "select 1"),
        ("select 1;", ["select 1"], ""),
        ("select 1; select 2;\n", ["select 1", "select 2"], "\n"),
        (" ;; ", [], " "),
        ("select ';';", ["select ';'"], ""),
        ("select 'open;", [], "select 'open;"),
        ("do $$ begin; end $$; x", ["do $$ begin; end $$"], " x"),
        ("do $$ begin;", [], "do $$ begin;"),
        ("/* /* ; */ ; */ select 1;", ["/* /* ; */ ; */ select 1"], ""),
        ("select 1 -- it's; \n;", ["select 1 -- it's;"], ""),
        ("select namee'x;';", ["select namee'x;'"], ""),
        ("select E'\\';';", ["select E'\\';'"], ""),
    ],
)
def test_statements(text: str, statements: list[str], rest: str) -> None:
    assert split_statements(text) == (statements, rest)


@given(st.lists(st.lists(st.sampled_from(_WHOLE), min_size=1, max_size=6).map(" ".join), max_size=5))
def test_whole_parts_are_never_cut(statements: list[str]) -> None:
    found, rest = split_statements("".join(f"{statement} ;" for statement in statements))
    assert found == [statement.strip() for statement in statements if statement.strip()]
    assert rest == ""


@given(st.text(alphabet="'\"$-/*;aE1 \n\\", max_size=40))
def test_nothing_is_lost(text: str) -> None:
    statements, rest = split_statements(text)
    kept = "".join([*statements, rest])
    assert "".join(kept.split()).replace(";", "") == "".join(text.split()).replace(";", "")


def test_table() -> None:
    rows: list[list[object]] = [["1.10", "a"], [None, "日本"], ["20", None]]
    assert as_table([NUMBER, TEXT], rows) == (" n    | t\n -----+-----\n 1.10 | a\n      | 日本\n   20 |\n(3 rows)\n")


def test_table_of_nothing() -> None:
    assert as_table([NUMBER], []) == " n\n -\n(0 rows)\n"


def test_wide_table_becomes_records() -> None:
    text = as_table([NUMBER, Column("longer", "text")], [["1", "x" * 30], ["2", "y"]], width=20)
    assert (
        text == f"-[ record 1 ]-\nn      | 1\nlonger | {'x' * 30}\n-[ record 2 ]-\nn      | 2\nlonger | y\n(2 rows)\n"
    )


def test_data_does_not_drive_the_terminal() -> None:
    text = as_table([TEXT], [["a\x1b[31m\r\nb\t\x9b"]])
    assert "a\\x1b[31m\\x0d\\nb\\t\\x9b" in text
    assert text.count("\n") == 4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (True, "t"),
        (False, "f"),
        (b"\xff\x00", "\\xff00"),
        (["a", None, "b c", "", "null", 'q"', "x,y"], '{a,NULL,"b c","","null","q\\"","x,y"}'),
        ([[1, 2], [3, 4]], "{{1,2},{3,4}}"),
        ([], "{}"),
        (12345678901234567890, "12345678901234567890"),
    ],
)
def test_values_as_postgres_writes_them(value: object, expected: str) -> None:
    assert shown(value) == expected


@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), max_size=5))
def test_csv_is_read_back(rows: list[tuple[str, str]]) -> None:
    text = as_csv([TEXT, Column("u, x", "text")], rows)
    assert list(csv.reader(StringIO(text, newline=""))) == [["t", "u, x"], *map(list, rows)]


def test_csv_tells_null_from_an_empty_text() -> None:
    assert as_csv([TEXT, NUMBER], [["", None], [None, "1.10"]]) == 't,n\n"",\n,1.10\n'


def test_json_is_exact() -> None:
    columns = [
        NUMBER,
        Column("n", "int8"),
        Column("j", "jsonb"),
        Column("b", "bool"),
        Column("a", "numeric[]"),
        Column("none", "jsonb"),
    ]
    text = as_json(columns, [["1.10", 5, '{"a": 1.10}', True, ["1.5", None], None]] * 2)
    assert (
        json.loads(text) == [{"n": "1.10", "n_2": 5, "j": {"a": 1.10}, "b": True, "a": ["1.5", None], "none": None}] * 2
    )
    assert '{"a": 1.10}' in text
    assert as_json(columns, []) == "[]\n"
