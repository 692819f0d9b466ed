"""Snapshots on the disk: written whole or not at all, kept, served, dropped when damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codec import decode, sha256
from storage.database import Column, Database, Pair, WriteBatch
from storage.errors import DatabaseClosedError, SnapshotCancelledError, SnapshotError
from storage.snapshots import SnapshotChunk, SnapshotFolder, SnapshotManifest, install
from storage.state import StateTree

ROOT = sha256(b"root")


def rows(count: int = 3000, text: bytes = b"") -> list[Pair]:
    return [(b"key/%06d" % number, text + b"v" * 500) for number in range(count)]


def write(folder: SnapshotFolder, seq: int, pairs: list[Pair] | None = None) -> SnapshotManifest:
    text = b"%d" % seq
    found = rows(text=text) if pairs is None else pairs
    return folder.write(found, seq, ROOT, cancelled=lambda: False)


@pytest.fixture
def folder(tmp_path: Path) -> SnapshotFolder:
    return SnapshotFolder(tmp_path / "snapshots")


def test_what_is_written_is_served(folder: SnapshotFolder):
    manifest = write(folder, 128)
    assert (manifest.seq, manifest.state_root, manifest.pairs) == (128, ROOT, 3000)
    assert len(manifest.chunks) == 3
    assert manifest.size == sum(chunk.size for chunk in manifest.chunks)
    data = folder.manifest_bytes(manifest.digest)
    assert data is not None
    assert sha256(data) == manifest.digest
    assert decode(SnapshotManifest, data) == manifest
    for chunk in manifest.chunks:
        content = folder.chunk(chunk.digest)
        assert content is not None
        assert (sha256(content), len(content)) == (chunk.digest, chunk.size)
    for unknown in (ROOT, manifest.chunks[0].digest):
        assert folder.manifest_bytes(unknown) is None
    assert folder.chunk(manifest.digest) is None


def test_two_nodes_make_the_same_manifest(tmp_path: Path, folder: SnapshotFolder):
    assert write(SnapshotFolder(tmp_path / "other"), 7) == write(folder, 7)


def test_the_newest_are_kept_also_across_a_restart(tmp_path: Path, folder: SnapshotFolder):
    made = [write(folder, seq) for seq in (1, 2, 10)]
    assert folder.manifests() == [made[2], made[1]]
    assert folder.manifest_bytes(made[0].digest) is None
    again = SnapshotFolder(tmp_path / "snapshots")
    assert again.manifests() == [made[2], made[1]]
    assert again.chunk(made[1].chunks[0].digest) is not None
    assert SnapshotFolder(tmp_path / "snapshots", keep=1).manifests() == [made[2]]
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_the_same_slot_again_replaces(tmp_path: Path, folder: SnapshotFolder):
    write(folder, 5)
    second = write(folder, 5, rows(10))
    assert folder.manifests() == [second]
    assert SnapshotFolder(tmp_path / "snapshots").manifests() == [second]


def test_leftovers_of_a_crash_are_removed(tmp_path: Path, folder: SnapshotFolder):
    kept = write(folder, 3)
    leftover = tmp_path / "snapshots" / "unfinished-4"
    leftover.mkdir()
    (leftover / "chunk").write_bytes(b"half")
    again = SnapshotFolder(tmp_path / "snapshots")
    assert again.manifests() == [kept]
    assert not leftover.exists()
    assert again.dropped == 0


def test_giving_up_leaves_nothing(tmp_path: Path, folder: SnapshotFolder):
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(SnapshotCancelledError):
        folder.write(rows(), 9, ROOT, cancelled=cancelled)
    assert folder.manifests() == []
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_an_error_of_the_rows_leaves_nothing(tmp_path: Path, folder: SnapshotFolder):
    def broken() -> Iterator[Pair]:
        yield from rows()
        raise DatabaseClosedError("gone")

    with pytest.raises(DatabaseClosedError):
        folder.write(broken(), 9, ROOT, cancelled=lambda: False)
    with pytest.raises(SnapshotError, match="does not follow"):
        folder.write([(b"b", b""), (b"a", b"")], 9, ROOT, cancelled=lambda: False)
    assert list((tmp_path / "snapshots").iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_chunk_drops_its_snapshot(tmp_path: Path, folder: SnapshotFolder, damage: str):
    older, newer = write(folder, 1), write(folder, 2)
    digest = newer.chunks[1].digest
    path = tmp_path / "snapshots" / f"snapshot-{2:020d}" / digest.hex()
    if damage == "flip":
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    assert folder.chunk(digest) is None
    assert folder.manifests() == [older]
    assert folder.dropped == 1
    assert not path.parent.exists()
    assert folder.chunk(newer.chunks[0].digest) is None


@pytest.mark.parametrize("damage", ["manifest", "short", "missing"])
def test_a_damaged_snapshot_is_dropped_when_the_folder_is_opened(
    tmp_path: Path, folder: SnapshotFolder, damage: str
):
    manifest = write(folder, 1)
    path = tmp_path / "snapshots" / f"snapshot-{1:020d}"
    chunk = path / manifest.chunks[0].digest.hex()
    if damage == "manifest":
        (path / "manifest").write_bytes(b"\xc0")
    elif damage == "short":
        chunk.write_bytes(chunk.read_bytes()[:-1])
    else:
        chunk.unlink()
    again = SnapshotFolder(tmp_path / "snapshots")
    assert (again.manifests(), again.dropped) == ([], 1)
    assert not path.exists()


def test_a_chunk_that_two_snapshots_share_outlives_one_of_them(
    tmp_path: Path, folder: SnapshotFolder
):
    first, second = write(folder, 1, rows()), write(folder, 2, rows())
    assert first.chunks == second.chunks
    (tmp_path / "snapshots" / f"snapshot-{2:020d}" / first.chunks[0].digest.hex()).unlink()
    assert folder.chunk(first.chunks[0].digest) is not None
    assert folder.manifests() == [first]


def test_a_disk_that_refuses(tmp_path: Path, folder: SnapshotFolder):
    (tmp_path / "snapshots" / f"unfinished-{9:020d}").write_text("a file in the way")
    with pytest.raises(SnapshotError, match="slot 9"):
        write(folder, 9)
    (tmp_path / "file").write_text("")
    with pytest.raises(SnapshotError, match="file"):
        SnapshotFolder(tmp_path / "file")
    with pytest.raises(SnapshotError, match="expected 1 or more"):
        SnapshotFolder(tmp_path / "none", keep=0)


def test_a_frozen_state_travels_while_the_node_goes_on(tmp_path: Path, database: Database):
    tree = StateTree(database)

    def commit(text: bytes) -> bytes:
        batch, view = WriteBatch(), tree.view()
        for key, value in rows(2000, text):
            view.put(key, value)
        root = tree.commit(view, batch)
        database.write(batch)
        return root

    root = commit(b"before")
    folder = SnapshotFolder(tmp_path / "snapshots")
    with database.freeze() as frozen:
        assert commit(b"after") != root
        manifest = folder.write(
            frozen.iterate(Column.STATE_VALUES), 4, root, cancelled=lambda: False
        )

    def read_chunk(chunk: SnapshotChunk) -> bytes:
        data = folder.chunk(chunk.digest)
        assert data is not None
        return data

    with Database.open(tmp_path / "installed", create=True) as target:
        install(target, manifest, read_chunk)
        assert StateTree(target).root() == root == StateTree(target).recompute()
        assert StateTree(target).get(b"key/000000") == b"before" + b"v" * 500


def test_files_are_not_readable_by_others(tmp_path: Path, folder: SnapshotFolder):
    write(folder, 1)
    assert (tmp_path / "snapshots").stat().st_mode & 0o077 == 0
