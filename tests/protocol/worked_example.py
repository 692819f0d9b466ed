"""Every value of the worked example in docs/protocol.md, computed by the product's own code.

`python -m tests.protocol.worked_example` writes the vectors anew and puts the values into the page.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from protocol.codec import digest_of, encode, sha256
from protocol.envelope import RecordKind, VoteKind, record_payload, vote_payload
from protocol.identity import ss58_of
from protocol.records.result import result_key
from protocol.records.submission import SubmissionMessage, submission_topic
from protocol.state_proof import bit_at, branch_hash, leaf_hash, place_of
from tests.protocol.receipt_fixture import (
    BODY,
    CONSENSUS,
    MINER,
    Example,
    hex_lines,
    make_example,
    write_vectors,
)
from validator_node.queries import NodeStatus, ReceiptReply

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
BLOCK = re.compile(r"^```(hex|text) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block of the document with a name; in a dump, everything after # is a remark."""

Value = bytes | str


def values() -> dict[str, Value]:
    """What the document shows, by the name of the fenced block."""
    example = make_example()
    return {**_submission(example), **_queries(example), **_receipt(example)}


def frame(data: bytes) -> bytes:
    """A frame of a stream."""
    return struct.pack("!I", len(data)) + data


def _submission(example: Example) -> dict[str, Value]:
    submission = example.submission
    network_id = example.genesis.network_id
    submission_id = submission.submission_id
    return {
        "seed": bytes(range(32)),
        "hotkey": MINER.public_key,
        "address": ss58_of(MINER.public_key),
        "network-id": network_id,
        "body": BODY,
        "body-hash": sha256(BODY),
        "submission": encode(submission),
        "submission-id": submission_id,
        "signed-payload": record_payload(RecordKind.SUBMISSION, network_id, submission_id),
        "signature": example.posted.signed.signature,
        "topic": submission_topic(network_id, submission.challenge_id),
        "submission-message": encode(SubmissionMessage(posted=(example.posted,))),
    }


def _queries(example: Example) -> dict[str, Value]:
    certificate = example.receipt.certificate
    status = NodeStatus(
        network_id=example.genesis.network_id,
        epoch=0,
        height=certificate.header.seq,
        chain_hash=certificate.header.digest,
        view=certificate.view,
    )
    waiting = ReceiptReply(state="waiting", reason="", receipt=b"")
    return {
        "status-request": frame(b""),
        "status-reply": frame(encode(status)),
        "receipt-request": frame(example.submission.submission_id),
        "receipt-reply": frame(encode(waiting)),
    }


def _receipt(example: Example) -> dict[str, Value]:
    receipt, voters = example.receipt, example.voters
    certificate = receipt.certificate
    key = result_key(receipt.result.submission_id)
    place, result_hash = place_of(key), digest_of(receipt.result)
    siblings = receipt.state_proof.siblings
    payload = vote_payload(
        voters.domain,
        VoteKind.COMMIT,
        view=certificate.view,
        seq=certificate.header.seq,
        digest=certificate.header.digest,
        signer=CONSENSUS[0].public_key,
    )
    return {
        "result": encode(receipt.result),
        "result-key": key,
        "result-place": place,
        "result-hash": result_hash,
        "result-leaf": leaf_hash(place, result_hash),
        "siblings": b"".join(siblings),
        "place-bits": " ".join(str(bit_at(place, depth)) for depth in range(len(siblings))),
        "climb": _climb(place, leaf_hash(place, result_hash), siblings),
        "body-commitment": encode(receipt.body),
        "body-root": digest_of(receipt.body),
        "header": encode(certificate.header),
        "header-digest": certificate.header.digest,
        "set-hash": voters.validator_set.set_hash(),
        "commit-payload": payload,
        "commit-signature": CONSENSUS[0].sign(payload),
        "voting-weights": ", ".join(map(str, voters.weights)),
    }


def _climb(place: bytes, node: bytes, siblings: tuple[bytes, ...]) -> bytes:
    """The nodes from the leaf's parent up to the root."""
    nodes = []
    for depth in reversed(range(len(siblings))):
        pair = (siblings[depth], node) if bit_at(place, depth) else (node, siblings[depth])
        node = branch_hash(*pair)
        nodes.append(node)
    return b"".join(nodes)


def shown() -> dict[str, Value]:
    """The document's named blocks."""
    found: dict[str, Value] = {}
    for kind, name, content in BLOCK.findall(DOCUMENT.read_text()):
        assert name not in found, f"{name} is shown twice"
        bare = "".join(line.split("#")[0] for line in content.splitlines())
        found[name] = bytes.fromhex(bare) if kind == "hex" else content.strip()
    return found


def _refilled(name: str, content: str, value: Value) -> str:
    """The block's lines with the bytes of `value`, remarks and line lengths as they were."""
    if isinstance(value, str):
        return value + "\n"
    if "#" not in content:
        return hex_lines(value)
    rest, lines = value.hex(), []
    for line in content.splitlines():
        digits = len(line.split("#")[0].rstrip())
        lines.append(rest[:digits] + line[digits:] + "\n")
        rest = rest[digits:]
    filled = "".join(lines)
    if rest or len(filled) != len(content):
        raise SystemExit(f"{name} has {len(value)} bytes now: divide its lines by hand")
    return filled


def main() -> None:
    write_vectors()
    computed = values()

    def block(match: re.Match[str]) -> str:
        kind, name, content = match.groups()
        return f"```{kind} {name}\n{_refilled(name, content, computed[name])}```"

    DOCUMENT.write_text(BLOCK.sub(block, DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
