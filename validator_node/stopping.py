"""Which signals end a process of ours in good order.

SIGINT and SIGTERM do, and SIGHUP, which a lost terminal sends: a node that is started by hand over
ssh closes its files when the line breaks. A process that was started with SIGHUP ignored, as by
`nohup`, goes on ignoring it. The node rotates its log files by itself, so there is nothing to
reopen on SIGHUP.
"""

from __future__ import annotations

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals to wait for; ask before a handler is set."""
    found = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return tuple(found)
