"""What a validator need not say any more, because the replicated state has overtaken it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from protocol.records.canary import CanaryItem
from protocol.records.consensus_key import SignedKey
from protocol.records.result import Result, result_key
from protocol.records.statement import Observation, StatementItem, VerdictItem
from protocol.records.submission import SignedSubmission
from protocol.view import View
from registry import keys
from registry.access import current_epoch, read
from registry.election import why_not_bound
from registry.epochs import fixed_edge
from registry.lifecycle import waiting
from registry.submissions import why_inadmissible


def is_overtaken(
    view: View,
    item: StatementItem,
    me: int | None,
    is_asked_for: Callable[[bytes], bool] = lambda _: False,
) -> bool:
    """Return whether saying `item` as validator `me` would change nothing.

    `is_asked_for` tells whether another statement that waits to be ordered asks for an admission.
    """
    if isinstance(item, SignedSubmission):
        return is_asked_for(item.submission_id) or bool(why_inadmissible(view, item.submission))
    if isinstance(item, VerdictItem):
        return read(view, Result, result_key(item.submission_id)) is not None
    if isinstance(item, SignedKey):
        return why_not_bound(view, item) is not None
    if isinstance(item, CanaryItem):
        return waiting(view, item.challenge) is None
    if item.epoch != current_epoch(view) + 1 or fixed_edge(view) is not None or me is None:
        return True
    return read(view, Observation, keys.OBSERVED + keys.u16(me)) == item
