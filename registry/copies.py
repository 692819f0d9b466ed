"""Whose body it is, and how many copies a hotkey may have.

Rules:
1. The first hotkey to have a body admitted for a challenge owns it, unless that submission ends
   disputed: what nobody could evaluate, or agree on, owns nothing, and its author may try again.
2. The same body from another hotkey, or a second time in one epoch, is a *copy*. It ends at once,
   evaluated by nobody, and leaves two rows behind for as long as results are kept. So a hotkey has
   at most `MAX_COPIES` in an epoch; a further one is the no-op `too_many_copies`.
3. Of each hotkey the last epoch's count is kept: as many rows as there ever were copiers.
"""

from __future__ import annotations

from protocol.records.submission import Submission
from protocol.view import View
from registry import keys
from registry.access import read, write

MAX_COPIES = 64
"""Of a hotkey in an epoch, over all challenges. An honest miner has none but by mistake."""


def original_of(view: View, submission: Submission, epoch: int) -> bytes | None:
    """Return the submission that this one would be a copy of, or None (rule 2)."""
    content = read(view, keys.Content, _key(submission))
    if content is None or (content.hotkey == submission.hotkey and content.epoch != epoch):
        return None
    return content.submission_id


def own(view: View, submission_id: bytes, submission: Submission, epoch: int) -> None:
    """Let an admitted submission own its body (rule 1)."""
    owned = keys.Content(submission_id=submission_id, hotkey=submission.hotkey, epoch=epoch)
    write(view, _key(submission), owned)


def disown(view: View, submission_id: bytes, submission: Submission) -> None:
    """Let a body be anybody's again, if this submission owns it (rule 1)."""
    content = read(view, keys.Content, _key(submission))
    if content is not None and content.submission_id == submission_id:
        view.delete(_key(submission))


def has_room(view: View, hotkey: bytes, epoch: int) -> bool:
    """Return whether the state would admit another copy of a hotkey (rule 2)."""
    return _count(view, hotkey, epoch) < MAX_COPIES


def count(view: View, hotkey: bytes, epoch: int) -> None:
    """Count a copy that is admitted."""
    number = _count(view, hotkey, epoch) + 1
    write(view, keys.COPIES_OF + hotkey, keys.CopiesOf(epoch=epoch, count=number))


def _count(view: View, hotkey: bytes, epoch: int) -> int:
    known = read(view, keys.CopiesOf, keys.COPIES_OF + hotkey)
    return known.count if known is not None and known.epoch == epoch else 0


def _key(submission: Submission) -> bytes:
    return keys.content_key(submission.challenge_id, submission.body_hash)
