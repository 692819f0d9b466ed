"""Verifying a receipt with nothing but the validator set.

result -> state proof -> state root -> batch body -> header -> commit certificate.

A certificate counts for the slots of its set's own epoch only (consensus.md 12), and a result for
what came after it: a state root that a slot names is that of an earlier slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from consensus.certificate import Verify, judge_certificate, judge_minimal
from consensus.transfer import prove_sets
from consensus.validators import Voters
from protocol.codec import decode, digest_of, encode
from protocol.errors import ProofError
from protocol.records.batch import Certificate, Header
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from protocol.records.result import Receipt, Result, result_key
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
    _check_order(result, receipt.certificate.header)
    voters = voters_of(receipt.certificate.header.epoch)
    judge_certificate(voters, receipt.certificate, "commit", verify)
    judge_minimal(voters, receipt.certificate)
    return receipt


def _check_order(result: Result, header: Header) -> None:
    if not result.admitted_seq <= result.settled_seq < header.seq:
        raise ProofError(
            f"slot {header.seq} cannot certify a result admitted in slot {result.admitted_seq} and "
            f"settled in {result.settled_seq}"
        )
    if result.epoch > header.epoch:
        raise ProofError(
            f"a result of epoch {result.epoch} cannot be certified in epoch {header.epoch}"
        )


class KnownSets:
    """Who votes in which epoch, from the genesis and the hand-overs since."""

    def __init__(self, proven: list[Voters]) -> None:
        self._proven = proven

    @property
    def newest(self) -> int:
        """The last epoch whose set is proven. Where it ends is not known."""
        return len(self._proven) - 1

    def __call__(self, epoch: int) -> Voters:
        """Return the voters of an epoch; after `newest` its members are assumed to stay."""
        if epoch < len(self._proven):
            return self._proven[epoch]
        last = self._proven[-1]
        assumed = last.validator_set.for_epoch(epoch)
        return Voters(assumed, last.domain.network_id, after=last.after)

    def unproven(self, certificate: Certificate) -> str | None:
        """Return what a valid certificate rests on besides the proven sets, or None."""
        header = certificate.header
        if header.epoch > self.newest:
            return (
                f"unproven from epoch {self.newest + 1}: it is assumed that nobody joined, left or "
                f"changed weight up to epoch {header.epoch}"
            )
        if header.epoch == self.newest:
            return (
                f"epoch {header.epoch} is the newest that is known here: it is assumed that it had "
                f"not ended before slot {header.seq}"
            )
        return None


def voters_from(
    genesis: Genesis, handovers: Iterable[CheckpointCertificate] = (), verify: Verify | None = None
) -> KnownSets:
    """Return what gives the voters of an epoch, from the genesis and the hand-overs since.

    `handovers` are the checkpoints at the edges of the epochs 0, 1, ...; `verify` is needed to
    prove them, and `ProofError` is raised for the first that does not prove itself. For later
    epochs the members of the last proven set are taken. If others vote by then, or with other
    weights, a certificate of theirs fails: a set's hash is part of what is signed.
    """
    first = Voters(genesis.validators.for_epoch(0), genesis.network_id)
    return KnownSets([first] if verify is None else prove_sets(first, handovers, verify))
