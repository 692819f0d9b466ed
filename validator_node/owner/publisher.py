"""The owner's side: signs a change, publishes it, hands out its parts, and watches it.

Rules:
1. It speaks only the public protocol, under a libp2p identity of its own that means nothing: the
   owner's signature alone counts.
2. The nodes named on the command line are asked one after the other. Their word decides which
   sequence is signed and when the command ends, so they should be the owner's own; they cannot make
   it sign anything but what the owner asked for.
3. It publishes again every `REPEAT_S` until the network has decided, and goes on where it left off
   when it is run again: a change that is a candidate already is not signed a second time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import trio

from protocol.actions import RegistryChange, RegistryContent, registry_topic
from protocol.codec import decode, digest_of, encode
from protocol.envelope import RecordKind, record_payload
from protocol.errors import ProtocolError
from protocol.identity import Hotkey, ss58_of
from protocol.records.challenge import Challenge
from protocol.records.genesis import Genesis
from validator_node.blobs.service import BlobService
from validator_node.errors import NodeError
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network, NetworkConfig
from validator_node.owner.progress import Progress, progress_of
from validator_node.owner.queries import (
    MAX_REGISTRY_REPLY_BYTES,
    REGISTRY_PROTOCOL,
    RegistryQuery,
    RegistryReply,
)
from validator_node.owner.release import Release, is_reached

CONNECT_S = 20.0
ASK_S = 10.0
POLL_S = 0.5
REPEAT_S = 5.0

Say = Callable[[str], None]
"""Shows one line of progress."""


class NotActiveError(NodeError):
    """The network has not made the change active; the text says what to do."""

    exit_code = 1


class ChangeRefusedError(NotActiveError):
    """The network has decided against the change."""

    exit_code = 3


class ChangePendingError(NotActiveError):
    """The time is over and the network has not decided."""

    exit_code = 4


def network_config(peers: tuple[str, ...], host: str) -> NetworkConfig:
    """Return how the owner's command takes part: connected to the nodes it names."""
    return NetworkConfig(
        seed=secrets.token_bytes(32), listen_host=host, listen_port=0, bootstrap=peers
    )


def sign_change(
    key: Hotkey, network_id: bytes, sequence: int, challenge: Challenge
) -> RegistryChange:
    """Return the change, signed."""
    content = RegistryContent(sequence=sequence, challenge=challenge)
    payload = record_payload(RecordKind.REGISTRY_CHANGE, network_id, digest_of(content))
    return RegistryChange(content=content, owner=key.public_key, signature=key.sign(payload))


async def connect(network: Network, peers: tuple[str, ...]) -> None:
    """Wait until one of the nodes is connected. Raises `NodeError`."""
    with trio.move_on_after(CONNECT_S) as waiting:
        await network.wait_connected(1)
    if waiting.cancelled_caught:
        raise NodeError(
            f"{', '.join(peers)}: no connection within {CONNECT_S:g} s; expected the multiaddr of "
            "a running node, as in /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo..."
        )


async def ask(
    network: Network, genesis: Genesis, peers: tuple[str, ...], query: RegistryQuery
) -> RegistryReply:
    """Return the first answer of the nodes. Raises `NetworkError`, the last one's."""
    failure = NetworkError("no node to ask: name one with --peer")
    for address in peers:
        try:
            data = await network.request(
                address.rsplit("/p2p/", 1)[-1],
                REGISTRY_PROTOCOL,
                encode(query),
                deadline_s=ASK_S,
                max_reply_bytes=MAX_REGISTRY_REPLY_BYTES,
            )
            reply = decode(RegistryReply, data, limit_bytes=MAX_REGISTRY_REPLY_BYTES)
        except NetworkError as error:
            failure = error
            continue
        except ProtocolError as error:
            failure = NetworkError(f"{address}: {error}")
            continue
        if reply.network_id == genesis.network_id:
            return reply
        failure = NetworkError(
            f"{address} is of network {reply.network_id.hex()[:16]}; the genesis file says "
            f"{genesis.network_id.hex()[:16]}"
        )
    raise failure


class Publisher:
    """Brings one release into the network that `network` is connected to."""

    def __init__(
        self,
        network: Network,
        genesis: Genesis,
        peers: tuple[str, ...],
        key: Hotkey,
        say: Say,
    ) -> None:
        self._network = network
        self._genesis = genesis
        self._peers = peers
        self._key = key
        self._say = say
        self._is_silent = False
        """Whether the last question had no answer, which is shown once."""
        self._topic = registry_topic(genesis.network_id)

    async def publish(self, release: Release, deadline_s: float) -> None:
        """Return once the network has what the owner wants.

        Raises:
            ReleaseError: the network would not take it in; nothing was signed.
            ChangeRefusedError: the network refused it.
            ChangePendingError: `deadline_s` passed first.
            NodeError: the key is not the owner's, or no node can be reached.
        """
        BlobService([release.parts.get]).serve(self._network)
        await connect(self._network, self._peers)
        reply = await self._ask(RegistryQuery(challenge_id=release.challenge_id))
        if reply.owner != self._key.public_key:
            raise NodeError(
                f"the key is {self._key.address}; the network's owner is {ss58_of(reply.owner)}"
            )
        if is_reached(release, reply.active) and reply.candidate is None:
            self._say(f"{release.challenge_id}: nothing to do, it is so since before")
            return
        await self._wait_listener()
        change = self._sign(release, reply)
        progress = Progress("sent", "no node has told where it stands")
        with trio.move_on_after(deadline_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._repeat, change)
                while not progress.is_over:
                    await trio.sleep(POLL_S)
                    progress = await self._look(release, change, progress)
                nursery.cancel_scope.cancel()
        self._conclude(release, change, progress, deadline_s)

    async def _wait_listener(self) -> None:
        """Wait until a node takes changes in: what is published before goes nowhere."""
        with trio.move_on_after(CONNECT_S) as waiting:
            await self._network.wait_subscriber(self._topic)
        if waiting.cancelled_caught:
            raise NodeError(
                f"none of {', '.join(self._peers)} takes changes in within {CONNECT_S:g} s: the "
                "node is still starting, or of an older release"
            )

    async def _ask(self, query: RegistryQuery) -> RegistryReply:
        return await ask(self._network, self._genesis, self._peers, query)

    def _sign(self, release: Release, reply: RegistryReply) -> RegistryChange:
        """Sign the next change; of one that is a candidate already, what tells of its parts."""
        wanted = release.next_state(reply.active)
        waits = reply.candidate is not None and reply.candidate.challenge == wanted
        # A sequence that is committed changes nothing any more, but the nodes that still look for
        # the candidate's parts learn from it whom to ask.
        sequence = reply.sequence if waits else reply.sequence + 1
        what = "is a candidate already, going on" if waits else f"signed as change {sequence}"
        self._say(f"{release.challenge_id} version {wanted.version}: {what}")
        return sign_change(self._key, self._genesis.network_id, sequence, wanted)

    async def _repeat(self, change: RegistryChange) -> None:
        while True:
            await self._network.publish(self._topic, encode(change))
            await trio.sleep(REPEAT_S)

    async def _look(self, release: Release, change: RegistryChange, before: Progress) -> Progress:
        """Ask where the change stands and say what is new; `before` while no node answers."""
        content = change.content
        query = RegistryQuery(challenge_id=release.challenge_id, change=digest_of(content))
        try:
            reply = await self._ask(query)
        except NetworkError as error:
            if not self._is_silent:
                self._say(f"no answer, asking again: {error}")
            self._is_silent = True
            return before
        self._is_silent = False
        progress = progress_of(release, content.challenge, content.sequence, reply)
        if progress.text != before.text:
            self._say(progress.text)
        for line in progress.details:
            if line not in before.details:
                self._say(f"differs: {line}")
        return progress

    def _conclude(
        self, release: Release, change: RegistryChange, last: Progress, deadline_s: float
    ) -> None:
        what = f"{release.challenge_id} version {change.content.challenge.version}"
        if last.stage in {"refused", "superseded"}:
            raise ChangeRefusedError(f"{what}: {last.text}")
        if last.stage != "active":
            raise ChangePendingError(
                f"{what}: not decided within {deadline_s:g} s ({last.text}). Run the command again "
                "to go on; without its parts no validator can report. What was published stays "
                "signed: it may still be ordered later"
            )
