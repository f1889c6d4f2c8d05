"""URL templates of publishers: checked when they are saved, filled in when they are sent. Pure.

A strict grammar instead of a lenient parser: what another program might read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from ingest.outbound.networks import Policy

MAX_TEMPLATE_BYTES: Final = 2048
MAX_URL_BYTES: Final = 8192

MACROS: Final = (
    "click_id", "conversion_id", "country", "currency", "event_time", "goal", "goal_id", "payout", "status", "txn_id",
)  # fmt: skip
"""Beside these, `sub1` to `sub20`, and `click.NAME` for whatever came with the click."""

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.ASCII,
)
_SPECIAL: Final = re.compile(r"sub(?:[1-9]|1[0-9]|20)|click\.[A-Za-z0-9_.-]{1,64}", re.ASCII)
_MACRO: Final = re.compile(r"\{([^{}]*)\}")
_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9._~!$'()*+,;:@/?&=-]|%[0-9A-Fa-f]{2})*", re.ASCII)


class TemplateError(ValueError):
    """A template that cannot be used; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template. `path` and `query` still have their macros; `port` None: the scheme's."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: str

    @property
    def origin(self) -> str:
        """`https://host:port`"""
        return f"{self.scheme}://{self.host}{'' if self.port is None else f':{self.port}'}"

    @property
    def text(self) -> str:
        """The template as it is stored."""
        return f"{self.origin}{self.path}{f'?{self.query}' if self.query else ''}"


@dataclass(frozen=True, slots=True)
class Target:
    """A filled-in template: what is called."""

    origin: str
    path: str
    query: str


def parse_template(text: str, policy: Policy) -> Template:
    """Raises TemplateError, RefusedError."""
    if len(text) > MAX_TEMPLATE_BYTES:
        raise TemplateError(f"longer than {MAX_TEMPLATE_BYTES} characters")
    if not all("!" <= letter <= "~" for letter in text):
        raise TemplateError("has blanks or letters beyond ASCII: percent-encode them, and write the host in punycode")
    if "#" in text:
        raise TemplateError("has a fragment, which is never sent: take the # and what follows away, or write %23")
    found = _URL.fullmatch(text)
    if found is None:
        raise TemplateError(_why_no_url(text))
    port = int(found["port"]) if found["port"] else None
    template = Template(
        found["scheme"].lower(), found["host"].lower(), port, found["path"] or "/", found["query"] or ""
    )
    policy.check_place(template.scheme, template.host, template.port)
    _check_literal(template.path)
    for pair in template.query.split("&"):
        name, equals, value = pair.partition("=")
        if "{" in name:
            raise TemplateError(f"{pair}: a macro can only stand in a value, as in name={{macro}}")
        _check_literal(name + equals + value)
    return template


def _why_no_url(text: str) -> str:
    authority = text.partition("://")[2].partition("?")[0].partition("/")[0]
    if "{" in authority:
        return "a macro cannot stand in the host: it may stand in the path and in the query's values"
    if "@" in authority:
        return "has a name or password before the host, which may not be: sign instead, with `postback outbound secret`"
    return "expected a URL such as https://publisher.example/postback?click={click_id}"


def _check_literal(part: str) -> None:
    for name in _MACRO.findall(part):
        if name not in MACROS and not _SPECIAL.fullmatch(name):
            known = ", ".join(f"{{{macro}}}" for macro in MACROS)
            raise TemplateError(f"{{{name}}} is not known; there are {known}, {{sub1}} to {{sub20}} and {{click.NAME}}")
    rest = _MACRO.sub("", part)
    if "{" in rest or "}" in rest:
        raise TemplateError("has a brace without its partner")
    if not _LITERAL.fullmatch(rest):
        raise TemplateError("has letters that a URL cannot have: percent-encode them, such as %20 for a blank")


def render(template: Template, values: Mapping[str, str]) -> Target:
    """Macros filled in, percent-encoded; what there is no value for is empty. Raises TemplateError."""
    path = "/".join(_fill_segment(segment, values) for segment in template.path.split("/"))
    query = _MACRO.sub(lambda found: quote(values.get(found[1], ""), safe=""), template.query)
    if len(template.origin) + len(path) + len(query) + 1 > MAX_URL_BYTES:
        raise TemplateError(f"the URL would be longer than {MAX_URL_BYTES} bytes")
    return Target(template.origin, path, query)


def _fill_segment(segment: str, values: Mapping[str, str]) -> str:
    """No value makes a segment that leads upwards: some servers read %2E as a dot, so the segment is refused."""
    filled = _MACRO.sub(lambda found: quote(values.get(found[1], ""), safe=""), segment)
    if filled != segment and filled.lower().replace("%2e", ".") in {".", ".."}:
        raise TemplateError("a value would change the URL's path")
    return filled
