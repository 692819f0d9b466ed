"""Which consensus key votes for a hotkey.

A hotkey binds a consensus key with a signed statement that the key signs, too: nobody can take a
key whose private half it does not hold. A validator tells it in its node record; the members of
the set put it into their statements, and from the next epoch on it may vote.
"""

from __future__ import annotations

from protocol.codec import U64, PublicKey, Record, Signature, digest_of
from protocol.envelope import RecordKind, record_payload
from protocol.errors import SignatureError
from protocol.identity import verify_consensus, verify_hotkey


class KeyBinding(Record):
    """What is signed."""

    hotkey: PublicKey
    consensus_key: PublicKey
    sequence: U64
    """A later binding of the same hotkey has a higher one: the time in milliseconds will do."""


class SignedKey(Record, tag="key"):
    """A binding, signed by both keys; an item of a statement."""

    binding: KeyBinding
    signature: Signature
    """The hotkey's (sr25519)."""
    possession: Signature
    """The consensus key's (ed25519), over the same bytes."""

    def verify(self, network_id: bytes) -> None:
        """Raise `SignatureError` unless both keys signed this binding for this network."""
        binding = self.binding
        payload = binding_payload(binding, network_id)
        if not verify_consensus(binding.consensus_key, payload, self.possession):
            raise SignatureError(
                f"consensus key {binding.consensus_key.hex()[:16]} did not sign its binding"
            )
        verify_hotkey(binding.hotkey, payload, self.signature)


def binding_payload(binding: KeyBinding, network_id: bytes) -> bytes:
    """Return the bytes that both keys sign."""
    return record_payload(RecordKind.CONSENSUS_KEY, network_id, digest_of(binding))
