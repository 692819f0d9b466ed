"""What any node tells of a challenge in the catalogue, over libp2p streams.

| protocol | request | reply |
|---|---|---|
| `/validator/1/registry` | `RegistryQuery` | `RegistryReply` |
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocol.codec import U16, U64, ZERO_DIGEST, Digest, Name, PublicKey, Record, decode, encode
from protocol.records.challenge import Challenge
from registry import keys
from registry.access import read
from validator_node.network.network import Network
from validator_node.owner.pool import RegistryPool
from validator_node.store import Store

REGISTRY_PROTOCOL = "/validator/1/registry"
MAX_REQUEST_BYTES = 128
MAX_REGISTRY_REPLY_BYTES = 1_048_576
"""The reports of 256 validators, twice, at their longest, and two challenges."""
DEADLINE_S = 10.0


class RegistryQuery(Record):
    """Which challenge is asked about, and which change."""

    challenge_id: Name
    change: Digest = ZERO_DIGEST
    """Digest of a `RegistryContent` that was published; zero for none."""


class RegistryReply(Record):
    """Where a challenge stands at one node, by its last executed slot."""

    network_id: Digest
    owner: PublicKey
    """Who may change the catalogue."""
    sequence: U64
    """Of the last committed change."""
    height: U64
    validators: U16
    """Members of the validator set, who report on a candidate."""
    state: Literal["unknown", "refused", "held"]
    """Of the change asked about: never seen or gone by, refused by this node, or waiting here to
    be ordered. Whether it is committed, the fields below tell."""
    reason: Annotated[str, Meta(max_length=64)]
    """Why it was refused, else empty."""
    active: Challenge | None
    """The active version, or the retired one, whose emission is 0."""
    candidate: keys.Candidate | None
    decision: keys.Decision | None
    """What became of the last candidate."""


class RegistryQueries:
    """Answers from the state and the pool; changes nothing."""

    def __init__(self, store: Store, pool: RegistryPool) -> None:
        self._store = store
        self._pool = pool

    def serve(self, network: Network) -> None:
        """Register the protocol."""
        network.serve(
            REGISTRY_PROTOCOL,
            self._on_request,
            max_request_bytes=MAX_REQUEST_BYTES,
            deadline_s=DEADLINE_S,
        )

    async def _on_request(self, _: str, data: bytes) -> bytes:
        # What is no query raises: the stream is reset, as for every protocol.
        return encode(self.reply(decode(RegistryQuery, data, limit_bytes=MAX_REQUEST_BYTES)))

    def reply(self, query: RegistryQuery) -> RegistryReply:
        """Return where a challenge and a change stand."""
        view = self._store.tree.view()
        mark = read(view, keys.RegistryMark, keys.REGISTRY)
        if mark is None:
            raise AssertionError("every genesis names the owner of the catalogue")
        key = query.challenge_id.encode()
        state, reason = self._pool.state_of(query.change)
        return RegistryReply(
            network_id=self._store.genesis.network_id,
            owner=mark.owner,
            sequence=mark.sequence,
            height=self._store.height,
            validators=len(self._store.voters),
            state=state,
            reason=reason,
            active=read(view, Challenge, keys.CHALLENGE + key),
            candidate=read(view, keys.Candidate, keys.CANDIDATE + key),
            decision=read(view, keys.Decision, keys.DECISION + key),
        )
