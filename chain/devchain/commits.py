"""Commit-reveal: weights that are hidden first and applied later. Pure.

Rules:
1. A timelocked commit (version 4) is a ciphertext that the signature of a drand round opens. In
   the epoch `reveal_period` epochs after its own the chain opens and applies it, before anything
   else of a block. Without that round's signature it waits through that epoch; afterwards it is
   dropped. Whatever fails is only logged by the live chain; here it is returned as a reason.
2. A hash commit is revealed by its owner in exactly that epoch.
3. At most ten commits of a hotkey are unrevealed, for each mechanism; a commit updates the last
   update, applying it does not.
4. Whoever is revealed is checked as for a plain call, without the rate limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from bittensor_core import decrypt_with_signature
from msgspec.structs import replace

from chain.devchain.epochs import current_epoch
from chain.devchain.errors import DispatchRefusedError
from chain.devchain.scale import Reader, ScaleError, blake2_256, compact, vec_u16
from chain.devchain.state import HashCommit, State, TimelockedCommit, WeightRow
from chain.errors import ChainError
from chain.rules import CallUnderCheck, blocks_until_allowed, checked_weights

MAX_UNREVEALED = 10
MAX_COMMIT_BYTES = 5000


@dataclass(frozen=True, slots=True)
class Weights:
    """What a weights call or a revealed commit wants to set."""

    hotkey: bytes
    mechanism: int
    uids: tuple[int, ...]
    values: tuple[int, ...]
    version_key: int


@dataclass(frozen=True, slots=True)
class Reveal:
    """What became of a commit whose turn it was: applied, or the reason why not."""

    mechanism: int
    hotkey: bytes
    failure: str | None = None


def applied(state: State, wanted: Weights, block: int) -> State:
    """Return the state with `wanted` stored; raises `DispatchRefusedError` for the first fault."""
    uid = state.uid_of(wanted.hotkey)
    last_update = 0 if uid is None else state.last_update(uid, wanted.mechanism)
    call = CallUnderCheck(
        hotkey=wanted.hotkey,
        uids=wanted.uids,
        values=wanted.values,
        mechanism=wanted.mechanism,
        version_key=wanted.version_key,
        block=block,
        last_update=last_update,
        rate_limit=state.rules.weights_rate_limit,
    )
    try:
        vector = checked_weights(state.metagraph(), call)
    except ChainError as error:
        raise DispatchRefusedError(error.code.value, str(error)) from error
    assert uid is not None, "the checks pass for registered hotkeys only"
    row = WeightRow(mechanism=wanted.mechanism, uid=uid, vector=vector)
    state = state.with_weights(row)
    if state.rules.commit_reveal:
        return state
    return state.with_update(uid, wanted.mechanism, block)


def _check_commit(state: State, hotkey: bytes, mechanism: int, block: int) -> int:
    """Return the committer's uid; raises `DispatchRefusedError` if it may not commit at `block`."""
    uid = state.uid_of(hotkey)
    if uid is None:
        raise DispatchRefusedError("HotKeyNotRegisteredInSubNet", f"hotkey {hotkey.hex()}")
    last = state.last_update(uid, mechanism)
    wait = blocks_until_allowed(last, block, state.rules.weights_rate_limit)
    if wait > 0:
        raise DispatchRefusedError(
            "CommittingWeightsTooFast", f"uid {uid} committed at {last}, wait {wait} blocks"
        )
    return uid


def with_timelocked(state: State, commit: TimelockedCommit) -> State:
    """Return the state with the commit queued; `TooManyUnrevealedCommits` beyond the limit."""
    uid = _check_commit(state, commit.hotkey, commit.mechanism, commit.block)
    place = (commit.mechanism, commit.epoch, commit.hotkey)
    waiting = [one for one in state.commits if (one.mechanism, one.epoch, one.hotkey) == place]
    _require_room(len(waiting), uid)
    state = replace(state, commits=(*state.commits, commit))
    return state.with_update(uid, commit.mechanism, commit.block)


def with_hash(state: State, commit: HashCommit) -> State:
    """Return the state with the hash commit queued and the hotkey's expired ones dropped."""
    uid = _check_commit(state, commit.hotkey, commit.mechanism, commit.block)
    kept = tuple(one for one in state.hash_commits if not _expired(state, one, commit))
    place = (commit.mechanism, commit.hotkey)
    _require_room(sum((one.mechanism, one.hotkey) == place for one in kept), uid)
    state = replace(state, hash_commits=(*kept, commit))
    return state.with_update(uid, commit.mechanism, commit.block)


def commit_hash(state: State, wanted: Weights, salt: tuple[int, ...]) -> bytes:
    """Return the hash that a hash commit of `wanted` carries."""
    return blake2_256(
        wanted.hotkey
        + state.storage_index(wanted.mechanism).to_bytes(2, "little")
        + vec_u16(wanted.uids)
        + vec_u16(wanted.values)
        + vec_u16(salt)
        + wanted.version_key.to_bytes(8, "little")
    )


def find_hash(state: State, hotkey: bytes, mechanism: int, digest: bytes) -> HashCommit | None:
    """Return the hotkey's queued commit with this hash, or None."""
    wanted = (mechanism, hotkey, digest)
    matching = (
        one for one in state.hash_commits if (one.mechanism, one.hotkey, one.digest) == wanted
    )
    return next(matching, None)


def revealed_by_owner(state: State, wanted: Weights, salt: tuple[int, ...], block: int) -> State:
    """Return the state with a hash commit revealed and applied; else `DispatchRefusedError`."""
    mine = (wanted.mechanism, wanted.hotkey)
    queue = [one for one in state.hash_commits if (one.mechanism, one.hotkey) == mine]
    digest = commit_hash(state, wanted, salt)
    commit = find_hash(state, wanted.hotkey, wanted.mechanism, digest)
    epoch, period = current_epoch(state, block), state.rules.reveal_period
    if commit is not None and epoch > commit.epoch + period:
        raise DispatchRefusedError("ExpiredWeightCommit", f"of epoch {commit.epoch}, now {epoch}")
    if not any(epoch <= one.epoch + period for one in queue):
        raise DispatchRefusedError("NoWeightsCommitFound", "nothing is committed")
    if commit is None:
        raise DispatchRefusedError("InvalidRevealCommitHashNotMatch", f"{len(queue)} commits")
    if epoch < commit.epoch + period:
        raise DispatchRefusedError("RevealTooEarly", f"of epoch {commit.epoch}, now {epoch}")
    done = queue[: queue.index(commit) + 1]
    kept = tuple(one for one in state.hash_commits if one not in done)
    return applied(replace(state, hash_commits=kept), wanted, block)


def revealed_by_chain(state: State, block: int) -> tuple[State, tuple[Reveal, ...]]:
    """Return the state after the reveals of `block`, and what became of each commit."""
    due_epoch = current_epoch(state, block) - state.rules.reveal_period
    due = [one for one in state.commits if one.epoch == due_epoch]
    state = replace(state, commits=tuple(one for one in state.commits if one.epoch > due_epoch))
    signatures = {pulse.round: pulse.signature for pulse in state.pulses}
    waiting, reveals = [], []
    for commit in due:
        signature = signatures.get(commit.reveal_round)
        if signature is None:
            waiting.append(commit)
            continue
        try:
            state = applied(state, opened(commit, signature), block)
        except (DispatchRefusedError, ScaleError) as error:
            reveals.append(Reveal(commit.mechanism, commit.hotkey, str(error)))
        else:
            reveals.append(Reveal(commit.mechanism, commit.hotkey))
    return replace(state, commits=(*waiting, *state.commits)), tuple(reveals)


def without_due(state: State, block: int) -> State:
    """Return the state without the commits whose turn it is, as if they could not be opened."""
    due_epoch = current_epoch(state, block) - state.rules.reveal_period
    return replace(state, commits=tuple(one for one in state.commits if one.epoch > due_epoch))


def opened(commit: TimelockedCommit, signature: bytes) -> Weights:
    """Return what is inside; `ScaleError` if the signature does not open it or it is not his."""
    envelope = (
        compact(len(commit.ciphertext))
        + commit.ciphertext
        + commit.reveal_round.to_bytes(8, "little")
    )
    try:
        plain = bytes(decrypt_with_signature(envelope, signature.hex()))
    except ValueError as error:
        raise ScaleError(f"round {commit.reveal_round} does not open it: {error}") from error
    reader = Reader(plain)
    hotkey = reader.vec_u8("hotkey")
    if hotkey != commit.hotkey:
        raise ScaleError(f"committed by {commit.hotkey.hex()}, but it names {hotkey.hex()}")
    return Weights(
        hotkey=hotkey,
        mechanism=commit.mechanism,
        uids=reader.vec_u16("uids"),
        values=reader.vec_u16("values"),
        version_key=reader.integer(8, "version key"),
    )


def _require_room(waiting: int, uid: int) -> None:
    if waiting >= MAX_UNREVEALED:
        raise DispatchRefusedError(
            "TooManyUnrevealedCommits", f"uid {uid} has {waiting}, {MAX_UNREVEALED} is the limit"
        )


def _expired(state: State, old: HashCommit, new: HashCommit) -> bool:
    mine = (old.mechanism, old.hotkey) == (new.mechanism, new.hotkey)
    return mine and new.epoch > old.epoch + state.rules.reveal_period
