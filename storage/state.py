"""The replicated state: keys and values with a root, changed through views.

Rules:
1. `StateTree` is the state after the last `commit`; a `View` collects changes on top of it. A view
   is forked for each action and merged when the action succeeds, so a failing one leaves nothing.
2. `commit` puts values and nodes into the caller's write batch, beside whatever else belongs to
   the same step (ledger entry, blobs). From then on `root`, `get`, `prove` and new views see the
   new state, whether or not the batch has been written. After `WriteBatch.discard` they see the
   state on disk again. Several commits may join one open batch; a second batch has to wait.
3. Proofs are always for the current `root()`. Older trees are not kept: a proof that is wanted
   under the root of sequence n is taken after the commit of n and before that of n + 1.
4. The root depends on the contents alone (`protocol.state_proof`). It costs O(changes * log keys).
5. Iteration is in key order, which is the order of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from protocol.codec import sha256
from protocol.state_proof import StateProof, place_of
from storage.database import Column, Database, OpenBatch, Pair, WriteBatch, overlay
from storage.errors import StateError
from storage.state_nodes import (
    ROOT_PATH,
    Change,
    TreeUpdate,
    count_leaves,
    node_hash,
    path_key,
    prove_key,
    state_root,
)

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 256 * 1024

_Get = Callable[[bytes], bytes | None]
_Items = Callable[[bytes], Iterator[Pair]]


class View:
    """Changes laid over a state. Made by `StateTree.view` and `View.fork`, never directly.

    While a fork is open its parent can be read but not changed, and a view that was merged,
    dropped or committed can no longer be used; breaking this raises `StateError`.
    """

    def __init__(self, get: _Get, items: _Items, *, parent: View | None, version: int) -> None:
        self._get = get
        self._items = items
        self._parent = parent
        self._version = version
        self._changes: dict[bytes, bytes | None] = {}
        self._fork: View | None = None
        self._open = True

    def __len__(self) -> int:
        return len(self._changes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a fork that is still open: merge it, or after an exception drop it."""
        if self._open and error is None:
            self.merge()
        elif self._open:
            self._fork = None
            self.drop()

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None when it has none."""
        self._check_open()
        if key in self._changes:
            return self._changes[key]
        return self._get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Give `key` the `value`. Raises `StateError` when one of them is out of bounds."""
        if not 1 <= len(key) <= MAX_KEY_BYTES:
            raise StateError(f"state: key of {len(key)} bytes, expected 1 to {MAX_KEY_BYTES}")
        if len(value) > MAX_VALUE_BYTES:
            raise StateError(f"state: value of {len(value)} bytes, the limit is {MAX_VALUE_BYTES}")
        self._check_changeable()
        self._changes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove `key`; one that has no value is no error."""
        self._check_changeable()
        self._changes[key] = None

    def items(self, prefix: bytes = b"") -> Iterator[Pair]:
        """Return the pairs whose key begins with `prefix`, in key order, as they are at this call.

        Changes made while the iterator is used do not show in it.
        """
        self._check_open()
        changes = sorted((k, v) for k, v in self._changes.items() if k.startswith(prefix))
        return overlay(self._items(prefix), changes)

    def fork(self) -> View:
        """Return a view on top of this one, to be ended with `merge` or `drop`.

        In a `with` statement it is merged at the end, or dropped when the block raises.
        """
        self._check_changeable()
        self._fork = View(self.get, self.items, parent=self, version=self._version)
        return self._fork

    def merge(self) -> None:
        """Move the changes of this fork into its parent and end the fork."""
        parent = self._end_fork()
        parent._changes.update(self._changes)

    def drop(self) -> None:
        """End this fork and forget its changes."""
        self._end_fork()

    def _end_fork(self) -> View:
        self._check_changeable()
        if self._parent is None:
            raise StateError("state view: not a fork; commit it, or just forget it")
        self._open = False
        self._parent._fork = None
        return self._parent

    def _check_open(self) -> None:
        if not self._open:
            raise StateError("state view: already merged, dropped or committed")

    def _check_changeable(self) -> None:
        self._check_open()
        if self._fork is not None:
            raise StateError("state view: has an open fork; merge or drop that first")


class StateTree:
    """The committed state in a database. One object a database; see the module's rules."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = OpenBatch()
        self._version = 0
        self._joined: WriteBatch | None = None
        self._root = node_hash(self._read_node(ROOT_PATH))

    def root(self) -> bytes:
        """Return the root of the state, 32 bytes; `protocol.state_proof.EMPTY` for no keys."""
        self._settle()
        return self._root

    def get(self, key: bytes) -> bytes | None:
        """Return the committed value of `key`, or None."""
        self._settle()
        return self._database.get(Column.STATE_VALUES, key, batch=self._batch.current())

    def items(self, prefix: bytes = b"") -> Iterator[Pair]:
        """Return the committed pairs whose key begins with `prefix`, in key order."""
        self._settle()
        return self._database.iterate(Column.STATE_VALUES, prefix, batch=self._batch.current())

    def view(self) -> View:
        """Return an empty view of the state; it reads the state as it is at each read."""
        self._settle()
        return View(self.get, self.items, parent=None, version=self._version)

    def commit(self, view: View, write_batch: WriteBatch) -> bytes:
        """Make the changes of `view` the state, add them to `write_batch`, return the new root.

        Raises `StateError` for a fork, or a view made before another commit; `BatchError` when an
        earlier commit is in a batch that is still open; `StateDamagedError` when the stored tree
        does not hold together. None of them changes anything.
        """
        self._settle()
        if view._parent is not None:
            raise StateError("state view: is a fork; merge it and commit the view below")
        view._check_changeable()
        if view._version != self._version:
            raise StateError("state view: made before another commit; its reads may be stale")
        update = TreeUpdate(self._read_node)
        root = update.apply(self._root, map(_change, view._changes.items()))
        self._batch.join(write_batch)
        for key, value in view._changes.items():
            _store(write_batch, Column.STATE_VALUES, key, value)
        for path, node in update.writes.items():
            _store(write_batch, Column.STATE_NODES, path_key(path), node)
        view._open = False
        self._root = root
        self._joined = write_batch
        self._version += 1
        return root

    def prove(self, key: bytes) -> StateProof:
        """Return the proof, under `root()`, of the value of `key` or of its absence (rule 3).

        Raises `StateDamagedError`.
        """
        self._settle()
        return prove_key(self._read_node, self._root, key)

    def recompute(self) -> bytes:
        """Return the root computed from all values, which must equal `root()`; reads everything."""
        return state_root(self.items())

    def check_nodes(self) -> int:
        """Read every node below `root()` and return the number of leaves, one for each key.

        Raises `StateDamagedError` for the first that is missing or not what its parent says.
        """
        self._settle()
        return count_leaves(self._read_node, self._root)

    def _read_node(self, path: int) -> bytes | None:
        return self._database.get(Column.STATE_NODES, path_key(path), batch=self._batch.current())

    def _settle(self) -> None:
        """Fall back to what is on disk when the batch of the last commits was discarded."""
        if self._joined is None or self._joined.is_open:
            return
        discarded = self._joined.was_discarded
        self._joined = None
        if discarded:
            self._version += 1
            self._root = node_hash(self._read_node(ROOT_PATH))


def _change(item: tuple[bytes, bytes | None]) -> Change:
    key, value = item
    return place_of(key), None if value is None else sha256(value)


def _store(batch: WriteBatch, column: Column, key: bytes, value: bytes | None) -> None:
    if value is None:
        batch.delete(column, key)
    else:
        batch.put(column, key, value)
