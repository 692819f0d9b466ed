"""The running chain over real sockets on loopback: answers, subscriptions and faults."""

from __future__ import annotations

import socket
import struct

import pytest
import trio

from chain.devchain import server, session
from chain.devchain.errors import DevChainError, RpcError
from chain.devchain.ledger import hexed
from chain.devchain.server import open_devchain
from chain.devchain.session import MOST_SUBSCRIPTIONS
from tests.chain.devchain.support import (
    ADDRESSES,
    KEYS,
    NETUID,
    connected,
    run_config,
    signed,
    subnet,
)

SILENCE_SECONDS = 0.3
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_blocks_come_by_the_clock_and_are_told():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        await client.call("chain_subscribeNewHeads")
        await client.call("chain_subscribeFinalizedHeads")
        numbers = [int((await client.told())["number"], 16) for _ in range(8)]
        assert numbers[-1] > numbers[0]
        with trio.fail_after(5):
            await chain.reached(6, final=True)
        assert chain.ledger.final.number >= 6


async def test_a_paused_chain_makes_blocks_when_told():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        assert await client.call("dev_set", "blocks_paused", True)
        before = (await client.call("dev_status"))["head"]
        assert await client.call("dev_jump", 3) == before + 3
        assert int((await client.call("chain_getHeader"))["number"], 16) == before + 3


async def test_a_watched_extrinsic_is_followed_to_its_block():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        data = hexed(signed(chain.ledger, 1))
        await client.call("author_submitAndWatchExtrinsic", data)
        assert await client.told() == "ready"
        block = (await client.told())["inBlock"]
        assert (await client.told())["finalized"] == block
        found = await client.call("chain_getBlock", block)
        assert found["block"]["extrinsics"] == [data]
        assert await client.call("account_nextIndex", ADDRESSES[1]) == 1


async def test_storage_changes_are_told_once():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        key = hexed(chain.ledger.codec.key("SubtensorModule", "Tempo", NETUID))
        await client.call("state_subscribeStorage", [key])
        assert (await client.told())["changes"] == [[key, "0x0a00"]]
        await client.call("dev_rule", "tempo", 11)
        assert (await client.told())["changes"] == [[key, "0x0b00"]]
        assert await client.call("state_getStorage", key) == "0x0b00"


async def test_an_ended_subscription_is_silent():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        ended = await client.call("chain_subscribeNewHeads")
        assert await client.call("chain_unsubscribeNewHeads", ended) is True
        assert await client.call("chain_unsubscribeNewHeads", ended) is False
        heard = len(client.notifications)
        await client.call("dev_jump", 2)
        await client.call("system_health")
        assert len(client.notifications) == heard


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", -32700),
        ("[" * 100_000, -32700),
        ("[]", -32600),
        ('{"id": 1, "method": 5}', -32600),
        ('{"id": 1, "method": "system_health", "params": {"a": 1}}', -32600),
        ('{"id": 1, "method": "no_such"}', -32601),
        ('{"id": 1, "method": "dev_no_such"}', -32601),
        ('{"id": 1, "method": "state_getStorage", "params": ["zz"]}', -32602),
        ('{"id": 1, "method": "state_getStorage", "params": [[]]}', -32602),
        ('{"id": 1, "method": "state_subscribeStorage", "params": []}', -32602),
        ('{"id": 1, "method": "author_submitAndWatchExtrinsic", "params": ["0x00"]}', 1002),
    ],
)
async def test_nonsense_is_answered_with_an_error(text, code):
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        with pytest.raises(RpcError) as caught:
            await client.exchange(text)
        assert caught.value.code == code
        assert await client.call("system_health")


async def test_subscriptions_of_a_connection_are_bounded():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        await client.call("dev_set", "blocks_paused", True)
        for _ in range(MOST_SUBSCRIPTIONS):
            await client.call("state_subscribeRuntimeVersion")
        with pytest.raises(RpcError, match="Too many subscriptions"):
            await client.call("state_subscribeRuntimeVersion")


async def test_the_next_call_of_a_method_fails_and_the_one_after_does_not():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        chain.call("dev_failNext", "chain_getHeader", -32000, "broken", "by hand")
        assert await client.call("system_health")
        with pytest.raises(RpcError, match=r"-32000: broken \(by hand\)"):
            await client.call("chain_getHeader")
        assert await client.call("chain_getHeader")


async def test_a_half_open_socket_is_silent_until_it_is_mended(monkeypatch):
    monkeypatch.setattr(server, "_HANDSHAKE_SECONDS", SILENCE_SECONDS / 3)
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        async with connected(chain.admin_url) as admin:
            await admin.call("dev_set", "silent", True)
            with trio.move_on_after(SILENCE_SECONDS) as waiting:
                await client.call("system_health")
            assert waiting.cancelled_caught
            async with await trio.open_tcp_stream("127.0.0.1", chain.port) as stranger:
                await stranger.send_all(b"no handshake\r\n\r\n")
                with trio.move_on_after(SILENCE_SECONDS) as dialling:
                    await stranger.receive_some()
                assert dialling.cancelled_caught
            assert (await admin.call("dev_status"))["knobs"]["silent"] is True
            await admin.call("dev_set", "silent", False)
        async with connected(chain.url) as other:
            assert await other.call("system_health")


async def test_who_never_shakes_hands_is_shown_the_door(monkeypatch):
    monkeypatch.setattr(server, "_HANDSHAKE_SECONDS", 0.05)
    async with (
        open_devchain(subnet(), run_config()) as chain,
        await trio.open_tcp_stream("127.0.0.1", chain.port) as stranger,
    ):
        with trio.fail_after(5):
            assert await stranger.receive_some() == b""


async def test_notifications_that_nobody_reads_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(session, "QUEUE", 4)
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        await client.call("dev_set", "blocks_paused", True)
        await client.call("chain_subscribeNewHeads")
        for _ in range(10):  # without a checkpoint, so that none can be sent meanwhile
            chain.call("dev_jump", 1)
        heard = [int((await client.told())["number"], 16) for _ in range(2)]
        assert heard[1] == heard[0] + 1
    assert chain.dropped == 10 - 4


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        HANDSHAKE,
        HANDSHAKE + b"\x81\xff" + b"\xff" * 40,
        HANDSHAKE + b"\x81\xff\x7f" + b"\xff" * 40,
    ],
)
async def test_strangers_and_their_sudden_ends_do_no_harm(data):
    reset_at_once = struct.pack("ii", 1, 0)
    async with open_devchain(subnet(), run_config()) as chain:
        for _ in range(3):
            stranger = await trio.open_tcp_stream("127.0.0.1", chain.port)
            await stranger.send_all(data)
            stranger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_at_once)
            await stranger.aclose()
        async with connected(chain.url) as client:
            assert await client.call("system_health")
            await client.call("dev_jump", 1)


async def test_slow_answers_are_slow_and_come():
    async with open_devchain(subnet(), run_config()) as chain, connected(chain.url) as client:
        chain.call("dev_set", "delay_ms", 200)
        started = trio.current_time()
        assert await client.call("system_health")
        assert trio.current_time() - started >= 0.2


async def test_a_reorganisation_is_told_to_who_watches():
    run = run_config(finality_lag=20)
    async with open_devchain(subnet(), run) as chain, connected(chain.url) as client:
        await client.call("dev_set", "blocks_paused", True)
        await client.call("author_submitAndWatchExtrinsic", hexed(signed(chain.ledger, 1)))
        assert await client.told() == "ready"
        await client.call("dev_jump", 1)
        block = (await client.told())["inBlock"]
        await client.call("dev_reorg", 1, True)
        assert await client.told() == {"retracted": block}
        assert await client.call("chain_getHeader", block) is None
        assert chain.ledger.head.state.weights_of(1, 0) == ()
        with pytest.raises(RpcError, match="cannot be taken back"):
            await client.call("dev_reorg", 50)


async def test_a_restarted_chain_goes_on(tmp_path):
    run = run_config(state_file=tmp_path / "chain.bin", finality_lag=3)
    async with open_devchain(subnet(), run) as chain, connected(chain.url) as client:
        await client.call("dev_set", "blocks_paused", True)
        await client.call("author_submitExtrinsic", hexed(signed(chain.ledger, 1)))
        await client.call("dev_jump", 5)
        before = chain.ledger
    async with open_devchain(subnet(), run) as chain, connected(chain.url) as client:
        number = before.head.number
        assert await client.call("chain_getBlockHash", number) == hexed(before.head.hash)
        assert await client.call("chain_getFinalizedHead") == hexed(before.final.hash)
        assert chain.ledger.next_nonce(KEYS[1]) == 1
        with trio.fail_after(5):
            await chain.reached(number + 2)


async def test_a_taken_port_is_named():
    async with open_devchain(subnet(), run_config()) as chain:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with open_devchain(subnet(), run_config(port=chain.port)):
                pytest.fail("it started")
        assert caught.group_contains(DevChainError, match=f"cannot listen on .*:{chain.port}")
