"""The signing guard: one payload for one key, across floors, restarts and compaction."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import encode
from protocol.errors import DecodeError
from storage.errors import VowBelowFloorError, VowConflictError, VowError
from storage.journal import Journal
from storage.vow import (
    FloorRaised,
    Note,
    Vow,
    VowKey,
    VowTable,
    decode_record,
    encode_record,
    rebuild,
)
from storage.vow_audit import audit_vows

SIGNER, OTHER = b"s" * 32, b"o" * 32


def key(
    phase: str = "prepare", epoch: int = 0, view: int | None = 0, seq: int | None = 1
) -> VowKey:
    return VowKey(phase, epoch, view, seq)


def test_new_same_and_conflict():
    table = VowTable(SIGNER)
    assert table.check(key(), b"a") == "new"
    vow = table.promise(key(), b"a")
    assert vow == Vow(signer=SIGNER, phase="prepare", epoch=0, view=0, seq=1, payload=b"a")
    assert vow is not None
    assert vow.key == key()
    assert table.check(key(), b"a") == "same"
    assert table.promise(key(), b"a") is None
    assert table.payload(key()) == b"a"
    for use in (table.check, table.promise):
        with pytest.raises(VowConflictError, match="prepare epoch 0 view 0 seq 1: refusing 62"):
            use(key(), b"b")
    assert table.payload(key()) == b"a"


def test_check_changes_nothing():
    table = VowTable(SIGNER)
    table.check(key(), b"a")
    assert table.check(key(), b"b") == "new"
    assert len(table) == 0


def test_no_order_between_sequences_of_a_view():
    table = VowTable(SIGNER)
    assert table.promise(key(seq=2), b"a")
    assert table.promise(key("commit", seq=1), b"b")
    assert table.promise(key(seq=1), b"c")


def test_the_view_floor():
    table = VowTable(SIGNER)
    table.promise(key(view=2), b"a")
    raised = table.raise_floor(view=(0, 3))
    assert raised == FloorRaised(signer=SIGNER, epoch=0, view=3, seq=0)
    for view in (0, 2):
        with pytest.raises(VowBelowFloorError, match="the view floor is epoch 0 view 3"):
            table.check(key(view=view), b"a")
    assert table.check(key("view-change", view=3, seq=None), b"a") == "new"
    with pytest.raises(VowBelowFloorError):
        table.check(key("view-change", view=2, seq=None), b"a")
    # A new epoch begins at view 0 again, and closes the old one.
    assert table.raise_floor(view=(1, 0)) is not None
    assert table.check(key(epoch=1), b"a") == "new"
    with pytest.raises(VowBelowFloorError):
        table.check(key(epoch=0, view=9), b"a")


def test_the_seq_floor():
    table = VowTable(SIGNER)
    table.promise(key(seq=16), b"a")
    table.promise(key("checkpoint", view=None, seq=32), b"c")
    assert table.raise_floor(seq=16) == FloorRaised(signer=SIGNER, epoch=0, view=0, seq=16)
    with pytest.raises(VowBelowFloorError, match="the seq floor is 16"):
        table.check(key(seq=16), b"a")
    with pytest.raises(VowBelowFloorError):
        table.check(key("checkpoint", view=None, seq=16), b"a")
    assert table.check(key(seq=17), b"a") == "new"
    assert table.check(key("view-change", seq=None), b"a") == "new"
    with pytest.raises(VowConflictError):
        table.check(key("checkpoint", view=None, seq=32), b"d")
    # A checkpoint is not bound to a view.
    table.raise_floor(view=(0, 9))
    assert table.check(key("checkpoint", view=None, seq=32), b"c") == "same"


def test_floors_never_fall():
    table = VowTable(SIGNER)
    table.raise_floor(view=(1, 3), seq=20)
    assert table.raise_floor(view=(1, 2), seq=19) is None
    assert table.raise_floor(view=(0, 99)) is None
    assert table.raise_floor() is None
    assert (table.view_floor, table.seq_floor) == ((1, 3), 20)
    assert table.raise_floor(view=(0, 0), seq=21) == FloorRaised(
        signer=SIGNER, epoch=1, view=3, seq=21
    )


def test_a_key_that_could_never_be_forgotten_or_read_again():
    table = VowTable(SIGNER)
    with pytest.raises(VowError, match="needs a view or a sequence"):
        table.promise(key(view=None, seq=None), b"a")
    for bad in (key("Bad Phase"), key(seq=1 << 63), key(epoch=-1, view=None)):
        with pytest.raises(VowError):
            table.promise(bad, b"a")
    assert len(table) == 0


def test_records_are_one_tagged_union():
    records = [
        Vow(signer=SIGNER, phase="commit", epoch=1, view=None, seq=3, payload=b"p"),
        FloorRaised(signer=SIGNER, epoch=1, view=2, seq=3),
        Note(kind="certificate", body=b"opaque", seq=3, view=2),
    ]
    for record in records:
        assert decode_record(encode_record(record)) == record
    with pytest.raises(DecodeError):
        encode_record(Note(kind="Not A Name", body=b"", seq=0, view=0))
    with pytest.raises(DecodeError):
        decode_record(encode(["unknown", 1]))


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("vow"),
            st.builds(
                VowKey,
                st.sampled_from(["prepare", "commit"]),
                st.integers(0, 1),
                st.integers(0, 2),
                st.integers(1, 4),
            ),
            st.sampled_from([b"a", b"b"]),
        ),
        st.tuples(st.just("view"), st.tuples(st.integers(0, 1), st.integers(0, 2)), st.none()),
        st.tuples(st.just("seq"), st.integers(0, 4), st.none()),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 40))
def test_no_key_ever_has_two_payloads(steps: list[tuple], compact_at: int):
    """Whatever is asked for, with a restart after each step and one compaction in between."""
    table, journal = VowTable(SIGNER), []
    signed: dict[VowKey, bytes] = {}
    for number, (what, value, payload) in enumerate(steps):
        record = None
        if what == "vow":
            try:
                record = table.promise(value, payload)
            except VowError:
                continue
            assert signed.setdefault(value, payload) == payload
        elif what == "view":
            record = table.raise_floor(view=value)
        else:
            record = table.raise_floor(seq=value)
        if record is not None:
            journal.append(record)
        if number == compact_at:
            journal = list(table.live_records())
        # A crash between rewriting and pruning replays both.
        for replayed in (journal, [*journal, *table.live_records()]):
            again = rebuild(replayed).get(SIGNER, VowTable(SIGNER))
            assert set(again.live_records()) == set(table.live_records())
            assert again.view_floor == table.view_floor
            assert again.seq_floor == table.seq_floor
        table = again


def test_a_journal_that_contradicts_itself():
    vows = [
        Vow(signer=SIGNER, phase="commit", epoch=0, view=0, seq=1, payload=payload)
        for payload in (b"a", b"b")
    ]
    with pytest.raises(VowConflictError):
        rebuild(vows)


def test_a_replayed_vow_below_the_floor_is_not_kept():
    table = VowTable(SIGNER)
    table.replay(FloorRaised(signer=SIGNER, epoch=0, view=0, seq=5))
    table.replay(Vow(signer=SIGNER, phase="commit", epoch=0, view=0, seq=5, payload=b"a"))
    assert len(table) == 0


def test_each_signer_has_its_own_table():
    first, second = VowTable(SIGNER), VowTable(OTHER)
    records = [first.promise(key(), b"a"), second.promise(key(), b"b"), first.raise_floor(seq=0)]
    note = Note(kind="note", body=b"", seq=0, view=0)
    tables = rebuild([note, *(record for record in records if record is not None)])
    assert tables[SIGNER].payload(key()) == b"a"
    assert tables[OTHER].payload(key()) == b"b"
    assert tables[OTHER].signer == OTHER


def test_across_a_restart(tmp_path: Path):
    folder, marker = tmp_path / "journal", tmp_path / "marker"
    table = VowTable(SIGNER)
    with Journal.create(folder, marker) as journal:
        for record in (table.promise(key(), b"a"), table.raise_floor(view=(0, 0), seq=0)):
            if record is not None:
                journal.append(encode_record(record))
        journal.sync()
        lost = table.promise(key("commit"), b"c")
        assert lost is not None
        journal.append(encode_record(lost))
    journal, recovered = Journal.open(folder, marker)
    journal.close()
    table = rebuild(map(decode_record, recovered.payloads))[SIGNER]
    assert table.check(key(), b"a") == "same"
    with pytest.raises(VowConflictError):
        table.check(key(), b"b")
    # Never synced, so never signed: the key is free.
    assert table.check(key("commit"), b"d") == "new"


def journal_of(root: Path, *records: Vow | FloorRaised | Note) -> Path:
    with Journal.create(root / "journal", root / "marker") as journal:
        for record in records:
            journal.append(encode_record(record))
        journal.sync()
    return root / "journal"


def vow_of(signer: bytes, payload: bytes, seq: int = 1) -> Vow:
    return Vow(signer=signer, phase="commit", epoch=0, view=0, seq=seq, payload=payload)


def test_audit_of_clean_journals(tmp_path: Path):
    note = Note(kind="note", body=b"", seq=0, view=0)
    floor = FloorRaised(signer=SIGNER, epoch=0, view=1, seq=1)
    one = journal_of(tmp_path / "one", vow_of(SIGNER, b"a"), floor, note, vow_of(SIGNER, b"a"))
    two = journal_of(tmp_path / "two", vow_of(OTHER, b"b"), vow_of(SIGNER, b"a"))
    audit = audit_vows([one, two])
    assert audit.clean
    assert (audit.vows, audit.signers) == (4, 2)


def test_audit_finds_a_key_used_by_two_nodes(tmp_path: Path):
    one = journal_of(tmp_path / "one", vow_of(SIGNER, b"a"), vow_of(SIGNER, b"a", seq=2))
    two = journal_of(tmp_path / "two", vow_of(SIGNER, b"b"), vow_of(SIGNER, b"a", seq=2))
    audit = audit_vows([one, two])
    assert not audit.clean
    [double] = audit.doubles
    assert (double.first, double.second) == (b"a", b"b")
    assert (double.first_journal, double.second_journal) == (one, two)
    assert double.key == VowKey("commit", 0, 0, 1)
    assert "promised two payloads for commit epoch 0 view 0 seq 1: 61 in" in str(double)
