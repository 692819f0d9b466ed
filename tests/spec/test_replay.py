"""The kept traces of the formal model, replayed on the engine (docs/spec/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec.itf import Record, load
from tests.spec.replay import INSTANCES, DisagreementError, instance_of, replay
from tests.spec.signers import NUMBERS, make_voters, path_to, real, seq_of

TRACES = sorted((Path(__file__).parents[1] / "vectors" / "itf").glob("*.itf.json"))
SCHEDULES = {"equal": (0, 1, 2, 3), "heavy": (0, 1, 2, 0)}
"""As docs/spec/runs.qnt states them."""


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.removesuffix(".itf.json"))
def test_the_engine_does_what_the_model_does(path: Path):
    assert replay(load(path), instance_of(path)) > 0


def test_kept_traces_cover_every_kind_of_step():
    kinds = {state.last.what for path in TRACES for state in load(path)}
    lies = {"few", "twice", "forged", "padded", "usurped", "spoofed"}
    votes = {"propose", "prepare", "reject", "commit", "decide"}
    views = {"timeout", "giveUp", "listen", "enter", "restart"}
    assert kinds == {"init"} | votes | views | lies


@pytest.mark.parametrize("instance", INSTANCES)
def test_instances_have_the_engine_s_schedule(instance: str):
    voters = make_voters(INSTANCES[instance][0])
    assert tuple(voters.primary(view) for view in range(4)) == SCHEDULES[instance]


def test_digests_are_chains():
    assert [seq_of(number) for number in (1, 2, 3, 4, 7, 8, 15)] == [0, 1, 1, 2, 2, 3, 3]
    assert path_to(13) == [3, 6, 13]
    assert len(NUMBERS) == 15
    assert NUMBERS[real(13)] == 13


def _changed(state: Record, me: int, **fields) -> Record:
    nodes = {**state.nodes, me: Record({**state.nodes[me], **fields})}
    return Record({**state, "nodes": nodes})


def test_a_wrong_state_is_noticed():
    states = load(TRACES[0])
    me = states[-1].last.node
    wrong = _changed(states[-1], me, view=states[-1].nodes[me].view + 1)
    with pytest.raises(DisagreementError, match="'view'"):
        replay([*states[:-1], wrong], "equal")


def test_a_vote_that_the_engine_did_not_send_is_noticed():
    states = load(TRACES[0])
    vote = Record({"view": 0, "digest": 15})
    commits = {**states[-1].sent.commits, vote: frozenset({1})}
    sent = Record({**states[-1].sent, "commits": commits})
    wrong = Record({**states[-1], "sent": sent})
    with pytest.raises(DisagreementError, match=r"sent: .*'commits'"):
        replay([*states[:-1], wrong], "equal")


def test_a_commit_without_a_quorum_is_noticed():
    path = next(path for path in TRACES if "normalCase" in path.name)
    states = load(path)
    commit = next(i for i, state in enumerate(states) if state.last.what == "commit")
    prepare = next(i for i, state in enumerate(states) if state.last.what == "prepare")
    with pytest.raises(DisagreementError):
        replay([*states[:prepare], states[commit]], "equal")
