"""TLS to Redis and Postgres, with servers of the machine's own: certificates and their names are checked."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from ingest.engines.process import SAME_USER, launch_command
from storage.migrate import migrate
from storage.postgres import PostgresError, connect
from tests.eventually import eventually
from tests.platform import client_of, load_sample
from tests.program import running
from tests.servers import free_port, temporary_folder

PASSWORD: Final = "tls-test-password"
START_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Certificates:
    """Files: of an authority, of the server `localhost` that it vouches for, of an authority that nobody asked for."""

    folder: Path
    authority: Path
    certificate: Path
    key: Path
    other_authority: Path


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make certificates with")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        run(
            "req",
            "-x509",
            *new_key,
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    run("req", *new_key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName = DNS:localhost\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("x509", "-req", "-in", "server.csr", *signing, "-out", "server.pem")
    (folder / "server.key").chmod(0o600)
    return Certificates(folder, folder / "ca.pem", folder / "server.pem", folder / "server.key", folder / "other.pem")


@contextmanager
def process(command: list[str], log: Path, *, identity: str = SAME_USER) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        started = subprocess.Popen(
            launch_command(command, death_signal=signal.SIGKILL, identity=identity),
            stdout=output,
            stderr=output,
            cwd="/",
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def wait_until_ready(started: subprocess.Popen[bytes], log: Path) -> None:
    """Both servers say it in the same words."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while b"ready to accept connections" not in log.read_bytes().lower():
        assert started.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


@pytest.fixture(scope="module")
def redis_port(certificates: Certificates, folder: Path) -> Iterator[int]:
    """A Redis that speaks TLS only."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on PATH")
    # It names the first option that it does not know.
    probe = subprocess.run([program, "--tls-port", "0", "--no-such-option", "0"], capture_output=True, timeout=10)
    if b"tls-port" in probe.stdout + probe.stderr:
        pytest.skip("this redis-server is built without TLS")
    port = free_port()
    data = folder / "redis"
    data.mkdir()
    tls = ["--tls-cert-file", certificates.certificate, "--tls-key-file", certificates.key]
    tls += ["--tls-ca-cert-file", certificates.authority, "--tls-auth-clients", "no"]
    command = [program, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", *map(str, tls)]
    command += ["--dir", str(data), "--save", "", "--appendonly", "yes", "--requirepass", PASSWORD]
    log = folder / "redis.log"
    with process(command, log) as started:
        wait_until_ready(started, log)
        yield port


@pytest.fixture(scope="module")
def postgres_port(certificates: Certificates, folder: Path) -> Iterator[int]:
    """A PostgreSQL that takes only TLS connections with a password."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL of the machine's own under /usr/lib/postgresql; the embedded one has no TLS")
    programs = found[-1].parent
    identity, data, key = SAME_USER, folder / "postgres", folder / "postgres.key"
    data.mkdir(mode=0o700)
    shutil.copy(certificates.key, key)
    if os.geteuid() == 0:  # which PostgreSQL refuses to run as
        user = next(entry for entry in pwd.getpwall() if entry.pw_name in {"postgres", "nobody"})
        identity = f"{user.pw_uid}:{user.pw_gid}"
        for path in (data, key):
            os.chown(path, user.pw_uid, user.pw_gid)
    key.chmod(0o600)
    made = subprocess.run(
        launch_command(
            [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"],
            death_signal=signal.SIGKILL,
            identity=identity,
        ),
        capture_output=True,
        cwd="/",
        timeout=120,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all localhost scram-sha-256\n")
    port = free_port()
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=localhost"]
    command += [
        "-c",
        f"unix_socket_directories={data}",
        "-c",
        "ssl=on",
        "-c",
        f"ssl_cert_file={certificates.certificate}",
    ]
    command += ["-c", f"ssl_key_file={key}", "-c", "fsync=off"]
    log = folder / "postgres.log"
    with process(command, log, identity=identity) as started:
        wait_until_ready(started, log)
        asyncio.run(prepare(f"postgresql://postgres@/postgres?host={quote(str(data))}&port={port}"))
        asyncio.run(load(dsn_of(port, certificates.authority)))
        yield port


async def prepare(dsn: str) -> None:
    """A user with a password, and a database of its own."""
    connection = await connect(dsn)
    try:
        await connection.execute(f"CREATE ROLE postback LOGIN PASSWORD '{PASSWORD}'")
        await connection.execute("CREATE DATABASE postback OWNER postback")
    finally:
        await connection.close()


async def load(dsn: str) -> None:
    connection = await connect(dsn)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    await load_sample(dsn)


def dsn_of(port: int, authority: Path, host: str = "localhost", mode: str = "verify-full") -> str:
    return f"postgresql://postback:{PASSWORD}@{host}:{port}/postback?sslmode={mode}&sslrootcert={quote(str(authority))}"


def url_of(port: int, authority: Path, host: str = "localhost") -> str:
    return f"rediss://:{PASSWORD}@{host}:{port}/0?ssl_ca_certs={quote(str(authority))}"


async def test_the_whole_program_over_tls(
    tmp_path: Path, certificates: Certificates, redis_port: int, postgres_port: int
) -> None:
    dsn = dsn_of(postgres_port, certificates.authority)
    with running(tmp_path, url_of(redis_port, certificates.authority), dsn) as program:
        async with client_of(program, dsn) as client:
            await client.register("tls")
            _, said = await client.get("click_id=tls&goal=purchase&txn_id=1&sale_amount=5")
            assert said["status"] == "accepted"
            await eventually(lambda: client.count("conversions", "click_id = 'tls'"), lambda found: found == 1)
            rows = await client.database.fetch(
                "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'postback'"
            )
            assert len(rows) >= 3, "a receiver's, a writer's, this one"
            assert all(row["ssl"] and row["version"].startswith("TLSv1.") for row in rows)
        assert program.stop() == 0
        assert PASSWORD not in program.log_path.read_text(encoding="utf-8")


@pytest.mark.parametrize("wrong", ["authority", "name"])
@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_a_server_that_cannot_prove_itself_is_refused(
    tmp_path: Path, certificates: Certificates, redis_port: int, postgres_port: int, server: str, wrong: str
) -> None:
    bad: tuple[Path, str] = (
        (certificates.other_authority, "localhost") if wrong == "authority" else (certificates.authority, "127.0.0.1")
    )
    good = (certificates.authority, "localhost")
    redis_url = url_of(redis_port, *(bad if server == "redis" else good))
    dsn = dsn_of(postgres_port, *(bad if server == "postgres" else good))
    with pytest.raises(AssertionError) as caught, running(tmp_path, redis_url, dsn):
        pass
    said = str(caught.value)
    assert "serve ended with 1" in said
    option = "redis.url (ssl_ca_certs=FILE)" if server == "redis" else "postgres.dsn (sslrootcert=FILE)"
    assert "its TLS certificate is not trusted: " in said
    assert option in said
    assert PASSWORD not in said
    assert "Traceback" not in said


def test_a_connection_without_tls_is_refused_by_the_server(
    tmp_path: Path, certificates: Certificates, redis_port: int, postgres_port: int
) -> None:
    """So that the tests above prove something."""
    plain = dsn_of(postgres_port, certificates.authority, mode="disable")
    with pytest.raises(PostgresError, match=r"pg_hba\.conf"):
        asyncio.run(connect(plain))
    with (
        pytest.raises(AssertionError) as caught,
        running(tmp_path, f"redis://:{PASSWORD}@localhost:{redis_port}", plain),
    ):
        pass
    assert PASSWORD not in str(caught.value)
