"""Which changes of the owner wait to be ordered, and in which order they go."""

from __future__ import annotations

import pytest

from protocol.actions import MAX_CHANGE_BYTES, RegistryChange
from protocol.codec import digest_of, encode
from protocol.records.batch import Batch
from protocol.records.challenge import DataBlob
from tests.support import OWNER, STRANGER, World, make_challenge, replaced
from validator_node.network.gossip import CheckAnswer
from validator_node.owner.pool import REMEMBERED_REFUSALS, REMEMBERED_SIGNED, WINDOW, RegistryPool
from validator_node.store import Store

GAMMA = make_challenge("gamma")
SAME_VERSION = replaced(make_challenge("alpha"), module_hash=bytes(32))
"""Another module under the version that is active."""


@pytest.fixture
def pool(store: Store) -> RegistryPool:
    return RegistryPool(store)


def take(pool: RegistryPool, *changes: RegistryChange) -> list[CheckAnswer]:
    return [pool.check(encode(change)) for change in changes]


def state(pool: RegistryPool, change: RegistryChange) -> tuple[str, str]:
    return pool.state_of(digest_of(change.content))


def test_the_owners_next_change_is_taken_in_once(world: World, pool: RegistryPool) -> None:
    change = world.change(1, GAMMA)
    assert state(pool, change) == ("unknown", "")
    assert take(pool, change) == [CheckAnswer.ACCEPT]
    assert pool.held() == [change]
    assert pool.next_change([]) == change
    # The same content signed again is another signature, not another change.
    assert take(pool, change, world.change(1, GAMMA)) == [CheckAnswer.IGNORE] * 2
    assert pool.refused == {"duplicate": 2}
    assert state(pool, change) == ("held", "")


def test_what_no_honest_peer_forwards_is_rejected(world: World, pool: RegistryPool) -> None:
    good = world.change(1, GAMMA)
    other_network = World(name="other").change(1, GAMMA)
    forged = [
        replaced(good, signature=bytes(64)),
        replaced(good, signature=STRANGER.sign(b"something else")),
        replaced(good, content=replaced(good.content, challenge=make_challenge("delta"))),
        other_network,
    ]
    assert take(pool, *forged) == [CheckAnswer.REJECT] * len(forged)
    assert pool.check(b"") is CheckAnswer.REJECT
    assert pool.check(encode(good) + b"\0") is CheckAnswer.REJECT
    assert pool.check(bytes(MAX_CHANGE_BYTES + 1)) is CheckAnswer.REJECT
    assert pool.refused == {"bad_signature": 4, "malformed": 2, "too_large": 1}
    assert len(pool) == 0
    assert pool.next_change([]) is None


def test_what_only_this_state_speaks_against_is_ignored(
    world: World, store: Store, pool: RegistryPool
) -> None:
    world.decide(store, world.change(1, GAMMA))
    refused = {
        "not_owner": world.change(2, GAMMA, owner=STRANGER),
        "overtaken": world.change(1, make_challenge("delta")),
        "far_ahead": world.change(2 + WINDOW, GAMMA),
        "version": world.change(2, SAME_VERSION),
        "unknown_challenge": world.change(2, make_challenge("delta", emission=0)),
    }
    for reason, change in refused.items():
        useless = CheckAnswer.USELESS if reason == "not_owner" else CheckAnswer.IGNORE
        assert take(pool, change) == [useless]
        remembered = reason not in {"not_owner", "overtaken", "far_ahead"}
        assert state(pool, change) == (("refused", reason) if remembered else ("unknown", ""))
    assert pool.refused == dict.fromkeys(refused, 1)
    assert len(pool) == 0


def test_one_change_a_sequence_and_a_window_of_sequences(world: World, pool: RegistryPool) -> None:
    """What comes early waits; the first of two with one sequence stays."""
    changes = [world.change(seq, make_challenge(f"c{seq}")) for seq in range(1, WINDOW + 2)]
    answers = take(pool, *reversed(changes))
    assert answers == [CheckAnswer.IGNORE] + [CheckAnswer.ACCEPT] * WINDOW
    assert pool.held() == changes[:WINDOW]
    second = world.change(2, make_challenge("another"))
    assert take(pool, second) == [CheckAnswer.IGNORE]
    assert state(pool, second) == ("refused", "sequence_taken")
    assert len(pool) == WINDOW


def test_the_owner_can_correct_a_change_that_would_be_a_no_op(
    world: World, pool: RegistryPool
) -> None:
    wrong = world.change(1, SAME_VERSION)
    right = world.change(1, make_challenge("alpha", version=2))
    assert take(pool, wrong, right) == [CheckAnswer.IGNORE, CheckAnswer.ACCEPT]
    assert pool.next_change([]) == right


def test_changes_go_one_after_the_other(world: World, store: Store, pool: RegistryPool) -> None:
    """Each follows what is executed and in flight; a gap stops them."""
    first, second, fourth = (world.change(n, make_challenge(f"c{n}")) for n in (1, 2, 4))
    take(pool, fourth, second, first)
    in_flight: list[Batch] = []
    for change in (first, second):
        assert pool.next_change(in_flight) == change
        in_flight.append(Batch(state_root=bytes(32), actions=(change,)))
    assert pool.next_change(in_flight) is None
    world.decide(store, first)
    pool.on_executed()
    assert pool.held() == [second, fourth]
    assert pool.next_change([]) == second
    world.decide(store, second)
    pool.on_executed()
    assert pool.held() == [fourth]
    assert pool.next_change([]) is None


def test_what_others_have_decided_makes_it_forget(
    world: World, store: Store, pool: RegistryPool
) -> None:
    """A held change that was overtaken, or that is a no-op now, goes."""
    held = world.change(1, GAMMA)
    late = world.change(2, make_challenge("alpha", version=2))
    take(pool, held, late)
    world.decide(store, world.change(1, make_challenge("alpha", version=5)))
    pool.on_executed()
    assert [change.content.sequence for change in pool.held()] == [2]  # a candidate is no hindrance
    world.decide(store, world.change(2, make_challenge("beta", emission=0)))
    pool.on_executed()
    assert len(pool) == 0
    assert state(pool, held) == state(pool, late) == ("unknown", "")


def test_a_new_owner_ends_what_the_old_one_signed(
    world: World, store: Store, pool: RegistryPool
) -> None:
    change = world.change(1, GAMMA)
    take(pool, change)
    metagraph = world.metagraph(1, owner=STRANGER.public_key)
    world.decide(store, *world.agreeing(metagraph))
    for _ in range(world.genesis.parameters.window):
        world.decide(store)
    pool.on_executed()
    assert len(pool) == 0
    assert state(pool, change) == ("refused", "not_owner")
    assert take(pool, world.change(1, GAMMA, owner=STRANGER)) == [CheckAnswer.ACCEPT]


def test_refusals_are_remembered_up_to_a_bound(world: World, pool: RegistryPool) -> None:
    take(pool, world.change(1, GAMMA))
    changes = [
        world.change(1, make_challenge(f"c{number}")) for number in range(REMEMBERED_REFUSALS + 1)
    ]
    take(pool, *changes)
    assert state(pool, changes[0]) == ("unknown", "")
    assert state(pool, changes[1]) == ("refused", "sequence_taken")
    assert len(pool._refusals) == REMEMBERED_REFUSALS
    assert len(pool._signed) == REMEMBERED_SIGNED


def test_what_is_not_signed_leaves_nothing_behind(world: World, pool: RegistryPool) -> None:
    """No stranger tells the owner that a change was refused, nor makes a node try one out."""
    change = world.change(1, make_challenge("delta", emission=0))
    forged = [replaced(change, signature=bytes(64)), world.change(1, GAMMA, owner=STRANGER)]
    assert take(pool, *forged) == [CheckAnswer.REJECT, CheckAnswer.USELESS]
    assert state(pool, change) == ("unknown", "")
    assert (len(pool._refusals), len(pool._signed)) == (0, 0)
    assert take(pool, change) == [CheckAnswer.IGNORE]
    assert state(pool, change) == ("refused", "unknown_challenge")


def test_the_longest_change_is_short_enough(world: World) -> None:
    challenge = replaced(make_challenge("c" * 64, emission=2**32 - 1), version=2**32 - 1)
    policy = replaced(
        challenge.policy,
        host_functions=("f" * 64,) * 16,
        data=tuple(DataBlob(key=bytes([n]) * 64, digest=bytes(32)) for n in range(64)),
        fuel=2**63 - 1,
        max_input_bytes=2**32 - 1,
        max_output_bytes=2**32 - 1,
        max_log_lines=2**32 - 1,
    )
    change = world.change(
        2**63 - 1, replaced(challenge, policy=policy, params=bytes(16_384)), owner=OWNER
    )
    assert len(encode(change)) < MAX_CHANGE_BYTES
