"""Version negotiation over real streams, between nodes that know different versions."""

import pytest
import trio

from tests.validator_node.network.support import nodes, until
from validator_node.network import AlreadyJoinedError, Network, PeerUnreachableError
from validator_node.network.versions import MAX_SPOKEN, VersionedHost, negotiated

NEW, OLD = "/test/2/status", "/test/1/status"
BOTH = (NEW, OLD)


async def name_version(peer_id: str, data: bytes) -> bytes:
    return negotiated().encode() + b" " + data


def serve(node: Network, *protocols: str) -> None:
    node.serve(protocols, name_version, max_request_bytes=100, deadline_s=5)


async def ask(client: Network, server: Network, *protocols: str) -> bytes:
    return await client.request(server.peer_id, protocols, b"?", deadline_s=5, max_reply_bytes=100)


@pytest.mark.parametrize(
    ("served", "asked", "chosen"),
    [
        (BOTH, BOTH, NEW),
        (BOTH, (OLD,), OLD),  # an old client
        ((OLD,), BOTH, OLD),  # an old server
        ((OLD, NEW), BOTH, NEW),  # the asker's order counts
        (("/test/3/status", *BOTH), BOTH, NEW),
    ],
)
async def test_both_speak_the_newest_that_both_know(
    served: tuple[str, ...], asked: tuple[str, ...], chosen: str
) -> None:
    async with nodes(2) as (server, client):
        serve(server, *served)
        assert client.spoken(server.peer_id, asked) is None
        with trio.fail_after(10):
            assert await ask(client, server, *asked) == chosen.encode() + b" ?"
        assert client.spoken(server.peer_id, asked) == chosen


async def test_without_a_common_version_there_is_no_stream() -> None:
    async with nodes(2) as (server, client):
        serve(server, NEW)
        with trio.fail_after(10):
            with pytest.raises(PeerUnreachableError):
                await ask(client, server, OLD)
            assert await ask(client, server, NEW) == NEW.encode() + b" ?"
        assert client.spoken(server.peer_id, OLD) is None


async def test_one_protocol_needs_no_list() -> None:
    async with nodes(2) as (server, client):
        server.serve(OLD, name_version, max_request_bytes=100, deadline_s=5)
        with trio.fail_after(10):
            reply = await client.request(
                server.peer_id, OLD, b"?", deadline_s=5, max_reply_bytes=100
            )
        assert reply == OLD.encode() + b" ?"


@pytest.mark.parametrize(("left", "right", "chosen"), [(BOTH, BOTH, NEW), (BOTH, (OLD,), OLD)])
async def test_links_between_old_and_new(
    left: tuple[str, ...], right: tuple[str, ...], chosen: str
) -> None:
    """Both directions of a link negotiate by themselves and come to the same version."""
    arrived: list[tuple[str, str, bytes]] = []
    async with nodes(2) as (first, second):

        def note(peer_id: str, frame: bytes) -> None:
            arrived.append((peer_id, negotiated(), frame))

        first_links = first.open_links(left, on_frame=note)
        second_links = second.open_links(right, on_frame=note)
        with trio.fail_after(10):
            await first_links.wait_up(1)
            await second_links.wait_up(1)
        assert first.spoken(second.peer_id, left) == second.spoken(first.peer_id, right) == chosen
        first_links.send(second.peer_id, b"to second")
        second_links.send(first.peer_id, b"to first")
        await until(lambda: len(arrived) == 2)
        assert sorted(arrived) == sorted(
            [(first.peer_id, chosen, b"to second"), (second.peer_id, chosen, b"to first")]
        )


async def test_a_version_is_served_once() -> None:
    async with nodes(1) as (node,):
        serve(node, *BOTH)
        with pytest.raises(AlreadyJoinedError, match=OLD):
            serve(node, OLD)
        with pytest.raises(ValueError, match="stands for"):
            serve(node, NEW)


@pytest.mark.parametrize("versions", [(), (NEW, NEW)])
def test_a_list_of_versions_makes_sense(versions: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        VersionedHost(None).declare(versions)


def test_outside_a_handler_nothing_is_negotiated() -> None:
    with pytest.raises(LookupError):
        negotiated()


class Host:
    """Opens streams that speak whatever is asked for first."""

    async def new_stream(self, peer_id: str, protocols: list[str]) -> "Host":
        await trio.lowlevel.checkpoint()
        self.chosen = protocols[0]
        return self

    def get_protocol(self) -> str:
        return self.chosen


async def test_what_is_remembered_of_peers_is_bounded() -> None:
    host = VersionedHost(Host())
    for number in range(MAX_SPOKEN + 10):
        await host.new_stream(f"peer-{number}", [OLD])
    assert host.spoken("peer-9", OLD) is None
    assert host.spoken("peer-10", OLD) == OLD
