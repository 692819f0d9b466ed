"""Honest submissions of many hotkeys, all within a minute."""

from __future__ import annotations

import time
from typing import Any

import trio

from tests.attacks.attack import Attack
from tests.attacks.crowd import Crowd
from tests.attacks.record import Sample
from tests.attacks.seen import Seen
from tests.attacks.stage import Stage

HOTKEYS = 256
PER_S = 5_000 / 60
READY_S = 120.0
MOST_ADMISSIONS = 1.3
"""Admissions that may be ordered for one submission, on average."""
SETTLING = 5.0
"""All of it must be settled within so many times the length of the burst, and one epoch."""
EPOCH_S = 20.0


def ended(sample: Sample) -> float:
    """Return how many submissions have come to an end, as the node that is furthest counts."""
    names = ("settled", "disputed", "copies")
    return max((sum(row.get(n, 0.0) for n in names) for row in sample.rows.values()), default=0.0)


class Burst(Attack):
    """See the module. Nobody is hostile."""

    name = "burst"
    does = f"{HOTKEYS} honest hotkeys publish 5,000 submissions a minute"
    before = "3.7 admissions a submission, 13 view changes; on a busy machine it never settled"
    own_network = True
    miners = HOTKEYS

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Load for so many seconds, then wait until everything has come to its end."""
        settings = {
            "nodes": [site.address for site in stage.layout.validators],
            "seeds": stage.seeds(stage.registered - HOTKEYS, HOTKEYS),
            "per_s": PER_S,
            "seconds": seconds,
            "obedient": True,
        }
        async with stage.hostile(self.name, **settings) as crowd:
            await crowd.until("ready", READY_S)
            first, began = stage.samples[-1], time.monotonic()
            settled_s = -1.0
            with trio.move_on_after(SETTLING * seconds + EPOCH_S):
                await crowd.until("done", SETTLING * seconds + EPOCH_S + 1)
                await stage.rest()
                await stage.until(lambda s: ended(s) >= self._published(stage, crowd))
                settled_s = time.monotonic() - began
            published, last = self._published(stage, crowd), stage.samples[-1]
            counts = crowd.told.get("counts", {})
        settled = ended(last) - ended(first)
        again = last.most("no_ops:duplicate") - first.most("no_ops:duplicate")
        return {
            "published": counts.get("published", 0),
            "missing": published - ended(last),
            "all_settled_s": round(settled_s, 1),
            "admissions": round((settled + again) / max(settled, 1.0), 2),
            "told_busy": sum(n for name, n in counts.items() if name.startswith("refused busy")),
        }

    @staticmethod
    def _published(stage: Stage, crowd: Any) -> float:
        return len(stage.fates) + float(crowd.told.get("counts", {}).get("published", 0))

    def judge(self, calm: Seen, under: Seen) -> list[str]:
        """Everything settles, is admitted about once, and epochs go on ending."""
        figures, found = under.figures, list(under.deaths)
        if figures["all_settled_s"] < 0 or figures["missing"] > 0:
            found.append(f"{figures['missing']:g} of {figures['published']:g} were never settled")
        if not figures["published"]:
            found.append("nothing was published")
        if figures["admissions"] > MOST_ADMISSIONS:
            found.append(f"{figures['admissions']} admissions a submission")
        if under.seconds > 2 * EPOCH_S and not under.epochs:
            found.append(f"no epoch ended in {under.seconds:.0f} s")
        if under.bans:
            found.append(f"honest peers banned: {', '.join(under.bans)}")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Be the crowd."""
        await Crowd(settings).run()
