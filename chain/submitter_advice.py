"""What an operator is told to do about each error of a submission.

The keys are the codes of `chain.errors`, by their spelling.
"""

from __future__ import annotations

from chain.errors import ChainErrorCode

_VECTOR = "This is a fault of this node's vector: report it with the alert's text."
_CALL = "This is a fault of this node's adapter: report it with the alert's text."
_NOBODY_REVEALS = (
    "This node's commits are revealed by the chain, so another program uses this hotkey: stop it."
)

ADVICE: dict[str, str] = {
    "WeightVecNotEqualSize": _CALL,
    "MechanismDoesNotExist": "The subnet has fewer mechanisms than the challenges name: the owner "
    "adds the mechanism, or moves the challenges to one that exists.",
    "UidsLengthExceedUidsInSubNet": _VECTOR,
    "HotKeyNotRegisteredInSubNet": "The hotkey has lost its registration: register it again; the "
    "next epoch's weights are then submitted.",
    "NotEnoughStakeToSetWeights": "Add stake to the hotkey up to the subnet's minimum.",
    "IncorrectWeightVersionKey": "The subnet has just raised its version key: nothing to do, the "
    "next epoch's call carries it. If it comes again, look for a newer version of this node.",
    "SettingWeightsTooFast": "Nothing to do: the node waits for the rate limit's block. If it "
    "comes often, another program submits with this hotkey.",
    "NeuronNoValidatorPermit": "The hotkey has lost its validator permit, which the chain gives "
    "at epochs to the largest stakes: add stake.",
    "DuplicateUids": _VECTOR,
    "UidVecContainInvalidOne": "The subnet has shrunk since the weights were certified: the next "
    "epoch's weights are of the uids that are left.",
    "WeightVecLengthIsLow": "The subnet asks for more weights than miners earned: the owner lowers "
    "min_allowed_weights, or more miners must be scored.",
    "MaxWeightExceeded": "One miner earned more than the subnet lets one weight be: the owner "
    "raises max_weight_limit.",
    "CommittingWeightsTooFast": "Nothing to do: the node waits for the rate limit's block. If it "
    "comes often, another program submits with this hotkey.",
    "CommitRevealEnabled": "Nothing to do: the subnet has just switched commit-reveal on, and the "
    "weights are committed instead.",
    "CommitRevealDisabled": "Nothing to do: the subnet has just switched commit-reveal off, and "
    "the weights are set plainly instead.",
    "RevealTooEarly": _NOBODY_REVEALS,
    "TooManyUnrevealedCommits": "Ten commits of the hotkey wait for their reveal: another program "
    "commits with it, or the chain does not reveal. Look at the alert `reveal_lost`.",
    "IncorrectCommitRevealVersion": "The chain's commit-reveal is of another version: upgrade "
    "this node.",
    "ExpiredWeightCommit": _NOBODY_REVEALS,
    "NoWeightsCommitFound": _NOBODY_REVEALS,
    "InvalidRevealCommitHashNotMatch": _NOBODY_REVEALS,
    "InvalidRevealRound": "The commit names a drand round that the chain has passed: check this "
    "machine's clock.",
    "SubnetNotExists": "The subnet is not on this chain: check `netuid` and the endpoints.",
    "BadProof": "The signature is not valid on this chain: check that the endpoint is of the right "
    "network, and the remote signer.",
    "Stale": "Another program uses this hotkey at the same time: stop one of them.",
    "Payment": "Give the hotkey's account the chain's existential deposit.",
    "not_included": "Nothing to do: the node reads what the chain stores before it sends again. If "
    "it comes often, try another endpoint.",
    "call_refused": "This node does not know that refusal: look its name up, and for a newer "
    "version of this node.",
    "wrong_chain": "The endpoint is of another chain: correct the endpoints.",
    "unexpected": "The chain answered what this node does not understand: look for a newer "
    "version of this node.",
    "signer_failed": "The signer of the hotkey did not sign, and nothing was sent: check it.",
    "unreachable": "No endpoint answers: check the network and the endpoints.",
    "deadline": "The endpoint takes too long: check it, or name another one first.",
    "unknown_block": "The endpoint is behind the others, or has discarded the block: name another "
    "one first.",
    "unknown_uid": "The uid was there a moment ago: nothing to do if it does not come again.",
    "state_unreadable": "A file of this node is damaged or of another chain; the text names it.",
    "state_unwritable": "This node's disk is full or not writable: make room. Nothing is sent "
    "before it can be remembered.",
    "malformed_call": _CALL,
    "empty_vector": "No miner has a score that counts: see `validator-node weights show`. Nothing "
    "is burned in their place.",
    "not_normal_form": _VECTOR,
    "expired": "The rate limit outlasted the epoch: lower the subnet's rate limit or lengthen its "
    "tempo; if neither is near, look for another program that uses this hotkey.",
}


def advice(code: ChainErrorCode) -> str:
    """Return what the operator does about `code`."""
    return ADVICE.get(code, "Report it with the alert's text.")
