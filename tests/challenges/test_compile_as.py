"""Where the AssemblyScript compiler cannot be had, one line says so."""

import pytest

from challenges import compile_as, kept
from challenges.build import compile_project
from challenges.compile_as import compile_as as compile_sources
from challenges.compile_as import node_problem
from challenges.errors import BuildError, ToolMissingError
from challenges.scaffold import new_project

NODE = pytest.mark.skipif(node_problem() is not None, reason=str(node_problem()))


def test_without_node(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="needs Node 20 or newer with npm, and none is on"):
        compile_sources([])


def test_with_an_old_node(tmp_path, monkeypatch):
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho v18.1.0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert node_problem() == "AssemblyScript needs Node 20 or newer, the PATH has v18.1.0"


@NODE
def test_without_an_entry(tmp_path):
    source = tmp_path / "other.ts"
    source.write_text("export const x = 1;\n")
    with pytest.raises(BuildError, match=r"found no challenge\.ts"):
        compile_sources([source])


@NODE
def test_what_the_compiler_says_is_told(tmp_path):
    source = tmp_path / "challenge.ts"
    source.write_text("export function evaluate(): i64 { return nothing; }\n")
    with pytest.raises(BuildError, match="Cannot find name 'nothing'") as caught:
        compile_sources([source])
    assert f"in {source}(1," in str(caught.value)


@NODE
def test_an_unchanged_module_is_not_built_again(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "cache_folder", lambda: tmp_path / "cache")
    project = new_project(tmp_path, "guess", "assemblyscript")
    said = []
    first = compile_project(project, said.append)
    assert said == ["compiling twice, to compare: about 10 s"]
    assert compile_project(project, said.append) == first
    assert len(said) == 1


def test_the_lock_names_no_registry_and_pins_each_package():
    lock = (compile_as.SDK / "package-lock.json").read_text()
    assert f'"assemblyscript": "{compile_as.VERSION}"' in lock
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') == 3
