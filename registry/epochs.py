"""Epochs and network time in the replicated state.

Rules:
1. An epoch's end is fixed once validators holding a quorum of the weight have stated the same
   observation of the chain block that begins the next one, and the metagraph that they saw is
   there. Executed at slot n, the later of the two ends the epoch with slot n + W, its *edge*, and
   elects the next set (consensus.md 12). Until then a validator's latest observation counts, and
   without agreement, or without the metagraph, the epoch goes on with the same set.
2. A metagraph is believed for its digest alone: the quorum has stated it. Whoever brings another
   one, or one too early, changes nothing. Observations of any other epoch, or after the edge is
   fixed, are no-ops.
3. Executing the edge closes the epoch: neurons and owner are those of the metagraph, the elected
   set is the state's, and statement counters begin again at 1, because they count in the order of
   the next epoch's set.
4. time(n) = max(time(n-1) + 1, the weighted median of each validator's last executed statement
   clock): no clock of a minority can move it beyond the clocks of the others (consensus.md 17).
   Who has said nothing in this epoch counts with clock 0, or the first to speak would set the time.
"""

from __future__ import annotations

from consensus.inputs import Edge
from consensus.validators import Voters
from protocol.codec import decode, digest_of
from protocol.records.genesis import Neuron
from protocol.records.metagraph import EpochMetagraph
from protocol.records.statement import Observation
from protocol.view import View
from registry import keys
from registry.access import current_epoch, read, write
from registry.election import elect, electorate


def network_time(view: View, voters: Voters, seq: int) -> int:
    """Return time(seq) in milliseconds, from the statements executed before it (rule 4)."""
    last = read(view, keys.Time, keys.TIME) or keys.Time(time_ms=0, seq=0)
    clocks = [0] * len(voters)
    for key, data in view.items(keys.MARK):
        signer = int.from_bytes(key[len(keys.MARK) :], "big")
        clocks[signer] = decode(keys.Mark, data).clock_ms
    median = _weighted_median(list(zip(clocks, voters.weights, strict=True)))
    return max(last.time_ms + (seq - last.seq), median)


def _weighted_median(clocks: list[tuple[int, int]]) -> int:
    total = sum(weight for _, weight in clocks)
    passed = 0
    for clock, weight in sorted(clocks):
        passed += weight
        if 2 * passed >= total:
            return clock
    return 0


def fixed_edge(view: View) -> keys.FixedEdge | None:
    """Return where the epoch ends, once that is agreed."""
    return read(view, keys.FixedEdge, keys.EDGE)


def edge_at(view: View, height: int) -> Edge | None:
    """Return where the epoch ends and who votes next, once that is agreed.

    `height` is the slot whose state this is. If it is the edge itself, the epoch is closed already,
    and its edge is returned all the same: the checkpoint at the edge names the next set.
    """
    fixed, now = fixed_edge(view), electorate(view)
    if fixed is not None:
        return Edge(fixed.seq, fixed.next_set)
    if now is not None and 0 < now.since == height:
        return Edge(now.since, now.voters)
    return None


def observe(view: View, signer: int, observation: Observation) -> str | None:
    """Note a validator's observation; return why it is a no-op, or None."""
    if observation.epoch != current_epoch(view) + 1:
        return "other_epoch"
    if fixed_edge(view) is not None:
        return "edge_fixed"
    write(view, keys.OBSERVED + keys.u16(signer), observation)
    return None


def agreed(view: View, voters: Voters) -> Observation | None:
    """Return the observation that a quorum states alike now, or None."""
    stated: dict[Observation, list[int]] = {}
    for key, data in view.items(keys.OBSERVED):
        signer = int.from_bytes(key[len(keys.OBSERVED) :], "big")
        stated.setdefault(decode(Observation, data), []).append(signer)
    for observation, signers in stated.items():
        if voters.is_quorum(signers):
            return observation
    return None


def why_not_wanted(view: View, voters: Voters, metagraph: EpochMetagraph) -> str | None:
    """Return why a metagraph would change nothing now, or None (rule 2)."""
    if metagraph.epoch != current_epoch(view) + 1:
        return "other_epoch"
    if fixed_edge(view) is not None:
        return "edge_fixed"
    observation = agreed(view, voters)
    if observation is None:
        return "not_agreed"
    if _seen(metagraph) != observation:
        return "other_metagraph"
    return None


def _seen(metagraph: EpochMetagraph) -> Observation:
    return Observation(
        epoch=metagraph.epoch,
        block=metagraph.block,
        block_hash=metagraph.block_hash,
        snapshot_hash=digest_of(metagraph),
    )


def fix_edge(view: View, voters: Voters, edge: int, metagraph: EpochMetagraph) -> str | None:
    """Take the metagraph that a quorum has observed; return why it is a no-op, or None (rule 1).

    `edge` is the slot that ends the epoch: the executing slot plus W.
    """
    reason = why_not_wanted(view, voters, metagraph)
    if reason is not None:
        return reason
    next_set, kept = elect(view, metagraph)
    fixed = keys.FixedEdge(seq=edge, observation=_seen(metagraph), next_set=next_set, reason=kept)
    write(view, keys.EDGE, fixed)
    write(view, keys.METAGRAPH, metagraph)
    return None


def close(view: View, fixed: keys.FixedEdge) -> EpochMetagraph:
    """Begin the epoch that the edge leads to; return the metagraph it begins with (rule 3)."""
    metagraph = read(view, EpochMetagraph, keys.METAGRAPH)
    if metagraph is None:
        raise AssertionError(f"edge {fixed.seq} was fixed without a metagraph")
    for prefix in (keys.OBSERVED, keys.MARK):
        for key, _ in list(view.items(prefix)):
            view.delete(key)
    view.delete(keys.EDGE)
    view.delete(keys.METAGRAPH)
    _take_neurons(view, metagraph)
    mark = read(view, keys.RegistryMark, keys.REGISTRY)
    if mark is not None and metagraph.owner is not None:
        mark = keys.RegistryMark(owner=metagraph.owner, sequence=mark.sequence)
        write(view, keys.REGISTRY, mark)
    voters = keys.Electorate(voters=fixed.next_set, since=fixed.seq, reason=fixed.reason)
    write(view, keys.VOTERS, voters)
    write(view, keys.EPOCH, keys.Progress(epoch=metagraph.epoch))
    return metagraph


def _take_neurons(view: View, metagraph: EpochMetagraph) -> None:
    registered = {neuron.hotkey: neuron for neuron in metagraph.neurons}
    for key, data in list(view.items(keys.NEURON)):
        hotkey = key[len(keys.NEURON) :]
        if hotkey not in registered:
            view.delete(key)  # its consensus key stays: the hotkey may come back
        elif decode(Neuron, data) == registered[hotkey]:
            del registered[hotkey]  # as it was
    for neuron in registered.values():
        write(view, keys.NEURON + neuron.hotkey, neuron)
