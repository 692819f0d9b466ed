"""The instances of one evaluation of a component, one after the other, and what they share.

Rules:
1. Instances share nothing but the fuel: what is left passes on from one to the next.
2. The deadline is one number of the sandbox's ticks. A trap with it reached is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime.component_guest import ComponentGuest, ComponentTrapped
from runtime.contest import MAX_ANSWER_BYTES, Questions, Step, Transcript, as_text
from runtime.errors import Fault, FaultReason


@dataclass(slots=True)
class Run:
    """One evaluation's instances, one after the other, and what they share."""

    engine: int
    linker: int
    component: int
    memory_pages: int
    max_output_bytes: int
    fuel: int
    """What is left of the policy's."""
    ticks: Callable[[], int]
    deadline: int

    def call(self, guest: ComponentGuest, name: str, *texts: bytes) -> bytes:
        """Call a function with all the fuel that is left. Raises `ComponentTrapped`."""
        guest.set_fuel(self.fuel)
        returned = guest.call(name, *texts)
        self.fuel = guest.fuel_left()
        return returned

    def ask(self, submission: bytes, asked: Questions) -> Transcript:
        """Return what the submission answers, in an instance of its own (`runtime.contest`)."""
        answers: list[Step] = []
        with self.instance() as guest:
            load = self._step(guest, asked.fuel, "load", as_text(submission))
            last = load
            for question in asked.questions:
                if last.ending != "ok":
                    break
                last = self._step(guest, asked.fuel, "answer", question.encode())
                answers.append(last)
        return Transcript(load, asked.questions, answers)

    def judge_deadline(self) -> None:
        """Raise `Fault` (deadline) if a trap just now may have been the deadline's."""
        # a tick less: a tick may have been counted and not yet taken effect when the store was made
        if self.ticks() >= self.deadline - 1:
            raise Fault(FaultReason.DEADLINE, "the epoch deadline passed")

    def instance(self) -> ComponentGuest:
        """Return a fresh instance, paid for; close it. Raises `ComponentTrapped`, `Fault`."""
        ticks = self.deadline - self.ticks()
        if ticks <= 0:
            raise Fault(FaultReason.DEADLINE, "the epoch deadline passed")
        guest = ComponentGuest(
            self.engine, memory_pages=self.memory_pages, fuel=self.fuel, ticks=ticks
        )
        try:
            guest.start(self.linker, self.component)
            self.fuel = guest.fuel_left()
        except BaseException:
            guest.close()
            raise
        return guest

    def _step(self, guest: ComponentGuest, limit: int, name: str, text: bytes) -> Step:
        given = min(limit, self.fuel)
        guest.set_fuel(given)
        try:
            returned = guest.call(name, text)
        except ComponentTrapped as trapped:
            self.judge_deadline()
            self.fuel -= given
            return Step("out_of_fuel" if trapped.out_of_fuel else "trap", given, "")
        used = given - guest.fuel_left()
        self.fuel -= used
        if len(returned) > MAX_ANSWER_BYTES:
            return Step("too_long", used, "")
        return Step("ok", used, returned.decode())
