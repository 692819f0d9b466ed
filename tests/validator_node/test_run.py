from __future__ import annotations

from validator_node.errors import ResyncNeeded
from validator_node.run import leaf


def test_the_reason_of_a_restart_is_inside_all_groups() -> None:
    reason = ResyncNeeded(9)
    assert leaf(ExceptionGroup("outer", [ExceptionGroup("inner", [reason])])) is reason
    assert leaf(reason) is reason
