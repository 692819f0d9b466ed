"""Blocks: what gets in, what becomes final, what a reorganisation undoes, who is told."""

from __future__ import annotations

import pytest

from chain.devchain import changes
from chain.devchain.errors import DevChainError, PoolRefusedError
from chain.devchain.extrinsics import parsed
from chain.devchain.ledger import (
    BLOCK_EXTRINSICS,
    KEPT_BLOCKS,
    Finalised,
    Ledger,
    NewHead,
    Notice,
    Watched,
    hexed,
)
from chain.devchain.pool import Waiting
from chain.devchain.scale import blake2_256, compact
from tests.chain.devchain.support import KEYS, events, ledger, signed


def told(notices: list[Notice]) -> list[object]:
    """Return the notices in short: h and f with a number, or an extrinsic's status."""
    short: list[object] = []
    for notice in notices:
        if isinstance(notice, Watched):
            status = notice.status
            short.append(status if isinstance(status, str) else next(iter(status)))
        else:
            letter = "h" if isinstance(notice, NewHead) else "f"
            short.append(f"{letter}{notice.block.number}")
    return short


def remark(chain: Ledger, who: int, nonce: int, text: bytes = b"") -> bytes:
    return signed(chain, who, "remark", module="System", nonce=nonce, remark=text)


def test_a_blocks_hash_is_that_of_its_header():
    chain = ledger()
    chain.jump(3, 1000)
    header = chain.head.header
    preimage = (
        bytes.fromhex(header["parentHash"][2:])
        + compact(int(header["number"], 16))
        + bytes.fromhex(header["stateRoot"][2:])
        + bytes.fromhex(header["extrinsicsRoot"][2:])
        + compact(1)
        + bytes.fromhex(header["digest"]["logs"][0][2:])
    )
    assert blake2_256(preimage) == chain.head.hash
    assert chain.block_of(chain.head.parent_hash) is chain.block(2)
    assert chain.hash_at(0) == chain.genesis.hash


def test_an_extrinsic_is_seen_from_pool_to_finality():
    chain = ledger(finality_lag=2)
    extrinsic, status = chain.submit(signed(chain, 1))
    assert (status, len(chain.pool)) == ("ready", 1)
    assert told(chain.produce(1)) == ["h1", "inBlock"]
    assert told(chain.produce(2)) == ["h2"]
    notices = chain.produce(3)
    assert told(notices) == ["h3", "f1", "finalized"]
    final = {"finalized": hexed(chain.hash_at(1) or b"")}
    assert notices[-1] == Watched(extrinsic.hash, final)
    assert [one["event_id"] for one in events(chain)] == []


def test_an_accounts_extrinsics_go_in_by_nonce_and_wait_for_the_missing_one():
    chain = ledger()
    assert chain.submit(remark(chain, 1, 2))[1] == "future"
    assert chain.submit(remark(chain, 1, 1))[1] == "future"
    assert told(chain.produce(1)) == ["h1", "f1"]
    assert chain.submit(remark(chain, 1, 0))[1] == "ready"
    assert chain.next_nonce(KEYS[1]) == 3
    chain.produce(2)
    assert [one.extrinsic.nonce for one in chain.head.included] == [0, 1, 2]


def test_the_pool_takes_one_for_each_nonce():
    chain = ledger()
    first = remark(chain, 1, 0)
    chain.submit(first)
    with pytest.raises(PoolRefusedError, match="1013"):
        chain.submit(first)
    with pytest.raises(PoolRefusedError, match="1014"):
        chain.submit(remark(chain, 1, 0, b"other"))


def test_a_block_is_full_at_some_point():
    chain = ledger()
    for nonce in range(BLOCK_EXTRINSICS + 1):
        chain.submit(remark(chain, 1, nonce))
    chain.produce(1)
    assert (len(chain.head.included), len(chain.pool)) == (BLOCK_EXTRINSICS, 1)


def test_what_is_no_longer_valid_is_dropped_and_its_sender_told():
    chain = ledger(weights_rate_limit=5)
    chain.submit(signed(chain, 1))
    chain.submit(signed(chain, 1))
    assert told(chain.produce(1)) == ["invalid", "h1", "inBlock", "f1", "finalized"]
    assert len(chain.pool) == 0


def test_one_that_waits_for_a_nonce_too_long_is_dropped_as_well():
    chain = ledger()
    data = signed(chain, 1, "remark", module="System", nonce=1, period=4, remark=b"")
    chain.submit(data)
    chain.jump(3, 0)
    assert len(chain.pool) == 1
    assert "invalid" in told(chain.produce(0))
    assert len(chain.pool) == 0


def test_one_that_was_signed_on_another_fork_is_dropped():
    chain = ledger()
    extrinsic = parsed(signed(chain, 1), chain.codec)
    chain.pool.add(Waiting(extrinsic, birth=0, birth_hash=b"another fork".ljust(32)))
    assert "invalid" in told(chain.produce(0))


def test_a_swallowed_extrinsic_is_never_seen_again():
    chain = ledger()
    chain.knobs.swallow = 1
    assert chain.submit(signed(chain, 1))[1] == "ready"
    assert told(chain.produce(1)) == ["h1", "f1"]
    assert chain.next_nonce(KEYS[1]) == 0


def test_without_finality_only_heads_move():
    chain = ledger()
    chain.knobs.finality_paused = True
    assert told(chain.jump(3, 0)) == ["h3"]
    assert chain.final.number == 0
    chain.knobs.finality_paused = False
    assert told(chain.produce(0)) == ["h4", "f1", "f2", "f3", "f4"]


@pytest.mark.parametrize("lose", [False, True])
def test_a_reorganisation_undoes_blocks_and_what_was_in_them(lose):
    chain = ledger(finality_lag=5)
    chain.jump(2, 0)
    chain.submit(signed(chain, 1))
    chain.produce(0)
    undone = chain.head
    notices = chain.reorganise(1, 0, lose=lose)
    again = [] if lose else ["inBlock"]
    assert told(notices) == ["retracted", *again, "h4"]
    assert chain.block_of(undone.hash) is None
    assert chain.hash_at(undone.number) != undone.hash
    assert chain.head.number == undone.number + 1
    assert bool(chain.head.state.weights_of(1, 0)) is not lose
    assert chain.next_nonce(KEYS[1]) == (0 if lose else 1)


def test_final_blocks_cannot_be_taken_back():
    chain = ledger(finality_lag=2)
    chain.jump(5, 0)
    with pytest.raises(DevChainError, match="3 blocks cannot be taken back: the head is 5 and 3"):
        chain.reorganise(3, 0)


def test_a_reorganisation_undoes_a_change_of_the_subnet():
    chain = ledger(finality_lag=5)
    chain.produce(0, lambda state: changes.with_rule(state, "tempo", 99))
    assert chain.head.state.rules.tempo == 99
    chain.reorganise(1, 0)
    assert chain.head.state.rules.tempo == 10


def test_old_blocks_are_forgotten_and_the_genesis_is_not():
    chain = ledger()
    notices = chain.jump(KEPT_BLOCKS + 10, 0)
    assert told(notices)[0] == f"h{KEPT_BLOCKS + 10}"
    assert chain.block(5) is None
    assert chain.block(0) is chain.genesis
    assert chain.block(11) is not None
    assert len(chain._blocks) == KEPT_BLOCKS + 1
    assert len(chain._numbers) == KEPT_BLOCKS + 1


def test_time_never_goes_back():
    chain = ledger()
    chain.produce(5000)
    chain.produce(1)
    assert chain.head.state.timestamp_ms == 5001


def test_only_the_last_notices_of_a_jump_are_kept():
    chain = ledger()
    chain.submit(signed(chain, 1))
    notices = chain.jump(50, 0)
    assert told(notices) == ["inBlock", "finalized", "h50", "f50"]
    assert isinstance(notices[-1], Finalised)
