"""The floods: one stranger who knows nothing but an address (`tests.attacks.floods`)."""

from __future__ import annotations

from typing import Any

from tests.attacks.attack import Attack
from tests.attacks.floods import FLOODS, FRESH, Target, run
from tests.attacks.hostile import tell
from tests.attacks.stage import Stage

ABOUT = {
    "gossip": "signed messages of no sense, as fast as the node takes them",
    "gossip" + FRESH: "the same, with a new identity whenever it is cut off",
    "subscriptions": "a thousand subscriptions in one RPC, again and again",
    "half-open": "200 TCP connections that never say a word",
    "huge-gossip": "gossip RPCs that announce 1 GiB",
    "huge-request": "requests that announce 1 GiB",
    "huge-link": "link frames that announce 1 GiB",
    "slow-loris": "64 requests, a byte every half second",
}
ENDED_S = 60.0

assert {name.removesuffix(FRESH) for name in ABOUT} == set(FLOODS)


class Flood(Attack):
    """One of them, against the first node."""

    before = "a node's loop, memory or connections were the stranger's"
    share = 0.2

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]  # of the class elsewhere
        self.does = f"one stranger: {ABOUT[name]}"  # type: ignore[misc]

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Flood, and read the stranger's own report."""
        target = stage.site(0).address
        async with stage.hostile(self.name, target=target, seconds=seconds) as hostile:
            report = await hostile.until("report", seconds + ENDED_S)
        return {name: float(report[name]) for name in ("offered", "taken", "cut_off")}

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Run the flood once."""
        target = Target(address=settings["target"])
        report = await run(self.name, target, settings["seconds"], told=_tell_peer)
        shown = {name: getattr(report, name) for name in ("offered", "taken", "cut_off")}
        tell(report=shown)


def _tell_peer(peer_id: str) -> None:
    tell(peers=[peer_id])
