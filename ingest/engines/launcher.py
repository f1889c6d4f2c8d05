"""Runs one server so that it cannot outlive its supervisor, as another user where asked; then becomes that server.

A script of its own, run as `python -I -S launcher.py PARENT_PID DEATH_SIGNAL IDENTITY PROGRAM ARGUMENT...`, because
dropping rights and asking for the death signal must happen in the child, after its last change of user. Doing so in a
fork of the supervisor would run Python between fork and exec.

IDENTITY is `same`, `UID:GID`, or `namespace:ID`: a user namespace in which the caller's user and group appear as ID.
DEATH_SIGNAL is sent to the server by the kernel when the supervisor's main thread ends; Linux only, 0 for none.
Exit status 127: the program could not be run; 126: the identity could not be taken, with the reason on stderr.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _enter_namespace(inner_id: int, libc: ctypes.CDLL) -> None:
    uid, gid = os.geteuid(), os.getegid()
    _checked(libc.unshare(CLONE_NEWUSER), "unshare(CLONE_NEWUSER)")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{inner_id} {uid} 1")
    _write("/proc/self/gid_map", f"{inner_id} {gid} 1")


def _take(identity: str, libc: ctypes.CDLL) -> None:
    if identity == "same":
        return
    first, _, second = identity.partition(":")
    if first == "namespace":
        _enter_namespace(int(second), libc)
        return
    os.setgroups([])
    os.setgid(int(second))
    os.setuid(int(first))


def main(arguments: list[str]) -> int:
    """Replaces this process by the program; returns only when that failed."""
    parent_pid, death_signal, identity, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _take(identity, libc)
        if int(death_signal):
            _checked(libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    except OSError as error:
        os.write(2, f"cannot take the identity {identity}: {error}\n".encode())
        return 126
    if os.getppid() != int(parent_pid):
        return 0  # the supervisor ended before the death signal was armed
    try:
        os.execv(command[0], command)  # noqa: S606 - this is what a launcher does
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
