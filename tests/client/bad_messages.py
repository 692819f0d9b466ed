"""Publishes a good submission, everything a node must refuse, and a good one again.

    python tests/client/bad_messages.py --node MULTIADDR --seed HEX

Like `miner_client.py`, whose functions it uses, it imports nothing of the product. It prints one
JSON object: `told`, what the node answered for the receipt of each bad submission by the name of
its fault, and `ended`, the ids of the two good ones.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import trio
from bittensor_core import Keypair
from miner_client import POLL_S, Client, Submission, connect, make, message, post, submit, topic_of

CHALLENGE = "series_forecast"
ABSENT = "no-such-challenge"


def forecast(lag: int) -> bytes:
    """A valid body of the example challenge: each year is forecast as the one `lag` years ago."""
    return bytes.fromhex("0101000000000000") + bytes([lag]) + bytes.fromhex("00000100")


@dataclass(frozen=True)
class Fault:
    """A message that must be refused; `submission` if it can be read in it."""

    name: str
    data: bytes
    submission: Submission | None = None


class Forger:
    """Makes the bad messages; each has a body of its own, so that each has its own id."""

    def __init__(self, pair: Keypair, network_id: bytes, epoch: int) -> None:
        self._pair = pair
        self._network_id = network_id
        self._epoch = epoch
        self._lag = 10

    def good(self, pair: Keypair | None = None) -> tuple[Submission, bytes]:
        """A submission nothing is wrong with, and its body."""
        self._lag += 1
        body = forecast(self._lag)
        made = make(pair or self._pair, self._network_id, CHALLENGE, self._epoch, body)
        return made, body

    def faults(self) -> Iterator[Fault]:
        yield from self._unreadable()
        yield from self._changed("wrong_network", network_id=bytes(32))
        yield from self._changed("wrong_topic", challenge_id=ABSENT)
        yield from self._changed("other_version", challenge_version=99)
        yield from self._changed("too_large", body_size=5000)
        stranger = Keypair.create_from_seed(secrets.token_bytes(32))
        submission, body = self.good(stranger)
        yield Fault("unregistered", message(post(stranger, submission, body)), submission)
        submission, body = self.good()
        other = message(post(self._pair, submission, body[:-1] + b"\1"))
        yield Fault("body_mismatch", other, submission)
        yield from self._unsigned()

    def _unreadable(self) -> Iterator[Fault]:
        submission, body = self.good()
        data = message(post(self._pair, submission, body))
        yield Fault("truncated", data[:-1])
        yield Fault("longer form", data.replace(b"\xc4\x0d" + body, b"\xc5\x00\x0d" + body))
        yield Fault("trailing byte", data + b"\0")
        yield Fault("long body", message(post(self._pair, submission, bytes(4097))))

    def _changed(self, name: str, **change: Any) -> Iterator[Fault]:
        submission, body = self.good()
        submission = replace(submission, **change)
        yield Fault(name, message(post(self._pair, submission, body)), submission)

    def _unsigned(self) -> Iterator[Fault]:
        submission, body = self.good()
        [tag, fields, signature], _ = post(self._pair, submission, body)
        flipped = bytes([signature[0] ^ 1]) + signature[1:]
        bad = [[tag, fields, flipped], body]
        yield Fault("flipped signature", message(bad), submission)
        # Form and body are right here as well: the whole message is refused for its second half.
        yield Fault("good beside bad", message(post(self._pair, *self.good()), bad))
        submission, body = self.good()
        wrapped = bytes(self._pair.sign(b"<Bytes>" + submission.payload + b"</Bytes>"))
        bad = [[tag, submission.fields(), wrapped], body]
        yield Fault("wallet signature", message(bad), submission)


async def told(client: Client, submission: Submission) -> str:
    """What the node says of a submission once it has looked at it."""
    while True:
        reply = await client.receipt(submission.id)
        if reply["state"] != "unknown":
            return f"{reply['state']} {reply['reason']}"
        await trio.sleep(POLL_S)


async def publish_to_nobody(client: Client, topic: str, data: bytes) -> None:
    """Send on a topic the node has not joined: the client's library has to be told it has."""
    client.pubsub.peer_topics.setdefault(topic, set()).add(client.peer_id)
    await client.publish(topic, data)


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    pair = Keypair.create_from_seed(bytes.fromhex(arguments.seed))
    answers = {}
    with trio.fail_after(arguments.deadline):
        async with connect(arguments.node) as client:
            first = await submit(client, pair, CHALLENGE, forecast(2))
            status = await client.status()
            network_id = status["network_id"]
            topic = topic_of(network_id, CHALLENGE)
            forger = Forger(pair, network_id, status["epoch"])
            for fault in forger.faults():
                sys.stderr.write(f"{fault.name}\n")
                await client.publish(topic, fault.data)
                if fault.submission is not None:
                    answers[fault.name] = await told(client, fault.submission)
            submission, body = forger.good()
            submission = replace(submission, challenge_id=ABSENT)
            data = message(post(pair, submission, body))
            await publish_to_nobody(client, topic_of(network_id, ABSENT), data)
            # The same content as the first, signed again: another signature, the same id.
            again = make(pair, network_id, CHALLENGE, first["epoch"], forecast(2))
            await client.publish(topic, message(post(pair, again, forecast(2))))
            last = await submit(client, pair, CHALLENGE, forecast(3))
            answers["unknown topic"] = (await client.receipt(submission.id))["state"]
    return {"told": answers, "ended": [first["submission_id"], last["submission_id"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description="publish what a node must refuse")
    parser.add_argument("--node", required=True, help="multiaddr with /p2p/ peer id")
    parser.add_argument("--seed", required=True, help="a registered hotkey's seed")
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds for everything")
    sys.stdout.write(json.dumps(trio.run(run, parser.parse_args())) + "\n")


if __name__ == "__main__":
    main()
