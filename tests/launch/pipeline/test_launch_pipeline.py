"""One command for the data set and the training: its options, the compiled pipeline, the request, and its steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.dataflow import options as dataflow
from launch.pipeline.__main__ import main
from launch.pipeline.options import parse
from launch.vertex import options as vertex
from tests.support.builds import PROJECT, make_flat, upload
from tests.support.dataflow_runs import IMAGE, RECIPE, WHERE
from tests.support.fake_dataflow import FakeDataflow
from tests.support.fake_vertex import FakeVertex
from tests.support.faulty_storage import Front
from tests.support.images import OFFLINE, make_image

PLACE = ("--project=street", "--region=europe-west4", "--input=gs://street/cs")
FOLDERS = ("--dataset=gs://street/data/scenes", "--output=gs://street/runs/first")
ALL = (*PLACE, *FOLDERS)


def test_each_option_goes_to_its_step() -> None:
    of_build = ("--image_size=256x512", "--max_num_workers=3", "--seed=7", "--no_use_public_ips")
    of_training = ("--model=u2net", "--epochs", "9", "--spot", "--machine_type=g2-standard-32", "--label=team=roads")
    settings = parse([*ALL, *of_training, *of_build])
    place = ("--project=street", "--region=europe-west4")
    assert settings.build == (
        *place,
        "--input=gs://street/cs",
        "--output=gs://street/data/scenes",
        *of_build,
    )
    own = ("--spot", "--machine_type=g2-standard-32", "--label=team=roads")
    trainer = ("--dataset=gs://street/data/scenes", "--model=u2net", "--epochs", "9", "--seed=7")
    assert settings.train == (*place, "--output=gs://street/runs/first", *own, "--wait", *trainer)
    assert dataflow.parse(settings.build).build.recipe.input == "gs://street/cs"
    again = vertex.parse(settings.train)
    assert (again.wait, again.job.trainer_options) == (True, trainer)


def test_a_recipe_of_this_machine_is_read_here(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: u2net\n")
    train = parse([*ALL, f"--recipe={tmp_path / 'mine.yaml'}"]).train
    assert "--model=u2net" in train
    assert not [option for option in train if option.startswith("--recipe")]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--local"], ("--local", "launch.vertex --local")),
        (["--no_wait"], ("--no_wait", "leave it out")),
        (["--wait"], ("--wait", "leave it out")),
        (["--plan"], ("--plan", "launch.dataflow --plan")),
        (["--print_config"], ("--print_config", "python -m trainer.task --print_config")),
        ([f"--setup_file={PROJECT / 'setup.py'}"], ("--setup_file", "--sdk_container_image")),
        (["--epochz=3"], ("unknown option --epochz; did you mean --epochs?",)),
        (["--image_sise=512x1024"], ("unknown option --image_sise; did you mean --image_size?",)),
        (["--acelerator", "NVIDIA_L4"], ("unknown option --acelerator; did you mean --accelerator?",)),
        (["foo"], ("'foo' is neither an option nor the value of one",)),
        (["--spot", "foo"], ("'foo' is neither an option nor the value of one",)),
        (["--image_size=32x64", "foo"], ("'foo' is neither an option nor the value of one",)),
        ([f"--moments_from={PROJECT}"], (f"{PROJECT} is a folder of this machine", "copy it to gs://")),
        (["--labels", str(PROJECT)], (f"{PROJECT} is a folder of this machine", "copy it to gs://")),
        (["--initial_model=out/run"], ("--initial_model=out/run", "copy it to gs://")),
        (["--dataset=gs://street/runs/first/"], ("--output=gs://street/runs/first is also --dataset", "another")),
        (["--dataset=gs://street/cs"], ("--dataset=gs://street/cs is also --input", "beside the input")),
        (["--output=gs://street/cs"], ("--output=gs://street/cs is also --input", "beside the input")),
        (["--output=gs://street/cs/gtFine/run"], ("--output=", "among the images of --input=gs://street/cs", "beside")),
        (["--splits=train"], ("--val_split=val is not one of the splits", "--splits", "--val_split=''")),
        (["--splits=train=0.8,test=0.2"], ("--val_split=val", "train, test")),
        (["--splits=train,val", "--train_split=trian"], ("--train_split=trian", "train, val", "add it there")),
        ([f"--labels={PROJECT / 'setup.py'}"], ("setup.py is a file of this machine", "copy it to gs://")),
        (["--labels", str(PROJECT / "setup.py")], ("setup.py is a file of this machine", "copy it to gs://")),
        (["--image_size=big"], ("--image_size", "'big'")),
        (["--model=u3net"], ("trainer.task: error", "'u3net'")),
        (["--accelerator=L4"], ("launch.vertex: error", "NVIDIA_L4")),
        (["--output=out/run"], ("'out/run'", "gs://BUCKET/FOLDER")),
    ],
)
def test_what_a_step_would_refuse_is_refused_here(
    arguments: list[str], parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*ALL, *arguments])
    assert stopped.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert not [part for part in parts if part not in message], message


def test_splits_that_the_options_do_not_tell_are_left_to_the_build() -> None:
    parse([*ALL, "--train_split=train,train_extra"])
    parse([*ALL, "--splits=train", "--val_split="])
    parse([*ALL, "--splits=train,test", "--val_split=test"])


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    pytest.importorskip("kfp")
    assert main([*ALL, *arguments, "--dry_run"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def containers_of(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Step -> its container."""
    executors = request["pipelineSpec"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def test_the_pipeline_trains_after_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    request = dry_run(capsys, "--model=u2net", "--label=team=roads", "--service_account=sa@street.iam")
    assert request["displayName"] == "u2net-first"
    assert request["labels"] == {"team": "roads"}
    assert request["serviceAccount"] == "sa@street.iam"
    assert request["runtimeConfig"] == {"gcsOutputDirectory": "gs://street/runs/first/pipeline"}
    spec = request["pipelineSpec"]
    assert spec["pipelineInfo"]["name"] == "street-scenes"
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks.keys() == {"build-data-set", "train"}
    assert tasks["train"]["dependentTasks"] == ["build-data-set"]
    assert not [task for task in tasks.values() if task["cachingOptions"].get("enableCache")]
    containers = containers_of(request)
    source = (PROJECT / "launch" / "vertex" / "bootstrap.py").read_text()
    for step, module, extras in (
        ("build-data-set", "launch.dataflow", "pipelines,launch"),
        ("train", "launch.vertex", "trainer,launch"),
    ):
        container = containers[step]
        assert container["image"] == "docker.io/tensorflow/tensorflow:2.21.0"
        assert container["command"] == ["python3", "-c", source]
        sdist, constraints, *start = container["args"]
        assert re.fullmatch(r"gs://street/runs/first/packages/[0-9a-f]{12}/street_scenes-.*\.tar\.gz", sdist)
        assert constraints == f"{sdist.rpartition('/')[0]}/constraints.txt"
        assert start[:2] == [f"--extras={extras}", f"--module={module}"]
    assert containers["train"]["args"][-3:] == ["--wait", "--dataset=gs://street/data/scenes", "--model=u2net"]


def test_the_spec_is_one_that_kfp_reads(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kfp")
    from kfp.components import load_component_from_text

    loaded = load_component_from_text(json.dumps(dry_run(capsys)["pipelineSpec"]))
    assert loaded.pipeline_spec.root.dag.tasks["train"].dependent_tasks == ["build-data-set"]
    assert set(loaded.pipeline_spec.components) == {"comp-build-data-set", "comp-train"}


def test_what_is_sent_is_what_the_dry_run_shows(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kfp")
    from google.cloud import aiplatform_v1, storage

    vertex = FakeVertex()
    assert main([*ALL, f"--endpoint={vertex.start()}"]) == 0
    out = capsys.readouterr().out
    assert "submitted projects/street/locations/europe-west4/pipelineJobs/4711" in out
    assert "/vertex-ai/pipelines/locations/europe-west4/runs/4711?project=street" in out
    ((_, path, body),) = vertex.requests
    assert path == "/v1/projects/street/locations/europe-west4/pipelineJobs"
    message = aiplatform_v1.PipelineJob
    shown = message.to_dict(message.from_json(json.dumps(dry_run(capsys))))
    assert message.to_dict(message.from_json(json.dumps(body))) == shown
    names = {blob.name for blob in storage.Client().list_blobs("street", prefix="runs/first/packages/")}
    for container in containers_of(body).values():
        assert {uri.removeprefix("gs://street/") for uri in container["args"][:2]} == names


def test_a_refusal_is_told_in_a_sentence(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kfp")
    vertex = FakeVertex(refusal=(403, "Permission denied"))
    assert main([*ALL, f"--endpoint={vertex.start()}"]) == 1
    assert "error: the pipeline: Google answered 403, Permission denied; ask for" in capsys.readouterr().err


def test_without_kfp_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "launch.pipeline.spec", raising=False)
    monkeypatch.setitem(sys.modules, "kfp", None)
    assert main([*ALL]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: a required package is not installed (")
    assert error.endswith("): pip install '.[launch]'\n")


def run_step(container: dict[str, Any], image: Path, front: Front, *more: str) -> str:
    """Runs the command of a step, as the image would. -> what it printed."""
    environment = {**os.environ, **front.for_tensorflow, **OFFLINE, "PATH": f"{image / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    command = [*container["command"], *container["args"], *more]
    done = subprocess.run(command, env=environment, cwd=image, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_the_steps_build_a_data_set_and_submit_a_training_on_it(
    front: Front, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kfp's runner without Docker takes only steps that are Python functions: here the containers' commands run."""
    pytest.importorskip("kfp")
    upload(make_flat(tmp_path / "flat", train=6, val=3), f"{bucket}/in")
    folders = ("--input=gs://street/in", "--dataset=gs://street/out/piped", "--output=gs://street/runs/piped")
    with FakeDataflow() as service:
        service.workers = tmp_path / "workers"
        service.workers.mkdir()
        options = (*RECIPE, IMAGE, "--no_auth", f"--dataflow_endpoint={service.url}", "--crop_size=32x32")
        vertex = FakeVertex()
        assert main([*WHERE, *folders, *options, f"--endpoint={vertex.start()}"]) == 0
        containers = containers_of(vertex.requests[0][2])
        image = make_image(tmp_path)
        run_step(containers["build-data-set"], image, front)
        assert [job.state for job in service.jobs] == ["JOB_STATE_DONE"]
        service.shutdown()
    vertex.states = [{"state": "JOB_STATE_SUCCEEDED"}]
    out = run_step(containers["train"], image, front, f"--endpoint={vertex.start()}")
    assert out.splitlines()[-1] == "the job has succeeded"
    _, path, body = vertex.requests[1]
    assert path == "/v1/projects/street-scenes/locations/us-central1/customJobs"
    (pool,) = body["jobSpec"]["workerPoolSpecs"]
    assert pool["containerSpec"]["args"][-2:] == ["--dataset=gs://street/out/piped", "--crop_size=32x32"]
