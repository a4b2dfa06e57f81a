"""The command line of launch.vertex, its tables and its dry run."""

from __future__ import annotations

import ast

import pytest
from vertex_runs import DATASET, PLACE, dry_run

from launch.vertex import options
from launch.vertex.__main__ import main
from launch.vertex.machines import ACCELERATORS
from launch.vertex.search import METRIC
from tests.conftest import PROJECT
from trainer import config


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """-> what is said about arguments that are wrong."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_metric_of_a_search_is_the_one_that_the_trainer_reports() -> None:
    tree = ast.parse((PROJECT / "trainer" / "journal.py").read_text())
    names = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(names["HYPERPARAMETER_METRIC"]) == METRIC


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epocs=3"], "python -m trainer.task: error: unrecognized arguments: --epocs=3"),
        (["--model=u3net"], "python -m trainer.task: error: argument --model: invalid choice: 'u3net'"),
        (["--dataset=out/scenes"], "--dataset=out/scenes is a local path, which a job cannot read: copy it to gs://"),
        (["--initial_model=out/run"], "--initial_model=out/run is a local path"),
        (["--backbone_weights=w.h5"], "--backbone_weights=w.h5 is a local path"),
        (["--output=out/run"], "--output=out/run must be gs://BUCKET/FOLDER"),
        (["--output=gs://street"], "--output=gs://street must be gs://BUCKET/FOLDER: files on the machines of a"),
        (["--output=gs://street/my run"], "--output=gs://street/my run must be gs://BUCKET/FOLDER"),
        (["--dataset=gs://"], "--dataset=gs: does not name a bucket: gs://BUCKET/..."),
        (["--container="], "argument --container: '' is not a container image such as europe-docker.pkg.dev/PROJECT/"),
        (["--service_account=me"], "argument --service_account: 'me' is not the email address of an account"),
        (["--trials=3"], "--trials has no effect without --tune"),
        (["--reuse_packages"], "--reuse_packages has no effect without --local"),
        (["--project=My Street"], "argument --project: 'My Street' is not a project ID such as street-scenes-123"),
        (["--region=europe-west4-a"], "argument --region: 'europe-west4-a' is not a region such as us-central1"),
        (["--accelerator=L4"], "--accelerator=L4 is not one of none, NVIDIA_TESLA_T4"),
        (["--accelerator_count=3"], "machines have 1, 2, 4, 8 of NVIDIA_L4; to use another number, set --machine_type"),
        (["--accelerator_count=0", "--machine_type=x"], "--accelerator=NVIDIA_L4 and --accelerator_count=0 contradict"),
        (["--accelerator=none", "--accelerator_count=1"], "--accelerator_count=1: machines have 0 of none"),
        (["--accelerator=TPU_V3", "--machine_type=x"], "--machine_type=x: the machine type of TPU_V3 follows from"),
        (["--accelerator=TPU_V3"], "a TPU needs --container"),
        (["--accelerator=TPU_V3", "--container=x", "--hosts=2"], "--hosts=2: training on a TPU runs on one host"),
        (["--tensorboard=12"], "--tensorboard=12 is not projects/PROJECT/locations/REGION/tensorboards/ID"),
        (["--tensorboard=projects/p/locations/us-east1/tensorboards/1"], "both must be in the same region"),
        (["--tensorboard=projects/p/locations/europe-west4/tensorboards/1"], "--tensorboard needs --service_account"),
        (["--label=Team=Roads"], "'Team=Roads' is not KEY=VALUE, each up to 63 characters"),
        (["--timeout_hours=0"], "0 is not between 0.01 and 672 hours"),
        (["--hosts=0"], "'0' is not a whole number of 1 or more"),
        (["--tune=learning_rate"], "--tune=learning_rate is not NAME=LOW..HIGH"),
        (["--tune=learning_rate=0.1..0.01"], "LOW must be less than HIGH, and more than 0 with :log"),
        (["--tune=ema=0..0.9:log"], "argument --ema: 0: above 0 and below 1 was expected"),
        (["--tune=weight_decay=0..0.9:log"], "more than 0 with :log"),
        (["--tune=learning_rate=x..1"], "argument --learning_rate: 'x' is not a number"),
        (["--tune=optimizer=sgd,lion"], "argument --optimizer: invalid choice: 'lion'"),
        (["--tune=optimizer=adamw..sgd"], "--optimizer is not a number; list its values"),
        (["--tune=rate=0..1"], "unrecognized arguments: --rate=0"),
        (["--tune", "--learning_rate=0.1"], "--learning_rate is both set and tuned: leave out one of them"),
        (["--tune", "--tune=learning_rate=0.1,0.2"], "an option is tuned twice: learning_rate, learning_rate"),
        (["--tune", "--val_split="], "--tune compares trials by the mean IoU of --val_split, which is empty"),
        (["--tune", "--local"], "--local runs one training on this machine: leave out --tune"),
        (["--dry_run", "--local"], "leave out --dry_run"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_before_anything_is_built_or_asked(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.vertex.package.build_sdist", lambda _: pytest.fail("built"))
    monkeypatch.setattr("launch.vertex.submit.submit", lambda *_: pytest.fail("submitted"))
    assert message in refused(capsys, *PLACE, f"--dataset={DATASET}", *arguments)


@pytest.mark.parametrize("option", ["--project", "--region"])
def test_where_a_job_is_created_must_be_given(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    rest = [argument for argument in PLACE if not argument.startswith(option)]
    assert f"{option} is required to submit a job" in refused(capsys, *rest, f"--dataset={DATASET}")


def test_no_option_has_two_meanings() -> None:
    mine = {option for action in options.make_parser()._actions for option in action.option_strings}
    trainers = {option for action in config._parser()._actions for option in action.option_strings}
    assert mine & trainers == {"-h", "--help", "--output"}


def test_the_image_of_a_region_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    for region, host in {"us-central1": "us", "asia-east1": "asia", "australia-southeast1": "asia"}.items():
        request, summary = dry_run(capsys, f"--region={region}")
        image = request["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]["executorImageUri"]
        assert image == f"{host}-docker.pkg.dev/vertex-ai/training/tf-gpu.2-17.py310:latest"
        assert f"{image} (Google listed it until 2026-07-11: if it is no longer available, set --container)" in summary


def test_the_accelerators_are_those_that_google_knows() -> None:
    from google.cloud import aiplatform_v1

    assert set(ACCELERATORS) - {"none"} <= {each.name for each in aiplatform_v1.AcceleratorType}
