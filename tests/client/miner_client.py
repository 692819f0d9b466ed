"""A miner that knows only docs/protocol.md: it imports nothing of the product.

    python tests/client/miner_client.py --node MULTIADDR --network-id HEX --seed HEX \
        --challenge NAME --body-file FILE

It connects to one node, asks for the status, publishes one submission, asks for the receipt until
the submission has ended, and prints one JSON object: submission_id, epoch (in which it was made),
state, reason, receipt (hex).
The exit status is 0 if it ended, 1 if it was refused or not ended in time. Section numbers in the
comments are the document's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import trio
from bittensor_core import Keypair

STATUS = "/validator/1/status"
RECEIPT = "/validator/1/receipt"
BLOB = "/validator/1/blob"
MAX_INLINE_BODY_BYTES = 4096
MAX_BODY_BYTES = 16_777_216
MAX_PIECE_BYTES = 262_144
MAX_REQUEST_BYTES = 64
MAX_REPLY_BYTES = 262_144
POLL_S = 0.1


class ClientError(Exception):
    """The node did not do what the document promises."""


# --- section 2 to 5: bytes -----------------------------------------------------------------------


def pack(value: Any) -> bytes:
    """The canonical bytes of nested lists: msgpack writes the shortest forms by itself."""
    return msgpack.packb(value, use_bin_type=True)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Section 3: the record that the miner signs, in field order."""

    network_id: bytes
    challenge_id: str
    hotkey: bytes
    expiry_epoch: int
    body_hash: bytes
    body_size: int
    challenge_version: int = 0
    kind: str = "plain"

    def fields(self) -> list[Any]:
        return [
            self.network_id,
            self.challenge_id,
            self.challenge_version,
            self.kind,
            self.hotkey,
            self.expiry_epoch,
            self.body_hash,
            self.body_size,
        ]

    @property
    def id(self) -> bytes:
        return sha256(pack(self.fields()))

    @property
    def payload(self) -> bytes:
        """Section 4: what the hotkey signs."""
        return b"validator/v1\0submission\0" + self.network_id + self.id


def make(pair: Keypair, network_id: bytes, challenge: str, epoch: int, body: bytes) -> Submission:
    """The submission of a body, to be admitted in this epoch or the next."""
    return Submission(
        network_id=network_id,
        challenge_id=challenge,
        hotkey=bytes(pair.public_key),
        expiry_epoch=epoch + 1,
        body_hash=sha256(body),
        body_size=len(body),
    )


def post(pair: Keypair, submission: Submission, body: bytes) -> list[Any]:
    """Section 5: PostedSubmission = [["admit", submission, signature], body]."""
    signature = bytes(pair.sign(submission.payload))
    return [["admit", submission.fields(), signature], body]


def message(*posted: list[Any]) -> bytes:
    """Section 5: SubmissionMessage = [[posted, ...]]."""
    return pack([list(posted)])


def topic_of(network_id: bytes, challenge: str) -> str:
    return f"/validator/1/{network_id.hex()[:16]}/submissions/{challenge}"


# --- section 6 and 7: the network ----------------------------------------------------------------


class Client:
    """A libp2p host that is connected to one node."""

    def __init__(self, host: Any, pubsub: Any, peer_id: Any) -> None:
        self.host = host
        self.pubsub = pubsub
        self.peer_id = peer_id

    async def request(self, protocol: str, data: bytes) -> bytes:
        """Section 7: one request frame, one reply frame, on a stream of its own."""
        stream = await self.host.new_stream(self.peer_id, [protocol])
        try:
            await stream.write(struct.pack(">I", len(data)) + data)
            return await self._frame(stream, MAX_REPLY_BYTES)
        finally:
            await stream.reset()

    def offer(self, body: bytes) -> None:
        """Section 7, the other way round: answer who asks for a piece of the body."""
        digest = sha256(body)

        async def answer(stream: Any) -> None:
            try:
                request = await self._frame(stream, MAX_REQUEST_BYTES)
                asked, offset, length = msgpack.unpackb(request)
                piece = body[offset : offset + min(length, MAX_PIECE_BYTES)]
                reply = pack([len(body), piece] if asked == digest else [0, b""])
                await stream.write(struct.pack(">I", len(reply)) + reply)
                await stream.close()
            except (ClientError, ValueError):  # what makes no sense gets no answer
                await stream.reset()

        self.host.set_stream_handler(BLOB, answer)

    async def _frame(self, stream: Any, limit: int) -> bytes:
        (size,) = struct.unpack(">I", await self._read(stream, 4))
        if size > limit:
            raise ClientError(f"a frame of {size} bytes, the limit is {limit}")
        return await self._read(stream, size)

    async def _read(self, stream: Any, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = await stream.read(size - len(data))
            if not part:
                raise ClientError(f"the stream ended after {len(data)} of {size} bytes")
            data += part
        return data

    async def status(self) -> dict[str, Any]:
        names = ("network_id", "epoch", "height", "chain_hash", "view", "retry_after_s")
        values = msgpack.unpackb(await self.request(STATUS, b""))
        return dict(zip(names, values, strict=True))

    async def receipt(self, submission_id: bytes) -> dict[str, Any]:
        values = msgpack.unpackb(await self.request(RECEIPT, submission_id))
        return dict(zip(("state", "reason", "receipt", "retry_after_s"), values, strict=True))

    async def publish(self, topic: str, data: bytes) -> None:
        """Publish once the node's subscription is known; before that it would go nowhere."""
        await self.pubsub.wait_for_subscription(self.peer_id, topic)
        await self.pubsub.publish(topic, data)

    async def ended(self, submission_id: bytes) -> dict[str, Any]:
        """Ask until the node has a receipt or has refused the submission."""
        while True:
            reply = await self.receipt(submission_id)
            if reply["state"] in ("ended", "refused"):
                return reply
            await trio.sleep(POLL_S)


def _new_host() -> Any:
    from libp2p import new_host
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
    from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
    from libp2p.security.noise.transport import Transport as Noise
    from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
    from libp2p.stream_muxer.yamux.yamux import Yamux

    keys = create_new_key_pair(secrets.token_bytes(32))
    noise = Noise(keys, noise_privkey=create_noise_key_pair().private_key)
    return new_host(key_pair=keys, sec_opt={NOISE: noise}, muxer_opt={YAMUX: Yamux})


@asynccontextmanager
async def connect(node: str) -> AsyncIterator[Client]:
    """Run a host that listens nowhere and is connected to the node with this multiaddr."""
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
    from libp2p.pubsub.pubsub import Pubsub
    from libp2p.tools.anyio_service import background_trio_service
    from multiaddr import Multiaddr

    peer = info_from_p2p_addr(Multiaddr(node))
    host = _new_host()
    router = GossipSub(
        [PROTOCOL_ID_V11],
        degree=6,
        degree_low=4,
        degree_high=8,
        heartbeat_interval=1,
        # Otherwise it silently drops our own messages beyond ten a second (section 6).
        spam_protection_enabled=False,
    )
    pubsub = Pubsub(host, router, strict_signing=True)
    async with (
        host.run(listen_addrs=[]),
        background_trio_service(pubsub),
        background_trio_service(router),
    ):
        await pubsub.wait_until_ready()
        await host.connect(peer)
        try:
            yield Client(host, pubsub, peer.peer_id)
        finally:
            with trio.move_on_after(2, shield=True):
                await host.close()


async def submit(client: Client, pair: Keypair, challenge: str, body: bytes) -> dict[str, Any]:
    """Build, sign and publish one submission; return how it ended."""
    status = await client.status()
    network_id = status["network_id"]
    submission = make(pair, network_id, challenge, status["epoch"], body)
    inline = body
    if len(body) > MAX_INLINE_BODY_BYTES:  # section 5: it travels by its hash
        client.offer(body)
        inline = b""
    await client.publish(topic_of(network_id, challenge), message(post(pair, submission, inline)))
    reply = await client.ended(submission.id)
    return {
        "submission_id": submission.id.hex(),
        "epoch": status["epoch"],
        **reply,
        "receipt": reply["receipt"].hex(),
    }


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Submit the body file to the node of the command line."""
    body = arguments.body_file.read_bytes()
    if len(body) > MAX_BODY_BYTES:
        raise ClientError(f"the body has {len(body)} bytes, the limit is {MAX_BODY_BYTES}")
    pair = Keypair.create_from_seed(bytes.fromhex(arguments.seed))
    with trio.fail_after(arguments.deadline):
        async with connect(arguments.node) as client:
            status = await client.status()
            if status["network_id"].hex() != arguments.network_id:
                raise ClientError(f"the node is of network {status['network_id'].hex()}")
            return await submit(client, pair, arguments.challenge, body)


def main() -> None:
    parser = argparse.ArgumentParser(description="publish one submission, print its receipt")
    parser.add_argument("--node", required=True, help="multiaddr with /p2p/ peer id")
    parser.add_argument("--network-id", required=True, help="64 hex digits")
    parser.add_argument("--seed", required=True, help="the hotkey's seed, 64 hex digits")
    parser.add_argument("--challenge", required=True, help="the challenge's id")
    parser.add_argument("--body-file", required=True, type=Path)
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds for everything")
    outcome = trio.run(run, parser.parse_args())
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.exit(0 if outcome["state"] == "ended" else 1)


if __name__ == "__main__":
    main()
