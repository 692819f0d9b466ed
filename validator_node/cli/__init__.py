"""The command line: `validator-node COMMAND`. Each command is a thin shell over a library call."""

from validator_node.cli.main import main

__all__ = ["main"]
