"""`python -m validator_node`: the same as the command `validator-node`."""

from validator_node.cli import main

main()
