"""Rule-breaking variants of the engine that the simulator must kill (section 4).

A mutant is an edit of one or two functions' source. It is applied by giving the function object the
edited code, so every module that imported the function runs the mutant, and undone by giving it
back.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

TABLE = Path(__file__).parent / "kills.json"
"""mutant -> [the first seed that kills it, the invariant that broke]; written by `python -m`."""


@dataclass(frozen=True)
class Edit:
    """One replacement in the source of `module.function`."""

    module: str
    function: str
    old: str
    new: str

    def target(self) -> FunctionType:
        found = importlib.import_module(f"consensus.{self.module}")
        for name in self.function.split("."):
            found = getattr(found, name)
        return found


def edited(function: FunctionType, edits: list[Edit]):
    """Return the code of `function` with `edits` made in its source, one after the other."""
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        if source.count(edit.old) != 1:
            raise LookupError(f"{edit.module}.{edit.function} has no single {edit.old!r}")
        source = source.replace(edit.old, edit.new)
    namespace: dict = {}
    exec("from __future__ import annotations\n" + source, function.__globals__, namespace)
    return namespace[function.__name__].__code__


@dataclass(frozen=True)
class Mutant:
    """A named breach of one rule of docs/consensus.md."""

    name: str
    rule: str
    edits: tuple[Edit, ...]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        grouped: dict[FunctionType, list[Edit]] = {}
        for edit in self.edits:
            grouped.setdefault(edit.target(), []).append(edit)
        before = {function: function.__code__ for function in grouped}
        after = {function: edited(function, edits) for function, edits in grouped.items()}
        try:
            for function, code in after.items():
                function.__code__ = code
            yield
        finally:
            for function, code in before.items():
                function.__code__ = code


def _mutant(name: str, rule: str, *edits: tuple[str, str, str, str]) -> Mutant:
    return Mutant(name, rule, tuple(Edit(*edit) for edit in edits))


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        _mutant(
            "lowest-view certificate", "9: each slot's certificate of the highest view",
            ("succession", "select", "certificate.view > known.view",
             "certificate.view < known.view"),
        ),
        _mutant(
            "unordered commit", "4: each ancestor is commit-voted or decided first",
            ("agreement", "commit_prepared",
             "if slot is None or slot.accepted is None:\n            return",
             "if slot is None or slot.accepted is None:\n            continue"),
            ("agreement", "commit_prepared",
             "or not _ancestor_committed(core, header):\n            return",
             ":\n            continue"),
        ),
        _mutant(
            "vote in the old view", "7, 9: after VIEW-CHANGE nothing is signed below its view",
            ("succession", "start_view_change",
             "core.me is None or view < core.view or",
             ("core.me is None or view < core.view or (\n        core.own_view_change is not None\n"
              "        and core.own_view_change.view >= view) or")),
            ("succession", "start_view_change",
             "core.enter(view, changing=True)\n    core.own_view_change = None",
             "if core.voters.primary(view) == core.me:\n        core.enter(view, changing=True)"),
        ),
        _mutant(
            "quorum 2 of 4", "1: a quorum is more than two thirds",
            ("validators", "is_quorum", "3 * weight > 2 * total", "2 * weight >= total"),
        ),
        _mutant(
            "single phase", "2: a second phase of votes decides",
            ("agreement", "decide", "slot.commits.choices()", "slot.approvals.choices()"),
            ("agreement", "decide", 'slot.commits.signatures("commit"',
             'slot.approvals.signatures("prepare"'),
            ("agreement", "decide", 'header, "commit", view', 'header, "prepare", view'),
        ),
        _mutant(
            "trusted NEW-VIEW", "9: everybody checks and recomputes it",
            ("succession", "on_new_view",
             "for change in message.view_changes:\n        check_view_change(core, change)",
             "pass"),
        ),
        _mutant(
            "amnesia after restart", "7, 8: vows outlive a restart",
            ("recovery", "restore", "records = list(persisted)",
             "records = [r for r in persisted if isinstance(r, PersistEpoch)]"),
        ),
        _mutant(
            "primary counted twice", "1: distinct signers",
            ("agreement", "commit_prepared", "not core.voters.is_quorum(approvals)",
             ("3 * (core.voters.weight_of(approvals) + core.voters.weights[core.voters.primary("
             "core.view)]) <= 2 * core.voters.total")),
        ),
        _mutant(
            ">= instead of >", "1: more than two thirds, not two thirds",
            ("validators", "is_quorum", "3 * weight > 2 * total", "3 * weight >= 2 * total"),
        ),
        _mutant(
            "lowest base", "9: the base is the highest tip",
            ("succession", "select", "max(tips", "min(tips"),
        ),
        _mutant(
            "unsigned approve flag", "3: nothing unsigned is acted on",
            ("core", "Core.check_signature", "if not self.verify(key, payload, signature):",
             "if False:"),
        ),
        _mutant(
            "certificate without parent", "9: selection stops at a parent mismatch",
            ("succession", "select", " and found.header.parent == parent", ""),
        ),
        _mutant(
            "commit above another digest", "4: decided or committed with that digest",
            ("agreement", "check_fresh", "if header.parent != parent:", "if False:"),
            ("agreement", "_ancestor_committed", "header.parent == core.tip_digest", "True"),
            ("agreement", "_ancestor_committed", "before.committed == header.parent",
             "before.committed is not None"),
        ),
        _mutant(
            "former members decide", "12: a set decides the slots of its own epoch",
            ("validators", "Voters.check_decides",
             "if seq <= self.after or (self.until is not None and seq > self.until):",
             "if False:"),
        ),
        _mutant(
            "prepared tip", "9: a tip is a commit certificate",
            ("succession", "check_view_change", 'core.check_certificate(message.tip, "commit")',
             "core.check_certificate(message.tip, message.tip.kind)"),
        ),
        _mutant(
            "lone checkpoint", "11: stable at a quorum",
            ("checkpoints", "judge_by", "if not voters.is_quorum(signers):", "if False:"),
        ),
        _mutant(
            "tip of an older epoch", "9, 12: a tip is of the view change's epoch",
            ("succession", "check_view_change",
             "if message.tip.header.epoch != core.voters.epoch:", "if False:"),
        ),
    )
}  # fmt: skip


def known_kills() -> dict[str, list]:
    return json.loads(TABLE.read_text()) if TABLE.exists() else {}
