import ipaddress
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.validator_node.network.support import DEADLINE_S, config, nodes, until, yes
from validator_node.network import Limits, Network, open_network
from validator_node.network.counters import Counters
from validator_node.network.host import peer_id_of
from validator_node.network.places import (
    HANDSHAKE_GRACE_S,
    LOOPBACK_FACTOR,
    PUT_OUT_S,
    Arrival,
    Places,
    group_of,
)
from validator_node.network.standing import Standing, Standings

IDLE_S = 30.0


class Door:
    """Places with a clock of their own, and who was put out of them."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1_000.0
        self.counters = Counters()
        self.standings = Standings(lambda: self.now)
        found = Limits(idle_s=IDLE_S, **limits)
        self.places = Places(found, self.standings.of, lambda: self.now, self.counters)
        self.put_out: list[str] = []

    def arrive(self, ip: str, name: str = "") -> Arrival | None:
        return self.places.arrive(ip, lambda: self.put_out.append(name or ip))

    def connect(self, name: str, ip: str = "192.0.2.1") -> Arrival | None:
        arrival = self.arrive(ip, name)
        assert arrival is not None
        if arrival.established(name):
            return arrival
        arrival.end()
        return None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("", "nonsense", True),
    ],
)
def test_addresses_are_grouped_by_who_owns_them(one: str, other: str, same: bool) -> None:
    assert (group_of(one) == group_of(other)) is same


@given(st.ip_addresses())
def test_every_address_has_a_group(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    _, factor = group_of(str(address))
    assert factor in (1, LOOPBACK_FACTOR)


def test_connections_are_bounded_by_address_and_in_total_and_given_back() -> None:
    door = Door(half_open=3, half_open_per_ip=2, inbound_connections=2, inbound_per_ip=1)
    first, second = door.arrive("192.0.2.1"), door.arrive("192.0.2.1")
    assert first is not None
    assert second is not None
    assert door.arrive("192.0.2.1") is None
    assert door.counters["refused", "half_open_per_ip"] == 1
    third = door.arrive("192.0.2.2")
    assert third is not None
    assert door.arrive("192.0.2.3") is None
    assert door.counters["refused", "half_open"] == 1
    assert first.established("first")
    assert door.arrive("192.0.2.1") is None
    assert door.counters["refused", "inbound_per_ip"] == 1
    assert third.established("third")
    assert not second.established("second")
    assert door.counters["refused", "inbound_connections"] == 1
    for arrival in (first, second, third):
        arrival.end()
    assert door.places.half_open == door.places.taken == 0
    assert not door.places._used
    assert not door.put_out


def test_64_nodes_fit_on_one_loopback_address() -> None:
    door = Door()
    assert all(door.connect(f"{number}", "127.0.0.1") for number in range(64))


def test_the_oldest_handshake_of_the_fullest_address_makes_room() -> None:
    door = Door(half_open=4, half_open_per_ip=3)
    for ip, name in (("192.0.2.9", "a"), ("192.0.2.1", "b"), ("192.0.2.1", "c"), ("::1", "d")):
        assert door.arrive(ip, name)
    assert door.arrive("192.0.2.2", "e") is None
    door.now += HANDSHAKE_GRACE_S
    late = door.arrive("192.0.2.2", "e")
    assert late is not None
    assert door.put_out == ["b"]
    assert door.places.half_open == 4
    assert late.established("e")
    assert door.counters["reset", "half_open"] == 1


def test_who_was_put_out_has_no_place_and_gives_none_back() -> None:
    door = Door(half_open=1)
    first = door.arrive("192.0.2.1")
    assert first is not None
    door.now += HANDSHAKE_GRACE_S
    assert door.arrive("192.0.2.2")
    assert not first.established("first")
    first.end()
    assert door.places.half_open == 1


def test_members_and_registered_hotkeys_have_places_of_their_own() -> None:
    door = Door(inbound_connections=2, registered_reserve=1, member_reserve=2)
    door.standings.assign(Standing.MEMBER, ["member", "other"])
    door.standings.assign(Standing.CONFIGURED, ["configured"])
    door.standings.assign(Standing.REGISTERED, ["hotkey", "second"])
    assert door.connect("stranger")
    assert door.connect("stranger")
    assert not door.connect("late")
    assert door.connect("hotkey")
    assert not door.connect("second")
    assert door.connect("member")
    assert door.connect("configured")
    assert not door.connect("other")
    assert door.places.taken == door.places._limits.all_inbound == 5
    door.now += IDLE_S
    assert door.connect("other")
    assert door.put_out == ["stranger"]


def test_the_longest_idle_stranger_makes_room_and_one_in_a_while() -> None:
    door = Door(inbound_connections=3, registered_reserve=0)
    door.standings.assign(Standing.REGISTERED, ["hotkey"])
    for name in ("hotkey", "a", "b"):
        assert door.connect(name)
        door.now += 1.0
    door.places.note_use("a")
    door.places.note_use("nobody")
    assert not door.connect("late", "192.0.2.2")
    door.now += IDLE_S - 1.0
    assert door.connect("late", "192.0.2.2")  # of "b"; "a" was of use after it came
    assert door.put_out == ["b"]
    door.now += PUT_OUT_S / 2
    assert not door.connect("later", "192.0.2.3")
    door.now += PUT_OUT_S / 2
    assert door.connect("later", "192.0.2.3")
    assert door.put_out == ["b", "a"]
    door.now += IDLE_S / 2
    assert not door.connect("latest", "192.0.2.4")  # of one hotkey and two that just came


def test_an_address_with_many_places_yields_to_one_with_few() -> None:
    door = Door(inbound_connections=5)
    assert door.connect("single", "192.0.2.9")
    for number in range(4):
        door.now += 1.0
        assert door.connect(f"crowd {number}", f"192.0.2.{1 + number // 2}")
    door.now += IDLE_S
    # It has as many as the other: it may only put out its own, and does not use up the turn.
    assert door.connect("crowd 4", "192.0.2.2")
    assert door.put_out == ["crowd 2"]
    assert door.connect("newcomer", "192.0.2.8")
    assert door.put_out == ["crowd 2", "crowd 0"]


def test_one_address_after_another_does_not_keep_newcomers_out() -> None:
    """What 16 strangers at each of 12 addresses do, who come back whenever they are put out."""
    door = Door()
    crowd = [(f"{ip}/{number}", f"198.51.100.{ip}") for ip in range(12) for number in range(16)]
    assert all(door.connect(name, ip) for name, ip in crowd)
    door.now += IDLE_S
    waited = 0
    newcomers = [f"203.0.113.{number}" for number in range(20)]
    while newcomers and waited < 60:
        waited += 1
        door.now += PUT_OUT_S
        for ip in [f"198.51.100.{number}" for number in range(12)]:
            arrival = door.arrive(ip)
            if arrival is not None and not arrival.established(f"{ip} again {waited}"):
                arrival.end()
        if door.connect(f"honest at {newcomers[-1]}", newcomers[-1]):
            newcomers.pop()
    assert not newcomers
    assert waited < 45
    assert not any(name.startswith("honest") for name in door.put_out)


# Over real connections


async def test_idle_strangers_lock_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stock, source = trio.open_tcp_stream, "127.0.0.1"

    async def bound(host: Any, port: int, **options: Any) -> Any:
        return await stock(host, port, **{**options, "local_address": source})

    monkeypatch.setattr(trio, "open_tcp_stream", bound)
    limits = Limits(inbound_connections=6, registered_reserve=0, member_reserve=2, idle_s=1.0)
    with trio.fail_after(3 * DEADLINE_S):
        async with AsyncExitStack() as stack:
            guarded = replace(config(1), limits=limits)
            victim = await stack.enter_async_context(open_network(guarded))

            async def dial(number: int, address: str) -> str:
                nonlocal source
                source = address
                dialling = open_network(config(number, *victim.addresses))
                peer_id = (await stack.enter_async_context(dialling)).peer_id
                await victim.wait_peers(lambda peers: peer_id in peers)
                return peer_id

            strangers = {await dial(2 + n, f"127.0.0.{2 + n % 2}") for n in range(6)}
            assert victim.peers() == strangers
            for number, standing in ((20, Standing.MEMBER), (21, Standing.CONFIGURED)):
                victim.standings.assign(standing, [peer_id_of(bytes([number]) * 32)])
                await dial(number, "127.0.0.4")
            assert len(victim.peers()) == 8
            assert not victim.counters["reset", "idle_connection"]
            newcomer = await dial(30, "127.0.0.9")
            assert victim.counters["reset", "idle_connection"] >= 1
            await until(lambda: len(victim.peers()) <= 8)
            assert victim.standings.reserved() | {newcomer} <= victim.peers()
            assert not victim.bans()
            assert not any(victim.score(peer_id) for peer_id in strangers)


async def test_what_is_useful_is_noted() -> None:
    async def echo(peer_id: str, request: bytes) -> bytes:
        return request

    async with nodes(2) as (dialled, dialler):  # the second has a place at the first
        places, used = dialled._gate.places, dialler.peer_id

        async def is_noted(use: Any) -> None:
            places._used[used] = 0.0
            await use()
            await until(lambda: places._used[used] > 0.0)

        for node in (dialled, dialler):
            node.serve("/test/echo/1", echo, max_request_bytes=10, deadline_s=DEADLINE_S)

        async def ask(asking: Network, asked: Network) -> None:
            await asking.request(
                asked.peer_id, "/test/echo/1", b"?", deadline_s=DEADLINE_S, max_reply_bytes=10
            )

        await is_noted(lambda: ask(dialler, dialled))
        await is_noted(lambda: ask(dialled, dialler))
        await dialled.join("topic", yes)
        await dialler.wait_subscriber("topic")
        await is_noted(lambda: dialler.publish("topic", b"news"))
