"""`validator-node challenge`: make, build, test, run and measure a challenge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import trio
import typer

from challenges.artifacts import component_compiler
from challenges.build import Built, compile_project, write
from challenges.errors import BuildError, KitError, MistakeError
from challenges.project import Language, Project, load_project
from challenges.runner import Costs, Runner, check_admission, time_worker
from challenges.scaffold import new_project
from challenges.vectors import NOWHERE, Context, save_vector_file
from protocol.codec import sha256
from runtime.component_admission import is_component
from runtime.errors import Fault
from runtime.job import EvaluationJob
from runtime.pool import open_pool
from validator_node.cli.challenge_tables import (
    difference_lines,
    print_costs,
    print_outcome,
    vector_table,
)
from validator_node.cli.payload import read_hash, read_payload
from validator_node.errors import ConfigError, NodeError, ToolSpokeError
from validator_node.terminal import say, say_table

app = typer.Typer(no_args_is_help=True, help="Challenges: new, build, test, run, bench.")

MAX_ROUNDS = 100_000


class LanguageName(StrEnum):
    """The languages a scaffold exists for."""

    C = "c"
    ASSEMBLYSCRIPT = "assemblyscript"
    PYTHON = "python"


FolderArgument = Annotated[Path, typer.Argument(help="the challenge's folder")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="the challenge's id, and the folder's name")],
    language: Annotated[LanguageName, typer.Option(help="language of the source")] = LanguageName.C,
    into: Annotated[Path, typer.Option(help="where to make the folder")] = Path(),
) -> None:
    """Make the folder of a new challenge that builds and passes its vectors at once."""
    chosen: Language = language.value
    with _mistakes():
        project = new_project(into, name, chosen)
    say(f"made {project.folder}: platform.toml, source/, vectors.json, README.md")
    say(f"next: validator-node challenge build {project.folder}")


@app.command()
def build(
    folder: FolderArgument = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="change nothing; fail unless it is the pinned module")
    ] = False,
) -> None:
    """Compile the module twice, compare, and pin its hash in platform.toml."""
    with _mistakes():
        project = load_project(folder)
        if check:
            project.module()  # what is missing is told before the compiling
        built = compile_project(project, _say, anew=check)
        check_admission(project, built.module)
        if check:
            _check(project, built)
            return
        before = project.build.module_sha256
        project = write(project, built)
    how = "twice" if built.builds > 1 else "once: keep the file, another machine makes another one"
    say(f"{project.module_path}: {len(built.module):,} bytes by {built.toolchain}, {how}")
    changed = "unchanged" if before == built.sha256 else "pinned in platform.toml"
    say(f"sha256 {built.sha256} ({changed})")


@app.command("test")
def run_vectors(
    folder: FolderArgument = Path(),
    record: Annotated[
        bool, typer.Option("--record", help="write what the module answers into vectors.json")
    ] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="test the module although the sources have changed")
    ] = False,
) -> None:
    """Run the test vectors in the sandbox that validators use; exit 1 if one does not match."""
    with _mistakes():
        project = load_project(folder)
        _look_for_changes(project, refuse=not stale)
        with Runner(project, _say) as runner:
            file = runner.vectors()
            results = list(runner.run_vectors(file.vectors))
            if record:
                vectors = tuple(runner.recorded(r.vector, r.outcome) for r in results)
                new_file = file.model_copy(update={"vectors": vectors})
                save_vector_file(project.vectors_path, new_file)
    say_table(vector_table(project, results))
    wrong = [result for result in results if result.differences]
    for line in difference_lines(project, wrong):
        say(line, err=not record)
    if record:
        say(f"wrote {project.vectors_path}; read each answer: validators will expect it")
        return
    if wrong:
        raise typer.Exit(1)
    say(f"{len(results)} of {len(results)} vectors match")


@app.command()
def run(
    payload: Annotated[
        str,
        typer.Argument(
            help="a file's path, text:WORDS, hex:DIGITS, or the text itself; "
            "with --replay: the challenge's folder"
        ),
    ] = "",
    folder: FolderArgument = Path(),
    miner: Annotated[str, typer.Option(help="miner's public key, hex")] = "00" * 32,
    seed: Annotated[str, typer.Option(help="the context's seed, hex")] = "00" * 32,
    epoch: Annotated[int, typer.Option(min=0)] = 0,
    height: Annotated[int, typer.Option(min=0)] = 0,
    time_ms: Annotated[int, typer.Option(min=0)] = 0,
    replay: Annotated[
        str, typer.Option(help="id of a settled submission: reproduce its committed result")
    ] = "",
    config: Annotated[
        Path | None, typer.Option(help="with --replay: configuration of the stopped node")
    ] = None,
) -> None:
    """Evaluate one payload and print outcome, score, fuel, host calls and log lines."""
    if replay:
        if config is None:
            raise NodeError("--replay: found no --config; name a stopped node's node.toml")
        from validator_node.cli import challenge_replay  # needs the whole node: slow to import

        challenge_replay.replay(read_hash("--replay", replay), config, _things_of(Path(payload)))
        return
    context = Context(epoch=epoch, height=height, time_ms=time_ms, seed=read_hash("--seed", seed))
    with _mistakes():
        project = load_project(folder)
        body = read_payload(payload)
        _look_for_changes(project, refuse=False)
        with Runner(project, _say) as runner:
            job = runner.job(body, read_hash("--miner", miner), context, "PAYLOAD")
            outcome = runner.evaluate(job)
    print_outcome(outcome, project.spec.policy.fuel)


@app.command()
def bench(
    folder: FolderArgument = Path(),
    payload: Annotated[
        str, typer.Option(help="as of `run`; default: the vector that burns most fuel")
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, max=MAX_ROUNDS, help="evaluations a row")] = 500,
) -> None:
    """Measure one evaluation: in process, through a worker, and without any limits."""
    with _mistakes():
        project = load_project(folder)
        _look_for_changes(project, refuse=False)
        with Runner(project, _say) as runner:
            job, name = _bench_job(runner, payload)
            fuel = runner.evaluate(job).fuel_used
            rows = {}
            if not runner.is_component:  # compiling one without limits takes longer than measuring
                rows["wasmtime without limits"] = runner.time_unmetered(job, rounds)
            rows["sandbox, in process"] = runner.time_in_process(job, rounds)
        rows["sandbox, through a worker"] = trio.run(_time_worker, runner.module, job, rounds)
    print_costs(rows, f"{name}: {len(job.submission):,} bytes, {fuel:,} fuel", runner.is_component)
    say(f"{rounds:,} evaluations a row, each in fresh instances of the same module.")


async def _time_worker(module: bytes, job: EvaluationJob, rounds: int) -> Costs:
    modules = {job.module_hash: module}
    compiler = component_compiler(modules.get) if is_component(module) else None
    async with open_pool(1, module_source=modules.get, compiler=compiler) as pool:
        return await time_worker(pool, job, rounds)


def _bench_job(runner: Runner, payload: str) -> tuple[EvaluationJob, str]:
    if payload:
        job = runner.job(read_payload(payload), bytes(32), NOWHERE, "--payload")
        return job, "the payload"
    results = runner.run_vectors(runner.vectors().vectors)
    vector = max(results, key=lambda result: result.outcome.fuel_used).vector
    job = runner.job(vector.submission, vector.miner, vector.context, vector.name)
    return job, f"vector {vector.name!r}"


def _check(project: Project, built: Built) -> None:
    pinned = project.build.module_sha256
    if built.sha256 != pinned or project.module() != built.module:
        raise NodeError(
            f"{project.spec_path}: build.module_sha256: found {pinned or 'nothing'}; expected "
            f"{built.sha256}, what the sources compile to. Run `challenge build` without --check."
        )
    what = "two builds gave" if built.builds > 1 else "the one build of these sources is"
    say(f"sha256 {pinned}: {what} the pinned module")


def _look_for_changes(project: Project, *, refuse: bool) -> None:
    """Say that the module is not what the sources are now; raise `MistakeError` if `refuse`."""
    project.module()
    stale = project.stale()
    if stale is False:
        return
    advice = f"Run `validator-node challenge build {project.folder}`"
    if stale and refuse:
        raise MistakeError(
            project.module_path,
            "a module built from other sources than there are now",
            "the one of these sources",
            f"{advice}, or `test --stale` to test this one.",
        )
    how = "was built from other sources" if stale else "is older than the sources"
    say(f"{project.module_path}: {how}. {advice} to see their effect.", err=True)


def _things_of(folder: Path) -> dict[bytes, bytes]:
    """Return module and data blobs of the challenge in `folder`, nothing if there is none."""
    if not (folder / "platform.toml").exists():
        return {}
    with _mistakes():
        project = load_project(folder)
        return {sha256(thing): thing for thing in (project.module(), *project.blobs().values())}


def _say(line: str) -> None:
    say(line, err=True)


@contextmanager
def _mistakes() -> Iterator[None]:
    """Turn what an author can mend into the command line's one-line error."""
    try:
        yield
    except MistakeError as error:
        raise ConfigError(str(error)) from error
    except BuildError as error:
        raise ToolSpokeError(str(error)) from error
    except KitError as error:
        raise NodeError(str(error)) from error
    except Fault as fault:
        raise NodeError(
            f"this machine could not evaluate: {fault}. It says nothing about the challenge; "
            "try again, or on another machine."
        ) from fault
