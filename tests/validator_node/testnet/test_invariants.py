"""The invariants on forged inputs: each finds what it is for, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.journal import Journal
from storage.vow import Vow, encode_record
from validator_node.testnet.invariants import (
    ChainCopy,
    CutWatch,
    Fate,
    Violation,
    check_nothing_lost,
    check_one_chain,
    check_one_height,
    check_signed_once,
    count_fates,
)
from validator_node.testnet.manifest import Manifest
from validator_node.testnet.timeline import World, steps_of


def chain(height: int, *, first: int = 1, root: bytes = b"r", **other: bytes) -> ChainCopy:
    digests = {slot: bytes([slot]) * 32 for slot in range(first, height + 1)}
    digests |= {int(slot[1:]): digest * 32 for slot, digest in other.items()}
    return ChainCopy(digests, height, dict.fromkeys(range(height + 1), root * 32))


def test_chains_of_different_lengths_and_beginnings_are_one() -> None:
    assert check_one_chain({0: chain(9), 1: chain(5), 2: chain(12, first=7), 3: chain(0)}) == []


def test_the_first_slot_that_differs_is_named_with_its_nodes() -> None:
    found = check_one_chain({0: chain(9), 1: chain(9, s4=b"x", s5=b"y"), 2: chain(3)})
    assert len(found) == 1
    assert found[0].invariant == "one_chain"
    assert found[0].nodes == (0, 1)
    assert found[0].slots == (4, 5)
    assert "2 slots differ, from slot 4" in str(found[0])


def test_heights_may_differ_by_the_slack_only() -> None:
    chains = {0: chain(9), 1: chain(7), 2: chain(2)}
    assert check_one_height(chains, [0, 1], 2) == []
    found = check_one_height(chains, [0, 1, 2], 2)
    assert [entry.slots for entry in found] == [(2, 9)]


def test_a_missing_chain_and_another_state_are_found() -> None:
    chains = {0: chain(9), 1: chain(9, root=b"q")}
    assert "state roots" in str(check_one_height(chains, [0, 1], 2)[0])
    assert check_one_height(chains, [0, 3], 2)[0].nodes == (3,)


def journal(folder: Path, *payloads: bytes) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Journal.create(folder, folder.with_suffix(".marker"))
    for payload in payloads:
        vow = Vow(signer=b"s" * 32, phase="prepare", epoch=0, view=1, seq=2, payload=payload)
        made.append(encode_record(vow))
    made.sync()
    made.close()
    return folder


def test_a_promise_broken_after_a_wipe_is_found(tmp_path: Path) -> None:
    before = journal(tmp_path / "before", b"a" * 32)
    after = journal(tmp_path / "after", b"b" * 32)
    assert check_signed_once({0: [before], 1: [after]}) == []
    found = check_signed_once({7: [before, after]})
    assert [(entry.invariant, entry.nodes) for entry in found] == [("signed_once", (7,))]


def test_a_journal_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    folder = journal(tmp_path / "journal", b"a" * 32, b"b" * 32)
    segment = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[:64] = bytes(64)
    segment.write_bytes(data)
    assert "cannot be read" in str(check_signed_once({0: [folder]})[0])


ENDED, REFUSED = Fate("ended"), Fate("refused", "expired")


def test_ended_and_refused_with_a_reason_are_fine() -> None:
    fates = {"aa": ENDED, "bb": REFUSED, "cc": Fate("uncertified")}
    assert check_nothing_lost({0: ["aa", "bb", "cc"]}, fates, disturbed=False) == []
    assert count_fates(fates) == {"finalised": 2, "refused: expired": 1}


@pytest.mark.parametrize("fate", [Fate("pending"), Fate("waiting"), Fate("refused")])
def test_what_is_still_open_is_found(fate: Fate) -> None:
    found = check_nothing_lost({4: ["aa", "bb"]}, {"aa": ENDED, "bb": fate}, disturbed=True)
    assert f"miner 4: 1 still open: bb {fate.state}" in str(found[0])


def test_unknown_ones_are_allowed_in_a_disturbed_network_but_not_all() -> None:
    fates = {"aa": ENDED, "bb": Fate("unknown")}
    assert check_nothing_lost({0: ["aa", "bb"]}, fates, disturbed=True) == []
    assert "1 unknown: bb" in str(check_nothing_lost({0: ["aa", "bb"]}, fates, disturbed=False)[0])
    assert "1 unknown: cc" in str(check_nothing_lost({0: ["cc"]}, {}, disturbed=True)[0])


def test_a_miner_without_a_report_is_found() -> None:
    assert "left no report" in str(check_nothing_lost({2: None}, {}, disturbed=True)[0])


# --- a side that is cut off ------------------------------------------------------------------


def cut_world() -> World:
    cut = {"at": 1, "kind": "partition", "groups": ((3,), (0, 1, 2)), "for": 9}
    world = World.at_start(Manifest(event=(cut,), stakes=(100,)))
    world.apply(steps_of(world.manifest)[0])
    return world


def watch(before: dict[int, int]) -> CutWatch:
    made = CutWatch(grace_s=5.0, window=4)
    made.look(0.0, before)
    made.change(10.0, cut_world())
    return made


def test_a_cut_off_side_that_stands_still_is_fine_and_reported() -> None:
    cut = watch({0: 8, 1: 8, 2: 8, 3: 7})
    assert cut.look(11.0, {0: 9, 3: 9}) == []  # what was on its way
    assert cut.look(15.0, {0: 12, 1: 12, 2: 12, 3: 9}) == []
    assert cut.look(16.0, {0: 20, 1: 20, 2: 20, 3: 9}) == []
    cut.end()
    assert cut.watched == [((3,), 9, 20)]


def test_a_cut_off_side_that_decides_is_found_once_a_slot() -> None:
    cut = watch({0: 8, 3: 8})
    assert cut.look(15.0, {0: 12, 3: 9}) == []
    found = cut.look(16.0, {0: 13, 3: 10})
    assert found == [
        Violation(
            "minority_waits",
            "the side [3] had no quorum and went on from slot 9",
            (3,),
            (10,),
        )
    ]
    assert cut.look(17.0, {0: 13, 3: 10}) == []


def test_a_side_that_cannot_be_asked_is_held_to_what_could_be_under_way() -> None:
    cut = watch({0: 8, 1: 8, 2: 8, 3: 8})
    assert cut.look(10.2, {0: 9}) == []  # the first look after the cut: 9 and a window of 4
    assert cut.look(15.0, {0: 12}) == []
    assert cut.look(16.0, {0: 13, 3: 13}) == []
    assert cut.look(17.0, {0: 14, 3: 14})[0].slots == (14,)


def test_what_was_asked_before_the_cut_says_nothing_about_it() -> None:
    cut = watch({0: 8, 1: 8, 2: 8, 3: 8})
    assert cut.look(9.5, {0: 8}) == []  # asked before, answered after
    assert cut.look(10.5, {0: 12}) == []
    assert cut.look(15.0, {0: 16, 3: 16}) == []


def test_the_side_with_a_quorum_may_go_on_and_healing_ends_the_watch() -> None:
    cut = watch({0: 8, 3: 8})
    assert cut.look(15.0, {0: 12, 1: 12, 2: 12, 3: 8}) == []
    cut.change(20.0, World.at_start(Manifest()))
    assert cut.look(40.0, {0: 40, 1: 40, 2: 40, 3: 40}) == []
