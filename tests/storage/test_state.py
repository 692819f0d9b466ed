"""The state: views, the incremental root against the model, proofs, discards and crashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ProofError
from protocol.state_proof import EMPTY, verify_absent, verify_state
from storage.database import Column, Database, WriteBatch
from storage.errors import BatchError, StateDamagedError, StateError
from storage.state import MAX_VALUE_BYTES, StateTree, View
from storage.state_nodes import path_key, state_root
from tests.protocol.test_state_proof import model_leaves, model_root

KEYS = st.binary(min_size=1, max_size=2)
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(max_size=4), max_size=25)
STEP = st.tuples(CHANGES, st.sampled_from(["write", "keep open", "discard"]))


def apply(view: View, changes: dict[bytes, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            view.delete(key)
        else:
            view.put(key, value)


def applied(model: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    merged = {**model, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def commit(database: Database, tree: StateTree, changes: dict[bytes, bytes | None]) -> bytes:
    view, batch = tree.view(), WriteBatch()
    apply(view, changes)
    root = tree.commit(view, batch)
    database.write(batch, sync=False)
    return root


def check(tree: StateTree, model: dict[bytes, bytes], strangers: list[bytes]) -> None:
    root = model_root(model_leaves(model))
    assert tree.root() == root
    assert list(tree.items()) == sorted(model.items())
    for key, value in model.items():
        assert tree.get(key) == value
        verify_state(root, key, value, tree.prove(key))
        with pytest.raises(ProofError):
            verify_state(root, key, value + b"x", tree.prove(key))
    for key in strangers:
        if key not in model:
            assert tree.get(key) is None
            verify_absent(root, key, tree.prove(key))


@settings(max_examples=60)
@given(st.lists(STEP, max_size=8))
def test_the_tree_equals_the_model(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple]):
    """After each commit: root, contents and proofs; before, after and instead of the write."""
    path = tmp_path_factory.mktemp("state") / "db"
    model: dict[bytes, bytes] = {}
    on_disk: dict[bytes, bytes] = {}
    with Database.open(path, create=True) as database:
        tree, batch = StateTree(database), WriteBatch()
        for changes, end in steps:
            view = tree.view()
            apply(view, changes)
            model = applied(model, changes)
            tree.commit(view, batch)
            check(tree, model, [*changes, b"stranger"])
            if end == "keep open":
                continue
            if end == "write":
                database.write(batch, sync=False)
                on_disk = model
            else:
                batch.discard()
                model = on_disk
            batch = WriteBatch()
            check(tree, model, [*changes, b"stranger"])
        check(StateTree(database), on_disk, [])
        assert StateTree(database).recompute() == model_root(model_leaves(on_disk))
        nodes = sum(1 for _ in database.iterate(Column.STATE_NODES))
    with Database.open(path.with_name("fresh"), create=True) as fresh:
        commit(fresh, StateTree(fresh), dict(on_disk))
        # History leaves no nodes behind either.
        assert sum(1 for _ in fresh.iterate(Column.STATE_NODES)) == nodes


@given(st.dictionaries(KEYS, st.binary(max_size=4), max_size=30), st.randoms())
def test_the_root_from_scratch_does_not_depend_on_order(model: dict, random) -> None:
    items = list(model.items())
    random.shuffle(items)
    assert state_root(items) == model_root(model_leaves(model))


def test_the_root_does_not_depend_on_history(tmp_path: Path):
    contents = {b"key %d" % number: b"value %d" % number for number in range(300)}
    roots = set()
    for name, rounds in (("one", 1), ("ten", 10), ("all", 300)):
        with Database.open(tmp_path / name, create=True) as database:
            tree = StateTree(database)
            commit(database, tree, {b"gone %d" % number: b"x" for number in range(50)})
            size = len(contents) // rounds
            items = list(contents.items())
            for start in range(0, len(items), size):
                commit(database, tree, dict(items[start : start + size]))
            commit(database, tree, {b"gone %d" % number: None for number in range(50)})
            roots.add(tree.root())
    assert roots == {state_root(contents.items())}


def test_removing_everything_leaves_nothing(database: Database):
    tree = StateTree(database)
    keys = [b"key %d" % number for number in range(100)]
    commit(database, tree, dict.fromkeys(keys, b"value"))
    assert tree.root() != EMPTY
    assert commit(database, tree, dict.fromkeys(keys)) == EMPTY
    assert list(database.iterate(Column.STATE_NODES)) == []
    assert list(database.iterate(Column.STATE_VALUES)) == []


def test_a_commit_that_changes_nothing_writes_no_node(database: Database):
    tree = StateTree(database)
    root = commit(database, tree, {b"a": b"1", b"b": b"2"})
    view, batch = tree.view(), WriteBatch()
    apply(view, {b"a": b"1", b"never there": None})
    assert tree.commit(view, batch) == root
    assert batch.changes(Column.STATE_NODES) == []


def test_only_touched_paths_are_written(database: Database):
    tree = StateTree(database)
    commit(database, tree, {b"key %d" % number: b"value" for number in range(1000)})
    view, batch = tree.view(), WriteBatch()
    view.put(b"key 7", b"changed")
    tree.commit(view, batch)
    assert len(batch.changes(Column.STATE_NODES)) < 30


def test_a_view_shows_its_own_changes(database: Database):
    tree = StateTree(database)
    commit(database, tree, {b"a/1": b"1", b"a/2": b"2", b"b/1": b"3"})
    view = tree.view()
    apply(view, {b"a/2": None, b"a/3": b"new", b"a/1": b"changed", b"a/0": b"0"})
    assert view.get(b"a/2") is None
    assert view.get(b"b/1") == b"3"
    rows = view.items(b"a/")
    view.put(b"a/9", b"later")
    assert list(rows) == [(b"a/0", b"0"), (b"a/1", b"changed"), (b"a/3", b"new")]
    assert tree.get(b"a/1") == b"1"


@given(st.lists(CHANGES, max_size=4), KEYS)
def test_nested_views_read_like_one(layers: list[dict], prefix: bytes):
    base = {b"aa": b"1", b"ab": b"2", b"b": b"3"}
    view = View(base.get, lambda p: iter(sorted(i for i in base.items() if i[0].startswith(p))),
                parent=None, version=0)  # fmt: skip
    model = dict(base)
    for changes in layers:
        view = view.fork()
        apply(view, changes)
        model = applied(model, changes)
    assert list(view.items()) == sorted(model.items())
    assert list(view.items(prefix)) == sorted(i for i in model.items() if i[0].startswith(prefix))
    for key in [*model, prefix]:
        assert view.get(key) == model.get(key)


def test_a_failing_action_leaves_nothing(database: Database):
    tree = StateTree(database)
    view = tree.view()
    view.put(b"kept", b"1")

    def failing_action() -> None:
        with view.fork() as action:
            action.put(b"kept", b"2")
            action.fork().put(b"inner", b"3")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_action()
    assert list(view.items()) == [(b"kept", b"1")]
    with view.fork() as action:
        action.put(b"second", b"2")
        with action.fork() as inner:
            inner.delete(b"kept")
    assert list(view.items()) == [(b"second", b"2")]
    dropped = view.fork()
    dropped.put(b"third", b"3")
    dropped.drop()
    assert len(view) == 2


def test_the_rules_of_forks(database: Database):
    tree = StateTree(database)
    view = tree.view()
    fork = view.fork()
    for use in (lambda: view.put(b"k", b"v"), lambda: view.delete(b"k"), view.fork):
        with pytest.raises(StateError, match="has an open fork"):
            use()
    with pytest.raises(StateError, match="has an open fork"):
        tree.commit(view, WriteBatch())
    with pytest.raises(StateError, match="is a fork"):
        tree.commit(fork, WriteBatch())
    fork.merge()
    for use in (fork.merge, fork.drop, lambda: fork.get(b"k"), fork.items):
        with pytest.raises(StateError, match="already merged"):
            use()
    with pytest.raises(StateError, match="not a fork"):
        view.merge()


def test_a_view_is_committed_once_and_not_when_stale(database: Database):
    tree = StateTree(database)
    first, stale, batch = tree.view(), tree.view(), WriteBatch()
    tree.commit(first, batch)
    with pytest.raises(StateError, match="already"):
        tree.commit(first, batch)
    with pytest.raises(StateError, match="made before another commit"):
        tree.commit(stale, batch)
    database.write(batch)
    early = tree.view()
    commit(database, tree, {b"a": b"1"})
    with pytest.raises(StateError, match="made before another commit"):
        tree.commit(early, WriteBatch())


def test_a_second_batch_has_to_wait(database: Database):
    tree = StateTree(database)
    view, batch = tree.view(), WriteBatch()
    view.put(b"a", b"1")
    root = tree.commit(view, batch)
    second, other = tree.view(), WriteBatch()
    second.put(b"b", b"2")
    with pytest.raises(BatchError):
        tree.commit(second, other)
    assert tree.root() == root
    assert len(other) == 0
    database.write(batch)
    tree.commit(second, other)
    other.discard()
    assert tree.root() == root
    assert tree.get(b"b") is None


def test_a_view_from_before_a_discard_is_stale(database: Database):
    tree = StateTree(database)
    view, batch = tree.view(), WriteBatch()
    view.put(b"a", b"1")
    tree.commit(view, batch)
    above = tree.view()
    above.put(b"b", above.get(b"a") or b"")
    batch.discard()
    with pytest.raises(StateError, match="made before another commit"):
        tree.commit(above, WriteBatch())
    assert tree.root() == EMPTY


def test_bounds(database: Database):
    view = StateTree(database).view()
    view.put(b"k", bytes(MAX_VALUE_BYTES))
    for key, value in ((b"", b""), (b"k" * 1025, b""), (b"k", bytes(MAX_VALUE_BYTES + 1))):
        with pytest.raises(StateError, match="bytes"):
            view.put(key, value)


def test_a_large_value_is_kept_and_proved(database: Database):
    tree = StateTree(database)
    root = commit(database, tree, {b"big": bytes(MAX_VALUE_BYTES), b"small": b""})
    verify_state(root, b"big", bytes(MAX_VALUE_BYTES), tree.prove(b"big"))
    verify_state(root, b"small", b"", tree.prove(b"small"))


@pytest.mark.parametrize("lost", [1, 700, 3000])
def test_a_crash_while_batches_are_written(tmp_path: Path, lost: int):
    """What is on disk afterwards is the state after some commit, whole."""
    roots = []
    with Database.open(tmp_path / "db", create=True) as database:
        tree = StateTree(database)
        for number in range(20):
            changes = {b"%d" % (number * 3 % 17 + i): b"%d" % number for i in range(5)}
            roots.append(commit(database, tree, changes))
    [log] = (tmp_path / "db").glob("*.log")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - lost)
    with Database.open(tmp_path / "db", create=True) as database:
        tree = StateTree(database)
        assert tree.root() in roots[:-1]
        assert tree.recompute() == tree.root()


def test_a_lost_or_changed_node_is_damage(database: Database):
    tree = StateTree(database)
    commit(database, tree, {b"key %d" % number: b"value" for number in range(50)})
    batch = WriteBatch()
    batch.delete(Column.STATE_NODES, path_key(2))
    batch.put(Column.STATE_NODES, path_key(3), b"\x03" + bytes(64))
    database.write(batch)
    for number in range(50):
        with pytest.raises(StateDamagedError, match=r"path 1[01]"):
            tree.prove(b"key %d" % number)
    view = tree.view()
    view.put(b"key 1", b"changed")
    unused = WriteBatch()
    with pytest.raises(StateDamagedError):
        tree.commit(view, unused)
    assert len(unused) == 0
