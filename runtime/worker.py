"""The worker process: `python -m runtime.worker`, jobs in on stdin, outcomes out on stdout.

Rules:
1. It ends when stdin closes, and ignores SIGINT: Ctrl-C in a terminal reaches the whole group, but
   the node decides when its workers end.
2. Only frames go to stdout. The descriptor is moved away at the start, so that a stray print lands
   on stderr and cannot break the framing.
3. It fails closed: an exception ctypes could only print (a callback that failed outside its guard)
   ends the process, and the pool makes a fault of it.
4. It imports no trio and does one thing at a time: a small process that starts fast.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections import deque
from typing import BinaryIO

from protocol.errors import DecodeError
from runtime import wire
from runtime.errors import Fault, FaultReason
from runtime.evaluator import Evaluator
from runtime.job import EvaluationJob

EXIT_UNRAISABLE = 70
GARBAGE_OBJECTS = 20_000
"""New objects between two searches for cycles; an evaluation leaves a few dozen."""


class Connection:
    """The framed pipe to the pool."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._lined_up: deque[wire.Run] = deque()

    def receive(self) -> wire.Request | None:
        """Return the next request, None at the end of input."""
        return self._lined_up.popleft() if self._lined_up else self._read()

    def answer(self) -> wire.Request | None:
        """Return the answer to a question of ours; jobs lined up before it wait their turn."""
        while isinstance(found := self._read(), wire.Run):
            self._lined_up.append(found)
        return found

    def _read(self) -> wire.Request | None:
        prefix = self._source.read(wire.LENGTH_BYTES)
        if len(prefix) < wire.LENGTH_BYTES:
            return None
        size = wire.frame_size(prefix)
        payload = self._source.read(size)
        return wire.read_request(payload) if len(payload) == size else None

    def send(self, reply: wire.Reply) -> None:
        """Write one frame at once."""
        self._sink.write(wire.frame(reply))
        self._sink.flush()


def serve(connection: Connection, sandbox: Evaluator) -> None:
    """Answer requests until the input ends."""
    connection.send(wire.Ready(engine_id=sandbox.engine_id))
    while True:
        request = connection.receive()
        if request is None:
            return
        if not isinstance(request, wire.Run):
            raise DecodeError("a module came where a job was expected")
        connection.send(_answer(connection, sandbox, request.job))


def _answer(connection: Connection, sandbox: Evaluator, job: EvaluationJob) -> wire.Reply:
    began = None
    try:
        if job.module_hash not in sandbox:
            _fetch(connection, sandbox, job.module_hash)
        for digest in sandbox.missing_blobs(job):
            _fetch_blob(connection, sandbox, digest)
        began = time.perf_counter_ns()
        outcome = sandbox.evaluate(job)
        return wire.Done(job_id=job.job_id, outcome=outcome, took_us=_since_us(began))
    except Fault as fault:
        return wire.Failed(
            job_id=job.job_id,
            reason=fault.reason,
            detail=fault.detail[: wire.MAX_DETAIL_CHARS],
            took_us=0 if began is None else _since_us(began),
        )


def _since_us(began: int) -> int:
    return (time.perf_counter_ns() - began) // 1_000


def _fetch(connection: Connection, sandbox: Evaluator, module_hash: bytes) -> None:
    connection.send(wire.Need(module_hash=module_hash))
    answer = connection.answer()
    if answer is None:
        raise EOFError("the pool went away instead of sending a module")
    if isinstance(answer, wire.Run | wire.Blob):
        raise DecodeError("something else came where a module was expected")
    if isinstance(answer, wire.Load):
        sandbox.load_artifact(answer.artifact)
        found = answer.artifact.module_hash
    elif answer.body is None:
        raise Fault(FaultReason.MODULE_MISSING, module_hash.hex())
    else:
        found = sandbox.load(answer.body)
    if found != module_hash:
        raise Fault(FaultReason.MODULE_MISSING, f"{module_hash.hex()}: bytes of another hash")
    connection.send(wire.Compiled())


def _fetch_blob(connection: Connection, sandbox: Evaluator, digest: bytes) -> None:
    connection.send(wire.NeedBlob(digest=digest))
    answer = connection.answer()
    if answer is None:
        raise EOFError("the pool went away instead of sending a blob")
    if not isinstance(answer, wire.Blob):
        raise DecodeError("something else came where a blob was expected")
    if answer.body is None or sandbox.load_blob(answer.body) != digest:
        raise Fault(FaultReason.MODULE_MISSING, f"data blob {digest.hex()}")


def _take_pipes() -> Connection:
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Connection(source, sink)


def _work_in_the_background() -> None:
    """Never preempt the node that has just given us a job, and look for garbage seldom."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


def _end(unraisable: sys.UnraisableHookArgs) -> None:
    sys.__unraisablehook__(unraisable)
    os._exit(EXIT_UNRAISABLE)


def main() -> int:
    """Run the worker; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a core would hold submissions
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.unraisablehook = _end
    _work_in_the_background()
    connection = _take_pipes()
    try:
        with Evaluator() as sandbox:
            serve(connection, sandbox)
    except (BrokenPipeError, EOFError):
        return 0  # the node is gone; there is nobody to tell
    return 0


if __name__ == "__main__":
    sys.exit(main())
