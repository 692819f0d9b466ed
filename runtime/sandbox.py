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
from protocol.records.challenge_storage import Writes, writes_hash
from runtime import native
from runtime.admission import ModuleSummary, check_policy
from runtime.artifact import Artifact, build
from runtime.engine import engine_id, host_limits_error, new_engine
from runtime.errors import AdmissionError, Fault, FaultReason
from runtime.guest import Frame, Guest, Trapped
from runtime.guest_storage import GuestStorage
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
MAX_BLOB_BYTES = 64 * 1024 * 1024
"""Data blobs a sandbox keeps; a job with more of them is a fault everywhere."""
CHECK_DEADLINE_MS = 10_000
"""Time `check` gives a start section; a fault beyond, since fuel should have ended it."""

_EXPORT_RULES = frozenset({"export", "export_type"})


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A module in the cache: ready to instantiate, or refused for good."""

    summary: ModuleSummary | None
    prepared: wasmtime.InstancePre | None
    refusal: AdmissionError | None
    address: int = 0
    """Where `prepared` is."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a run ended, before it is hashed."""

    outcome_class: OutcomeClass
    message: str = ""
    fuel_used: int = 0
    output: bytes = b""
    parsed: GuestOutput | None = None


@dataclass(frozen=True, slots=True)
class _Traces:
    """What a run left with the host functions."""

    log: tuple[str, ...]
    writes: Writes
    calls: tuple[tuple[str, int], ...]


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
        self._frame = Frame()
        self._linker = wasmtime.Linker(self._engine)
        self._host.define(self._linker)
        self._max_cached = max_cached_modules
        self._modules: OrderedDict[bytes, _Loaded] = OrderedDict()
        self._blobs: OrderedDict[bytes, bytes] = OrderedDict()
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
        """Compile a module in this process unless it is cached; return its SHA-256.

        An inadmissible module is remembered too: its evaluations come to `invalid_module` or
        `missing_export`. Raises `Fault` (compile) when the engine fails on a valid module.
        """
        module_hash = sha256(module)
        if module_hash not in self._modules:
            self.load_artifact(build(self._engine, self.engine_id, module))
        return module_hash

    def load_artifact(self, artifact: Artifact) -> None:
        """Take in a module compiled elsewhere. Its machine code is trusted: check its MAC before.

        Raises `Fault`: engine_mismatch for another engine's, compile for code that is none.
        """
        loaded = self._loaded(artifact)
        with self._lock:
            self._modules[artifact.module_hash] = loaded
            while len(self._modules) > self._max_cached:
                self._modules.popitem(last=False)

    def missing_blobs(self, job: EvaluationJob) -> list[bytes]:
        """Return the digests of the job's data that `load_blob` has still to bring.

        What is here becomes the newest: bringing the rest must not push it out.
        """
        missing = []
        for blob in job.policy.data:
            if blob.digest in self._blobs:
                self._blobs.move_to_end(blob.digest)
            else:
                missing.append(blob.digest)
        return missing

    def load_blob(self, body: bytes) -> bytes:
        """Keep a data blob and return its SHA-256; the oldest go beyond `MAX_BLOB_BYTES`."""
        digest = sha256(body)
        with self._lock:
            self._blobs[digest] = body
            while sum(map(len, self._blobs.values())) > MAX_BLOB_BYTES:
                self._blobs.popitem(last=False)
        return digest

    def check(self, module: bytes, policy: RuntimePolicy) -> ModuleSummary:
        """Admit a module: every rule, the engine's validator, and its start section once.

        Raises `AdmissionError`, or `Fault` when this host cannot tell.
        """
        loaded = self._loaded(build(self._engine, self.engine_id, module))
        if loaded.refusal is not None:
            raise loaded.refusal
        assert loaded.summary is not None
        check_policy(loaded.summary, policy)
        world = EvaluationContext(epoch=0, height=0, time_ms=0, seed=bytes(32))
        with self._lock, self._guest(policy, world, CHECK_DEADLINE_MS) as guest:
            self._host.storage = GuestStorage()
            try:
                guest.start(loaded.address)
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
            host = self._host
            host.storage = self._storage(job)
            try:
                ending, log = self._run(loaded, job, data), host.lines()
                writes = host.storage.writes() if ending.outcome_class is OutcomeClass.OK else ()
                calls = tuple(sorted(host.calls.items()))
            except Fault:
                raise
            except Exception as error:
                raise Fault(FaultReason.INTERNAL, repr(error)) from error
        return self._outcome(job, data, ending, _Traces(log, writes, calls))

    def _tick(self) -> None:
        while not self._closed.wait(TICK_MS / 1000):
            self._engine.increment_epoch()

    def _loaded(self, artifact: Artifact) -> _Loaded:
        if artifact.engine_id != self.engine_id:
            raise Fault(
                FaultReason.ENGINE_MISMATCH,
                f"an artifact of engine {artifact.engine_id.hex()}, not {self.engine_id.hex()}",
            )
        refusal = None if artifact.refusal is None else artifact.refusal.error()
        if not artifact.code:
            return _Loaded(artifact.summary, None, refusal)
        try:
            compiled = wasmtime.Module.deserialize(self._engine, artifact.code)
            prepared = self._linker.instantiate_pre(compiled)
        except wasmtime.WasmtimeError as error:
            raise Fault(FaultReason.COMPILE, str(error)) from error
        return _Loaded(artifact.summary, prepared, refusal, native.address(prepared.ptr()))

    def _storage(self, job: EvaluationJob) -> GuestStorage:
        data = {}
        for blob in job.policy.data:
            body = self._blobs.get(blob.digest)
            if body is None:
                raise Fault(FaultReason.MODULE_MISSING, f"data blob {blob.digest.hex()}")
            self._blobs.move_to_end(blob.digest)
            data[blob.key] = body
        snapshot = {entry.key: entry.value for entry in job.storage}
        if len(data) != len(job.policy.data) or len(snapshot) != len(job.storage):
            raise Fault(FaultReason.BAD_JOB, "two data blobs or storage entries of one key")
        return GuestStorage(job.policy.storage_bytes, data, snapshot)

    def _guest(self, policy: RuntimePolicy, world: EvaluationContext, deadline_ms: int) -> Guest:
        # one tick more: the first may come at once
        ticks = math.ceil(deadline_ms / TICK_MS) + 1
        return Guest(self._frame, self._engine_address, self._host, policy, world, ticks)

    def _run(self, loaded: _Loaded, job: EvaluationJob, data: bytes) -> _Ending:
        self._host.reset()
        try:
            if loaded.refusal is not None:
                raise loaded.refusal
            assert loaded.summary is not None
            check_policy(loaded.summary, job.policy)
        except AdmissionError as error:
            return _Ending(_refusal_class(error), str(error))
        with self._guest(job.policy, job.context, job.deadline_ms) as guest:
            try:
                guest.start(loaded.address)
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
        self, job: EvaluationJob, data: bytes, ending: _Ending, traces: _Traces
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
                writes_hash=writes_hash(traces.writes),
            ),
            log=traces.log,
            writes=traces.writes,
            host_calls=traces.calls,
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
