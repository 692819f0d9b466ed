"""Many honest observers that all know one node."""

from __future__ import annotations

import trio

from tests.attacks.attack import Attack
from tests.attacks.stage import Stage

OBSERVERS = 30


class Star(Attack):
    """See the module. Nobody is hostile: it is the shape that is hard."""

    name = "star"
    does = f"{OBSERVERS} honest observers subscribe at one node, and know no other"
    before = "20 of 28 observers received nothing, pruned from the mesh and not told of messages"
    share = 0.6

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Let them come, and see what each receives."""
        ears = await stage.start_honest(subscribers=[stage.site(1).address] * OBSERVERS)
        await stage.ready(ears, OBSERVERS)
        await trio.sleep(seconds)
        ready = len(ears.ready)
        silent = OBSERVERS - len(set().union(*ears.heard.values())) if ears.heard else OBSERVERS
        await stage.dismiss(ears)
        return {"observers": ready, "deaf": silent}

    def judge(self, calm, under):
        found = super().judge(calm, under)
        if under.figures["observers"] < OBSERVERS:
            found.append(f"{under.figures['observers']:g} of {OBSERVERS} observers got in")
        if under.figures["deaf"]:
            found.append(f"{under.figures['deaf']:g} of {OBSERVERS} observers received nothing")
        return found
