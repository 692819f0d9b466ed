"""The determinism canary: no challenge is evaluated before its test vectors ended as they must.

Rules:
1. The vectors run on the node's own workers, as submissions do, one challenge's after the other's.
   The first that ends otherwise is named. A Fault says nothing about the module: it is tried again.
2. At its start a node runs the vectors of the genesis' challenges, and does not start when one
   fails: every verdict it stated could be false. A fault that does not last is tried again for
   `PATIENCE_S`.
3. Every node fetches the module, data and vectors of each active version by their hashes from the
   validators and keeps them, and runs the vectors once: if they fail, that is logged and counted.
4. A validator does so with each candidate as well; the report is its next statement. The network
   decides (`registry.lifecycle`).
5. Nothing is given up as long as the state names it. Each version has a task of its own, so that a
   part that nobody has holds up no other version; there are at most two versions of a challenge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

import msgspec
import structlog
import trio

from protocol.codec import ZERO_DIGEST, decode, digest_of, sha256
from protocol.errors import ProtocolError
from protocol.identity import ss58_of
from protocol.records.canary import (
    MAX_CANARY_BYTES,
    MAX_FAILURE_CHARS,
    CanaryItem,
    CanaryVector,
    CanaryVectors,
)
from protocol.records.challenge import Challenge
from protocol.view import View
from registry.access import challenges
from registry.lifecycle import Decided, candidates
from runtime.errors import Fault, FaultReason
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.pool import WorkerPool
from validator_node.errors import NodeError
from validator_node.modules import Modules

RETRY_AFTER_S = 2.0
"""After a fault; twice as long after each further one, up to `RETRY_AT_MOST_S`."""
RETRY_AT_MOST_S = 60.0
"""Also after each fault of a compilation, which costs a minute of a processor."""
PATIENCE_S = 120.0
FETCH_AGAIN_S = 10.0

COMPILING = frozenset(
    {
        FaultReason.COMPILE,
        FaultReason.COMPILE_TIMEOUT,
        FaultReason.COMPILE_LIMIT,
        FaultReason.COMPILE_CRASH,
    }
)
LASTING = frozenset({FaultReason.BAD_JOB, FaultReason.ENGINE_MISMATCH, FaultReason.CLOSED})
"""Faults that trying again does not mend."""

log = structlog.get_logger(__name__)

Fetch = Callable[[bytes], Awaitable[bytes | None]]
"""Brings a blob of the network by its hash; None when nobody delivered it."""


class CanaryFailedError(NodeError):
    """A test vector of an active challenge ends otherwise on this machine."""


@dataclass(frozen=True, slots=True)
class Found:
    """What running the vectors gave."""

    results: bytes
    failure: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A version that the state names: active (`proposed_in` is None), or a candidate."""

    challenge: Challenge
    proposed_in: int | None = None

    @property
    def key(self) -> bytes:
        """What tells it from others. The emission of an active version changes nothing here."""
        if self.proposed_in is None:
            return b"active" + _identity(self.challenge)
        return digest_of(self.challenge) + self.proposed_in.to_bytes(8, "big")


def _identity(challenge: Challenge) -> bytes:
    """Return the digest of what evaluations depend on."""
    return digest_of(msgspec.structs.replace(challenge, emission=0, mechanism=0))


def _parts(challenge: Challenge) -> list[bytes]:
    """Return the hashes of everything a version is made of."""
    data = [blob.digest for blob in challenge.policy.data]
    return [challenge.vectors, challenge.module_hash, *data]


def _wait_s(fault: Fault, attempt: int) -> float:
    if fault.reason in COMPILING:
        return RETRY_AT_MOST_S
    return float(min(RETRY_AT_MOST_S, RETRY_AFTER_S * 2 ** min(attempt, 10)))


async def run_vectors(
    pool: WorkerPool, challenge: Challenge, vectors: CanaryVectors, deadline_ms: int
) -> Found:
    """Run all vectors, stopping at the first that fails. Raises `Fault`."""
    hashes = []
    for number, vector in enumerate(vectors.vectors, start=1):
        job = EvaluationJob(
            job_id=number,
            module_hash=challenge.module_hash,
            policy=challenge.policy,
            challenge_id=challenge.challenge_id,
            version=challenge.version,
            params=challenge.params,
            miner=vector.miner,
            submission=vector.submission,
            context=vector.context,
            deadline_ms=deadline_ms,
        )
        outcome = await pool.evaluate(job)
        failure = _failure(vector, outcome)
        if failure:
            return Found(ZERO_DIGEST, failure[:MAX_FAILURE_CHARS])
        hashes.append(outcome.verdict_hash)
    return Found(sha256(*hashes), "")


def _failure(vector: CanaryVector, outcome: Outcome) -> str:
    found = outcome.outcome_class.value
    if found != vector.outcome_class:
        return f"{vector.name}: {found}, expected {vector.outcome_class}"
    if outcome.output != vector.output:
        return (
            f"{vector.name}: output {sha256(outcome.output).hex()[:16]}, expected "
            f"{sha256(vector.output).hex()[:16]}"
        )
    return ""


def log_decision(decided: Decided) -> None:
    """Say what became of a candidate, and name each validator that found something else."""
    challenge = decided.challenge
    told = {"challenge": challenge.challenge_id, "version": challenge.version}
    if decided.reason:
        log.error("challenge version refused", **told, reason=decided.reason)
    else:
        log.info("challenge version active", **told)
    for known in decided.reports:
        if known.failure:
            log.error(
                "canary failed", **told, validator=ss58_of(known.hotkey), vector=known.failure
            )


class CanaryService:
    """Runs test vectors. `say` takes a report into this validator's next statement."""

    def __init__(
        self,
        pool: WorkerPool,
        modules: Modules,
        fetch: Fetch,
        *,
        say: Callable[[CanaryItem], bool],
        deadline_ms: int,
    ) -> None:
        self._pool = pool
        self._modules = modules
        self._fetch = fetch
        self._say = say
        self._deadline_ms = deadline_ms
        self._wanted: dict[bytes, _Wanted] = {}
        self._tasks: set[bytes] = set()
        """Keys of the wanted versions that have a task."""
        self._reported: set[bytes] = set()
        """Keys of the candidates that need no task any more."""
        self._found: dict[bytes, Found] = {}
        """By identity, of the wanted versions and the genesis'."""
        self._from_start: set[bytes] = set()
        self._changed = trio.Event()
        self._turn = trio.Lock()
        self.failed = 0
        """Versions whose vectors ended otherwise here."""

    async def check_active(self, active: tuple[Challenge, ...]) -> None:
        """Run the vectors of installed challenges. Raises `CanaryFailedError` (rule 2)."""
        for challenge in active:
            try:
                found = await self._run_patiently(challenge)
            except Fault as fault:
                raise CanaryFailedError(
                    f"challenge {challenge.challenge_id}: its test vectors could not be run on "
                    f"this machine: {fault}. Mend it and start again"
                ) from fault
            if found.failure:
                raise CanaryFailedError(
                    f"challenge {challenge.challenge_id} version {challenge.version}: test vector "
                    f"{found.failure}. This machine would state false verdicts; install the "
                    "release that the network runs, and check its memory"
                )
            self._found[_identity(challenge)] = found
            self._from_start.add(_identity(challenge))

    async def _run_patiently(self, challenge: Challenge) -> Found:
        """Run the vectors until they have run. Raises `Fault`: one that lasts, or for too long."""
        give_up_at = trio.current_time() + PATIENCE_S
        for attempt in count():
            try:
                return await self._run(challenge)
            except Fault as fault:
                if fault.reason in LASTING or trio.current_time() >= give_up_at:
                    raise
                log.warning("canary fault", challenge=challenge.challenge_id, reason=str(fault))
                await trio.sleep(_wait_s(fault, attempt))
        raise AssertionError("unreachable: count() does not end")

    def look(self, view: View, me: int | None) -> None:
        """Take in which versions the state names; candidates are a validator's (`me`) alone."""
        wanted = [_Wanted(challenge) for challenge in challenges(view)]
        if me is not None:
            wanted += [_Wanted(one.challenge, one.seq) for one in candidates(view)]
        self._wanted = {one.key: one for one in wanted}
        self._reported &= self._wanted.keys()
        kept = self._from_start | {_identity(one.challenge) for one in wanted}
        self._found = {key: found for key, found in self._found.items() if key in kept}
        self._changed.set()

    async def run(self) -> None:
        """Attend to the versions that `look` names, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                for key in self._wanted.keys() - self._tasks - self._reported:
                    self._tasks.add(key)
                    nursery.start_soon(self._attend, self._wanted[key])
                await self._changed.wait()

    async def _attend(self, wanted: _Wanted) -> None:
        """Bring a version's parts, run its vectors and report, unless it is not wanted any more."""
        challenge = wanted.challenge
        attempt = 0
        while wanted.key in self._wanted:
            if not await self._fetch_missing(wanted):
                await trio.sleep(FETCH_AGAIN_S)
                continue
            try:
                found = await self._found_once(challenge)
            except Fault as fault:
                log.warning("canary fault", challenge=challenge.challenge_id, reason=str(fault))
                await trio.sleep(_wait_s(fault, attempt))
                attempt += 1
                continue
            if wanted.proposed_in is None or self._report(wanted, found):
                break
            await trio.sleep(FETCH_AGAIN_S)
        self._tasks.discard(wanted.key)

    def _report(self, wanted: _Wanted, found: Found) -> bool:
        """Say what was found; False if there is no room for it now."""
        if wanted.key not in self._wanted:
            return True
        item = CanaryItem(
            challenge=digest_of(wanted.challenge), results=found.results, failure=found.failure
        )
        if not self._say(item):
            return False
        self._reported.add(wanted.key)
        return True

    async def _found_once(self, challenge: Challenge) -> Found:
        """Run the vectors, once for a version and one version at a time. Raises `Fault`."""
        identity = _identity(challenge)
        async with self._turn:
            if identity in self._found:
                return self._found[identity]
            found = self._found[identity] = await self._run(challenge)
        if found.failure:
            self.failed += 1
            log.error(
                "canary failed here",
                challenge=challenge.challenge_id,
                version=challenge.version,
                vector=found.failure,
            )
        return found

    async def _fetch_missing(self, wanted: _Wanted) -> bool:
        """Fetch and keep what this node has not; False if something is still missing."""
        challenge = wanted.challenge
        missing = 0
        for digest in _parts(challenge):
            if await trio.to_thread.run_sync(self._modules.has, digest):
                continue
            if wanted.key not in self._wanted:
                return False
            content = await self._fetch(digest)
            told = {"challenge": challenge.challenge_id, "digest": digest.hex()}
            if content is None:
                missing += 1
                log.warning("nobody delivers a part of a challenge, asking again", **told)
                continue
            try:
                await trio.to_thread.run_sync(self._modules.put, digest, content)
            except OSError as error:
                missing += 1
                log.error("a part of a challenge cannot be kept", **told, reason=str(error))  # noqa: TRY400
        return not missing

    async def _run(self, challenge: Challenge) -> Found:
        """Return what the vectors gave. Raises `Fault`."""
        content = await trio.to_thread.run_sync(self._modules.get, challenge.vectors)
        if content is None:
            raise Fault(FaultReason.MODULE_MISSING, f"vectors {challenge.vectors.hex()[:16]}")
        try:
            vectors = decode(CanaryVectors, content, limit_bytes=MAX_CANARY_BYTES)
        except ProtocolError as error:
            return Found(ZERO_DIGEST, f"the vectors cannot be read: {error}"[:MAX_FAILURE_CHARS])
        return await run_vectors(self._pool, challenge, vectors, self._deadline_ms)
