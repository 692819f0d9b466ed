from __future__ import annotations

import pytest

from chain.errors import ChainError, ChainErrorCode, Retry
from chain.interface import Block, Metagraph, Neuron

BLOCK = Block(1, bytes(32))
FIRST = Neuron(uid=3, hotkey=b"a" * 32, stake=1, validator_permit=True, last_update=0)
SECOND = Neuron(uid=9, hotkey=b"b" * 32, stake=2, validator_permit=False, last_update=0)


def test_lookups_by_uid_hotkey_and_owner():
    graph = Metagraph(7, BLOCK, (FIRST, SECOND), owner_hotkey=b"b" * 32)
    assert graph.by_uid(3) is FIRST
    assert graph.by_uid(0) is None
    assert graph.by_hotkey(b"b" * 32) is SECOND
    assert graph.by_hotkey(b"c" * 32) is None
    assert graph.owner is SECOND
    assert graph.validators == (FIRST,)
    assert Metagraph(7, BLOCK, (FIRST,)).owner is None
    assert graph == Metagraph(7, BLOCK, (FIRST, SECOND), owner_hotkey=b"b" * 32)


def test_a_uid_or_hotkey_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="occurs twice"):
        Metagraph(7, BLOCK, (FIRST, FIRST))


def test_an_error_carries_its_code_its_message_and_its_class():
    error = ChainError(ChainErrorCode.SETTING_WEIGHTS_TOO_FAST, "wait 3 blocks", wait_blocks=3)
    assert str(error) == "SettingWeightsTooFast: wait 3 blocks"
    assert (error.code.retry, error.wait_blocks) == (Retry.WAIT_BLOCKS, 3)
    assert ChainErrorCode.DUPLICATE_UIDS.retry is Retry.NEVER
    assert ChainErrorCode.UNREACHABLE.retry is Retry.BACK_OFF
