"""A challenge's folder as its author sees it, and the rules it has to keep.

    platform.toml   the spec (`registry.spec`) and the table `[build]`, which pins the module
    source/         what is compiled            data/   what is embedded (C only)
    module.wasm     the built module            vectors.json   what it must answer

Rules:

- ``[build]`` names the language, the tool chain and the module's SHA-256. ``challenge build``
  writes the last two; every other command refuses a ``module.wasm`` that is not the pinned one.
- An empty ``module_sha256`` means "not built yet", never "any module".
- ``sources_sha256`` is what the module was made from. Dates of files say nothing in a fresh copy of
  the folder, so they are looked at only where a build did not write this hash.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from challenges.errors import MistakeError
from protocol.text import decode_text
from registry.spec import ChallengeSpec

Language = Literal["c", "assemblyscript", "python"]

SPEC_NAME = "platform.toml"
MODULE_NAME = "module.wasm"
VECTORS_NAME = "vectors.json"
SOURCE_SUFFIXES: dict[Language, str] = {"c": ".c", "assemblyscript": ".ts", "python": ".py"}
MAX_SPEC_BYTES = 256 * 1024
MAX_SOURCE_BYTES = 16 * 1024 * 1024
MAX_MODULE_FILE_BYTES = 128 * 1024 * 1024
"""More than any policy admits: only so that a device or a wrong file is not read for ever."""
DATA_SUFFIXES = (".txt", ".csv")
MAX_BLOB_BYTES = 32 * 1024 * 1024
"""The longest data blob: what validators fetch from each other as one part of a challenge."""
MAX_BLOBS_BYTES = 64 * 1024 * 1024
"""All data blobs of a challenge: what a sandbox holds at a time."""


class BuildTable(BaseModel):
    """The table ``[build]``: how to make the module again, and which one it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    language: Language
    toolchain: Annotated[str, Field(max_length=80)] = ""
    """Name and version, as in "ziglang 0.17.0"; empty before the first build."""
    module_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    sources_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of the files the module was built from; empty if that is not known."""


@dataclass(frozen=True, slots=True)
class Project:
    """One challenge's folder, with its spec read and checked."""

    folder: Path
    spec: ChallengeSpec
    build: BuildTable

    @property
    def spec_path(self) -> Path:
        """The ``platform.toml``."""
        return self.folder / SPEC_NAME

    @property
    def module_path(self) -> Path:
        """The built module; it may not exist yet."""
        return self.folder / MODULE_NAME

    @property
    def vectors_path(self) -> Path:
        """The test vectors."""
        return self.folder / VECTORS_NAME

    def sources(self) -> list[Path]:
        """Return the source files, sorted. Raises `MistakeError` when there are none."""
        suffix = SOURCE_SUFFIXES[self.build.language]
        found = sorted((self.folder / "source").glob(f"*{suffix}"))
        if not found:
            raise MistakeError(
                self.folder / "source",
                f"no *{suffix} file",
                f"at least one, because build.language is {self.build.language!r}",
                "Write one, or change build.language in platform.toml.",
            )
        return found

    def data(self) -> list[Path]:
        """Return the files to embed, sorted."""
        folder = self.folder / "data"
        return sorted(p for p in folder.glob("*") if p.suffix in DATA_SUFFIXES)

    def check_data(self) -> None:
        """Refuse a file of ``data/`` that nothing would read. Raises `MistakeError`."""
        used = DATA_SUFFIXES if self.build.language == "c" else ()
        for path in _files(self.folder / "data"):
            if path.suffix not in {".md", *used}:
                raise MistakeError(
                    path,
                    "a file that is not built in",
                    f"{' or '.join(used) or 'nothing'} beside data/blobs (.md is for people)",
                    "Rename it, make it a blob (data/blobs and policy.data_keys), or put it into "
                    "source/ as code.",
                )
        for path in _files(self.folder / "data" / "blobs"):
            if path.name not in self.spec.policy.data_keys:
                raise MistakeError(
                    path,
                    "a file that data_get does not find",
                    f"{path.name!r} among policy.data_keys",
                    "Name it there in platform.toml, or remove it.",
                )

    def blobs(self) -> dict[str, bytes]:
        """Return what ``policy.data_keys`` names, from ``data/blobs``. Raises `MistakeError`."""
        found: dict[str, bytes] = {}
        whole = 0
        for key in self.spec.policy.data_keys:
            path = self.folder / "data" / "blobs" / key
            try:
                size = path.stat().st_size
                whole += size
                if size > MAX_BLOB_BYTES or whole > MAX_BLOBS_BYTES:
                    raise _blob_too_large(path, size, whole)
                found[key] = _read(path, MAX_BLOB_BYTES)
            except OSError as error:
                raise MistakeError(
                    path,
                    error.strerror or str(error),
                    f"the data blob {key!r} of policy.data_keys",
                    "Put the file there, or take the key out of platform.toml.",
                ) from None
        return found

    def sources_sha256(self) -> str:
        """Return the hash of all that a build reads, in hex. Raises `MistakeError`."""
        digest = hashlib.sha256()
        for path in self._built_from():
            body = _read(path, MAX_SOURCE_BYTES)
            digest.update(f"{path.relative_to(self.folder).as_posix()} {len(body)}\n".encode())
            digest.update(body)
        return digest.hexdigest()

    def _built_from(self) -> list[Path]:
        if self.build.language != "c":
            return self.sources()
        headers = sorted((self.folder / "source").glob("*.h"))
        return [*self.sources(), *headers, *self.data()]

    def module(self) -> bytes:
        """Return the built module. Raises `MistakeError` unless it is the pinned one."""
        try:
            module = _read(self.module_path, MAX_MODULE_FILE_BYTES)
        except FileNotFoundError:
            raise MistakeError(
                self.module_path, "nothing", "the built module", _build_it(self.folder)
            ) from None
        found = hashlib.sha256(module).hexdigest()
        if found != self.build.module_sha256:
            raise MistakeError(
                self.module_path,
                f"a module of hash {found}",
                f"{self.build.module_sha256 or 'a pinned one'}, build.module_sha256 in {SPEC_NAME}",
                _build_it(self.folder),
            )
        return module

    def stale(self) -> bool | None:
        """Return whether the module was built from other files than there are now.

        None stands for "perhaps": no build wrote down its files, and one is newer than the module.
        Raises `MistakeError` when there are no sources.
        """
        known = self.build.sources_sha256
        if known:
            return known != self.sources_sha256()
        built = self.module_path.stat().st_mtime_ns
        newer = any(path.stat().st_mtime_ns > built for path in self._built_from())
        return None if newer else False


def load_project(folder: Path) -> Project:
    """Read the challenge in `folder`. Raises `MistakeError` for its first mistake."""
    path = folder / SPEC_NAME
    table = _read_toml(path)
    build = table.pop("build", None)
    if build is None:
        raise MistakeError(
            path,
            "no table [build]",
            'language = "c", "assemblyscript" or "python" in it',
            "Add the table.",
        )
    try:
        spec = ChallengeSpec.model_validate(table)
    except ValidationError as error:
        raise explain(path, error, "Correct the field; docs/challenges.md lists all.") from None
    try:
        return Project(folder, spec, BuildTable.model_validate(build))
    except ValidationError as error:
        advice = "Leave toolchain and module_sha256 to `challenge build`."
        raise explain(path, error, advice, prefix=("build",)) from None


def pin(project: Project, toolchain: str, module_sha256: str, sources_sha256: str = "") -> Project:
    """Write the tool chain and the hashes into ``[build]``; return the project read anew.

    Everything else in the file stays as it is, comments too.
    """
    path = project.spec_path
    head, table, rest = _split_at_build(decode_text(path.read_bytes()))
    wanted = {"toolchain": toolchain, "module_sha256": module_sha256}
    if sources_sha256 or project.build.sources_sha256:
        wanted["sources_sha256"] = sources_sha256
    for name, value in wanted.items():
        line = f'{name} = "{value}"'
        table, count = re.subn(rf"(?m)^{name}[ \t]*=.*$", line, table, count=1)
        if not count:
            table = f"{table.rstrip()}\n{line}\n" + ("\n" if rest else "")
    path.write_text(head + table + rest, encoding="utf-8")
    again = load_project(project.folder)
    if (again.build.toolchain, again.build.module_sha256) != (toolchain, module_sha256):
        raise MistakeError(
            path, "a table [build] in an unusual form", "one key a line", "Write it so."
        )
    return again


def explain(
    path: Path | str, error: ValidationError, advice: str, prefix: tuple[str, ...] = ()
) -> MistakeError:
    """Return one violation in a file that pydantic checked, an unknown field before others."""
    found = error.errors(include_url=False)
    # a misspelt name is both unknown and missing; the unknown one is what the author sees
    detail = next((entry for entry in found if entry["type"] == "extra_forbidden"), found[0])
    parts = [*prefix, *(str(part) for part in detail["loc"] if part != "[key]")]
    where = f"{path}: {'.'.join(parts)}" if parts else str(path)
    if detail["type"] == "missing":
        return MistakeError(where, "nothing", "this field", advice)
    shown = repr(detail["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    if detail["type"] == "extra_forbidden":
        return MistakeError(where, shown, "no field of this name", "Remove it or mend its name.")
    return MistakeError(where, shown, _expected(detail["type"], detail["msg"]), advice)


def _expected(kind: str, words: str) -> str:
    """Return what pydantic missed, so that it goes on after the word "expected"."""
    if kind == "bytes_type":
        return "bytes in hex"
    words = words.removeprefix("Value error, ").removeprefix("Input should be ")
    words = re.sub(r"^(?:String|Data|Tuple|Dictionary|Value|List) should have ", "", words)
    words = re.sub(r"^String should match pattern ", "a text that matches ", words)
    return re.sub(r" (?:was|were) expected$", "", words)


def _files(folder: Path) -> list[Path]:
    """Return the visible files of a folder, sorted; none if it is not there."""
    found = sorted(folder.glob("*"))
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def _read(path: Path, limit_bytes: int) -> bytes:
    """Return a file's content. Raises `MistakeError` for one that is larger, such as a device."""
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        limit = f"{limit_bytes:,} bytes at most"
        raise MistakeError(path, "a larger file", limit, "Make it smaller; no network admits it.")
    return data


def _blob_too_large(path: Path, size: int, whole: int) -> MistakeError:
    if size > MAX_BLOB_BYTES:
        found, limit = f"{size:,} bytes", f"at most {MAX_BLOB_BYTES:,} a blob"
    else:
        found = f"{size:,} bytes, {whole:,} with the blobs before it in policy.data_keys"
        limit = f"at most {MAX_BLOBS_BYTES:,} together"
    return MistakeError(path, found, limit, "Make the data smaller; no validator holds more.")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise MistakeError(
            path,
            error.strerror or "no file",
            "a challenge's spec",
            "Name the challenge's folder, or make one by `challenge new NAME`.",
        ) from None
    if len(data) > MAX_SPEC_BYTES:
        raise MistakeError(path, "a larger file", f"{MAX_SPEC_BYTES} bytes at most", "Shorten it.")
    try:
        return tomllib.loads(decode_text(data))
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or beyond Python's limits
        raise MistakeError(path, str(error), "valid TOML", "Correct the line.") from None


def _split_at_build(text: str) -> tuple[str, str, str]:
    """Return what stands before the table, the table, and what follows it."""
    found = re.search(r"(?ms)^\[build\].*?(?=^\[|\Z)", text)
    if found is None:  # written inline or dotted: `pin` notices that nothing changed
        return text, "", ""
    return text[: found.start()], found.group(), text[found.end() :]


def _build_it(folder: Path) -> str:
    return f"Run `validator-node challenge build {folder}`."
