"""The bytes of the journal: segments, groups and records, and how a torn end is told from damage.

    segment = magic 8 | journal id 32 | segment number u64 | its first group's number u64 | crc u32
              group*
    group   = magic 4 | group number u64 | body length u32 | body crc u32 | crc u32
              body | end byte
    body    = (length u32 | crc u32 | payload)*

Integers are big-endian, lengths in bytes. A group is what one `sync` wrote.

Rules:
1. Every CRC-32 starts from the journal's random id, so that a payload made by a peer cannot contain
   bytes that pass for a group, and a segment of another journal is recognised.
2. Groups are numbered without gaps over all segments: a segment cut at a group's edge shows.
3. A group follows only after the fsync of the one before succeeded. So only the last group of the
   last segment can be *torn*, and a torn one never supported a signature: it is dropped whole.
4. Torn means that bytes are not there: the file ends too early, or a disk sector of the group was
   never written and reads as zeros (the file's length can reach the disk before its contents).
   A last group that is all there and fails its CRC is *damage*: it may have been synced, and to
   drop it would be to forget a signature. In doubt it is damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import JournalDamagedError

MAX_RECORD_BYTES = 16 * 1024 * 1024
MAX_GROUP_BYTES = 64 * 1024 * 1024
JOURNAL_ID_BYTES = 32
SECTOR_BYTES = 512
"""The smallest unit a disk writes; never larger than the true one, which is what rule 4 needs."""

_SEGMENT_MAGIC = b"VALWAL\x00\x01"
_GROUP_MAGIC = b"\xa7GRP"
_END = b"\xed"
"""Not zero, so that a group's last sector reads as zeros only when it was never written."""

_SEGMENT = struct.Struct(">8s32sQQ")
_GROUP = struct.Struct(">4sQII")
_CRC = struct.Struct(">I")
_RECORD = struct.Struct(">II")

SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
GROUP_HEADER_BYTES = _GROUP.size + _CRC.size
RECORD_HEADER_BYTES = _RECORD.size


@dataclass(frozen=True)
class SegmentHeader:
    """What a segment says about itself."""

    journal_id: bytes
    number: int
    first_group: int


@dataclass(frozen=True)
class SegmentContents:
    """What was read from a segment: its payloads, the next group's number, and where it ends."""

    payloads: list[bytes]
    next_group: int
    end: int
    """Bytes up to the end of the last whole group; what the file holds beyond is torn."""


def segment_name(number: int) -> str:
    """Return the file name of segment `number`."""
    return f"{number:010d}.wal"


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the first bytes of a segment."""
    raw = _SEGMENT.pack(_SEGMENT_MAGIC, header.journal_id, header.number, header.first_group)
    return raw + _CRC.pack(_crc(header.journal_id, raw))


def encode_group(journal_id: bytes, number: int, payloads: Sequence[bytes]) -> bytes:
    """Return the bytes of group `number`, which holds `payloads` in order."""
    parts: list[bytes] = []
    for payload in payloads:
        parts.append(_RECORD.pack(len(payload), _crc(journal_id, payload)))
        parts.append(payload)
    body = b"".join(parts)
    head = _GROUP.pack(_GROUP_MAGIC, number, len(body), _crc(journal_id, body))
    return b"".join((head, _CRC.pack(_crc(journal_id, head)), body, _END))


def read_segment_header(path: Path, data: bytes) -> SegmentHeader | None:
    """Return the header of a segment, or None when it is torn (a crash while it was created).

    Raises `JournalDamagedError` when it is anything else.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    raw = data[: _SEGMENT.size]
    magic, journal_id, number, first_group = _SEGMENT.unpack(raw)
    (crc,) = _CRC.unpack_from(data, _SEGMENT.size)
    if magic == _SEGMENT_MAGIC and crc == _crc(journal_id, raw):
        return SegmentHeader(journal_id, number, first_group)
    if len(data) == SEGMENT_HEADER_BYTES and not any(data):
        return None
    raise JournalDamagedError(path, 0, "the segment's header fails its check")


def read_groups(path: Path, data: bytes, header: SegmentHeader, *, last: bool) -> SegmentContents:
    """Read all groups of a segment whose bytes are `data`.

    In the `last` segment a torn last group is left out and shows as `end < len(data)`. Raises
    `JournalDamagedError` for everything else that is not a whole group with the next number.
    """
    payloads: list[bytes] = []
    number, offset = header.first_group, SEGMENT_HEADER_BYTES
    while offset < len(data):
        body = _read_group(path, data, offset, header.journal_id, number)
        if body is None:
            if not last:
                raise JournalDamagedError(
                    path, offset, f"group {number} is incomplete, and later segments follow"
                )
            break
        payloads.extend(_read_records(path, body, offset, header.journal_id))
        offset += GROUP_HEADER_BYTES + len(body) + len(_END)
        number += 1
    return SegmentContents(payloads, number, offset)


def _read_group(
    path: Path, data: bytes, offset: int, journal_id: bytes, expected: int
) -> bytes | None:
    """Return the body of the group at `offset`, None when it is torn, or raise (rule 4)."""
    body_start = offset + GROUP_HEADER_BYTES
    if len(data) < body_start:
        return None
    head = _read_group_header(data, offset, journal_id)
    if head is None:
        lost = _has_lost_sector(data, offset, body_start)
        if lost and not _group_follows(data, offset + 1, journal_id):
            return None
        raise JournalDamagedError(path, offset, f"the header of group {expected} fails its check")
    number, length, crc = head
    if number != expected:
        raise JournalDamagedError(path, offset, f"group {number} found, expected group {expected}")
    body_end = body_start + length
    end = body_end + len(_END)
    if len(data) < end:
        return None
    body = data[body_start:body_end]
    if data[body_end:end] == _END and crc == _crc(journal_id, body):
        return body
    if len(data) == end and _has_lost_sector(data, offset, end):
        return None
    raise JournalDamagedError(path, offset, f"group {number} is complete and fails its check")


def _read_group_header(data: bytes, offset: int, journal_id: bytes) -> tuple[int, int, int] | None:
    raw = data[offset : offset + _GROUP.size]
    if len(data) < offset + GROUP_HEADER_BYTES:
        return None
    magic, number, length, body_crc = _GROUP.unpack(raw)
    (crc,) = _CRC.unpack_from(data, offset + _GROUP.size)
    if magic != _GROUP_MAGIC or crc != _crc(journal_id, raw):
        return None
    return number, length, body_crc


def _group_follows(data: bytes, start: int, journal_id: bytes) -> bool:
    """Whether a valid group header stands anywhere from `start` on."""
    place = data.find(_GROUP_MAGIC, start)
    while place >= 0:
        if _read_group_header(data, place, journal_id) is not None:
            return True
        place = data.find(_GROUP_MAGIC, place + 1)
    return False


def _has_lost_sector(data: bytes, start: int, end: int) -> bool:
    """Whether the part of some sector that lies within `start` and `end` is all zeros."""
    while start < end:
        edge = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if not any(data[start:edge]):
            return True
        start = edge
    return False


def _read_records(path: Path, body: bytes, offset: int, journal_id: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(body):
        start = place + _RECORD.size
        if start > len(body):
            raise JournalDamagedError(path, offset, f"a record header ends outside at {place}")
        length, crc = _RECORD.unpack_from(body, place)
        payload = body[start : start + length]
        if len(payload) != length or crc != _crc(journal_id, payload):
            raise JournalDamagedError(path, offset, f"the record at {place} fails its check")
        yield payload
        place = start + length


def _crc(journal_id: bytes, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(journal_id))
