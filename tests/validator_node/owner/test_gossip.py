"""Changes of the owner over real gossip: forwarded once, repeated where they are news."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from protocol.codec import encode
from tests.support import STRANGER, make_challenge, replaced
from tests.validator_node.network.support import nodes, until
from tests.validator_node.owner.sites import sites
from validator_node.network.gossip import CheckAnswer
from validator_node.owner import gossip
from validator_node.owner.gossip import MAX_HOLDERS

WAIT_S = 20
GAMMA = make_challenge("gamma")


async def test_a_change_reaches_every_node_and_a_forged_one_is_charged(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (one, other), nodes(1, first=9) as (owner,):
        with trio.fail_after(WAIT_S):
            owner.add_bootstrap(one.network.addresses[0])
            await owner.wait_subscriber(one.gossip.topic)
            change = one.world.change(1, GAMMA)
            forged = replaced(change, signature=bytes(64))
            foreign = one.world.change(1, GAMMA, owner=STRANGER)
            for sent in (forged, foreign, change):
                await owner.publish(one.gossip.topic, encode(sent))
            await one.until_held(1)
            await other.until_held(1)
            # Both learn who published it, and may ask there for its parts until it is decided.
            await until(lambda: all(owner.peer_id in s.gossip.holders() for s in (one, other)))
        assert one.pool.refused == {"bad_signature": 1, "not_owner": 1}
        assert other.pool.refused == {}
        assert one.network.score(owner.peer_id) > 0
        assert other.network.score(one.network.peer_id) == 0
        assert one.gossip.holders() == [owner.peer_id]
        for site in (one, other):
            assert site.decide().catalogue_changed
            assert site.gossip.holders()
            assert len(site.report(GAMMA).decided) == 1
            assert not site.gossip.holders()


async def test_a_node_that_was_away_gets_it_from_who_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip, "REPEAT_S", 0.1)
    async with sites(tmp_path, 2) as (holder, late):
        change = holder.world.change(1, GAMMA)
        holder.pool.check(encode(change))
        with trio.fail_after(WAIT_S):
            await late.until_held(1)
        assert late.pool.held() == [change]
        late.decide()
        holder.decide()
        assert not late.pool.held()
        assert late.network.score(holder.network.peer_id) == 0


async def test_who_may_have_the_parts_is_bounded(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (site,):
        data = encode(site.world.change(1, GAMMA))
        assert site.gossip.check("peer 0", data) is CheckAnswer.ACCEPT
        for number in range(1, 2 * MAX_HOLDERS):
            assert site.gossip.check(f"peer {number}", data) is CheckAnswer.IGNORE
        newest = {f"peer {n}" for n in range(MAX_HOLDERS, 2 * MAX_HOLDERS)}
        assert set(site.gossip.holders()) == newest
        site.decide()
        # A change that is committed still tells who has the parts of the candidate.
        assert site.gossip.check("the owner again", data) is CheckAnswer.IGNORE
        assert "the owner again" in site.gossip.holders()
        assert len(site.gossip.holders()) == MAX_HOLDERS
        site.report(GAMMA)
        assert site.gossip.check("peer 1", data) is CheckAnswer.IGNORE
        assert not site.gossip.holders()


async def test_nobody_is_asked_for_parts_who_brought_what_is_not_signed(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (site,):
        change = site.world.change(1, GAMMA)
        assert site.gossip.check("the owner", encode(change)) is CheckAnswer.ACCEPT
        site.decide()
        forged = replaced(change, signature=bytes(64))
        foreign = replaced(change, owner=STRANGER.public_key)
        assert site.gossip.check("a stranger", encode(forged)) is CheckAnswer.REJECT
        assert site.gossip.check("another", encode(foreign)) is CheckAnswer.USELESS
        assert site.gossip.holders() == ["the owner"]
