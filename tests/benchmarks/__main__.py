"""`python -m tests.benchmarks [NAME...]`: run the named benchmarks, or all of them."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from tests.benchmarks.options import Options

BENCHMARKS = ("consensus", "evaluation", "gossip", "rejoin")
"""Modules of this folder; each has `run(options)`, which prints its tables."""
QUICK_S = 1.5
QUICK_NODES = [4]


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one measurement")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 7])
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--transports", nargs="+", default=["tcp", "libp2p"])
    parser.add_argument("--quick", action="store_true", help="a short look: n=4, 1.5 s each")
    parser.add_argument("--profile", action="store_true", help="sample where the CPU time goes")
    found = vars(parser.parse_args())
    names = found.pop("names") or BENCHMARKS
    if found.pop("quick"):
        found |= {"seconds": QUICK_S, "nodes": QUICK_NODES}
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in names:
        importlib.import_module(f"tests.benchmarks.{name}").run(Options(**found))


if __name__ == "__main__":
    main()
