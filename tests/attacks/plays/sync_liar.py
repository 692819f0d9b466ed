"""A stranger that claims to be far ahead and gives next to nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from protocol.codec import decode, encode
from tests.attacks.attack import Attack
from tests.attacks.hostile import stranger, tell
from tests.attacks.seen import Seen
from tests.attacks.stage import Stage
from validator_node.network import Network, NetworkError
from validator_node.network.host import parse_address
from validator_node.sync.records import (
    HANDOVER_PROTOCOL,
    LOG_PROTOCOL,
    MAX_HANDOVER_BYTES,
    MAX_LOG_REPLY_BYTES,
    MAX_OFFER_BYTES,
    SYNC_PROTOCOL,
    LogReply,
    SyncOffer,
)

CLAIM = 1 << 60
DRIP_S = 12.0
"""A slot in so long: within the deadline of a request."""
NEAR_PART = 0.25
"""How far an observer may be behind at the end, in slots decided during the attack."""
NEAR_SLOTS = 20
Handler = Callable[[str, bytes], Awaitable[bytes]]


class SyncLiar(Attack):
    """See the module."""

    name = "sync-liar"
    does = f"a stranger claims slot 2^60 and gives an observer one slot in {DRIP_S:g} s"
    before = "the observer stayed with it for ever"
    observers = 1

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Let an observer join whom the stranger finds at once, and see how far it comes."""
        node, first = stage.newcomer(), stage.samples[-1].most("height")
        settings = {"target": stage.site(node).address, "source": stage.site(0).address}
        async with stage.hostile(self.name, **settings) as hostile:
            await stage.start_node(node)
            await hostile.until("connected")
            await trio.sleep(seconds)
            last = stage.samples[-1]
            told = dict(hostile.told)
        await stage.stop_node(node)
        height = last.rows.get(node, {}).get("height", 0.0)
        return {
            "height": last.most("height"),
            "observer": height,
            "made": last.most("height") - first,
            "dripped": told.get("dripped", 0),
            "offered": told.get("offered", 0),
        }

    def judge(self, calm: Seen, under: Seen) -> list[str]:
        """The observer is about where the others are."""
        found, figures = super().judge(calm, under), under.figures
        behind = figures["height"] - figures["observer"]
        if behind > NEAR_PART * figures["made"] + NEAR_SLOTS:
            found.append(f"the observer is {behind:g} slots behind, of {figures['height']:g}")
        if not figures["offered"]:
            found.append("the observer never asked the liar: nothing was tried")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Answer sync requests."""
        offered = dripped = 0

        async def offer(_: str, __: bytes) -> bytes:
            nonlocal offered
            offered += 1
            tell(offered=offered)
            return encode(SyncOffer(height=CLAIM, epoch=0, first_held=0, snapshots=()))

        async with stranger(settings["source"]) as network:
            real = relay(network, LOG_PROTOCOL, MAX_LOG_REPLY_BYTES)

            async def drip(peer_id: str, data: bytes) -> bytes:
                nonlocal dripped
                await trio.sleep(DRIP_S)
                slots = decode(LogReply, await real(peer_id, data)).slots
                dripped += 1
                tell(dripped=dripped)
                return encode(LogReply(slots=slots[:1]))

            handovers = relay(network, HANDOVER_PROTOCOL, MAX_HANDOVER_BYTES)
            for protocol, handler in (
                (SYNC_PROTOCOL, offer),
                (LOG_PROTOCOL, drip),
                (HANDOVER_PROTOCOL, handovers),
            ):
                network.serve(protocol, handler, max_request_bytes=64, deadline_s=60.0)
            await find(network, settings["target"])
            await trio.sleep_forever()


def relay(network: Network, protocol: str, max_bytes: int) -> Handler:
    """Return a handler that asks the node we know, and passes its answer on."""
    source = next(iter(network.peers()))

    async def handle(_: str, data: bytes) -> bytes:
        return await network.request(
            source, protocol, data, deadline_s=10.0, max_reply_bytes=max_bytes
        )

    return handle


async def first_offer(network: Network) -> SyncOffer:
    """Return what the node we know offers, as soon as it offers a snapshot."""
    ask = relay(network, SYNC_PROTOCOL, MAX_OFFER_BYTES)
    while True:
        try:
            offer = decode(SyncOffer, await ask("", b""), limit_bytes=MAX_OFFER_BYTES)
        except NetworkError:
            await trio.sleep(0.5)
            continue
        if offer.snapshots:
            return offer
        await trio.sleep(0.5)


async def find(network: Network, address: str) -> None:
    """Connect to a node as soon as it listens."""
    peer_id, where = parse_address(address)
    host, port = where.value_for_protocol("ip4"), int(where.value_for_protocol("tcp"))
    while True:
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError:
            await trio.sleep(0.05)
            continue
        await stream.aclose()
        break
    network.add_bootstrap(address)
    await network.wait_peers(lambda peers: peer_id in peers)
    tell(connected=True)
