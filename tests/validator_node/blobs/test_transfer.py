from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import sha256
from validator_node.blobs.transfer import Transfer

contents = st.binary(min_size=1, max_size=200)


def feed(transfer: Transfer, peer_id: str, data: bytes, size: int) -> None:
    transfer.begin(peer_id, size)
    transfer.append(data)


@given(contents, st.data())
def test_any_cuts_among_any_holders_come_to_the_content(content: bytes, data: st.DataObject):
    transfer = Transfer(sha256(content), None, 200)
    while not transfer.is_complete:
        at = transfer.received
        end = data.draw(st.integers(at + 1, len(content)))
        feed(transfer, data.draw(st.sampled_from("abc")), content[at:end], len(content))
    assert transfer.finish() == set()
    assert transfer.content == content
    assert transfer.came == len(content)


@given(contents, st.data())
def test_who_spoiled_a_mixture_is_found_out_by_the_right_content(
    content: bytes, data: st.DataObject
):
    """Every byte is sent by `a` or `b`; `b` spoils some of its own."""
    transfer = Transfer(sha256(content), len(content), 200)
    senders = data.draw(
        st.lists(st.sampled_from("ab"), min_size=len(content), max_size=len(content))
    )
    spoiled = [
        sender == "b" and data.draw(st.booleans(), label=f"spoil {at}")
        for at, sender in enumerate(senders)
    ]
    for byte, sender, bad in zip(content, senders, spoiled, strict=True):
        feed(transfer, sender, bytes([byte ^ bad]), len(content))
    found = transfer.finish()
    if not any(spoiled):
        assert (found, transfer.content) == (set(), content)
        return
    assert transfer.content is None
    assert transfer.received == 0
    if set(senders) == {"b"}:
        assert found == {"b"}
        return
    assert (found, transfer.is_alone) == (set(), True)
    feed(transfer, "c", content, len(content))
    assert transfer.finish() == {"b"}
    assert transfer.content == content


def test_holders_that_differ_on_the_size_are_not_mixed():
    content = b"0123456789"
    transfer = Transfer(sha256(content), None, 100)
    feed(transfer, "liar", content[:4], 50)
    transfer.begin("honest", len(content))
    assert (transfer.is_alone, transfer.received, transfer.size) == (True, 0, 10)
    transfer.append(content[:6])
    transfer.begin("another", len(content))
    assert transfer.received == 0
    transfer.append(content[:6])
    transfer.begin("another", len(content))
    assert transfer.received == 6
    transfer.append(content[6:])
    assert transfer.finish() == set()
    assert transfer.content == content


def test_what_speaks_against_a_holder():
    known, unknown = Transfer(bytes(32), 10, 100), Transfer(bytes(32), None, 100)
    assert known.why_not(10) is None
    assert unknown.why_not(100) is None
    assert known.why_not(0) == "does not have it"
    assert known.why_not(11) == "has 11 bytes, it should be 10"
    assert unknown.why_not(101) == "has 101 bytes, at most 100 are wanted"
