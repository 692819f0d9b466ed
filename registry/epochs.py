"""Epochs and network time in the replicated state.

Rules:
1. An epoch's end is fixed once validators holding a quorum of the weight have stated the same
   observation of the chain block that begins the next one: executed at slot n, it ends the epoch
   with slot n + W, its *edge* (consensus.md 12). Observations of any other epoch, or after that,
   are no-ops; until then a validator's latest one counts.
2. Executing the edge closes the epoch: statement counters begin again at 1, because they count in
   the order of the next epoch's set.
3. time(n) = max(time(n-1) + 1, the weighted median of each validator's last executed statement
   clock): no clock of a minority can move it beyond the clocks of the others (consensus.md 17).
   Who has said nothing in this epoch counts with clock 0, or the first to speak would set the time.
"""

from __future__ import annotations

from consensus.validators import Voters
from protocol.codec import decode
from protocol.records.statement import Observation
from protocol.view import View
from registry import keys
from registry.access import current_epoch, read, write


def network_time(view: View, voters: Voters, seq: int) -> int:
    """Return time(seq) in milliseconds, from the statements executed before it (rule 3)."""
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


def observe(
    view: View, voters: Voters, edge: int, signer: int, observation: Observation
) -> str | None:
    """Count an observation; a quorum of equal ones fixes `edge`. Return why it is a no-op, or None.

    `edge` is the slot that would end the epoch: the executing slot plus W.
    """
    if observation.epoch != current_epoch(view) + 1:
        return "other_epoch"
    if fixed_edge(view) is not None:
        return "edge_fixed"
    write(view, keys.OBSERVED + keys.u16(signer), observation)
    agreeing = [
        int.from_bytes(key[len(keys.OBSERVED) :], "big")
        for key, data in view.items(keys.OBSERVED)
        if decode(Observation, data) == observation
    ]
    if voters.is_quorum(agreeing):
        write(view, keys.EDGE, keys.FixedEdge(seq=edge, observation=observation))
    return None


def close(view: View, observation: Observation) -> int:
    """Begin the observed epoch; return the one that ended (rule 2)."""
    for prefix in (keys.OBSERVED, keys.MARK):
        for key, _ in list(view.items(prefix)):
            view.delete(key)
    view.delete(keys.EDGE)
    write(view, keys.EPOCH, keys.Progress(epoch=observation.epoch))
    return observation.epoch - 1
