"""A miner: makes real payloads for the example challenges, signs and publishes them.

It speaks only the public protocol: gossip to publish, a stream to read status and receipts. Miners'
libp2p identities mean nothing, so it makes a new one each time it starts.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio

from challenges import examples
from consensus.receipts import verify_receipt, voters_from
from protocol.codec import decode, encode, sha256
from protocol.envelope import RecordKind, record_payload
from protocol.errors import ProtocolError
from protocol.identity import Hotkey, verify_consensus
from protocol.records.genesis import Genesis
from protocol.records.submission import (
    PostedSubmission,
    SignedSubmission,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network, NetworkConfig, open_network
from validator_node.queries import (
    MAX_RECEIPT_REPLY_BYTES,
    RECEIPT_PROTOCOL,
    STATUS_PROTOCOL,
    NodeStatus,
    ReceiptReply,
)

DEADLINE_S = 10.0
EPOCHS_VALID = 1
"""A submission may be admitted in this many epochs after the one in which it was made."""

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
        self.report = MinerReport(hotkey=self._hotkey.address)

    def make(self, challenge_id: str, epoch: int) -> PostedSubmission:
        """Return the next signed submission for a challenge."""
        attempt = self._attempts.get(challenge_id, 0)
        self._attempts[challenge_id] = attempt + 1
        # Miners start at different attempts: the same body from two of them is a copy.
        offset = int.from_bytes(sha256(self._hotkey.public_key)[:2], "big")
        body = examples.payload(challenge_id, self._config.skill, offset * 1000 + attempt)
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
        return PostedSubmission(signed=signed, body=body)

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
            await network.wait_connected(1)
            names = [entry.challenge_id for entry in config.genesis.challenges]
            turn = 0
            while not stop.is_set():
                await self._publish(network, names[turn % len(names)])
                turn += 1
                with trio.move_on_after(config.interval_s):
                    await stop.wait()
            await self._read_receipts(network)
        config.report.write_text(json.dumps(vars(self.report)))

    async def _publish(self, network: Network, challenge_id: str) -> None:
        topic = submission_topic(self._config.genesis.network_id, challenge_id)
        try:
            status = await self._status(network)
            posted = tuple(
                self.make(challenge_id, status.epoch) for _ in range(self._config.per_message)
            )
            await network.publish(topic, encode(SubmissionMessage(posted=posted)))
        except NetworkError as error:
            log.warning("not published", challenge=challenge_id, reason=str(error))
            return
        for entry in posted:
            submission_id = entry.signed.submission.submission_id.hex()
            self.report.submitted[submission_id] = challenge_id

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

    async def _read_receipts(self, network: Network, newest: int = 8) -> None:
        voters_of = voters_from(self._config.genesis)
        for submission_id in list(self.report.submitted)[-newest:]:
            try:
                data = await self._ask(network, RECEIPT_PROTOCOL, bytes.fromhex(submission_id))
                reply = decode(ReceiptReply, data)
                self.report.states[reply.state] = self.report.states.get(reply.state, 0) + 1
                if reply.receipt:
                    verify_receipt(reply.receipt, voters_of, verify_consensus)
                    self.report.receipts[submission_id] = reply.receipt.hex()
            except (NetworkError, ProtocolError) as error:
                log.warning("no receipt", submission=submission_id[:16], reason=str(error))
