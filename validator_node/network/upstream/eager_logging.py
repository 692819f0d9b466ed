"""Hot paths do not format debug lines that nobody reads.

Some 20 f-strings are built for each Yamux frame, gossip message and Noise packet, whatever the log
level. Corrected: the debug calls are taken out of those functions' source before it is compiled
again; with LIBP2P_DEBUG set nothing is touched.
"""

import __future__

import ast
import inspect
import os
import sys
import textwrap
from typing import Any

from libp2p.network.stream.net_stream import NetStream
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.io import BaseNoiseMsgReadWriter
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from validator_node.network.upstream.patching import replace

HOT: tuple[tuple[type, str], ...] = (
    (Yamux, "handle_incoming"),
    (Yamux, "read_stream"),
    (Yamux, "open_stream"),
    (YamuxStream, "send_window_update"),
    (YamuxStream, "read"),
    (NetStream, "set_state"),
    (BaseNoiseMsgReadWriter, "read_msg"),
    (Pubsub, "continuously_read_stream"),
    (Pubsub, "push_msg"),
    (Pubsub, "publish"),
    (GossipSub, "publish"),
)


class _WithoutDebug(ast.NodeTransformer):
    """Replaces statements `logger.debug(...)` and `self.logger.debug(...)` by `pass`."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:  # the name ast expects
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            return node
        target = call.func.value
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if name == "logger" and call.func.attr in ("debug", "info"):
            return ast.copy_location(ast.Pass(), node)
        return node


def _quiet(original: Any) -> Any:
    tree = ast.parse(textwrap.dedent(inspect.getsource(original)))
    tree = ast.fix_missing_locations(_WithoutDebug().visit(tree))
    module = sys.modules[original.__module__]
    flags = original.__code__.co_flags & __future__.annotations.compiler_flag
    code = compile(tree, inspect.getfile(original), "exec", flags=flags, dont_inherit=True)
    names: dict[str, Any] = {}
    exec(code, vars(module), names)  # noqa: S102  # the library's own source, less its debug calls
    return names[original.__name__]


def apply() -> None:
    """Remove debug logging from the hot functions, unless LIBP2P_DEBUG asks for it."""
    if os.environ.get("LIBP2P_DEBUG"):
        return
    for owner, name in HOT:
        if vars(owner)[name].__module__.startswith("libp2p."):
            replace(__name__, owner, name, _quiet)
