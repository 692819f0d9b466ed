"""Intake: what a submission must pass before this node forwards, keeps and admits it.

Rules:
1. The topic validator decides before the message is forwarded. A message is all or nothing: one
   malformed, foreign, unsigned, unregistered, oversized or expired submission refuses all of it,
   and so does a message that holds nothing new. Each refusal is counted by reason.
2. Cheap checks come first; a signature is verified only for what everything else would admit. A bad
   one is charged to the peer that forwarded it, which is not heard again for a while once it has
   used up its patience; the hotkey's rate is charged only for what it signed, so that nobody can
   use up another's.
3. What passed waits in a bounded queue until the state has admitted it. To spare the network four
   copies of each admission, validators take turns: submission i is admitted at once by validator
   i mod n, by the next one `TURN_S` later if it is still unadmitted, and so on.
4. Why a submission was refused is remembered (bounded) so that its miner can be told.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

import trio

from protocol.codec import decode
from protocol.errors import ProofError, ProtocolError
from protocol.records.submission import (
    PostedSubmission,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from registry.access import challenges
from registry.submissions import why_inadmissible
from validator_node.batch_check import Checker
from validator_node.rate import Budget
from validator_node.speaker import Speaker
from validator_node.store import Store

MAX_MESSAGE_BYTES = 262_144
TURN_S = 1.0
TICK_S = 0.25
REMEMBERED_REFUSALS = 4096
FORGERIES_PER_SECOND = 5.0
"""Messages with a bad form, body or signature that one forwarding peer may bring."""
_FORGED = frozenset({"bad_signature", "body_mismatch", "wrong_network"})


class RefusedError(Exception):
    """A submission that this node does not take; `reason` is the counter's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Intake:
    """The submissions this node has taken in and the state has not admitted yet."""

    def __init__(
        self,
        store: Store,
        checker: Checker,
        speaker: Speaker,
        *,
        me: int | None,
        now: Callable[[], float],
        submissions_per_second: float,
        max_pending: int,
    ) -> None:
        self._store = store
        self._checker = checker
        self._speaker = speaker
        self._me = me
        self._now = now
        self._budget = Budget(submissions_per_second, now)
        self._patience = Budget(FORGERIES_PER_SECOND, now)
        self._max_pending = max_pending
        self._waiting: dict[bytes, tuple[PostedSubmission, float]] = {}
        self._refusals: OrderedDict[bytes, str] = OrderedDict()
        self.refused: Counter[str] = Counter()
        self.accepted = 0

    def begin_epoch(self, me: int | None) -> None:
        """Take this node's turns by its index in a new epoch's set."""
        self._me = me

    def __len__(self) -> int:
        return len(self._waiting)

    def why_refused(self, submission_id: bytes) -> str | None:
        """Return why a submission was refused here not long ago, or None."""
        return self._refusals.get(submission_id)

    def is_waiting(self, submission_id: bytes) -> bool:
        """Return whether a submission waits here to be admitted."""
        return submission_id in self._waiting

    def topics(self) -> list[str]:
        """Return the gossip topics of the active challenges."""
        network_id = self._store.genesis.network_id
        active = challenges(self._store.tree.view())
        return [submission_topic(network_id, entry.challenge_id) for entry in active]

    def check(self, topic: str, data: bytes, peer_id: str) -> bool:
        """Judge a gossip message from a peer (rule 1); True takes it in and forwards it."""
        peer = peer_id.encode()
        if self._patience.level(peer) < 1:
            self.refused["peer_limited"] += 1
            return False
        try:
            message = decode(SubmissionMessage, data, limit_bytes=MAX_MESSAGE_BYTES)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            self._patience.spend(peer)
            return False
        fresh: dict[bytes, PostedSubmission] = {}
        for posted in message.posted:
            submission = posted.signed.submission
            try:
                self._check_one(topic, posted, fresh)
            except RefusedError as refusal:
                self._refuse(submission, refusal.reason)
                if refusal.reason in _FORGED:
                    self._patience.spend(peer)
                if refusal.reason != "duplicate":
                    return False
            else:
                fresh[submission.submission_id] = posted
        for posted in fresh.values():
            self._take(posted)
        return bool(fresh)

    def _check_one(
        self, topic: str, posted: PostedSubmission, fresh: dict[bytes, PostedSubmission]
    ) -> None:
        submission = posted.signed.submission
        network_id = self._store.genesis.network_id
        if submission.network_id != network_id:
            raise RefusedError("wrong_network")
        if topic != submission_topic(network_id, submission.challenge_id):
            raise RefusedError("wrong_topic")
        submission_id = submission.submission_id
        if submission_id in self._waiting or submission_id in fresh:
            raise RefusedError("duplicate")
        reason = why_inadmissible(self._store.tree.view(), submission)
        if reason is not None:
            raise RefusedError(reason)
        if len(self._waiting) + len(fresh) >= self._max_pending:
            raise RefusedError("busy")
        if self._budget.level(submission.hotkey) < 1:
            raise RefusedError("rate_limited")
        try:
            posted.check_body()
            self._checker.check_submission(posted.signed)
        except ProofError as error:
            raise RefusedError("body_mismatch") from error
        except ProtocolError as error:
            raise RefusedError(error.reason) from error
        self._budget.spend(submission.hotkey)

    def _refuse(self, submission: Submission, reason: str) -> None:
        self.refused[reason] += 1
        if reason == "duplicate":
            return
        self._refusals[submission.submission_id] = reason
        if len(self._refusals) > REMEMBERED_REFUSALS:
            self._refusals.popitem(last=False)

    def _take(self, posted: PostedSubmission) -> None:
        submission = posted.signed.submission
        submission_id = submission.submission_id
        self._store.put_body(submission.body_hash, posted.body)
        size = len(self._store.voters)
        turn = size if self._me is None else (self._me - submission_id[0]) % size
        due = self._now() + (turn or size) * TURN_S  # turn 0 speaks below, and again a round later
        self._waiting[submission_id] = (posted, due)
        self._refusals.pop(submission_id, None)
        self.accepted += 1
        if turn == 0:
            self._speaker.add(posted.signed)

    def on_admitted(self, submission_id: bytes) -> None:
        """Forget a submission that the state has admitted or ended."""
        self._waiting.pop(submission_id, None)
        self._speaker.drop("admit", submission_id)

    async def run(self) -> None:
        """Admit what the validators before us have left waiting (rule 3)."""
        while True:
            await trio.sleep(TICK_S)
            now = self._now()
            view = self._store.tree.view()
            for submission_id, (posted, due) in list(self._waiting.items()):
                if due > now:
                    continue
                if why_inadmissible(view, posted.signed.submission) is not None:
                    self.on_admitted(submission_id)
                    continue
                self._waiting[submission_id] = (posted, now + len(self._store.voters) * TURN_S)
                self._speaker.add(posted.signed)
