"""A challenge's folder: what is read and pinned, and one clear line for each mistake in it."""

import os
import re
from pathlib import Path

import pytest

from challenges import project as kit
from challenges.errors import MistakeError
from challenges.project import load_project, pin
from challenges.scaffold import new_project
from runtime.sandbox import MAX_BLOB_BYTES
from tests.challenges.folders import GOOD, wat_project
from validator_node.module_fetcher import MAX_MODULE_BYTES

ONE_LINE = re.compile(r"^[^\n]+: found [^\n]+; expected [^\n]+\. [A-Z`][^\n]+\.$")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_project(tmp_path, "guess", "c").folder


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "platform.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "field", "found", "expected"),
    [
        ("fuel = 1_000_000", "fuel = 1.5", "policy.fuel", "1.5", "a valid integer"),
        ("fuel = 1_000_000\n", "", "policy.fuel", "nothing", "this field"),
        ("fuel = 1_000_000", "feul = 1", "policy.feul", "1", "no field of this name"),
        ("version = 1", "version = 1\nfee = 2", "fee", "2", "no field of this name"),
        ('["log"]', '["open"]', "policy.host_functions", "['open']", "'open' is no host function"),
        ("target = 700", "target = 0.7", "params.target", "0.7", "an integer, a boolean"),
        ('id = "guess"', 'id = "Guess"', "id", "'Guess'", "a text that matches"),
        ('language = "c"', 'language = "cobol"', "build.language", "'cobol'", "'c', 'ass"),
        ('sha256 = ""', 'sha256 = "12"', "build.module_sha256", "'12'", "a text that matches"),
    ],
)
def test_a_mistake_in_the_spec_is_one_line(folder, old, new, field, found, expected):
    change(folder, old, new)
    with pytest.raises(MistakeError) as caught:
        load_project(folder)
    error = caught.value
    assert error.where == f"{folder / 'platform.toml'}: {field}"
    assert error.found == found
    assert expected.lower() in error.expected.lower()
    assert ONE_LINE.match(str(error))


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"[policy", "valid TOML"), (b"\xff", "valid TOML"), (b"#" * 300_000, "bytes at most")],
)
def test_a_spec_that_cannot_be_read(folder, data, expected):
    (folder / "platform.toml").write_bytes(data)
    with pytest.raises(MistakeError, match=expected):
        load_project(folder)


def test_a_folder_without_a_spec(tmp_path):
    with pytest.raises(MistakeError, match="challenge new NAME"):
        load_project(tmp_path)


def test_a_spec_without_build_table(folder):
    change(folder, "[build]", "[builds]")
    with pytest.raises(MistakeError, match=r"no table \[build\]"):
        load_project(folder)


def test_pin_touches_the_build_table_only(folder):
    change(folder, "[params]", '[params]\ntoolchain = "mine"')
    before = (folder / "platform.toml").read_text()
    project = pin(load_project(folder), "ziglang 1", "ab" * 32)
    assert (project.build.toolchain, project.build.module_sha256) == ("ziglang 1", "ab" * 32)
    assert project.spec.params["toolchain"] == "mine"
    after = (folder / "platform.toml").read_text()
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert changed == ['toolchain = "ziglang 1"', f'module_sha256 = "{"ab" * 32}"']
    again = pin(project, "ziglang 1", "ab" * 32)
    assert again == project
    assert (folder / "platform.toml").read_text() == after


def test_pin_adds_missing_keys_before_the_next_table(folder):
    path = folder / "platform.toml"
    head, _, _ = path.read_text().partition("# Written")
    spec, _, params = head.partition("[params]")
    path.write_text(f'{spec}[build]\nlanguage = "c"\n[params]{params}')
    project = pin(load_project(folder), "ziglang 1", "ab" * 32)
    assert project.build.module_sha256 == "ab" * 32
    assert dict(project.spec.params) == {"target": 700, "range": 1000}


def test_pin_refuses_a_table_it_cannot_edit(folder):
    path = folder / "platform.toml"
    head, _, _ = path.read_text().partition("# Written")
    path.write_text('build = {language = "c"}\n' + head)
    with pytest.raises(MistakeError, match="unusual form"):
        pin(load_project(folder), "ziglang 1", "ab" * 32)


def test_only_the_pinned_module_is_used(tmp_path):
    project = wat_project(tmp_path, GOOD)
    assert project.module()[:4] == b"\0asm"
    project.module_path.write_bytes(project.module() + b"\0")
    with pytest.raises(MistakeError, match="module_sha256 in platform") as caught:
        project.module()
    assert ONE_LINE.match(str(caught.value))
    project.module_path.unlink()
    with pytest.raises(MistakeError, match="found nothing; expected the built module"):
        project.module()


def test_an_unpinned_module_is_not_any_module(folder):
    (folder / "module.wasm").write_bytes(b"")
    with pytest.raises(MistakeError, match="expected a pinned one"):
        load_project(folder).module()


def test_sources(folder):
    project = load_project(folder)
    assert [path.name for path in project.sources()] == ["challenge.c"]
    project.sources()[0].rename(folder / "source" / "challenge.rs")
    with pytest.raises(MistakeError, match=r"found no \*\.c file") as caught:
        project.sources()
    assert ONE_LINE.match(str(caught.value))


def test_without_a_hash_of_the_sources_their_dates_tell(tmp_path):
    project = wat_project(tmp_path, GOOD)
    source = project.sources()[0]
    built = project.module_path.stat().st_mtime_ns
    os.utime(source, ns=(built, built))
    assert project.stale() is False
    os.utime(source, ns=(built + 1, built + 1))
    assert project.stale() is None


def test_with_a_hash_of_the_sources_dates_do_not_count(tmp_path):
    project = wat_project(tmp_path, GOOD)
    data = project.folder / "data"
    data.mkdir()
    (data / "some.txt").write_text("embedded")
    source = project.sources()[0]
    project = pin(project, "", project.build.module_sha256, project.sources_sha256())
    os.utime(source, ns=(2**62, 2**62))
    assert project.stale() is False
    for path in (source, data / "some.txt", source.with_name("new.h")):
        before = path.read_text() if path.exists() else None
        path.write_text("something else")
        assert project.stale() is True
        path.write_text(before) if before is not None else path.unlink()
        assert project.stale() is False


def test_data_that_no_build_embeds_is_refused(folder):
    data = folder / "data"
    (data / "blobs").mkdir(parents=True)
    for name in ("some.txt", "some.csv", "ORIGIN.md", ".hidden"):
        (data / name).write_text("")
    load_project(folder).check_data()
    (data / "table.json").write_text("{}")
    with pytest.raises(MistakeError, match=r"data/table\.json: .*expected \.txt or \.csv"):
        load_project(folder).check_data()
    (data / "table.json").unlink()
    (data / "blobs" / "words").write_text("")
    with pytest.raises(MistakeError, match=r"data/blobs/words: .*'words' among policy\.data_keys"):
        load_project(folder).check_data()
    (data / "blobs" / "words").unlink()
    change(folder, 'language = "c"', 'language = "python"')
    with pytest.raises(MistakeError, match=r"data/some\.csv: .*expected nothing beside") as caught:
        load_project(folder).check_data()
    assert ONE_LINE.match(str(caught.value))


def test_data_blobs_have_a_limit_each_and_together(folder, monkeypatch):
    monkeypatch.setattr(kit, "MAX_BLOB_BYTES", 10)
    monkeypatch.setattr(kit, "MAX_BLOBS_BYTES", 25)
    change(folder, "host_functions", 'data_keys = ["a", "b", "c"]\nhost_functions')
    blobs = folder / "data" / "blobs"
    blobs.mkdir(parents=True)
    for key, size in (("a", 10), ("b", 10), ("c", 5)):
        (blobs / key).write_bytes(bytes(size))
    assert list(load_project(folder).blobs()) == ["a", "b", "c"]
    (blobs / "c").write_bytes(bytes(6))
    with pytest.raises(MistakeError, match="blobs/c: found 6 bytes, 26 with"):
        load_project(folder).blobs()
    (blobs / "a").write_bytes(bytes(11))
    with pytest.raises(MistakeError, match="blobs/a: found 11 bytes; expected at most 10 a blob"):
        load_project(folder).blobs()


def test_the_limits_of_blobs_are_those_of_the_validators():
    assert kit.MAX_BLOB_BYTES == MAX_MODULE_BYTES
    assert kit.MAX_BLOBS_BYTES == MAX_BLOB_BYTES


def test_a_device_is_not_read_for_ever(tmp_path):
    project = wat_project(tmp_path, GOOD)
    project.module_path.unlink()
    project.module_path.symlink_to("/dev/zero")
    with pytest.raises(MistakeError, match="a larger file"):
        project.module()
    source = project.sources()[0]
    source.unlink()
    source.write_bytes(bytes(17 * 1024 * 1024))
    with pytest.raises(MistakeError, match="a larger file"):
        project.sources_sha256()
