"""One Redis that dies, hangs, or cannot confirm what it was told, under load."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dedup.client import connect
from dedup.durability import Durability, time_limit_s
from dedup.port import Entry, Verdict
from dedup.redis import RedisDeduplicator
from ingest.config import Ack
from tests.clusters import Node, lasting_ports, wait_until
from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.platform import client_of, load_sample
from tests.program import Program, running
from tests.servers import temporary_folder

FROZEN_S = 3.0
FAR_MS = int(time.time() * 1000) + 86_400_000

pytestmark = pytest.mark.timeout(300)


def _valkey_pid(program: Program) -> int:
    said = json.loads((program.data_dir / "run" / "engines.json").read_bytes())
    return int(said["pids"]["redis"])


async def test_the_embedded_valkey_dies_and_hangs(tmp_path: Path, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, postgres_dsn=postgres_dsn) as program:
        async with client_of(program, postgres_dsn) as client:
            load = Load(client, senders=16, name="restart")
            await load.start()
            for fault in (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
                await load.until_answered("200 accepted", 200)
                pid = _valkey_pid(program)
                os.kill(pid, fault)
                if fault is signal.SIGSTOP:
                    await load.until_answered("202 spooled", 50)
                    await asyncio.sleep(FROZEN_S)  # the length of the fault
                    os.kill(pid, signal.SIGCONT)
                    assert _valkey_pid(program) == pid
                else:  # another may be there before a receiver has asked twice: then nobody is told of anything
                    await _another(program, pid)
            await load.until_answered("200 accepted", 200)
            ledger = await load.finish()
            assert ledger.tries["503 unavailable"] == 0
            await assert_kept(client, ledger)
            assert await client.count("conversions") == len(ledger.attempted)
        assert program.stop() == 0


async def _another(program: Program, before: int) -> None:
    async def pid_now() -> int:
        return _valkey_pid(program)

    await eventually(pid_now, lambda now: now != before)


async def test_an_append_only_file_that_is_fsynced_once_a_second_is_waited_for() -> None:
    with _valkey_for(Ack.FSYNCED) as valkey:
        valkey.primary.run("CONFIG", "SET", "appendfsync", "everysec")
        client = connect(f"redis://{valkey.primary.address}", timeout_s=time_limit_s(Durability.FSYNCED))
        try:
            dedup = RedisDeduplicator(client, partitions=1, max_backlog=1_000, durability=Durability.FSYNCED)
            for number in range(4):
                assert await dedup.claim([_entry(number)]) == [Verdict.ACCEPTED]
        finally:
            await client.aclose()


@pytest.mark.parametrize("durability", [Durability.WRITTEN, Durability.REPLICATED])
async def test_connections_to_what_became_a_replica_are_closed(durability: Durability) -> None:
    """The address may lead elsewhere by then: a DNS name or a virtual IP that moves at a failover."""
    with _valkey_for(Ack.REPLICATED) as valkey:
        client = connect(f"redis://{valkey.primary.address}?client_name=ours")

        def open_connections() -> set[str]:
            lines = str(valkey.primary.run("CLIENT", "LIST")).splitlines()
            return {line.split()[0] for line in lines if "name=ours " in line}

        try:
            dedup = RedisDeduplicator(client, partitions=4, max_backlog=1_000, durability=durability)
            batch = [_entry(number) for number in range(20)]
            assert set(await dedup.claim(batch)) == {Verdict.ACCEPTED}
            before = open_connections()
            assert before
            valkey.primary.run("REPLICAOF", "127.0.0.1", "1")
            assert set(await dedup.claim(batch)) == {Verdict.UNAVAILABLE}
            is_well = await dedup.problem() is None
            assert is_well == (durability is Durability.WRITTEN), "a replica answers PING, and refuses WAIT"
            assert not before & open_connections()
            valkey.primary.run("REPLICAOF", "NO", "ONE")
        finally:
            await client.aclose()


def _entry(number: int) -> Entry:
    return Entry(f"click-{number}", b"1", b"%07d5USD" % number, FAR_MS, b"c1", b"row")


class _Doubtful:
    """A Valkey that can lose what `ack` asks of it, and get it back."""

    def __init__(self, ack: Ack, primary: Node, replica: Node) -> None:
        self.ack = ack
        self.primary = primary
        self._replica = replica

    def lose(self) -> None:
        if self.ack is Ack.FSYNCED:
            self.primary.run("CONFIG", "SET", "appendonly", "no")
        else:
            self._replica.kill()

    def regain(self) -> None:
        if self.ack is Ack.FSYNCED:
            self.primary.run("CONFIG", "SET", "appendonly", "yes")
        else:
            self._replica.spawn(replicaof=f"127.0.0.1 {self.primary.port}")

    def confirms(self) -> bool:
        if self.ack is Ack.FSYNCED:
            return not self.primary.info("persistence")["aof_rewrite_in_progress"]
        return self._replica.answers() and self._replica.is_copy


@contextmanager
def _valkey_for(ack: Ack) -> Iterator[_Doubtful]:
    with temporary_folder() as folder:
        primary, replica = (Node(folder / str(port), port) for port in lasting_ports(2))
        doubtful = _Doubtful(ack, primary, replica)
        try:
            primary.start()
            if ack is Ack.REPLICATED:
                doubtful.regain()
            wait_until(doubtful.confirms, "it can confirm")
            yield doubtful
        finally:
            primary.kill()
            replica.kill()


@pytest.mark.parametrize("ack", [Ack.FSYNCED, Ack.REPLICATED])
async def test_what_cannot_be_confirmed_is_never_answered_with_200(tmp_path: Path, postgres_dsn: str, ack: Ack) -> None:
    await load_sample(postgres_dsn)
    with _valkey_for(ack) as valkey:
        url = f"redis://{valkey.primary.address}"
        settings = {"REDIS__ACK": ack.value, "SPOOL__MAX_BYTES": "128KiB"}
        with running(tmp_path, url, postgres_dsn, **settings) as program:
            async with client_of(program, postgres_dsn) as client:
                load = Load(client, senders=16, name="doubt")
                await load.start()
                await load.until_answered("200 accepted", 200)
                valkey.lose()
                await load.until_answered("202 spooled", 100)
                accepted = load.ledger.tries["200 accepted"] + load.ledger.tries["200 duplicate"]
                await load.until_answered("503 unavailable", 100)  # the spool is full
                assert load.ledger.tries["200 accepted"] + load.ledger.tries["200 duplicate"] == accepted
                valkey.regain()
                await asyncio.to_thread(wait_until, valkey.confirms, "it confirms again")
                await load.until_answered("200 accepted", 200)
                ledger = await load.finish()
                await assert_kept(client, ledger)
            assert program.stop() == 0
