"""Running a module's tests against each of its mutants, in forks of one warm process.

pytest collects once. Before any mutant the tests run unchanged, which must succeed and tells how
long each takes: the quickest come first, and the one that killed the last mutant before them.
A mutant may use five times the processor time of that run and ten seconds more; one that goes on is
*timed out*, which counts as killed: a test would never have ended. Time on the wall is limited too,
but far off, because a busy machine proves nothing.
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
        took: list[tuple[float, pytest.Item]] = []
        status, failed, cpu_s = _forked(None, items, 600, 1200, took)
        if status != 0:
            job.failure = f"{failed or 'a test'} fails without a mutant"
            return
        items = [item for _, item in sorted(took, key=lambda one: one[0])]
        limit_s = 10 + int(5 * cpu_s)
        by_id = {item.nodeid: item for item in items}
        for mutant in job.mutants:
            status, failed, _ = _forked(mutant, items, limit_s, 60 + 10 * limit_s)
            if status == _BROKEN:
                raise RuntimeError(f"could not apply {mutant}")
            job.ends[mutant] = (
                SURVIVED if status == 0 else KILLED if failed or status == 1 else TIMED_OUT
            )
            if failed in by_id:  # it may well kill the next one
                items = [by_id[failed], *(item for item in items if item.nodeid != failed)]
            self.told(mutant, job.ends[mutant])


def _forked(
    mutant: Mutant | None,
    items: list[pytest.Item],
    cpu_s: int,
    wall_s: int,
    took: list[tuple[float, pytest.Item]] | None = None,
) -> tuple[int, str, float]:
    """Run `items` in a fork; return (status, the test that failed, processor seconds).

    The status is 0 if all succeed, and not 0 or 1 if the fork did not end by itself.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_fork(mutant, items, cpu_s, writing)
    os.close(writing)
    heard = _read(reading, time.monotonic() + wall_s)
    if heard is None:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    failed = ""
    for line in (heard or "").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "failed":
            failed = rest
        elif took is not None:
            index, _, seconds = rest.partition(" ")
            took.append((float(seconds), items[int(index)]))
    code = os.waitstatus_to_exitcode(status)
    return code, failed, usage.ru_utime + usage.ru_stime


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


def _in_fork(mutant: Mutant | None, items: list[pytest.Item], cpu_s: int, tell: int) -> None:
    """Never return: exit with 0 if no test fails, else with 1."""
    code = _BROKEN
    with contextlib.suppress(BaseException):
        silence = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if mutant is not None:
            apply(mutant)
        code = 1
        code = _run_items(items, tell)
    sys.stdout.flush()
    os._exit(code)


def _run_items(items: list[pytest.Item], tell: int) -> int:
    for index, item in enumerate(items):
        began = time.process_time()
        following = items[index + 1] if index + 1 < len(items) else None
        reports = runtestprotocol(item, log=False, nextitem=following)
        if any(report.failed for report in reports):
            os.write(tell, f"failed {item.nodeid}\n".encode())
            return 1
        os.write(tell, f"took {index} {time.process_time() - began}\n".encode())
    return 0
