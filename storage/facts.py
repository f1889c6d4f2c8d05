"""What stored conversions were counted with: the second lock behind the claims in Redis."""

from __future__ import annotations

from storage.postgres import COMMAND_TIMEOUT_S, Pool, borrowed
from storage.sqlfiles import queries


async def stored_fact(
    pool: Pool, conversion_id: str, clicked_ms: int, *, limit_s: float = COMMAND_TIMEOUT_S
) -> str | None:
    """Amount and currency as they were sent (`49.99USD`; empty: no amount) of the conversion, None where there is none.
    `clicked_ms`: its click's time. Raises what `storage.postgres` names."""
    async with borrowed(pool, limit_s) as connection:
        fact: str | None = await connection.fetchval(queries("facts")["fact"], conversion_id, clicked_ms)
    return fact
