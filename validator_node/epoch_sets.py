"""Who votes in which epoch, and for which slots, as far as a store knows it.

The state names the set of the present epoch, the edge checkpoints those of the epochs before. Where
both are silent there is only the genesis' set, which decides nothing outside epoch 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.transfer import next_voters
from consensus.validators import Voters
from registry.election import electorate

if TYPE_CHECKING:
    from validator_node.store import Store


def voters_of(store: Store, epoch: int) -> Voters:
    """Return an epoch's voters: the state's, else its edge checkpoint's, else the genesis'.

    Of an epoch that the store knows nothing of, the set that is returned decides no slot.
    """
    network_id = store.genesis.network_id
    ends = store.edge_checkpoint(epoch)
    until = None if ends is None else ends.checkpoint.seq
    now = electorate(store.tree.view())
    if now is not None and now.voters.epoch == epoch + 1:
        until = now.since  # executed, though its checkpoint may not be stable yet
    if now is not None and now.voters.epoch == epoch:
        return Voters(now.voters, network_id, after=now.since, until=until)
    handover = store.edge_checkpoint(epoch - 1) if epoch > 0 else None
    if handover is not None:
        found = next_voters(handover, network_id)
        return found if until is None else found.ending(until)
    if epoch > 0:
        until = 0
    members = store.genesis.validators.for_epoch(epoch)
    return Voters(members, network_id, after=0, until=until)
