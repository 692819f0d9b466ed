"""The key relay: brings the consensus keys of validators to be before the members of the set.

Rules:
1. A node whose consensus key the replicated state does not know puts a binding into its node record
   (`protocol.records.consensus_key`). Each member states the bindings it finds in its address book
   that the state would take in; whoever is no member looks and says nothing.
2. A binding is verified once; one whose signatures are not good is counted and not looked at again
   until its hotkey tells another one.
"""

from __future__ import annotations

from collections import Counter

import structlog
import trio

from protocol.errors import ProtocolError
from protocol.records.consensus_key import SignedKey
from registry.election import why_not_bound
from validator_node.discovery.book import AddressBook
from validator_node.speaker import Speaker
from validator_node.store import Store

LOOK_S = 5.0

log = structlog.get_logger(__name__)


class KeyRelay:
    """Looks through the address book. Run `run` in the node's nursery."""

    def __init__(self, store: Store, book: AddressBook, speaker: Speaker) -> None:
        self._store = store
        self._book = book
        self._speaker = speaker
        self._judged: dict[bytes, tuple[SignedKey, bool]] = {}
        """By hotkey, the last binding and whether it is good: no more than the book has records."""
        self.refused: Counter[str] = Counter()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await trio.sleep(LOOK_S)

    def look(self) -> list[SignedKey]:
        """Say what is to be said now, and return it."""
        view = self._store.tree.view()
        told = {entry.hotkey: entry.signed.record.key for entry in self._book.entries()}
        self._judged = {hotkey: one for hotkey, one in self._judged.items() if hotkey in told}
        wanted = [
            key
            for hotkey, key in told.items()
            if key is not None
            and key.binding.hotkey == hotkey
            and why_not_bound(view, key) is None
            and self._is_good(hotkey, key)
        ]
        for key in wanted:
            self._speaker.add(key)
        return wanted

    def _is_good(self, hotkey: bytes, key: SignedKey) -> bool:
        known = self._judged.get(hotkey)
        if known is None or known[0] != key:
            known = self._judged[hotkey] = (key, self._verify(key))
        return known[1]

    def _verify(self, key: SignedKey) -> bool:
        try:
            key.verify(self._store.genesis.network_id)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            log.info("consensus key refused", reason=str(error))
            return False
        return True
