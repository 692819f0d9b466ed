"""The core: one engine a process, compiled modules, and `evaluate`, a pure function of its job.

Rules:
1. Every evaluation gets a fresh store and instance; nothing survives it but compiled code.
2. An outcome's class comes from admission rules and trap codes, never from a message's text.
   What is not the guest's doing is a `Fault`: the epoch deadline, missing memory, our own bugs.
3. One evaluation at a time in a sandbox (a lock holds the others): the host functions' state is
   the sandbox's. Parallel evaluations are parallel processes; see `pool`.
4. A `memory.grow` beyond the policy returns -1 to the guest, which decides what to make of it; most
   then trap, and the class is `trap`. `memory_limit` is given in two cases: the module's initial
   memory exceeds the policy, or `alloc` returns 0, the ABI's "no memory for this input".
5. An input region that `alloc` put outside the memory is the trap `out of bounds`; an output region
   outside it is `bad_output`; an output longer than the policy's limit is `output_limit`.
6. Fuel billed: what was burnt when the guest returned, the policy's whole limit on any trap, and
   nothing when the module never ran.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

import wasmtime

from protocol.codec import sha256
from protocol.records.challenge import EvaluationContext, RuntimePolicy
from runtime import native
from runtime.admission import ModuleSummary, check_policy, linkable, summarise
from runtime.engine import engine_id, host_limits_error, new_engine
from runtime.errors import AdmissionError, Fault, FaultReason
from runtime.guest import Guest, Trapped
from runtime.host_functions import HostFunctions
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
"""The epoch advances this often; a deadline is kept to within two ticks."""
MAX_CACHED_MODULES = 16
CHECK_DEADLINE_MS = 10_000
"""Time `check` gives a start section; a fault beyond, since fuel should have ended it."""

_EXPORT_RULES = frozenset({"export", "export_type"})


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A module in the cache: ready to instantiate, or refused for good."""

    summary: ModuleSummary | None
    prepared: wasmtime.InstancePre | None
    refusal: AdmissionError | None


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a run ended, before it is hashed."""

    outcome_class: OutcomeClass
    message: str = ""
    fuel_used: int = 0
    output: bytes = b""
    parsed: GuestOutput | None = None


class Sandbox:
    """Evaluates jobs in this process. Close it, or use it as a context manager."""

    def __init__(self, *, max_cached_modules: int = MAX_CACHED_MODULES) -> None:
        """Raise `Fault` (host_memory) where the host's limits could change what a guest sees."""
        problem = host_limits_error()
        if problem:
            raise Fault(FaultReason.HOST_MEMORY, problem)
        self.engine_id = engine_id()
        self._engine = new_engine()
        self._engine_address = native.address(self._engine.ptr())
        self._host = HostFunctions()
        self._linker = wasmtime.Linker(self._engine)
        self._host.define(self._linker)
        self._max_cached = max_cached_modules
        self._modules: OrderedDict[bytes, _Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="epoch ticker", daemon=True)
        self._ticker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the epoch ticker and drop compiled code."""
        self._closed.set()
        self._ticker.join()
        with self._lock:
            self._modules.clear()

    def __contains__(self, module_hash: bytes) -> bool:
        return module_hash in self._modules

    def load(self, module: bytes) -> bytes:
        """Compile a module unless it is cached; return its SHA-256.

        An inadmissible module is remembered too: its evaluations come to `invalid_module` or
        `missing_export`. Raises `Fault` (compile) when the engine fails on a valid module.
        """
        module_hash = sha256(module)
        with self._lock:
            if module_hash not in self._modules:
                self._modules[module_hash] = self._compile(module)
                while len(self._modules) > self._max_cached:
                    self._modules.popitem(last=False)
        return module_hash

    def check(self, module: bytes, policy: RuntimePolicy) -> ModuleSummary:
        """Admit a module: every rule, the engine's validator, and its start section once.

        Raises `AdmissionError`, or `Fault` when this host cannot tell.
        """
        loaded = self._compile(module)
        if loaded.refusal is not None:
            raise loaded.refusal
        assert loaded.summary is not None
        check_policy(loaded.summary, policy)
        assert loaded.prepared is not None
        world = EvaluationContext(epoch=0, height=0, time_ms=0, seed=bytes(32))
        with self._lock, self._guest(policy, world, CHECK_DEADLINE_MS) as guest:
            try:
                guest.start(native.address(loaded.prepared.ptr()))
            except Trapped as trapped:
                ending = self._trap_ending(trapped, policy)
                raise AdmissionError("start", ending.message, "no trap") from None
        return loaded.summary

    def evaluate(self, job: EvaluationJob) -> Outcome:
        """Return the outcome of a job whose module was loaded. Raises `Fault`, nothing else."""
        data = guest_input(job)
        with self._lock:
            loaded = self._modules.get(job.module_hash)
            if loaded is None:
                raise Fault(FaultReason.MODULE_MISSING, job.module_hash.hex())
            self._modules.move_to_end(job.module_hash)
            try:
                ending, log = self._run(loaded, job, data), self._host.lines()
            except Fault:
                raise
            except Exception as error:
                raise Fault(FaultReason.INTERNAL, repr(error)) from error
        return self._outcome(job, data, ending, log)

    def _tick(self) -> None:
        while not self._closed.wait(TICK_MS / 1000):
            self._engine.increment_epoch()

    def _compile(self, module: bytes) -> _Loaded:
        try:
            summary = summarise(module)
        except AdmissionError as error:
            return _Loaded(None, None, error.with_traceback(None))
        problem = native.validate(self._engine_address, module)
        if problem is not None:
            return _Loaded(None, None, AdmissionError("engine", problem, "a valid module"))
        if not linkable(summary):
            # cannot be linked, and no policy can allow it: check_policy names the import
            return _Loaded(summary, None, None)
        try:
            compiled = wasmtime.Module(self._engine, module)
            return _Loaded(summary, self._linker.instantiate_pre(compiled), None)
        except wasmtime.WasmtimeError as error:
            raise Fault(FaultReason.COMPILE, str(error)) from error

    def _guest(self, policy: RuntimePolicy, world: EvaluationContext, deadline_ms: int) -> Guest:
        # one tick more: the first may come at once
        ticks = math.ceil(deadline_ms / TICK_MS) + 1
        return Guest(self._engine_address, self._host, policy, world, ticks)

    def _run(self, loaded: _Loaded, job: EvaluationJob, data: bytes) -> _Ending:
        self._host.reset()
        try:
            if loaded.refusal is not None:
                raise loaded.refusal
            assert loaded.summary is not None
            check_policy(loaded.summary, job.policy)
        except AdmissionError as error:
            return _Ending(_refusal_class(error), str(error))
        assert loaded.prepared is not None
        with self._guest(job.policy, job.context, job.deadline_ms) as guest:
            try:
                guest.start(native.address(loaded.prepared.ptr()))
                return _converse(guest, job.policy, data)
            except Trapped as trapped:
                return self._trap_ending(trapped, job.policy)

    def _trap_ending(self, trapped: Trapped, policy: RuntimePolicy) -> _Ending:
        failure = self._host.failure
        if isinstance(failure, Fault):
            raise failure
        if isinstance(failure, Exception):
            raise Fault(FaultReason.INTERNAL, f"host function: {failure!r}") from failure
        if failure is not None:
            raise failure  # an interrupt of this process, on its way since the callback
        if trapped.code == native.TRAP_INTERRUPT:
            raise Fault(FaultReason.DEADLINE, "the epoch deadline passed") from None
        if self._host.limit_hit is not None:
            return _Ending(OutcomeClass.HOST_LIMIT, self._host.limit_hit, policy.fuel)
        if trapped.code == native.TRAP_OUT_OF_FUEL:
            return _Ending(OutcomeClass.OUT_OF_FUEL, "out of fuel", policy.fuel)
        return _Ending(OutcomeClass.TRAP, native.trap_name(trapped.code), policy.fuel)

    def _outcome(
        self, job: EvaluationJob, data: bytes, ending: _Ending, log: tuple[str, ...]
    ) -> Outcome:
        parsed = ending.parsed
        return Outcome(
            outcome_class=ending.outcome_class,
            output=ending.output,
            score=parsed.score if parsed is not None and parsed.valid else 0,
            valid=parsed is not None and parsed.valid,
            message=ending.message[:MAX_MESSAGE_CHARS] if parsed is None else parsed.message,
            fuel_used=ending.fuel_used,
            verdict_hash=verdict_hash(
                engine_id=self.engine_id,
                module_hash=job.module_hash,
                input_hash=sha256(data),
                policy_hash=_policy_hash(job.policy),
                outcome_class=ending.outcome_class,
                output=ending.output,
            ),
            log=log,
        )


@functools.lru_cache(maxsize=256)
def _policy_hash(policy: RuntimePolicy) -> bytes:
    return policy.digest()


def _refusal_class(error: AdmissionError) -> OutcomeClass:
    if error.rule in _EXPORT_RULES:
        return OutcomeClass.MISSING_EXPORT
    if error.rule == "memory_pages":
        return OutcomeClass.MEMORY_LIMIT
    return OutcomeClass.INVALID_MODULE


def _converse(guest: Guest, policy: RuntimePolicy, data: bytes) -> _Ending:
    """Hand the input over, run the guest and judge its output. Raises `Trapped`."""
    pointer = guest.alloc(len(data))
    if pointer == 0:
        return _returned(guest, policy, OutcomeClass.MEMORY_LIMIT, "alloc returned 0")
    if not guest.write(pointer, data):
        raise Trapped(native.TRAP_OUT_OF_BOUNDS)
    pointer, size = guest.evaluate(pointer, len(data))
    if size > policy.max_output_bytes:
        found = f"{size} bytes, the limit is {policy.max_output_bytes}"
        return _returned(guest, policy, OutcomeClass.OUTPUT_LIMIT, found)
    output = guest.read(pointer, size)
    if output is None:
        return _returned(guest, policy, OutcomeClass.BAD_OUTPUT, "output outside the memory")
    try:
        parsed = parse_output(output)
    except OutputError as error:
        return _returned(guest, policy, OutcomeClass.BAD_OUTPUT, str(error))
    used = policy.fuel - guest.fuel_left()
    return _Ending(OutcomeClass.OK, "", used, output, parsed)


def _returned(
    guest: Guest, policy: RuntimePolicy, outcome_class: OutcomeClass, message: str
) -> _Ending:
    return _Ending(outcome_class, message, policy.fuel - guest.fuel_left())
