"""Targets without a memory: bytes in, a value or a documented error out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.shapes import examples
from tests.fuzz.target import Maker, Site, Target


def record(find: Callable[[], Any], limit_bytes: int = 4 * 1024 * 1024) -> Maker:
    """A kind of record: what is decoded encodes to the same bytes."""

    def make(_: Site) -> Target:
        from protocol.codec import decode, encode
        from protocol.errors import DecodeError

        kind = find()

        def run(data: bytes) -> None:
            value = decode(kind, data, limit_bytes=limit_bytes)
            assert encode(value) == data

        return Target(run, (DecodeError,), examples(kind))

    return make


def frame(_: Site) -> Target:
    """A frame of a consensus link."""
    from protocol.errors import DecodeError
    from validator_node.outbox import Frame, decode_frame

    return Target(decode_frame, (DecodeError,), examples(Frame))


def guest_output(_: Site) -> Target:
    """What a module returned from its sandbox."""
    import msgpack

    from runtime.outcome import OutputError, parse_output

    seeds = [
        {"score": score, "valid": score > 0, "message": text, "metrics": metrics}
        for score, text, metrics in itertools.product(
            (0, 1_000_000), ("", "x" * 40, "é"), ({}, {"a": 1, "b": -(2**63)})
        )
    ]
    return Target(parse_output, (OutputError,), tuple(map(msgpack.packb, seeds)))


def wasm(_: Site) -> Target:
    """A module at admission."""
    from challenges import examples as challenges
    from runtime.admission import admit
    from runtime.errors import AdmissionError
    from tests.runtime.modules import LOG, POLICY, SHA256, module

    seeds = [module(), module(imports=LOG), module(imports=SHA256, data=b"data")]
    seeds.append(module(more="(global i32 (i32.const 0)) (table 1 funcref) (func (loop nop))"))
    seeds += [challenges.load(name).module for name in challenges.names()]
    return Target(lambda data: admit(data, POLICY), (AdmissionError,), tuple(seeds), True)


def journal(site: Site) -> Target:
    """The last segment of a journal whose other segments are whole."""
    from storage.errors import JournalError
    from storage.journal_reader import read_journal
    from tests.storage.journals import Place, filled, many_segments

    seeds = []
    for name, fill in (("one", filled), ("many", many_segments)):
        place = Place(site.folder / name)
        fill(place)
        seeds.append(place.last.read_bytes())
    last = place.last

    def run(data: bytes) -> None:
        last.write_bytes(data)
        read_journal(place.folder)

    return Target(run, (JournalError,), tuple(seeds), True)


def journal_record(_: Site) -> Target:
    """A payload of the journal."""
    from protocol.errors import DecodeError
    from storage.vow import JournalRecord, decode_record

    return Target(decode_record, (DecodeError,), examples(JournalRecord))


def signing_history(_: Site) -> Target:
    """A signing history that another machine has exported."""
    from storage.errors import VowError
    from storage.signing_history import parse_history

    seed = (
        b'{"version": 1, "network_id": "%s", "signers": [{"consensus_key": "%s", "floors": '
        b'{"epoch": 1, "view": 2, "seq": 3}, "vows": [{"phase": "prepare", "epoch": 1, '
        b'"view": 2, "seq": 4, "payload": "00ff"}]}]}' % (b"0a" * 32, b"0b" * 32)
    )

    def run(data: bytes) -> None:
        parse_history(data.decode(errors="replace"), Path("history.json"))

    return Target(run, (VowError,), (seed,))


def genesis_file(site: Site) -> Target:
    """A genesis file."""
    from protocol.records.genesis import Genesis
    from validator_node.config import load_genesis
    from validator_node.errors import ConfigError

    path = site.folder / "genesis.bin"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        load_genesis(path)

    # Many of the examples are well formed and describe a network that cannot run.
    return Target(run, (ConfigError,), examples(Genesis), refuses_seeds=True)


CONFIG = b"""genesis = "genesis.bin"
keystore = "keystore"
passphrase_file = "passphrase"
state_dir = "state"
chain_dir = "chain"
listen_host = "127.0.0.1"
listen_port = 4001
bootstrap = ["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"]
workers = 2
evaluation_deadline_ms = 30_000
submissions_per_second = 50.0
max_pending = 4096
"""


def config_file(site: Site) -> Target:
    """A configuration file."""
    from validator_node.config import load_config
    from validator_node.errors import ConfigError

    path = site.folder / "node.toml"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        load_config(path)

    return Target(run, (ConfigError,), (CONFIG,))


def platform_file(site: Site) -> Target:
    """An author's `platform.toml`."""
    from challenges import examples as challenges
    from registry.errors import SpecError
    from registry.spec import load_spec

    path = site.folder / "platform.toml"
    folder = Path(challenges.__file__).parent
    seeds = [(folder / name / "platform.toml").read_bytes() for name in challenges.names()]

    def run(data: bytes) -> None:
        path.write_bytes(data)
        load_spec(path)

    return Target(run, (SpecError,), tuple(seeds))


def receipt(_: Site) -> Target:
    """A receipt that somebody shows."""
    from consensus.receipts import verify_receipt, voters_from
    from protocol.codec import encode
    from protocol.errors import ProtocolError
    from protocol.identity import verify_consensus
    from tests.protocol.receipt_fixture import make_example

    example = make_example()
    voters = voters_from(example.genesis)

    def run(data: bytes) -> None:
        shown = verify_receipt(data, voters, verify_consensus)
        assert shown == example.receipt, "another receipt was forged"

    return Target(run, (ProtocolError,), (encode(example.receipt),))
