from __future__ import annotations

import re

import pytest

from chain.bittensor.endpoints import MOST_ENDPOINTS, Endpoints, shown
from chain.errors import ChainErrorCode as Code

A, B, C = "ws://127.0.0.1:1", "wss://node.example:443/path", "ws://[::1]:3"


def three() -> Endpoints:
    return Endpoints([A, B, C], first_pause_s=1, longest_pause_s=8)


def test_the_first_that_does_not_rest_is_taken():
    found = three()
    assert found.choose(0) == A
    found.failed(A, 0, Code.UNREACHABLE, "down")
    assert found.choose(0.5) == B
    found.failed(B, 0.5, Code.WRONG_CHAIN, "other")
    assert found.choose(0.9) == C
    assert found.choose(1.0) == A


def test_who_was_tried_in_vain_lets_the_others_have_their_turn():
    found = three()
    for url in (A, B):
        found.failed(url, 0, Code.UNREACHABLE, "silent")
    assert found.choose(30) == A
    assert found.choose(30, [A]) == B
    assert found.choose(30, [A, B]) == C
    assert found.choose(30, [A, B, C]) is None


def test_keys_in_an_address_are_not_shown():
    assert shown("wss://me:secret@node.example:443/v1/key?token=secret") == "wss://node.example:443"
    assert shown(C) == C
    with pytest.raises(ValueError, match=r"chain endpoint https://node\.example: want"):
        Endpoints(["https://me:secret@node.example/key"])


@pytest.mark.parametrize(
    "url",
    [
        "wss://SECRET@node.example",
        "wss://SECRET@node.example:443/v1",
        "wss://node.example#SECRET",
        "wss://node.example/v1?key=SECRET#",
        "wss://me:SE#CRET@node.example/SECRET",
    ],
)
def test_an_address_that_no_websocket_takes_is_refused_without_its_key(url: str):
    with pytest.raises(
        ValueError, match=r"chain endpoint wss://node\.example.*: it has a #"
    ) as told:
        Endpoints([url])
    assert not {"SECRET", "SE", "CRET"} & set(re.findall("[A-Z]+", str(told.value)))


def test_an_address_with_a_key_in_the_path_or_a_password_is_taken():
    urls = ["wss://node.example/KEY?token=KEY", "wss://me:KEY@node.example"]
    assert Endpoints(urls).urls == tuple(urls)


def test_pauses_double_up_to_the_longest_and_a_success_ends_them():
    found = Endpoints([A], first_pause_s=1, longest_pause_s=8)
    pauses = []
    for _ in range(6):
        found.failed(A, 0, Code.UNREACHABLE, "down")
        pauses.append(found.wait_s(0))
    assert pauses == [1, 2, 4, 8, 8, 8]
    assert found.choose(7.9) is None
    found.worked(A)
    assert (found.choose(0), found.wait_s(0)) == (A, 0)
    for _ in range(5000):
        found.failed(A, 0, Code.UNREACHABLE, "down")
    assert found.wait_s(0) == 8


def test_better_ones_stand_before_the_one_in_use():
    found = three()
    assert found.better_than(A, 0) is None
    assert found.better_than(C, 0) == A
    found.failed(A, 0, Code.UNREACHABLE, "down")
    assert found.better_than(C, 0.5) == B
    assert found.better_than(B, 0.5) is None
    assert found.better_than(B, 1.0) == A


def test_what_is_told_of_them():
    found = three()
    assert found.describe() == "no endpoint has failed yet"
    found.failed(B, 0, Code.WRONG_CHAIN, "of another chain")
    found.failed(A, 0, Code.WRONG_CHAIN, "of another chain")
    assert found.describe() == f"{A}: of another chain; wss://node.example:443: of another chain"
    assert found.common_code() is None
    found.failed(C, 0, Code.WRONG_CHAIN, "of another chain")
    assert found.common_code() is Code.WRONG_CHAIN
    found.failed(C, 0, Code.UNREACHABLE, "down")
    assert found.common_code() is None


@pytest.mark.parametrize(
    "urls",
    [
        [],
        [A, A],
        [f"ws://127.0.0.1:{port}" for port in range(1, MOST_ENDPOINTS + 2)],
        ["http://127.0.0.1:1"],
        ["finney"],
        ["ws://"],
    ],
)
def test_addresses_that_make_no_sense_are_refused(urls: list[str]):
    with pytest.raises(ValueError, match="want"):
        Endpoints(urls)
