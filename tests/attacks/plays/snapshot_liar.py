"""Strangers that lie about snapshots: whose they are, how large, and what is in them."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import trio

from protocol.codec import encode
from protocol.records.blob import BlobReply
from tests.attacks.attack import Attack
from tests.attacks.hostile import stranger
from tests.attacks.plays.sync_liar import find, first_offer, relay
from tests.attacks.seen import Seen
from tests.attacks.stage import START_S, Stage
from tests.makers import replaced
from validator_node.blobs.service import BLOB_PROTOCOL
from validator_node.sync.records import (
    HANDOVER_PROTOCOL,
    LOG_PROTOCOL,
    MAX_HANDOVER_BYTES,
    SYNC_PROTOCOL,
    LogReply,
)
from validator_node.sync.trust import SNAPSHOT_AHEAD

JOIN_S = 60.0
SLOWER = 6.0
"""A joiner may take so many times what it takes without liars, or `JOIN_S` if that is more."""
NEAR_SLOTS = 30
CHARGED = re.compile(r"does not prove itself.*?\"peer\": \"(\w+)\"|\"peer\": \"(\w+)\".*?does not")


class SnapshotLiar(Attack):
    """See the module."""

    name = "snapshot-liar"
    does = "strangers offer the newest snapshot with invented manifests and wrong sizes"
    before = "nobody joined any more, and honest holders were charged to the brink of a ban"
    observers = 2
    late = True

    async def prepare(self, stage: Stage, seconds: float) -> None:
        """Wait until a snapshot is worth a joiner's while; see how long joining takes."""
        await stage.wait(
            lambda s: s.most("snapshot_seq") >= SNAPSHOT_AHEAD, "a snapshot", 3 * START_S
        )
        self.alone_s = await self._join(stage, stage.newcomer(), JOIN_S)

    async def _join(self, stage: Stage, node: int, deadline_s: float) -> float | None:
        """Start a node; return after how long it was near the others."""
        began = time.monotonic()
        await stage.start_node(node)
        with trio.move_on_after(deadline_s):
            await stage.until(
                lambda s: s.rows.get(node, {}).get("height", 0.0) >= s.most("height") - NEAR_SLOTS
            )
            joined = time.monotonic() - began
            await stage.stop_node(node)
            return joined
        await stage.stop_node(node)
        return None

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Let a node join whom the liars find at once."""
        node = stage.newcomer()
        settings = {"target": stage.site(node).address, "source": stage.site(0).address}
        deadline_s = max(JOIN_S, SLOWER * (self.alone_s or JOIN_S))
        async with stage.hostile(self.name, **settings):
            joined = await self._join(stage, node, deadline_s)
        log = stage.site(node).log.read_text(errors="replace")
        charged = {first or second for first, second in CHARGED.findall(log)}
        honest = {site.address.rsplit("/p2p/", 1)[-1] for site in stage.layout.validators}
        return {
            "alone_s": round(self.alone_s or -1.0, 1),
            "joined_s": round(joined or -1.0, 1),
            "by_snapshot": float("snapshot prepared" in log),
            "honest_charged": len(charged & honest),
            "liars_charged": len(charged - honest),
        }

    def judge(self, calm: Seen, under: Seen) -> list[str]:
        """The node has joined, and only liars were charged."""
        found, figures = super().judge(calm, under), under.figures
        if figures["joined_s"] < 0:
            found.append(f"no join; without liars it took {figures['alone_s']:g} s")
        if figures["honest_charged"]:
            found.append(f"{figures['honest_charged']:g} honest holders were charged")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Offer what nobody certified beside what somebody did."""

        async def liar(number: int) -> None:
            async with stranger(settings["source"]) as network:
                truth = await first_offer(network)

                async def offer(_: str, __: bytes) -> bytes:
                    # The even ones invent manifests, the odd ones sizes of the true one.
                    changes: dict[str, Any] = {"size": truth.snapshots[0].size // 2 + 1}
                    if number % 2 == 0:
                        changes = {"manifest": secrets.token_bytes(32)}
                    lies = tuple(replaced(entry, **changes) for entry in truth.snapshots)
                    return encode(replaced(truth, first_held=truth.height, snapshots=lies))

                async def unknown(_: str, __: bytes) -> bytes:
                    return encode(BlobReply(size=0, data=b""))

                async def nothing(_: str, __: bytes) -> bytes:
                    return encode(LogReply(slots=()))

                handovers = relay(network, HANDOVER_PROTOCOL, MAX_HANDOVER_BYTES)
                for protocol, handler in (
                    (SYNC_PROTOCOL, offer),
                    (BLOB_PROTOCOL, unknown),
                    (LOG_PROTOCOL, nothing),
                    (HANDOVER_PROTOCOL, handovers),
                ):
                    network.serve(protocol, handler, max_request_bytes=64, deadline_s=60.0)
                await find(network, settings["target"])
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(liar, number)
