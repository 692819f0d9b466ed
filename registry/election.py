"""Who votes in the next epoch, from the chain's metagraph and the keys that the state knows. Pure.

Rules:
1. A *candidate* is a neuron with a validator permit, at least `min_stake` (and never none), whose
   consensus key the state knows. Of more than `max_members` those with the highest stake are taken,
   of equal ones the lower uid. The set is in ascending order of uid.
2. A member votes with its stake, no more than `stake_cap_permille` of the sum of all
   (`consensus.validators.capped_weights`).
3. With fewer than `min_members` candidates the same set goes on, with the weights it had, and the
   reason stands beside it in the state. The neurons are those of the metagraph all the same.
4. A consensus key enters the state with the genesis or by a binding that both keys signed, told by
   any member of the set. Its hotkey must hold a validator permit by the state's metagraph; it
   changes its key at most once an epoch; no key is bound twice. It votes from the next election on.
"""

from __future__ import annotations

import msgspec

from consensus.feasibility import most_members
from consensus.validators import capped_weights
from protocol.records.consensus_key import SignedKey
from protocol.records.genesis import ElectionRules, Genesis, Neuron
from protocol.records.metagraph import EpochMetagraph
from protocol.records.validators import Validator, ValidatorSet
from protocol.view import View
from registry import keys
from registry.access import current_epoch, neuron, read, write

TOO_FEW = "too_few_candidates"


def write_electorate(view: View, genesis: Genesis) -> None:
    """Fill an empty state with the genesis' validators and their keys."""
    most = min(genesis.election.max_members, most_members(genesis.parameters.window))
    write(view, keys.ELECTION, msgspec.structs.replace(genesis.election, max_members=most))
    first = genesis.validators.for_epoch(0)
    write(view, keys.VOTERS, keys.Electorate(voters=first, since=0, reason=""))
    for member in first.members:
        known = keys.NodeKey(consensus_key=member.consensus_key, sequence=0, epoch=None)
        write(view, keys.KEY + member.hotkey, known)
        write(view, keys.BOUND + member.consensus_key, keys.Bound(hotkey=member.hotkey))


def electorate(view: View) -> keys.Electorate | None:
    """Return who votes in the current epoch; None before the genesis is written."""
    return read(view, keys.Electorate, keys.VOTERS)


def consensus_key(view: View, hotkey: bytes) -> bytes | None:
    """Return the consensus key that votes for `hotkey` from the next election on, or None."""
    known = read(view, keys.NodeKey, keys.KEY + hotkey)
    return None if known is None else known.consensus_key


def why_not_bound(view: View, signed: SignedKey) -> str | None:
    """Return why a binding, whose signatures are good, would change nothing now (rule 4)."""
    binding = signed.binding
    holder = neuron(view, binding.hotkey)
    if holder is None or not holder.validator_permit:
        return "no_permit"
    if view.get(keys.BOUND + binding.consensus_key) is not None:
        return "key_taken"
    known = read(view, keys.NodeKey, keys.KEY + binding.hotkey)
    if known is not None and binding.sequence <= known.sequence:
        return "old_key"
    if known is not None and known.epoch == current_epoch(view):
        return "key_changed"
    return None


def bind_key(view: View, signed: SignedKey) -> str | None:
    """Let a consensus key vote for its hotkey from the next election on; return why not, or None.

    The signatures were checked as part of the batch's validity.
    """
    reason = why_not_bound(view, signed)
    if reason is not None:
        return reason
    binding = signed.binding
    known = keys.NodeKey(
        consensus_key=binding.consensus_key,
        sequence=binding.sequence,
        epoch=current_epoch(view),
    )
    write(view, keys.KEY + binding.hotkey, known)
    write(view, keys.BOUND + binding.consensus_key, keys.Bound(hotkey=binding.hotkey))
    return None


def elect(view: View, metagraph: EpochMetagraph) -> tuple[ValidatorSet, str]:
    """Return the set of the epoch that `metagraph` begins, and why it is the old one, or ""."""
    rules = read(view, ElectionRules, keys.ELECTION) or ElectionRules()
    found = []
    for entry in metagraph.neurons:
        key = consensus_key(view, entry.hotkey) if _may_stand(entry, rules) else None
        if key is not None:
            found.append((entry, key))
    if len(found) < rules.min_members:
        now = electorate(view)
        if now is None:
            raise AssertionError("the state has no validator set; the genesis was not written")
        return now.voters.for_epoch(metagraph.epoch), TOO_FEW
    found.sort(key=lambda one: (-one[0].stake, one[0].uid))
    elected = sorted(found[: rules.max_members], key=lambda one: one[0].uid)
    weights = capped_weights([one.stake for one, _ in elected], rules.stake_cap_permille, 1000)
    members = tuple(
        Validator(hotkey=one.hotkey, consensus_key=key, weight=weight)
        for (one, key), weight in zip(elected, weights, strict=True)
    )
    return ValidatorSet(epoch=metagraph.epoch, members=members), ""


def _may_stand(entry: Neuron, rules: ElectionRules) -> bool:
    return entry.validator_permit and entry.stake >= max(rules.min_stake, 1)
