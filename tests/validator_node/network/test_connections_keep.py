"""A kept peer's addresses are replaced in place."""

import pytest
import trio

from tests.validator_node.network.support import config, nodes
from validator_node.network import InvalidAddressError, open_network


async def test_a_peer_is_dialled_at_its_new_address() -> None:
    async with nodes(2) as (node, other):
        (address,) = other.addresses
        async with open_network(config(9)) as client:
            port = int(address.split("/")[4])
            # Nobody listens there; the keeper goes on trying.
            client.keep(other.peer_id, (address.replace(f"/{port}/", "/9/"),))
            client.keep(node.peer_id, node.addresses)
            with trio.fail_after(10):
                await client.wait_peers(lambda peers: node.peer_id in peers)
                assert other.peer_id not in client.peers()
                client.keep(other.peer_id, (address,))
                await client.wait_peers(lambda peers: other.peer_id in peers)
            keepers = [t for t in client._nursery.child_tasks if t.name.endswith("._keep")]
            assert len(keepers) == 2


async def test_what_is_refused_changes_nothing() -> None:
    async with nodes(2) as (node, other):
        for addresses in ((), ("nonsense",), other.addresses):
            with pytest.raises(InvalidAddressError):
                node.keep(node.peer_id, addresses)
