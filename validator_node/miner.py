"""A miner: makes real payloads for the example challenges, signs and publishes them.

It speaks only the public protocol: gossip to publish, streams to read status and receipts and to
hand out the bodies that are too long for gossip, until they are taken (`Offers`). Miners' libp2p
identities mean nothing, so it makes a new one each time it starts.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio

from challenges import examples
from consensus.receipts import verify_receipt, voters_from
from consensus.validators import Voters
from protocol.codec import decode, encode, sha256
from protocol.envelope import RecordKind, record_payload
from protocol.errors import ProtocolError
from protocol.identity import Hotkey, verify_consensus
from protocol.records.genesis import Genesis
from protocol.records.submission import (
    MAX_INLINE_BODY_BYTES,
    PostedSubmission,
    SignedSubmission,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from validator_node.blobs.offers import Offers
from validator_node.blobs.service import BlobService
from validator_node.errors import ConfigError
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network, NetworkConfig, open_network
from validator_node.queries import (
    MAX_RECEIPT_REPLY_BYTES,
    RECEIPT_PROTOCOL,
    STATUS_PROTOCOL,
    NodeStatus,
    ReceiptReply,
)
from validator_node.sync.handovers import ask_handovers

DEADLINE_S = 10.0
EPOCHS_VALID = 1
"""A submission may be admitted in this many epochs after the one in which it was made."""
LARGE_EVERY = 4
"""One body in this many is made `body_bytes` long."""
OFFER_POLL_S = 1.0
OFFER_DEADLINE_S = 150.0
"""How long a body is handed out that nobody admits: validators await one for 120 s."""
REMEMBERED = 64
"""Messages that may have to be published again."""
AGAIN_SPREAD = 0.25
"""What miners add to a wait they were told, at most, as a part of it: not all come back at once."""
LAST_OFFERS_S = 5.0
"""How long a miner that is told to stop goes on handing out what is not taken."""
TAKEN = frozenset({"uncertified", "ended"})
"""States of a submission whose body nobody waits for. While it is pending, validators may lack it
that did not admit it; and what the asked one has refused another may have taken."""

Published = tuple[str, tuple[PostedSubmission, ...]]
"""A challenge and what was published in one message."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class MinerConfig:
    """How one miner plays."""

    seed: bytes
    genesis: Genesis
    bootstrap: tuple[str, ...]
    skill: int
    """0 (poor) to 3 (good); see the examples' `miner.py`."""
    per_message: int
    interval_s: float
    """Pause between two messages."""
    listen_host: str
    report: Path
    body_bytes: int = 0
    """The length to which every fourth body is filled up, in the challenges that allow it; 0:
    none is. What is filled up is no valid answer any more and scores nothing."""


@dataclass
class MinerReport:
    """What a miner did, written at the end."""

    hotkey: str
    submitted: dict[str, str] = field(default_factory=dict)
    """submission id (hex) -> challenge"""
    receipts: dict[str, str] = field(default_factory=dict)
    """submission id (hex) -> receipt (hex), verified"""
    states: dict[str, int] = field(default_factory=dict)
    """What the asked node said of the newest submissions: state -> count"""


class Miner:
    """Publishes until it is told to stop, then asks for some of its receipts."""

    def __init__(self, config: MinerConfig) -> None:
        self._config = config
        self._hotkey = Hotkey(config.seed)
        self._attempts: dict[str, int] = {}
        self._offers = Offers()
        self._published: deque[Published] = deque(maxlen=REMEMBERED)
        """What was published and is not known to be taken, the oldest first."""
        self._taken = trio.Event()
        self._limits = {
            entry.challenge_id: entry.policy.max_input_bytes for entry in config.genesis.challenges
        }
        if config.body_bytes > max(self._limits.values(), default=0):
            raise ConfigError(
                f"body_bytes is {config.body_bytes}: no challenge takes more than "
                f"{max(self._limits.values(), default=0)} bytes (max_input_bytes)"
            )
        self.report = MinerReport(hotkey=self._hotkey.address)

    def make(self, challenge_id: str, epoch: int) -> tuple[PostedSubmission, bytes]:
        """Return the next signed submission for a challenge, as published, and its body."""
        attempt = self._attempts.get(challenge_id, 0)
        self._attempts[challenge_id] = attempt + 1
        # Miners start at different attempts: the same body from two of them is a copy.
        offset = int.from_bytes(sha256(self._hotkey.public_key)[:2], "big")
        body = examples.payload(challenge_id, self._config.skill, offset * 1000 + attempt)
        body = self._filled_up(challenge_id, attempt, body)
        network_id = self._config.genesis.network_id
        submission = Submission(
            network_id=network_id,
            challenge_id=challenge_id,
            challenge_version=0,
            kind="plain",
            hotkey=self._hotkey.public_key,
            expiry_epoch=epoch + EPOCHS_VALID,
            body_hash=sha256(body),
            body_size=len(body),
        )
        payload = record_payload(RecordKind.SUBMISSION, network_id, submission.submission_id)
        signed = SignedSubmission(submission=submission, signature=self._hotkey.sign(payload))
        inline = body if len(body) <= MAX_INLINE_BODY_BYTES else b""
        return PostedSubmission(signed=signed, body=inline), body

    def _filled_up(self, challenge_id: str, attempt: int, body: bytes) -> bytes:
        length = self._config.body_bytes
        if attempt % LARGE_EVERY or length > self._limits[challenge_id]:
            return body
        return body.ljust(length, b"\0")

    async def run(self, stop: trio.Event) -> None:
        """Publish until `stop`, then read receipts and write the report."""
        config = self._config
        network_config = NetworkConfig(
            seed=secrets.token_bytes(32),
            listen_host=config.listen_host,
            listen_port=0,
            bootstrap=config.bootstrap,
        )
        async with open_network(network_config) as network:
            BlobService([self._offers.body]).serve(network)
            await network.wait_connected(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hand_out, network)
                await self._publish_until(network, stop)
                with trio.move_on_after(LAST_OFFERS_S):
                    await self._offers_taken()
                nursery.cancel_scope.cancel()
            await self._read_receipts(network)
        config.report.write_text(json.dumps(vars(self.report)))

    async def _publish_until(self, network: Network, stop: trio.Event) -> None:
        names = list(self._limits)
        turn = 0
        while not stop.is_set():
            wait_s = await self._publish(network, names[turn % len(names)])
            turn += wait_s == 0
            await self._room_to_offer(stop)
            with trio.move_on_after(max(wait_s, self._config.interval_s)):
                await stop.wait()

    async def _hand_out(self, network: Network) -> None:
        """End the offers whose bodies are taken, for ever."""
        while True:
            await trio.sleep(OFFER_POLL_S)
            for submission_id, since in self._offers.open():
                state = await self._state(network, submission_id)
                late = trio.current_time() - since > OFFER_DEADLINE_S and state != "pending"
                if late or state in TAKEN:
                    self._offers.drop(submission_id)
                    self._taken.set()
                    self._taken = trio.Event()
                if late and state not in TAKEN:
                    log.warning("body not taken", submission=submission_id.hex()[:16], state=state)

    async def _offers_taken(self) -> None:
        while self._offers:
            await self._taken.wait()

    async def _room_to_offer(self, stop: trio.Event) -> None:
        """Wait until a message's long bodies fit beside what is offered, or until `stop`."""
        size = self._config.per_message * self._config.body_bytes
        while not (stop.is_set() or self._offers.has_room_for(size)):
            with trio.move_on_after(OFFER_POLL_S):
                await self._taken.wait()

    async def _state(self, network: Network, submission_id: bytes) -> str:
        reply = await self._reply(network, submission_id)
        if reply is None:
            return "unknown"
        # What is refused for now is published again, and its body wanted then.
        return "waits to be published" if reply.retry_after_s else reply.state

    async def _reply(self, network: Network, submission_id: bytes) -> ReceiptReply | None:
        try:
            return decode(ReceiptReply, await self._ask(network, RECEIPT_PROTOCOL, submission_id))
        except (NetworkError, ProtocolError) as error:
            log.info("state not known", submission=submission_id.hex()[:16], reason=str(error))
            return None

    async def _publish(self, network: Network, challenge_id: str) -> float:
        """Publish a message, an earlier one that was refused for now before a new one.

        Return 0, or the seconds to wait first because the network has enough to do.
        """
        try:
            status = await self._status(network)
            if status.retry_after_s:
                log.info("the network is busy", retry_after_s=status.retry_after_s)
                return status.retry_after_s * (1 + AGAIN_SPREAD * secrets.randbelow(100) / 100)
            again = await self._refused_for_now(network)
            if again is not None:
                challenge_id, posted = again
            else:
                posted = tuple(
                    self._made(challenge_id, status.epoch) for _ in range(self._config.per_message)
                )
            topic = submission_topic(self._config.genesis.network_id, challenge_id)
            await network.publish(topic, encode(SubmissionMessage(posted=posted)))
        except NetworkError as error:
            log.warning("not published", challenge=challenge_id, reason=str(error))
            return 0
        self._published.append((challenge_id, posted))
        for entry in posted:
            submission_id = entry.signed.submission.submission_id.hex()
            self.report.submitted[submission_id] = challenge_id
        return 0

    async def _refused_for_now(self, network: Network) -> Published | None:
        """Look at the oldest message that is not known to be taken; return it if it was not."""
        if not self._published:
            return None
        challenge_id, posted = self._published.popleft()
        reply = await self._reply(network, posted[0].signed.submission_id)
        if reply is not None and reply.state == "refused" and reply.retry_after_s:
            return challenge_id, posted
        return None

    def _made(self, challenge_id: str, epoch: int) -> PostedSubmission:
        """Make a submission, and offer its body if it travels by hash."""
        posted, body = self.make(challenge_id, epoch)
        if posted.travels_by_hash:
            submission_id = posted.signed.submission.submission_id
            self._offers.add(submission_id, body, trio.current_time())
        return posted

    async def _ask(self, network: Network, protocol: str, request: bytes) -> bytes:
        """Ask the connected validators one after the other; the last one's error counts."""
        failure: NetworkError | None = None
        for address in self._config.bootstrap:
            try:
                return await network.request(
                    address.rsplit("/p2p/", 1)[-1],
                    protocol,
                    request,
                    deadline_s=DEADLINE_S,
                    max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
                )
            except NetworkError as error:
                failure = error
        raise failure or NetworkError("no validator to ask: the bootstrap list is empty")

    async def _status(self, network: Network) -> NodeStatus:
        return decode(NodeStatus, await self._ask(network, STATUS_PROTOCOL, b""))

    async def _voters(self, network: Network) -> Callable[[int], Voters]:
        """Return the validator sets as a validator proves them; the genesis' if none does."""
        for address in self._config.bootstrap:
            try:
                found = await ask_handovers(network, address.rsplit("/p2p/", 1)[-1])
                return voters_from(self._config.genesis, found, verify_consensus)
            except (NetworkError, ProtocolError) as error:
                log.warning("validator sets not proven", node=address, reason=str(error))
        return voters_from(self._config.genesis)

    async def _read_receipts(self, network: Network, number: int = 8) -> None:
        """Read receipts of submissions from the newest back to the first, evenly spread."""
        voters_of = await self._voters(network)
        every = list(self.report.submitted)
        step = max(1, len(every) // number)
        for submission_id in every[::-step][:number]:
            try:
                data = await self._ask(network, RECEIPT_PROTOCOL, bytes.fromhex(submission_id))
                reply = decode(ReceiptReply, data)
                self.report.states[reply.state] = self.report.states.get(reply.state, 0) + 1
                if reply.receipt:
                    verify_receipt(reply.receipt, voters_of, verify_consensus)
                    self.report.receipts[submission_id] = reply.receipt.hex()
            except (NetworkError, ProtocolError) as error:
                log.warning("no receipt", submission=submission_id[:16], reason=str(error))
