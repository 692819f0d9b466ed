"""A stopped node's data folder with some history, for the tests of the database commands."""

from __future__ import annotations

from pathlib import Path

import plyvel

from consensus.certificate import bitmap
from protocol.codec import encode, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from storage.database import Column
from storage.snapshots import SnapshotFolder, SnapshotManifest
from tests.support import World, make_verdict
from validator_node.database_tools import DATABASE_FOLDER, SNAPSHOT_FOLDER
from validator_node.store import Store


class Node:
    """The data folder of a node that decided a few slots, and its network."""

    def __init__(self, folder: Path) -> None:
        self.world = World(window=2, dispute_after=50)
        self.folder = folder
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self.roots: dict[int, bytes] = {}
        self.hashes: dict[int, bytes] = {}
        self.results: list[bytes] = []

    @property
    def db(self) -> Path:
        return self.state_dir / DATABASE_FOLDER

    def open(self) -> Store:
        return Store.open(self.db, self.world.genesis, create=True)

    def fill(self, rounds: int) -> None:
        """Decide `rounds` pairs of slots: in each a submission is admitted and settled."""
        store = self.open()
        for _ in range(rounds):
            self.settle(store)
        store.close()

    def settle(self, store: Store) -> None:
        body = b"body %d" % store.height
        signed = self.world.signed(body)
        submission_id = signed.submission.submission_id
        verdict = make_verdict(submission_id, score=store.height)
        store.put_body(sha256(body), body)
        self.decide(store, self.world.statement(0, signed))
        self.decide(store, *[self.world.statement(signer, verdict) for signer in range(3)])
        self.results.append(submission_id)

    def decide(self, store: Store, *actions) -> None:
        self.world.decide(store, *actions)
        self.note(store)

    def note(self, store: Store) -> None:
        store.flush()
        self.roots[store.height] = store.tree.root()
        self.hashes[store.height] = store.chain_hash

    def checkpoint(self, store: Store, seq: int, *, edge: bool = False) -> CheckpointCertificate:
        """Return the certificate that three validators have signed."""
        epoch = store.voters.epoch - edge
        voters = store.voters_of(epoch)
        content = Checkpoint(
            epoch=epoch,
            seq=seq,
            chain_hash=self.hashes[seq],
            state_root=self.roots[seq],
            next_set=self.world.genesis.validators.for_epoch(epoch + 1) if edge else None,
        )
        signatures = tuple(
            key.sign(
                vote_payload(
                    voters.domain,
                    VoteKind.CHECKPOINT,
                    view=0,
                    seq=seq,
                    digest=content.digest,
                    signer=key.public_key,
                )
            )
            for key in self.world.keys[:3]
        )
        signers = bitmap([0, 1, 2], 4)
        return CheckpointCertificate(checkpoint=content, signers=signers, signatures=signatures)

    def end_epoch(self, store: Store) -> None:
        """Decide the slots up to the epoch's edge, whose checkpoint becomes stable."""
        before = store.height
        self.world.end_epoch(store)
        for seq in range(before + 1, store.height + 1):
            certificate = store.certificate_at(seq)
            root = store.root_after(seq)
            assert certificate is not None
            assert root is not None
            self.hashes[seq], self.roots[seq] = certificate.header.digest, root
        store.put_stable(self.checkpoint(store, store.height, edge=True))
        store.flush()

    def snapshot(self, store: Store) -> SnapshotManifest:
        """Write the snapshot of the state as it is, whose checkpoint becomes stable."""
        store.put_stable(self.checkpoint(store, store.height))
        folder = SnapshotFolder(self.state_dir / SNAPSHOT_FOLDER, keep=5)
        with store.freeze() as frozen:
            rows = frozen.iterate(Column.STATE_VALUES)
            root = store.tree.root()
            return folder.write(rows, store.height, root, cancelled=lambda: False)

    def change(self, column: Column, key: bytes, value: bytes | None) -> None:
        """Change a row behind everybody's back, as damage does."""
        raw = plyvel.DB(str(self.db))
        if value is None:
            raw.delete(column + key)
        else:
            raw.put(column + key, value)
        raw.close()

    def config(self) -> Path:
        """Write the files that a command needs, and return the configuration's."""
        (self.folder / "genesis.bin").write_bytes(encode(self.world.genesis))
        path = self.folder / "node.toml"
        path.write_text(
            'genesis = "genesis.bin"\nkeystore = "keystore"\n'
            'state_dir = "state"\nchain_dir = "chain"\n'
        )
        return path


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report nothing."""
