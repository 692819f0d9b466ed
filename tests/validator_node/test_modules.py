from __future__ import annotations

from pathlib import Path

import pytest

from protocol.codec import sha256
from validator_node.modules import Modules

CODE = b"a module"
DIGEST = sha256(CODE)


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    modules = Modules({}, tmp_path / "modules")
    assert modules.get(DIGEST) is None
    modules.put(DIGEST, CODE)
    assert modules.get(DIGEST) == CODE
    assert Modules({}, tmp_path / "modules").get(DIGEST) == CODE
    assert [path.name for path in (tmp_path / "modules").iterdir()] == [DIGEST.hex()]


def test_what_is_installed_needs_no_folder(tmp_path: Path) -> None:
    assert Modules({DIGEST: CODE}, tmp_path / "none").get(DIGEST) == CODE
    assert not (tmp_path / "none").exists()


def test_a_damaged_file_is_missing_until_it_is_replaced(tmp_path: Path) -> None:
    modules = Modules({}, tmp_path)
    modules.put(DIGEST, CODE)
    (tmp_path / DIGEST.hex()).write_bytes(b"damaged")
    assert modules.get(DIGEST) is None
    modules.put(DIGEST, CODE)
    assert modules.get(DIGEST) == CODE


def test_another_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=DIGEST.hex()):
        Modules({}, tmp_path).put(DIGEST, b"another")
    assert list(tmp_path.iterdir()) == []


def test_whether_a_part_is_here_is_known_without_reading_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = Modules({sha256(b"installed"): b"installed"}, tmp_path)
    assert modules.has(sha256(b"installed"))
    assert not modules.has(DIGEST)
    modules.put(DIGEST, CODE)
    assert modules.has(DIGEST)
    with monkeypatch.context() as patch:
        patch.setattr(modules, "get", lambda digest: pytest.fail("read again"))
        assert modules.has(DIGEST)
    (tmp_path / DIGEST.hex()).write_bytes(b"a damaged one")
    assert not modules.has(DIGEST)
    modules.put(DIGEST, CODE)
    assert modules.has(DIGEST)
    (tmp_path / DIGEST.hex()).unlink()
    assert not modules.has(DIGEST)
