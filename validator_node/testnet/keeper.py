"""The keeper: a process beside the runner that holds the proxies, and cleans up if the runner dies.

It reads one JSON command a line from its standard input and answers each with a JSON line. The end
of its input means that the runner has ended, however that came: it then ends the processes it was
told of, removes the run's network namespaces and mounts, and goes.

| command | meaning | answer |
|---|---|---|
| `proxies` | one proxy for each (source, target) to an address | their ports, in order |
| `links` | the conditions of some pairs, both directions of dialling | nothing |
| `wards` | processes to end when the runner is gone, instead of those told before | nothing |
| `counts` | what passed all proxies | `Counts` |
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil
import trio

from validator_node.errors import TestnetError
from validator_node.testnet import leftovers
from validator_node.testnet.proxy import Counts, Proxy
from validator_node.testnet.timeline import Condition, Pair

ANSWER_S = 30.0
MAX_LINE_BYTES = 1_048_576


class Proxies(msgspec.Struct, tag="proxies", frozen=True):
    """Make proxies."""

    targets: list[tuple[int, int, str, int]]
    """(source, target, host, port)"""


class LinksAre(msgspec.Struct, tag="links", frozen=True):
    """Set the conditions of links."""

    conditions: list[tuple[int, int, str, float, int, float]]
    """(first node, second node, mode, delay_ms, rate, loss)"""


class Wards(msgspec.Struct, tag="wards", frozen=True):
    """The processes to end when the runner is gone."""

    processes: list[tuple[int, float]]
    """(process id, its creation time, so that another process with the id is left alone)"""


class Count(msgspec.Struct, tag="counts", frozen=True):
    """Ask what passed."""


class Answer(msgspec.Struct, frozen=True):
    """The answer to any command."""

    ports: list[int] = []
    connections: int = 0
    refused: int = 0
    bytes: int = 0


Command = Proxies | LinksAre | Wards | Count


class _Keeper:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._proxies: dict[tuple[int, int], Proxy] = {}
        self.wards: list[tuple[int, float]] = []

    async def do(self, command: Command) -> Answer:
        if isinstance(command, Proxies):
            ports = []
            for source, target, host, port in command.targets:
                proxy = self._proxies[source, target] = Proxy((host, port))
                ports.append(await proxy.listen())
                self._nursery.start_soon(proxy.run)
            return Answer(ports=ports)
        if isinstance(command, LinksAre):
            for first, second, mode, delay_ms, rate, loss in command.conditions:
                for pair in ((first, second), (second, first)):
                    self._proxies[pair].set(Condition(mode, delay_ms, rate, loss))
        elif isinstance(command, Wards):
            self.wards = command.processes
        counts = [proxy.counts for proxy in self._proxies.values()]
        return Answer(
            connections=sum(entry.connections for entry in counts),
            refused=sum(entry.refused for entry in counts),
            bytes=sum(entry.bytes for entry in counts),
        )


async def _serve(runner_pid: int) -> None:
    source = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    sink = trio.lowlevel.FdStream(os.dup(sys.stdout.fileno()))
    async with trio.open_nursery() as nursery:
        keeper = _Keeper(nursery)
        buffer = bytearray()
        async for data in source:
            buffer += data
            while (end := buffer.find(b"\n")) >= 0:
                command = msgspec.json.decode(bytes(buffer[:end]), type=Command)
                del buffer[: end + 1]
                await sink.send_all(msgspec.json.encode(await keeper.do(command)) + b"\n")
        end_wards(keeper.wards)
        leftovers.remove_run(runner_pid)
        nursery.cancel_scope.cancel()


def end_wards(wards: Iterable[tuple[int, float]]) -> int:
    """Kill the processes that still run, with their children; return how many of them ran."""
    ended = 0
    for pid, created in wards:
        try:
            process = psutil.Process(pid)
            if process.create_time() != created:
                continue
            for child in process.children(recursive=True):
                child.kill()
            process.kill()
            ended += 1
        except psutil.NoSuchProcess:
            continue  # it has ended, as it should
    return ended


class Keeper:
    """The runner's end of the pipe to its keeper."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._lock = trio.Lock()
        self._buffer = bytearray()

    @classmethod
    async def start(cls, log: Path) -> Keeper:
        """Start the keeper's process; its complaints go to `log`."""
        with log.open("ab") as errors:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "validator_node.testnet.keeper", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        return cls(process)

    async def make_proxies(self, targets: list[tuple[int, int, str, int]]) -> list[int]:
        """Make a proxy for each (source, target, host, port); return their ports."""
        return (await self._tell(Proxies(targets))).ports

    async def set_links(self, conditions: Mapping[Pair, Condition]) -> None:
        """Make links so; in effect when this returns."""
        rows = [(a, b, c.mode, c.delay_ms, c.rate, c.loss) for (a, b), c in conditions.items()]
        await self._tell(LinksAre(rows))

    async def watch_over(self, processes: Iterable[psutil.Process]) -> None:
        """Name the processes that must not outlive the runner."""
        await self._tell(Wards([(entry.pid, entry.create_time()) for entry in processes]))

    async def counts(self) -> Counts:
        """Return what passed the proxies."""
        answer = await self._tell(Count())
        return Counts(answer.connections, answer.refused, answer.bytes)

    async def _tell(self, command: Command) -> Answer:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._lock:
            try:
                with trio.fail_after(ANSWER_S):
                    await stdin.send_all(msgspec.json.encode(command) + b"\n")
                    while (end := self._buffer.find(b"\n")) < 0:
                        data = await stdout.receive_some(65_536)
                        if not data or len(self._buffer) > MAX_LINE_BYTES:
                            raise TestnetError(f"the keeper ended with {self.process.poll()}")
                        self._buffer += data
            except (trio.TooSlowError, trio.BrokenResourceError) as error:
                raise TestnetError(
                    "the keeper of the run does not answer: see keeper.log"
                ) from error
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
        return msgspec.json.decode(line, type=Answer)

    async def close(self) -> None:
        """Let the keeper clean up and end."""
        stdin: Any = self.process.stdin
        await stdin.aclose()
        with trio.move_on_after(ANSWER_S):
            await self.process.wait()
        if self.process.poll() is None:
            self.process.kill()
            await self.process.wait()


if __name__ == "__main__":
    trio.run(_serve, int(sys.argv[1]))
