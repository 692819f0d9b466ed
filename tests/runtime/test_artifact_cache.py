"""The artifact cache: private, authenticated, bounded; what is not sound is compiled again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.artifact_cache import ArtifactCache, ArtifactFolderError

KEY = b"k" * 32
ENGINE = b"\x01" * 32


def artifact(number: int, size: int = 100) -> Artifact:
    return Artifact(
        engine_id=ENGINE,
        module_hash=bytes([number]) * 32,
        summary=None,
        refusal=None,
        code=bytes(size),
    )


def opened(folder: Path, *, key: bytes = KEY, engine: bytes = ENGINE, size: int = 10_000):
    return ArtifactCache(folder / "artifacts", key, engine, max_bytes=size)


def only_file(folder: Path) -> Path:
    (path,) = (folder / "artifacts").iterdir()
    return path


def test_what_was_stored_comes_back_also_after_a_restart(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    assert cache.get(artifact(1).module_hash) is None
    assert cache.put(artifact(1))
    for one in (cache, opened(tmp_path)):
        assert one.get(artifact(1).module_hash) == artifact(1)
        assert (len(one), one.bytes) == (1, only_file(tmp_path).stat().st_size)
    assert cache.events == {"miss": 1, "stored": 1, "hit": 1}


def test_folder_and_files_are_private(tmp_path: Path) -> None:
    opened(tmp_path).put(artifact(1))
    assert (tmp_path / "artifacts").stat().st_mode & 0o777 == 0o700
    assert only_file(tmp_path).stat().st_mode & 0o777 == 0o600
    (tmp_path / "artifacts").chmod(0o750)
    with pytest.raises(ArtifactFolderError, match="chmod 700"):
        opened(tmp_path)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "artifacts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactFolderError, match="not a folder"):
        opened(tmp_path)


@pytest.mark.parametrize("place", [0, 8, 39, 40, 60, -1])
def test_a_flipped_byte_drops_the_artifact(tmp_path: Path, place: int) -> None:
    cache = opened(tmp_path)
    cache.put(artifact(1))
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert cache.get(artifact(1).module_hash) is None
    assert (cache.events["dropped"], cache.bytes, path.exists()) == (1, 0, False)
    assert cache.put(artifact(1))
    assert cache.get(artifact(1).module_hash) == artifact(1)


@pytest.mark.parametrize("size", [0, 7, 40, 100])
def test_a_torn_file_is_dropped(tmp_path: Path, size: int) -> None:
    cache = opened(tmp_path)
    cache.put(artifact(1))
    os.truncate(only_file(tmp_path), size)
    assert cache.get(artifact(1).module_hash) is None
    assert cache.events["dropped"] == 1


def test_artifacts_of_another_key_or_place_are_dropped(tmp_path: Path) -> None:
    opened(tmp_path).put(artifact(1))
    foreign = opened(tmp_path, key=b"x" * 32)
    path = only_file(tmp_path)
    moved = path.with_name(path.name.replace("01.artifact", "02.artifact"))
    content = path.read_bytes()
    assert foreign.get(artifact(1).module_hash) is None
    moved.write_bytes(content)
    other_hash = artifact(1).module_hash[:-1] + b"\x02"
    cache = opened(tmp_path)
    assert other_hash in cache
    assert cache.get(other_hash) is None
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.put(artifact(1))
    path = only_file(tmp_path)
    path.rename(tmp_path / "target")
    path.symlink_to(tmp_path / "target")
    assert cache.get(artifact(1).module_hash) is None
    assert (tmp_path / "target").exists()


def test_the_least_recently_used_goes_first_also_after_a_restart(tmp_path: Path) -> None:
    cache = opened(tmp_path, size=800)
    for number in (1, 2, 3):
        assert cache.put(artifact(number))
        os.utime(cache._path(artifact(number).module_hash), ns=(number, number))
    assert len(cache) == 3
    cache.get(artifact(1).module_hash)
    cache.put(artifact(4))
    assert [artifact(n).module_hash in cache for n in (1, 2, 3, 4)] == [True, False, True, True]
    smaller = opened(tmp_path, size=600)
    assert [artifact(n).module_hash in smaller for n in (1, 3, 4)] == [True, False, True]
    assert smaller.bytes <= 600


def test_what_does_not_fit_is_not_stored(tmp_path: Path) -> None:
    cache = opened(tmp_path, size=300)
    assert not cache.put(artifact(1, size=1_000))
    assert (cache.events["unwritten"], cache.bytes) == (1, 0)


def test_other_engines_and_half_written_files_go_at_the_start(tmp_path: Path) -> None:
    opened(tmp_path).put(artifact(1))
    path = only_file(tmp_path)
    path.with_name(path.name + ".part").write_bytes(b"half")
    (tmp_path / "artifacts" / "notes.txt").write_text("not ours")
    later = opened(tmp_path, engine=b"\x02" * 32)
    assert later.events["stale"] == 2
    assert [one.name for one in (tmp_path / "artifacts").iterdir()] == ["notes.txt"]


def test_a_disk_that_takes_nothing_is_counted(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache._path(artifact(1).module_hash).with_name(
        cache._path(artifact(1).module_hash).name + ".part"
    ).mkdir()
    assert not cache.put(artifact(1))
    assert cache.events["unwritten"] == 1
