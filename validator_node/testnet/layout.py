"""What a test network is made of: its parameters, its folders, and the files in them."""

from __future__ import annotations

import json
import secrets
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from challenges import examples
from challenges.record import challenge_record
from protocol.codec import encode
from protocol.records.genesis import ChainParameters, Genesis, Neuron, Parameters
from protocol.records.validators import Validator, ValidatorSet
from runtime.engine import engine_id
from validator_node.errors import TestnetError
from validator_node.journal_bridge import begin_history
from validator_node.keys import Keys, Seeds, save_keystore
from validator_node.network.host import peer_id_of
from validator_node.testnet.chain_site import STALE_S, ChainSite, write_chain
from validator_node.testnet.wiring import HOST, Loopback, Wiring, tcp_multiaddr

STAKES = (310, 270, 230, 190)
"""Stakes of the validators, in order; further ones repeat them."""
RAO = 1_000_000_000
NETUID = 1


@dataclass(frozen=True, kw_only=True)
class TestnetOptions:
    """What the caller of a test network chooses."""

    __test__ = False

    state_dir: Path
    validators: int = 4
    miners: int = 4
    duration_s: float = 60.0
    kill_one: bool = False
    report: Path | None = None
    block_time_ms: int = 1000
    tempo: int = 20
    per_message: int = 4
    interval_s: float = 0.5
    stakes: tuple[int, ...] = STAKES
    """Stakes of the validators, in order, in TAO; further ones repeat them."""
    observers: int = 0
    """Nodes whose keys are in no validator set; their indices follow the validators'."""
    challenges: tuple[str, ...] = ()
    """Names of the example challenges; empty for all of them."""
    body_bytes: int = 0
    """The length to which the miners fill up every fourth body."""
    skills: tuple[int, ...] = (0, 1, 2, 3)
    """Skills of the miners, in order; further ones repeat them."""
    devchain: bool = False
    """Whether the validators submit through the Bittensor SDK to a development chain of their own;
    otherwise they share the embedded chain."""
    away: frozenset[int] = frozenset()
    """Nodes that do not run from the beginning: no miner counts on them."""


@dataclass(frozen=True)
class ValidatorSite:
    """One validator's (or observer's) files and addresses."""

    index: int
    folder: Path
    address: str
    metrics_port: int
    metrics_host: str = HOST
    prefix: tuple[str, ...] = ()
    """What stands before the node's command, such as the entry into its network namespace."""

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "node.toml"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.folder / "node.log"


@dataclass(frozen=True)
class MinerSite:
    """One miner's files."""

    index: int
    uid: int
    folder: Path

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "miner.json"

    @property
    def report(self) -> Path:
        """Where it writes what it did."""
        return self.folder / "report.json"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.folder / "miner.log"


@dataclass(frozen=True)
class Layout:
    """A prepared network."""

    options: TestnetOptions
    genesis: Genesis
    genesis_file: Path
    chain_dir: Path
    chain: ChainSite | None
    """The development chain, None for the embedded one in `chain_dir`."""
    validators: tuple[ValidatorSite, ...]
    miners: tuple[MinerSite, ...]
    observers: tuple[ValidatorSite, ...] = field(default=())

    @property
    def nodes(self) -> tuple[ValidatorSite, ...]:
        """Validators and observers, by index."""
        return self.validators + self.observers


def _genesis(options: TestnetOptions, validators: list[Keys], miners: list[Keys]) -> Genesis:
    stakes = options.stakes
    weights = [stakes[index % len(stakes)] * RAO for index in range(len(validators))]
    neurons = [
        Neuron(uid=uid, hotkey=keys.hotkey.public_key, stake=weight, validator_permit=True)
        for uid, (keys, weight) in enumerate(zip(validators, weights, strict=True))
    ] + [
        Neuron(uid=uid, hotkey=keys.hotkey.public_key, stake=0, validator_permit=False)
        for uid, keys in enumerate(miners, start=len(validators))
    ]
    loaded = [examples.load(name) for name in options.challenges or examples.names()]
    return Genesis(
        name="testnet",
        engine_id=engine_id(),
        owner=validators[0].hotkey.public_key,
        chain=ChainParameters(
            netuid=NETUID,
            start_ms=time.time_ns() // 1_000_000,
            block_time_ms=options.block_time_ms,
            tempo=options.tempo,
            weights_rate_limit=options.tempo // 2,
            min_stake=RAO,
        ),
        neurons=tuple(neurons),
        validators=ValidatorSet(
            epoch=0,
            members=tuple(
                Validator(
                    hotkey=keys.hotkey.public_key,
                    consensus_key=keys.consensus.public_key,
                    weight=weight,
                )
                for keys, weight in zip(validators, weights, strict=True)
            ),
        ),
        challenges=tuple(
            challenge_record(e.spec, e.module_hash, e.blobs, e.vectors) for e in loaded
        ),
        parameters=Parameters(checkpoint_interval=16),
    )


def claim(folder: Path) -> None:
    """Make an empty folder; `TestnetError` if there is something in it."""
    if folder.exists() and any(folder.iterdir()):
        raise TestnetError(f"{folder} is not empty: choose another --state-dir or remove it")
    folder.mkdir(parents=True, exist_ok=True)


def prepare(options: TestnetOptions, wiring: Wiring | None = None) -> Layout:
    """Make keys, genesis and configuration files in an empty state folder.

    With a wiring of its own the caller has claimed the folder, and may have put files there.
    """
    root = options.state_dir
    if wiring is None:
        claim(root)
        wiring = Loopback(options.validators + options.observers)
    seeds = [Seeds.generate() for _ in range(options.validators + options.observers)]
    miner_seeds = [Seeds.generate() for _ in range(options.miners)]
    founders = [Keys.of(seed) for seed in seeds[: options.validators]]
    genesis = _genesis(options, founders, [Keys.of(seed) for seed in miner_seeds])
    genesis_file = root / "genesis.bin"
    genesis_file.write_bytes(encode(genesis))
    chain = write_chain(root / "chain", genesis) if options.devchain else None
    where: dict[str, object] = {"chain_dir": str((root / "chain").absolute())}
    if chain is not None:
        where = {"chain_endpoints": [chain.url], "chain_stale_s": STALE_S}
    peer_ids = [str(peer_id_of(seed.libp2p)) for seed in seeds]
    nodes = []
    for index, seed in enumerate(seeds):
        site = _site(options, index, wiring, peer_ids[index])
        dialled = [
            multiaddr_of(*wiring.dial(index, other), peer_id)
            for other, peer_id in enumerate(peer_ids)
            if other != index
        ]
        _write_validator(root, site, seed, wiring, {"bootstrap": dialled, **where})
        nodes.append(site)
    addresses = [site.address for site in nodes if site.index not in options.away]
    miners = []
    for index, seed in enumerate(miner_seeds):
        miner = MinerSite(index, options.validators + index, root / f"miner-{index}")
        _write_miner(options, miner, seed, wiring.miner_host, addresses)
        miners.append(miner)
    validators, observers = nodes[: options.validators], nodes[options.validators :]
    return Layout(
        options,
        genesis,
        genesis_file,
        root / "chain",
        chain,
        tuple(validators),
        tuple(miners),
        tuple(observers),
    )


def multiaddr_of(host: str, port: int, peer_id: str) -> str:
    """Return the multiaddr of a peer that listens on a TCP port at an IP address or name."""
    return f"{tcp_multiaddr(host, port)}/p2p/{peer_id}"


def _site(options: TestnetOptions, index: int, wiring: Wiring, peer_id: str) -> ValidatorSite:
    place = wiring.place(index)
    observer = index >= options.validators
    name = f"observer-{index}" if observer else f"validator-{index}"
    address = multiaddr_of(place.host, place.port, peer_id)
    return ValidatorSite(
        index,
        options.state_dir / name,
        address,
        place.metrics_port,
        place.host,
        wiring.prefix(index),
    )


def _write_validator(
    root: Path,
    site: ValidatorSite,
    seeds: Seeds,
    wiring: Wiring,
    own: Mapping[str, object],
) -> None:
    site.folder.mkdir()
    passphrase = secrets.token_urlsafe(16)
    save_keystore(site.folder / "keystore", seeds, passphrase)
    begin_history(site.folder / "state", Keys.of(seeds).consensus.public_key)
    secret = site.folder / "passphrase"
    secret.touch(0o600)
    secret.write_text(passphrase)
    place = wiring.place(site.index)
    write_settings(
        site,
        {
            "genesis": str(root.absolute() / "genesis.bin"),
            "keystore": "keystore",
            "passphrase_file": "passphrase",
            "state_dir": "state",
            "listen_host": place.host,
            "listen_port": place.port,
            "metrics_host": place.host,
            "metrics_port": place.metrics_port,
            "workers": 1,
            **own,
            **wiring.settings,
        },
    )


def write_settings(site: ValidatorSite, settings: Mapping[str, object]) -> None:
    """Write a node's configuration file."""
    # JSON strings, numbers, booleans and lists are TOML as they stand.
    site.config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))


def change_settings(site: ValidatorSite, changes: Mapping[str, object]) -> None:
    """Change some settings in a node's configuration file; they count when it starts again."""
    write_settings(site, {**tomllib.loads(site.config.read_text()), **changes})


def _write_miner(
    options: TestnetOptions,
    site: MinerSite,
    seeds: Seeds,
    listen_host: str,
    addresses: Sequence[str],
) -> None:
    site.folder.mkdir()
    first = site.index % len(addresses)
    chosen = [addresses[first], addresses[(first + 1) % len(addresses)]]
    settings = {
        "seed": seeds.hotkey.hex(),
        "genesis": str((options.state_dir / "genesis.bin").absolute()),
        "bootstrap": list(dict.fromkeys(chosen)),
        "skill": options.skills[site.index % len(options.skills)],
        "per_message": options.per_message,
        "interval_s": options.interval_s,
        "body_bytes": options.body_bytes,
        "listen_host": listen_host,
        "report": str(site.report.absolute()),
    }
    site.config.touch(0o600)
    site.config.write_text(json.dumps(settings, indent=1))
