"""Verifying a receipt with nothing but the validator set.

result -> state proof -> state root -> batch body -> header -> commit certificate.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.certificate import Verify, judge_certificate, judge_minimal
from consensus.validators import Voters
from protocol.codec import decode, digest_of, encode
from protocol.errors import ProofError
from protocol.records.genesis import Genesis
from protocol.records.result import Receipt, result_key
from protocol.state_proof import verify_state

MAX_RECEIPT_BYTES = 262_144


def verify_receipt(data: bytes, voters_of: Callable[[int], Voters], verify: Verify) -> Receipt:
    """Return the receipt that `data` canonically encodes, if every link of its proof holds.

    `voters_of` gives the voters of an epoch: the certificate is judged by the set of its own.
    Raises `DecodeError` or `ProofError` with the reason.
    """
    receipt = decode(Receipt, data, limit_bytes=MAX_RECEIPT_BYTES)
    result = receipt.result
    key = result_key(result.submission_id)
    verify_state(receipt.body.state_root, key, encode(result), receipt.state_proof)
    if digest_of(receipt.body) != receipt.certificate.header.body_root:
        raise ProofError("the body is not the one that the certified header names")
    voters = voters_of(receipt.certificate.header.epoch)
    judge_certificate(voters, receipt.certificate, "commit", verify)
    judge_minimal(voters, receipt.certificate)
    return receipt


def voters_from(genesis: Genesis) -> Callable[[int], Voters]:
    """Return the voters of any epoch as long as the genesis' members vote.

    An epoch's number is part of its set's hash, so a certificate of other members fails.
    """
    return lambda epoch: Voters(genesis.validators.for_epoch(epoch), genesis.network_id)
