"""The child processes of a test network and what their metrics say."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import trio
from prometheus_client.parser import text_string_to_metric_families

from validator_node.errors import TestnetError
from validator_node.testnet.chain_site import ChainSite
from validator_node.testnet.layout import MinerSite, ValidatorSite

STOP_S = 20.0
METRICS_DEADLINE_S = 2.0

Figures = dict[str, float]
"""Unlabelled metrics by name, without the prefix; labelled ones as `name:label`."""


@dataclass
class Child:
    """One process; `expected_end` is set when the test network itself ends it."""

    name: str
    log: Path
    process: trio.Process
    expected_end: bool = False
    usage: psutil.Process = field(init=False)
    cpu_before_s: float = 0.0
    """What an earlier process of the same validator had used when it was killed."""
    last_cpu_s: float = 0.0
    last_rss_mb: float = 0.0

    def __post_init__(self) -> None:
        self.usage = psutil.Process(self.process.pid)

    def sample(self) -> None:
        """Note the CPU seconds (workers included) and the node's resident memory in MB."""
        try:
            total = self.cpu_before_s
            for process in [self.usage, *self.usage.children(recursive=True)]:
                times = process.cpu_times()
                total += times.user + times.system
            self.last_cpu_s = total
            self.last_rss_mb = round(self.usage.memory_info().rss / 1e6, 1)
        except psutil.NoSuchProcess:
            return  # it ended between two looks; the last sample stands


async def _start(name: str, log: Path, arguments: list[str], prefix: tuple[str, ...] = ()) -> Child:
    with log.with_suffix(".out").open("ab") as output:
        process = await trio.lowlevel.open_process(
            [*prefix, sys.executable, "-m", "validator_node", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Child(name, log, process)


async def start_validator(site: ValidatorSite) -> Child:
    """Start a validator's process."""
    arguments = ["run", "--config", str(site.config), "--log-file", str(site.log)]
    return await _start(f"validator {site.index}", site.log, arguments, site.prefix)


async def start_chain(site: ChainSite) -> Child:
    """Start the development chain."""
    return await _start("devchain", site.log, site.arguments)


async def start_miner(site: MinerSite) -> Child:
    """Start a miner's process."""
    arguments = ["mine", "--config", str(site.config), "--log-file", str(site.log)]
    return await _start(f"miner {site.index}", site.log, arguments)


async def stop(child: Child) -> bool:
    """End a process with SIGTERM, with SIGKILL after `STOP_S`; return whether SIGTERM did."""
    child.expected_end = True
    obeyed = True
    if child.process.poll() is None:
        child.process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_S):
            await child.process.wait()
        obeyed = child.process.poll() is not None
    await kill(child)
    return obeyed


async def kill(child: Child) -> None:
    """End a process and its workers at once."""
    child.expected_end = True
    if child.process.poll() is None:
        child.process.kill()
        await child.process.wait()


def last_line(child: Child) -> str:
    """Return the last line a process printed, to say why it died."""
    try:
        lines = child.log.with_suffix(".out").read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    # the frame around a group of errors ends with a line without words
    return next((line.strip(" |+-") for line in reversed(lines) if line.strip(" |+-")), "")


def check_alive(children: list[Child]) -> None:
    """Raise `TestnetError` if a child has ended that nobody ended."""
    for child in children:
        code = child.process.poll()
        if code is not None and not child.expected_end:
            raise TestnetError(
                f"{child.name} ended with code {code}: {last_line(child) or 'no output'} "
                f"(log: {child.log})"
            )


async def figures(client: httpx.AsyncClient, site: ValidatorSite) -> Figures | None:
    """Return a validator's metrics, or None while it does not answer."""
    host = f"[{site.metrics_host}]" if ":" in site.metrics_host else site.metrics_host
    try:
        answer = await client.get(
            f"http://{host}:{site.metrics_port}/metrics", timeout=METRICS_DEADLINE_S
        )
    except httpx.HTTPError:
        return None
    found: Figures = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            name = sample.name.removeprefix("validator_").removesuffix("_total")
            label = ":".join(sample.labels.values())
            found[f"{name}:{label}" if label else name] = sample.value
    return found
