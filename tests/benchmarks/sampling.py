"""A sampling profile of this process by CPU time: SIGPROF every few milliseconds of it.

A sample belongs to the first layer of `LAYERS` that matches a frame, looking from the innermost
frame outwards. Time spent in other threads counts for whatever the main thread did meanwhile.
"""

from __future__ import annotations

import signal
from collections import Counter
from types import FrameType

INTERVAL_S = 0.004
LAYERS: tuple[tuple[str, str, str], ...] = (
    ("verify", "protocol/identity.py", "verify_consensus"),
    ("sign", "protocol/identity.py", "sign"),
    ("codec", "protocol/codec.py", ""),
    ("journal", "storage/journal", ""),
    ("journal", "storage/vow.py", ""),
    ("journal", "validator_node/journal_bridge.py", ""),
    ("store", "storage/database.py", ""),
    ("store", "storage/", ""),
    ("execution", "registry/", ""),
    ("execution", "validator_node/execution.py", ""),
    ("execution", "validator_node/store.py", ""),
    ("batch check", "validator_node/batch_check.py", ""),
    ("load generator", "tests/benchmarks/consensus_node.py", ""),
    ("statement pool", "validator_node/statements.py", ""),
    ("statement pool", "validator_node/batching.py", ""),
    ("transport", "validator_node/network/", ""),
    ("transport", "/libp2p/", ""),
    ("transport", "/noise/", ""),
    ("transport", "trio/_highlevel_socket.py", ""),
    ("transport", "trio/_socket.py", ""),
    ("transport", "tests/benchmarks/tcp_links.py", ""),
    ("engine", "consensus/", ""),
    ("threads", "trio/_threads.py", ""),
    ("outbox, links", "validator_node/outbox.py", ""),
    ("outbox, links", "validator_node/links.py", ""),
    ("driver", "validator_node/consensus_driver.py", ""),
    ("trio scheduler", "trio/_core", ""),
)


def _matches(frame: FrameType, path: str, function: str) -> bool:
    code = frame.f_code
    return path in code.co_filename and function in ("", code.co_name)


class Sampler:
    """Counts where the main thread is."""

    def __init__(self) -> None:
        self.layers: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        """Samples with the function anywhere on the stack."""
        self.innermost: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to sample; call it from the main thread."""
        signal.signal(signal.SIGPROF, self._on_signal)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def stop(self) -> None:
        """Stop sampling."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def report(self, count: int = 40) -> dict[str, list[tuple[str, float]]]:
        """Return the shares of all samples, largest first."""
        total = max(1, self.layers.total())
        counters = {"layer": self.layers, "inclusive": self.functions, "self": self.innermost}
        return {
            name: [(key, n / total) for key, n in counter.most_common(count)]
            for name, counter in counters.items()
        }

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        layer, seen = "", set()
        self.innermost[_name(frame)] += 1
        while frame is not None:
            for name, path, function in LAYERS if not layer else ():
                if _matches(frame, path, function):
                    layer = name
                    break
            seen.add(_name(frame))
            frame = frame.f_back
        self.layers[layer or "other"] += 1
        self.functions.update(seen)


def _name(frame: FrameType | None) -> str:
    if frame is None:
        return "?"
    code = frame.f_code
    return f"{'/'.join(code.co_filename.split('/')[-2:])}:{code.co_qualname}"
