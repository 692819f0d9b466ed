"""Flood a node: python -m tests.attacks.flood --address MULTIADDR --flood NAME --seconds N."""

from __future__ import annotations

import argparse

import trio

from tests.attacks.floods import FLOODS, Target, run


def main() -> None:
    """Parse the command line, flood, print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.flood", description=__doc__)
    parser.add_argument("--address", required=True, help="/ip4/HOST/tcp/PORT/p2p/PEER_ID")
    parser.add_argument("--flood", required=True, help=", ".join([*sorted(FLOODS), "gossip-fresh"]))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", help="64 hex digits; by default a new identity")
    parser.add_argument("--request-protocol", default="/validator/1/receipt")
    parser.add_argument("--link-protocol", default="/validator/1/consensus")
    options = parser.parse_args()
    target = Target(
        address=options.address,
        request_protocol=options.request_protocol,
        link_protocol=options.link_protocol,
    )
    seed = bytes.fromhex(options.seed) if options.seed else None
    report = trio.run(run, options.flood, target, options.seconds, seed)
    print(f"{options.flood}: {report}", flush=True)  # noqa: T201  # the command's output


if __name__ == "__main__":
    main()
