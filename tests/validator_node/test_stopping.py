"""Which signals end a process in good order."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from validator_node.stopping import stop_signals

PROGRAM = """
import trio
from validator_node.stopping import stop_signals

async def main():
    with trio.open_signal_receiver(*stop_signals()) as signals:
        print("ready", flush=True)
        async for number in signals:
            print("stopped by", number, flush=True)
            break

trio.run(main)
"""


def started(*, ignoring: tuple[signal.Signals, ...] = ()) -> subprocess.Popen[str]:
    """Start the program as a shell does, or as `nohup` does; return it once it listens."""

    def prepare() -> None:
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, preexec_fn=prepare
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name
)
def test_each_of_them_is_an_orderly_end(number: signal.Signals) -> None:
    with started() as process:
        process.send_signal(number)
        assert process.communicate(timeout=60)[0] == f"stopped by {int(number)}\n"
        assert process.returncode == 0


def test_a_process_under_nohup_outlives_its_terminal() -> None:
    with started(ignoring=(signal.SIGHUP,)) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[0] == f"stopped by {int(signal.SIGTERM)}\n"


def test_sighup_is_among_them_unless_it_is_ignored() -> None:
    assert signal.SIGTERM in stop_signals()
    kept = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert signal.SIGHUP in stop_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert signal.SIGHUP not in stop_signals()
    finally:
        signal.signal(signal.SIGHUP, kept)
