"""Why a call to the chain failed, by the chain's own names.

Rules:
1. Whatever a chain adapter raises for a failed call is a `ChainError`; its `code` is stable, a
   metrics label and what callers branch on. The message is for people: it names what was wrong,
   the figure, and what to do.
2. Codes of the pallet keep the pallet's spelling, so that an operator can search for them. Codes
   of this node are lower case.
3. Every code has a `Retry` class; the submitter decides by that class alone.
"""

from __future__ import annotations

from enum import StrEnum


class Retry(StrEnum):
    """What a caller may do after an error."""

    NEVER = "never"
    """The same call fails again until someone changes the vector, the stake or the subnet."""
    WAIT_BLOCKS = "wait_blocks"
    """The chain asks for patience; trying earlier only spends the rate limit of others."""
    BACK_OFF = "back_off"
    """Nothing is known about the call, it may even have landed: read first, then try again."""


class ChainErrorCode(StrEnum):
    """The chain's error names (pallet subtensor, spec 293) and the local ones."""

    # Checks on a weights call, in the chain's order.
    WEIGHT_VEC_NOT_EQUAL_SIZE = "WeightVecNotEqualSize"
    MECHANISM_DOES_NOT_EXIST = "MechanismDoesNotExist"
    UIDS_LENGTH_EXCEED_UIDS_IN_SUBNET = "UidsLengthExceedUidsInSubNet"
    HOTKEY_NOT_REGISTERED_IN_SUBNET = "HotKeyNotRegisteredInSubNet"
    NOT_ENOUGH_STAKE_TO_SET_WEIGHTS = "NotEnoughStakeToSetWeights"
    INCORRECT_WEIGHT_VERSION_KEY = "IncorrectWeightVersionKey"
    SETTING_WEIGHTS_TOO_FAST = "SettingWeightsTooFast"
    NEURON_NO_VALIDATOR_PERMIT = "NeuronNoValidatorPermit"
    DUPLICATE_UIDS = "DuplicateUids"
    UID_VEC_CONTAIN_INVALID_ONE = "UidVecContainInvalidOne"
    WEIGHT_VEC_LENGTH_IS_LOW = "WeightVecLengthIsLow"
    MAX_WEIGHT_EXCEEDED = "MaxWeightExceeded"
    SUBNET_NOT_EXISTS = "SubnetNotExists"
    # Commit-reveal.
    COMMITTING_WEIGHTS_TOO_FAST = "CommittingWeightsTooFast"
    COMMIT_REVEAL_ENABLED = "CommitRevealEnabled"
    COMMIT_REVEAL_DISABLED = "CommitRevealDisabled"
    REVEAL_TOO_EARLY = "RevealTooEarly"
    TOO_MANY_UNREVEALED_COMMITS = "TooManyUnrevealedCommits"
    INCORRECT_COMMIT_REVEAL_VERSION = "IncorrectCommitRevealVersion"
    INVALID_REVEAL_ROUND = "InvalidRevealRound"
    EXPIRED_WEIGHT_COMMIT = "ExpiredWeightCommit"
    NO_WEIGHTS_COMMIT_FOUND = "NoWeightsCommitFound"
    INVALID_REVEAL_COMMIT_HASH_NOT_MATCH = "InvalidRevealCommitHashNotMatch"
    # Refused by the transaction pool (the names of sp_runtime's InvalidTransaction).
    BAD_PROOF = "BadProof"
    STALE = "Stale"
    PAYMENT = "Payment"
    # What a remote chain did with a call or a request, by names of this node.
    NOT_INCLUDED = "not_included"
    CALL_REFUSED = "call_refused"
    WRONG_CHAIN = "wrong_chain"
    UNEXPECTED = "unexpected"
    SIGNER_FAILED = "signer_failed"
    # Local.
    UNREACHABLE = "unreachable"
    DEADLINE = "deadline"
    UNKNOWN_BLOCK = "unknown_block"
    UNKNOWN_UID = "unknown_uid"
    STATE_UNREADABLE = "state_unreadable"
    STATE_UNWRITABLE = "state_unwritable"
    MALFORMED_CALL = "malformed_call"
    EMPTY_VECTOR = "empty_vector"
    NOT_NORMAL_FORM = "not_normal_form"
    EXPIRED = "expired"

    @property
    def retry(self) -> Retry:
        """The class of this error; whatever is not listed is never worth repeating."""
        return _RETRY.get(self, Retry.NEVER)


_RETRY = {
    ChainErrorCode.SETTING_WEIGHTS_TOO_FAST: Retry.WAIT_BLOCKS,
    ChainErrorCode.COMMITTING_WEIGHTS_TOO_FAST: Retry.WAIT_BLOCKS,
    ChainErrorCode.TOO_MANY_UNREVEALED_COMMITS: Retry.WAIT_BLOCKS,
    ChainErrorCode.REVEAL_TOO_EARLY: Retry.WAIT_BLOCKS,
    # The subnet was switched between reading and inclusion, or a round passed: made anew, it fits.
    ChainErrorCode.COMMIT_REVEAL_ENABLED: Retry.BACK_OFF,
    ChainErrorCode.COMMIT_REVEAL_DISABLED: Retry.BACK_OFF,
    ChainErrorCode.INVALID_REVEAL_ROUND: Retry.BACK_OFF,
    ChainErrorCode.NOT_INCLUDED: Retry.BACK_OFF,
    ChainErrorCode.UNEXPECTED: Retry.BACK_OFF,
    ChainErrorCode.SIGNER_FAILED: Retry.BACK_OFF,
    ChainErrorCode.STALE: Retry.BACK_OFF,
    ChainErrorCode.UNREACHABLE: Retry.BACK_OFF,
    ChainErrorCode.DEADLINE: Retry.BACK_OFF,
    ChainErrorCode.UNKNOWN_BLOCK: Retry.BACK_OFF,
    ChainErrorCode.STATE_UNWRITABLE: Retry.BACK_OFF,
}


class ChainError(Exception):
    """A call to the chain failed.

    `code` names the failure; `wait_blocks`, when the chain told, is after how many blocks the
    same call may succeed.
    """

    def __init__(
        self, code: ChainErrorCode, message: str, *, wait_blocks: int | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.wait_blocks = wait_blocks
