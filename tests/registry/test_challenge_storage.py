"""The challenges' storages against a model that keeps every slot's whole storage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.records.challenge_storage import (
    MAX_STORED_BYTES,
    MAX_VALUE_BYTES,
    StorageEntry,
    StorageWrite,
)
from protocol.view import DictView
from registry import keys
from registry.access import read
from registry.challenge_storage import MAX_VERSION_BYTES, Held, apply, drop_stale, snapshot
from registry.submissions import Ended, NoOp, expire, state_verdict
from tests.registry.support import WORLD, D, admitted, slot
from tests.support import make_verdict, replaced

KEYS = st.sampled_from([b"a", b"b", b"\0", b"ab", b"a/"])
WRITES = st.dictionaries(KEYS, st.sampled_from([b"", b"1", b"22"]), max_size=3)
SLOTS = st.lists(st.lists(WRITES, max_size=3), max_size=25)


def writes(values: dict[bytes, bytes]) -> tuple[StorageWrite, ...]:
    return tuple(StorageWrite(key=key, value=value) for key, value in sorted(values.items()))


def entries(values: dict[bytes, bytes]) -> tuple[StorageEntry, ...]:
    return tuple(StorageEntry(key=key, value=value) for key, value in sorted(values.items()))


def rows(view: DictView) -> int:
    """Count the bytes of all versions, and see that the state says the same."""
    prefix = keys.storage_prefix("alpha")
    counted = sum(len(row) + len(value) for row, value in view.items(prefix))
    held = read(view, Held, keys.STORED_SIZE + b"alpha")
    assert (held.rows if held else 0) == counted
    return counted


@given(SLOTS)
def test_every_pending_submission_reads_the_storage_before_its_slot(
    slots: list[list[dict[bytes, bytes]]],
) -> None:
    view = DictView()
    now: dict[bytes, bytes] = {}
    before: list[dict[bytes, bytes]] = [{}]
    for seq, settled in enumerate(slots, start=1):
        before.append(dict(now))
        drop_stale(view, seq, D)
        rows(view)
        for values in settled:
            assert apply(view, "alpha", seq, writes(values), D) is None
            rows(view)
            now = {key: value for key, value in (now | values).items() if value}
        for pending_since in range(max(1, seq - D + 1), seq + 1):
            assert snapshot(view, "alpha", pending_since) == entries(before[pending_since])
        assert snapshot(view, "alp", seq) == ()
    for seq in range(len(slots) + 1, len(slots) + D + 2):
        drop_stale(view, seq, D)
        rows(view)
    held = [row for row in view.entries if row.startswith(keys.STORED)]
    assert len(held) == len(now), "one version of each key is left"
    assert not list(view.items(keys.STALE))


def test_a_full_storage_refuses_the_whole_and_takes_again_what_makes_room() -> None:
    view = DictView()
    value = bytes(MAX_VALUE_BYTES - 2)
    for number in range(MAX_STORED_BYTES // MAX_VALUE_BYTES):
        assert apply(view, "alpha", 1, writes({b"%02d" % number: value}), D) is None
    before = dict(view.entries)
    assert apply(view, "alpha", 2, writes({b"a": b"", b"x": b"y"}), D) == "storage_full"
    assert view.entries == before
    assert apply(view, "beta", 2, writes({b"x": b"y"}), D) is None
    assert apply(view, "alpha", 2, writes({b"00": b"", b"x": b"y"}), D) is None


def test_versions_are_bounded_by_bytes_and_taken_again_when_old_ones_went() -> None:
    view = DictView()
    filling = writes({b"%02d" % number: bytes(MAX_VALUE_BYTES - 2) for number in range(16)})
    seq = MAX_VERSION_BYTES // (16 * MAX_VALUE_BYTES)
    for earlier in range(1, seq):
        assert apply(view, "alpha", earlier, filling, 100) is None
    assert apply(view, "alpha", seq, filling, 100) == "storage_busy"
    assert rows(view) <= MAX_VERSION_BYTES
    before = dict(view.entries)
    assert apply(view, "alpha", seq, filling, 100) == "storage_busy"
    assert view.entries == before
    assert apply(view, "beta", seq, filling, 100) is None
    drop_stale(view, 101, 100)  # nothing is older than the first version
    assert apply(view, "alpha", 101, filling, 100) == "storage_busy"
    drop_stale(view, 102, 100)
    assert apply(view, "alpha", 102, filling, 100) is None
    rows(view)


def test_what_a_quorum_wrote_is_stored_when_it_settles() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    agreed = replaced(make_verdict(submission_id), writes=writes({b"count": b"1"}))
    other = replaced(agreed, writes=writes({b"count": b"2"}))
    assert state_verdict(view, WORLD.voters, slot(2), 0, other) is None
    for signer in (1, 2):
        assert snapshot(view, "alpha", 9) == ()
        assert state_verdict(view, WORLD.voters, slot(2), signer, agreed) is None
    event = state_verdict(view, WORLD.voters, slot(3), 3, agreed)
    assert isinstance(event, Ended)
    assert event.writes_refused is None
    assert snapshot(view, "alpha", 4) == entries({b"count": b"1"})
    assert snapshot(view, "alpha", 3) == ()
    assert not list(view.items(keys.WRITES))


def test_writes_of_a_disputed_submission_are_dropped() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    verdict = replaced(make_verdict(submission_id), writes=writes({b"count": b"1"}))
    assert state_verdict(view, WORLD.voters, slot(2), 0, verdict) is None
    assert len(expire(view, slot(1 + D))) == 1
    assert snapshot(view, "alpha", 99) == ()
    assert not list(view.items(keys.WRITES))


def test_malformed_writes_are_a_no_op() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    twice = (*writes({b"a": b"1"}), *writes({b"a": b"1"}))
    verdict = replaced(make_verdict(submission_id), writes=twice)
    found = state_verdict(view, WORLD.voters, slot(2), 0, verdict)
    assert found == NoOp("malformed_writes", submission_id)
