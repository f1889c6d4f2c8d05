"""Refusals before anything changes: a full queue, a flooding sender, too much under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from tests.eventually import eventually
from tests.platform import client_of, load_sample, statuses
from tests.program import running


async def test_one_senders_flood_does_not_starve_the_others(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn) as program:
        async with client_of(program, postgres_dsn) as client:
            await client.database.execute("UPDATE advertisers SET rate_limit = 20 WHERE id = 1")
            await client.register("flood")
            await client.register("calm", campaign_id=300, publisher_id=11, country="GB")

            async def limited() -> bool:
                answers = await asyncio.gather(*(client.get("click_id=flood&goal=ad_view") for _ in range(60)))
                return "unavailable" in statuses(answers)

            await eventually(limited, bool)  # the new limit has reached the receiver
            flood = await asyncio.gather(*(client.get(f"click_id=flood&goal=ad_view&event_id={n}") for n in range(200)))
            async with client.http.get(f"{program.url}/postback?click_id=calm&goal=application") as response:
                assert (response.status, await response.text()) == (200, "success=true;")
            counted = Counter(status for status, _ in flood)
            assert counted[200] <= 60
            assert counted[503] >= 140
            accepted = sum(status == 200 for status, _ in flood)
            where = "params->>'event_id' IS NOT NULL"
            await eventually(lambda: client.count("conversions", where), lambda found: found == accepted)


async def test_a_full_queue_refuses_and_recovers(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    settings = {"REDIS__MAX_BACKLOG": "50"}
    with running(tmp_path, redis_url, postgres_dsn, role="receiver", **settings) as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register("full")
            queries = [f"click_id=full&goal=purchase&txn_id={n}&sale_amount=1" for n in range(120)]
            first = [await client.get(query) for query in queries]
            assert Counter(status for status, _ in first) == {200: 50, 503: 70}
            async with client.http.get(f"{program.url}/postback?click_id=full") as response:
                assert response.status == 503
                assert 5 <= int(response.headers["Retry-After"]) < 10
            refused = [query for query, (status, _) in zip(queries, first, strict=True) if status == 503]
            with running(tmp_path / "writer", redis_url, postgres_dsn, role="writer"):
                await eventually(lambda: client.count("conversions"), lambda found: found == 50)

                async def again(query: str) -> tuple[int, str]:
                    status, said = await client.get(query)
                    return status, said["status"]

                for query in refused:
                    await eventually(lambda query=query: again(query), lambda found: found[0] == 200)  # type: ignore[misc]
                await eventually(lambda: client.count("conversions"), lambda found: found == 120)
                assert await client.count("postback_log") == 0
