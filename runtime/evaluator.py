"""What a worker runs: both engine profiles behind one face.

Rules:
1. A module's profile is told by its bytes, an artifact's by its record; a job only names a hash.
2. The component profile's engine is made when the first component comes: a network without Python
   challenges pays nothing for it.
3. One evaluation at a time for each profile, as in `runtime.sandbox`.
"""

from __future__ import annotations

from typing import Self

from protocol.codec import sha256
from protocol.records.challenge import RuntimePolicy
from runtime.admission import ModuleSummary
from runtime.artifact import Artifact
from runtime.component_admission import ComponentSummary, is_component
from runtime.component_artifact import build_component
from runtime.component_sandbox import ComponentSandbox
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.sandbox import Sandbox


class Evaluator:
    """Evaluates jobs of either profile. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        """Raise `Fault` (host_memory) where the host's limits could change what a guest sees."""
        self._core = Sandbox()
        self._components: ComponentSandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the epoch tickers and drop compiled code."""
        self._core.close()
        if self._components is not None:
            self._components.close()

    @property
    def engine_id(self) -> bytes:
        """The identity of both profiles' engines."""
        return self._core.engine_id

    def __contains__(self, module_hash: bytes) -> bool:
        return module_hash in self._core or self._has_component(module_hash)

    def load(self, module: bytes) -> bytes:
        """Compile a module in this process unless it is cached; return its SHA-256.

        See `Sandbox.load`; a Python component takes 20 s of CPU. Raises `Fault` (compile).
        """
        if not is_component(module):
            return self._core.load(module)
        module_hash = sha256(module)
        if not self._has_component(module_hash):
            components = self._for_components()
            components.load_artifact(build_component(components.engine, self.engine_id, module))
        return module_hash

    def load_artifact(self, artifact: Artifact) -> None:
        """Take in a module compiled elsewhere. Its machine code is trusted: check its MAC before.

        Raises `Fault`: engine_mismatch for another engine's, compile for code that is none.
        """
        if artifact.profile == "component":
            self._for_components().load_artifact(artifact)
        else:
            self._core.load_artifact(artifact)

    def missing_blobs(self, job: EvaluationJob) -> list[bytes]:
        """Return the digests of the job's data that `load_blob` has still to bring."""
        return [] if self._has_component(job.module_hash) else self._core.missing_blobs(job)

    def load_blob(self, body: bytes) -> bytes:
        """Keep a data blob and return its SHA-256."""
        return self._core.load_blob(body)

    def check(self, module: bytes, policy: RuntimePolicy) -> ModuleSummary | ComponentSummary:
        """Admit a module: every rule, the engine's validator, and its initialisation once.

        Raises `AdmissionError`, or `Fault` when this host cannot tell.
        """
        if is_component(module):
            return self._for_components().check(self.load(module), policy)
        return self._core.check(module, policy)

    def evaluate(self, job: EvaluationJob) -> Outcome:
        """Return the outcome of a job whose module was loaded. Raises `Fault`, nothing else."""
        if self._components is not None and job.module_hash in self._components:
            return self._components.evaluate(job)
        return self._core.evaluate(job)

    def _has_component(self, module_hash: bytes) -> bool:
        return self._components is not None and module_hash in self._components

    def _for_components(self) -> ComponentSandbox:
        if self._components is None:
            self._components = ComponentSandbox(self.engine_id)
        return self._components
