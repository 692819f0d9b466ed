"""The owner's command against nodes in this process: what it shows, serves, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from protocol.actions import RegistryChange
from protocol.codec import sha256
from protocol.identity import Hotkey
from registry.lifecycle import candidates
from tests.makers import make_challenge, replaced
from tests.support import OWNER, STRANGER
from tests.validator_node.network.support import until
from tests.validator_node.owner.sites import Site, sites
from validator_node.blobs import BlobFetcher, over
from validator_node.errors import NodeError
from validator_node.module_fetcher import ModuleFetcher
from validator_node.network.network import open_network
from validator_node.owner import publisher
from validator_node.owner.publisher import (
    ChangePendingError,
    ChangeRefusedError,
    Publisher,
    network_config,
)
from validator_node.owner.release import Release

WAIT_S = 30
MODULE = b"a module"
WANTED = replaced(make_challenge("alpha", version=2), module_hash=sha256(MODULE))
RELEASE = Release(challenge_id="alpha", challenge=WANTED, parts={sha256(MODULE): MODULE})


class Owner:
    """The command, run in a task of its own; `lines` is what it shows."""

    def __init__(
        self, site: Site, nursery: trio.Nursery, key: Hotkey, peers: tuple[str, ...] = ()
    ) -> None:
        self.lines: list[str] = []
        self.error: Exception | None = None
        self.done = trio.Event()
        self._genesis = site.world.genesis
        self._peers = peers or site.network.addresses
        self.nursery = nursery
        self._key = key

    def start(self, release: Release, deadline_s: float = WAIT_S) -> None:
        self.nursery.start_soon(self._run, release, deadline_s)

    async def _run(self, release: Release, deadline_s: float) -> None:
        async with open_network(network_config(self._peers, "127.0.0.1")) as network:
            command = Publisher(network, self._genesis, self._peers, self._key, self.lines.append)
            try:
                await command.publish(release, deadline_s)
            except NodeError as error:
                self.error = error
        self.done.set()

    async def until_shown(self, words: str) -> None:
        await until(lambda: any(words in line for line in self.lines))


@asynccontextmanager
async def owner_of(folder: Path, key: Hotkey = OWNER) -> AsyncIterator[tuple[Site, Owner]]:
    with trio.fail_after(WAIT_S):
        async with sites(folder, 1) as (site,), trio.open_nursery() as nursery:
            yield site, Owner(site, nursery, key)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "POLL_S", 0.05)


async def test_a_version_becomes_active_with_the_parts_that_the_owner_serves(
    tmp_path: Path,
) -> None:
    async with owner_of(tmp_path) as (site, owner):
        owner.start(RELEASE)
        await owner.until_shown("waits to be ordered")
        site.decide()
        await owner.until_shown("committed in slot 1 as a candidate: 0 of 4")
        fetcher = BlobFetcher(over(site.network))
        modules = ModuleFetcher(fetcher, site.gossip.holders)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(modules.run)
            assert await modules.fetch(sha256(MODULE)) == MODULE
            nursery.cancel_scope.cancel()
        site.report(WANTED, signers=3)
        await owner.done.wait()
        assert owner.error is None
        assert owner.lines[0] == "alpha version 2: signed as change 1"
        assert owner.lines[-1] == "version 2 is active with emission 1, by slot 2"


async def test_what_the_network_refuses_is_named(tmp_path: Path) -> None:
    async with owner_of(tmp_path) as (site, owner):
        owner.start(RELEASE)
        await owner.until_shown("waits to be ordered")
        site.decide()
        site.report(WANTED, failure="first: trap, expected ok")
        await owner.done.wait()
        assert isinstance(owner.error, ChangeRefusedError)
        assert "alpha version 2: mismatch: run the vectors" in str(owner.error)
        assert sum("differs: 5" in line for line in owner.lines) == 2


async def test_a_network_that_does_not_decide_ends_the_command(tmp_path: Path) -> None:
    async with owner_of(tmp_path) as (_, owner):
        owner.start(RELEASE, deadline_s=1)
        await owner.done.wait()
        assert isinstance(owner.error, ChangePendingError)
        assert "not decided within 1 s (taken in by the node" in str(owner.error)


async def test_it_goes_on_with_what_is_a_candidate_already(tmp_path: Path) -> None:
    """Nothing is ordered a second time, and the nodes learn whom to ask for the parts."""
    async with owner_of(tmp_path) as (site, owner):
        site.decide(site.world.change(1, WANTED))
        owner.start(RELEASE)
        await owner.until_shown("is a candidate already, going on")
        await until(site.gossip.holders)
        assert len(site.pool) == 0
        site.report(WANTED)
        await owner.done.wait()
        assert owner.error is None
        again = Owner(site, owner.nursery, OWNER)
        again.start(RELEASE)
        await again.done.wait()
        assert again.error is None
        assert again.lines == ["alpha: nothing to do, it is so since before"]


async def test_a_challenge_is_retired_and_its_emission_changed(tmp_path: Path) -> None:
    async with owner_of(tmp_path) as (site, owner):
        active = make_challenge("alpha", emission=9)
        wished = Release(challenge_id="alpha", challenge=active, only_emission=True)
        for release, words in ((wished, "version 1 is active with emission 9"),
                               (Release(challenge_id="alpha"), "retired, by slot")):  # fmt: skip
            one = Owner(site, owner.nursery, OWNER)
            one.start(release)
            await one.until_shown("waits to be ordered")
            [change] = site.pool.held()
            assert isinstance(change, RegistryChange)
            assert site.decide().catalogue_changed
            await one.done.wait()
            assert one.error is None
            assert words in one.lines[-1]


async def test_the_active_version_published_again_ends_a_candidate(tmp_path: Path) -> None:
    async with owner_of(tmp_path) as (site, owner):
        site.decide(site.world.change(1, WANTED))
        owner.start(Release(challenge_id="alpha", challenge=make_challenge("alpha", emission=3)))
        await owner.until_shown("waits to be ordered")
        site.decide()
        await owner.done.wait()
        assert owner.error is None
        assert not candidates(site.store.tree.view())


async def test_a_node_that_ends_is_told_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(WAIT_S):
            async with sites(tmp_path, 1) as (site,):
                owner = Owner(site, nursery, OWNER)
                owner.start(RELEASE, deadline_s=3)
                await owner.until_shown("waits to be ordered")
            await owner.done.wait()
        assert isinstance(owner.error, ChangePendingError)
        # While it ends, it may be reached once more. It does not answer for a second or two, and
        # is asked twenty times a second.
        assert "no answer" in owner.lines[-1]
        assert sum("no answer" in line for line in owner.lines) < 10


async def test_another_key_signs_nothing(tmp_path: Path) -> None:
    async with owner_of(tmp_path, STRANGER) as (site, owner):
        owner.start(RELEASE)
        await owner.done.wait()
        assert str(owner.error) == (
            f"the key is {STRANGER.address}; the network's owner is {OWNER.address}"
        )
        assert len(site.pool) == 0
        assert owner.lines == []


async def test_nodes_that_cannot_be_reached_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONNECT_S", 0.2)
    async with owner_of(tmp_path) as (site, owner):
        nobody = tuple(one.replace("127.0.0.1", "127.0.0.9") for one in site.network.addresses)
        lost = Owner(site, owner.nursery, OWNER, nobody)
        lost.start(RELEASE)
        await lost.done.wait()
        assert "no connection within 0.2 s; expected the multiaddr" in str(lost.error)
