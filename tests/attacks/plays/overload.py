"""More than a network can do, for a while; then silence."""

from __future__ import annotations

import time
from typing import Any

import trio

from tests.attacks.attack import Attack
from tests.attacks.crowd import Crowd
from tests.attacks.plays.burst import READY_S, ended
from tests.attacks.record import Sample
from tests.attacks.seen import Seen
from tests.attacks.stage import Stage

HOTKEYS = 128
PROBE_PER_S = 80.0
PROBE_S = 8.0
OVER = 2.0
LENGTH = 2.0
"""Of the load, in `--seconds`: a minute by default."""
DRAIN_S = 30.0
MEASURED_S = 90.0
QUIET = ("statements_waiting", "submissions_waiting", "evaluations_waiting", "pending")


def is_drained(sample: Sample) -> bool:
    """Tell whether nothing is open on any node."""
    return bool(sample.rows) and all(
        row.get(name, 1.0) == 0 for row in sample.rows.values() for name in QUIET
    )


class Overload(Attack):
    """See the module. Nobody is hostile, but nobody obeys either."""

    name = "overload"
    does = "twice the rate that saturates the network, for twice --seconds, then silence"
    before = "pending stood still, views rose, and the network never came back"
    share = LENGTH
    own_network = True
    miners = HOTKEYS

    async def _saturation(self, stage: Stage) -> float:
        """Return how many submissions a second the network settles when it has enough."""
        first, began = stage.samples[-1], time.monotonic()
        async with self._crowd(stage, PROBE_PER_S, PROBE_S, obedient=True) as crowd:
            await crowd.until("ready", READY_S)
            first, began = stage.samples[-1], time.monotonic()
            with trio.move_on_after(MEASURED_S):
                await crowd.until("done", MEASURED_S + 1)
        return (ended(stage.samples[-1]) - ended(first)) / (time.monotonic() - began)

    def _crowd(self, stage: Stage, per_s: float, seconds: float, *, obedient: bool) -> Any:
        return stage.hostile(
            self.name,
            nodes=[site.address for site in stage.layout.validators],
            seeds=stage.seeds(stage.registered - HOTKEYS, HOTKEYS),
            per_s=per_s,
            seconds=seconds,
            obedient=obedient,
        )

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Measure, load, be silent."""
        saturation = await self._saturation(stage)
        async with self._crowd(stage, OVER * saturation, seconds, obedient=False) as crowd:
            await crowd.until("ready", READY_S)
            before = stage.samples[-1]
            await trio.sleep(seconds)
            under = stage.samples[-1]
            counts = crowd.told.get("counts", {})
        await stage.rest()
        ended_s = time.monotonic()
        drained_s = await stage.wait(is_drained, "silence", DRAIN_S)
        left = max(stage.samples[-1].most(name) for name in QUIET)
        timed = sum(n for name, n in counts.items() if name == "refused busy with a time")
        refused = sum(n for name, n in counts.items() if name.startswith("refused"))
        return {
            "saturation": round(saturation, 1),
            "published": counts.get("published", 0),
            "settled_under": (ended(under) - ended(before)) / seconds,
            "refused": refused,
            "refused_busy_with_a_time": timed,
            "told_to_wait": counts.get("told_to_wait", 0),
            "left": left,
            "drained_s": round(drained_s, 1) if drained_s is not None else -1.0,
            "silence_s": round(time.monotonic() - ended_s, 1),
        }

    def judge(self, calm: Seen, under: Seen) -> list[str]:
        """What is refused is refused honestly, work goes on, and afterwards nothing is left."""
        figures, found = under.figures, list(under.deaths)
        if figures["drained_s"] < 0:
            found.append(f"{figures['left']:g} still open {DRAIN_S:g} s after the load")
        if figures["refused"] > figures["refused_busy_with_a_time"]:
            dishonest = figures["refused"] - figures["refused_busy_with_a_time"]
            found.append(f"{dishonest:g} of {figures['refused']:g} refusals name no time")
        if figures["settled_under"] < figures["saturation"] / 3:
            found.append(
                f"settled {figures['settled_under']:.1f}/s under twice the saturation of "
                f"{figures['saturation']:.1f}/s"
            )
        if under.bans:
            found.append(f"honest peers banned: {', '.join(under.bans)}")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Be the crowd."""
        await Crowd(settings).run()
