"""Old results leave the replicated state, so that it does not grow for ever.

Rules:
1. What ended more than `keep_epochs` epochs ago goes, oldest first: its result, its body's
   ownership if it was the owner's newest, the best scores of its epoch. The epoch's weights stay.
   In a slot go at most `PRUNED_A_SLOT` rows and one for each item of its batch. No item makes more
   than one row: a submission that ends with a best score took its admission and a verdict. So the
   state shrinks under any load, and no slot prunes much more than it did otherwise.
2. Only slots with actions prune, so that an empty one changes nothing.
3. No submission comes back: one is admitted only if it expires within `MAX_EXPIRY_EPOCHS`, which is
   less than what is kept.
"""

from __future__ import annotations

from protocol.records.result import result_key
from protocol.view import View
from registry import keys
from registry.access import read

PRUNED_A_SLOT = 64

_EPOCH_BYTES = 8


def remember(view: View, epoch: int, submission_id: bytes, content_key: bytes) -> None:
    """Note when a submission ended, and under which key its body's owner stands."""
    view.put(keys.ENDED + keys.u64(epoch) + submission_id, content_key)


def prune(view: View, epoch: int, keep_epochs: int | None, items: int) -> int:
    """Drop what rule 1 says, in epoch `epoch`, with a batch of so many items.

    Without `keep_epochs` everything is kept. Return how many rows went.
    """
    limit = PRUNED_A_SLOT + items
    if keep_epochs is None or epoch <= keep_epochs:
        return 0
    oldest = keys.u64(epoch - keep_epochs)
    ended = _due(view, keys.ENDED, oldest, limit)
    for row, content_key in ended:
        submission_id = row[len(keys.ENDED) + _EPOCH_BYTES :]
        content = read(view, keys.Content, content_key)
        if content is not None and content.submission_id == submission_id:
            view.delete(content_key)
        view.delete(result_key(submission_id))
        view.delete(row)
    best = _due(view, keys.BEST, oldest, limit - len(ended))
    for row, _ in best:
        view.delete(row)
    return len(ended) + len(best)


def _due(view: View, prefix: bytes, oldest: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for row, value in view.items(prefix):
        if len(found) >= limit or row[len(prefix) :][:_EPOCH_BYTES] >= oldest:
            break
        found.append((row, value))
    return found
