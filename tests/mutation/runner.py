"""Running a module's tests against each of its mutants, in forks of one warm process.

pytest collects once. Before any mutant the tests run unchanged, which must succeed and tells how
long each takes: the quickest come first, and the one that killed the last mutant before them.
A test may use five times the processor time that it took there and two seconds more; a mutant that
goes on is *timed out*, which counts as killed: the test would never have ended. Time on the wall is
limited too, but far off, because a busy machine proves nothing.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.changes import Mutant
from tests.mutation.live import apply

MEMORY_BYTES = 6 << 30
SURVIVED, KILLED, TIMED_OUT = "survived", "killed", "timed out"
SPARE_CPU_S = 2
UNKNOWN_CPU_S = 300
"""What a test may use while nobody knows how much it takes."""
WALL_S = 1200
_BROKEN = 3
"""Exit code of a fork that could not apply its mutant."""


@dataclass
class Job:
    """A module's mutants and the files whose tests must notice them."""

    path: str
    tests: list[str]
    mutants: list[Mutant]
    ends: dict[Mutant, str] = field(default_factory=dict)
    failure: str = ""
    """Why the mutants were not run."""


def run(jobs: list[Job], told: Callable[[Mutant, str], None]) -> None:
    """Run every job's mutants and note how each ends; `told` hears of each at once."""
    files = sorted({name for job in jobs for name in job.tests})
    plugin = _Forks(jobs, told)
    options = ["-q", "-s", "-p", "no:cacheprovider", "-m", "not slow"]
    code = pytest.main([*files, *options], plugins=[plugin])
    if code != 0 or not plugin.ran:
        raise RuntimeError(f"pytest could not collect {', '.join(files)}: exit code {code}")


class _Forks:
    def __init__(self, jobs: list[Job], told: Callable[[Mutant, str], None]) -> None:
        self.jobs, self.told, self.ran = jobs, told, False

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        from hypothesis import HealthCheck, Phase, settings  # not before pytest can rewrite it

        # The same examples for every mutant, and nobody waits for a smaller one.
        settings.register_profile(
            "mutation", derandomize=True, database=None, deadline=None, max_examples=50,
            phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True  # something could not be imported
        for job in self.jobs:
            paths = {Path(name).resolve() for name in job.tests}
            items = [item for item in session.items if item.path.resolve() in paths]
            if not items:
                job.failure = f"no tests in {', '.join(job.tests)}"
                continue
            self._run(job, items)
        self.ran = True
        return True

    def _run(self, job: Job, items: list[pytest.Item]) -> None:
        status, failed, took = _forked(None, [(item, UNKNOWN_CPU_S) for item in items])
        if status != 0:
            job.failure = f"{failed or 'a test'} fails without a mutant"
            return
        tests = [(item, SPARE_CPU_S + 5 * took[item.nodeid]) for item in items]
        tests.sort(key=lambda test: test[1])
        for mutant in job.mutants:
            status, failed, _ = _forked(mutant, tests)
            if status == _BROKEN:
                raise RuntimeError(f"could not apply {mutant}")
            job.ends[mutant] = (
                SURVIVED if status == 0 else KILLED if failed or status == 1 else TIMED_OUT
            )
            tests.sort(key=lambda test: test[0].nodeid != failed)  # it may well kill the next one
            self.told(mutant, job.ends[mutant])


Test = tuple[pytest.Item, float]
"""A test, and how many seconds of a processor it may use."""


def _forked(mutant: Mutant | None, tests: list[Test]) -> tuple[int, str, dict[str, float]]:
    """Run tests in a fork; return (status, the test that failed, what the others took).

    The status is 0 if all succeed, and neither 0 nor 1 if the fork did not end by itself.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_fork(mutant, tests, writing)
    os.close(writing)
    heard = _read(reading, time.monotonic() + WALL_S)
    if heard is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    failed, took = "", {}
    for line in (heard or "").splitlines():
        outcome, _, nodeid = line.partition(" ")
        if outcome == "failed":
            failed = nodeid
        else:
            took[nodeid] = float(outcome)
    return os.waitstatus_to_exitcode(status), failed, took


def _read(source: int, deadline: float) -> str | None:
    """Return all that a fork writes, or None if it goes on beyond `deadline`."""
    data = b""
    with os.fdopen(source, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                return None
            part = pipe.read(65536)
            if not part:
                return data.decode()
            data += part


def _in_fork(mutant: Mutant | None, tests: list[Test], tell: int) -> None:
    """Never return: exit with 0 if no test fails, else with 1."""
    code = _BROKEN
    with contextlib.suppress(BaseException):
        silence = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if mutant is not None:
            apply(mutant)
        code = 1
        code = _run_tests(tests, tell)
    sys.stdout.flush()
    os._exit(code)


def _run_tests(tests: list[Test], tell: int) -> int:
    following_of = [item for item, _ in tests[1:]] + [None]
    for (item, cpu_s), following in zip(tests, following_of, strict=True):
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # ends the process when it rings
        reports = runtestprotocol(item, log=False, nextitem=following)
        if any(report.failed for report in reports):
            os.write(tell, f"failed {item.nodeid}\n".encode())
            return 1
        os.write(tell, f"{time.process_time() - began} {item.nodeid}\n".encode())
    return 0
