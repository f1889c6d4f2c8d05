"""Who PostgreSQL runs as. It refuses root, and to make a cluster it wants a user id that has a name: where this process
is not like that, it becomes another user or goes into a user namespace, in which it appears as one."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ingest.engines.binaries import PostgresBinaries
from ingest.engines.errors import EngineError
from ingest.engines.folders import EngineFolders
from ingest.engines.process import SAME_USER, Command, run_to_end

USER_NAMES = ("postgres", "nobody")
PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Identity:
    """`spec` as the launcher takes it; its files belong to `uid` and `gid`; `binaries` are readable for it."""

    spec: str
    uid: int
    gid: int
    binaries: PostgresBinaries


async def choose_identity(binaries: PostgresBinaries, folders: EngineFolders) -> Identity:
    """The first that works: this user, if it will do; if root, another user; a user namespace.
    Raises EngineError that says what was tried."""
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 and (folders.postgres.exists() or _has_name(uid)):
        return Identity(SAME_USER, uid, gid, binaries)
    tried: list[str] = []
    for attempt in (_dropped, _namespaced) if uid == 0 else (_namespaced,):
        found = await attempt(binaries, folders)
        if isinstance(found, Identity):
            return found
        tried.append(found)
    if uid == 0:
        problem = "PostgreSQL does not run as root"
        advice = "Start the program as an ordinary user, set data_dir to a folder that others may enter"
    else:
        problem = f"PostgreSQL cannot be set up by a user without a name (id {uid} has no entry in /etc/passwd)"
        advice = "Add an entry for it, start the program as another user"
    raise EngineError(
        f"{problem}, and no way around it worked here: {'; '.join(tried)}. "
        f"{advice}, or set postgres.dsn to a server of your own"
    )


async def _dropped(binaries: PostgresBinaries, folders: EngineFolders) -> Identity | str:
    user = _ordinary_user(folders.postgres)
    if user is None:
        return f"there is no user {' or '.join(USER_NAMES)} to become"
    uid, gid = user
    barrier = _barrier(folders.data, uid, gid)
    if barrier is not None:
        return f"user {uid} may not enter {barrier}"
    if _barrier(binaries.program("postgres"), uid, gid) is not None:
        binaries = _copy_once(binaries, folders.data / "programs")
    return await _probe(Identity(f"{uid}:{gid}", uid, gid, binaries), f"as user {uid}")


async def _namespaced(binaries: PostgresBinaries, folders: EngineFolders) -> Identity | str:  # noqa: ARG001 - one shape for all attempts
    if not sys.platform.startswith("linux"):
        return "user namespaces are a thing of Linux"
    inner_id = next((user.pw_uid for user in _usual_users()), None)
    if inner_id is None:
        return f"there is no user {' or '.join(USER_NAMES)} to appear as in a user namespace"
    spec = f"namespace:{inner_id}"
    return await _probe(Identity(spec, os.geteuid(), os.getegid(), binaries), "in a user namespace")


async def _probe(identity: Identity, how: str) -> Identity | str:
    command: Command = [identity.binaries.program("postgres"), "--version"]
    status, output = await run_to_end(command, identity=identity.spec, timeout_s=PROBE_TIMEOUT_S)
    return identity if status == 0 else f"{how}: {output or f'status {status}'}"


def _ordinary_user(data: Path) -> tuple[int, int] | None:
    """The owner of existing data, else the first of the usual users."""
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid, data.stat().st_gid
    return next(((user.pw_uid, user.pw_gid) for user in _usual_users()), None)


def _usual_users() -> Iterator[pwd.struct_passwd]:
    for name in USER_NAMES:
        with suppress(KeyError):
            yield pwd.getpwnam(name)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _barrier(path: Path, uid: int, gid: int) -> Path | None:
    """The first folder above or at `path` that the user may not enter (or program it may not run); None: it may."""
    for step in (*reversed(path.parents), path):
        found = step.stat()
        shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
        if not (found.st_mode >> shift) & 0o1:
            return step
    return None


def _copy_once(binaries: PostgresBinaries, target: Path) -> PostgresBinaries:
    """The installation under `target`, where everybody may read it; copied unless this version is there already."""
    copied = binaries.moved_to(target / f"postgres-{binaries.version}")
    if not copied.root.exists():
        shutil.rmtree(target, ignore_errors=True)
        partial = target / "partial"
        partial.mkdir(parents=True)
        for part in binaries.parts:
            shutil.copytree(part, partial / part.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        partial.rename(copied.root)
    return copied


def give_to(identity: Identity, folder: Path) -> None:
    """Makes `folder` and all below it the identity's own. Only root does that; the top comes last, so that an
    interrupted pass is repeated."""
    if os.geteuid() != 0 or not folder.exists() or folder.stat().st_uid == identity.uid:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), identity.uid, identity.gid, follow_symlinks=False)
    os.chown(folder, identity.uid, identity.gid)
