"""The peer-to-peer network: libp2p over TCP, Noise and Yamux.

`open_network` runs a node; `Network` is its face. Gossip carries submissions, updates and evidence;
links carry consensus; requests fetch what is known by its hash.
"""

from validator_node.network.counters import Counters
from validator_node.network.errors import (
    AddressInUseError,
    AlreadyJoinedError,
    DeadlineExceededError,
    FrameTooLargeError,
    InvalidAddressError,
    ListenError,
    MessageTooLargeError,
    NetworkError,
    PeerUnreachableError,
    SlowFrameError,
    StreamClosedError,
)
from validator_node.network.gossip_checks import CheckAnswer, GossipMessage, TopicCheck
from validator_node.network.host import peer_id_of
from validator_node.network.limits import Limits
from validator_node.network.links import Links
from validator_node.network.network import Network, NetworkConfig, open_network

__all__ = [
    "AddressInUseError",
    "AlreadyJoinedError",
    "CheckAnswer",
    "Counters",
    "DeadlineExceededError",
    "FrameTooLargeError",
    "GossipMessage",
    "InvalidAddressError",
    "Limits",
    "Links",
    "ListenError",
    "MessageTooLargeError",
    "Network",
    "NetworkConfig",
    "NetworkError",
    "PeerUnreachableError",
    "SlowFrameError",
    "StreamClosedError",
    "TopicCheck",
    "open_network",
    "peer_id_of",
]
