"""One hostile stranger against running nodes: `python -m tests.floods --help`."""
