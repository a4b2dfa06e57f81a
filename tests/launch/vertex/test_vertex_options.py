"""The command line of launch.vertex, its tables and its dry run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from launch import start
from launch.vertex import machine_types, machines, options
from launch.vertex.__main__ import main
from launch.vertex.machines import ACCELERATORS
from launch.vertex.search import METRIC
from tests.support.builds import PROJECT
from tests.support.vertex_runs import DATASET, PLACE, dry_run
from trainer import config


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """-> what is said about arguments that are wrong."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    return message


def test_the_metric_of_a_search_is_the_one_that_the_trainer_reports() -> None:
    tree = ast.parse((PROJECT / "trainer" / "training" / "journal.py").read_text())
    names = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(names["HYPERPARAMETER_METRIC"]) == METRIC


# Arguments -> what the message must name: the option or the value, and the cure.
REFUSED = {
    "--epocs=3": ("launch.vertex: error: unknown option --epocs; did you mean --epochs?",),
    "--acelerator=NVIDIA_L4": ("launch.vertex: error: unknown option --acelerator; did you mean --accelerator?",),
    "--spot --dry_run=1x": ("launch.vertex: error: argument --dry_run",),
    "--print_config": ("--print_config", "leave it out", "python -m trainer.task --print_config"),
    "--print_config --container=p/r/trainer:1": ("--print_config", "python -m trainer.task --print_config"),
    "--model=u3net": ("trainer.task: error", "--model", "'u3net'"),
    "--dataset=out/scenes": ("--dataset=out/scenes", "copy it to gs://"),
    "--initial_model=out/run": ("--initial_model=out/run", "copy it to gs://"),
    "--backbone_weights=w.h5": ("--backbone_weights=w.h5", "copy it to gs://"),
    "--output=": ("--output", "expected a file or folder"),
    "--output=out/run": ("--output=out/run", "gs://BUCKET/FOLDER"),
    "--output=gs://street": ("--output=gs://street", "gs://BUCKET/FOLDER"),
    "--dataset=gs://": ("--dataset=gs:// ", "gs://BUCKET/", "no bucket"),
    "--output=gs://": ("--output=gs:// ", "gs://BUCKET/FOLDER", "no bucket"),
    "--output=gs://My_Bucket/run": ("--output=gs://My_Bucket/run", "only a-z", "'B' and 'M'"),
    "--output=gs://street//runs": ("--output=gs://street//runs", "is it gs://street/runs?"),
    "--container=": ("--container", "''", "PROJECT/REPOSITORY/NAME:TAG"),
    "--build_container=europe-west4-docker.pkg.dev/p/r/trainer:1": ("trainer:1'", "without a tag"),
    "--build_container=us-docker.pkg.dev/street/images/trainer --container=x": ("--build_container", "leave out one"),
    "--service_account=me": ("--service_account", "'me'", "email address"),
    "--trials=3": ("--trials", "without --tune"),
    "--trials=20": ("--trials", "without --tune"),  # the default
    "--momentum=0.8 --optimizer=adamw": ("trainer.task: error", "--momentum", "--optimizer=adamw"),
    "--tune=momentum=0.8..0.9 --optimizer=adamw": ("trainer.task: error", "--momentum", "--optimizer=adamw"),
    "--tune=momentum=0.8..0.9 --tune=optimizer=sgd,adamw": ("trainer.task: error", "--momentum", "--optimizer=adamw"),
    "--reuse_packages": ("--reuse_packages", "without --local"),
    "--project=My Street": ("--project", "'My Street'", "street-scenes-123"),
    "--region=europe-west4-a": ("--region", "'europe-west4-a'", "us-central1"),
    "--accelerator=L4": ("--accelerator=L4", "did you mean NVIDIA_L4?"),
    "--accelerator=L4 --machine_type=g2-standard-4": ("--accelerator=L4", "did you mean NVIDIA_L4?"),
    "--accelerator=NVIDIA_TESLA_V100": ("--accelerator=NVIDIA_TESLA_V100", "--machine_type", "n1-standard-8"),
    "--accelerator=NVIDIA_B200": ("--accelerator=NVIDIA_B200", "--machine_type", "a4-highgpu-8g"),
    "--accelerator=NVIDIA_TESLA_A100 --accelerator_count=16": ("=16", "1, 2, 4, 8", "--machine_type=a2-megagpu-16g"),
    "--accelerator_count=3": ("--accelerator_count=3", "1, 2, 4, 8 of NVIDIA_L4", "set one of these"),
    "--machine_type=n1-standard-4": ("=n1-standard-4", "--accelerator=NVIDIA_L4", "NVIDIA_TESLA_T4", "leave out"),
    "--machine_type=e2-standard-4": ("=e2-standard-4", "--accelerator=NVIDIA_L4", "--accelerator=none"),
    "--machine_type=g2-standard-48 --accelerator_count=1": ("4 x NVIDIA_L4", "--accelerator_count=1", "leave out"),
    "--machine_type=a3-highgpu-1g --accelerator=NVIDIA_H100_80GB --accelerator_count=8": ("has 1 x NVIDIA_H100", "=8"),
    "--machine_type=a2-highgpu-1g": ("1 x NVIDIA_TESLA_A100, not --accelerator=NVIDIA_L4", "leave out --machine_type"),
    "--machine_type=g2-standard-12 --accelerator=none": ("1 x NVIDIA_L4", "none", "n2-standard-16"),
    "--machine_type=g2-standrad-48": ("=g2-standrad-48", "g2-standard-96", "did you mean g2-standard-48?"),
    "--machine_type=gg2-standard-48": ("=gg2-standard-48 is not a machine type", "did you mean g2-standard-48?"),
    "--machine_type=n2-standrad-16 --accelerator=none": ("=n2-standrad-16", "did you mean n2-standard-16?"),
    "--machine_type=ct5lp-hightpu-4t": ("=ct5lp-hightpu-4t has TPUs", "--accelerator_count"),
    "--machine_type=n1-standard-8 --accelerator=NVIDIA_TESLA_T4 --accelerator_count=3": ("=3", "1, 2, 4 of NVIDIA_"),
    "--machine_type=x": ("--machine_type=x is not a machine type", "g2-standard-12"),
    "--accelerator_count=0 --machine_type=x": ("--accelerator=NVIDIA_L4", "--accelerator_count=0", "leave out one"),
    "--accelerator=none --accelerator_count=1": ("--accelerator_count=1", "0 of none", "set one of these"),
    "--accelerator=TPU_V3 --machine_type=x": ("--machine_type=x", "TPU_V3", "leave out --machine_type"),
    "--accelerator=TPU_V3": ("TPU", "--container"),
    "--accelerator=TPU_V3 --container=x --hosts=2": ("--hosts=2", "leave out --hosts"),
    "--track=mlflow": ("--track=mlflow", "--container", "leave out --track"),
    "--tensorboard=12": ("--tensorboard=12", "projects/PROJECT/locations/REGION/tensorboards/ID"),
    "--tensorboard=projects/p/locations/us-east1/tensorboards/1": ("us-east1", "europe-west4", "same region"),
    "--tensorboard=projects/p/locations/europe-west4/tensorboards/1": ("--tensorboard", "--service_account"),
    "--label=Team=Roads": ("'Team=Roads'", "KEY=VALUE"),
    "--timeout_hours=0": ("--timeout_hours", "between 0.01 and 672"),
    "--hosts=0": ("--hosts", "'0'", "1 or more"),
    "--tune=learning_rate": ("--tune=learning_rate", "NAME=LOW..HIGH", "NAME=VALUE,VALUE"),
    "--tune=learning_rate=0.1..0.01": ("--tune=learning_rate=0.1..0.01", "LOW must be less than HIGH"),
    "--tune=ema=0..0.9:log": ("--ema", "0"),
    "--tune=weight_decay=0..0.9:log": ("--tune=weight_decay", "more than 0 with :log"),
    "--tune=learning_rate=x..1": ("--learning_rate", "'x'"),
    "--tune=optimizer=sgd,lion": ("--optimizer", "'lion'"),
    "--tune=optimizer=adamw..sgd": ("--optimizer", "list its values"),
    "--tune=rate=0..1": ("--tune=rate=0..1", "no option --rate"),
    "--tune=learnig_rate=0.1..1": ("--tune=learnig_rate=0.1..1", "no option --learnig_rate; did you mean --learning_r"),
    "--tune=dataset=gs://a/b,gs://a/c": ("--tune=dataset=", "--dataset can't be tuned"),
    "--tune=output=gs://a/b,gs://a/c": ("--tune=output=", "--output can't be tuned"),
    "--tune=recipe=demo,camvid_gpu": ("--tune=recipe=", "--recipe can't be tuned"),
    "--tune=val_split=val,test": ("--val_split can't be tuned", "scores"),
    "--tune=verbose=1,2": ("--verbose can't be tuned", "takes no value"),
    "--tune --trials=2 --parallel_trials=5": ("--parallel_trials=5 is more than --trials=2", "at most"),
    "--endpoint=foo": ("--endpoint", "'foo'", "https://europe-west4-aiplatform.googleapis.com"),
    f"--output={DATASET}": (f"--output={DATASET} is also --dataset", "another --output"),
    f"--output={DATASET} --dataset=/gcs/{DATASET.removeprefix('gs://')}": ("is also --dataset", "another --output"),
    f"--output={DATASET}/_build/run": ("/_build/run is in a folder that a build of --dataset=", "another --output"),
    "--output=gs://a/run --dataset=gs://a/run/model/cs": (
        "--dataset=gs://a/run/model/cs",
        "--output=gs://a/run writes",
    ),
    "--output=./out/cs --dataset=out/cs --local": ("--output=./out/cs is also --dataset", "another --output"),
    f"--output={DATASET}/ --local": (f"--output={DATASET} is also --dataset", "another --output"),
    "--local --spot": ("--spot has no effect with --local", "leave it out"),
    "--local --wait": ("--wait has no effect with --local",),
    "--local --hosts=2": ("--hosts has no effect with --local", "--local=HOSTS"),
    "--local --container=p/r/trainer:1": ("--container has no effect with --local",),
    "--local --machine_type=g2-standard-12": ("--machine_type has no effect with --local",),
    "--local --service_account=a@b": ("--service_account has no effect with --local",),
    "--local --reuse_packages --venv=out/venv": ("--venv has no effect with --reuse_packages", "leave out one"),
    "--tune --learning_rate=0.1": ("--learning_rate", "leave out one"),
    "--tune=hard_pixel_fraction=0.3..1 --top_k=0.5": ("--hard_pixel_fraction is both set and tuned", "leave out one"),
    "--tune=top_k=0.3..1 --hard_pixel_fraction=0.5": ("--hard_pixel_fraction is both set and tuned", "leave out one"),
    "--tune=top_k=0.3..1 --tune=hard_pixel_fraction=0.1,0.2": ("tuned twice: hard_pixel_fraction",),
    "--tune --tune=learning_rate=0.1,0.2": ("--tune", "learning_rate, learning_rate"),
    "--tune --val_split=": ("--tune", "--val_split", "name a split"),
    "--tune --local": ("--local", "leave out --tune"),
    "--dry_run --local": ("--local", "leave out --dry_run"),
    "--venv= --local": ("--venv", "expected a file or folder"),
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_can_not_be_is_refused_before_anything_is_built_or_asked(
    arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.vertex.package.build_sdist", lambda _: pytest.fail("built"))
    monkeypatch.setattr("launch.vertex.submit.submit", lambda *_: pytest.fail("submitted"))
    message = refused(capsys, *PLACE, f"--dataset={DATASET}", *re.split(" (?=--)", arguments))
    assert not [part for part in REFUSED[arguments] if part not in message], message


@pytest.mark.parametrize(
    ("arguments", "machine"),
    [
        (["--machine_type=g2-standard-48"], "g2-standard-48 with 4 x NVIDIA_L4"),
        (["--machine_type=g2-standard-32", "--accelerator_count=1"], "g2-standard-32 with 1 x NVIDIA_L4"),
        (["--machine_type=n1-highmem-8", "--accelerator=NVIDIA_TESLA_T4"], "n1-highmem-8 with 1 x NVIDIA_TESLA_T4"),
        (["--machine_type=a4-highgpu-8g", "--accelerator=NVIDIA_B200"], "a4-highgpu-8g with 8 x NVIDIA_B200"),
        (["--machine_type=e2-highmem-16", "--accelerator=none"], "e2-highmem-16 without accelerators"),
        (
            ["--machine_type=g4-standard-48", "--accelerator=NVIDIA_RTX_PRO_6000"],
            "g4-standard-48 with 1 x NVIDIA_RTX_P",
        ),
    ],
)
def test_a_machine_type_says_how_many_accelerators_it_has(
    arguments: list[str], machine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(options.parse([*PLACE, f"--dataset={DATASET}", *arguments]).job.machine).startswith(machine)
    _, summary = dry_run(capsys, *arguments, "--container=p/r/trainer:1")
    assert ("only Vertex AI knows" in summary) == machine.startswith("g4-")


def test_the_usual_machine_types_are_those_that_the_names_say() -> None:
    for name, accelerator in ACCELERATORS.items():
        for count, machine_type in accelerator.machine_types.items():
            if name.startswith("NVIDIA_"):
                assert machine_types.count_on(machine_type, name, count) == count


def test_options_that_need_each_other_are_tuned_together() -> None:
    tune = ["--tune=hard_pixel_ramp_steps=10..90", "--tune=hard_pixel_fraction=0.1..0.9"]
    parsed = options.parse([*PLACE, f"--dataset={DATASET}", *tune])
    assert parsed.job.search is not None
    assert [each.name for each in parsed.job.search.parameters] == ["hard_pixel_ramp_steps", "hard_pixel_fraction"]


def test_the_environment_of_a_rehearsal_may_be_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    arguments = ["--output=out/run", f"--dataset={DATASET}", "--local", "--venv=~/venv"]
    assert options.parse(arguments).venv == "/home/me/venv"


def test_an_option_may_be_tuned_by_its_earlier_name() -> None:
    by_name, by_alias = (
        options.parse([*PLACE, f"--dataset={DATASET}", f"--tune={name}=0.3..1"]).job.search
        for name in ("hard_pixel_fraction", "top_k")
    )
    assert by_name == by_alias is not None


@pytest.mark.parametrize("option", ["--project", "--region"])
def test_where_a_job_is_created_must_be_given(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    rest = [argument for argument in PLACE if not argument.startswith(option)]
    message = refused(capsys, *rest, f"--dataset={DATASET}")
    assert message == f"python -m launch.vertex: error: {option} is required to submit a job"


def test_no_option_has_two_meanings() -> None:
    mine = {option for action in options.make_parser()._actions for option in action.option_strings}
    trainers = {option for action in config.train_parser()._actions for option in action.option_strings}
    assert mine & trainers == {"-h", "--help", "--output"}
    started = {option for action in start._make_parser()._actions for option in action.option_strings}
    assert not started & trainers


def test_the_image_is_one_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    """Of TensorFlow on Docker Hub, with the TensorFlow of the constraints."""
    request, summary = dry_run(capsys)
    image = "docker.io/tensorflow/tensorflow:2.21.0-gpu"
    assert request["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"] == image
    assert f"image     {image}\n" in summary


def test_constraints_that_would_replace_the_tensorflow_of_the_image_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "constraints.txt").write_text("tensorflow-metadata==1.21.0\ntensorflow==2.22.0\n")
    monkeypatch.setattr("launch.vertex.image.CONSTRAINTS", tmp_path / "constraints.txt")
    assert main([*PLACE, f"--dataset={DATASET}", "--dry_run"]) == 1
    assert capsys.readouterr().err == (
        "error: constraints.txt has tensorflow==2.22.0, and the image docker.io/tensorflow/tensorflow:2.21.0 has "
        "2.21.0: set PUBLIC in launch/vertex/image.py to an image with 2.22.0, or set --container\n"
    )
    (tmp_path / "constraints.txt").write_text("tensorflow-metadata==1.21.0\n")
    assert main([*PLACE, f"--dataset={DATASET}", "--dry_run"]) == 1
    assert "has no version of tensorflow: restore the file" in capsys.readouterr().err


def test_what_a_container_gets_has_nothing_that_kubernetes_replaces() -> None:
    """It expands $(NAME) in commands, as far as it knows the name."""
    assert "$(" not in (PROJECT / "launch" / "vertex" / "bootstrap.py").read_text()


def test_the_accelerators_are_those_that_google_knows() -> None:
    from google.cloud import aiplatform_v1

    assert {*ACCELERATORS, *machines._OTHERS} - {"none"} <= {each.name for each in aiplatform_v1.AcceleratorType}
