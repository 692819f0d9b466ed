"""Bodies that are announced and never come."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import trio

from protocol.codec import decode, encode, sha256
from protocol.envelope import RecordKind, record_payload
from protocol.identity import Hotkey
from protocol.records.blob import NOT_NOW, BlobReply
from protocol.records.genesis import Genesis
from protocol.records.submission import (
    MAX_INLINE_BODY_BYTES,
    PostedSubmission,
    SignedSubmission,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from tests.attacks.attack import Attack
from tests.attacks.honest import MinerSpec
from tests.attacks.hostile import stranger, tell
from tests.attacks.seen import Seen
from tests.attacks.stage import HONEST_MINERS, LARGE_MINERS, Stage
from validator_node.blobs.service import BLOB_PROTOCOL
from validator_node.config import load_genesis
from validator_node.network import NetworkError
from validator_node.queries import MAX_RECEIPT_REPLY_BYTES, STATUS_PROTOCOL, NodeStatus

BODY_BYTES = 6_000
CHALLENGE = "text_compression"
"""The example that takes bodies so long."""
AT_ONCE = 8
"""Bodies that a node awaits of one hotkey."""
STALL_S = 9.5
"""Just within the deadline of a request for a piece."""
AGAIN_S = 5.0
LARGE = 20
"""Honest bodies that are watched, at least; on a slow machine they take longer to come."""
ARRIVE_S = 45.0


class SlowBodies(Attack):
    """See the module."""

    name = "slow-bodies"
    does = "four registered hotkeys announce bodies above 4 KiB and stall whoever fetches them"
    before = "18 of 20 honest bodies were lost: all slots waited for the four"

    async def prepare(self, stage: Stage, seconds: float) -> None:
        """Have honest miners send large bodies, from now on."""
        addresses = [site.address for site in stage.layout.validators]
        await stage.start_honest(
            miners=[
                MinerSpec(
                    seed=seed,
                    bootstrap=(addresses[number + 1 :] + addresses)[:2],
                    per_message=1,
                    interval_s=0.3,
                    body_bytes=BODY_BYTES,
                )
                for number, seed in enumerate(stage.seeds(HONEST_MINERS, LARGE_MINERS))
            ]
        )

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Stall, and see which honest bodies arrive meanwhile."""
        targets = [site.address for site in stage.layout.validators]
        seeds = stage.hostile_seeds
        async with stage.hostile(self.name, targets=targets, seeds=seeds) as hostile:
            await hostile.until("announced")
            began = time.monotonic()
            ended = float("inf")

            def large() -> list[bool]:
                return [
                    fate.is_settled
                    for fate in stage.fates.values()
                    if fate.body_bytes > MAX_INLINE_BODY_BYTES and began <= fate.published_s < ended
                ]

            await trio.sleep(seconds)
            with trio.move_on_after(seconds):
                await stage.until(lambda _: len(large()) >= LARGE)
            ended = time.monotonic()
            with trio.move_on_after(ARRIVE_S):
                await stage.until(lambda _: all(large()))
            found, told = large(), dict(hostile.told)
        return {
            "large": len(found),
            "arrived": sum(found),
            "announced": told["announced"],
            "stalled": told.get("stalled", 0),
        }

    def judge(self, calm: Seen, under: Seen) -> list[str]:
        """Every honest body arrives while the others stall."""
        found = super().judge(calm, under)
        large, arrived = under.figures["large"], under.figures["arrived"]
        if arrived < large or not large:
            found.append(f"{arrived:g} of {large:g} honest bodies above 4 KiB arrived")
        return found

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Announce as many bodies as a node awaits, and give none away."""
        genesis = load_genesis(Path(settings["genesis"]))
        announced = stalled = 0

        async def stall(_: str, __: bytes) -> bytes:
            nonlocal stalled
            stalled += 1
            tell(stalled=stalled)
            await trio.sleep(STALL_S)
            return encode(BlobReply(size=NOT_NOW, data=b""))

        async def liar(seed: str) -> None:
            nonlocal announced
            hotkey = Hotkey(bytes.fromhex(seed))
            topic = submission_topic(genesis.network_id, CHALLENGE)
            async with stranger(*settings["targets"]) as network:
                network.serve(BLOB_PROTOCOL, stall, max_request_bytes=64, deadline_s=60.0)
                await network.wait_subscriber(topic)
                while True:
                    epoch = await _epoch(network)
                    for _ in range(AT_ONCE):
                        await network.publish(topic, _announcement(genesis, hotkey, epoch))
                        announced += 1
                    tell(announced=announced)
                    await trio.sleep(AGAIN_S)

        async with trio.open_nursery() as nursery:
            for seed in settings["seeds"]:
                nursery.start_soon(liar, seed)


async def _epoch(network: Any) -> int:
    for peer_id in network.peers():
        try:
            data = await network.request(
                peer_id,
                STATUS_PROTOCOL,
                b"",
                deadline_s=5.0,
                max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
            )
        except NetworkError:
            continue
        return decode(NodeStatus, data).epoch
    return 0


def _announcement(genesis: Genesis, hotkey: Hotkey, epoch: int) -> bytes:
    submission = Submission(
        network_id=genesis.network_id,
        challenge_id=CHALLENGE,
        challenge_version=0,
        kind="plain",
        hotkey=hotkey.public_key,
        expiry_epoch=epoch + 1,
        body_hash=sha256(os.urandom(32)),
        body_size=BODY_BYTES,
    )
    payload = record_payload(RecordKind.SUBMISSION, genesis.network_id, submission.submission_id)
    signed = SignedSubmission(submission=submission, signature=hotkey.sign(payload))
    return encode(SubmissionMessage(posted=(PostedSubmission(signed=signed, body=b""),)))
