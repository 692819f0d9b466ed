"""The one write: a weights call, composed and submitted through the SDK, signed by the node.

Rules:
1. The vector goes out byte for byte as it was certified. The SDK's `SetWeights` fits vectors to the
   subnet: above the maximum weight it sends another vector in silence, and it refuses short ones
   that the chain takes in a small subnet. So the call is composed here from the SDK's own parts,
   and what does not fit is refused by the chain, by its name.
2. The subnet decides the kind: openly, or with commit-reveal as a timelocked commit, which the
   chain opens itself. Kind, schedule and rate are read at one block, just before.
3. The key never comes here: the SDK gets an object with the public key whose `sign` asks the
   node's signer in a thread of its own, since a remote signer may be slow.
4. It waits for finality; what a reorganisation takes back was not included. It never retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from chain.bittensor.errors import as_chain_error
from chain.bittensor.reads import PALLET, Substrate, block_hash_of
from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.interface import MAX_UID, MAX_WEIGHT, Block, HotkeySigner, Submitted, WeightVector
from protocol.identity import ss58_of

COMMIT_REVEAL_VERSION = 4
CALL_LIFE_BLOCKS = 64
"""A call that is in no block this long after its signature is never included any more."""

_MOST_MECHANISMS = 256
_MOST_VERSION_KEY = (1 << 64) - 1
_SIGNATURE_BYTES = 64
_SR25519 = 1


class SdkSigner:
    """What the SDK wants of a key (`bittensor.Signer`), around the node's signer.

    `failure` is what the signer raised; `unfinished` says that it was asked and did not answer.
    """

    crypto_type = _SR25519

    def __init__(self, signer: HotkeySigner) -> None:
        self.public_key = signer.public_key
        self.ss58_address = ss58_of(signer.public_key)
        self.unfinished = False
        self.failure: Exception | None = None
        self._sign = signer.sign

    async def sign(self, payload: bytes) -> bytes:
        """Return the signature; whatever the signer raises is kept in `failure`."""
        self.unfinished = True
        try:
            signature = await asyncio.get_running_loop().run_in_executor(
                None, _signature, self._sign, payload
            )
        except Exception as error:
            self.failure = error
            raise
        self.unfinished = False
        return signature


def _signature(sign: Callable[[bytes], bytes], payload: bytes) -> bytes:
    signature = sign(payload)
    if len(signature) != _SIGNATURE_BYTES:
        raise ValueError(f"signature of {len(signature)} bytes, want {_SIGNATURE_BYTES}")
    return signature


def require_sendable(vector: WeightVector, mechanism: int, version_key: int) -> None:
    """Raise `ChainError` for what no call can carry, and for an empty vector.

    The chain would take an empty one as the wish to give nobody anything.
    """
    if not vector:
        raise ChainError(Code.EMPTY_VECTOR, "no weights; nothing is sent in their place")
    fits = (
        all(0 <= uid <= MAX_UID and 0 <= value <= MAX_WEIGHT for uid, value in vector)
        and 0 <= mechanism < _MOST_MECHANISMS
        and 0 <= version_key <= _MOST_VERSION_KEY
    )
    if not fits:
        raise ChainError(
            Code.MALFORMED_CALL,
            f"{len(vector)} weights, mechanism {mechanism}, version key {version_key}: uids and "
            "weights are unsigned 16-bit numbers, a mechanism has 8 bits, a version key 64",
        )


async def set_weights(
    substrate: Substrate,
    netuid: int,
    signer: SdkSigner,
    vector: WeightVector,
    *,
    mechanism: int,
    version_key: int,
) -> Submitted:
    """Send `vector`, wait until its block is final, return that block; else `ChainError`."""
    head = int(await substrate.block_number())
    at = await substrate.block_hash(head)
    commits = bool(await substrate.query(PALLET, "CommitRevealWeightsEnabled", [netuid], at))
    what = "weights commit" if commits else "weights call"
    uids, values = [uid for uid, _ in vector], [value for _, value in vector]
    arguments: dict[str, Any] = {"netuid": netuid, "mecid": mechanism}
    if commits:
        function = "commit_timelocked_mechanism_weights"
        sealed, drand_round = await _sealed(
            substrate, netuid, signer.public_key, uids, values, version_key, head, at
        )
        arguments |= {
            "commit": sealed,
            "reveal_round": drand_round,
            "commit_reveal_version": COMMIT_REVEAL_VERSION,
        }
    else:
        function = "set_mechanism_weights"
        arguments |= {"dests": uids, "weights": values, "version_key": version_key}
    call = await substrate.compose((PALLET, function, arguments))
    try:
        result = await substrate.submit(call, signer, period=CALL_LIFE_BLOCKS)
    except asyncio.CancelledError:
        # The SDK counts nonces by itself. One that was never sent would block all that follow.
        substrate.raw.clear_nonce_cache_for_account(signer.ss58_address)
        raise
    except Exception as error:
        if signer.failure is not None:
            raise signer_failed(signer) from signer.failure
        raise as_chain_error(error, what=what, commits=commits) from error
    if not result.success:
        raise as_chain_error(result.error, what=what, commits=commits)
    number = int(result.extrinsic_id.partition("-")[0])
    return Submitted(Block(number, block_hash_of(result.block_hash)), result.extrinsic_id)


async def _sealed(
    substrate: Substrate,
    netuid: int,
    hotkey: bytes,
    uids: list[int],
    values: list[int],
    version_key: int,
    head: int,
    at: str,
) -> tuple[bytes, int]:
    """Return the vector sealed for the drand round of its reveal, and that round."""
    import bittensor_core  # compiled, and needed for commits only

    names = (
        "Tempo", "RevealPeriodEpochs", "LastEpochBlock", "PendingEpochAt", "SubnetEpochIndex",
        "BlocksSinceLastStep",
    )  # fmt: skip
    found = await asyncio.gather(*(substrate.query(PALLET, name, [netuid], at) for name in names))
    clock = {name: int(value or 0) for name, value in zip(names, found, strict=True)}
    sealed, drand_round = bittensor_core.get_encrypted_commit_v2(
        uids=uids,
        weights=values,
        version_key=version_key,
        last_epoch_block=clock["LastEpochBlock"],
        pending_epoch_at=clock["PendingEpochAt"],
        subnet_epoch_index=clock["SubnetEpochIndex"],
        tempo=clock["Tempo"],
        blocks_since_last_step=clock["BlocksSinceLastStep"],
        current_block=head,
        subnet_reveal_period_epochs=clock["RevealPeriodEpochs"],
        block_time=await substrate.block_time(),
        hotkey=hotkey,
    )
    return bytes(sealed), int(drand_round)


def signer_failed(signer: SdkSigner) -> ChainError:
    """Return the error for a signer that raised, or that has not answered yet."""
    why = "no answer yet" if signer.failure is None else repr(signer.failure)
    return ChainError(
        Code.SIGNER_FAILED,
        f"the signer of {signer.ss58_address} did not sign: {why}; nothing was sent. Check the "
        "signer",
    )
