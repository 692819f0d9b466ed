"""What makes a statement or a batch objectively invalid (consensus.md 5 and 14).

Validity does not depend on replicated state: it is form, size, signatures and duplicates within the
batch, and besides the state root that the batch must name, which follows from its ancestors. What
only the state can decide is a no-op at execution.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from consensus.validators import Voters
from protocol.actions import RegistryChange
from protocol.codec import encode, sha256
from protocol.errors import ProtocolError
from protocol.identity import verify_consensus
from protocol.records.batch import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, Batch
from protocol.records.consensus_key import SignedKey
from protocol.records.statement import MAX_STATEMENT_BYTES, Statement, statement_payload
from protocol.records.submission import SignedSubmission

MEMO_SIZE = 65_536


class Memo:
    """A bounded set of what was verified before; the oldest entry goes first."""

    def __init__(self, size: int = MEMO_SIZE) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, entry: bytes) -> bool:
        return entry in self._entries

    def add(self, entry: bytes) -> None:
        """Remember an entry."""
        self._entries[entry] = None
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


class InvalidBatchError(ProtocolError):
    """A batch that an honest validator rejects."""

    reason = "invalid_batch"


class Checker:
    """Verifies statements and batches, each signature once."""

    def __init__(self, voters: Voters, network_id: bytes) -> None:
        self._voters = voters
        self._network_id = network_id
        self._statements = Memo()
        self._submissions = Memo()

    def begin_epoch(self, voters: Voters) -> None:
        """Judge statements by the set of a new epoch."""
        self._voters = voters
        self._statements = Memo()

    def check_submission(self, signed: SignedSubmission) -> bool:
        """Raise `SignatureError` unless the miner signed the submission for this network.

        Return whether a signature had to be verified.
        """
        known = sha256(encode(signed))
        if known in self._submissions:
            return False
        signed.verify(self._network_id)
        self._submissions.add(known)
        return True

    def check_statement(self, statement: Statement) -> None:
        """Raise a `ProtocolError` unless the statement is short enough and all of it is signed."""
        for _ in self.steps(statement):
            pass

    def steps(self, statement: Statement) -> Iterator[None]:
        """Check a statement as `check_statement` does; yield after each verified signature."""
        header = statement.header
        data = encode(statement)
        known = sha256(data)
        if known in self._statements:
            return
        if len(data) > MAX_STATEMENT_BYTES:
            raise InvalidBatchError(
                f"statement {header.counter} of validator {header.signer}: {len(data)} bytes, the "
                f"limit is {MAX_STATEMENT_BYTES}"
            )
        if header.epoch != self._voters.epoch or header.signer >= len(self._voters):
            raise InvalidBatchError(f"statement of validator {header.signer}, epoch {header.epoch}")
        statement.check_root()
        key = self._voters.key(header.signer)
        payload = statement_payload(self._voters.domain, header, key)
        if not verify_consensus(key, payload, statement.signature):
            raise InvalidBatchError(
                f"statement {header.counter}: validator {header.signer} did not sign it"
            )
        yield
        for item in statement.items:
            if isinstance(item, SignedSubmission):
                if self.check_submission(item):
                    yield
            elif isinstance(item, SignedKey):
                item.verify(self._network_id)
                yield
        if self._voters.epoch == header.epoch:  # it may have ended between two steps
            self._statements.add(known)

    def check_batch(self, batch: Batch, expected_root: bytes) -> None:
        """Raise a `ProtocolError` that says why the batch is invalid."""
        if batch.state_root != expected_root:
            raise InvalidBatchError(
                f"names state root {batch.state_root.hex()[:12]}, here it is "
                f"{expected_root.hex()[:12]}"
            )
        size = len(encode(batch))
        if size > MAX_BATCH_BYTES:
            raise InvalidBatchError(f"{size} bytes, the limit is {MAX_BATCH_BYTES}")
        items = 0
        origin: tuple[str, int | bytes, int]
        seen: set[tuple[str, int | bytes, int]] = set()
        for action in batch.actions:
            if isinstance(action, Statement):
                items += len(action.items)
                origin = ("statement", action.header.signer, action.header.counter)
                self.check_statement(action)
            elif isinstance(action, RegistryChange):
                items += 1
                origin = ("registry", action.owner, action.content.sequence)
                action.verify(self._network_id)
            else:
                items += 1
                origin = ("metagraph", action.epoch, action.epoch)
                action.check_form()
            if origin in seen:
                raise InvalidBatchError(f"holds {origin[0]} {origin[2]} of one origin twice")
            seen.add(origin)
        if items > MAX_BATCH_ITEMS:
            raise InvalidBatchError(f"{items} items, the limit is {MAX_BATCH_ITEMS}")
