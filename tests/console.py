"""A visitor of the console without a browser: keeps cookies, follows nothing, sends forms with their token."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any

import aiohttp

from tests.program import Program


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    text: str

    @property
    def place(self) -> str:
        """Where it says to go."""
        return str(self.headers["Location"])

    @property
    def token(self) -> str:
        """What the page's forms carry."""
        return self.hidden("csrf")

    def hidden(self, name: str) -> str:
        """A hidden input's value."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found, f"the page has no {name}"
        return unescape(found[1])


@dataclass(slots=True)
class Visitor:
    """One browser, as it were."""

    http: aiohttp.ClientSession
    root: str
    token: str = ""

    @classmethod
    @asynccontextmanager
    async def of(cls, program: Program, key: str | None = None) -> AsyncIterator[Visitor]:
        """A visitor of a program, logged in if there is a key."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            visitor = cls(http, f"{program.url}/console")
            if key is not None:
                answer = await visitor.log_in(key)
                assert (answer.status, answer.place) == (303, "/console")
            yield visitor

    async def get(self, path: str, **headers: str) -> Answer:
        """A page; its token is kept."""
        answer = await self._ask("GET", path, headers=headers)
        if 'name="csrf"' in answer.text:
            self.token = answer.token
        return answer

    async def post(self, path: str, form: Any = (), *, token: str | None = None, **headers: str) -> Answer:
        """A form with the last page's token, or another one."""
        pairs = [*(form.items() if isinstance(form, dict) else form)]
        pairs.append(("csrf", self.token if token is None else token))
        return await self._ask("POST", path, headers=headers, data=pairs)

    async def log_in(self, key: str) -> Answer:
        """The answer to the login form."""
        await self.get("/login")
        answer = await self.post("/login", {"key": key, "next": ""})
        if answer.status == 303:
            await self.get("")
        return answer

    async def _ask(self, method: str, path: str, headers: dict[str, str], **body: Any) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(
            method, f"{self.root}{path}", headers=named, allow_redirects=False, **body
        ) as response:
            return Answer(response.status, response.headers, await response.text())
