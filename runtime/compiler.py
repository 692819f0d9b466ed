"""Compiling out of the node's way: a short-lived child for each module, and a cache of artifacts.

Rules:
1. The node and its workers never compile. A child does, under limits of CPU time and memory
   (`runtime.compile_child`), and is killed at a wall-clock deadline.
2. How a compilation fails says something about this machine, never about the module: a `Fault` with
   its own reason. Admission keeps out what takes too long; what fails all the same is a bug to be
   looked at, and becomes no score.
3. One compilation at a time; whoever wants the same module waits for the same child. A caller that
   is cancelled kills the child it started, and the next in line starts over.
4. A failure is remembered for `RETRY_AFTER_S`, so that a module that cannot be compiled costs the
   node one child a minute, not one an evaluation.
5. Modules are bounded by admission, artifacts by `MAX_ARTIFACT_BYTES`, the cache by its own rule.
"""

from __future__ import annotations

import signal
import subprocess
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import trio

from protocol.codec import decode, sha256
from protocol.errors import ProtocolError
from runtime import children
from runtime.artifact import MAX_ARTIFACT_BYTES, Artifact
from runtime.artifact_cache import ArtifactCache
from runtime.compile_child import EXIT_NO_MEMORY, Built, Result
from runtime.errors import Fault, FaultReason

RETRY_AFTER_S = 60.0
MAX_FAILURES = 256
MAX_UNSTORED = 4
"""Artifacts kept in memory because the disk did not take them."""
READ_BYTES = 1024 * 1024
_RESULT_OVERHEAD = 64
_LIMIT_SIGNALS = {signal.SIGXCPU, signal.SIGKILL, signal.SIGABRT}
"""SIGKILL is the hard CPU limit or the kernel's memory killer; SIGABRT is what the engine does when
it gets no memory."""

ModuleSource = Callable[[bytes], bytes | None]
"""Returns a module's bytes by hash, None when the node does not have it; must not block long."""


@dataclass(frozen=True)
class CompileLimits:
    """What one child may use. The worst admissible modules found take 20 CPU-s and 1 GB."""

    cpu_s: int = 60
    memory_bytes: int = 3 * 1024**3
    """Address space."""
    wall_s: float = 180.0


class Compiler:
    """Artifacts by module hash, from the cache or made by a child."""

    def __init__(
        self,
        cache: ArtifactCache,
        engine_id: bytes,
        module_source: ModuleSource,
        *,
        limits: CompileLimits | None = None,
    ) -> None:
        """Compile for the engine `engine_id`, which must be the cache's."""
        self.cache = cache
        self._engine_id = engine_id
        self._module_source = module_source
        self._limits = limits or CompileLimits()
        self._one_child = trio.CapacityLimiter(1)
        self._under_way: dict[bytes, trio.Event] = {}
        self._failures: OrderedDict[bytes, tuple[float, Fault]] = OrderedDict()
        self._unstored: OrderedDict[bytes, Artifact] = OrderedDict()
        self.compiled = 0
        """Modules compiled by a child."""
        self.compile_ms = 0.0
        """Wall-clock time the last one took."""
        self.faults: Counter[FaultReason] = Counter()

    def is_ready(self, module_hash: bytes) -> bool:
        """Whether a worker could have the module without a compilation."""
        return module_hash in self.cache or module_hash in self._unstored

    async def prepare(self, module_hash: bytes) -> None:
        """Have the module compiled before a worker needs it. Raises `Fault`."""
        if not self.is_ready(module_hash):
            await self.artifact(module_hash)

    async def artifact(self, module_hash: bytes) -> Artifact:
        """Return a module's artifact, checked, compiling it if it must be. Raises `Fault`."""
        while True:
            found = await trio.to_thread.run_sync(self.cache.get, module_hash)
            found = found or self._unstored.get(module_hash)
            if found is not None:
                return found
            self._raise_known_failure(module_hash)
            others = self._under_way.get(module_hash)
            if others is None:
                return await self._make(module_hash)
            await others.wait()

    def _raise_known_failure(self, module_hash: bytes) -> None:
        known = self._failures.get(module_hash)
        if known is None:
            return
        until, fault = known
        if trio.current_time() < until:
            raise Fault(fault.reason, fault.detail)
        del self._failures[module_hash]

    async def _make(self, module_hash: bytes) -> Artifact:
        """Compile, store and return an artifact. Raises `Fault`."""
        module = self._module(module_hash)
        finished = self._under_way[module_hash] = trio.Event()
        try:
            async with self._one_child:
                artifact = await self._compile(module_hash, module)
            if not await trio.to_thread.run_sync(self.cache.put, artifact):
                self._unstored[module_hash] = artifact
                while len(self._unstored) > MAX_UNSTORED:
                    self._unstored.popitem(last=False)
        except Fault as fault:
            self.faults[fault.reason] += 1
            self._failures[module_hash] = (trio.current_time() + RETRY_AFTER_S, fault)
            while len(self._failures) > MAX_FAILURES:
                self._failures.popitem(last=False)
            raise
        finally:
            del self._under_way[module_hash]
            finished.set()
        return artifact

    def _module(self, module_hash: bytes) -> bytes:
        try:
            module = self._module_source(module_hash)
        except Exception as error:
            raise Fault(FaultReason.INTERNAL, f"module source: {error!r}") from error
        if module is None:
            raise Fault(FaultReason.MODULE_MISSING, module_hash.hex())
        if sha256(module) != module_hash:
            detail = f"{module_hash.hex()}: bytes of another hash"
            raise Fault(FaultReason.MODULE_MISSING, detail)
        return module

    async def _compile(self, module_hash: bytes, module: bytes) -> Artifact:
        started = trio.current_time()
        result = await self._run_child(module)
        if not isinstance(result, Built):
            raise Fault(FaultReason.COMPILE, result.detail)
        artifact = result.artifact
        if artifact.engine_id != self._engine_id:
            raise Fault(
                FaultReason.ENGINE_MISMATCH,
                f"the compiler runs {artifact.engine_id.hex()}, expected {self._engine_id.hex()}",
            )
        if artifact.module_hash != module_hash:
            raise Fault(FaultReason.COMPILE_CRASH, "an artifact of another module")
        self.compiled += 1
        self.compile_ms = (trio.current_time() - started) * 1000
        return artifact

    async def _run_child(self, module: bytes) -> Result:
        """Return what the child says. Raises `Fault`; the child is gone in any case."""
        limits = self._limits
        output = bytearray()
        try:
            process = await trio.lowlevel.open_process(
                list(
                    children.command(
                        "runtime.compile_child", str(limits.cpu_s), str(limits.memory_bytes)
                    )
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=children.environment(),
            )
        except OSError as error:
            raise Fault(FaultReason.COMPILE_CRASH, f"no compiling process: {error}") from error
        try:
            with trio.fail_after(limits.wall_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_feed, process, module)
                    await _collect(process, output)
                    if len(output) > MAX_ARTIFACT_BYTES:
                        process.kill()
                    code = await process.wait()
        except trio.TooSlowError:
            raise Fault(FaultReason.COMPILE_TIMEOUT, f"more than {limits.wall_s:g} s") from None
        finally:
            await _end(process)
        if len(output) > MAX_ARTIFACT_BYTES:
            detail = f"an artifact of more than {MAX_ARTIFACT_BYTES} bytes"
            raise Fault(FaultReason.COMPILE_LIMIT, detail)
        return await trio.to_thread.run_sync(_judge, code, bytes(output), limits)


async def _feed(process: trio.Process, module: bytes) -> None:
    assert process.stdin is not None
    try:
        async with process.stdin:
            await process.stdin.send_all(module)
    except trio.BrokenResourceError:
        return  # the child died; its exit code says why


async def _collect(process: trio.Process, output: bytearray) -> None:
    assert process.stdout is not None
    while len(output) <= MAX_ARTIFACT_BYTES:
        part = await process.stdout.receive_some(READ_BYTES)
        if not part:
            return
        output += part


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        process.kill()
        await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()


def _judge(code: int, output: bytes, limits: CompileLimits) -> Result:
    if code == EXIT_NO_MEMORY or -code in _LIMIT_SIGNALS:
        ending = "no memory" if code == EXIT_NO_MEMORY else signal.Signals(-code).name
        raise Fault(
            FaultReason.COMPILE_LIMIT,
            f"{ending} under {limits.cpu_s} CPU-s and {limits.memory_bytes} bytes",
        )
    if code != 0:
        raise Fault(FaultReason.COMPILE_CRASH, f"the compiling process ended with {code}")
    try:
        result: Result = decode(Result, output, limit_bytes=MAX_ARTIFACT_BYTES + _RESULT_OVERHEAD)
    except ProtocolError as error:
        raise Fault(FaultReason.COMPILE_CRASH, f"nonsense from the compiler: {error}") from error
    return result
