"""How postbacks are read: under the standard names, or under those of one advertiser.

A sender's template gives the same names in the same order each time. What follows from the names alone is worked out
once for each such list, a layout; then a plain postback is read by picking values from their places. What is not plain
(blanks to trim, macros, something overlong, a name given twice) is left to `ingest.wire.interpret`, which says the same
of what is plain. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ingest.bodies import Sent
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
    Postback,
    interpret,
    own_names,
)

MAX_LAYOUTS: Final = 1024
"""Lists of names that are remembered of one advertiser."""
MAX_NAMES: Final = 64
MAX_NAMES_CHARS: Final = 4096
"""Of a list that is remembered."""

_NO_ALIASES: Final[Mapping[str, str]] = MappingProxyType({})
_DOUBTFUL: Final = re.compile(f"[ {re.escape(MACRO_OPENERS)}]")
"""In a value that counts: a blank may be one to trim, the others may begin a macro or JSON."""
_VISIBLE: Final = "".join(char for char in map(chr, range(0x21, 0x7F)) if char not in MACRO_OPENERS)
_PLAIN: Final = re.compile(f"[{re.escape(_VISIBLE)}]{{1,{MAX_TEXT_BYTES}}}")

CLICK_ID_NAMES: Final = frozenset(name for name, field in STANDARD_ALIASES.items() if field == "click_id")
_NO_VALUES: Final = MACRO_WORDS | {""}

Values = tuple[str | None, ...]


class Places(msgspec.Struct, frozen=True):
    """Where in a list of names those are that give the fields, by standard name, and those that are params."""

    fields: Mapping[str, int]
    params: Mapping[str, int]


class Layout(msgspec.Struct, frozen=True):
    """What a list of names says. `given` picks the values that count; `fields` picks them under FIELDS, in their order,
    of all values and a None after them; `kept` picks those of `params`."""

    given: Callable[[Values], tuple[str, ...]]
    fields: Callable[[Values], Values]
    params: tuple[str, ...]
    kept: Callable[[Values], tuple[str, ...]]

    def read(self, values: tuple[str, ...]) -> Postback | None:
        """The postback; None where it is not plain."""
        given = self.given(values)
        said = "".join(given)
        if not said.isascii() or _DOUBTFUL.search(said) or not _NO_VALUES.isdisjoint(given):
            return None
        everything = "".join(values)
        if not everything.isprintable() or (len(everything) > MAX_TEXT_BYTES < max(map(len, values))):
            return None
        click_id, goal, txn_id, amount, currency, token, event_id, event_time, status = self.fields((*values, None))
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
            dict(zip(self.params, self.kept(values), strict=True)),
            None,
        )


def _picker(places: Sequence[int]) -> Callable[[Values], Any]:
    """Picks the values at these places."""
    match places:
        case []:
            return lambda _: ()
        case [place]:
            return lambda values: (values[place],)
        case _:
            return itemgetter(*places)


_UNSEEN: Final = Layout(itemgetter(0), itemgetter(0), (), itemgetter(0))
_SEEN_ONCE: Final = Layout(itemgetter(0), itemgetter(0), (), itemgetter(0))


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
        self._own_names = click_id_names
        self._layouts: dict[tuple[str, ...], Layout | None] = {}

    def read(self, sent: Sent) -> Postback:
        """The postback that was sent."""
        if isinstance(sent, dict) and sent:
            names = tuple(sent)
            layout = self._layouts.get(names, _UNSEEN)
            if layout is _UNSEEN or layout is _SEEN_ONCE:
                layout = self._see(names, layout)
            if layout is not None:
                postback: Postback | None = layout.read(tuple(sent.values()))
                if postback is not None:
                    return postback
        return self._interpret(sent, self._aliases)

    def click_ids(self, sent: Sent) -> tuple[str | None, Mapping[str, str]]:
        """The click_id under a standard name, and those under advertisers' own names for it, by that name: before it is
        known whose postback it is."""
        names = (sent if isinstance(sent, dict) else dict(sent)).keys()
        click_id = self._value(sent, names & CLICK_ID_NAMES, _NO_ALIASES)
        if self._own_names.isdisjoint(names):
            return click_id, _NO_ALIASES
        found = {name: self._value(sent, {name}, {name: "click_id"}) for name in names if name in self._own_names}
        return click_id, {name: value for name, value in found.items() if value is not None}

    def _value(self, sent: Sent, names: Set[str], aliases: Mapping[str, str]) -> str | None:
        """The click_id that stands under one of `names`, which count with `aliases`."""
        if not names:
            return None
        if isinstance(sent, dict) and len(names) == 1:
            (name,) = names
            if _is_plain_value(value := sent[name]):
                return value
        return self._interpret(sent, aliases).click_id

    def _interpret(self, sent: Sent, aliases: Mapping[str, str]) -> Postback:
        return interpret(sent, aliases, secret_names=self._secret_names)

    def _see(self, names: tuple[str, ...], before: Layout | None) -> Layout | None:
        """The layout of names that come again: those that never do are not worth the making."""
        if len(names) > MAX_NAMES or sum(map(len, names)) > MAX_NAMES_CHARS:
            return None
        if before is _UNSEEN:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[names] = _SEEN_ONCE
            return None
        layout = self._layouts[names] = self._make_layout(names)
        return layout

    def places(self, names: tuple[str, ...]) -> Places | None:
        """Where each name of a list counts; None where some name alone is a reason to look closer."""
        if len(set(names)) < len(names):
            return None
        standard_of, secret_names = own_names([(name, "given") for name in names], self._aliases, self._secret_names)
        fields: dict[str, int] = {}
        params: dict[str, int] = {}
        for place, name in enumerate(names):
            field = standard_of.get(name)
            if field is not None:
                if field in fields:
                    return None
                fields[field] = place
            elif name not in secret_names:
                if name in COUNTS or not _is_plain_name(name):
                    return None
                params[name] = place
        if "click_id" not in fields or len(params) > MAX_PARAMS:
            return None
        return Places(fields, params)

    def _make_layout(self, names: tuple[str, ...]) -> Layout | None:
        places = self.places(names)
        if places is None:
            return None
        absent = len(names)
        return Layout(
            _picker(list(places.fields.values())),
            _picker([places.fields.get(field, absent) for field in FIELDS]),
            tuple(places.params),
            _picker(list(places.params.values())),
        )


def _is_plain_value(value: str) -> bool:
    """Whether it is read as it is."""
    return _PLAIN.fullmatch(value) is not None and value not in MACRO_WORDS


def _is_plain_name(name: str) -> bool:
    return name.isascii() and name.isprintable() and len(name) <= MAX_PARAM_NAME_BYTES
