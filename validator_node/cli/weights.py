"""`validator-node weights` and `validator-node metagraph`: what a stopped node's state says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from protocol.identity import ss58_of
from protocol.records.genesis import Neuron
from validator_node.config import load_config, load_genesis
from validator_node.errors import AbsentError
from validator_node.explanation import Explanation
from validator_node.terminal import say, say_json, say_table

app = typer.Typer(no_args_is_help=True, help="Weights: show, explain, submit.")

ConfigOption = Annotated[Path, typer.Option(help="TOML configuration of the stopped node")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@contextmanager
def _opened(config: Path) -> Iterator[Any]:
    from validator_node.opening import look_at_store

    loaded = load_config(config)
    with look_at_store(loaded.state_dir, load_genesis(loaded.genesis)) as store:
        yield store


@app.command()
def show(
    config: ConfigOption,
    epoch: Annotated[int | None, typer.Option(help="default: the newest closed one")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the certified vectors of a closed epoch, and what they were computed from."""
    with _opened(config) as store:
        wanted = store.epoch - 1 if epoch is None else epoch
        weights = store.weights(wanted) if wanted >= 0 else None
    if weights is None:
        raise AbsentError(f"epoch {wanted} has no weights here: it has not ended, or never was")
    content = {
        "epoch": weights.epoch,
        "block": weights.block,
        "block_hash": weights.block_hash.hex(),
        "snapshot_hash": weights.snapshot_hash.hex(),
        "mechanisms": [
            {
                "mechanism": one.mechanism,
                "reason": one.reason,
                "padded": list(one.padded),
                "weights": {str(entry.uid): entry.weight for entry in one.vector},
            }
            for one in weights.mechanisms
        ],
        "shares": [
            {name: getattr(share, name) for name in share.__struct_fields__}
            for share in weights.shares
        ],
        "masked": [
            {"hotkey": ss58_of(one.hotkey), "uid": one.uid, "reason": one.reason}
            for one in weights.masked
        ],
        "masked_count": weights.masked_count,
    }
    if as_json:
        say_json(content)
        return
    say(f"epoch {weights.epoch}, ended by block {weights.block}")
    for one in weights.mechanisms:
        title = f"mechanism {one.mechanism}" + (f": {one.reason}" if one.reason else "")
        rows = [(entry.uid, entry.weight, "*" * (entry.uid in one.padded)) for entry in one.vector]
        _print(title, ("uid", "weight", "padded"), rows)
    shares = [(s.challenge_id, s.mechanism, s.emission, s.score_sum, s.reason)
              for s in weights.shares]  # fmt: skip
    _print("challenges", ("challenge", "mechanism", "emission", "score sum", "reason"), shares)
    masked = [(ss58_of(one.hotkey), one.uid, one.reason) for one in weights.masked]
    _print(f"masked: {weights.masked_count}", ("hotkey", "uid", "reason"), masked)


@app.command("explain")
def explain_uid(
    uid: Annotated[int, typer.Argument(help="the miner's uid")],
    config: ConfigOption,
    as_json: JsonOption = False,
) -> None:
    """Say why a uid has its weight in the newest closed epoch, and why it has none."""
    from validator_node.explanation import explain

    with _opened(config) as store:
        found = explain(store.tree.view(), uid)
    if found is None:
        raise AbsentError("no epoch has ended yet: there are no weights to explain")
    if as_json:
        say_json(_explained(found))
        return
    holder = "nobody" if found.hotkey is None else ss58_of(found.hotkey)
    say(f"uid {uid}, held by {holder}, epoch {found.epoch}")
    for mechanism, weight in found.weights.items():
        say(f"mechanism {mechanism}: weight {weight}, {found.reasons[mechanism]}")
    rows = [
        (
            part.challenge_id,
            f"{part.emission}/{part.emission_sum}",
            f"{part.score}/{part.score_sum}",
            f"{float(part.amount):.6f}",
            part.reason or (part.submission_id or b"").hex()[:16],
        )
        for part in found.parts
    ]
    _print("parts", ("challenge", "emission", "score", "share", "submission or reason"), rows)
    ended = ", ".join(f"{count} {name}" for name, count in found.results.items()) or "none"
    say(f"submissions that ended in this epoch: {ended}")
    for one in found.masked:
        say(f"masked: {ss58_of(one.hotkey)}, {one.reason}")


def _explained(found: Explanation) -> dict[str, Any]:
    return {
        "epoch": found.epoch,
        "uid": found.uid,
        "hotkey": None if found.hotkey is None else ss58_of(found.hotkey),
        "weights": {str(mechanism): weight for mechanism, weight in found.weights.items()},
        "reasons": {str(mechanism): reason for mechanism, reason in found.reasons.items()},
        "parts": [
            {
                "challenge": part.challenge_id,
                "mechanism": part.mechanism,
                "emission": [part.emission, part.emission_sum],
                "score": [part.score, part.score_sum],
                "share": str(part.amount),
                "submission": None if part.submission_id is None else part.submission_id.hex(),
                "reason": part.reason,
            }
            for part in found.parts
        ],
        "results": found.results,
        "masked": [{"hotkey": ss58_of(m.hotkey), "reason": m.reason} for m in found.masked],
    }


@app.command()
def submit(
    config: ConfigOption,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done, and send nothing")
    ] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="send weights of an epoch that the chain has left, too")
    ] = False,
) -> None:
    """Carry the newest certified weights to the chain, as the node does when it runs."""
    from validator_node.cli.weights_submit import submit_weights

    submit_weights(config, dry_run=dry_run, stale=stale)


def metagraph(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show the neurons that the validators agreed on, and who votes in this epoch."""
    from protocol.codec import decode
    from registry import keys
    from registry.election import consensus_key, electorate

    with _opened(config) as store:
        view = store.tree.view()
        now = electorate(view)
        voting = {m.hotkey: m.weight for m in now.voters.members} if now else {}
        found = [decode(Neuron, data) for _, data in view.items(keys.NEURON)]
        rows = [
            (
                neuron.uid,
                ss58_of(neuron.hotkey),
                neuron.stake,
                "yes" if neuron.validator_permit else "",
                "" if (key := consensus_key(view, neuron.hotkey)) is None else key.hex()[:16],
                voting.get(neuron.hotkey, ""),
            )
            for neuron in sorted(found, key=lambda one: one.uid)
        ]
        epoch, why = store.epoch, now.reason if now else ""
    names = ("uid", "hotkey", "stake", "permit", "consensus key", "votes with")
    if as_json:
        neurons = [dict(zip(names, row, strict=True)) for row in rows]
        say_json({"epoch": epoch, "set_kept": why, "neurons": neurons})
        return
    _print(f"epoch {epoch}" + (f", the set is the last epoch's: {why}" if why else ""), names, rows)


def _print(title: str, names: tuple[str, ...], rows: list[Any]) -> None:
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    say_table(table)
