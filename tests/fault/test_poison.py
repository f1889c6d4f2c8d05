"""Rows that Postgres refuses: their batch is stored without them, they wait in dead_letters and can be stored later."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from storage.batch_store import BatchCounts, BatchStore
from storage.dead_letters import (
    DeadLetter,
    dead_letter_ids,
    discard_dead_letters,
    fetch_dead_letter,
    newest_dead_letters,
)
from storage.faults import Fault, classify
from storage.postgres import Pool, close, open_pool
from storage.queue import Entry
from storage.records import Kind, encode
from tests.commands import run_command
from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample
from tests.program import ROOT, Program, environment, running
from tests.queued import line
from tests.writing import conversion, count, entry, log_rows, store

NO_SALE_OF_13 = "ALTER TABLE conversions ADD CONSTRAINT no_13 CHECK (sale_amount <> 13) NOT VALID"
ANY_SALE = "ALTER TABLE conversions DROP CONSTRAINT no_13"
NO_X = "ALTER TABLE {} ADD CONSTRAINT no_x CHECK (params->>'sub1' <> 'x') NOT VALID"
ANY_X = "ALTER TABLE {} DROP CONSTRAINT no_x"


# Through the program -------------------------------------------------------------------------------------------------


async def test_poison_under_load_is_set_aside_and_stored_after_all(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn) as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register(*(f"p{number}" for number in range(200)))
            await client.database.execute(NO_SALE_OF_13)
            bad = {number for number in range(200) if number % 25 == 7}
            answers = await asyncio.gather(
                *(_purchase(client, number, 13 if number in bad else 1) for number in range(200))
            )
            assert {(status, said["status"]) for status, said in answers} == {(200, "accepted")}
            await eventually(lambda: client.count("dead_letters"), lambda found: found == len(bad))
            await eventually(lambda: client.count("conversions"), lambda found: found == 200 - len(bad))

            listed = json.loads(await _command(program, redis_url, postgres_dsn, "list", "--json"))
            assert {letter["click_id"]: letter["conversion_id"] for letter in listed} == {
                f"p{number}": answers[number][1]["conversion_id"] for number in bad
            }
            assert {letter["kind"] for letter in listed} == {"conversion"}
            assert all("no_13" in letter["error"] for letter in listed)
            table = await _command(program, redis_url, postgres_dsn, "list", "--limit", "3")
            assert f"and {len(bad) - 3} older" in table
            assert listed[-1]["conversion_id"] in table

            refused = await _command(program, redis_url, postgres_dsn, "retry", "--all", code=1)
            assert refused.count("refused: 23514") == len(bad)
            assert await client.count("dead_letters") == len(bad)

            again = await asyncio.gather(*(_purchase(client, number, 13) for number in bad))
            assert {said["status"] for _, said in again} == {"duplicate"}

            await client.database.execute(ANY_SALE)
            one = str(listed[0]["id"])
            assert "conversion" in await _command(program, redis_url, postgres_dsn, "retry", one)
            assert "there is no such" in await _command(program, redis_url, postgres_dsn, "retry", one, code=1)
            await _command(program, redis_url, postgres_dsn, "retry", "--all")
            assert await _command(program, redis_url, postgres_dsn, "list") == "no dead letters\n"
            rows = await client.database.fetch("SELECT conversion_id::text, sale_amount FROM conversions")
            assert {row[0]: int(row[1]) for row in rows} == {
                said["conversion_id"]: 13 if number in bad else 1 for number, (_, said) in enumerate(answers)
            }
            assert len(rows) == 200
            await eventually(lambda: client.count("postback_log"), lambda found: found == len(bad))


async def _purchase(client: Client, number: int, amount: int) -> tuple[int, Any]:
    return await client.get(f"click_id=p{number}&goal=purchase&txn_id=t&sale_amount={amount}")


async def _command(program: Program, redis_url: str, dsn: str, *arguments: str, code: int = 0) -> str:
    """What `postback dead-letters` prints."""
    env = environment(program.data_dir, redis_url, dsn, {})
    done = await asyncio.to_thread(run_command, ["dead-letters", *arguments], env=env, cwd=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


# Storing again, step by step -----------------------------------------------------------------------------------------


async def buried(pool: Pool, *entries: Entry) -> list[DeadLetter]:
    """The entries as dead letters, oldest first."""
    assert (await store(pool, list(entries))).dead == len(entries)
    async with pool.acquire() as connection:
        letters, found = await newest_dead_letters(connection, len(entries))
    assert found == len(entries)
    by_entry = {letter.entry.id: letter for letter in letters}
    return [by_entry[one.id] for one in entries]


async def test_what_was_counted_meanwhile_is_not_counted_again(pool: Pool) -> None:
    await pool.execute(NO_X.format("conversions"))
    (letter,) = await buried(pool, entry(conversion(1, txn="same")))
    await pool.execute(ANY_X.format("conversions"))
    await store(pool, [entry(conversion(2, txn="same"))])
    assert await BatchStore(pool).store_again(letter) == BatchCounts(read=1, present=1, logged=1)
    assert (await count(pool, "conversions"), await count(pool, "dead_letters")) == (1, 0)
    (logged,) = await log_rows(pool)
    assert logged[:2] == (1, "duplicate")
    with pytest.raises(LookupError):
        await BatchStore(pool).store_again(letter)
    assert await count(pool, "conversions") == 1


async def test_of_many_that_store_one_again_one_does(pool: Pool) -> None:
    await pool.execute(NO_X.format("conversions"))
    (letter,) = await buried(pool, entry(conversion(1)))
    await pool.execute(ANY_X.format("conversions"))
    done = await asyncio.gather(*(BatchStore(pool).store_again(letter) for _ in range(8)), return_exceptions=True)
    assert [one for one in done if not isinstance(one, LookupError)] == [BatchCounts(read=1, new=1)]
    assert (await count(pool, "conversions"), await count(pool, "dead_letters")) == (1, 0)


async def test_a_conflict_keeps_what_was_claimed_first(pool: Pool) -> None:
    await pool.execute(NO_X.format("postback_log"))
    repeat = entry(conversion(1), Kind.CONFLICT)
    (letter,) = await buried(pool, Entry(repeat.id, repeat.kind, repeat.payload, b"5.00USD"))
    assert letter.entry.prior == b"5.00USD"
    await pool.execute(ANY_X.format("postback_log"))
    assert await BatchStore(pool).store_again(letter) == BatchCounts(read=1, logged=1)
    ((_, outcome, _, params),) = await log_rows(pool)
    assert outcome == "conflict"
    assert json.loads(params) == {"sub1": "x", "claimed": "5.00USD", "sent": "1.99USD"}


async def test_a_month_without_a_partition_is_made(pool: Pool) -> None:
    old = conversion(1, clicked_ms=1_500_000_000_000)
    await pool.execute(NO_X.format("conversions"))
    (letter,) = await buried(pool, entry(old))
    await pool.execute(ANY_X.format("conversions"))
    await pool.execute("DROP TABLE conversions_2017_07")
    assert await BatchStore(pool).store_again(letter) == BatchCounts(read=1, new=1)


async def test_what_no_row_can_be_made_of_stays(pool: Pool) -> None:
    strange = [
        Entry(b"1-0", b"zz", b"whatever"),
        Entry(b"2-0", b"c1", b"no columns"),
        Entry(b"3-0", b"c\xff1", b"\xff\xfe\t\\"),
    ]
    letters = await buried(pool, *strange)
    for letter in letters:
        assert letter.column("click_id") is None
        with pytest.raises(Exception, match=r".") as caught:
            await BatchStore(pool).store_again(letter)
        assert isinstance(caught.value, Exception)
        assert classify(caught.value) is Fault.DATA
    assert await count(pool, "dead_letters") == 3


# Blocks, put there by a writer that did not know them ----------------------------------------------------------------


async def buried_block(pool: Pool, *lines: bytes) -> DeadLetter:
    """The block as a writer of before puts it aside."""
    await pool.execute(
        "INSERT INTO dead_letters (entry_id, kind, payload, error) VALUES ('5-0', 'b1', $1, 'unknown kind')",
        b"".join(lines),
    )
    async with pool.acquire() as connection:
        ((letter,), _) = await newest_dead_letters(connection, 1)
    return letter


async def test_all_rows_of_a_block_are_stored(pool: Pool) -> None:
    letter = await buried_block(
        pool,
        *(line(conversion(number)) for number in range(5)),
        line(conversion(6, txn="txn-1"), Kind.DUPLICATE, "1.99USD"),
        line(conversion(7, conversion_id=None, reason="unknown_click"), Kind.REJECTION),
    )
    assert letter.column("click_id") is None, "it has several"
    assert await BatchStore(pool).store_again(letter) == BatchCounts(read=7, new=5, logged=2)
    assert (await count(pool, "conversions"), await count(pool, "dead_letters")) == (5, 0)
    with pytest.raises(LookupError):
        await BatchStore(pool).store_again(letter)


async def test_a_bad_row_of_a_block_becomes_a_letter_by_itself(pool: Pool) -> None:
    await pool.execute(NO_SALE_OF_13)
    bad = conversion(3, sale_micros=13_000_000)
    letter = await buried_block(pool, line(conversion(1)), line(conversion(2)), line(bad), line(conversion(4)))
    assert await BatchStore(pool).store_again(letter) == BatchCounts(read=4, new=3, dead=1)
    async with pool.acquire() as connection:
        ((alone,), found) = await newest_dead_letters(connection, 10)
    assert (found, alone.entry.kind, alone.entry.payload) == (1, b"c1", encode(bad))
    await pool.execute(ANY_SALE)
    assert await BatchStore(pool).store_again(alone) == BatchCounts(read=1, new=1)
    assert (await count(pool, "conversions"), await count(pool, "dead_letters")) == (4, 0)


async def test_many_that_store_a_block_again_count_it_once(pool: Pool) -> None:
    bad = conversion(99, country="USA")
    letter = await buried_block(pool, *(line(conversion(number)) for number in range(20)), line(bad))
    done = await asyncio.gather(*(BatchStore(pool).store_again(letter) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, BatchCounts | LookupError) for one in done)
    assert (await count(pool, "conversions"), await count(pool, "dead_letters")) == (20, 1)
    assert await count(pool, "postback_log") == 0


async def test_a_block_through_the_command(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    pool = await open_pool(postgres_dsn, 1)
    await buried_block(pool, *(line(conversion(number)) for number in range(3)), line(conversion(9, country="USA")))
    env = environment(tmp_path, redis_url, postgres_dsn, {})

    async def command(*arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(run_command, ["dead-letters", *arguments], env=env, cwd=ROOT)
        return done.returncode, done.stdout

    assert " block " in (await command("list"))[1]
    code, said = await command("retry", "--all")
    assert (code, "3 conversions, 1 refused" in said) == (1, True)
    ((letter,)) = json.loads((await command("list", "--json"))[1])
    assert (letter["kind"], letter["click_id"]) == ("conversion", "click")
    assert await count(pool, "conversions") == 3
    await close(pool)


async def test_columns_are_read_as_they_were_meant(pool: Pool) -> None:
    await pool.execute(NO_X.format("conversions"))
    odd = conversion(1, click_id="a\tb\\c\nd\\N", txn_id=None)
    (letter,) = await buried(pool, entry(odd))
    assert letter.column("click_id") == odd.click_id
    assert letter.column("txn_id") is None
    assert letter.column("conversion_id") == str(odd.conversion_id)


async def test_only_what_is_named_is_discarded(pool: Pool) -> None:
    letters = await buried(pool, *(Entry(b"%d-0" % number, b"zz", b"") for number in range(1, 4)))
    async with pool.acquire() as connection:
        assert await discard_dead_letters(connection, [letters[1].id, 999]) == {letters[1].id}
        assert await dead_letter_ids(connection) == [letters[0].id, letters[2].id]
        assert await fetch_dead_letter(connection, letters[1].id) is None
        assert await fetch_dead_letter(connection, letters[2].id) == letters[2]
