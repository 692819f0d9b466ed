"""Evaluates components: the same contract as `runtime.sandbox`, under the second engine profile.

Rules:
1. Rules 1, 2, 3 and 6 of `runtime.sandbox` hold: fresh stores, classes from figures alone, one
   evaluation at a time, and on a trap the whole limit is billed.
2. A component that exports `evaluate` runs in one instance, a contest in two (`runtime.contest`).
   They share the policy's fuel and the job's deadline; each has the policy's memory for itself.
3. Components import nothing, so there are no log lines, no writes and no `host_limit`; data blobs
   and storage are not handed to them.
4. A trap with the deadline reached is a fault, whatever it was: this machine was too slow to tell.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import wasmtime
from wasmtime import component as wasm_component

from protocol.codec import sha256
from protocol.records.challenge import RuntimePolicy
from runtime import native
from runtime.artifact import Artifact
from runtime.component_admission import ComponentSummary, check_component_policy
from runtime.component_guest import ComponentTrapped
from runtime.component_run import Run
from runtime.contest import as_bytes, as_text, read_questions, write_transcript
from runtime.engine import new_component_engine
from runtime.errors import AdmissionError, Fault, FaultReason
from runtime.job import EvaluationJob, guest_input
from runtime.outcome import (
    MAX_MESSAGE_CHARS,
    GuestOutput,
    Outcome,
    OutcomeClass,
    OutputError,
    parse_output,
    verdict_hash,
)

TICK_MS = 50
MAX_CACHED_COMPONENTS = 4
"""Each holds some 40 MB of machine code."""
CHECK_DEADLINE_MS = 10_000


@dataclass(frozen=True, slots=True)
class _Loaded:
    summary: ComponentSummary | None
    component: wasm_component.Component | None
    refusal: AdmissionError | None


@dataclass(frozen=True, slots=True)
class _Ending:
    outcome_class: OutcomeClass
    message: str = ""
    output: bytes = b""
    parsed: GuestOutput | None = None


class ComponentSandbox:
    """Evaluates jobs of components in this process. Close it when it is done."""

    def __init__(self, engine_id: bytes) -> None:
        self._engine_id = engine_id
        self._engine = new_component_engine()
        self._engine_address = native.address(self._engine.ptr())
        self._linker = wasm_component.Linker(self._engine)
        self._modules: OrderedDict[bytes, _Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._ticks = 0
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="component ticker", daemon=True)
        self._ticker.start()

    def close(self) -> None:
        """Stop the epoch ticker and drop compiled code."""
        self._closed.set()
        self._ticker.join()
        with self._lock:
            self._modules.clear()

    def __contains__(self, module_hash: bytes) -> bool:
        return module_hash in self._modules

    @property
    def engine(self) -> wasmtime.Engine:
        """The engine that compiles for this sandbox."""
        return self._engine

    def load_artifact(self, artifact: Artifact) -> None:
        """Take in a component compiled elsewhere. Its machine code is trusted: check its MAC.

        Raises `Fault`: engine_mismatch for another engine's, compile for code that is none.
        """
        loaded = self._loaded(artifact)
        with self._lock:
            self._modules[artifact.module_hash] = loaded
            while len(self._modules) > MAX_CACHED_COMPONENTS:
                self._modules.popitem(last=False)

    def check(self, module_hash: bytes, policy: RuntimePolicy) -> ComponentSummary:
        """Admit a loaded component under `policy`: every rule, and one instance.

        Raises `AdmissionError`, or `Fault` when this host cannot tell.
        """
        with self._lock:
            loaded = self._find(module_hash)
            summary = _admitted(loaded, policy)
            run = self._run_for(loaded, policy, CHECK_DEADLINE_MS)
            try:
                run.instance().close()
            except ComponentTrapped as trapped:
                run.judge_deadline()
                raise AdmissionError("start", str(trapped), "no trap") from None
        return summary

    def evaluate(self, job: EvaluationJob) -> Outcome:
        """Return the outcome of a job whose component was loaded. Raises `Fault`, nothing else."""
        data = guest_input(job)
        with self._lock:
            loaded = self._find(job.module_hash)
            self._modules.move_to_end(job.module_hash)
            try:
                ending, fuel_used = self._evaluate(loaded, job, data)
            except Fault:
                raise
            except Exception as error:
                raise Fault(FaultReason.INTERNAL, repr(error)) from error
        return self._outcome(job, data, ending, fuel_used)

    def _evaluate(self, loaded: _Loaded, job: EvaluationJob, data: bytes) -> tuple[_Ending, int]:
        policy = job.policy
        try:
            summary = _admitted(loaded, policy)
        except AdmissionError as error:
            return _Ending(_refusal_class(error), str(error)), 0
        run = self._run_for(loaded, policy, job.deadline_ms)
        try:
            ending = _converse(run, summary, job.submission, as_text(data))
        except ComponentTrapped as trapped:
            run.judge_deadline()
            kind = OutcomeClass.OUT_OF_FUEL if trapped.out_of_fuel else OutcomeClass.TRAP
            return _Ending(kind, str(trapped)), policy.fuel
        except OutputError as error:
            ending = _Ending(OutcomeClass.BAD_OUTPUT, str(error))
        return ending, policy.fuel - run.fuel

    def _tick(self) -> None:
        while not self._closed.wait(TICK_MS / 1000):
            # counted first: who was interrupted finds the tick already counted
            self._ticks += 1
            self._engine.increment_epoch()

    def _find(self, module_hash: bytes) -> _Loaded:
        loaded = self._modules.get(module_hash)
        if loaded is None:
            raise Fault(FaultReason.MODULE_MISSING, module_hash.hex())
        return loaded

    def _loaded(self, artifact: Artifact) -> _Loaded:
        if artifact.engine_id != self._engine_id:
            raise Fault(
                FaultReason.ENGINE_MISMATCH,
                f"an artifact of engine {artifact.engine_id.hex()}, not {self._engine_id.hex()}",
            )
        if artifact.refusal is not None:
            return _Loaded(None, None, artifact.refusal.error())
        try:
            compiled = wasm_component.Component.deserialize(self._engine, artifact.code)
        except wasmtime.WasmtimeError as error:
            raise Fault(FaultReason.COMPILE, str(error)) from error
        return _Loaded(artifact.component, compiled, None)

    def _run_for(self, loaded: _Loaded, policy: RuntimePolicy, deadline_ms: int) -> Run:
        assert loaded.component is not None
        return Run(
            engine=self._engine_address,
            linker=native.address(self._linker.ptr()),
            component=native.address(loaded.component.ptr()),
            memory_pages=policy.memory_pages,
            max_output_bytes=policy.max_output_bytes,
            fuel=policy.fuel,
            ticks=lambda: self._ticks,
            # one tick more: the first may come at once
            deadline=self._ticks + math.ceil(deadline_ms / TICK_MS) + 1,
        )

    def _outcome(self, job: EvaluationJob, data: bytes, ending: _Ending, fuel_used: int) -> Outcome:
        parsed = ending.parsed
        return Outcome(
            outcome_class=ending.outcome_class,
            output=ending.output,
            score=parsed.score if parsed is not None and parsed.valid else 0,
            valid=parsed is not None and parsed.valid,
            message=ending.message[:MAX_MESSAGE_CHARS] if parsed is None else parsed.message,
            fuel_used=fuel_used,
            verdict_hash=verdict_hash(
                engine_id=self._engine_id,
                module_hash=job.module_hash,
                input_hash=sha256(data),
                policy_hash=_policy_hash(job.policy),
                outcome_class=ending.outcome_class,
                output=ending.output,
            ),
            log=(),
        )


def _converse(run: Run, summary: ComponentSummary, submission: bytes, data: bytes) -> _Ending:
    """Run the component over its input and judge its output.

    Raises `ComponentTrapped`, `OutputError`.
    """
    with run.instance() as trusted:
        if summary.is_contest:
            asked = read_questions(run.call(trusted, "questions", data))
            told = write_transcript(run.ask(submission, asked))
            text = run.call(trusted, "score", data, told)
        else:
            text = run.call(trusted, "evaluate", data)
    # a byte above 0x7f takes two in UTF-8: beyond twice the limit it is too long in any case
    output = as_bytes(text) if len(text) <= 2 * run.max_output_bytes else text
    if len(output) > run.max_output_bytes:
        found = f"{len(output)} bytes, the limit is {run.max_output_bytes}"
        return _Ending(OutcomeClass.OUTPUT_LIMIT, found)
    return _Ending(OutcomeClass.OK, "", output, parse_output(output))


def _admitted(loaded: _Loaded, policy: RuntimePolicy) -> ComponentSummary:
    if loaded.refusal is not None:
        raise loaded.refusal
    assert loaded.summary is not None
    check_component_policy(loaded.summary, policy)
    return loaded.summary


def _refusal_class(error: AdmissionError) -> OutcomeClass:
    if error.rule in {"export", "export_type", "export_kind"}:
        return OutcomeClass.MISSING_EXPORT
    if error.rule == "memory_pages":
        return OutcomeClass.MEMORY_LIMIT
    return OutcomeClass.INVALID_MODULE


@functools.lru_cache(maxsize=256)
def _policy_hash(policy: RuntimePolicy) -> bytes:
    return policy.digest()
