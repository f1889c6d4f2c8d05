"""Redis Cluster: redis-py's client, with a way of its own to the node that holds a key.

redis-py's way sends ASKING and the command it is for over two connections where several are idle, fails with an
AttributeError when a slot moves to a node that owns none yet, asks some node for the keys of each XREADGROUP, and
leaves a pipeline to its errors. Here all that a call needs goes over one connection, and redirections are followed for
several commands at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis import exceptions as errors
from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster

Command = tuple[bytes | str | int, ...]

REDIRECTS: Final = 8
"""How often one call follows a slot to another node before it fails."""
TRY_AGAIN_S: Final = 0.05
"""Pause before a call is repeated whose keys are on two nodes, their slot being on its way; REDIRECTS times at most."""
TOPOLOGY_TIMEOUTS: Final = 3
"""Nodes that may hang while one is looked for that knows the slots."""

_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
_KEY_COMES_FIRST: Final = frozenset({"XGROUP CREATE", "XPENDING"})


class ClusterClient(RedisCluster):
    """Its errors are RedisErrors, where RedisCluster's partly are not. A command whose reply is lost is sent again as
    often as `retry` says; one that was redirected had not run."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """See RedisCluster; commands on a key of ours take our way."""
        key = _key_of(args)
        if key is not None and "target_nodes" not in kwargs:
            (reply,) = await self.together(key, [args], **kwargs)
            return reply
        try:
            return await super().execute_command(*args, **kwargs)
        except errors.RedisClusterException as error:
            raise errors.ConnectionError(str(error)) from error

    async def together(self, key: bytes | str, commands: Sequence[Command], **options: Any) -> list[Any]:
        """Run commands in order on one connection to the node that holds the key; their replies, or the first error.
        `options` are for the reading of the replies."""
        redirects, failures = REDIRECTS, self.retry.get_retries()
        asked: ClusterNode | None = None  # where this call, and only this one, was sent
        failed: str | None = None
        while True:
            node = asked or await self._node_of(key, failed)
            try:
                return await _send(node, commands, options, asking=asked is not None)
            except errors.MaxConnectionsError:
                raise
            except (errors.ConnectionError, errors.TimeoutError):
                await self._doubt(node)
                failures -= 1
                if failures < 0:
                    raise
                asked, failed = None, node.name
            except errors.ClusterDownError:
                self._initialize = True  # who serves what is being decided: look again next time
                raise
            except errors.TryAgainError:
                redirects -= 1
                if redirects < 0:
                    raise
                asked = None
                await asyncio.sleep(TRY_AGAIN_S)
            except errors.AskError as error:  # MovedError is one
                redirects -= 1
                if redirects < 0:
                    raise
                error.host = error.host or str(node.host)  # none: the same host
                asked = None
                if isinstance(error, errors.MovedError):
                    await self.nodes_manager.move_slot(error)
                else:
                    asked = self._known(error.host, error.port)

    async def on_primaries(self, command: Command) -> list[Any]:
        """The reply of each primary. Raises unless all answer."""
        await self._look(None)
        nodes = self.get_primaries()
        return [reply for (reply,) in await asyncio.gather(*(self._ask(node, command) for node in nodes))]

    async def ping(self, **_: Any) -> bool:
        """Whether all primaries answer. Raises if one does not."""
        return all(await self.on_primaries(("PING",)))

    async def _ask(self, node: ClusterNode, command: Command) -> list[Any]:
        try:
            return await _send(node, [command], {})
        except BaseException:  # a refusal too (it is no primary any more), and whoever asked having lost patience
            await self._doubt(node)
            raise

    async def _node_of(self, key: bytes | str, failed: str | None) -> ClusterNode:
        await self._look(failed)
        try:
            return self.nodes_manager.get_node_from_slot(self.keyslot(key))
        except (errors.RedisClusterException, LookupError) as error:
            raise errors.ConnectionError(f"no node serves the slot of {key!r}") from error

    async def _look(self, failed: str | None) -> None:
        """Learn who serves what, unless that is known. `failed` names a node to be asked last."""
        limit_s = TOPOLOGY_TIMEOUTS * float(self.connection_kwargs["socket_timeout"] or 1)
        try:
            async with asyncio.timeout(limit_s):
                await self.initialize(last_failed_node_name=failed)
        except errors.RedisClusterException as error:
            raise errors.ConnectionError(str(error)) from error
        except TimeoutError as error:
            raise errors.TimeoutError(f"no node told within {limit_s:g} s who serves what") from error

    async def _doubt(self, node: ClusterNode) -> None:
        """A node failed: its other connections are not to be trusted, nor is what we know of the cluster."""
        self._initialize = True
        node.update_active_connections_for_reconnect()
        await node.disconnect_free_connections()

    def _known(self, host: str, port: int) -> ClusterNode:
        """The node at an address; made known where it owns no slot yet."""
        node = self.get_node(host=host, port=port)
        if node is None:
            node = ClusterNode(host, port, "primary", **self.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {node.name: node})
        return node


async def _send(
    node: ClusterNode, commands: Sequence[Command], options: Mapping[str, Any], *, asking: bool = False
) -> list[Any]:
    """Commands on one connection; their replies, or the first error. `asking`: the node does not own the slot yet."""
    sent = [
        one
        for place, command in enumerate(commands)
        for one in (
            *((PipelineCommand(place, "ASKING"),) if asking else ()),  # it holds for one command
            PipelineCommand(place, *command, **options),
        )
    ]
    try:
        await node.execute_pipeline(sent)
    except RuntimeError as error:  # uvloop's, for a connection that the other side has just closed
        raise errors.ConnectionError(str(error)) from error
    for one in sent:
        if isinstance(one.result, Exception):
            raise one.result
    return [one.result for one in sent if one.args != ("ASKING",)]


def _key_of(command: Sequence[Any]) -> bytes | str | None:
    """The key that decides where one of our commands goes; None for any other command."""
    key: bytes | str | None = None
    if command[0] in _SCRIPTS:
        key = command[3] if int(command[2]) else None
    elif command[0] == "XREADGROUP":
        key = command[command.index(b"STREAMS") + 1]
    elif command[0] in _KEY_COMES_FIRST:
        key = command[1]
    return key
