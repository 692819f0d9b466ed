"""Errors of the shared words: what a peer sent was not what the protocol says.

Every error names what was wrong, where, and what was expected. Callers above count them by
`reason`, a short stable word that is also a metrics label.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Something received breaks the protocol; nothing was changed by it."""

    reason = "protocol"


class DecodeError(ProtocolError):
    """Bytes that are not the canonical encoding of the expected record."""

    reason = "malformed"


class TooLargeError(DecodeError):
    """Bytes beyond the limit of their kind, refused before they are decoded."""

    reason = "too_large"


class SignatureError(ProtocolError):
    """A signature that does not verify for the named key, kind and network."""

    reason = "bad_signature"


class KeyFormatError(ProtocolError):
    """A key, address or seed that has the wrong length, prefix or checksum."""

    reason = "bad_key"


class ProofError(ProtocolError):
    """A Merkle path, state proof, certificate or receipt that does not hold."""

    reason = "bad_proof"
