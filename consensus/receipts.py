"""Verifying a receipt with nothing but the validator set.

result -> state proof -> state root -> batch body -> header -> commit certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from consensus.certificate import Verify, judge_certificate, judge_minimal
from consensus.transfer import prove_sets
from consensus.validators import Voters
from protocol.codec import decode, digest_of, encode
from protocol.errors import ProofError
from protocol.records.checkpoint import CheckpointCertificate
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


def voters_from(
    genesis: Genesis, handovers: Iterable[CheckpointCertificate] = (), verify: Verify | None = None
) -> Callable[[int], Voters]:
    """Return what gives the voters of an epoch, from the genesis and the hand-overs since.

    `handovers` are the checkpoints at the edges of the epochs 0, 1, ...; `verify` is needed to
    prove them, and `ProofError` is raised for the first that does not prove itself. For later
    epochs the members of the last proven set are taken. If others vote by then, or with other
    weights, a certificate of theirs fails: a set's hash is part of what is signed.
    """
    proven = [Voters(genesis.validators.for_epoch(0), genesis.network_id)]
    if verify is not None:
        proven += prove_sets(proven[0], handovers, verify)

    def voters_of(epoch: int) -> Voters:
        if epoch < len(proven):
            return proven[epoch]
        return Voters(proven[-1].validator_set.for_epoch(epoch), genesis.network_id)

    return voters_of
