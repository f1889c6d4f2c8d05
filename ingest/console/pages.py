"""Templates and static files, read once at the start; pages with the headers that all of them have."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ingest.console import formats, words
from ingest.console.sessions import PATH

_FOLDER: Final = Path(__file__).parent
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
TURN_S: Final = 0.002
"""How long a page is worked on before others have their turn."""
POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}
"""Of every answer; a static file has its own Cache-Control."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file. `mark` changes with its content and stands in its address: so it can be cached for good."""

    body: bytes
    content_type: str
    mark: str


class Pages:
    """All templates compiled, all static files in memory: made in a thread, it never waits for a disk again."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._statics = {path.name: _read(path) for path in (_FOLDER / "static").iterdir()}
        self._environment.globals.update(root=PATH, static=self._address, words=words, formats=formats)
        self._environment.filters.update(
            money=formats.money,
            micros=formats.micros,
            count=formats.count,
            parameters=formats.parameters,
            pair=_pair,
            when=_when,
        )
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    def render(self, template: str, **values: object) -> str:
        """A template as text; what is put in is escaped."""
        return self._environment.get_template(template).render(values)

    async def render_in_turns(self, template: str, **values: object) -> str:
        """The same, with other work in between: postbacks do not wait for a large page."""
        loop = asyncio.get_running_loop()
        parts, began_s = [], loop.time()
        for part in self._environment.get_template(template).generate(values):
            parts.append(part)
            if loop.time() - began_s > TURN_S:
                await asyncio.sleep(0)
                began_s = loop.time()
        return "".join(parts)

    def part(self, template: str, macro: str, *values: object) -> str:
        """One macro of a template."""
        return str(getattr(self._environment.get_template(template).module, macro)(*values))

    def page(self, template: str, status: int = 200, **values: object) -> web.Response:
        """A whole page, a small one."""
        return page_of(self.render(template, **values), status)

    def static(self, name: str, mark: str) -> web.Response | None:
        """A static file; None: there is none of this name."""
        found = self._statics.get(name)
        if found is None:
            return None
        # Another process may have other files, while a new version is rolled out.
        caching = "public, max-age=31536000, immutable" if mark == found.mark else "no-cache"
        return web.Response(
            body=found.body,
            headers={**HEADERS, "Content-Type": f"{found.content_type}; charset=utf-8", "Cache-Control": caching},
        )

    def _address(self, name: str) -> str:
        return f"{PATH}/static/{name}?v={self._statics[name].mark}"


def page_of(text: str, status: int) -> web.Response:
    """HTML with the headers."""
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)


def go_to(address: str) -> web.Response:
    """See Other."""
    return web.Response(status=303, headers={**HEADERS, "Location": address})


def _pair(value: str) -> tuple[str, str]:
    """An option of a select whose title is its value."""
    return value, value


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    return StaticFile(body, _TYPES[path.suffix], sha256(body).hexdigest()[:16])


def _when(value: datetime | None) -> str | Markup:
    """A time as an element, in UTC."""
    if value is None:
        return formats.NOTHING
    return Markup('<time datetime="{}">{}</time>').format(formats.machine_time(value), formats.instant(value))
