"""The node process: command line, network, services and metrics."""
