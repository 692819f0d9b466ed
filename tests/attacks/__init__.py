"""Hostile strangers against running nodes: `python -m tests.attacks.flood --help`."""
