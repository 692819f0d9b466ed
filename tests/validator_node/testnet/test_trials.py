"""What the command line asks for, and the report of trials that could not be run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from validator_node import errors
from validator_node.cli.main import app
from validator_node.cli.testnet import chosen_seeds
from validator_node.testnet.manifest import Manifest
from validator_node.testnet.trials import TrialOptions, run_trials


def test_seeds_are_chosen_as_said() -> None:
    assert list(chosen_seeds(7, None, None)) == [7]
    assert list(chosen_seeds(7, None, 3)) == [7, 8, 9]
    assert list(chosen_seeds(None, "3-5", None)) == [3, 4, 5]
    assert len(chosen_seeds(None, None, 4)) == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, "5-3", None), "the smaller first"),
        ((None, "0-1000", None), "1 to 1000 seeds"),
        ((None, "five", None), "two numbers like 1-20 were expected"),
        ((1, "3-5", None), "without --seed and --count"),
    ],
)
def test_contradicting_seeds_are_refused(arguments, expected: str) -> None:
    with pytest.raises(errors.TestnetError, match=expected):
        chosen_seeds(*arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--soak", "--seed", "1"], "--soak does not go with"),
        (["--seed", "1", "--kill-one"], "--kill-one does not go with a trial"),
        (["--manifest", "none.toml"], "manifest none.toml: No such file"),
        (["--manifest", "none.toml", "--duration", "9"], "--manifest says everything"),
        (["--seed", "1", "--fabric", "silk"], "one of auto, namespaces, proxy was expected"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    done = CliRunner().invoke(app, ["testnet", "--state-dir", str(tmp_path / "s"), *arguments])
    assert isinstance(done.exception, errors.TestnetError)
    assert expected in str(done.exception)


def test_a_trial_that_cannot_be_run_is_an_error_alone_and_a_failure_among_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        folder = tmp_path / "many" / f"seed-{number}"
        folder.mkdir(parents=True)
        (folder / "something").touch()
    manifests = [Manifest(name=f"seed {number}", seed=number) for number in range(2)]
    options = TrialOptions(state_dir=tmp_path / "many", fabric="proxy")
    assert run_trials(manifests, options) is False
    said = capsys.readouterr().out
    assert "0 of 2 trials held" in said
    assert "--seed 1 --duration 60" in said
    with pytest.raises(errors.TestnetError, match="is not empty"):
        run_trials(manifests[:1], options)
