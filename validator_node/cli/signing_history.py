"""`validator-node signing-history`: what a consensus key has promised, and how it moves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storage.signing_history import export_history, import_history, parse_history, skip_epochs
from validator_node.beginning import check_may_promise, note_beginning, note_moved
from validator_node.config import load_config, load_genesis
from validator_node.files import read_text, write_file
from validator_node.journal_bridge import begin_history
from validator_node.keys import load_keystore, passphrase
from validator_node.terminal import say

app = typer.Typer(no_args_is_help=True, help="Signing history: new, export, import, skip.")

MAX_HISTORY_BYTES = 256 * 1024 * 1024

ConfigOption = Annotated[Path, typer.Option(help="TOML configuration of the stopped node")]


@app.command("new")
def new_command(config: ConfigOption) -> None:
    """Begin the journal of a consensus key that has NEVER signed, anywhere.

    A node without a journal only observes: it cannot know what its key has promised, and a key that
    contradicts itself loses its stake. For a key that has signed before, import its history.
    """
    loaded = load_config(config)
    keys = load_keystore(loaded.keystore, passphrase(loaded.passphrase_file))
    network_id, key = load_genesis(loaded.genesis).network_id, keys.consensus.public_key
    check_may_promise(loaded, network_id, key)
    begin_history(loaded.state_dir, key)
    note_beginning(loaded, network_id, key)
    say(f"{loaded.state_dir}: signing history of {keys.consensus.public_key.hex()} begun")


@app.command("export")
def export_command(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="where to write the JSON document")],
) -> None:
    """Write down everything this node has promised. Stop the node first."""
    loaded = load_config(config)
    network_id = load_genesis(loaded.genesis).network_id
    folder = loaded.state_dir
    text = export_history(folder / "journal", folder / "journal.marker", network_id)
    write_file(out, "signing history", text.encode())
    say(f"{out}: {len(text)} bytes")


@app.command("import")
def import_command(
    config: ConfigOption,
    file: Annotated[Path, typer.Argument(help="a document written by export")],
) -> None:
    """Add a signing history to this node's journal; it never lowers a mark."""
    loaded = load_config(config)
    network_id = load_genesis(loaded.genesis).network_id
    text = read_text(file, "signing history", MAX_HISTORY_BYTES)
    history = parse_history(text, file)
    folder = loaded.state_dir
    folder.mkdir(parents=True, exist_ok=True)
    added = import_history(folder / "journal", folder / "journal.marker", network_id, history)
    note_moved(loaded, network_id, [bytes.fromhex(one.consensus_key) for one in history.signers])
    say(f"{added} records added")
    if history.version == 1:
        say(
            "the document is of version 1 and lacks what view changes need: the key signs again "
            "from the next epoch on"
        )


@app.command("skip")
def skip_command(
    config: ConfigOption,
    epoch: Annotated[
        int, typer.Option(min=0, help="the network's epoch now, as any node's status shows it")
    ],
) -> None:
    """Sign nothing up to and including an epoch: for a journal that may be out of date.

    A backup or a disk image holds the journal as it was: what the key has signed since is not in
    it. The node follows as an observer until the next epoch begins, and votes again from then on.
    """
    loaded = load_config(config)
    keys = load_keystore(loaded.keystore, passphrase(loaded.passphrase_file))
    folder = loaded.state_dir
    key = keys.consensus.public_key
    skip_epochs(folder / "journal", folder / "journal.marker", key, epoch)
    say(f"{folder}: this key signs again from epoch {epoch + 1} on")
