"""Installing a snapshot: the state of an empty database, or an error that says what was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import encode, sha256
from protocol.state_proof import EMPTY
from storage import snapshot_install
from storage.database import Column, Database, Pair, WriteBatch
from storage.errors import SnapshotError
from storage.snapshot_format import ChunkBody, SnapshotChunk, SnapshotManifest, StatePair, cut
from storage.snapshot_install import install
from storage.state import StateTree
from storage.state_nodes import state_root
from tests.support import replaced


class Offered:
    """A snapshot in memory, to be altered."""

    def __init__(self, parts: list[list[Pair]], root: bytes | None = None) -> None:
        self.data: dict[bytes, bytes] = {}
        chunks = []
        for part in parts:
            body = ChunkBody(pairs=tuple(StatePair(key=k, value=v) for k, v in part))
            chunks.append(self.add(encode(body)))
        rows = [row for part in parts for row in part]
        self.manifest = SnapshotManifest(
            seq=7,
            state_root=state_root(dict(rows).items()) if root is None else root,
            pairs=len(rows),
            size=sum(chunk.size for chunk in chunks),
            chunks=tuple(chunks),
        )

    def add(self, data: bytes) -> SnapshotChunk:
        self.data[sha256(data)] = data
        return SnapshotChunk(digest=sha256(data), size=len(data))

    def read(self, chunk: SnapshotChunk) -> bytes:
        return self.data[chunk.digest]


A, B, C = (b"a", b"1"), (b"b", b"2"), (b"c", b"3")


@settings(max_examples=40)
@given(st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=40), max_size=60))
def test_the_state_is_the_one_that_changes_make(
    tmp_path_factory: pytest.TempPathFactory, content: dict[bytes, bytes]
):
    folder = tmp_path_factory.mktemp("state")
    with (
        Database.open(folder / "made", create=True) as made,
        Database.open(folder / "installed", create=True) as installed,
    ):
        tree, batch = StateTree(made), WriteBatch()
        view = tree.view()
        for key, value in content.items():
            view.put(key, value)
        root = tree.commit(view, batch)
        made.write(batch)
        offered = Offered([[row] for row in sorted(content.items())], root)
        install(installed, offered.manifest, offered.read)
        for column in Column:
            assert list(installed.iterate(column)) == list(made.iterate(column)), column


def test_many_batches_of_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(snapshot_install, "_NODES_A_BATCH", 7)
    rows = [(b"%d" % number, b"value") for number in range(500)]
    offered = Offered([sorted(rows)])
    with Database.open(tmp_path / "db", create=True) as database:
        install(database, offered.manifest, offered.read)
        tree = StateTree(database)
        assert tree.root() == offered.manifest.state_root
        assert tree.check_nodes() == 500
        assert list(database.iterate(Column.SCRATCH)) == []


def test_an_empty_state(database: Database):
    offered = Offered([])
    install(database, offered.manifest, offered.read)
    assert StateTree(database).root() == EMPTY


def test_only_into_an_empty_database(database: Database):
    offered = Offered([[A]])
    install(database, offered.manifest, offered.read)
    with pytest.raises(SnapshotError, match="holds a state already"):
        install(database, offered.manifest, offered.read)


@pytest.mark.parametrize("parts", [[[A], [A]], [[B], [A]], [[A, C], [B]], [[A, A]], [[C, A]]])
def test_keys_ascend_across_chunks(database: Database, parts: list[list[Pair]]):
    offered = Offered(parts)
    with pytest.raises(SnapshotError, match="does not follow"):
        install(database, offered.manifest, offered.read)


@pytest.mark.parametrize("change", [{"pairs": 3}, {"size": 1}, {"pairs": 0}])
def test_the_totals_must_be_right(database: Database, change: dict[str, int]):
    offered = Offered([[A], [B]])
    with pytest.raises(SnapshotError, match="the manifest says"):
        install(database, replaced(offered.manifest, **change), offered.read)


def test_the_root_must_be_right(database: Database):
    offered = Offered([[A], [B]], root=sha256(b"another"))
    with pytest.raises(SnapshotError, match=sha256(b"another").hex()):
        install(database, offered.manifest, offered.read)


def test_a_left_out_chunk_shows_in_the_root(database: Database):
    whole = Offered([[A], [B], [C]])
    lie = Offered([[A], [C]], root=whole.manifest.state_root)
    with pytest.raises(SnapshotError, match="have root"):
        install(database, lie.manifest, lie.read)


def test_a_chunk_must_be_the_one_that_was_asked_for(database: Database):
    offered = Offered([[A], [B]])
    other = offered.data[offered.manifest.chunks[1].digest]
    with pytest.raises(SnapshotError, match="another hash or size"):
        install(database, offered.manifest, lambda _chunk: other)


def test_what_the_reader_raises_goes_through(database: Database):
    def read(_chunk: SnapshotChunk) -> bytes:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        install(database, Offered([[A]]).manifest, read)


def test_a_real_cut_is_installed(database: Database):
    rows = [(b"%06d" % number, b"v" * 400) for number in range(3000)]
    offered = Offered([])
    chunks = [offered.add(data) for data, _ in cut(rows)]
    manifest = SnapshotManifest(
        seq=1,
        state_root=state_root(rows),
        pairs=3000,
        size=sum(chunk.size for chunk in chunks),
        chunks=tuple(chunks),
    )
    install(database, manifest, offered.read)
    assert list(StateTree(database).items()) == rows
