"""Well-formed submissions of hotkeys that are not registered, at a rate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import trio
from libp2p.pubsub.pb import rpc_pb2

from protocol.codec import encode, sha256
from protocol.records.genesis import Genesis
from protocol.records.submission import (
    PostedSubmission,
    SignedSubmission,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from tests.attacks.attack import Attack
from tests.attacks.hostile import stranger, tell
from tests.attacks.stage import Stage
from tests.validator_node.network.support import framed, open_gossip, signed_message
from validator_node.config import load_genesis

AUTHORS = 4
PER_S = 400
TICK_S = 0.05
ENCODED = 4_000


class Unregistered(Attack):
    """See the module."""

    name = "unregistered"
    does = f"{AUTHORS} strangers publish {PER_S} submissions a second of unregistered hotkeys"
    before = "they took half a core and a third of the slots, and nobody charged them"

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Publish beside the honest miners."""
        async with stage.hostile(self.name, target=stage.site(0).address) as hostile:
            await hostile.until("prepared")
            await trio.sleep(seconds)
            offered = hostile.told.get("offered", 0)
        return {"offered": offered}

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Publish at the rate, with a new identity whenever one is cut off."""
        genesis = load_genesis(Path(settings["genesis"]))
        offered, prepared = 0, 0

        async def author() -> None:
            nonlocal offered, prepared
            while True:
                async with stranger(settings["target"]) as network:
                    if not network.peers():
                        continue
                    victim = next(iter(network.peers()))
                    frames = _frames(network, genesis, ENCODED // AUTHORS)
                    prepared += 1
                    stream = await open_gossip(network, victim)
                    sent, began = 0, trio.current_time()
                    while victim in network.peers():
                        await trio.sleep(TICK_S)
                        due = int((trio.current_time() - began) * PER_S / AUTHORS)
                        for _ in range(due - sent):
                            try:
                                await stream.write(frames[sent % len(frames)])
                            except Exception:  # whatever a cut stream raises
                                sent = -1
                                break
                            sent, offered = sent + 1, offered + 1
                        if sent < 0:
                            break
                        if sent and not sent % len(frames):
                            frames = _frames(network, genesis, len(frames))

        async with trio.open_nursery() as nursery:
            for _ in range(AUTHORS):
                nursery.start_soon(author)
            while prepared < AUTHORS:  # noqa: ASYNC110  # of tasks of our own
                await trio.sleep(0.1)
            tell(prepared=prepared)
            while True:
                await trio.sleep(0.5)
                tell(offered=offered)


def _frames(network: Any, genesis: Genesis, count: int) -> list[bytes]:
    """Encode messages that differ from each other, and each from what was ever sent before."""
    challenge_id = genesis.challenges[0].challenge_id
    topic = submission_topic(genesis.network_id, challenge_id)
    frames = []
    for _ in range(count):
        body = os.urandom(64)
        submission = Submission(
            network_id=genesis.network_id,
            challenge_id=challenge_id,
            challenge_version=0,
            kind="plain",
            hotkey=os.urandom(32),
            expiry_epoch=1,
            body_hash=sha256(body),
            body_size=len(body),
        )
        signed = SignedSubmission(submission=submission, signature=os.urandom(64))
        message = encode(SubmissionMessage(posted=(PostedSubmission(signed=signed, body=body),)))
        number = int.from_bytes(os.urandom(8), "big")
        frames.append(
            framed(rpc_pb2.RPC(publish=[signed_message(network, topic, message, number)]))
        )
    return frames
