"""Submits an epoch: one vector for each mechanism, an alert for what goes wrong.

Rules:
1. Each mechanism is submitted on its own; what happens to one does not touch the others. Calls
   are sent one at a time, because one hotkey's calls share a nonce.
2. An epoch without weights is never burned: nothing is sent (`abstain`), or the newest certified
   vector of an earlier epoch once more (`last_certified`), without the uids that have changed hands
   since. Both raise the alert `no_weights`.
3. Hidden weights are followed until they are revealed or lost (`watch_reveals`), however many
   epochs that takes, also after a restart.
4. An alert is raised when the step it tells of has become durable: once, whatever happens then.
   `undecided` has no step of its own and is raised at each end without a result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import trio

from chain.errors import ChainError, ChainErrorCode
from chain.interface import Chain, HotkeySigner, WeightVector
from chain.preflight import Ready, Refused
from chain.submission_state import Stage, SubmissionKeeper, SubmissionRecord, judged
from chain.submitter import Order, Outcome, Undecided, Wait, WeightSubmitter
from chain.submitter_advice import advice
from chain.submitter_outcomes import outcome_of

OnNoWeights = Literal["abstain", "last_certified"]


class AlertName(StrEnum):
    """What an alert is called, in logs and as a metric's label."""

    NO_WEIGHTS = "no_weights"
    UIDS_REUSED = "uids_reused"
    PERMIT_LOST = "permit_lost"
    HOTKEY_DEREGISTERED = "hotkey_deregistered"
    EXPIRED = "weights_expired"
    REFUSED = "weights_refused"
    NOT_SEEN = "weights_not_seen"
    REVEAL_LOST = "reveal_lost"
    SUPERSEDED = "weights_superseded"
    UNDECIDED = "weights_undecided"


_OF_CODE = {
    ChainErrorCode.NEURON_NO_VALIDATOR_PERMIT: AlertName.PERMIT_LOST,
    ChainErrorCode.HOTKEY_NOT_REGISTERED_IN_SUBNET: AlertName.HOTKEY_DEREGISTERED,
    ChainErrorCode.EXPIRED: AlertName.EXPIRED,
    ChainErrorCode.EMPTY_VECTOR: AlertName.NO_WEIGHTS,
}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something an operator should know. `code` is None where the chain named no error."""

    name: AlertName
    epoch: int
    mechanism: int
    reason: str
    code: ChainErrorCode | None = None

    @property
    def advice(self) -> str:
        """What to do about it; empty if the reason says it all."""
        return "" if self.code is None else advice(self.code)


@dataclass(frozen=True, slots=True)
class Certified:
    """The certified vector of one mechanism; for `holders` see `SubmissionRecord`."""

    mechanism: int
    vector: WeightVector
    holders: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """What an epoch's close has certified, a vector for each mechanism. See `Order`."""

    epoch: int
    since_block: int
    vectors: tuple[Certified, ...]
    until_block: int | None = None
    seed: bytes = b""
    version_key: int | None = None


class EpochSubmitter:
    """Submits the epochs of one hotkey. Run `watch_reveals` beside it in the node's nursery.

    `outcomes` holds the last one of each mechanism with its epoch; `alerts` and `steps` count what
    was raised and the stages that became durable, by name, and `waits` the waits by their cause
    (`rate_limit`, `turn`), for metrics.
    """

    def __init__(
        self,
        chain: Chain,
        signer: HotkeySigner,
        keeper: SubmissionKeeper,
        submitter: WeightSubmitter,
        *,
        on_no_weights: OnNoWeights = "abstain",
        on_alert: Callable[[Alert], None],
    ) -> None:
        self._chain = chain
        self._signer = signer
        self._keeper = _Telling(keeper, self._stepped)
        self._submitter = submitter
        self._on_no_weights = on_no_weights
        self._on_alert = on_alert
        self._turn = trio.Lock()
        self.outcomes: dict[int, tuple[int, Outcome]] = {}
        self.alerts: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.unread = 0
        """How often a pending reveal could not be looked at; it is tried again."""

    @property
    def pending_reveals(self) -> int:
        """How many commits wait for their reveal."""
        return sum(
            record.stage is Stage.COMMITTED
            for mechanism in self._keeper.mechanisms()
            for record in self._keeper.records(mechanism)
        )

    async def submit(self, order: EpochOrder) -> dict[int, Outcome]:
        """Submit every mechanism's vector; returns the outcomes by mechanism.

        May be cancelled (when a newer epoch has closed) and repeated at any time.
        """
        found: dict[int, Outcome] = {}

        async def carry(certified: Certified) -> None:
            outcome = await self._carry(order, certified)
            found[certified.mechanism] = outcome
            self.outcomes[certified.mechanism] = (order.epoch, outcome)

        async with trio.open_nursery() as nursery:
            for certified in order.vectors:
                nursery.start_soon(carry, certified)
        return found

    async def preview(self, order: EpochOrder) -> dict[int, Ready | Wait | Outcome]:
        """Return what `submit` would do now, by mechanism, or what became of it already.

        Sends nothing. Raises `ChainError`.
        """
        found: dict[int, Ready | Wait | Outcome] = {}
        for certified in order.vectors:
            known = self._known(order.epoch, certified.mechanism)
            found[certified.mechanism] = known or await self._submitter.preview(
                self._chain, self._signer.public_key, self._order(order, certified)
            )
        return found

    def _known(self, epoch: int, mechanism: int) -> Outcome | None:
        """Return how an epoch's submission ended, None for none or one that may be tried again."""
        records = (one for one in self._keeper.records(mechanism) if one.epoch == epoch)
        ended = [outcome_of(one, already=True) for one in records]
        return next((one for one in ended if one and not isinstance(one, Refused)), None)

    async def settle(self, order: EpochOrder, *, again_s: float = 60.0) -> dict[int, Outcome]:
        """Submit `order`, and after `again_s` seconds what is undecided of it, until nothing is.

        What was refused is not asked for again: each time would be another alert. The caller
        cancels it when a newer epoch has closed. Returns the last outcome of each mechanism.
        """
        outcomes: dict[int, Outcome] = {}
        while True:
            outcomes |= await self.submit(order)
            left = tuple(
                one for one in order.vectors if isinstance(outcomes[one.mechanism], Undecided)
            )
            if not left:
                return outcomes
            await trio.sleep(again_s)
            order = replace(order, vectors=left)

    async def watch_reveals(self) -> None:
        """Follow the commits that wait for their reveal, for ever."""
        while True:
            for mechanism in self._keeper.mechanisms():
                for record in self._keeper.records(mechanism):
                    if record.stage is Stage.COMMITTED:
                        await self._look(record)
            await trio.sleep(self._submitter.poll_s)

    async def _look(self, record: SubmissionRecord) -> None:
        reader, hotkey = self._submitter.reader(self._chain), self._signer.public_key
        try:
            evidence = await reader.evidence(hotkey, record.mechanism)
            after = judged(record, evidence, self._submitter.limits)
            if after != record:
                await self._keeper.save(after)
        except ChainError:
            self.unread += 1

    async def _carry(self, order: EpochOrder, certified: Certified) -> Outcome:
        outcome = await self._submitter.carry(
            self._chain,
            self._signer,
            self._order(order, certified),
            self._keeper,
            turn=self._turn,
            on_wait=self._waiting,
        )
        if isinstance(outcome, Undecided):
            self._alert(
                Alert(
                    AlertName.UNDECIDED,
                    order.epoch,
                    certified.mechanism,
                    outcome.reason,
                    outcome.code,
                )
            )
        return outcome

    def _order(self, order: EpochOrder, certified: Certified) -> Order:
        vector, holders, source = certified.vector, certified.holders, order.epoch
        if not vector and self._on_no_weights == "last_certified":
            before = self._last_certified(order.epoch, certified.mechanism)
            if before is not None:
                vector, holders, source = before.vector, before.holders, before.source_epoch
        return Order(
            epoch=order.epoch,
            vector=vector,
            since_block=order.since_block,
            mechanism=certified.mechanism,
            holders=holders,
            source_epoch=source,
            until_block=order.until_block,
            seed=order.seed,
            version_key=order.version_key,
        )

    def _last_certified(self, epoch: int, mechanism: int) -> SubmissionRecord | None:
        earlier = [
            record
            for record in self._keeper.records(mechanism)
            if record.epoch < epoch and record.vector
        ]
        return earlier[-1] if earlier else None

    def _waiting(self, wait: Wait) -> None:
        self.waits[wait.cause] += 1

    def _stepped(self, record: SubmissionRecord) -> None:
        self.steps[record.stage] += 1
        found = _alert_of(record)
        if found is not None:
            self._alert(found)

    def _alert(self, alert: Alert) -> None:
        self.alerts[alert.name] += 1
        self._on_alert(alert)


def _alert_of(record: SubmissionRecord) -> Alert | None:
    """Return the alert that a step raises when it has become durable, None for most."""
    name, code, reason = None, None, record.reason
    if record.stage is Stage.WAITING and record.calls == 0 and not record.code:
        if record.source_epoch != record.epoch:
            name, code = AlertName.NO_WEIGHTS, ChainErrorCode.EMPTY_VECTOR
            reason = f"the certified weights of epoch {record.source_epoch} are sent in their place"
    elif record.stage is Stage.SENDING and record.masked:
        name = AlertName.UIDS_REUSED
        uids = ", ".join(str(uid) for uid in record.masked)
        reason = f"left out, because they have changed hands since their evaluation: uid {uids}"
    elif record.stage is Stage.REFUSED:
        code = ChainErrorCode(record.code)
        name = _OF_CODE.get(code, AlertName.REFUSED)
    elif record.stage is Stage.UNSEEN:
        name = AlertName.NOT_SEEN
    elif record.stage is Stage.REVEAL_LOST:
        name = AlertName.REVEAL_LOST
    elif record.stage is Stage.SUPERSEDED:
        name = AlertName.SUPERSEDED
        reason = f"a newer epoch closed before it was on the chain. {record.reason}".strip()
    return None if name is None else Alert(name, record.epoch, record.mechanism, reason, code)


class _Telling:
    """A keeper that tells of each step once it is durable."""

    def __init__(self, keeper: SubmissionKeeper, tell: Callable[[SubmissionRecord], None]) -> None:
        self._keeper = keeper
        self._tell = tell

    def records(self, mechanism: int) -> tuple[SubmissionRecord, ...]:
        return self._keeper.records(mechanism)

    def mechanisms(self) -> tuple[int, ...]:
        return self._keeper.mechanisms()

    async def save(self, record: SubmissionRecord) -> None:
        await self._keeper.save(record)
        self._tell(record)
