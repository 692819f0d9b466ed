from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_node.config import load_config
from validator_node.errors import ConfigError
from validator_node.network import addresses
from validator_node.network.addresses import (
    MAX_ADDRESSES,
    announced,
    check_external,
    dialable,
    is_loopback_host,
    is_peer_id,
    parse_endpoint,
)
from validator_node.network.host import parse_address, peer_id_of

PEER = peer_id_of(bytes(32))
OTHER = peer_id_of(bytes([1]) * 32)


@pytest.mark.parametrize(
    ("text", "host", "port", "peer_id"),
    [
        ("/ip4/192.0.2.1/tcp/4001", "192.0.2.1", 4001, None),
        (f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}", "192.0.2.1", 1, PEER),
        ("/ip6/2001:db8::1/tcp/65535", "2001:db8::1", 65_535, None),
        ("/dns4/node.example/tcp/4001", "node.example", 4001, None),
    ],
)
def test_what_an_address_is(text: str, host: str, port: int, peer_id: str | None) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.host, endpoint.port, endpoint.peer_id) == (host, port, peer_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1:4001",
        "/ip4/192.0.2.1",
        "/ip4/192.0.2.1/udp/4001",
        "/ip4/192.0.2.1/tcp/0",
        "/ip4/192.0.2.1/tcp/65536",
        "/ip4/192.0.2.1/tcp/4001/ws",
        "/ip4/192.0.2.300/tcp/4001",
        "/ip4/2001:db8::1/tcp/4001",
        "/ip6/192.0.2.1/tcp/4001",
        "/ip6/fe80::1%eth0/tcp/4001",
        "/dns4/-/tcp/4001",
        "/dns4/a b/tcp/4001",
        "/ip4/192.0.2.1/tcp/4001/p2p/x",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{OTHER}",
        "/ip4/192.0.2.1/tcp/4001\n",
    ],
)
def test_what_is_not_an_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address like"):
        parse_endpoint(text)


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    assert isinstance(dialable([text], PEER, loopback=True), tuple)


@given(
    st.one_of(
        st.ip_addresses(v=4).map(lambda ip: f"/ip4/{ip}"),
        st.ip_addresses(v=6).map(lambda ip: f"/ip6/{ip}"),
    ),
    st.integers(1, 65_535),
)
def test_the_library_reads_what_we_would_dial(host: str, port: int) -> None:
    for text in dialable([f"{host}/tcp/{port}"], PEER, loopback=True):
        assert parse_address(text)[0] == PEER


def test_only_what_a_stranger_can_have_is_dialled() -> None:
    good = ("/ip4/198.51.100.7/tcp/1", "/ip4/10.0.0.7/tcp/1", "/dns/node.example/tcp/1")
    bad = (
        "/ip4/0.0.0.0/tcp/1",
        "/ip4/224.0.0.1/tcp/1",
        "/ip4/255.255.255.255/tcp/1",
        "/ip4/169.254.169.254/tcp/1",
        "/ip6/::/tcp/1",
        "/ip6/fe80::1/tcp/1",
        "/ip6/ff02::1/tcp/1",
    )
    loopback = (
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.8.9.1/tcp/1",
        "/ip6/::1/tcp/1",
        "/ip6/::ffff:127.0.0.1/tcp/1",
        "/dns4/LocalHost/tcp/1",
    )
    named = tuple(f"{text}/p2p/{PEER}" for text in good)
    assert dialable((*bad, *loopback, *good), PEER, loopback=False) == named
    assert dialable(bad, PEER, loopback=True) == ()
    assert dialable(loopback, PEER, loopback=True) == tuple(f"{t}/p2p/{PEER}" for t in loopback)


def test_an_address_of_another_peer_is_passed_over_and_so_is_the_ninth() -> None:
    texts = [f"/ip4/198.51.100.7/tcp/{port}/p2p/{PEER}" for port in range(1, 20)]
    others = [f"/ip4/198.51.100.7/tcp/1/p2p/{OTHER}"]
    assert dialable([*others, *texts], PEER, loopback=False) == tuple(texts[:MAX_ADDRESSES])


def test_every_interface_stands_for_the_machines_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interface:
        def __init__(self, address: str) -> None:
            self.family = 2
            self.address = address

    found = {"eth0": [Interface("192.0.2.5")], "lo": [Interface("127.0.0.1")]}
    monkeypatch.setattr(addresses.psutil, "net_if_addrs", lambda: found)
    own = (f"/ip4/0.0.0.0/tcp/4001/p2p/{PEER}", f"/ip4/127.0.0.1/tcp/2/p2p/{PEER}")
    expected = (f"/ip4/192.0.2.5/tcp/4001/p2p/{PEER}", own[1])
    assert announced(own) == expected


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("192.0.2.1", False)],
)
def test_who_listens_on_loopback(host: str, loopback: bool) -> None:
    assert is_loopback_host(host) == loopback


def test_the_form_of_a_peer_id() -> None:
    assert is_peer_id(PEER)
    assert not any(is_peer_id(text) for text in ("", "peer", PEER + "/", "0" * 52, PEER * 2))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "is not an address like /ip4/192.0.2.1/tcp/4001"),
        (f"/ip4/198.51.100.7/tcp/1/p2p/{PEER}", "leave /p2p/"),
        ("/ip4/0.0.0.0/tcp/4001", "others cannot reach it"),
    ],
)
def test_external_addresses_are_checked_with_the_configuration(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "node.toml"
    lines = ['genesis = "g"', 'keystore = "k"', 'state_dir = "s"', 'chain_dir = "c"']
    path.write_text("\n".join([*lines, f'external_addrs = ["{text}"]']))
    with pytest.raises(ConfigError, match=f"external_addrs: .*{why}"):
        load_config(path)
    path.write_text("\n".join([*lines, 'external_addrs = ["/dns4/node.example/tcp/4001"]']))
    assert load_config(path).external_addrs == ("/dns4/node.example/tcp/4001",)


def test_too_many_external_addresses() -> None:
    with pytest.raises(ValueError, match="others use at most 8"):
        check_external(f"/ip4/198.51.100.7/tcp/{port}" for port in range(1, 10))
