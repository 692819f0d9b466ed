"""A message that is being validated is not validated again.

A message counts as seen only after its validators have finished, so copies from other peers that
arrive meanwhile pass too: 5 messages were delivered 20 times. Corrected: a copy of a message in
validation is dropped. A forged copy cannot block a genuine one: signatures are checked before the
first point at which another task can run.
"""

from typing import Any

from libp2p.pubsub.pubsub import Pubsub

from validator_node.network.upstream.patching import replace


def _push(original: Any) -> Any:
    async def push_msg(self: Pubsub, msg_forwarder: Any, msg: Any) -> None:
        under_way: set[bytes] = self.__dict__.setdefault("_under_validation", set())
        msg_id = self.get_message_id(msg)
        if msg_id in under_way:
            return
        under_way.add(msg_id)
        try:
            await original(self, msg_forwarder, msg)
        finally:
            under_way.discard(msg_id)

    return push_msg


def apply() -> None:
    """Validate each message once at a time."""
    replace(__name__, Pubsub, "push_msg", _push)
