"""Whether a vector may be submitted now, as a pure function of what was read from the chain.

Rules:
1. What the chain would refuse is refused here first, by the chain's own name, so that no rate
   limit and no fee is spent on it. Only what time alone will cure is a `Wait`.
2. Refusals come before waits: nobody waits a hundred blocks to be refused.
3. An empty vector is refused by name. There is no fallback to uid 0.
4. Submitters are staggered: each hotkey has its own block in a window after the epoch closed.
5. A weight was earned by a hotkey, not by a uid: what a uid's next holder would inherit is left out
   before anything is asked, and the rest is fitted to the chain's limits again.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from chain.errors import ChainError, ChainErrorCode
from chain.fitting import fit
from chain.interface import EpochStatus, Metagraph, WeightVector
from chain.rules import CallUnderCheck, blocks_until_allowed, checked_weights
from chain.weights import is_normal_form
from protocol.codec import sha256

STAGGER_DOMAIN = b"chain/stagger/1\n"


@dataclass(frozen=True, slots=True)
class Ready:
    """Submit now."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after `blocks` (at least 1), for `reason`; `cause` names it for a metric."""

    blocks: int
    reason: str
    cause: Literal["rate_limit", "turn"] = "rate_limit"


@dataclass(frozen=True, slots=True)
class Refused:
    """Not submitted, and waiting does not help: `code` as the chain (or this node) names it."""

    code: ChainErrorCode
    reason: str


def stagger_blocks(seed: bytes, hotkey: bytes, window: int) -> int:
    """Return the hotkey's delay in blocks, in [0, window): the same for all who know the seed.

    The first 16 bytes of sha256(domain, sha256(seed), hotkey), big-endian, modulo the window: the
    bias is below 2**-64. A window of 1 or less gives 0.
    """
    if window <= 1:
        return 0
    return int.from_bytes(sha256(STAGGER_DOMAIN, sha256(seed), hotkey)[:16], "big") % window


def without_reused(
    vector: WeightVector, holders: tuple[bytes, ...], metagraph: Metagraph
) -> WeightVector:
    """Return `vector` without the uids that have changed hands since, within the chain's limits.

    `holders` are the hotkeys that the weights were earned by, in the order of the vector; () if
    that is unknown, which leaves the vector as it is. A uid that no longer exists is left out, too.
    If one was left out, the others are fitted anew (`chain.fitting`): what was within the subnet's
    largest share and least length with it need not be without it. Missing entries are filled with
    uids that had no weight, never with one that was left out. () if nothing is left, or too few
    are for the largest weight.

    By hand: ((1, 65535), (2, 32768), (4, 16384)) without uid 1 has the largest 32768, so
    16384 * 65535 / 32768 = 32767.5, to even 32768: ((2, 65535), (4, 32768)).

    Raises `ValueError` unless there is one holder for each uid.
    """
    if not holders:
        return vector
    now = {neuron.uid: neuron.hotkey for neuron in metagraph.neurons}
    kept = {
        uid: Fraction(weight)
        for (uid, weight), holder in zip(vector, holders, strict=True)
        if now.get(uid) == holder
    }
    if len(kept) == len(vector):
        return vector
    rules, others = metagraph.rules, now.keys() - {uid for uid, _ in vector}
    return fit(
        kept,
        kept.keys() | others,
        max_limit=rules.max_weight_limit,
        min_length=min(rules.min_allowed_weights, len(now)),
    ).vector


def vector_fault(vector: WeightVector) -> Refused | None:
    """Return why `vector` is nothing to submit at all, or None: it is empty or not normal."""
    if not vector:
        return Refused(
            ChainErrorCode.EMPTY_VECTOR,
            "there are no weights to submit; nothing is sent in their place, so look for why no "
            "challenge has scores or emission",
        )
    if not is_normal_form(vector):
        return Refused(
            ChainErrorCode.NOT_NORMAL_FORM,
            f"{len(vector)} weights that are not in normal form (ascending uids, values in "
            "1..65535, the largest 65535), so what is read back would differ; use normal_form",
        )
    return None


def preflight(
    metagraph: Metagraph,
    epoch_status: EpochStatus,
    hotkey: bytes,
    block: int,
    rate_limit: int,
    vector: WeightVector,
    *,
    mechanism: int = 0,
    version_key: int = 0,
    last_update: int | None = None,
    not_before: int = 0,
    until_block: int | None = None,
) -> Ready | Wait | Refused:
    """Return what to do with `vector` at `block`.

    `last_update` is that of `mechanism`; by default the metagraph's, which is of mechanism 0.
    `not_before` is this hotkey's staggered block. `until_block` is the first block at which the
    vector is superseded, by default never: a wait that reaches it is refused as `expired`.
    `epoch_status` is that of `block` and is named in the reasons.
    """
    fault = vector_fault(vector)
    if fault is not None:
        return fault
    neuron = metagraph.by_hotkey(hotkey)
    if last_update is None:
        last_update = 0 if neuron is None else neuron.last_update
    call = CallUnderCheck(
        hotkey=hotkey,
        uids=tuple(uid for uid, _ in vector),
        values=tuple(value for _, value in vector),
        mechanism=mechanism,
        version_key=version_key,
        block=block,
        last_update=0,  # rule 2: every check but the rate limit
        rate_limit=rate_limit,
    )
    try:
        checked_weights(metagraph, call)
    except ChainError as error:
        return Refused(error.code, str(error))
    rate_wait = blocks_until_allowed(last_update, block, rate_limit)
    stagger_wait = max(0, not_before - block)
    return _timed(epoch_status, block, rate_wait, stagger_wait, until_block)


def _timed(
    epoch_status: EpochStatus,
    block: int,
    rate_wait: int,
    stagger_wait: int,
    until_block: int | None,
) -> Ready | Wait | Refused:
    blocks = max(rate_wait, stagger_wait)
    if until_block is not None and block + blocks >= until_block:
        return Refused(
            ChainErrorCode.EXPIRED,
            f"at block {block} of epoch {epoch_status.epoch} the earliest block is "
            f"{block + blocks}, the vector is superseded at {until_block}; submit the next one",
        )
    if blocks == 0:
        return Ready()
    limited = rate_wait >= stagger_wait
    what = "the rate limit" if limited else "this hotkey's staggered turn"
    return Wait(
        blocks,
        f"{what} allows block {block + blocks}, it is block {block} of epoch "
        f"{epoch_status.epoch}, which ends before block {epoch_status.next_epoch_block}",
        cause="rate_limit" if limited else "turn",
    )
