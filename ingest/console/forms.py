"""What a submitted form holds. Names are the places of values in the document that the form stands for, such as
`rates[0].revenue.fixed`: so a problem's field is the name of its input. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import parse_qsl

MAX_FIELDS: Final = 5_000
MAX_ROWS: Final = 300
_ROW: Final = re.compile(r"([a-z]+)\[(\d{1,3})\]\.", re.ASCII)
_NUMBER: Final = re.compile(r"(\d{1,19})(?:\D.*)?", re.ASCII | re.DOTALL)


class FormError(ValueError):
    """What was sent is no form of ours."""


class Form:
    """Names and values. `place` stands before each name that is asked for."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = (), place: str = "") -> None:
        self._pairs = pairs
        self._place = place

    def text(self, name: str, absent: str = "") -> str:
        """The first value, without blanks around it."""
        return next((value.strip() for key, value in self._pairs if key == self._place + name), absent)

    def texts(self, name: str) -> list[str]:
        """All values, such as those of boxes that are ticked."""
        return [value.strip() for key, value in self._pairs if key == self._place + name]

    def is_ticked(self, name: str) -> bool:
        """Whether a box is."""
        return bool(self.texts(name))

    def rows(self, name: str) -> Iterator[Form]:
        """The rows of a list, in order."""
        found = {int(match[2]) for key, _ in self._pairs if (match := _ROW.match(key)) and match[1] == name}
        for index in sorted(found)[:MAX_ROWS]:
            yield Form(self._pairs, f"{name}[{index}].")


def read_form(body: bytes) -> Form:
    """A form as browsers send it. Raises FormError."""
    try:
        text = body.decode("ascii")
        return Form(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise FormError("the form cannot be read") from error


def number(text: str) -> object:
    """The whole number that a text begins with, as in "10 North Media"; the text itself where there is none, so that
    whoever checks it says what was expected; None where it is empty."""
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match else text or None


def items(text: str) -> list[str]:
    """What is between commas, semicolons and blanks."""
    return [item for item in re.split(r"[\s,;]+", text) if item]
