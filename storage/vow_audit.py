"""Looks through journals for a validator that promised two different payloads for one key.

The testnet runs this over the journals of all its nodes, old copies included, after every run: a
restored backup or two nodes with one key show up here even though each table alone is clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from storage.journal_reader import read_journal
from storage.vow import Vow, VowKey, decode_record


@dataclass(frozen=True)
class DoubleVow:
    """Two payloads of one signer for one key, each with the journal folder it was found in."""

    signer: bytes
    key: VowKey
    first: bytes
    first_journal: Path
    second: bytes
    second_journal: Path

    def __str__(self) -> str:
        """Return the finding in one line."""
        return (
            f"{self.signer.hex()} promised two payloads for {self.key}: "
            f"{self.first.hex()} in {self.first_journal}, "
            f"{self.second.hex()} in {self.second_journal}"
        )


@dataclass(frozen=True)
class VowAudit:
    """What was looked at, and every double vow found; `clean` when there is none."""

    vows: int
    signers: int
    doubles: tuple[DoubleVow, ...]

    @property
    def clean(self) -> bool:
        """Whether nobody promised twice."""
        return not self.doubles


def audit_vows(journals: Iterable[Path]) -> VowAudit:
    """Compare all vows in the journal folders with each other.

    A torn last group is left out: nothing was signed on it. Raises `JournalDamagedError`,
    `JournalMissingError` and `DecodeError`, for a journal that cannot be read proves nothing.
    """
    seen: dict[tuple[bytes, VowKey], dict[bytes, Path]] = {}
    doubles: list[DoubleVow] = []
    count = 0
    for folder in journals:
        for payload in read_journal(folder).payloads:
            record = decode_record(payload)
            if not isinstance(record, Vow):
                continue
            count += 1
            known = seen.setdefault((record.signer, record.key), {})
            if known and record.payload not in known:
                first, where = next(iter(known.items()))
                doubles.append(
                    DoubleVow(record.signer, record.key, first, where, record.payload, folder)
                )
            known.setdefault(record.payload, folder)
    return VowAudit(count, len({signer for signer, _ in seen}), tuple(doubles))
