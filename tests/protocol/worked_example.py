"""Every value of the worked example in docs/protocol.md, computed by the product's own code."""

from __future__ import annotations

import struct

from protocol.codec import digest_of, encode, sha256
from protocol.envelope import RecordKind, VoteKind, record_payload, vote_payload
from protocol.identity import ss58_of
from protocol.records.result import result_key
from protocol.records.submission import SubmissionMessage, submission_topic
from protocol.state_proof import bit_at, branch_hash, leaf_hash, place_of
from tests.protocol.receipt_fixture import BODY, CONSENSUS, MINER, SIGNATURE, Example, make_example
from validator_node.queries import NodeStatus, ReceiptReply

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
        "signature": SIGNATURE,
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
        "siblings": b"".join(receipt.state_proof.siblings),
        "climb": _climb(place, leaf_hash(place, result_hash), receipt.state_proof.siblings),
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
