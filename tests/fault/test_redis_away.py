"""Redis is cut off, frozen, or loses replies: senders get 202 from the spool, and every 2xx is counted once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.platform import Client, client_of, load_sample
from tests.program import Program, running
from tests.proxy import Mode, proxy_to


def _socket(redis_url: str) -> str:
    assert redis_url.startswith("unix://")
    return redis_url.removeprefix("unix://")


async def _spool_is_empty(program: Program) -> None:
    async def segments() -> list[Path]:
        return list((program.data_dir / "spool").glob("*.spool"))

    await eventually(segments, lambda found: not found)


async def test_outages_are_spooled_and_drained(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with (
        proxy_to(_socket(redis_url)) as proxy,
        running(tmp_path, f"redis://127.0.0.1:{proxy.port}", postgres_dsn, SERVER__RECEIVERS="2") as program,
    ):
        async with client_of(program, postgres_dsn) as client:
            load = Load(client, senders=16, name="outage")
            await load.start()
            await load.until(200)
            for mode in (Mode.REFUSE, Mode.FREEZE, Mode.REFUSE, Mode.FREEZE):
                proxy.set(mode)
                spooled = load.ledger.tries["202 spooled"]

                async def spooled_now() -> int:
                    return load.ledger.tries["202 spooled"]

                await eventually(spooled_now, lambda now, then=spooled: now >= then + 300)  # type: ignore[misc]
                took = [await _probe(client) for _ in range(10)]
                assert min(took) < 0.5, "nobody waits for a Redis that is known to be away"
                proxy.set(Mode.PASS)
                await load.until(200)
            ledger = await load.finish()
            ledger.attempted.add(("outage0-0", "probe"))
            assert ledger.tries["200 accepted"] > 0
            assert ledger.tries["503 unavailable"] == 0
            await assert_kept(client, ledger)
            await _spool_is_empty(program)
        assert program.stop() == 0


async def _probe(client: Client) -> float:
    """How long a postback takes, in seconds; it must be spooled."""
    started = time.monotonic()
    status, said = await client.get("click_id=outage0-0&goal=purchase&txn_id=probe&sale_amount=1")
    assert (status, said) == (202, {"status": "spooled"})
    return time.monotonic() - started


async def test_lost_replies_are_known_as_ones_own(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with (
        proxy_to(_socket(redis_url)) as proxy,
        running(tmp_path, f"redis://127.0.0.1:{proxy.port}", postgres_dsn) as program,
    ):
        async with client_of(program, postgres_dsn) as client:
            load = Load(client, senders=16, name="lost")
            await load.start()
            for _ in range(10):
                await load.until(50)
                proxy.set(Mode.DROP_REPLIES)
                await asyncio.sleep(0.05)  # the length of the fault, not a wait for anything
                proxy.set(Mode.PASS)
                proxy.cut()
            ledger = await load.finish()
            await assert_kept(client, ledger)
            assert await client.count("postback_log") == ledger.tries["200 duplicate"] == 0


async def test_a_spool_left_behind_is_drained_by_the_next(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with proxy_to(_socket(redis_url)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        with running(tmp_path, url, postgres_dsn) as program:
            async with client_of(program, postgres_dsn) as client:
                await client.register("left")
                proxy.set(Mode.REFUSE)
                answers = [await _purchase(client, number) for number in range(20)]
                assert {status for status, _ in answers} == {202}
                program.process.kill()
                await asyncio.to_thread(program.process.wait)
        segments = list((tmp_path / "spool").glob("*.spool"))
        assert segments
        with segments[-1].open("ab") as torn:
            torn.write(b"\x40\x00\x00\x00\x01\x02\x03\x04half a rec")
        proxy.set(Mode.PASS)
        with running(tmp_path, url, postgres_dsn) as program:
            async with client_of(program, postgres_dsn) as client:
                await eventually(lambda: client.count("conversions"), lambda found: found == 20)
                await _spool_is_empty(program)
                again = [await _purchase(client, number) for number in range(20)]
                assert {said["status"] for _, said in again} == {"duplicate"}


async def _purchase(client: Client, number: int) -> tuple[int, dict[str, str]]:
    return await client.get(f"click_id=left&goal=purchase&txn_id={number}&sale_amount={number}")


async def test_both_away_and_the_spool_full_is_503(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with proxy_to(_socket(redis_url)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        with running(tmp_path, url, postgres_dsn, SPOOL__MAX_BYTES="4KiB") as program:
            async with client_of(program, postgres_dsn) as client:
                await client.register("left")
                proxy.set(Mode.REFUSE)
                answers = [await _purchase(client, number) for number in range(60)]
                kept = [number for number, (status, _) in enumerate(answers) if status == 202]
                assert {status for status, _ in answers} == {202, 503}
                assert {said["status"] for status, said in answers if status == 503} == {"unavailable"}
                async with client.http.get(f"{program.url}/postback?click_id=left&sub1={'x' * 900}") as response:
                    assert response.status == 503
                    assert int(response.headers["Retry-After"]) > 0
                proxy.set(Mode.PASS)
                await eventually(lambda: client.count("conversions"), lambda found: found == len(kept))
                rows = await client.database.fetch("SELECT txn_id FROM conversions")
                assert {int(row[0]) for row in rows} == set(kept)
