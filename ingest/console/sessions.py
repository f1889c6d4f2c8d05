"""Sessions of the console: sealed into a cookie, so that every receiver knows them and none keeps anything.

A session holds the digest of the key that somebody came with. Whose key that is now, and what it may do, is asked for
each request: a session ends with its key.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

import msgspec
from aiohttp import web

from ingest.admin import digest_of
from ingest.api_keys import Holder, KeyRing
from ingest.vault import PREFIX, SESSION, Vault, VaultError

COOKIE: Final = "postback_console"
PATH: Final = "/console"
LIFETIME_S: Final = 12 * 3600
MAX_KEY: Final = 512
_MAX_SEALED: Final = 1024


class Session(msgspec.Struct, frozen=True):
    """`digest`: of the key, empty before there is one. `token`: what each form of this session carries, so that no
    other site can send one."""

    digest: bytes
    token: str
    expires_s: int

    def is_own(self, token: str) -> bool:
        """Whether a form carries this session's token."""
        return compare_digest(token.encode(), self.token.encode())


class Sessions:
    """Begins sessions and knows them again. `clock_s`: epoch seconds."""

    def __init__(self, vault: Vault, keys: KeyRing, clock_s: Callable[[], float]) -> None:
        self._vault = vault
        self._keys = keys
        self._clock_s = clock_s

    def begin(self, digest: bytes = b"") -> Session:
        """A new session, of nobody unless there is a digest."""
        return Session(digest, secrets.token_urlsafe(24), int(self._clock_s()) + LIFETIME_S)

    async def log_in(self, key: str) -> Session | None:
        """A session for whoever has this key and may look; None: nobody. Raises KeysAwayError."""
        key = key.strip()
        holder = await self._keys.holder_of(key) if 0 < len(key) <= MAX_KEY else None
        return self.begin(digest_of(key)) if holder is not None and holder.may_look else None

    async def holder_of(self, session: Session) -> Holder | None:
        """Whose session it is, as long as it and the key are good. Raises KeysAwayError."""
        if not session.digest or session.expires_s <= self._clock_s():
            return None
        return await self._keys.holder_with(session.digest)

    def read(self, request: web.BaseRequest) -> Session | None:
        """The session that the request's cookie holds; None: there is none, it has ended, or it is not ours."""
        sealed = request.cookies.get(COOKIE, "")
        if not 0 < len(sealed) <= _MAX_SEALED or not sealed.isascii():
            return None
        try:
            opened = self._vault.open(f"{sealed}===", SESSION)  # more padding than needed is no fault
            session = msgspec.json.decode(opened, type=Session)
        except (VaultError, msgspec.DecodeError):
            return None
        return session if session.expires_s > self._clock_s() else None

    def give(self, response: web.StreamResponse, session: Session, *, is_secure: bool) -> None:
        """Put the session into the answer's cookie."""
        sealed = self._vault.seal(msgspec.json.encode(session).decode(), SESSION)
        response.set_cookie(
            COOKIE,
            sealed.removeprefix(PREFIX).rstrip("="),
            path=PATH,
            max_age=LIFETIME_S,
            httponly=True,
            samesite="Strict",
            secure=is_secure,
        )

    def take_away(self, response: web.StreamResponse, *, is_secure: bool) -> None:
        """Make the browser forget it."""
        response.del_cookie(COOKIE, path=PATH, httponly=True, samesite="Strict", secure=is_secure)
