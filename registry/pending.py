"""The submissions that wait for verdicts, and how many of them each hotkey has.

Rules:
1. A hotkey has at most `max_pending_per_hotkey` pending submissions. Each of them obliges every
   validator to evaluate, and the limits of intake bind honest validators only: without this bound
   one miner and one dishonest validator could make the others owe as much as fits into
   `dispute_after` slots.
2. `pending/`, `deadline/` and `pending-of/` are written here alone, and together, so that the
   count cannot drift from what is counted. It is raised when a submission is put here and lowered
   when it is taken away, whatever the end; there is no row for 0. A copy ends as it is admitted: it
   is never here.
3. The count belongs to the hotkey, whether or not it is still registered, and to all challenges
   together.
"""

from __future__ import annotations

from protocol.codec import decode
from protocol.view import View
from registry import keys
from registry.access import read, write

_SEQ_BYTES = 8


def find_pending(view: View, submission_id: bytes) -> keys.Pending | None:
    """Return an admitted submission that has not ended, or None."""
    return read(view, keys.Pending, keys.PENDING + submission_id)


def hold(view: View, submission_id: bytes, pending: keys.Pending, dispute_after: int) -> None:
    """Let an admitted submission wait; the caller has asked for `room`."""
    write(view, keys.PENDING + submission_id, pending)
    view.put(_deadline_key(pending, submission_id, dispute_after), b"")
    hotkey = pending.submission.hotkey
    _write_count(view, hotkey, count_pending(view, hotkey) + 1)


def rewrite(view: View, submission_id: bytes, pending: keys.Pending) -> None:
    """Change what is known of a submission that waits."""
    write(view, keys.PENDING + submission_id, pending)


def release(view: View, submission_id: bytes, pending: keys.Pending, dispute_after: int) -> None:
    """Let a submission wait no longer; nothing happens if it does not wait."""
    if view.get(keys.PENDING + submission_id) is None:
        return
    view.delete(keys.PENDING + submission_id)
    view.delete(_deadline_key(pending, submission_id, dispute_after))
    hotkey = pending.submission.hotkey
    _write_count(view, hotkey, count_pending(view, hotkey) - 1)


def overdue(view: View, seq: int) -> list[bytes]:
    """Return the ids of what has waited `dispute_after` slots in slot `seq`."""
    due = []
    for key, _ in view.items(keys.DEADLINE):
        if key[len(keys.DEADLINE) :][:_SEQ_BYTES] > keys.u64(seq):
            break
        due.append(key[len(keys.DEADLINE) + _SEQ_BYTES :])
    return due


def count_pending(view: View, hotkey: bytes) -> int:
    """Return how many submissions of a hotkey are pending."""
    found = read(view, keys.PendingOf, keys.PENDING_OF + hotkey)
    return found.count if found else 0


def room(view: View, hotkey: bytes, max_pending_per_hotkey: int) -> int:
    """Return how many more submissions of a hotkey the state would admit now (rule 1)."""
    return max(0, max_pending_per_hotkey - count_pending(view, hotkey))


def unsettled(view: View) -> list[tuple[bytes, keys.Pending]]:
    """Return the admitted submissions that wait for verdicts, as (id, pending)."""
    prefix = keys.PENDING
    return [(key[len(prefix) :], decode(keys.Pending, data)) for key, data in view.items(prefix)]


def _write_count(view: View, hotkey: bytes, number: int) -> None:
    if number:
        write(view, keys.PENDING_OF + hotkey, keys.PendingOf(count=number))
    else:
        view.delete(keys.PENDING_OF + hotkey)


def _deadline_key(pending: keys.Pending, submission_id: bytes, dispute_after: int) -> bytes:
    return keys.DEADLINE + keys.u64(pending.admitted_seq + dispute_after) + submission_id
