"""Runs a Python command whose name server is one on loopback: for names that lead astray.

    env NAMES_AT=127.0.0.1:PORT python -m tests.attacks.named python -m MODULE ARGUMENT...

The system's own look-up and dnspython's both ask it, so that it does not matter which of them a
program uses; nothing leaves the machine. `serve` is the server.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
import dns.resolver
import dns.rrset
import trio

ADDRESSES = {
    "node.attack.test.": "127.0.0.1",
    "metadata.attack.test.": "169.254.169.254",
}
"""What the server answers; it knows no other name."""
VARIABLE = "NAMES_AT"


async def serve(port: int, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Answer questions for IPv4 addresses on a UDP port of loopback, for ever."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", port))
        task_status.started()
        while True:
            data, asker = await server.recvfrom(4096)
            query = dns.message.from_wire(data)
            response = dns.message.make_response(query)
            response.flags |= dns.flags.AA | dns.flags.RA
            for question in query.question:
                address = ADDRESSES.get(question.name.to_text().lower())
                if question.rdtype == dns.rdatatype.A and address:
                    response.answer.append(
                        dns.rrset.from_text(question.name, 1, "IN", "A", address)
                    )
            await server.sendto(response.to_wire(), asker)


def redirect(host: str, port: int) -> None:
    """Let this process ask the server at `host` and `port` for every name."""

    def read_resolv_conf(self: Any, _: Any) -> None:
        self.port = port
        self.nameservers = [host]

    dns.resolver.BaseResolver.read_resolv_conf = read_resolv_conf
    stock = socket.getaddrinfo

    def getaddrinfo(name: Any, *arguments: Any, **options: Any) -> Any:
        text = name.decode() if isinstance(name, bytes) else str(name)
        return stock(ADDRESSES.get(text.rstrip(".").lower() + ".", name), *arguments, **options)

    socket.getaddrinfo = getaddrinfo


def main() -> None:
    """Redirect, then be the command."""
    host, _, port = os.environ[VARIABLE].partition(":")
    redirect(host, int(port))
    _, _python, _m, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
