"""Hand-overs from one peer, into a file and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.receipts import voters_from
from protocol.codec import encode
from protocol.errors import DecodeError
from protocol.identity import verify_consensus
from tests.support import World
from tests.validator_node.sync.following import Server, config
from validator_node.network.network import open_network
from validator_node.sync import records, serving
from validator_node.sync.handovers import Handovers, ask_handovers, read_handovers


async def test_all_hand_overs_of_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_HANDOVERS", 2)
    assert records.MAX_HANDOVERS > 2
    world = World(window=1)
    server = Server(world, tmp_path / "server")
    for _ in range(3):
        server.end_epoch()
    async with open_network(config("server")) as there:
        server.server.serve(there)
        address = f"{there.addresses[0]}"
        async with open_network(config("asker", address)) as here:
            await here.wait_connected(1)
            found = await ask_handovers(here, there.peer_id)
    assert [one.checkpoint.epoch for one in found] == [0, 1, 2]
    again = read_handovers(encode(Handovers(handovers=found)))
    assert again == found
    voters_of = voters_from(world.genesis, again, verify_consensus)
    assert voters_of(3).domain == server.store.voters_of(3).domain
    server.store.close()


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(DecodeError):
        read_handovers(b"nothing")
