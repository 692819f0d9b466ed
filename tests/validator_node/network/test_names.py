"""Names in addresses: looked up once, judged address by address, dialled as judged."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from tests.validator_node.network.support import DEADLINE_S, config, nodes
from validator_node.network import open_network
from validator_node.network.counters import Counters
from validator_node.network.names import LOOK_UP_S, MAX_FOUND, Names, look_up

STRANGER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


class Resolver:
    """Answers from a table, and counts how often it was asked."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, name: str, family: int) -> list[str]:
        self.asked.append((name, family))
        if name not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.answers[name]


async def found(
    address: str, resolver: Any, *, configured: bool = False, loopback: bool = False
) -> tuple[list[str], Counters]:
    counters = Counters()
    names = Names(counters, loopback=loopback, look_up=resolver)
    dialled = await names.addresses(Multiaddr(address), configured=configured)
    return [str(one) for one in dialled], counters


async def test_a_number_is_left_as_it_is() -> None:
    resolver = Resolver()
    assert (await found("/ip4/192.0.2.1/tcp/4001", resolver))[0] == ["/ip4/192.0.2.1/tcp/4001"]
    assert resolver.asked == []


@pytest.mark.parametrize(
    ("kind", "family"),
    [("dns", socket.AF_UNSPEC), ("dns4", socket.AF_INET), ("dns6", socket.AF_INET6)],
)
async def test_a_name_becomes_what_it_leads_to(kind: str, family: int) -> None:
    resolver = Resolver(**{"node.example": ["198.51.100.7", "2001:4860::7"]})
    dialled, _ = await found(f"/{kind}/node.example/tcp/9", resolver)
    assert dialled == ["/ip4/198.51.100.7/tcp/9", "/ip6/2001:4860::7/tcp/9"]
    assert resolver.asked == [("node.example", family)]


HIDDEN = ("127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "224.0.0.1", "240.0.0.1", "::1",
          "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254")  # fmt: skip


@pytest.mark.parametrize("ip", HIDDEN)
async def test_what_no_stranger_is_at_is_not_dialled_by_name(ip: str) -> None:
    resolver = Resolver(**{"evil.example": [ip, "198.51.100.7"]})
    dialled, counters = await found("/dns/evil.example/tcp/80", resolver)
    assert dialled == ["/ip4/198.51.100.7/tcp/80"]
    assert counters["refused", "resolved_address"] == 1


async def test_a_node_on_loopback_dials_loopback_and_nothing_else_hidden() -> None:
    resolver = Resolver(**{"local.example": ["127.0.0.1", "169.254.169.254"]})
    dialled, _ = await found("/dns4/local.example/tcp/80", resolver, loopback=True)
    assert dialled == ["/ip4/127.0.0.1/tcp/80"]


async def test_the_operators_names_may_lead_anywhere() -> None:
    resolver = Resolver(**{"seed.internal": ["10.0.0.7", "127.0.0.1"]})
    dialled, _ = await found("/dns4/seed.internal/tcp/80", resolver, configured=True)
    assert dialled == ["/ip4/10.0.0.7/tcp/80", "/ip4/127.0.0.1/tcp/80"]


async def test_answers_are_bounded_and_failures_are_no_errors() -> None:
    many = Resolver(**{"many.example": [f"198.51.100.{n}" for n in range(200)]})
    assert len((await found("/dns/many.example/tcp/1", many))[0]) == MAX_FOUND
    dialled, counters = await found("/dns/nowhere.example/tcp/1", Resolver())
    assert dialled == []
    assert counters["errors", "look_up"] == 1
    assert (await found(f"/dnsaddr/x.example/p2p/{STRANGER}", Resolver()))[0] == []


async def test_a_look_up_ends(autojump_clock: Any) -> None:
    async def never(name: str, family: int) -> list[str]:
        del name, family
        await trio.sleep_forever()
        raise AssertionError

    began = trio.current_time()
    assert (await found("/dns/slow.example/tcp/1", never))[0] == []
    assert trio.current_time() - began == pytest.approx(LOOK_UP_S)


async def test_the_system_is_asked() -> None:
    assert "127.0.0.1" in await look_up("localhost", socket.AF_INET)


# --- on real hosts ------------------------------------------------------------------------------


@asynccontextmanager
async def canary() -> AsyncIterator[tuple[int, list[int]]]:
    """Listen on loopback and note who knocks."""
    knocks: list[int] = []

    async def serve(stream: trio.SocketStream) -> None:
        knocks.append(1)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(_listen, serve)
        yield listeners[0].socket.getsockname()[1], knocks
        nursery.cancel_scope.cancel()


async def _listen(serve: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    await trio.serve_tcp(serve, 0, host="127.0.0.1", task_status=task_status)


async def test_a_record_with_a_name_makes_nobody_knock_here() -> None:
    resolver = Resolver(**{"evil.example": ["127.0.0.1"]})
    async with canary() as (port, knocks), open_network(config(1)) as node:
        node._connections._names = Names(node.counters, loopback=False, look_up=resolver)
        node.keep(STRANGER, (f"/dns4/evil.example/tcp/{port}/p2p/{STRANGER}",))
        with trio.fail_after(DEADLINE_S):
            while node.counters["refused", "resolved_address"] < 3:
                await trio.lowlevel.checkpoint()
        assert knocks == []
        assert len(resolver.asked) >= 3  # the keeper goes on trying


async def test_the_address_book_dials_no_name() -> None:
    """What identify and the DHT put there is dialled by the library itself."""
    async with canary() as (port, knocks), open_network(config(1)):
        with pytest.raises(OpenConnectionError, match="nobody has judged"):
            await TCP().dial(Multiaddr(f"/dns4/localhost/tcp/{port}"))
        await (await TCP().dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}"))).close()
        with trio.fail_after(DEADLINE_S):
            while not knocks:
                await trio.lowlevel.checkpoint()
        assert len(knocks) == 1


async def test_a_bootstrap_name_of_the_machines_own_is_dialled() -> None:
    async with nodes(1) as (node,):
        (address,) = node.addresses
        named = address.replace("/ip4/127.0.0.1/", "/dns4/localhost/")
        async with open_network(config(9, named)) as client:
            with trio.fail_after(DEADLINE_S):
                await client.wait_connected(1)
            assert client.peers() == {node.peer_id}
