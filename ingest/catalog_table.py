"""Reading a table key by key: every problem is collected with its place, none stops the reading. A table is one of a
TOML file, or an object of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class CatalogProblem(NamedTuple):
    """What is wrong with a catalog, and where: `field` such as `campaigns[0].goals[2].value`, empty: the whole."""

    field: str
    detail: str

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}" if self.field else self.detail


class Table:
    """One table of the document. `place` is where it stands, such as `campaigns[0].goals[2]`."""

    def __init__(self, data: Mapping[str, object], place: str, problems: list[CatalogProblem]) -> None:
        self.place = place
        self._data = data
        self._problems = problems
        self._known: list[str] = []

    def at(self, key: str) -> str:
        """Where `key` stands."""
        return f"{self.place}.{key}" if self.place else key

    def problem(self, key: str, text: str) -> None:
        """Note what is wrong with `key`."""
        self._problems.append(CatalogProblem(self.at(key), text))

    def take(self, key: str, read: Callable[[object], T], absent: T, *, required: bool = False) -> T:
        """The key's value as `read` makes it; `absent` where the key is not there, or `read` raises ValueError."""
        self._known.append(key)
        if key not in self._data:
            if required:
                self.problem(key, "missing")
            return absent
        try:
            return read(self._data[key])
        except ValueError as error:
            self.problem(key, str(error))
            return absent

    def tables(self, key: str) -> Iterator[Table]:
        """The tables of an array of tables, `[[key]]`."""
        self._known.append(key)
        value = self._data.get(key, [])
        if not isinstance(value, list):
            self.problem(key, f"expected tables, each under [[{_path(self.at(key))}]]")
            return
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield Table(item, f"{self.at(key)}[{index}]", self._problems)
            else:
                self.problem(f"{key}[{index}]", f"expected a table under [[{_path(self.at(key))}]]")

    def table(self, key: str) -> Table:
        """The table under `key`, empty where it is absent."""
        self._known.append(key)
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            self.problem(key, "expected a table in braces")
            value = {}
        return Table(value, self.at(key), self._problems)

    def done(self) -> None:
        """Note each key that nobody took."""
        for key in self._data:
            if key not in self._known:
                near = get_close_matches(key, self._known, 1)
                self.problem(key, f"there is no such key{f'; did you mean {near[0]}?' if near else ''}")


def _path(place: str) -> str:
    """`campaigns[0].goals` as a header names it: `campaigns.goals`."""
    return ".".join(part.partition("[")[0] for part in place.split("."))
