"""Builds challenges' modules and checks them against the pinned ones.

``python -m challenges.build [NAME...]`` compiles each example and prints two hashes: the build's
and the pinned one; it exits 1 when they differ. ``--write`` replaces the module and pins it. A
Python example has no pinned module: naming it builds it into the user's cache and prints its hash.
Authors use ``validator-node challenge build``, which does the same for any folder.

A build is done twice, in two fresh folders, and counts only if both give the same bytes. Python is
the exception: its builds differ, so one is made for each content of the sources and kept in the
user's cache (`challenges.compile_python`). AssemblyScript's two builds take 10 s, so their module
is kept there, too; a check makes it anew.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from challenges import compile_as, compile_c, compile_python, kept
from challenges.errors import BuildError
from challenges.examples import FOLDER, component_names, names
from challenges.progress import Say, silent
from challenges.project import Project, load_project, pin


@dataclass(frozen=True, slots=True)
class Built:
    """A module that two builds made alike, or, from Python, the only build."""

    module: bytes
    toolchain: str
    builds: int = 2

    @property
    def sha256(self) -> str:
        """The module's hash in hex."""
        return hashlib.sha256(self.module).hexdigest()


def compile_project(project: Project, say: Say = silent, *, anew: bool = False) -> Built:
    """Compile a challenge twice, a Python one once.

    `anew` takes no module from the cache that could be made again.

    Raises:
        MistakeError: there is nothing to compile, or a file that would be left out.
        ToolMissingError: the tool chain is not installed.
        BuildError: a source was refused, or the builds differ.
    """
    project.check_data()
    if project.build.language == "python":
        component = compile_python.compile_python(project.sources(), say)
        return Built(component, compile_python.TOOLCHAIN, builds=1)
    if project.build.language == "assemblyscript":
        return _compile_as(project, say, anew=anew)
    headers = sorted((project.folder / "source").glob("*.h"))
    files = [*project.sources(), *headers]
    module = _twice(project, lambda: compile_c.compile_c(files, project.data()))
    return Built(module, compile_c.TOOLCHAIN)


def _compile_as(project: Project, say: Say, *, anew: bool) -> Built:
    sources = project.sources()
    path = compile_as.kept_module(sources)
    module = None if anew else kept.find(path)
    if module is None:
        say("compiling twice, to compare: about 10 s")
        module = _twice(project, lambda: compile_as.compile_as(sources, say))
        kept.keep(path, module)
    return Built(module, compile_as.TOOLCHAIN)


def _twice(project: Project, compiled: Callable[[], bytes]) -> bytes:
    first = compiled()
    if first != compiled():
        raise BuildError(
            f"{project.folder}: two builds of the same files differ; "
            "remove what depends on the time or the place of the build, such as __TIME__"
        )
    return first


def write(project: Project, built: Built) -> Project:
    """Put the module in its place and pin it; return the project as it is then."""
    project.module_path.write_bytes(built.module)
    return pin(project, built.toolchain, built.sha256, project.sources_sha256())


def _check(name: str, *, replace: bool) -> bool:
    project = load_project(FOLDER / name)
    built = compile_project(project, anew=True)
    if built.builds == 1:
        sys.stdout.write(f"{name}: {len(built.module)} bytes, in the cache\n  {built.sha256}\n")
        return True
    if replace:
        project = write(project, built)
    lines = (
        f"{name}: {len(built.module)} bytes",
        f"  built   {built.sha256}",
        f"  pinned  {project.build.module_sha256}",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return built.module == project.module()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m challenges.build", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="default: all with a committed module"
    )
    parser.add_argument("--write", action="store_true", help="replace and pin the modules")
    chosen = parser.parse_args(arguments)
    known = (*names(), *component_names())
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"no example is called {unknown[0]!r}; there are {', '.join(known)}")
    results = [_check(name, replace=chosen.write) for name in chosen.names or names()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
