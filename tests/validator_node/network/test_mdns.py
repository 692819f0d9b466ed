"""What the local network announces is bounded and checked."""

from collections.abc import Callable

import pytest
import trio
import zeroconf

from tests.validator_node.network.support import DEADLINE_S
from validator_node.network import Counters, mdns, peer_id_of
from validator_node.network.mdns import MAX_LOCAL, LocalPeers

OWN, *IDS = [peer_id_of(bytes([number]) * 32) for number in range(20)]


def address(peer_id: str, port: int = 1) -> str:
    return f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id}"


def make(peer_id: str = OWN) -> LocalPeers:
    return LocalPeers(
        bytes(32), peer_id, lambda: [address(peer_id)], Counters(), interfaces=["127.0.0.1"]
    )


def tell(local: LocalPeers, peer_id: str, *texts: str) -> None:
    local._pending.acquire()
    local._note(f"{peer_id}._vn-000000000000._udp.local.", texts)


def test_a_peer_is_found_moves_and_leaves() -> None:
    local = make()
    for texts in ((address(IDS[0], 1),), (address(IDS[0], 2), address(IDS[0], 3)), ()):
        tell(local, IDS[0], *texts)
        assert local.found() == ({IDS[0]: texts} if texts else {})


def test_what_is_no_address_of_the_peer_is_refused() -> None:
    local = make()
    for texts in (("garbage",), (address(IDS[1]),), ("/ip4/127.0.0.1/tcp/1",)):
        tell(local, IDS[0], *texts)
    tell(local, OWN, address(OWN))
    assert local.found() == {}
    assert local._counters["refused", "mdns_address"] == 3


def test_a_crowd_is_bounded() -> None:
    local = make()
    for peer_id in IDS:
        tell(local, peer_id, *(address(peer_id, port) for port in range(1, 20)))
    assert len(local.found()) == MAX_LOCAL
    assert {len(texts) for texts in local.found().values()} == {mdns.MAX_ADDRESSES}
    assert local._counters["dropped", "mdns_peer"] == len(IDS) - MAX_LOCAL


async def test_what_waits_for_trio_is_bounded() -> None:
    local = make()
    local._token = trio.lowlevel.current_trio_token()
    for _ in range(mdns.PENDING + 5):
        local._hand_over("x", ())
    assert local._counters["dropped", "mdns_pending"] == 5


async def test_two_nodes_on_one_interface_find_and_lose_each_other() -> None:
    first, second = make(IDS[0]), make(IDS[1])
    changed = trio.Event()

    def note() -> None:
        nonlocal changed
        changed.set()
        changed = trio.Event()

    async def wait(holds: Callable[[], bool]) -> None:
        with trio.fail_after(DEADLINE_S):
            while not holds():
                await changed.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run, note)
        async with trio.open_nursery() as inner:
            inner.start_soon(second.run, note)
            await wait(lambda: bool(first.found() and second.found()))
            assert first.found() == {IDS[1]: (address(IDS[1]),)}
            inner.cancel_scope.cancel()
        await wait(lambda: not first.found())
        nursery.cancel_scope.cancel()


async def test_a_machine_without_multicast_runs_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr(zeroconf, "Zeroconf", fail)
    local = make()
    with trio.fail_after(DEADLINE_S):
        await local.run(lambda: None)
    assert "set mdns = false" in caplog.text
    assert local._counters["errors", "mdns"] == 1
