"""Helpers of the tests of the DHT: records of a small world, and nodes that hold them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio
from libp2p.peer.id import ID

from consensus.certificate import bitmap
from consensus.messages import Evidence, Vote
from protocol.codec import digest_of, encode, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.identity import verify_consensus
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from protocol.records.record_key import DhtKind, RecordKey
from storage.database import Database
from storage.record_store import GroupLimit, RecordStore
from tests.support import World, make_verdict
from tests.validator_node.network.support import config
from validator_node.network import Network, open_network
from validator_node.network.dht import Dht
from validator_node.network.dht_records import DhtConfig, Judge
from validator_node.network.upstream.kad_values import wire_record
from validator_node.records import RecordBook, make_rules
from validator_node.records.limits import RECORD_LIMITS
from validator_node.store import Store

DEADLINE_S = 15.0


class Records:
    """Valid records of every kind in one world, by (key, value)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sets = {0: world.voters}
        self.hotkeys = {k.public_key for k in (*world.hotkeys, *world.miners)}

    def book(self) -> RecordBook:
        return RecordBook(
            self.world.network_id,
            make_rules(
                self.world.network_id,
                voters_of=self.sets.get,
                verify=verify_consensus,
                is_known_hotkey=self.hotkeys.__contains__,
            ),
        )

    def key(self, kind: DhtKind, name: bytes | int | str) -> str:
        return str(RecordKey.of(kind, self.world.network_id, name))

    def blob(self, content: bytes = b"content") -> tuple[str, bytes]:
        return self.key(DhtKind.BLOB, sha256(content)), content

    def node(self, index: int = 0, sequence: int = 1) -> tuple[str, bytes]:
        signed = self.world.node_record(index, "peer", sequence=sequence)
        return self.key(DhtKind.NODE, signed.record.hotkey), encode(signed)

    def submission(self, body: bytes = b"body") -> tuple[str, bytes]:
        signed = self.world.signed(body)
        return self.key(DhtKind.SUBMISSION, signed.submission.submission_id), encode(signed)

    def stable(self, seq: int, *, edge: bool = False, signers: int = 3) -> CheckpointCertificate:
        world = self.world
        next_set = world.genesis.validators.for_epoch(1) if edge else None
        checkpoint = Checkpoint(
            epoch=0,
            seq=seq,
            chain_hash=sha256(b"chain"),
            state_root=sha256(b"root"),
            next_set=next_set,
        )
        return CheckpointCertificate(
            checkpoint=checkpoint,
            signers=bitmap(list(range(signers)), len(world.keys)),
            signatures=tuple(
                key.sign(
                    vote_payload(
                        world.voters.domain,
                        VoteKind.CHECKPOINT,
                        view=0,
                        seq=seq,
                        digest=checkpoint.digest,
                        signer=key.public_key,
                    )
                )
                for key in world.keys[:signers]
            ),
        )

    def checkpoint(self, seq: int) -> tuple[str, bytes]:
        return self.key(DhtKind.CHECKPOINT, "newest"), encode(self.stable(seq))

    def validators(self) -> tuple[str, bytes]:
        return self.key(DhtKind.VALIDATORS, 1), encode(self.stable(8, edge=True))

    def vote(self, digest: bytes, *, signer: int = 1) -> Vote:
        key = self.world.keys[signer]
        payload = vote_payload(
            self.world.voters.domain,
            VoteKind.COMMIT,
            view=0,
            seq=3,
            digest=digest,
            signer=key.public_key,
        )
        return Vote(
            kind="commit",
            epoch=0,
            view=0,
            seq=3,
            digest=digest,
            signer=signer,
            signature=key.sign(payload),
        )

    def evidence(self) -> tuple[str, bytes]:
        pair = Evidence(first=self.vote(sha256(b"a")), second=self.vote(sha256(b"b")))
        return self.key(DhtKind.EVIDENCE, digest_of(pair)), encode(pair)

    def result(self, store: Store) -> tuple[str, bytes]:
        """Let a store settle a submission and return its receipt."""
        world = self.world
        signed = world.signed(b"settled")
        submission_id = signed.submission.submission_id
        world.decide(store, world.statement(0, signed))
        verdict = make_verdict(submission_id)
        world.decide(store, *[world.statement(signer, verdict) for signer in range(4)])
        for _ in range(world.genesis.parameters.window):
            world.decide(store)
        receipt = store.receipt(submission_id)
        assert receipt is not None
        return self.key(DhtKind.RESULT, submission_id), encode(receipt)


@dataclass
class Holder:
    """What one node of a test brings to the DHT."""

    kept: RecordStore
    derived: dict[str, bytes] = field(default_factory=dict)


class Credulous:
    """The judge of a node that believes, keeps and answers everything."""

    def check(self, key: str, value: bytes) -> None:
        pass

    def select(self, key: str, values: Sequence[bytes]) -> int:
        return len(values) - 1

    def newest_wins(self, key: str) -> bool:
        return False


@asynccontextmanager
async def dht_node(
    judge: Judge,
    path: Path,
    number: int,
    *bootstrap: str,
    now_ms: Callable[[], int] = lambda: 1_000_000,
    limits: Mapping[str, GroupLimit] = RECORD_LIMITS,
) -> AsyncIterator[tuple[Network, Holder]]:
    """Run one node with a DHT, whose records lie in `path`."""
    with Database.open(path, create=True) as database:
        holder = Holder(RecordStore(database, limits, now_ms))
        dht = DhtConfig(judge=judge, kept=holder.kept, derived=holder.derived.get)
        async with open_network(replace(config(number, *bootstrap), dht=dht)) as node:
            yield node, holder


@asynccontextmanager
async def dht_nodes(
    records: Records,
    folder: Path,
    count: int,
    *,
    liars: Collection[int] = (),
    now_ms: Callable[[], int] = lambda: 1_000_000,
    limits: Mapping[str, GroupLimit] = RECORD_LIMITS,
) -> AsyncIterator[tuple[list[Network], list[Holder]]]:
    """Run `count` nodes, each connected to every other; those at the places `liars` lie."""
    async with AsyncExitStack() as stack:
        running: list[Network] = []
        holders: list[Holder] = []
        for place in range(count):
            known = tuple(address for node in running for address in node.addresses)
            judge = Credulous() if place in liars else records.book()
            path = folder / f"records{place}"
            node, holder = await stack.enter_async_context(
                dht_node(judge, path, place + 1, *known, now_ms=now_ms, limits=limits)
            )
            running.append(node)
            holders.append(holder)
        with trio.fail_after(DEADLINE_S):
            for node in running:
                await node.wait_connected(count - 1)
        yield running, holders


def dht_of(node: Network) -> Dht:
    assert node.dht is not None
    return node.dht


async def put_at(sender: Network, receiver: Network, key: str, value: bytes) -> bool:
    """Let `sender` put any value at one peer, unjudged; True if that peer took it."""
    record = wire_record(key.encode(), value)
    store = dht_of(sender)._kad.value_store
    peer = ID.from_string(receiver.peer_id)
    with trio.fail_after(DEADLINE_S):
        return bool(await store._store_at_peer(peer, key.encode(), value, record=record))
