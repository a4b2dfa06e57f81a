"""Whole training runs that stop early, and finished ones that are made longer; killed, they end with the same bits."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.support.runs import RESUMED, assert_same, command, rows, start, train_here, train_several, wait_for
from trainer.objective.optimizers import Schedule

pytestmark = [
    pytest.mark.timeout(900),
    # TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

# Epochs of 5 updates, checkpoints after 3, 5, 6, 9, 10, ...
BASE = [option for option in RESUMED if not option.startswith("--epochs")]
HERE = [option for option in BASE if option != "--deterministic"]  # which a process has for good
LONGER = (*BASE, "--epochs=6")  # instead of 4
PATIENT = (*BASE, "--epochs=40", "--learning_rate=0", "--patience=2")  # only the statistics of the normalization move


@dataclass(frozen=True)
class Trained:
    run: Path
    said: str


def copied(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "run"))


def config_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def kill(dataset: Path, run: Path, step: int, *options: str) -> Path:
    process = start(command(dataset, run, *options))
    wait_for(run, step, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was over before"
    return run


@pytest.fixture(scope="module")
def whole(dataset: Path, undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Trained]:
    """A finished run of 20 updates that is made 30, and one that stops early."""
    longer = copied(undisturbed, tmp_path_factory.mktemp("longer"))
    early = tmp_path_factory.mktemp("early") / "run"
    said = train_several(dataset, {longer: LONGER, early: PATIENT})
    return Trained(longer, said[0]), Trained(early, said[1])


@pytest.fixture(scope="module")
def longer(whole: tuple[Trained, Trained]) -> Trained:
    return whole[0]


@pytest.fixture(scope="module")
def early(whole: tuple[Trained, Trained]) -> Trained:
    return whole[1]


@pytest.fixture(scope="module")
def resumed(
    dataset: Path, undisturbed: Path, longer: Trained, early: Trained, tmp_path_factory: pytest.TempPathFactory
) -> list[Trained]:
    """The same, killed and started again: in the middle of what was added; when only config.json was written, with a
    damaged checkpoint besides; and after the first evaluation without a better score.
    """
    added = kill(dataset, copied(undisturbed, tmp_path_factory.mktemp("added")), 24, *LONGER)
    assert not (added / "finished.json").exists(), "the report is of the run as it was"
    written = copied(undisturbed, tmp_path_factory.mktemp("written"))
    shutil.copy(longer.run / "config.json", written / "config.json")
    (written / "checkpoints" / "ckpt-20.index").write_bytes(b"")
    patient = kill(dataset, tmp_path_factory.mktemp("patient") / "run", stop_of(early.run)[0] - 3, *PATIENT)
    runs = {added: LONGER, written: LONGER, patient: PATIENT}
    return [Trained(run, said) for run, said in zip(runs, train_several(dataset, runs), strict=True)]


def stop_of(run: Path) -> tuple[int, int]:
    """What the scores in metrics.jsonl ask for. -> the step of the stop, and of the best model."""
    best: dict[str, Any] = {"mean_iou": -1.0}
    waited = 0
    for row in rows(run, "val"):
        waited = 0 if row["mean_iou"] > best["mean_iou"] else waited + 1
        best = best if waited else row
        if waited == 2:
            return row["step"], best["step"]
    raise AssertionError("it did not have to stop")


def early_end(run: Path) -> str:
    _, best = stop_of(run)
    score = next(row["mean_iou"] for row in rows(run, "val") if row["step"] == best)
    return f"no better validation mean IoU for 2 evaluations (best {score:.4f} at step {best})"


def test_a_finished_run_is_made_longer(undisturbed: Path, longer: Trained) -> None:
    """On the schedule of the new length, from the update on that comes next; all results are made again."""
    run = longer.run
    short, long = (Schedule("poly", learning_rate=0.01, total_steps=total) for total in (20, 30))
    last, first = float(short(19)), float(long(20))
    assert (
        f"{run} was complete after 20 updates and is made longer, to 30: the learning rate jumps from {last:.3g} to "
        f"{first:.3g}\nresuming at step 20\n"
    ) in longer.said
    expected = [float(short(step)) for step in range(20)] + [float(long(step)) for step in range(20, 30)]
    found = rows(run)
    assert [row["step"] for row in found] == list(range(1, 31))
    assert [row["learning_rate"] for row in found] == pytest.approx(expected, rel=1e-6)
    assert found[:20] == rows(undisturbed)
    assert [row["step"] for row in rows(run, "val")] == [5, 10, 15, 20, 25, 30]
    config = config_of(run)
    assert config["identity"]["extended"] == [{"from": 20, "at": 20}]
    assert (config["identity"]["epochs"], config["config"]["epochs"]) == (6, 6)
    curves = "report-val/learning_curves.png"
    assert (run / curves).read_bytes() != (undisturbed / curves).read_bytes()


def test_what_was_made_longer_is_complete_afterwards(
    dataset: Path, longer: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    run = longer.run
    for length in ("--epochs=6", "--steps=30"):  # the same number of updates
        assert train_here(dataset, run, *HERE, length) == 0
        assert f"{run} is already complete: 30 updates; a larger" in capsys.readouterr().out
    for length in ("--epochs=4", "--steps=29"):
        assert train_here(dataset, run, *HERE, length) == 1
        told = capsys.readouterr().err
        assert f"{run} has a run of 30 updates, which can't be made shorter: epochs was 6 and is" in told
        assert f"with --initial_model={run} a run in another --output starts from the weights of this one" in told


def test_a_longer_run_that_is_killed_ends_as_if_undisturbed(longer: Trained, resumed: list[Trained]) -> None:
    """Without the newest checkpoint, the last update of the finished run is taken again, at its own learning rate."""
    for killed, steps in ((resumed[0], "2[1-9]"), (resumed[1], "18")):
        assert re.search(f"resuming at step {steps}\n", killed.said)
        assert "made longer" not in killed.said
        assert_same(killed.run, longer.run)
        assert config_of(killed.run)["identity"] == config_of(longer.run)["identity"]


def test_only_the_length_of_a_finished_run_may_be_larger(
    dataset: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(undisturbed, tmp_path)
    (run / "checkpoints" / "ckpt-20.json").unlink()
    (run / "checkpoints" / "ckpt-20.index").write_bytes(b"")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and "logs" not in path.parts}
    assert train_here(dataset, run, *HERE, "--epochs=6", "--seed=3") == 1
    told = capsys.readouterr().err
    assert "contains another run: seed was 0 and is 3. Set another --output" in told
    assert f"--initial_model={run}" in told
    assert train_here(dataset, run, *HERE, "--epochs=6") == 1
    told = capsys.readouterr().err
    assert (
        f"{run}: epochs was 4 and is 6, but the run is not finished: it is at step 18 of 20. Run it to its end with "
        "the earlier value first, or start another one: another --output, with --initial_model="
    ) in told
    assert f"--initial_model={run}" in told
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_without_a_better_score_stops_early(
    dataset: Path, early: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    run = early.run
    step, best = stop_of(run)
    assert step < 200
    assert rows(run, "val")[-1]["step"] == rows(run)[-1]["step"] == step
    assert f"stopped early at step {step}: {early_end(run)}\n" in early.said
    assert json.loads((run / "report-val" / "metrics.json").read_text())["model"]["step"] == best
    assert train_here(dataset, run, *(option for option in PATIENT if option != "--deterministic")) == 0
    told = capsys.readouterr().out
    assert f"is already complete: {step} updates; it stopped early: {early_end(run)}; a larger" in told


def test_a_killed_run_stops_where_an_undisturbed_one_does(early: Trained, resumed: list[Trained]) -> None:
    killed = resumed[2]
    assert "resuming at step" in killed.said
    assert f"stopped early at step {stop_of(early.run)[0]}: {early_end(early.run)}\n" in killed.said
    assert_same(killed.run, early.run)


def test_a_run_that_stopped_early_goes_on_and_waits_anew(
    dataset: Path, early: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(early.run, tmp_path)
    step, _ = stop_of(run)
    options = [option for option in PATIENT if option not in ("--deterministic", "--epochs=40")]
    assert train_here(dataset, run, *options, f"--steps={step + 1}") == 1, "that is less than was planned"
    capsys.readouterr()
    assert train_here(dataset, run, *options, "--epochs=41") == 0
    assert f"{run} was complete after {step} updates and is made longer, to 205" in capsys.readouterr().out
    assert config_of(run)["identity"]["extended"] == [{"from": 200, "at": step}]
    assert len(rows(run, "val")) >= len(rows(early.run, "val")) + 2


@pytest.fixture
def _precision_is_as_before() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("_precision_is_as_before")
def test_updates_that_were_skipped_do_not_delay_the_longer_schedule(dataset: Path, tmp_path: Path) -> None:
    """At this learning rate, float16 overflows. What is killed goes on by config.json alone."""
    options = (
        "--verbose",
        "--precision=float16",
        "--learning_rate=30",
        "--checkpoint_steps=2",
        "--no_report",
        "--no_export",
    )
    short = tmp_path / "short"
    assert train_here(dataset, short, *options, "--steps=6") == 0
    longer, killed, damaged = (copied(short, tmp_path / name) for name in ("longer", "killed", "damaged"))
    assert train_here(dataset, longer, *options, "--steps=10") == 0
    (extended,) = config_of(longer)["identity"]["extended"]
    assert (extended["from"], extended["at"]) == (6, 6)
    assert 0 < extended["iterations"] < 6
    record = json.loads((longer / "checkpoints" / "ckpt-10.json").read_text())
    assert record["about"] == config_of(longer)["identity"], "from which config.json can be rebuilt"
    (damaged / "checkpoints" / "ckpt-6.index").write_bytes(b"")
    for run in (killed, damaged):
        shutil.copy(longer / "config.json", run / "config.json")
        assert train_here(dataset, run, *options, "--steps=10") == 0
        assert_same(run, longer)
