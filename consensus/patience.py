"""Patience: when to wait, when to say it again, and when to ask for another primary.

Rules:
10. The progress timer runs while a pending action or an undecided slot is known; it restarts on
    each decision, and when the first undecided slot is accepted or prepared here: a primary that
    gets on is not suspected. While changing, it runs only once a quorum has asked for this view or
    a later one. It starts from what decisions take (`Pace`), the base at least. Each view change it
    causes doubles it, up to a maximum; each decision halves it again. Every base time-out while
    something is open, STATUS goes out and VIEW-CHANGE is sent again.
6.  A view ends after `term` slots above its base, or after `view_limit_ms` with work pending,
    without back-off: one path gives rotation, bounds slow or censoring primaries, and takes
    stragglers in.
"""

from __future__ import annotations

from consensus.core import Core
from consensus.effects import Broadcast, CancelTimer, Send, SetTimer
from consensus.inputs import Timer
from consensus.messages import FetchBatch, Status
from consensus.succession import asking, start_view_change

PACE_SHARE = 3
"""The pace alone stretches a time-out to one part in this many of `view_limit_ms`: a primary that
is slow on purpose, so that all become patient, must not outlast its view by it."""


class Pace:
    """How long a decision may take here: the average and four deviations (Jacobson, SIGCOMM'88).

    Integers only, in milliseconds: the average is kept times 8, the mean deviation times 4.
    """

    def __init__(self) -> None:
        self._average8 = self._deviation4 = 0

    @property
    def patience_ms(self) -> int:
        """How long to wait for a decision; 0 before the first was measured."""
        return (self._average8 >> 3) + self._deviation4

    def learn(self, took_ms: int) -> None:
        """Take a measured decision into the average."""
        if not self._average8:
            self._average8, self._deviation4 = took_ms << 3, took_ms << 1
            return
        error = took_ms - (self._average8 >> 3)
        self._average8 += error
        self._deviation4 += abs(error) - (self._deviation4 >> 2)


class Patience:
    """The timers of one replica and their back-off."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._doublings = 0
        self._armed: set[Timer] = set()
        self._seen = (-1, -1, -1, False, 0)
        """(epoch, view, tip, changing, progress) when the progress timer was last started."""
        self._pace = Pace()
        self._measured_in = (-1, -1)
        """(epoch, view) of the last measured decision."""

    @property
    def steady_ms(self) -> int:
        """The time-out without back-off, in milliseconds."""
        parameters = self._core.parameters
        most = max(parameters.base_timeout_ms, parameters.view_limit_ms // PACE_SHARE)
        return min(max(parameters.base_timeout_ms, self._pace.patience_ms), most)

    @property
    def timeout_ms(self) -> int:
        """The progress time-out now, in milliseconds."""
        return min(self.steady_ms << self._doublings, self._core.parameters.max_timeout_ms)

    def learn(self, took_ms: int) -> None:
        """Learn how long a decision was owed, unless a view change fell into that time."""
        view = self._core.voters.epoch, self._core.view
        if took_ms and view == self._measured_in:
            self._pace.learn(took_ms)
        self._measured_in = view

    def is_open(self) -> bool:
        """Return whether a decision is owed: work pends or a slot is undecided or unexecuted."""
        core = self._core
        return (
            core.pending
            or core.height < core.tip_seq
            or self._is_at_edge()
            or any(
                slot.accepted is not None or slot.proposal is not None
                for seq, slot in core.slots.items()
                if seq > core.tip_seq
            )
        )

    def _knows_of_commits(self) -> bool:
        """Whether others have all but decided a slot whose proposal never came here."""
        core = self._core
        slot = core.slots.get(core.tip_seq + 1)
        if slot is None:
            return False
        return any(
            core.voters.is_blocking(slot.commits.signatures("commit", view, digest))
            for view, digest in slot.commits.choices()
        )

    def _is_at_edge(self) -> bool:
        edge = self._core.edge
        return edge is not None and self._core.height >= edge.seq

    def _progress(self) -> int:
        """Return how far the first undecided slot has come here in this view: 0, 1 or 2."""
        slot = self._core.slots.get(self._core.tip_seq + 1)
        return 0 if slot is None else (slot.accepted is not None) + (slot.committed is not None)

    def update(self) -> None:
        """Start, restart or stop the timers after a step."""
        core = self._core
        open_now = self.is_open()
        seen = (core.voters.epoch, core.view, core.tip_seq, core.changing, self._progress())
        if seen[2] > self._seen[2] and self._doublings:
            self._doublings -= 1
        waits = open_now and not self._is_at_edge()
        if core.changing:
            waits = core.voters.is_quorum(asking(core, core.view))
        self._arm(Timer.PROGRESS, waits, self.timeout_ms, restart=seen != self._seen)
        asks = open_now or core.changing or self._knows_of_commits()
        self._arm(Timer.RESEND, asks, core.parameters.base_timeout_ms, restart=False)
        self._arm(
            Timer.ROTATE,
            not core.changing,
            core.parameters.view_limit_ms,
            restart=seen[:2] != self._seen[:2] or core.changing != self._seen[3],
        )
        self._seen = seen

    def _arm(self, timer: Timer, wanted: bool, delay_ms: int, *, restart: bool) -> None:
        if wanted and (restart or timer not in self._armed):
            self._armed.add(timer)
            self._core.emit(SetTimer(timer, delay_ms))
        elif not wanted and timer in self._armed:
            self._armed.discard(timer)
            self._core.emit(CancelTimer(timer))

    def on_timer(self, timer: Timer) -> None:
        """React to a timer that ran out; `update` starts it again where it is still wanted."""
        core = self._core
        if timer not in self._armed:
            return
        self._armed.discard(timer)
        if timer is Timer.PROGRESS:
            if self.timeout_ms < core.parameters.max_timeout_ms:
                self._doublings += 1
            start_view_change(core, core.view + 1)
        elif timer is Timer.ROTATE:
            if self.is_open():
                start_view_change(core, core.view + 1)
        else:
            self.say_again()

    def say_again(self) -> None:
        """Repeat what may have been lost and ask for what is missing."""
        core = self._core
        if core.changing and core.own_view_change is not None:
            core.emit(Broadcast(core.own_view_change))
        for votes in core.checkpoint_votes.values():
            if core.me in votes:
                core.emit(Broadcast(votes[core.me]))
        core.emit(Broadcast(own_status(core)))
        for seq, slot in sorted(core.slots.items()):
            wanted = slot.decided.header.digest if slot.decided else slot.accepted or slot.committed
            if wanted is not None and wanted not in slot.bodies and core.holds_body(seq):
                peer = core.next_peer()
                if peer is not None:
                    core.emit(Send(peer, FetchBatch(seq=seq, digest=wanted)))


def own_status(core: Core) -> Status:
    """Return where this replica is; peers answer with what comes after it."""
    core.asked = core.height
    return Status(
        epoch=core.voters.epoch, view=core.view, changing=core.changing, height=core.height
    )
