"""The table of senders, what counts as a macro that nobody filled in, and the page that is made from the table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ingest.cli import app
from ingest.commands.session import CommandError
from ingest.commands.url import show_url
from ingest.config import Config
from ingest.macros import MACRO_OPENERS, is_macro
from ingest.senders import FIELDS, SENDERS, Sender, UnknownSenderError, find_sender, suggestion
from ingest.wire import STANDARD_ALIASES

PAGE = Path(__file__).parents[2] / "docs" / "senders.md"
MADE = "<!-- From here on made from ingest.senders by tests/unit/test_senders.py. -->\n"
TITLES = {
    "click_id": "our click id",
    "goal": "the event's name",
    "txn_id": "the advertiser's id of the event",
    "event_id": "an id that a retry repeats",
    "sale_amount": "the price",
    "currency": "its currency",
    "event_time": "when it happened",
}
OLD_APPSFLYER = ["(clickid)", "(event-name)", "(orig-monetary)", "(monetary)", "(currency)", "(timestamp)"]
MACROS = sorted({macro for sender in SENDERS.values() for macro in sender.macros.values()} | {*OLD_APPSFLYER})


# The table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", SENDERS.values(), ids=SENDERS.keys())
def test_a_sender_is_whole(sender: Sender) -> None:
    assert sender.name == sender.name.casefold()
    assert sender.macros.keys() <= set(FIELDS)
    assert list(sender.macros) == [field for field in FIELDS if field in sender.macros]
    assert "click_id" in sender.macros
    assert sender.unverified <= sender.macros.keys()
    assert set(sender.methods) <= {"GET", "POST"}
    assert sender.sources or sender.name == "generic"
    assert all(note.endswith(".") for note in sender.notes)


def test_those_of_the_issue_are_there() -> None:
    names = "generic appsflyer adjust branch singular kochava tune everflow affise voluum keitaro"
    assert list(SENDERS) == names.split()


def test_fields_are_standard_names() -> None:
    assert set(FIELDS) <= set(STANDARD_ALIASES.values())


def test_sender_is_found_in_any_case() -> None:
    assert find_sender("AppsFlyer") is SENDERS["appsflyer"]


def test_unknown_sender_is_told_with_what_is_like_it() -> None:
    with pytest.raises(UnknownSenderError) as raised:
        find_sender("appsflier")
    assert str(raised.value) == (
        "there is no sender 'appsflier'; did you mean appsflyer? there are: generic, appsflyer, adjust, branch,"
        " singular, kochava, tune, everflow, affise, voluum, keitaro"
    )
    with pytest.raises(UnknownSenderError, match="'xyz'; there are: generic"):
        find_sender("xyz")


def test_suggestions_keep_their_case() -> None:
    assert suggestion("purchas", ["Purchase", "install"]) == "did you mean Purchase? "
    assert suggestion("zzz", ["Purchase"]) == ""


# The commands ----------------------------------------------------------------------------------------------------


async def _show(**asked: Any) -> None:
    defaults: dict[str, Any] = {"sender_name": "generic", "macros": (), "with_time": False}
    await show_url(Config(), 100, "install", None, **defaults | asked, as_curl=False, as_json=False)


async def test_url_is_refused_before_the_database_is_asked() -> None:
    with pytest.raises(CommandError, match="did you mean appsflyer"):
        await _show(sender_name="apsflyer")
    with pytest.raises(CommandError, match="expected NAME=MACRO"):
        await _show(macros=["{x}"])


def test_senders_are_shown() -> None:
    shown = CliRunner().invoke(app, ["senders"]).output
    assert all(sender.title in shown for sender in SENDERS.values())
    assert "{CURRENCY}?" in shown
    described = json.loads(CliRunner().invoke(app, ["senders", "--json"]).output)
    assert [one["name"] for one in described] == list(SENDERS)
    assert described[0]["macros"] == {field: f"{{{field}}}" for field in FIELDS}
    assert described[4]["unverified"] == ["currency"]


# Macros that nobody filled in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("macro", MACROS)
def test_each_macro_is_known_as_one_however_it_is_encoded(macro: str) -> None:
    assert is_macro(macro)
    assert is_macro(quote(macro, safe=""))
    assert is_macro(quote(macro, safe="(){}!$~."))
    assert macro[0] in MACRO_OPENERS
    assert quote(macro, safe="")[0] in MACRO_OPENERS


@pytest.mark.parametrize(
    "macro", ["{cl?Some Network}", "{psid?A-B.c}", "${(last_attributed_touch_data.$3p)!}", "${(user_data.idfa)!}"]
)
def test_their_like_are_known_too(macro: str) -> None:
    assert is_macro(macro)


@pytest.mark.parametrize("macro", MACROS)
@pytest.mark.parametrize("form", ["x%s", "%sx", "%s%s", "%s 1", " %s", "-%s"])
def test_a_macro_with_something_beside_it_is_a_value(macro: str, form: str) -> None:
    assert not is_macro(form.replace("%s", macro))


@pytest.mark.parametrize(
    "value",
    [
        "(not set)",
        "(none)",
        "(1)",
        "(555) 123-4567",
        "(order-17)",
        "(EVENT-NAME)",
        "()",
        "(clickid",
        "clickid)",
        "((clickid))",
        "${()!}",
        "${(a b)!}",
        "${(1)!}",
        "$49.99",
        "${",
        "{?a}",
        "{a?}",
        "{a?b?c}",
        "{A?b}",
        "{1?2}",
        "{a?{b}}",
        '{"a":1}',
        "50%",
        "%",
        "<3",
        "[1]",
    ],
)
def test_what_is_like_a_macro_and_is_none(value: str) -> None:
    assert not is_macro(value)


_WORDS = st.text(st.characters(categories=("L", "N"), include_characters="-_ .:/+=,;@#"), min_size=1, max_size=40)
_REAL = st.one_of(
    _WORDS,
    st.uuids().map(str),
    st.uuids().map(lambda guid: f"{{{guid}}}"),
    st.uuids().map(lambda guid: f"({guid})"),
    st.decimals(0, 10**9, places=2).map(str),
    st.binary(min_size=8, max_size=24).map(bytes.hex),
    _WORDS.map(lambda words: f"({words})"),
    _WORDS.map(lambda words: f"${words}"),
)


@given(_REAL)
def test_no_real_value_is_a_macro(value: str) -> None:
    words = {"null", "undefined"}
    in_full_capitals = re.fullmatch("[A-Z_]+", value) is not None
    assert not is_macro(value) or value in OLD_APPSFLYER or value.casefold() in words or in_full_capitals


# docs/senders.md -------------------------------------------------------------------------------------------------


def test_the_page_is_made_from_the_table() -> None:
    head, found, made = PAGE.read_text(encoding="utf-8").partition(MADE)
    assert found
    wanted = "\n" + "\n".join(line for sender in SENDERS.values() for line in _section(sender))
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(head + MADE + wanted, encoding="utf-8")
        return
    assert made == wanted, "write it anew: UPDATE_DOCS=1 .venv/bin/python -m pytest tests/unit/test_senders.py"


def test_each_sender_with_macros_that_are_not_verified_is_explained() -> None:
    head = PAGE.read_text(encoding="utf-8").partition(MADE)[0]
    explained = re.findall(r"^\| (\w+) \|", head[head.index("## Not verified") :], re.MULTILINE)
    assert explained == ["sender", *(sender.title for sender in SENDERS.values() if sender.unverified)]


def _section(sender: Sender) -> Iterator[str]:
    yield from (f"## {sender.title}", "", f"`--sender {sender.name}`, by {' or '.join(sender.methods)}.", "")
    yield from ("| parameter | what it is | macro |", "|---|---|---|")
    for field in FIELDS:
        macro = sender.macros.get(field)
        said = "none known" if macro is None else f"`{macro}`" + ", not verified" * (field in sender.unverified)
        yield f"| `{field}` | {TITLES[field]} | {said} |"
    yield from ("", f"- The tracking link carries our click id in `{sender.link_parameter}`.")
    yield f"- Where it is entered: {sender.place}."
    if sender.sources:
        yield f"- Documents: {'; '.join(f'“{title}”' for title in sender.sources)}."
    yield from (f"- {re.sub(r'(?<![`(])([$]?[{][^ }]*[}])', r'`' + chr(92) + '1`', note)}" for note in sender.notes)
    yield ""
