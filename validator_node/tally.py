"""The tally: what became of the submissions, counted for the metrics."""

from __future__ import annotations

from protocol.records.result import Copy, Disputed, Result


class Tally:
    """Counts since the node started; `pending` are those admitted and not ended."""

    def __init__(self, pending: int) -> None:
        self.pending = pending
        self.settled = self.disputed = self.copies = 0
        self.results_epoch = -1
        """Newest epoch with a settled result, -1 for none."""

    def on_executed(self, admitted: int, results: list[Result]) -> None:
        """Count what one batch admitted and ended."""
        self.pending += admitted
        for result in results:
            if isinstance(result.basis, Copy):
                self.copies += 1  # never pending
                continue
            self.pending -= 1
            if isinstance(result.basis, Disputed):
                self.disputed += 1
            else:
                self.settled += 1
                self.results_epoch = max(self.results_epoch, result.epoch)
