"""A journal on disk for tests: made, filled, copied as a crash would leave it, and read again."""

from __future__ import annotations

import shutil
from pathlib import Path

from storage.journal import Journal
from storage.journal_reader import Recovered

GROUPS = [[b"first"], [b"second", b"", b"third"], [b"\x00" * 40, b"last group " * 60]]


class Place:
    """A journal folder with its marker, which can be copied as a crash would leave it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "journal"
        self.marker = root / "journal.marker"

    def create(self, **options: int) -> Journal:
        self.root.mkdir(exist_ok=True)
        return Journal.create(self.folder, self.marker, **options)

    def open(self, **options: int) -> tuple[Journal, Recovered]:
        return Journal.open(self.folder, self.marker, **options)

    def payloads(self) -> list[bytes]:
        journal, recovered = self.open()
        journal.close()
        return recovered.payloads

    def copy(self, name: str) -> Place:
        root = self.root.with_name(name)
        if root.exists():
            shutil.rmtree(root)
        shutil.copytree(self.root, root)
        return Place(root)

    @property
    def last(self) -> Path:
        return max(self.folder.glob("*.wal"))


def fill(journal: Journal, groups: list[list[bytes]]) -> None:
    for group in groups:
        for payload in group:
            journal.append(payload)
        journal.sync()


def flat(groups: list[list[bytes]]) -> list[bytes]:
    return [payload for group in groups for payload in group]


def filled(place: Place, groups: list[list[bytes]] = GROUPS, **options: int) -> None:
    with place.create(**options) as journal:
        fill(journal, groups)


def many_segments(place: Place) -> list[bytes]:
    payloads = [b"%04d" % number * 20 for number in range(40)]
    filled(place, [[payload] for payload in payloads], segment_bytes=1000)
    assert len(list(place.folder.glob("*.wal"))) > 4
    return payloads
