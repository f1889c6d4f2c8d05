"""How postbacks are read: under the standard names, or under those of one advertiser.

A sender's template gives the same names in the same order each time. What follows from the names alone is worked out
once for each such list, a layout; then a plain postback is read by picking values from their places. What is not plain
(blanks to trim, macros, something overlong, a name given twice) is left to `ingest.wire.interpret`, which says the same
of what is plain. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import compress
from operator import itemgetter
from types import MappingProxyType
from typing import Final

import msgspec

from ingest.macros import MACRO_OPENERS, MACRO_WORDS
from ingest.times import parse_time_ms
from ingest.wire import (
    COUNTS,
    FIELDS,
    MAX_PARAM_NAME_BYTES,
    MAX_PARAMS,
    MAX_TEXT_BYTES,
    STANDARD_ALIASES,
    STATUSES,
    Pairs,
    Postback,
    interpret,
    own_names,
)

MAX_LAYOUTS: Final = 1024
"""Lists of names that are remembered of one advertiser."""

_NO_ALIASES: Final[Mapping[str, str]] = MappingProxyType({})
_DOUBTFUL: Final = re.compile(f"[ {re.escape(MACRO_OPENERS)}]")
"""In a value that counts: a blank may be one to trim, the others may begin a macro or JSON."""

_CLICK_ID_NAMES: Final = frozenset(name for name, field in STANDARD_ALIASES.items() if field == "click_id")
_SEVERAL: Final = -1

Values = tuple[str | None, ...]


class Layout(msgspec.Struct, frozen=True):
    """What a list of names says. `fields` picks the values under FIELDS, in their order, of the values and a None after
    them; `given`: the places of those that are there; `kept`: which of all are params."""

    fields: Callable[[Values], Values]
    given: tuple[int, ...]
    params: tuple[str, ...]
    kept: tuple[bool, ...]

    def read(self, values: tuple[str, ...]) -> Postback | None:
        """The postback; None where it is not plain."""
        said = "".join([values[place] for place in self.given])
        if not said.isascii() or _DOUBTFUL.search(said):
            return None
        if max(map(len, values)) > MAX_TEXT_BYTES or not "".join(values).isprintable():
            return None
        fields = self.fields((*values, None))
        if "" in fields or not MACRO_WORDS.isdisjoint(fields):
            return None
        click_id, goal, txn_id, amount, currency, token, event_id, event_time, status = fields
        event_ms = None
        if event_time is not None:
            event_ms = parse_time_ms(event_time)
            if event_ms is None:
                return None
        if status is not None:
            status = status.lower()
            if status not in STATUSES:
                return None
        return Postback(
            click_id,
            goal,
            txn_id,
            amount,
            currency and currency.upper(),
            token,
            event_id,
            event_ms,
            status,
            dict(zip(self.params, compress(values, self.kept), strict=True)),
            None,
        )


_UNSEEN: Final = Layout(itemgetter(0), (), (), ())
_SEEN_ONCE: Final = Layout(itemgetter(0), (), (), ())


class Reading:
    """Reads postbacks. `aliases` are an advertiser's own names -> standard names; `secret_names` never get into params;
    `click_id_names` are those under which some advertiser gives the click_id."""

    def __init__(
        self,
        aliases: Mapping[str, str] = _NO_ALIASES,
        secret_names: frozenset[str] = frozenset(),
        click_id_names: frozenset[str] = frozenset(),
    ) -> None:
        self._aliases = aliases
        self._secret_names = secret_names
        self._click_id_names = click_id_names
        self._layouts: dict[tuple[str, ...], Layout | None] = {}

    def read(self, pairs: Pairs) -> Postback:
        """The postback that the pairs say."""
        if pairs:
            names, values = zip(*pairs, strict=True)
            layout = self._layouts.get(names, _UNSEEN)
            if layout is _UNSEEN or layout is _SEEN_ONCE:
                layout = self._see(names, layout)
            if layout is not None:
                postback: Postback | None = layout.read(values)
                if postback is not None:
                    return postback
        return interpret(pairs, self._aliases, secret_names=self._secret_names)

    def click_ids(self, pairs: Pairs) -> tuple[str | None, Mapping[str, str]]:
        """The click_id under a standard name, and those under advertisers' own names for it, by that name: before it is
        known whose postback it is."""
        standard: int | None = None
        own: dict[str, int] = {}
        for place, (name, _) in enumerate(pairs):
            if name in _CLICK_ID_NAMES:
                standard = place if standard is None else _SEVERAL
            if name in self._click_id_names:
                own[name] = _SEVERAL if name in own else place
        click_id = None if standard is None else self._value(pairs, standard, _NO_ALIASES)
        if not own:
            return click_id, _NO_ALIASES
        found = {name: self._value(pairs, place, {name: "click_id"}) for name, place in own.items()}
        return click_id, {name: value for name, value in found.items() if value is not None}

    def _value(self, pairs: Pairs, place: int, aliases: Mapping[str, str]) -> str | None:
        """The click_id that stands at `place`, under a name that `aliases` add."""
        if place != _SEVERAL and _is_plain_value(value := pairs[place][1]):
            return value
        return interpret(pairs, aliases, secret_names=self._secret_names).click_id

    def _see(self, names: tuple[str, ...], before: Layout | None) -> Layout | None:
        """The layout of names that come again: those that never do are not worth the making."""
        if before is _UNSEEN:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[names] = _SEEN_ONCE
            return None
        layout = self._layouts[names] = self._make_layout(names)
        return layout

    def _make_layout(self, names: tuple[str, ...]) -> Layout | None:
        """None where some name alone is a reason to look closer."""
        standard_of, secret_names = own_names([(name, "given") for name in names], self._aliases, self._secret_names)
        places: dict[str, int] = {}
        params: list[str] = []
        kept: list[bool] = []
        for place, name in enumerate(names):
            field = standard_of.get(name)
            kept.append(field is None and name not in secret_names)
            if field is not None:
                if field in places:
                    return None
                places[field] = place
            elif kept[-1]:
                if name in COUNTS or name in params or not _is_plain_name(name):
                    return None
                params.append(name)
        if "click_id" not in places or len(params) > MAX_PARAMS:
            return None
        absent = len(names)
        fields: Callable[[Values], Values] = itemgetter(*[places.get(field, absent) for field in FIELDS])
        return Layout(fields, tuple(places.values()), tuple(params), tuple(kept))


def _is_plain_value(value: str) -> bool:
    """Whether it is read as it is."""
    return (
        value.isascii()
        and value.isprintable()
        and 0 < len(value) <= MAX_TEXT_BYTES
        and value not in MACRO_WORDS
        and not _DOUBTFUL.search(value)
    )


def _is_plain_name(name: str) -> bool:
    return name.isascii() and name.isprintable() and len(name) <= MAX_PARAM_NAME_BYTES
