"""The ways to run one module on one input, each a fresh instance from input bytes to output bytes.

Every way says what it answers, so that only equal work is compared. Durations are in nanoseconds.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import trio
import wasmtime

from challenges.bench_host import UnmeteredHost
from runtime import native
from runtime.evaluator import Evaluator
from runtime.host_functions import HostFunctions
from runtime.job import guest_input
from runtime.pool import WorkerPool
from tests.benchmarks.evaluation_subjects import Subject

SCRIPT = Path(__file__).with_name("evaluation_v8.mjs")
V8_ANSWERS_S = 60.0
IN_LINE = 6
SLICE_S = 0.05


def timed(seconds: float, work: Callable[[], object]) -> list[int]:
    """Return how long each call of `work` took, for about `seconds`."""
    took: list[int] = []
    now = time.perf_counter_ns()
    end = now + int(seconds * 1e9)
    while now < end or not took:
        work()
        then, now = now, time.perf_counter_ns()
        took.append(now - then)
    return took


async def timed_in_pool(seconds: float, pool: WorkerPool, subject: Subject) -> list[int]:
    """Return how long each evaluation through a worker took."""
    took: list[int] = []
    now = time.perf_counter_ns()
    end = now + int(seconds * 1e9)
    while now < end or not took:
        await pool.evaluate(subject.job)
        then, now = now, time.perf_counter_ns()
        took.append(now - then)
    return took


async def timed_in_line(seconds: float, pool: WorkerPool, subject: Subject) -> list[int]:
    """Return what each evaluation took on average while `IN_LINE` were always asked for."""
    took: list[int] = []
    while seconds > 0 or not took:
        began = time.perf_counter_ns()
        done = await _burst(pool, subject, began + int(SLICE_S * 1e9))
        span = time.perf_counter_ns() - began
        took.append(span // done)
        seconds -= span / 1e9
    return took


async def _burst(pool: WorkerPool, subject: Subject, end: int) -> int:
    done = 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter_ns() < end or not done:
            await pool.evaluate(subject.job)
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(IN_LINE):
            nursery.start_soon(client)
    return done


class InProcess:
    """The sandbox, in this process."""

    def __init__(self, subject: Subject) -> None:
        self._evaluator = Evaluator()
        self._job = subject.job
        for blob in subject.blobs:
            self._evaluator.load_blob(blob)
        if subject.artifact is not None:
            self._evaluator.load_artifact(subject.artifact)
        self._evaluator.load(subject.module)

    def answer(self) -> bytes:
        """Return the output. Raises `Fault`."""
        return self._evaluator.evaluate(self._job).output

    def measure(self, seconds: float) -> list[int]:
        """Return durations."""
        return timed(seconds, self.answer)

    def close(self) -> None:
        """Stop the sandbox."""
        self._evaluator.close()


class Public:
    """Plain wasmtime through the classes of wasmtime-py: no fuel, no limits, default code."""

    def __init__(self, subject: Subject) -> None:
        self._host = UnmeteredHost(subject.module)
        self._data = guest_input(subject.job)
        self._context = subject.job.context

    def answer(self) -> bytes:
        """Return the output."""
        return self._host.evaluate(self._data, self._context)

    def measure(self, seconds: float) -> list[int]:
        """Return durations."""
        return timed(seconds, self.answer)

    def close(self) -> None:
        """Nothing is held open."""


class _FreeOfCharge(HostFunctions):
    """The host functions without fuel: the engine here counts none."""

    def _take(self, cost: int) -> None:
        """Take nothing."""


class Raw:
    """Plain wasmtime through the same few C functions as the sandbox, but unmetered."""

    def __init__(self, subject: Subject) -> None:
        self._job = subject.job
        self._data = guest_input(subject.job)
        self._engine = wasmtime.Engine()
        self._host = _FreeOfCharge()
        linker = wasmtime.Linker(self._engine)
        self._host.define(linker)
        self._linker = linker
        self._prepared = linker.instantiate_pre(wasmtime.Module(self._engine, subject.module))
        self._engine_at = native.address(self._engine.ptr())
        self._prepared_at = native.address(self._prepared.ptr())

    def answer(self) -> bytes:
        """Return the output."""
        store = native.store_new(self._engine_at, None, None)
        try:
            return self._converse(native.store_context(store))
        finally:
            native.store_delete(store)

    def _converse(self, context: int) -> bytes:
        instance, trap = (ctypes.c_uint64 * 2)(), ctypes.c_void_p()
        exports = ctypes.create_string_buffer(native.EXTERN_BYTES * 3)
        values = (ctypes.c_uint64 * (2 * native.WORDS_PER_VALUE))()
        self._host.begin(context, self._job.policy, self._job.context)
        native.instantiate(self._prepared_at, context, ctypes.byref(instance), ctypes.byref(trap))
        places = []
        for number, name in enumerate((b"alloc", b"evaluate", b"memory")):
            at = ctypes.addressof(exports) + number * native.EXTERN_BYTES
            native.instance_export(context, ctypes.byref(instance), name, len(name), at)
            places.append(at + native.EXTERN_OFFSET)

        def call(function: int, first: int, second: int) -> int:
            values[0], values[native.WORDS_PER_VALUE] = first, second
            native.call(context, function, values, 2, ctypes.byref(trap))
            assert not trap.value
            return int(values[0])

        pointer = call(places[0], len(self._data), 0) & 0xFFFF_FFFF
        ctypes.memmove(
            native.memory_data(context, places[2]) + pointer, self._data, len(self._data)
        )
        packed = call(places[1], pointer, len(self._data))
        base = native.memory_data(context, places[2])
        return ctypes.string_at(base + (packed & 0xFFFF_FFFF), packed >> 32)

    def measure(self, seconds: float) -> list[int]:
        """Return durations."""
        return timed(seconds, self.answer)

    def close(self) -> None:
        """Nothing is held open."""


class V8:
    """Node's V8 in a process of its own, which measures itself; `missing` says if it is not here.

    The module has been running for a while before it is measured, so the code is V8's best.
    """

    missing = "" if shutil.which("node") else "V8 is left out: no node on this machine"

    def __init__(self, subject: Subject) -> None:
        self._process = subprocess.Popen(
            [shutil.which("node") or "node", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        context = subject.job.context
        self._ask(
            module=subject.module.hex(),
            input=guest_input(subject.job).hex(),
            seed=context.seed.hex(),
            timeMs=context.time_ms,
        )

    def _ask(self, **question: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"node ended with {self._process.wait(V8_ANSWERS_S)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def answer(self) -> bytes:
        """Return the output."""
        return bytes.fromhex(self._ask(seconds=0)["output"])

    def measure(self, seconds: float) -> list[int]:
        """Return durations."""
        return [int(took) for took in self._ask(seconds=seconds)["took"]]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
