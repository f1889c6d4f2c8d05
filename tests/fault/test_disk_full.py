"""The disk of the spool is full while Redis is away: a clean 503, and 202 again once there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.platform import Client, client_of, load_sample
from tests.program import running
from tests.proxy import Mode, proxy_to

DISK_BYTES = 1 << 20
LEFT_BYTES = 96 << 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_is_a_clean_503(tmp_path: Path, redis_url: str, postgres_dsn: str, small_disk: Path) -> None:
    await load_sample(postgres_dsn)
    spool = small_disk / "spool"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES - LEFT_BYTES))
    with (
        proxy_to(redis_url.removeprefix("unix://")) as proxy,
        running(
            tmp_path / "var",
            f"redis://127.0.0.1:{proxy.port}",
            postgres_dsn,
            SPOOL__DIR=str(spool),
            SERVER__RECEIVERS="2",
        ) as program,
    ):
        async with client_of(program, postgres_dsn) as client:
            await client.register("refused")
            load = Load(client, senders=8, name="full")
            await load.start()
            await load.until(100)
            proxy.set(Mode.REFUSE)
            tries = load.ledger.tries

            async def said(kind: str) -> int:
                return tries[kind]

            await eventually(lambda: said("503 unavailable"), lambda found: found >= 200)
            assert tries["202 spooled"] > 0
            await eventually(lambda: _ready(client), lambda status: status == 503)
            refused = [await _purchase(client, number) for number in range(20)]
            # Small ones may find the last bytes of an open segment.
            kept = {str(number) for number, status in enumerate(refused) if status == 202}
            assert set(refused) <= {202, 503}
            assert len(kept) < len(refused)
            assert len(list(spool.iterdir())) < 10, "no empty segments are left behind"

            ballast.unlink()
            spooled = tries["202 spooled"]
            await eventually(lambda: said("202 spooled"), lambda found: found >= spooled + 100)
            await eventually(lambda: _ready(client), lambda status: status == 200)

            proxy.set(Mode.PASS)
            await load.until(100)
            ledger = await load.finish()
            ledger.attempted |= {("refused", txn_id) for txn_id in kept}
            await assert_kept(client, ledger)

            async def segments() -> list[Path]:
                return list(spool.iterdir())

            await eventually(segments, lambda found: not found)
            rows = await client.database.fetch("SELECT txn_id FROM conversions WHERE click_id = 'refused'")
            assert {row[0] for row in rows} == kept
        assert program.stop() == 0


async def _ready(client: Client) -> int:
    async with client.http.get(f"{client.program.url}/readyz") as response:
        return response.status


async def _purchase(client: Client, number: int) -> int:
    fields = {"click_id": "refused", "goal": "purchase", "txn_id": str(number), "sale_amount": "1", "sub1": "x" * 900}
    status, _ = await client.post("/postback", json=fields)
    return status
