"""The DHT: records that outlive rounds, found by their key at whoever is closest to it.

Protocol `/ipfs/kad/1.0.0`, so that any libp2p client can read a record. About 80 ms of CPU a put
over seven nodes: never for the hot path.

Rules:
1. A record is judged when it is put here, when a peer puts it, before a peer is answered with it,
   and when a peer answers with it: by the `Judge`, never by who sent it.
2. Two sources answer under one key, the better one first: what this node *derives* from its own
   storage without its ever having been put, and what it *keeps* because it was put. What can be
   derived is not kept as well.
3. `get` compares what several peers hold where a newer record may exist. `put` counts the peers
   that were seen to hold the record afterwards: the library's own put reports nothing.
4. A peer that sends what no honest one would is charged for it; an unknown epoch or hotkey is an
   honest difference of knowledge.
5. Everything has a deadline; at most `MAX_OPERATIONS` run at once, the others wait for their turn
   within their deadlines.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from libp2p.kad_dht.common import BUCKET_SIZE, PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError

from validator_node.network.dht_lookup import (
    ASK_S,
    Lookup,
    RecordNotFoundError,
    RecordNotStoredError,
)
from validator_node.network.dht_records import DhtConfig, HeldRecords
from validator_node.network.limits import Gate
from validator_node.network.upstream.kad_inbound import asking_peer
from validator_node.network.upstream.kad_streams import KadHost
from validator_node.network.upstream.kad_values import HeldValues, wire_record
from validator_node.records.errors import RecordError

MAX_OPERATIONS: Final = 4
QUORUM: Final = 3
"""Peers whose answers `get` compares where a newer record may exist."""
SENDING: Final = 10
REFRESH_S: Final = 600.0
FIND_S: Final = 8.0
SHA256_MULTIHASH: Final = b"\x12\x20"


@dataclass
class _Answers:
    """What a lookup brought."""

    values: list[bytes] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


class _Validator:
    """The judge as the library asks it, for what peers put."""

    strict_validation = True

    def __init__(self, records: HeldRecords) -> None:
        self._records = records

    def validate(self, key: str, value: bytes) -> None:
        self._records.check_from(asking_peer.get(), key, value)

    def select(self, key: str, values: list[bytes]) -> int:
        best = self._records.judge.select(key, values)
        if best == 0:
            self._records.counters.count("refused", "record_older")
        return best


class Dht:
    """This node's part of the DHT; `Network.dht` is one."""

    def __init__(self, host: Any, config: DhtConfig, gate: Gate) -> None:
        self.judge = config.judge
        self.records = HeldRecords(config, gate)
        self._named_anchors = config.anchors
        self._counters = gate.counters
        self._scores = gate.scores
        self._host = KadHost(host)
        self._own_id: ID = host.get_id()
        self._slots = trio.CapacityLimiter(MAX_OPERATIONS)
        self._looked_up = False
        # It logs every refused put with the whole value in hex: a stranger's way to fill a disk.
        logging.getLogger("libp2p.kad_dht").setLevel(logging.CRITICAL)
        self._kad: Any = KadDHT(
            self._host, DHTMode.SERVER, validator=_Validator(self.records), validator_changed=True
        )
        self._kad.value_store = HeldValues(self._host, self.records.best, self.records.keep_put)

    async def run(self) -> None:
        """Keep the routing table and the provider records in order, until cancelled.

        Raises `DatabaseError` if the store of the records failed: the library would go on.
        """
        async with trio.open_nursery() as nursery:
            self._host.start(nursery, self._scores)
            nursery.start_soon(self._host.run)
            nursery.start_soon(self._maintain)
            raise await self.records.wait_failed()

    def on_put(self, listener: Callable[[str, bytes], None]) -> None:
        """Call `listener(key, value)` for each record of a peer that was accepted."""
        self.records.on_put(listener)

    def local(self, key: str) -> bytes | None:
        """Return the best acceptable record that this node holds itself, or None."""
        return self.records.best(key)

    @property
    def table_size(self) -> int:
        """Peers in the routing table."""
        return int(self._kad.routing_table.size())

    # --- reading -----------------------------------------------------------------------------

    async def get(self, key: str, *, quorum: int | None = None, deadline_s: float) -> bytes:
        """Return the best record under `key` that this node or its peers hold.

        Args:
            key: see `protocol.records.record_key`.
            quorum: peers whose valid answers to wait for, beside what this node holds. By default
                none if it holds a record that no newer one can replace, 1 if it holds nothing of
                that sort, `QUORUM` where the newest wins.
            deadline_s: seconds; then the best of what has come is returned.

        Raises:
            RecordError: no record can stand under this key.
            RecordNotFoundError: neither this node nor anybody asked has an acceptable one.
        """
        own = self.local(key)
        if quorum is None:
            quorum = QUORUM if self.judge.newest_wins(key) else int(own is None)
        answers = _Answers()
        lookup = Lookup(key.encode(), self._own_id, await self._table(key), self._anchors())

        async def ask(peer: ID) -> list[ID]:
            value, named = await self._fetch(peer, key)
            if value is not None:
                reason = self.records.refusal(str(peer), key, value)
                if reason is None:
                    answers.values.append(value)
                else:
                    answers.refused[reason] += 1
            return named

        with trio.move_on_after(deadline_s):
            async with self._slots:
                await lookup.run(ask, lambda: len(answers.values) >= quorum)
        found = answers.values if own is None else [*answers.values, own]
        if not found:
            raise RecordNotFoundError(key, len(lookup.asked), dict(answers.refused))
        best = found[self.judge.select(key, found)]
        if best != own:
            self.records.keep(key, best, own=False)
        return best

    # --- writing -----------------------------------------------------------------------------

    async def put(self, key: str, value: bytes, *, deadline_s: float) -> int:
        """Keep a record here as our own, give it to the peers closest to its key.

        Returns the number of peers that were seen to hold it, or a better one, afterwards. Putting
        it again renews its time to live there.

        Raises:
            RecordError: the value is no record of this key, or older than what this node holds.
            RecordNotStoredError: no peer was seen to hold it by the deadline.
        """
        self.judge.check(key, value)
        held = self.local(key)
        if held is not None and self.judge.select(key, [held, value]) == 0:
            raise RecordError("older", f"{key}: this node holds a newer record")
        self.records.keep(key, value, own=True)
        sent: list[ID] = []
        confirmed: list[ID] = []
        slots = trio.CapacityLimiter(SENDING)

        async def give(peer: ID) -> None:
            async with slots:
                with trio.move_on_after(2 * ASK_S):
                    sent.append(peer)
                    if await self._give(peer, key, value):
                        confirmed.append(peer)

        with trio.move_on_after(deadline_s):
            async with self._slots:
                targets = await self._targets(key)
                async with trio.open_nursery() as nursery:
                    for peer in targets:
                        nursery.start_soon(give, peer)
        if not confirmed:
            raise RecordNotStoredError(key, len(sent))
        return len(confirmed)

    async def _give(self, peer: ID, key: str, value: bytes) -> bool:
        record = wire_record(key.encode(), value)
        if not await self._kad.value_store._store_at_peer(peer, key.encode(), value, record=record):
            self._counters.count("dropped", "record_put")  # it may hold a better one, though
        found, _ = await self._fetch(peer, key)
        if found is None or self.records.refusal(str(peer), key, found) is not None:
            return False
        return self.judge.select(key, [value, found]) == 1

    # --- providers ---------------------------------------------------------------------------

    async def provide(self, digest: bytes, *, deadline_s: float) -> bool:
        """Tell the peers closest to a SHA-256 that this node has the bytes; False if nobody heard.

        Peers take ten such words in ten seconds from one of us.
        """
        with trio.move_on_after(deadline_s):
            async with self._slots:
                await self._know_connected()
                return bool(await self._kad.provider_store.provide(SHA256_MULTIHASH + digest))
        return False

    async def find_providers(
        self, digest: bytes, *, limit: int = BUCKET_SIZE, deadline_s: float
    ) -> dict[str, tuple[str, ...]]:
        """Return peers that say they have the bytes with this SHA-256, and their multiaddrs.

        It is their word alone: the bytes prove themselves by their hash.
        """
        with trio.move_on_after(deadline_s):
            async with self._slots:
                await self._know_connected()
                found = await self._kad.provider_store.find_providers(
                    SHA256_MULTIHASH + digest, limit
                )
                return {
                    str(info.peer_id): tuple(str(address) for address in info.addrs)
                    for info in found[:limit]
                    if info.peer_id != self._own_id
                }
        return {}

    # --- inside ------------------------------------------------------------------------------

    async def _maintain(self) -> None:
        table = self._kad.routing_table
        while True:
            await trio.sleep(REFRESH_S)
            connected = set(self._host.get_connected_peers())
            for peer in table.get_stale_peers():
                if peer not in connected:
                    table.remove_peer(peer)
            await self._know_connected()
            await self._kad.peer_routing.refresh_routing_table()
            await self._kad.provider_store._republish_provider_records()
            self._kad.provider_store.cleanup_expired()

    async def _fetch(self, peer: ID, key: str) -> tuple[bytes | None, list[ID]]:
        answer: tuple[bytes | None, list[ID]] = await self._kad.value_store._get_from_peer(
            peer, key.encode(), return_closer_peers=True
        )
        return answer

    async def _table(self, key: str) -> list[ID]:
        await self._know_connected()
        return list(self._kad.routing_table.find_local_closest_peers(key.encode()))

    async def _targets(self, key: str) -> list[ID]:
        """Return who is to hold a record: asked for in a large network, known in a small one."""
        if not self._looked_up or self.table_size >= BUCKET_SIZE:
            await self._know_connected()
            with trio.move_on_after(FIND_S):
                await self._kad.peer_routing.find_closest_peers_network(key.encode())
                self._looked_up = True
        closest = await self._table(key)
        extra = [peer for peer in self._anchors() if peer not in closest][:SENDING]
        return [peer for peer in (*closest, *extra) if peer != self._own_id]

    def _anchors(self) -> list[ID]:
        """Return the connected anchors, or the connected peers if there are none."""
        connected = [peer for peer in self._host.get_connected_peers() if self._speaks(peer)]
        named = frozenset(self._named_anchors())
        return [peer for peer in connected if str(peer) in named] or connected

    async def _know_connected(self) -> None:
        table = self._kad.routing_table
        for peer in self._host.get_connected_peers():
            if self._speaks(peer) and not table.peer_in_table(peer):
                await table.add_peer(peer)

    def _speaks(self, peer: ID) -> bool:
        """Return whether a peer takes part in the DHT, or has not told us yet."""
        try:
            protocols = self._host.get_peerstore().get_protocols(peer)
        except PeerStoreError:
            return True
        return not protocols or str(PROTOCOL_ID) in protocols
