"""The compiling process, for one module: `python -m runtime.compile_child CPU_S MEMORY_BYTES`.

Rules:
1. It limits itself before it reads a byte of the module: CPU time, address space, no core, and no
   file at all (stdout is a pipe). What breaks a limit dies by the kernel's hand or by an abort.
2. It is polite: a compilation never takes the processor from consensus.
3. On stdout comes one `Result`, and nothing else; the exit code is 0 only then.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

from protocol.codec import Record, encode
from runtime.artifact import Artifact, build
from runtime.component_admission import is_component
from runtime.component_artifact import build_component
from runtime.engine import engine_id, new_component_engine, new_engine
from runtime.errors import Fault

EXIT_NO_MEMORY = 71
NICENESS = 5
MAX_DETAIL_CHARS = 2_000


class Built(Record, tag="built"):
    """The module is compiled, or refused for good."""

    artifact: Artifact


class Unbuilt(Record, tag="unbuilt"):
    """The engine failed on a module that it calls valid."""

    detail: str


Result = Built | Unbuilt


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    resource.setrlimit(kind, (soft, soft if hard is None else hard))


def _build(module: bytes) -> Artifact:
    if is_component(module):
        return build_component(new_component_engine(), engine_id(), module)
    return build(new_engine(compiles_only=True), engine_id(), module)


def main(arguments: list[str]) -> int:
    """Compile stdin to stdout; return the exit code."""
    cpu_s, memory_bytes = (int(argument) for argument in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    # the soft limit is SIGXCPU; the hard one, a second later, SIGKILL
    _limit(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _limit(resource.RLIMIT_AS, memory_bytes)
    module = sys.stdin.buffer.read()
    result: Result
    try:
        result = Built(artifact=_build(module))
    except Fault as fault:
        result = Unbuilt(detail=fault.detail[:MAX_DETAIL_CHARS])
    except MemoryError:
        return EXIT_NO_MEMORY
    sys.stdout.buffer.write(encode(result))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
