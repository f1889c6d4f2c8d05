"""The clicks of Postgres as the receiver asks for them: with a time limit, and not again while it is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ingest.click_api import Registered
from ingest.click_source import ClicksUnavailableError
from ingest.clicks import Click
from storage.clicks import fetch_clicks, register_clicks
from storage.postgres import AWAY, Pool, PostgresError
from storage.rows import NewClick, StoredClick

LOOKUP_TIMEOUT_S: Final = 5.0
REGISTER_TIMEOUT_S: Final = 10.0
REST_MS: Final = 1000
"""After a failure, look-ups fail at once for so long: a server that comes up is not met by all at once."""


class StoredClicks:
    """Reads and registers clicks in Postgres."""

    def __init__(self, pool: Pool, now_ms: Callable[[], int]) -> None:
        self._pool = pool
        self._now_ms = now_ms
        self._rests_until_ms = 0

    async def lookup(self, click_ids: Sequence[str]) -> dict[str, Click]:
        """The clicks that exist, by id. Raises ClicksUnavailableError."""
        if self._now_ms() < self._rests_until_ms:
            raise ClicksUnavailableError
        try:
            found = await fetch_clicks(self._pool, click_ids, limit_s=LOOKUP_TIMEOUT_S)
        except (*AWAY, PostgresError) as error:
            self._rests_until_ms = self._now_ms() + REST_MS
            raise ClicksUnavailableError from error
        return {click.click_id: _click(click) for click in found}

    async def register(self, clicks: Sequence[NewClick]) -> dict[str, Registered]:
        """See `ingest.click_api.Register`."""
        try:
            registrations = await register_clicks(self._pool, clicks, limit_s=REGISTER_TIMEOUT_S)
        except (*AWAY, PostgresError) as error:
            raise ClicksUnavailableError from error
        registered: dict[str, Registered] = {}
        for registration in registrations:
            click = registration.click
            registered.setdefault(click.click_id, Registered(_click(click), registration.is_new))
        return registered


def _click(stored: StoredClick) -> Click:
    return Click(stored.campaign_id, stored.publisher_id, stored.clicked_ms, stored.country)
