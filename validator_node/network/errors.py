"""Every error the network layer raises, under one root.

Rules: a caller that wants to survive any network fault catches `NetworkError` and nothing wider;
each message names the peer or address, what was expected and what came instead. Errors of the
library underneath never leave this package.
"""


class NetworkError(Exception):
    """Root of all errors of this package."""


class ListenError(NetworkError):
    """The node cannot listen on the configured address."""


class AddressInUseError(ListenError):
    """Another process already listens on the configured address."""


class InvalidAddressError(NetworkError):
    """A multiaddr is malformed or lacks its /p2p/ peer id."""


class PeerUnreachableError(NetworkError):
    """No stream could be opened: not connected, not dialable, or the protocol is not spoken."""


class StreamClosedError(NetworkError):
    """The other side closed or reset the stream, or its connection was lost."""


class StreamEndedError(StreamClosedError):
    """The other side ended the stream in good order where a frame was expected."""


class PeerBusyError(StreamClosedError):
    """The peer had no room for a request and is not angry about it: ask later, or ask another."""


class FrameTooLargeError(NetworkError):
    """A frame announces, or would need, more bytes than the stream allows."""


class DeadlineExceededError(NetworkError):
    """An operation did not finish within its deadline."""


class SlowFrameError(DeadlineExceededError):
    """A frame was begun and not finished in its time."""


class MessageTooLargeError(NetworkError):
    """A gossip message is larger than its topic allows."""


class AlreadyJoinedError(NetworkError):
    """A topic was joined, or a protocol served, for the second time."""
