"""What the tests of the chain share: a small subnet, its hotkeys and a clock set by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bittensor_core import Keypair

from chain.embedded import ChainGenesis, EmbeddedChain, GenesisNeuron
from chain.interface import WeightVector


class Hotkey:
    """A hotkey signer that depends on no key store of the node."""

    def __init__(self, seed: bytes) -> None:
        self._pair = Keypair.create_from_seed(seed)
        self.public_key = bytes(self._pair.public_key)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._pair.sign(message))


ALICE, BOB, CAROL, DAVE, STRANGER = (Hotkey(bytes([n]) * 32) for n in range(1, 6))
VALIDATORS = (ALICE, BOB, CAROL, DAVE)
BLOCK_MS = 1000
TEMPO = 10
VECTOR: WeightVector = ((0, 21845), (2, 65535))
OTHER: WeightVector = ((1, 65535),)


def genesis(**changes: Any) -> ChainGenesis:
    """Four neurons, uid 0 to 3, all with a permit; one-second blocks, ten to an epoch."""
    fields: dict[str, Any] = {
        "netuid": 7,
        "start_ms": 0,
        "block_time_ms": BLOCK_MS,
        "tempo": TEMPO,
        "weights_rate_limit": 5,
        "neurons": tuple(neuron(key) for key in VALIDATORS),
    }
    return ChainGenesis(**{**fields, **changes})


def neuron(key: Hotkey, stake: int = 1000, permit: bool = True) -> GenesisNeuron:
    return GenesisNeuron(hotkey=key.public_key, stake=stake, validator_permit=permit)


@dataclass
class Clock:
    """A clock that only the test moves."""

    now_ms: int = 0

    def __call__(self) -> int:
        return self.now_ms

    def to_block(self, number: int) -> None:
        self.now_ms = number * BLOCK_MS


@dataclass
class Subnet:
    """An embedded chain with its clock."""

    directory: Path
    clock: Clock = field(default_factory=Clock)

    def chain(self, **changes: Any) -> EmbeddedChain:
        return EmbeddedChain(genesis(**changes), self.directory, self.clock)
