"""Connections of strangers that are opened, kept, and used for nothing."""

from __future__ import annotations

import time
from typing import Any

import trio

from tests.attacks.attack import Attack
from tests.attacks.hostile import dial_from, stranger, tell
from tests.attacks.stage import Stage

PEERS = 208
"""More than the 192 inbound connections that a node takes."""
HOSTS = [f"127.0.0.{number}" for number in range(2, 8)]
FILLED_S = 90.0
BACK_S = 60.0


class IdleConnections(Attack):
    """See the module."""

    name = "idle-connections"
    does = f"{PEERS} strangers at {len(HOSTS)} addresses connect to a node and do nothing"
    before = "192 of them locked everybody out, restarted validators too"
    share = 0.6

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Fill the node, then let an honest newcomer come and a validator come back."""
        victim, member = stage.site(0).address, len(stage.layout.validators) - 1
        async with stage.hostile(self.name, target=victim) as hostile:
            filled = await hostile.until("connected", FILLED_S)
            began = time.monotonic()
            ears = await stage.start_honest(subscribers=[victim])
            await stage.stop_node(member)
            await stage.start_node(member)
            back = await stage.wait(
                lambda s: s.rows.get(member, {}).get("links", 0) >= member,
                "links of the restarted validator",
                BACK_S,
            )
            await stage.ready(ears, 1)
            await trio.sleep(max(0.0, began + seconds - time.monotonic()))
            newcomers = len(ears.ready)
            await stage.dismiss(ears)
        return {"strangers": filled, "newcomers": newcomers, "back": float(back is not None)}

    def judge(self, calm, under):
        found = super().judge(calm, under)
        if not under.figures["newcomers"]:
            found.append("the honest newcomer was not let in")
        if not under.figures["back"]:
            found.append(f"the restarted validator did not get all its links in {BACK_S:g} s")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Connect them all, from several addresses."""
        dial_from(HOSTS)
        connected = 0

        async def idle() -> None:
            nonlocal connected
            async with stranger(settings["target"], wait=False) as network:
                with trio.move_on_after(FILLED_S):
                    await network.wait_connected(1)
                    connected += 1
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for number in range(PEERS):
                nursery.start_soon(idle)
                if number % 8 == 7:
                    await trio.sleep(0.5)  # half-open ones have a limit of their own
            await trio.sleep(5.0)
            tell(connected=connected)
