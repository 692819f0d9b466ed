"""Strangers that fill a node's mesh and pass nothing on."""

from __future__ import annotations

from typing import Any

import trio

from tests.attacks.attack import Attack
from tests.attacks.hostile import stranger, tell
from tests.attacks.stage import Stage
from validator_node.network import CheckAnswer

STRANGERS = 30
NEWCOMERS = 3
READY_S = 60.0


class SilentMesh(Attack):
    """See the module."""

    name = "silent-mesh"
    does = f"{STRANGERS} strangers join a node's topics before honest subscribers, and are silent"
    before = "no honest subscriber came into the mesh: 3 to 9 of 24 messages arrived"
    share = 0.6

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Let the strangers come first, then the honest ones, who must receive everything."""
        victim = stage.site(0).address
        async with stage.hostile(self.name, target=victim) as hostile:
            connected = await hostile.until("connected", READY_S)
            ears = await stage.start_honest(subscribers=[victim] * NEWCOMERS)
            await stage.ready(ears, NEWCOMERS)
            await trio.sleep(seconds)
            ready = len(ears.ready)
            await stage.dismiss(ears)
        return {"strangers": connected, "newcomers": ready}

    def judge(self, calm, under):
        found = super().judge(calm, under)
        if under.figures["newcomers"] < NEWCOMERS:
            found.append(f"{under.figures['newcomers']:g} of {NEWCOMERS} honest newcomers got in")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Subscribe to whatever the node is subscribed to."""
        connected = 0

        async def be_silent() -> None:
            nonlocal connected
            async with stranger(settings["target"]) as network:
                pubsub: Any = network._gossip._pubsub
                while not pubsub.peer_topics:
                    await pubsub.changed.wait()
                await trio.sleep(1.0)  # more topics come after the first
                for topic in list(pubsub.peer_topics):
                    await network.join(topic, lambda *_: CheckAnswer.IGNORE)
                connected += 1
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for _ in range(STRANGERS):
                nursery.start_soon(be_silent)
            with trio.move_on_after(20.0):
                while connected < STRANGERS:  # noqa: ASYNC110  # of tasks of our own
                    await trio.sleep(0.1)
            await trio.sleep(2.0)  # two heartbeats: they are in the mesh
            tell(connected=connected)
