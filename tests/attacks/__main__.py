"""Play attacks on a network of this machine, and say of each whether honest users noticed.

`held`: what honest miners, subscribers and validators saw was what they see without it. `fell`: it
was not, and the reasons follow. The exit code is 0 if all held, 1 if any fell.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from tests.attacks.attack import Attack
from tests.attacks.plays import ATTACKS
from tests.attacks.seen import Seen, worse_of
from tests.attacks.stage import Stage, open_stage

CALM_PART = 0.2
CALM_LEAST_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """What came of one attack."""

    attack: Attack
    calm: Seen
    under: Seen
    reasons: tuple[str, ...]

    def shown(self) -> dict[str, Any]:
        """Return the row of the machine-readable report."""
        return {
            "name": self.attack.name,
            "verdict": "fell" if self.reasons else "held",
            "reasons": list(self.reasons),
            "calm": self.calm.shown(),
            "under": self.under.shown(),
        }


async def play_on(stage: Stage, attacks: list[Attack], seconds: float, say: Any) -> list[Verdict]:
    """Play attacks one after the other, each between two calm phases."""
    played: list[tuple[Attack, Seen, Seen]] = []
    calm_s = max(CALM_LEAST_S, CALM_PART * seconds)
    calms: list[Seen] = []
    for attack in attacks:
        await attack.prepare(stage, seconds)
        calms.append(await stage.phase("calm", calm_s))
        say(f"{'calm':17}{calms[-1]}")
        length = attack.share * seconds
        under = await stage.phase(
            attack.name,
            length,
            lambda a=attack, s=length: a.play(stage, s),
            settle=not attack.own_network,
        )
        say(f"{attack.name:17}{under}")
        played.append((attack, calms[-1], under))
    if not attacks[-1].own_network:
        calms.append(await stage.phase("calm", calm_s))
    found = []
    for number, (attack, before, under) in enumerate(played):
        calm = worse_of(before, *calms[number + 1 : number + 2])
        found.append(Verdict(attack, calm, under, tuple(attack.judge(calm, under))))
    return found


async def run(
    groups: list[list[Attack]], options: argparse.Namespace, folder: Path, say: Any
) -> list[Verdict]:
    """Play each group on a network of its own."""
    verdicts: list[Verdict] = []
    for number, attacks in enumerate(groups):
        began = time.monotonic()
        async with open_stage(
            folder / str(number),
            nodes=options.nodes,
            observers=sum(attack.observers for attack in attacks),
            miners=sum(attack.miners for attack in attacks),
        ) as stage:
            say(f"{options.nodes} nodes work after {time.monotonic() - began:.0f} s")
            verdicts += await play_on(stage, attacks, options.seconds, say)
    return verdicts


def grouped(attacks: list[Attack]) -> list[list[Attack]]:
    """Return which attacks are played on one network: all that leave it as it was."""
    shared = sorted((a for a in attacks if not a.own_network), key=lambda attack: attack.late)
    return ([shared] if shared else []) + [[attack] for attack in attacks if attack.own_network]


def main() -> int:
    """Parse the command line, play, print the verdicts; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all; see --list")
    parser.add_argument("--list", action="store_true", help="print the names, a line each")
    parser.add_argument("--nodes", type=int, default=4, help="validators (default 4)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a whole attack")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--keep", type=Path, help="keep state and logs in this folder")
    options = parser.parse_args()
    if options.list:
        for attack in ATTACKS.values():
            print(f"{attack.name:17}{attack.does}")  # noqa: T201
        return 0
    if unknown := sorted(set(options.names) - set(ATTACKS)):
        parser.error(f"no attack {', '.join(unknown)}; there are {', '.join(ATTACKS)}")
    attacks = [ATTACKS[name] for name in dict.fromkeys(options.names)] or [*ATTACKS.values()]
    folder = options.keep or Path(tempfile.mkdtemp(prefix="attacks-"))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    verdicts = trio.run(run, grouped(attacks), options, folder, say)
    if options.json:
        rows = [verdict.shown() for verdict in verdicts]
        print(json.dumps(rows, indent=1))  # noqa: T201
    else:
        for verdict in verdicts:
            word = "fell" if verdict.reasons else "held"
            line = "; ".join(verdict.reasons) or str(verdict.under)
            print(f"{word}  {verdict.attack.name:17}{line}")  # noqa: T201
    fell = any(verdict.reasons for verdict in verdicts)
    if not options.keep and not fell:
        shutil.rmtree(folder)
    elif fell:
        say(f"state and logs: {folder}")
    return int(fell)


if __name__ == "__main__":
    raise SystemExit(main())
