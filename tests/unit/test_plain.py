"""Which way it went: compiled code in use, not built, or switched off."""

from __future__ import annotations

import sys

import pytest
from structlog.testing import capture_logs

from ingest.app import plain_of
from ingest.compiled import NOT_BUILT, is_built
from ingest.config import Config, ServerConfig, load_config
from ingest.plain import NothingPlain


def test_a_receiver_says_that_it_uses_compiled_code() -> None:
    if not is_built():
        pytest.skip("compiled code is not built")
    with capture_logs() as lines:
        assert plain_of(Config()) is not NothingPlain
    assert [(line["log_level"], line["event"]) for line in lines] == [("info", "compiled code in use")]


def test_a_receiver_says_how_to_get_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ingest.compiled.plain", None)
    assert not is_built()
    with capture_logs() as lines:
        assert plain_of(Config()) is NothingPlain
    (line,) = lines
    assert (line["event"], line["why"]) == ("compiled code not used", NOT_BUILT)
    assert "apt install gcc python3-dev" in NOT_BUILT


def test_without_the_fast_path_nothing_is_plain() -> None:
    with capture_logs() as lines:
        assert plain_of(Config(server=ServerConfig(fast_path=False))) is NothingPlain
    assert [line["why"] for line in lines] == ["server.fast_path is false"]


def test_what_the_build_is_told_is_no_setting() -> None:
    assert load_config(None, {"POSTBACK_COMPILED": "require"}) == Config()
