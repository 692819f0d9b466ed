"""Why a record was refused."""

from __future__ import annotations

from validator_node.errors import NodeError


class RecordError(NodeError):
    """A record that this node neither keeps nor believes.

    `reason` is a short stable word, the label it is counted by.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
