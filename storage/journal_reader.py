"""Reading a journal's folder: the marker, the chain of segments, and what may be cut at the end.

Nothing here writes. `storage.journal` continues what was read; audits only read. A folder whose
*newest* segments were deleted, or which was replaced by an older copy, cannot be told from one that
ended there: no file on the same disk can show that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from protocol.codec import U64, Digest, Record, decode
from protocol.errors import DecodeError
from storage.errors import JournalDamagedError, JournalMissingError
from storage.journal_format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    read_groups,
    read_segment_header,
    segment_name,
)

_SEGMENT_PATTERN = re.compile(r"^(\d{10})\.wal$")


class JournalMarker(Record):
    """The contents of the marker file: which journal belongs here, and its first live segment."""

    journal_id: Digest
    first_segment: U64


@dataclass(frozen=True)
class Cut:
    """A torn last group, or the torn header of a last segment: where it began and its size."""

    path: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Recovered:
    """All payloads of a journal in the order they were appended, and what was cut, if anything."""

    payloads: list[bytes]
    cut: Cut | None


@dataclass(frozen=True)
class JournalScan:
    """A journal that was read, with what is needed to continue it."""

    journal_id: bytes
    numbers: list[int]
    next_group: int
    end: int
    """Bytes of the last segment that hold whole groups."""
    recovered: Recovered


def read_journal(folder: Path) -> Recovered:
    """Read the journal in `folder` without its marker, a lock or any change.

    For audits of a node that is stopped or may be running. Raises `JournalMissingError` and
    `JournalDamagedError`.
    """
    numbers = segment_numbers(folder)
    if not numbers:
        raise JournalMissingError(f"journal {folder}: no segment")
    path = folder / segment_name(numbers[0])
    header = read_segment_header(path, path.read_bytes())
    if header is None:
        raise JournalDamagedError(path, 0, "the segment's header is incomplete")
    marker = JournalMarker(journal_id=header.journal_id, first_segment=numbers[0])
    return scan_journal(folder, marker).recovered


def scan_journal(folder: Path, marker: JournalMarker) -> JournalScan:
    """Read every segment from the marker's first on. Raises `JournalDamagedError`."""
    found = _live_segments(folder, marker.first_segment)
    payloads: list[bytes] = []
    numbers: list[int] = []
    next_group: int | None = None
    end, cut = 0, None
    for number in found:
        path = folder / segment_name(number)
        data = path.read_bytes()
        last = number == found[-1]
        header = read_segment_header(path, data)
        if header is None:
            # Only a segment that was being started may lack its header, never the first.
            if last and numbers:
                cut = Cut(path, 0, len(data))
                break
            raise JournalDamagedError(path, 0, "the segment's header is incomplete")
        expected = SegmentHeader(
            marker.journal_id, number, header.first_group if next_group is None else next_group
        )
        if header != expected:
            raise JournalDamagedError(path, 0, f"found {header}, expected {expected}")
        contents = read_groups(path, data, header, last=last)
        payloads.extend(contents.payloads)
        numbers.append(number)
        next_group, end = contents.next_group, contents.end
        if end < len(data):
            cut = Cut(path, end, len(data) - end)
    return JournalScan(marker.journal_id, numbers, next_group or 1, end, Recovered(payloads, cut))


def read_marker(path: Path) -> JournalMarker | None:
    """Return the marker at `path`, None when there is none, or raise `JournalDamagedError`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        marker: JournalMarker = decode(JournalMarker, data)
    except DecodeError as error:
        raise JournalDamagedError(path, 0, f"the marker is unreadable: {error}") from error
    return marker


def segment_numbers(folder: Path) -> list[int]:
    """Return the numbers of all segment files in `folder`, lowest first."""
    if not folder.is_dir():
        return []
    found = (_SEGMENT_PATTERN.match(path.name) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match in found if match)


def only_a_header(folder: Path) -> bool:
    """Whether all there is is a first segment without a group, from a crash during creation."""
    first = folder / segment_name(1)
    return segment_numbers(folder) == [1] and first.stat().st_size <= SEGMENT_HEADER_BYTES


def _live_segments(folder: Path, first: int) -> list[int]:
    """Return the segments from `first` on; lower ones are left from a prune that was cut short."""
    found = [number for number in segment_numbers(folder) if number >= first]
    for expected, number in enumerate(found or [-1], first):
        if number != expected:
            raise JournalDamagedError(folder / segment_name(expected), 0, "the segment is missing")
    return found
