"""The determinism canary: no challenge is evaluated before its test vectors ended as they must.

Rules:
1. The vectors run on the node's own workers, as submissions do. The first that ends otherwise is
   named. A Fault says nothing about the module: it is tried again, then nothing is reported.
2. At its start a node runs the vectors of the genesis' challenges, and does not start when one
   fails: every verdict it stated could be false.
3. A candidate's module, data and vectors are fetched by hash from the other validators, kept, and
   run; the report is this validator's next statement. The network decides (`registry.lifecycle`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

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
from registry.lifecycle import Decided, candidates
from runtime.errors import Fault
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.pool import WorkerPool
from validator_node.errors import NodeError
from validator_node.modules import Modules

RETRIES = 3
RETRY_AFTER_S = 2.0
FETCH_AGAIN_S = 10.0
MAX_WAITING = 256

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
        self._known: set[bytes] = set()
        self._send, self._receive = trio.open_memory_channel[Challenge](MAX_WAITING)
        self.failed = 0
        """Candidates whose vectors ended otherwise here."""

    async def check_active(self, challenges: tuple[Challenge, ...]) -> None:
        """Run the vectors of installed challenges. Raises `CanaryFailedError` (rule 2)."""
        for challenge in challenges:
            found = await self._run(challenge)
            if found is None:
                raise CanaryFailedError(
                    f"challenge {challenge.challenge_id}: its test vectors could not be run on "
                    "this machine; the log names the fault. Mend it and start again"
                )
            if found.failure:
                raise CanaryFailedError(
                    f"challenge {challenge.challenge_id} version {challenge.version}: test vector "
                    f"{found.failure}. This machine would state false verdicts; install the "
                    "release that the network runs, and check its memory"
                )

    def look(self, view: View, me: int | None) -> None:
        """Queue the state's candidates if this node is validator `me`, and no observer."""
        if me is not None:
            for candidate in candidates(view):
                self.add(candidate.challenge)

    def add(self, challenge: Challenge) -> None:
        """Queue a candidate; the same one again changes nothing."""
        digest = digest_of(challenge)
        if digest in self._known:
            return
        if self._send.statistics().current_buffer_used == MAX_WAITING:
            log.error("candidate not tested, too many wait", challenge=challenge.challenge_id)
            return
        self._send.send_nowait(challenge)
        self._known.add(digest)

    async def run(self) -> None:
        """Test candidates for ever, one after the other."""
        async for challenge in self._receive:
            await self._test(challenge)

    async def _test(self, challenge: Challenge) -> None:
        if not await self._have_all(challenge):
            return
        found = await self._run(challenge)
        if found is None:
            return
        digest = digest_of(challenge)
        self._say(CanaryItem(challenge=digest, results=found.results, failure=found.failure))
        if found.failure:
            self.failed += 1
            log.error("canary failed here", challenge=challenge.challenge_id, vector=found.failure)

    async def _have_all(self, challenge: Challenge) -> bool:
        """Fetch what is missing; False if somebody else must wait for it too long."""
        wanted = [challenge.vectors, challenge.module_hash]
        wanted += [blob.digest for blob in challenge.policy.data]
        for digest in wanted:
            for _ in range(RETRIES):
                if self._modules.get(digest) is not None:
                    break
                content = await self._fetch(digest)
                if content is None:
                    await trio.sleep(FETCH_AGAIN_S)
                else:
                    await trio.to_thread.run_sync(self._modules.put, digest, content)
            if self._modules.get(digest) is None:
                log.error(
                    "candidate not tested, nobody delivers a part of it",
                    challenge=challenge.challenge_id,
                    digest=digest.hex(),
                )
                return False
        return True

    async def _run(self, challenge: Challenge) -> Found | None:
        """Return what the vectors gave, or None after `RETRIES` faults (rule 1)."""
        content = self._modules.get(challenge.vectors)
        try:
            vectors = decode(CanaryVectors, content or b"", limit_bytes=MAX_CANARY_BYTES)
        except ProtocolError as error:
            return Found(ZERO_DIGEST, f"the vectors cannot be read: {error}"[:MAX_FAILURE_CHARS])
        for attempt in range(RETRIES):
            try:
                return await run_vectors(self._pool, challenge, vectors, self._deadline_ms)
            except Fault as fault:
                log.warning("canary fault", challenge=challenge.challenge_id, reason=str(fault))
                await trio.sleep(RETRY_AFTER_S * (attempt + 1))
        return None
