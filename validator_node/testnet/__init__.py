"""A whole network on one machine: real processes, real libp2p, real challenges."""
