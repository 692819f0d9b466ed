"""Commands whose module is imported when they are called: importing all of them takes a second.

`LazyGroup` is the class of a `typer.Typer`; the commands registered there stand beside `COMMANDS`.
The help of the whole group imports every module, because it shows what each of them says. Typer
keeps the classes of contexts and commands private: they have no type here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main

from validator_node.cli.exit_codes import ExitCode

COMMANDS: dict[str, tuple[str, str]] = {
    "metagraph": ("weights", "metagraph"),
    "devchain": ("devchain", "devchain"),
    "testnet": ("testnet", "run_network"),
    "mine": ("testnet", "mine"),
    "receipt": ("receipt", "app"),
    "db": ("db", "app"),
    "audit": ("audit", "app"),
    "challenge": ("challenge", "app"),
    "owner": ("owner", "app"),
    "weights": ("weights", "app"),
    "signing-history": ("signing_history", "app"),
}
"""By the command's name: the module beside this one, and its function or group."""
HIDDEN = frozenset({"mine"})


class LazyGroup(typer.core.TyperGroup):
    """A group that finds a command of `COMMANDS` when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """Return the names of all commands, those of `COMMANDS` last."""
        return [name for name in super().list_commands(ctx) if name not in COMMANDS] + [*COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """Return a command, or None; then all are known, for what is suggested instead."""
        known = cmd_name in COMMANDS or cmd_name in self.commands
        for name in (cmd_name,) if known else COMMANDS:
            if name not in self.commands:
                self.commands[name] = _load(name)
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run the command; one whose reader has gone ends with the code that says so."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer's own answer would be 1
            raise typer.Exit(ExitCode.READER_GONE) from None


def _load(name: str) -> Any:  # noqa: ANN401
    module, attribute = COMMANDS[name]
    found = getattr(import_module(f"validator_node.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name, hidden=name in HIDDEN)(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command
