"""The interpreter of golden scripts: prose in, what every replica does out.

A script is a list of commands; what they make the replicas do stands below each, indented by two
spaces, and is compared. Lines that start with `#` are for the reader. The commands:

| command | meaning |
|---|---|
| `validators: A=310 B=270, window 4, term 8` | the first set and the parameters; opens the script |
| `observers: O` | replicas that follow without a vote; before anything else |
| `show timers` | let the output name the timers from here on |
| `A proposes x` | the driver of A has a batch |
| `B, C receive TEXT from A` | a message arrives; a prefix of its words will do |
| `B receives TEXT signed by C from A` | A passes on what C signed |
| `everybody receives TEXT from A` | at all others that run |
| `everything arrives [at B, C]` | deliver until quiet; only outcomes are told |
| `what is under way is lost` | forget undelivered messages |
| `B has work` / `B has no work` | actions wait to be ordered, or none do |
| `timer progress fires at B, C` | a timer runs out |
| `B connects to C` | a link opens: B introduces itself |
| `B finds z invalid: REASON` | B will judge the batch so |
| `B computes another state from slot 4 on` | B's execution goes wrong |
| `the set changes after slot 2: A=1 E=5` | executing slot 2 fixes the edge |
| `D is cut off` / `D is back` | its messages get lost, both ways |
| `D crashes` / `D restarts` | with what it had on disk |
| `D will crash before persisting` | at its next write, which is lost |
| `D will crash before sending` | after its next write; nothing leaves |
| `D forges WORDS` | D signs what an honest replica would not; see `forge` |
| `show B` | where a replica stands |
| `expect: everybody decided x, y` | what must hold, whatever the output says |
"""

from __future__ import annotations

import re
from collections.abc import Callable

from consensus import inputs
from protocol.records.genesis import Parameters
from tests.consensus.builders import make_set
from tests.golden import forge
from tests.golden.stage import Stage, StageError
from tests.golden.words import listed

NAMES = r"(?P<names>[A-Z](?:(?:, | and )[A-Z])*|everybody)"
Command = Callable[..., list[str]]
GRAMMAR: list[tuple[re.Pattern[str], Command]] = []


def command(pattern: str) -> Callable[[Command], Command]:
    """Register a command; NAMES stands for one name, several, or everybody."""

    def register(function: Command) -> Command:
        GRAMMAR.append((re.compile(pattern.replace("NAMES", NAMES)), function))
        return function

    return register


def run(script: str) -> str:
    """Return the script with the output that the engine gives now."""
    stage: Stage | None = None
    setup: dict[str, str] = {}
    written: list[str] = []
    for number, line in enumerate(script.splitlines(), 1):
        if line.startswith("  "):
            continue
        written.append(line)
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(": ")
        if word in ("validators", "observers") and stage is None:
            setup[word] = rest
            continue
        try:
            stage = stage or open_stage(setup)
            written += [f"  {told}" for told in perform(stage, line)]
        except AssertionError as error:
            before = "\n".join(written[-20:])
            raise StageError(f"line {number}, '{line}': {error}\n{before}") from error
    return "\n".join(written) + "\n"


def open_stage(setup: dict[str, str]) -> Stage:
    weights, *settings = setup["validators"].split(", ")
    named = dict(setting.split() for setting in settings)
    names = {"window": "window", "term": "term", "checkpoint": "checkpoint_interval"}
    parameters = Parameters(**{names[name]: int(value) for name, value in named.items()})
    observers = setup["observers"].split(", ") if "observers" in setup else []
    return Stage(make_set(weights_of(weights)), observers, parameters)


def weights_of(text: str) -> dict[str, int]:
    return {name: int(weight) for name, weight in (pair.split("=") for pair in text.split())}


def perform(stage: Stage, line: str) -> list[str]:
    for pattern, function in GRAMMAR:
        if match := pattern.fullmatch(line):
            given = match.groupdict()
            if "names" in given:
                given["names"] = names_of(stage, given["names"])
            told = function(stage, **given)
            return told if told or line.startswith("expect") else QUIET.get(function, ["(nothing)"])
    raise StageError("no such command")


def names_of(stage: Stage, names: str | None) -> list[str] | None:
    if names is None:
        return None
    if names != "everybody":
        return re.split(r", | and ", names)
    return [name for name, r in stage.replicas.items() if r.alive and not r.cut]


def told_by(pairs: list[tuple[str, list[str]]]) -> list[str]:
    """Return what replicas did, those that did the same together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, lines in pairs:
        if lines:
            groups.setdefault(tuple(lines), []).append(name)
    return [
        f"{names[0] if len(names) == 1 else 'each of ' + listed(names)} {line}"
        for lines, names in groups.items()
        for line in lines
    ]


@command(r"(?P<name>[A-Z]) proposes (?P<batch>\w+)")
def proposes(stage: Stage, name: str, batch: str) -> list[str]:
    if stage.replicas[name].engine.open_slot is None:
        return [f"{name} has no open slot"]
    return told_by([(name, stage.step(name, inputs.Propose(stage.words.batch(batch))))])


@command(r"NAMES receives? (?P<text>.+) from (?P<origins>[A-Z](?:(?:, | and )[A-Z])*)")
def receives(stage: Stage, names: list[str], text: str, origins: str) -> list[str]:
    senders = re.split(r", | and ", origins)
    return told_by(
        [
            (name, [line for by in senders if by != name for line in stage.deliver(text, by, name)])
            for name in names
            if [name] != senders
        ]
    )


@command(r"everything arrives(?: at NAMES)?")
def everything(stage: Stage, names: list[str] | None) -> list[str]:
    """Deliver until quiet; outcomes are told in the order in which they first happen."""
    outcomes: dict[str, list[str]] = {}
    for name, line in stage.settle(names or stage.replicas):
        outcomes.setdefault(line, []).append(name)
    return [
        line
        for text, by in outcomes.items()
        for line in told_by([(n, [text]) for n in sorted(set(by))])
    ]


@command("what is under way is lost")
def lost(stage: Stage) -> list[str]:
    stage.wire.clear()
    return []


@command("show timers")
def show_timers(stage: Stage) -> list[str]:
    stage.timers_shown = True
    return []


@command(r"NAMES ha(?:s|ve) (?P<no>no )?work")
def has_work(stage: Stage, names: list[str], no: str | None) -> list[str]:
    event = inputs.WorkPending(not no)
    return told_by([(name, stage.step(name, event)) for name in names])


@command(r"timer (?P<timer>progress|resend|rotate) fires at NAMES")
def fires(stage: Stage, timer: str, names: list[str]) -> list[str]:
    event = inputs.TimerFired(inputs.Timer(timer))
    return told_by([(name, stage.step(name, event)) for name in names])


@command(r"(?P<name>[A-Z]) connects to (?P<peer>[A-Z])")
def connects(stage: Stage, name: str, peer: str) -> list[str]:
    event = inputs.LinkUp(stage.replicas[name].index_of(peer))
    return told_by([(name, stage.step(name, event))])


@command(r"NAMES finds? (?P<batch>\w+) invalid: (?P<reason>.+)")
def finds_invalid(stage: Stage, names: list[str], batch: str, reason: str) -> list[str]:
    stage.invalid.update({(name, batch): reason for name in names})
    return []


@command(r"(?P<name>[A-Z]) computes another state from slot (?P<seq>\d+) on")
def computes(stage: Stage, name: str, seq: str) -> list[str]:
    stage.replicas[name].wrong_from = int(seq)
    return []


@command(r"the set changes after slot (?P<seq>\d+): (?P<weights>.+)")
def set_changes(stage: Stage, seq: str, weights: str) -> list[str]:
    epoch = len(stage.next_sets) + 1
    stage.next_sets[int(seq)] = make_set(weights_of(weights), epoch)
    return []


@command(r"NAMES (?:is|are) (?P<how>cut off|back)")
def cut(stage: Stage, names: list[str], how: str) -> list[str]:
    for name in names:
        stage.replicas[name].cut = how == "cut off"
    stage.wire = [w for w in stage.wire if not {w.origin, w.to} & set(names)]
    return []


@command(r"(?P<name>[A-Z]) crashes")
def crashes(stage: Stage, name: str) -> list[str]:
    stage.replicas[name].alive = False
    stage.wire = [letter for letter in stage.wire if letter.to != name]
    return []


@command(r"(?P<name>[A-Z]) will crash before (?P<what>persisting|sending)")
def will_crash(stage: Stage, name: str, what: str) -> list[str]:
    stage.replicas[name].trap = "before" if what == "persisting" else "after"
    return []


@command(r"(?P<name>[A-Z]) restarts")
def restarts(stage: Stage, name: str) -> list[str]:
    return told_by([(name, stage.restart(name))]) + show(stage, [name])


@command(r"(?P<name>[A-Z]) forges (?P<words>.+)")
def forges(stage: Stage, name: str, words: str) -> list[str]:
    forge.forge(stage, name, words)
    return []


@command("show NAMES")
def show(stage: Stage, names: list[str]) -> list[str]:
    lines = []
    for name in names:
        core = stage.replicas[name].engine.core
        heads = f"tip slot {core.tip_seq} {stage.words.header(core.tip_digest)}"
        where = stage.where(stage.replicas[name])
        voice = "" if core.me is not None else ", without a vote"
        lines.append(f"{name} is in {where}, {heads}, height {core.height}{voice}")
    return lines


@command(r"expect: NAMES decided (?P<batches>[\w', ]+)")
def expect_decided(stage: Stage, names: list[str], batches: str) -> list[str]:
    wanted = [] if batches == "nothing" else re.split(", ", batches)
    for name in names:
        chain = stage.replicas[name].chain
        found = [stage.words.header(proof.header.digest) for _, proof in chain]
        if found != wanted:
            raise StageError(f"{name} decided {', '.join(found) or 'nothing'}")
    return []


@command(r"expect: NAMES (?:is|are) in (?P<where>.+)")
def expect_in(stage: Stage, names: list[str], where: str) -> list[str]:
    for name in names:
        found = stage.where(stage.replicas[name])
        if found != where:
            raise StageError(f"{name} is in {found}")
    return []


@command("expect: (?P<who>nobody|[A-Z]) is accused")
def expect_accused(stage: Stage, who: str) -> list[str]:
    if stage.accused != ({who} - {"nobody"}):
        raise StageError(f"accused: {', '.join(sorted(stage.accused)) or 'nobody'}")
    return []


@command(r"expect: (?P<name>[A-Z]) signed (?P<what>nothing|.+)")
def expect_signed(stage: Stage, name: str, what: str) -> list[str]:
    signed = [stage.words.message(m) for (by, *_), m in stage.vows.items() if by == name]
    if (signed != []) if what == "nothing" else (what not in signed):
        raise StageError(f"{name} signed {'; '.join(signed)}")
    return []


SETTINGS = (
    lost,
    show_timers,
    finds_invalid,
    computes,
    set_changes,
    cut,
    crashes,
    will_crash,
    forges,
)
QUIET: dict[Command, list[str]] = {function: [] for function in SETTINGS}
"""Commands that make nobody act; for the others silence is worth a line."""
