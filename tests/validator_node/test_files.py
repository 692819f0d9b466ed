from __future__ import annotations

import os
from pathlib import Path

import pytest

from validator_node.errors import ConfigError, OutputError
from validator_node.files import read_file, read_text, write_file


def test_a_file_is_read_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, "thing", 5) == b"12345"
    with pytest.raises(ConfigError, match=f"thing {path}: is no thing: it has more than 4 bytes"):
        read_file(path, "thing", 4)


def test_an_endless_file_is_not_read_for_ever() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: is no thing"):
        read_file(Path("/dev/zero"), "thing", 1000)


def test_what_cannot_be_read_says_what_and_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, words in {
        "missing": "No such file",
        ".": "Is a directory; name a file, not a folder",
        "file/below": "Not a directory; a part of the path is a file",
        "loop": "mend the symbolic link",
        "n" * 300: "File name too long",
        "zero\0byte": "is no path",
    }.items():
        with pytest.raises(ConfigError, match=f"^thing .*{words}"):
            read_file(tmp_path / name, "thing", 10)


def test_text_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("\ufeffGrüße".encode())
    assert read_text(path, "thing") == "Grüße"
    path.write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(ConfigError, match=f"thing {path}: is not UTF-8"):
        read_text(path, "thing")


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    write_file(path, "thing", b"after")
    assert path.read_bytes() == b"after"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "file", tmp_path / "folder", Path("/dev/full")):
        with pytest.raises(OutputError, match=f"thing {path}: "):
            write_file(path, "thing", b"data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    read, write = os.pipe()
    write_file(Path(f"/dev/fd/{write}"), "thing", b"data")
    assert os.read(read, 10) == b"data"
    os.close(read)
    os.close(write)
