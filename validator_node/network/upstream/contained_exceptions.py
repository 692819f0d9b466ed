"""One remote frame must not end the process.

py-libp2p 0.8.1 runs stream handlers, pushed gossip messages and connection tasks in service
nurseries: any exception there cancels the service and ends the process. Garbage protobuf on
/meshsub, an undecodable `msg.key`, or a bug in one of our own handlers is enough.

Corrected: an exception resets the stream it came from and is counted under ("errors", reason); an
undecodable key is a bad signature; an exception in a topic validator refuses the message; the
gossip heartbeat starts again. Cancellation always passes.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import libp2p.pubsub.pubsub as pubsub_module
import trio
from libp2p.exceptions import ValidationError
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.tools.anyio_service.trio_tasks import FunctionTask

from validator_node.network.counters import attached
from validator_node.network.upstream.patching import replace

log = logging.getLogger(__name__)

AsyncFunction = Callable[..., Awaitable[None]]


def _contained(owner: object, reason: str, function: AsyncFunction) -> AsyncFunction:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> None:
        try:
            await function(*args, **kwargs)
        except* Exception as group:
            attached(owner).count("errors", reason)
            log.warning("contained in %s: %r", reason, group.exceptions[0])

    return run


def _stream_task(original: AsyncFunction) -> AsyncFunction:
    async def _handle_muxed_stream(self: SwarmConn, muxed_stream: Any) -> None:
        failed = True

        async def handle() -> None:
            nonlocal failed
            await original(self, muxed_stream)
            failed = False

        await _contained(self.swarm, "stream_handler", handle)()
        if failed:
            attached(self.swarm).count("reset", "stream_handler")
            await _contained(self.swarm, "stream_reset", muxed_stream.reset)()

    return _handle_muxed_stream


def _pubsub_stream(original: AsyncFunction) -> AsyncFunction:
    async def stream_handler(self: Pubsub, stream: Any) -> None:
        failed = True

        async def handle() -> None:
            nonlocal failed
            await original(self, stream)
            failed = False

        await _contained(self, "gossip_rpc", handle)()
        if failed:
            attached(self).count("reset", "gossip_rpc")
            await stream.reset()

    return stream_handler


def _service_task(original: AsyncFunction) -> AsyncFunction:
    async def _run_and_manage_task(self: TrioManager, task: Any) -> None:
        # Daemons and the service's own run() keep ending the service: without them it is a zombie.
        if isinstance(task, FunctionTask) and not task.daemon and task.count_in_stats:
            reason = f"task_{type(self._service).__name__.lower()}"
            task._async_fn = _contained(self._service, reason, task._async_fn)
        await original(self, task)

    return _run_and_manage_task


def _heartbeat(original: AsyncFunction) -> AsyncFunction:
    async def heartbeat(self: GossipSub) -> None:
        while True:
            await _contained(self, "gossip_heartbeat", original)(self)
            await trio.sleep(self.heartbeat_interval)

    return heartbeat


def _signature_validator(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def signature_validator(msg: Any) -> bool:
        try:
            return original(msg)
        except Exception as error:  # the key decoder raises whatever its protobuf does
            log.debug("undecodable key in a gossip message: %r", error)
            return False

    return signature_validator


def _validate_msg(original: AsyncFunction) -> AsyncFunction:
    async def validate_msg(self: Pubsub, msg_forwarder: Any, msg: Any) -> None:
        try:
            await original(self, msg_forwarder, msg)
        except ValidationError:
            raise
        except Exception as error:
            attached(self).count("errors", "gossip_validator")
            raise ValidationError("a topic validator raised") from error

    return validate_msg


def apply() -> None:
    """Contain exceptions in streams, service tasks, validators and the gossip heartbeat."""
    replace(__name__, SwarmConn, "_handle_muxed_stream", _stream_task)
    replace(__name__, Pubsub, "stream_handler", _pubsub_stream)
    replace(__name__, TrioManager, "_run_and_manage_task", _service_task)
    replace(__name__, GossipSub, "heartbeat", _heartbeat)
    replace(__name__, pubsub_module, "signature_validator", _signature_validator)
    replace(__name__, Pubsub, "validate_msg", _validate_msg)
