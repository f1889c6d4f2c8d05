"""Several Valkey servers as one: a Redis Cluster, or a primary with replicas under sentinels. Each server can be
killed, frozen and started again on its port, with its data; all end with pytest."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import sample
from typing import Any, Final

import redis

from ingest.engines.binaries import find_valkey
from ingest.engines.process import launch_command
from tests.servers import temporary_folder

PRIMARIES: Final = 3
SLOTS: Final = 16_384
NODE_TIMEOUT_MS: Final = 1_500
DOWN_AFTER_MS: Final = 1_000
SERVICE: Final = "postbacks"
WAIT_S: Final = 60.0

Options = dict[str, str]


def wait_until(is_it: Callable[[], bool], what: str) -> None:
    """Ask until it is so. AssertionError when time is up."""
    deadline = time.monotonic() + WAIT_S
    while not is_it():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.02)


def lasting_ports(count: int) -> list[int]:
    """Free ports from below those that outgoing connections are given: a server that was killed finds its own free."""
    found: list[int] = []
    for port in sample(range(12_000, 32_000), 2_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


class Node:
    """A valkey-server on a port of its own; each write is fsynced to its append-only file."""

    def __init__(self, folder: Path, port: int, options: Options | None = None) -> None:
        self.port = port
        self.folder = folder
        self.options = options or {}
        self._client = redis.Redis(port=self.port, socket_timeout=5.0, protocol=2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, **more: str) -> None:
        """Returns when it takes commands. `more`: options for this start only. From the main thread: the server ends
        with the thread that started it."""
        self.spawn(**more)
        wait_until(self.answers, f"PONG of {self.address}")

    def spawn(self, **more: str) -> None:
        """The same without waiting."""
        self.folder.mkdir(exist_ok=True)
        command = launch_command([str(find_valkey()), *self._arguments(more)], death_signal=signal.SIGKILL)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def _arguments(self, more: Options) -> list[str]:
        settings = self._settings() | self.options | more
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _settings(self) -> Options:
        return {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "repl-diskless-sync-delay": "0",
        }

    def answers(self) -> bool:
        """Whether it takes commands. AssertionError if it has ended."""
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text(errors="replace")
        try:
            return bool(self.run("PING"))
        except (redis.ConnectionError, redis.ResponseError):
            return False

    def run(self, *command: str | int) -> Any:
        """The reply to a command; text as text."""
        return _text(self._client.execute_command(*command))  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        found: dict[str, Any] = self._client.info(section)
        return found

    @property
    def is_copy(self) -> bool:
        """Whether it is a replica that has caught up with its primary."""
        return bool(self.info("replication").get("master_link_status") == "up")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no farewell to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._client.close()

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _text(reply: Any) -> Any:
    match reply:
        case bytes():
            return reply.decode()
        case list():
            return [_text(one) for one in reply]
        case _:
            return reply


class ClusterNode(Node):
    """A node of a cluster. The first three are primaries with a third of the slots each."""

    def __init__(self, folder: Path, port: int, bus_port: int) -> None:
        self.bus_port = bus_port
        super().__init__(
            folder,
            port,
            {
                "cluster-enabled": "yes",
                "cluster-port": str(self.bus_port),
                "cluster-node-timeout": str(NODE_TIMEOUT_MS),
                "cluster-replica-validity-factor": "0",
                "cluster-allow-replica-migration": "no",  # the spare one stays a primary
            },
        )

    @property
    def id(self) -> str:
        """What the cluster knows it by."""
        return str(self.run("CLUSTER", "MYID"))

    @property
    def is_primary(self) -> bool:
        return bool(self.info("replication")["role"] == "master")

    @property
    def sees_all_well(self) -> bool:
        """Whether all slots are served and no node is suspected."""
        state = self.run("CLUSTER", "INFO")
        nodes = self.run("CLUSTER", "NODES")
        return "cluster_state:ok" in str(state) and "fail" not in str(nodes)


class Cluster:
    """Three primaries with a replica each, and a spare one that owns no slots."""

    def __init__(self, nodes: Sequence[ClusterNode]) -> None:
        self.nodes = list(nodes)
        self.spare = self.nodes[-1]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)

    @property
    def primaries(self) -> list[ClusterNode]:
        """Those that are known to own slots at the start, or have taken over from one."""
        return [node for node in self.nodes[:-1] if node.is_running and node.is_primary]

    def form(self) -> None:
        """Nodes that know nothing of each other become the cluster."""
        first = self.nodes[0]
        for place, node in enumerate(self.nodes):
            node.run("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
            if place < PRIMARIES:
                begin, end = SLOTS * place // PRIMARIES, SLOTS * (place + 1) // PRIMARIES - 1
                node.run("CLUSTER", "ADDSLOTSRANGE", begin, end)
            if node is not first:
                node.run("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        ids = [node.id for node in self.nodes]
        for node in self.nodes:
            wait_until(partial(_knows, node, ids), "the nodes have met")
        for primary, replica in zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:-1], strict=True):
            replica.run("CLUSTER", "REPLICATE", primary.id)
        self.settle()

    def heal(self) -> None:
        """Start what was killed, and settle."""
        for node in self.nodes:
            if not node.is_running:
                node.start()
        self.settle()

    def settle(self) -> None:
        """Wait until all is well and each primary has its replica."""
        wait_until(lambda: all(node.answers() and node.sees_all_well for node in self.nodes), "all see each other")
        wait_until(lambda: len(self.primaries) == PRIMARIES, "three primaries")
        wait_until(lambda: sum(node.is_copy for node in self.nodes) == PRIMARIES, "a replica for each")

    def flush(self) -> None:
        """Forget all data."""
        for node in [*self.primaries, self.spare]:
            node.run("FLUSHALL")

    def configure(self, name: str, value: str) -> None:
        """Set an option of all nodes."""
        for node in self.nodes:
            node.run("CONFIG", "SET", name, value)

    def slot(self, key: str) -> int:
        """Where the key belongs."""
        return int(self.spare.run("CLUSTER", "KEYSLOT", key))

    def owner(self, key: str) -> ClusterNode:
        """The primary that serves the key."""
        slot = self.slot(key)
        for begin, end, (_, port, *_), *_ in self.spare.run("CLUSTER", "SLOTS"):
            if begin <= slot <= end:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody serves {key}")

    def move_keys(self, slot: int, source: ClusterNode, target: ClusterNode, keys_each: int) -> Iterator[None]:
        """Move a slot as `--cluster reshard` does, some keys at each step. The slot is the source's until the last."""
        target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        while keys := source.run("CLUSTER", "GETKEYSINSLOT", slot, keys_each):
            source.run("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            yield
        for node in (target, source, *self.primaries):
            node.run("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def hand_over(self, slots: Sequence[int], source: ClusterNode, target: ClusterNode) -> None:
        """Move slots as Valkey 9 can by itself."""
        ranges = [word for slot in slots for word in (slot, slot)]
        source.run("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target.id)
        wait_until(lambda: all(self._is_at(slot, target) for slot in slots), "the slots have arrived")

    def _is_at(self, slot: int, node: ClusterNode) -> bool:
        served = self.spare.run("CLUSTER", "SLOTS")
        return any(begin <= slot <= end and owner[1] == node.port for begin, end, owner, *_ in served)


def _knows(node: ClusterNode, ids: Sequence[str]) -> bool:
    nodes = str(node.run("CLUSTER", "NODES"))
    return all(one in nodes for one in ids)


@contextmanager
def valkey_cluster() -> Iterator[Cluster]:
    """A cluster, formed and well."""
    count = 2 * PRIMARIES + 1
    with temporary_folder() as folder, ExitStack() as stack:
        ports = lasting_ports(2 * count)
        nodes = [ClusterNode(folder / str(port), port, bus) for port, bus in zip(ports[::2], ports[1::2], strict=True)]
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        cluster = Cluster(nodes)
        cluster.form()
        yield cluster


class Sentinel(Node):
    """A sentinel that watches a primary, and finds its replicas and the other sentinels by itself."""

    def __init__(self, folder: Path, port: int, watched: Node) -> None:
        super().__init__(folder, port)
        self._watched = watched

    def _arguments(self, more: Options) -> list[str]:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._watched.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 6000",
            *(f"{name} {value}" for name, value in more.items()),
        ]
        path = self.folder / "sentinel.conf"
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        return [str(path), "--sentinel"]

    @property
    def primary_port(self) -> int:
        """Where it says that the primary is."""
        _, port = self.run("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)

    @property
    def knows_all(self) -> bool:
        """Whether it sees a primary that is well, a replica, and the other sentinels."""
        ((*words,),) = self.run("SENTINEL", "MASTERS")
        said = dict(zip(words[::2], words[1::2], strict=True))
        return [said[name] for name in ("flags", "num-slaves", "num-other-sentinels")] == ["master", "1", "2"]


class Guarded:
    """A primary and a replica under three sentinels."""

    def __init__(self, nodes: Sequence[Node], sentinels: Sequence[Sentinel]) -> None:
        self.nodes = list(nodes)
        self.sentinels = list(sentinels)

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(one.address for one in self.sentinels) + f"/{SERVICE}"

    @property
    def primary(self) -> Node:
        """The one that the sentinels agree on."""
        wait_until(lambda: len({one.primary_port for one in self.sentinels}) == 1, "the sentinels agree")
        return next(node for node in self.nodes if node.port == self.sentinels[0].primary_port)

    def settle(self) -> None:
        """Wait until the sentinels know all there is, and the primary has its replica."""
        wait_until(lambda: all(one.answers() and one.knows_all for one in self.sentinels), "the sentinels know all")
        wait_until(lambda: any(node.is_copy for node in self.nodes), "the primary has its replica")


@contextmanager
def guarded_valkey() -> Iterator[Guarded]:
    """A primary with a replica under sentinels, all well."""
    with temporary_folder() as folder, ExitStack() as stack:
        ports = lasting_ports(5)
        primary, replica = (Node(folder / str(port), port) for port in ports[:2])
        sentinels = [Sentinel(folder / str(port), port, primary) for port in ports[2:]]
        for node in (primary, replica, *sentinels):
            stack.callback(node.kill)
        primary.start()
        replica.start(replicaof=f"127.0.0.1 {primary.port}")
        wait_until(lambda: replica.is_copy, "the primary has its replica")
        for sentinel in sentinels:
            sentinel.start()
        guarded = Guarded([primary, replica], sentinels)
        guarded.settle()
        yield guarded
