"""What a test network is made of: its parameters, its folders, and the files in them."""

from __future__ import annotations

import json
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from challenges import examples
from protocol.codec import encode
from protocol.records.challenge import Challenge, RuntimePolicy
from protocol.records.genesis import ChainParameters, Genesis, Neuron, Parameters
from protocol.records.validators import Validator, ValidatorSet
from registry.spec import ChallengeSpec
from runtime.engine import engine_id
from validator_node.errors import TestnetError
from validator_node.keys import Keys, Seeds, save_keystore
from validator_node.network.host import peer_id_of

HOST = "127.0.0.1"
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


@dataclass(frozen=True)
class ValidatorSite:
    """One validator's files and addresses."""

    index: int
    folder: Path
    address: str
    metrics_port: int

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
    validators: tuple[ValidatorSite, ...]
    miners: tuple[MinerSite, ...]


def challenge_record(spec: ChallengeSpec, module_hash: bytes) -> Challenge:
    """Return the protocol's record of an author's spec."""
    policy = spec.policy
    return Challenge(
        challenge_id=spec.id,
        version=spec.version,
        module_hash=module_hash,
        policy=RuntimePolicy(
            fuel=policy.fuel,
            memory_pages=policy.memory_pages,
            max_input_bytes=policy.max_input_bytes,
            max_output_bytes=policy.max_output_bytes,
            max_log_lines=policy.max_log_lines,
            host_functions=tuple(sorted(policy.host_functions)),
        ),
        params=encode(dict(sorted(spec.params.items()))),
        emission=spec.emission,
    )


def free_ports(count: int) -> list[int]:
    """Return `count` TCP ports that are free now."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(entry.getsockname()[1]) for entry in sockets]
    for entry in sockets:
        entry.close()
    return ports


def _genesis(options: TestnetOptions, validators: list[Keys], miners: list[Keys]) -> Genesis:
    weights = [STAKES[index % len(STAKES)] * RAO for index in range(len(validators))]
    neurons = [
        Neuron(uid=uid, hotkey=keys.hotkey.public_key, stake=weight, validator_permit=True)
        for uid, (keys, weight) in enumerate(zip(validators, weights, strict=True))
    ] + [
        Neuron(uid=uid, hotkey=keys.hotkey.public_key, stake=0, validator_permit=False)
        for uid, keys in enumerate(miners, start=len(validators))
    ]
    loaded = [examples.load(name) for name in examples.names()]
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
        challenges=tuple(challenge_record(e.spec, e.module_hash) for e in loaded),
        parameters=Parameters(checkpoint_interval=16),
    )


def prepare(options: TestnetOptions) -> Layout:
    """Make keys, genesis and configuration files in an empty state folder."""
    root = options.state_dir
    if root.exists() and any(root.iterdir()):
        raise TestnetError(f"{root} is not empty: choose another --state-dir or remove it")
    root.mkdir(parents=True, exist_ok=True)
    seeds = [Seeds.generate() for _ in range(options.validators)]
    miner_seeds = [Seeds.generate() for _ in range(options.miners)]
    genesis = _genesis(options, [Keys.of(s) for s in seeds], [Keys.of(s) for s in miner_seeds])
    genesis_file = root / "genesis.bin"
    genesis_file.write_bytes(encode(genesis))
    ports = free_ports(2 * options.validators)
    addresses = [
        f"/ip4/{HOST}/tcp/{port}/p2p/{peer_id_of(seed.libp2p)}"
        for port, seed in zip(ports, seeds, strict=False)
    ]
    validators = []
    for index, seed in enumerate(seeds):
        site = ValidatorSite(
            index, root / f"validator-{index}", addresses[index], ports[options.validators + index]
        )
        _write_validator(root, site, seed, ports[index], addresses)
        validators.append(site)
    miners = []
    for index, seed in enumerate(miner_seeds):
        miner = MinerSite(index, options.validators + index, root / f"miner-{index}")
        _write_miner(options, miner, seed, genesis_file, addresses)
        miners.append(miner)
    return Layout(options, genesis, genesis_file, root / "chain", tuple(validators), tuple(miners))


def _write_validator(
    root: Path, site: ValidatorSite, seeds: Seeds, port: int, addresses: list[str]
) -> None:
    site.folder.mkdir()
    passphrase = secrets.token_urlsafe(16)
    save_keystore(site.folder / "keystore", seeds, passphrase)
    secret = site.folder / "passphrase"
    secret.touch(0o600)
    secret.write_text(passphrase)
    others = [address for address in addresses if address != site.address]
    settings = {
        "genesis": str(root.absolute() / "genesis.bin"),
        "keystore": "keystore",
        "passphrase_file": "passphrase",
        "state_dir": "state",
        "chain_dir": str(root.absolute() / "chain"),
        "listen_host": HOST,
        "listen_port": port,
        "metrics_host": HOST,
        "metrics_port": site.metrics_port,
        "bootstrap": others,
        "workers": 1,
    }
    # JSON strings, numbers and lists are TOML as they stand.
    site.config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))


def _write_miner(
    options: TestnetOptions, site: MinerSite, seeds: Seeds, genesis: Path, addresses: list[str]
) -> None:
    site.folder.mkdir()
    first = site.index % len(addresses)
    chosen = [addresses[first], addresses[(first + 1) % len(addresses)]]
    settings = {
        "seed": seeds.hotkey.hex(),
        "genesis": str(genesis.absolute()),
        "bootstrap": list(dict.fromkeys(chosen)),
        "skill": site.index % 4,
        "per_message": options.per_message,
        "interval_s": options.interval_s,
        "listen_host": HOST,
        "report": str(site.report.absolute()),
    }
    site.config.touch(0o600)
    site.config.write_text(json.dumps(settings, indent=1))
