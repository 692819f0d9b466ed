"""What a crash or a disk may do to a journal: torn ends are cut, everything else is damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storage.errors import JournalDamagedError
from storage.journal_format import SECTOR_BYTES, SEGMENT_HEADER_BYTES, encode_group
from storage.journal_reader import read_journal
from tests.storage.journals import GROUPS, Place, fill, filled, flat, many_segments


def test_torn_at_every_byte_of_the_last_group(place: Place):
    filled(place, GROUPS[:-1])
    kept = place.last.stat().st_size
    journal, _ = place.open()
    fill(journal, GROUPS[-1:])
    journal.close()
    data = place.last.read_bytes()
    for size in range(kept, len(data)):
        torn = place.copy("torn")
        torn.last.write_bytes(data[:size])
        journal, recovered = torn.open()
        assert recovered.payloads == flat(GROUPS[:-1]), size
        if size == kept:
            assert recovered.cut is None
        else:
            assert recovered.cut is not None
            assert (recovered.cut.offset, recovered.cut.size_bytes) == (kept, size - kept)
        # The journal goes on, and the cut leaves no trace.
        fill(journal, [[b"after"]])
        journal.close()
        assert torn.payloads() == [*flat(GROUPS[:-1]), b"after"]


def test_sectors_that_never_reached_the_disk(place: Place):
    """The file has its full length, and any one sector of the last group reads as zeros."""
    filled(place, GROUPS[:-1])
    kept = place.last.stat().st_size
    journal, _ = place.open()
    fill(journal, [[bytes(range(1, 256)) * 9]])
    journal.close()
    data = place.last.read_bytes()
    edges = [kept, *range((kept // SECTOR_BYTES + 1) * SECTOR_BYTES, len(data), SECTOR_BYTES)]
    assert len(edges) > 4
    for start, end in zip(edges, [*edges[1:], len(data)], strict=True):
        torn = place.copy("torn")
        torn.last.write_bytes(data[:start] + bytes(end - start) + data[end:])
        assert torn.payloads() == flat(GROUPS[:-1])
    torn = place.copy("torn")
    torn.last.write_bytes(data[:kept] + bytes(len(data) - kept))
    assert torn.payloads() == flat(GROUPS[:-1])


def test_every_flipped_byte_is_damage(place: Place):
    """A byte that is there and wrong was perhaps synced, in the last group as in any other."""
    filled(place)
    data = place.last.read_bytes()
    for offset in range(len(data)):
        broken = place.copy("broken")
        changed = bytearray(data)
        changed[offset] ^= 0x41
        broken.last.write_bytes(changed)
        with pytest.raises(JournalDamagedError) as caught:
            broken.open()
        assert caught.value.path == broken.last
        assert caught.value.offset <= offset
        # Nothing was changed, and the lock was released.
        assert broken.last.read_bytes() == changed
        with pytest.raises(JournalDamagedError):
            read_journal(broken.folder)


def test_a_lost_sector_before_a_whole_group_is_damage(place: Place):
    filled(place, [[b"first"], [b"x" * 2000], [b"last"]])
    data = bytearray(place.last.read_bytes())
    first_end = SEGMENT_HEADER_BYTES + len(encode_group(bytes(32), 1, [b"first"]))
    data[first_end:SECTOR_BYTES] = bytes(SECTOR_BYTES - first_end)
    place.last.write_bytes(data)
    with pytest.raises(JournalDamagedError, match=f"byte {first_end}: the header of group 2"):
        place.open()


def test_a_peers_bytes_do_not_pass_for_a_group(place: Place):
    """A torn group whose payload holds a well-formed group of another journal is still torn."""
    filled(place, [[b"first"]])
    kept = place.last.stat().st_size
    journal, _ = place.open()
    forged = encode_group(bytes(32), 3, [b"forged"])
    fill(journal, [[b"x" * 1000, forged, b"y" * 1000]])
    journal.close()
    data = place.last.read_bytes()
    place.last.write_bytes(data[:kept] + bytes(SECTOR_BYTES - kept) + data[SECTOR_BYTES:])
    assert place.payloads() == [b"first"]


@pytest.mark.parametrize("which", [0, 1, -2])
def test_a_missing_segment_is_named(place: Place, which: int):
    many_segments(place)
    missing = sorted(place.folder.glob("*.wal"))[which]
    missing.unlink()
    with pytest.raises(JournalDamagedError, match="the segment is missing") as caught:
        place.open()
    assert caught.value.path == missing


def test_an_earlier_segment_may_not_end_early(place: Place):
    """Neither inside a group nor exactly behind one."""
    many_segments(place)
    segments = sorted(place.folder.glob("*.wal"))
    second = segments[1]
    data = second.read_bytes()
    group = len(encode_group(bytes(32), 1, [b"0000" * 20]))
    for cut in (1, group - 1, group, group + 1):
        broken = place.copy("broken")
        (broken.folder / second.name).write_bytes(data[:-cut])
        with pytest.raises(JournalDamagedError) as caught:
            broken.open()
        # Cut exactly behind a group, the gap shows only where the next segment begins.
        expected = segments[2] if cut == group else segments[1]
        assert caught.value.path.name == expected.name


def test_a_group_taken_out_or_repeated_is_damage(place: Place):
    filled(place, [[b"one"], [b"two"], [b"six"]])
    data = place.last.read_bytes()
    size = len(encode_group(bytes(32), 1, [b"one"]))
    first, second = SEGMENT_HEADER_BYTES + size, SEGMENT_HEADER_BYTES + 2 * size
    for changed in (data[:first] + data[second:], data[:second] + data[first:]):
        broken = place.copy("broken")
        broken.last.write_bytes(changed)
        with pytest.raises(JournalDamagedError, match=r"group . found, expected group ."):
            broken.open()


def test_a_segment_of_another_journal(place: Place, tmp_path: Path):
    many_segments(place)
    other = Place(tmp_path / "other")
    many_segments(other)
    shutil.copy(other.last, place.last)
    with pytest.raises(JournalDamagedError):
        place.open()
