"""Signed node records whose names lead to where no stranger is."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path
from typing import Any

import trio

from protocol.codec import digest_of, encode
from protocol.envelope import RecordKind, record_payload
from protocol.identity import ConsensusKey, Hotkey
from protocol.records.validators import NodeRecord, SignedNodeRecord
from tests.attacks.attack import Attack
from tests.attacks.hostile import stranger, tell
from tests.attacks.named import VARIABLE, serve
from tests.attacks.seen import Seen
from tests.attacks.stage import ROOT, Stage
from validator_node.config import load_genesis
from validator_node.network import peer_id_of
from validator_node.testnet.layout import change_settings
from validator_node.testnet.wiring import quiet_ports

NAME = "node.attack.test"
"""It is 127.0.0.1."""
METADATA = "metadata.attack.test"
"""It is 169.254.169.254, where clouds keep secrets."""
AGAIN_S = 6.0
JOIN_S = 120.0
LINK_LOCAL = "169.254."


class DnsRecords(Attack):
    """See the module."""

    name = "dns-records"
    does = "registered hotkeys sign records with names of 127.0.0.1 and 169.254.169.254"
    before = "a node that may not dial loopback dialled such a name 8 times in 30 s"
    share = 0.7
    observers = 1

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Tell a node that listens on every interface, for which loopback is no peer's place."""
        node = stage.newcomer()
        change_settings(stage.site(node), {"listen_host": "0.0.0.0"})
        port = quiet_ports(1)[0]
        names = (f"{VARIABLE}=127.0.0.1:{port}", f"PYTHONPATH={ROOT}")
        await stage.start_node(node, "env", *names, sys.executable, "-m", "tests.attacks.named")
        height = stage.samples[-1].most("height")
        joined = await stage.wait(
            lambda s: s.rows.get(node, {}).get("height", 0) >= height, "a joined node", JOIN_S
        )
        targets = [stage.site(node).address, stage.site(0).address]
        began, metadata = time.monotonic(), 0
        settings = {"targets": targets, "seeds": stage.hostile_seeds, "names_port": port}
        async with stage.hostile(self.name, **settings) as hostile:
            await hostile.until("published")
            while time.monotonic() < began + seconds:
                await trio.sleep(0.02)
                metadata += await trio.to_thread.run_sync(_to_metadata, stage, node)
            told = dict(hostile.told)
        await stage.stop_node(node)
        return {
            "joined": float(joined is not None),
            "records": told["published"],
            "dialled": told.get("dialled", 0),
            "metadata": metadata,
        }

    def judge(self, calm: Seen, under: Seen) -> list[str]:
        """Nobody is dialled."""
        found = super().judge(calm, under)
        for what in ("dialled", "metadata"):
            if under.figures[what]:
                found.append(f"{what}: {under.figures[what]:g} connections to judged addresses")
        if not under.figures["joined"]:
            found.append("the node that was to be told did not join")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Listen where the names lead, and publish the records."""
        genesis = load_genesis(Path(settings["genesis"]))
        dialled, published = 0, 0
        topic = f"/validator/1/{genesis.network_id.hex()[:16]}/nodes"

        async def canary(stream: trio.SocketStream) -> None:
            nonlocal dialled
            dialled += 1
            tell(dialled=dialled)
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            await nursery.start(serve, settings["names_port"])
            listeners = await nursery.start(_serve, canary)
            port = listeners[0].socket.getsockname()[1]
            async with stranger(*settings["targets"]) as network:
                await network.wait_connected(len(settings["targets"]))
                await network.wait_subscriber(topic)
                while True:
                    for seed in settings["seeds"]:
                        addresses = (f"/dns4/{NAME}/tcp/{port}", f"/dns4/{METADATA}/tcp/80")
                        await network.publish(topic, _record(genesis.network_id, seed, addresses))
                        published += 1
                    tell(published=published)
                    await trio.sleep(AGAIN_S)


def _record(network_id: bytes, seed: str, addresses: tuple[str, ...]) -> bytes:
    hotkey = Hotkey(bytes.fromhex(seed))
    record = NodeRecord(
        hotkey=hotkey.public_key,
        consensus_key=ConsensusKey(secrets.token_bytes(32)).public_key,
        peer_id=str(peer_id_of(secrets.token_bytes(32))),
        addresses=addresses,
        sequence=time.time_ns() // 1_000_000,
    )
    payload = record_payload(RecordKind.NODE_RECORD, network_id, digest_of(record))
    return encode(SignedNodeRecord(record=record, signature=hotkey.sign(payload)))


def _to_metadata(stage: Stage, node: int) -> int:
    """Count the node's connections, begun or open, to a link-local address."""
    child = stage.nodes.get(node)
    if child is None:
        return 0
    return sum(
        bool(entry.raddr) and entry.raddr.ip.startswith(LINK_LOCAL)
        for entry in child.usage.net_connections("tcp")
    )


async def _serve(handler: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    await trio.serve_tcp(handler, 0, host="127.0.0.1", task_status=task_status)
