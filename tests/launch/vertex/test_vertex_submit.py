"""What is submitted to Vertex AI: the real client against a service and a bucket on this machine."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.start import extras_of
from launch.vertex.__main__ import main
from launch.vertex.package import build_sdist, digest
from tests.support.builds import PROJECT, build, make_flat
from tests.support.fake_vertex import FakeVertex
from tests.support.vertex_runs import DATASET, PLACE, dry_run, submit
from trainer import config

pytest.importorskip("google.cloud.aiplatform_v1")
storage = pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.usefixtures("without_transform")

IMAGE = "docker.io/tensorflow/tensorflow:2.21.0"
CONTAINER = "europe-west4-docker.pkg.dev/street/images/trainer:1"


@pytest.fixture(scope="module")
def bucket(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """gs://street with the manifest of a data set of 4 and 2 shards; all that Google's clients ask stays here."""
    root = tmp_path_factory.mktemp("bucket")
    flags = ("--labels=camvid11", "--image_size=32x64", "--shards=train=4,val=2")
    assert build(f"--input={make_flat(root / 'flat')}", f"--output={root / 'made'}", *flags) == 0
    objects = storage.Client(project="street").bucket(bucket.removeprefix("gs://"))
    objects.blob("data/scenes/dataset.json").upload_from_filename(str(root / "made" / "dataset.json"))
    objects.blob("damaged/dataset.json").upload_from_string(b'{"name": "\xff"}')
    return objects


@pytest.fixture
def vertex(bucket: Any) -> FakeVertex:
    return FakeVertex()


def normalized(kind: str, body: Any) -> Any:
    """As Google's own types understand it: a field that they do not know is an error."""
    from google.cloud import aiplatform_v1

    message = getattr(aiplatform_v1, kind)
    return message.to_dict(message.from_json(json.dumps(body)))


def gpus(machine: str, accelerator: str, count: int) -> dict[str, Any]:
    return {"machineType": machine, "acceleratorType": accelerator, "acceleratorCount": count}


def environment(**variables: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in {"PYTHONUNBUFFERED": "1", **variables}.items()]


def on_public(gpus: int, package: str, *arguments: str, extras: str = "trainer,weights") -> dict[str, Any]:
    """The bootstrap in TensorFlow's image, given the sdist's address."""
    files = (package, f"{package.rpartition('/')[0]}/constraints.txt")
    start = (f"--extras={extras}", *([f"--gpus={gpus}"] if gpus else []))
    return {
        "containerSpec": {
            "imageUri": f"{IMAGE}-gpu" if gpus else IMAGE,
            "command": ["python3", "-c", (PROJECT / "launch" / "vertex" / "bootstrap.py").read_text()],
            "args": [*files, *start, f"--dataset={DATASET}", *arguments],
            "env": environment(),
        }
    }


def in_container(*arguments: str, **variables: str) -> dict[str, Any]:
    arguments = (f"--dataset={DATASET}", *arguments)
    return {"containerSpec": {"imageUri": CONTAINER, "args": list(arguments), "env": environment(**variables)}}


T4, L4, H100 = "NVIDIA_TESLA_T4", "NVIDIA_L4", "NVIDIA_H100_80GB"

V5E = {
    "TPU_NAME": "local",
    "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
    "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": "/lib/libtpu.so",
}

# Options -> the machine of each host, what runs on it (given the sdist's address), and how many hosts each pool has.
SHAPES: dict[str, tuple[dict[str, Any], Callable[[str], dict[str, Any]], tuple[int, ...]]] = {
    "--model=u2net": (gpus("g2-standard-12", L4, 1), lambda sdist: on_public(1, sdist, "--model=u2net"), (1,)),
    "--accelerator_count=2": (gpus("g2-standard-24", L4, 2), lambda sdist: on_public(2, sdist), (1,)),
    f"--accelerator={T4} --accelerator_count=4 --epochs 9": (
        gpus("n1-standard-32", T4, 4),
        lambda sdist: on_public(4, sdist, "--epochs", "9"),
        (1,),
    ),
    f"--accelerator={H100} --accelerator_count=8 --container={CONTAINER}": (
        gpus("a3-highgpu-8g", H100, 8),
        lambda _: in_container(),
        (1,),
    ),
    "--machine_type=g2-standard-32": (
        gpus("g2-standard-32", L4, 1),
        lambda sdist: on_public(1, sdist),
        (1,),
    ),
    "--hosts=2": (gpus("g2-standard-12", L4, 1), lambda sdist: on_public(1, sdist), (1, 1)),
    f"--hosts=4 --val_split= --container={CONTAINER}": (
        gpus("g2-standard-12", L4, 1),
        lambda _: in_container("--val_split="),
        (1, 3),
    ),
    "--accelerator=none": ({"machineType": "n2-standard-16"}, lambda sdist: on_public(0, sdist), (1,)),
    f"--accelerator=TPU_V3 --container={CONTAINER}": (
        gpus("cloud-tpu", "TPU_V3", 8),
        lambda _: in_container("--strategy=tpu", TPU_NAME="local"),
        (1,),
    ),
    f"--accelerator=TPU_V5_LITEPOD --accelerator_count=4 --container={CONTAINER}": (
        {"machineType": "ct5lp-hightpu-4t", "tpuTopology": "2x2"},
        lambda _: in_container("--strategy=tpu", **V5E),
        (1,),
    ),
}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdist(tmp_path_factory.mktemp("sdist"))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_machine_is_asked_for_as_google_wants_it(
    shape: str, vertex: FakeVertex, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, (machine, program, replicas) = shape.split(), SHAPES[shape]
    assert submit(vertex, *arguments) == 0
    ((_, path, body),) = vertex.requests
    assert path == "/v1/projects/street/locations/europe-west4/customJobs"
    package = "".join(re.findall(r"gs://street/runs/first/packages/\S+", capsys.readouterr().out))
    assert bool(package) == ("--container" not in shape)
    pool = {"machineSpec": machine, **program(package)}
    expected = {
        "displayName": ("u2net" if "u2net" in shape else "deeplabv3plus") + "-first",
        "jobSpec": {
            "workerPoolSpecs": [{"replicaCount": count, **pool} for count in replicas],
            "scheduling": {"timeout": "86400s", "restartJobOnWorkerRestart": True, "strategy": "STANDARD"},
            "baseOutputDirectory": {"outputUriPrefix": "gs://street/runs/first"},
        },
    }
    assert normalized("CustomJob", body) == normalized("CustomJob", expected)
    request, _ = dry_run(capsys, *arguments)
    assert normalized("CustomJob", body) == normalized("CustomJob", request), "what --dry_run shows is what is sent"


def test_all_that_a_job_can_have(vertex: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    board = "projects/street/locations/europe-west4/tensorboards/12"
    arguments = ("--name=night shift", "--label=team=roads", "--label=year=2026", "--spot", "--timeout_hours=1.5")
    account = ("--service_account=sa@street.iam.gserviceaccount.com", f"--tensorboard={board}")
    assert submit(vertex, *arguments, *account, f"--container={CONTAINER}", "--hosts=2") == 0
    ((_, _, body),) = vertex.requests
    assert (body["displayName"], body["labels"]) == ("night shift", {"team": "roads", "year": "2026"})
    spec = normalized("CustomJob", body)["job_spec"]
    assert spec["scheduling"]["strategy"] == 4, "SPOT"
    assert body["jobSpec"]["scheduling"]["timeout"] == "5400s"
    assert (spec["service_account"], spec["tensorboard"]) == ("sa@street.iam.gserviceaccount.com", board)
    out, _ = capsys.readouterr()
    summary, told = out.split("submitted")
    assert "2 x g2-standard-12 with 1 x NVIDIA_L4 (chief and 1 worker), spot" in summary
    assert "1.5 h: 3 machine hours, 3 accelerator hours" in summary
    assert "projects/street/locations/europe-west4/customJobs/4711" in told
    assert "gcloud ai custom-jobs cancel 4711 --project=street --region=europe-west4" in told


def test_a_search_asks_for_trials_on_the_mean_iou(vertex: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = ("--tune", "--tune=optimizer=sgd,adamw", "--tune=batch_per_replica=2..8", "--tune=dropout=0..0.5")
    arguments = (*tuned, "--trials=6", "--parallel_trials=3", "--spot", "--accelerator_count=2")
    assert submit(vertex, *arguments) == 0
    ((_, path, body),) = vertex.requests
    assert path == "/v1/projects/street/locations/europe-west4/hyperparameterTuningJobs"
    out, _ = capsys.readouterr()
    assert "24 h x 6 trials: 144 machine hours, 288 accelerator hours" in out
    assert "3 trials at a time: learning_rate 0.001 to 0.1 (log); optimizer in sgd, adamw" in out
    assert "gcloud ai hp-tuning-jobs stream-logs 4711" in out
    body = normalized("HyperparameterTuningJob", body)
    assert (body["max_trial_count"], body["parallel_trial_count"]) == (6, 3)
    assert body["trial_job_spec"]["scheduling"]["strategy"] == 4
    assert body["trial_job_spec"]["base_output_directory"]["output_uri_prefix"] == "gs://street/runs/first"
    expected = {
        "metrics": [{"metricId": "mean_iou", "goal": "MAXIMIZE"}],
        "parameters": [
            {
                "parameterId": "learning_rate",
                "doubleValueSpec": {"minValue": 0.001, "maxValue": 0.1},
                "scaleType": "UNIT_LOG_SCALE",
            },
            {"parameterId": "optimizer", "categoricalValueSpec": {"values": ["sgd", "adamw"]}},
            {
                "parameterId": "batch_per_replica",
                "integerValueSpec": {"minValue": "2", "maxValue": "8"},
                "scaleType": "UNIT_LINEAR_SCALE",
            },
            {
                "parameterId": "dropout",
                "doubleValueSpec": {"minValue": 0.0, "maxValue": 0.5},
                "scaleType": "UNIT_LINEAR_SCALE",
            },
        ],
    }
    assert body["study_spec"] == normalized("HyperparameterTuningJob", {"studySpec": expected})["study_spec"]
    request, _ = dry_run(capsys, *arguments)
    assert normalized("HyperparameterTuningJob", request) == body


def test_the_sdist_is_uploaded_once_for_the_same_sources(
    bucket: Any, vertex: FakeVertex, sdist: Path, tmp_path: Path
) -> None:
    """Into a folder whose name has a space, as everywhere."""
    generations = []
    for _ in range(2):
        assert submit(vertex, "--output=gs://street/runs/my upload") == 0
        constraints, blob = bucket.list_blobs(prefix="runs/my upload/")
        generations.append([blob.generation, constraints.generation])
    assert generations[0] == generations[1]
    first, second = (body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"] for _, _, body in vertex.requests)
    assert first["args"] == second["args"]
    assert first["args"][:2] == [f"gs://street/{blob.name}", f"gs://street/{constraints.name}"]
    assert vertex.requests[0][2]["jobSpec"]["baseOutputDirectory"] == {"outputUriPrefix": "gs://street/runs/my upload"}
    assert constraints.download_as_bytes() == (PROJECT / "constraints.txt").read_bytes()
    blob.download_to_filename(str(tmp_path / "sdist.tar.gz"))
    assert digest(tmp_path / "sdist.tar.gz") == digest(sdist)


def test_a_run_that_is_tracked_gets_that_extra() -> None:
    assert extras_of(["--dataset=d", "--track=mlflow"]) == ("trainer", "weights", "tracking")
    assert extras_of(["--dataset=d", "--tracks=no"]) == ("trainer", "weights")


BUILT = "europe-west4-docker.pkg.dev/street/images/trainer"
PLACED = "projects/street/locations/europe-west4/repositories/images/packages/trainer/tags/"


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_an_image_is_built_where_the_registry_lacks_it(
    kind: str, bucket: Any, vertex: FakeVertex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launch.vertex.cloud_build.POLL_SECONDS", 0.01)
    vertex.states = [{"status": "QUEUED"}, {"status": "WORKING"}, {"status": "SUCCESS"}]
    machine = "--accelerator=TPU_V3" if kind == "tpu" else "--hosts=2"
    arguments = (f"--build_container={BUILT}", f"--output=gs://street/runs/{kind}", machine)
    assert submit(vertex, *arguments) == 0
    (blob,) = bucket.list_blobs(prefix=f"runs/{kind}/packages/")
    image = f"{BUILT}:{kind}-{blob.name.split('/')[-2]}"
    (_, path, build), (_, _, job) = vertex.requests
    assert path == "/v1/projects/street/locations/europe-west4/builds"
    docker = ["build", "--file", "launch/Dockerfile.trainer", "--build-arg", f"ACCELERATOR={kind}", "--tag", image, "."]
    assert build == {
        "source": {"storageSource": {"bucket": "street", "object": blob.name}},
        "steps": [{"name": "gcr.io/cloud-builders/docker", "args": docker}],
        "images": [image],
        "timeout": "3600s",
        "options": {"logging": "CLOUD_LOGGING_ONLY"},
    }
    with tarfile.open(fileobj=io.BytesIO(blob.download_as_bytes())) as sources:
        names = {name.removeprefix("./") for name in sources.getnames()}
    assert {"launch/Dockerfile.trainer", "constraints.txt", "setup.py", "pyproject.toml", "trainer/task.py"} <= names
    spec = job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
    assert (spec["imageUri"], "command" in spec) == (image, False)
    assert spec["args"][0] == f"--dataset={DATASET}"
    assert f"{image} (built by Cloud Build unless it exists)" in capsys.readouterr().out
    vertex.tags = {PLACED + image.rpartition(":")[2]}
    assert submit(vertex, *arguments) == 0, "and is not built again"
    assert [path.rpartition("/")[2] for _, path, _ in vertex.requests] == ["builds", "customJobs", "customJobs"]


def test_an_image_that_can_not_be_built_is_told(vertex: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    vertex.states = [{"status": "FAILURE", "failureInfo": {"type": "PUSH_FAILED", "detail": "no repository images"}}]
    assert submit(vertex, f"--build_container={BUILT}") == 1
    error = capsys.readouterr().err
    assert f"error: the build of {BUILT}:gpu-" in error
    assert "ended with FAILURE, no repository images: see https://console/builds/4711; the repository has to" in error
    vertex.refusal = (403, "Permission denied")
    assert submit(vertex, f"--build_container={BUILT}") == 1
    assert "Google answered 403, Permission denied; ask for the roles Cloud Build Editor" in capsys.readouterr().err
    assert not [path for _, path, _ in vertex.requests if "Jobs" in path]


@pytest.mark.parametrize(
    ("arguments", "dataset", "message"),
    [
        (["--hosts=3"], DATASET, "2 shards of val are too few for 3 hosts: use fewer hosts, or rebuild the data set"),
        (["--train_split=trainval"], DATASET, "has no split 'trainval'; it has train, val"),
        ([], "gs://street/nothing", "gs://street/nothing has no dataset.json: there is no data set"),
        ([], "gs://nobody/scenes", "gs://nobody/scenes has no dataset.json"),
        ([], "gs://street/damaged", "gs://street/damaged/dataset.json: is not UTF-8: "),
    ],
)  # fmt: skip
def test_what_would_fail_on_paid_machines_is_found_before(
    arguments: list[str], dataset: str, message: str, vertex: FakeVertex, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(vertex, *arguments, dataset=dataset) == 1
    assert message in capsys.readouterr().err
    assert not vertex.requests


def test_a_data_set_of_several_sizes_needs_one_to_train_on(
    bucket: Any, vertex: FakeVertex, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads(bucket.blob("data/scenes/dataset.json").download_as_text())
    manifest["pixels"] |= {"height": None, "width": None}
    bucket.blob("data/native/dataset.json").upload_from_string(json.dumps(manifest))
    dataset = "gs://street/data/native"
    assert submit(vertex, dataset=dataset) == 1
    assert capsys.readouterr().err == (
        f"error: {dataset} has images of several sizes: set the training size with --crop_size=HEIGHTxWIDTH\n"
    )
    assert not vertex.requests
    assert submit(vertex, "--crop_size=32x32", dataset=dataset) == 0
    assert submit(vertex, "--tune=crop_size=32x32,32x64", dataset=dataset) == 0


def test_data_sets_that_can_not_be_mixed_are_found_before(
    bucket: Any, vertex: FakeVertex, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of other sizes, of other classes, and without the index that class-uniform sampling reads."""
    made = json.loads(bucket.blob("data/scenes/dataset.json").download_as_text())
    upright = made | {"pixels": made["pixels"] | {"height": 64, "width": 32}}
    classes = [row | {"name": f"my {row['name']}"} for row in made["labels"]["labels"]]
    other = made | {"labels": made["labels"] | {"labels": classes}}
    old = {name: value for name, value in made.items() if name != "additions"}
    for name, manifest in {"upright": upright, "other": other, "old": old}.items():
        bucket.blob(f"mixed/{name}/dataset.json").upload_from_string(json.dumps(manifest))

    def refused(name: str, *arguments: str) -> str:
        assert submit(vertex, *arguments, dataset=f"{DATASET},gs://street/mixed/{name}") == 1
        return capsys.readouterr().err

    assert refused("upright") == (
        f"error: the data sets have images of several sizes: {DATASET} has 32x64, gs://street/mixed/upright has 64x32; "
        "set --crop_size=HEIGHTxWIDTH\n"
    )
    assert "gs://street/mixed/other has the label table camvid11, and " in refused("other", "--crop_size=32x32")
    assert "needs the index of gs://street/mixed/old" in refused("old", "--sampling=class_uniform")
    assert not vertex.requests
    cropped = f"{DATASET},gs://street/mixed/upright"
    assert submit(vertex, "--crop_size=32x32", "--sampling=class_uniform", dataset=cropped) == 0


def test_an_output_that_holds_another_run_is_found_before(
    bucket: Any, vertex: FakeVertex, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the trainer writes; without a checkpoint there is nothing yet to go on with, and nothing to refuse."""
    output = "--output=gs://street/runs/other"
    manifest = json.loads(bucket.blob("data/scenes/dataset.json").download_as_text())
    train = config.parse_train([f"--dataset={DATASET}", "--epochs=7"], {})
    identity = train.identity | {"dataset": manifest["fingerprint"], "hosts": 1, "global_batch": 4}
    place = bucket.blob(f"runs/other/{config.CONFIG}")
    place.upload_from_string(json.dumps({"identity": identity}))
    assert submit(vertex, output, "--epochs=9") == 0
    bucket.blob("runs/other/checkpoints/ckpt-3.index").upload_from_string("any")
    capsys.readouterr()
    assert submit(vertex, output, "--epochs=9") == 1
    assert capsys.readouterr().err == (
        "error: gs://street/runs/other contains another run: epochs was 7 and is 9. Set another --output, or the same "
        "values; with --initial_model=gs://street/runs/other a run in another --output starts from the weights of this "
        "one\n"
    )
    assert submit(vertex, output, "--epochs=7", "--hosts=2") == 1
    assert "contains another run: hosts was 1 and is 2. Set" in capsys.readouterr().err
    assert submit(vertex, output, "--epochs=7") == 0
    place.upload_from_string(json.dumps({"identity": identity | {"dataset": "another"}}))
    assert submit(vertex, output, "--epochs=7") == 1
    assert f"dataset was another and is {manifest['fingerprint']}" in capsys.readouterr().err
    place.upload_from_string("no run's")
    assert submit(vertex, output, "--epochs=7") == 1
    assert "config.json: it is not the configuration of a training run; set another --output" in capsys.readouterr().err
    place.upload_from_string(json.dumps({"identity": identity}))
    bucket.blob(f"runs/other/{config.FINISHED}").upload_from_string("any")
    assert submit(vertex, output, "--epochs=9") == 0, "a finished run may be made longer"
    assert submit(vertex, output, "--epochs=9", "--hosts=2") == 1
    capsys.readouterr()
    assert submit(vertex, output, "--epochs=6") == 1, "and not shorter"
    assert "contains another run: epochs was 7 and is 6. Set another --output" in capsys.readouterr().err
    assert len(vertex.requests) == 3


@pytest.mark.parametrize("tune", [(), ("--tune",)], ids=["a job", "a search"])
def test_the_end_of_a_job_is_waited_for(
    tune: tuple[str, ...], vertex: FakeVertex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launch.vertex.follow.POLL_SECONDS", 0.01)
    states = ("QUEUED", "RUNNING", "RUNNING", "SUCCEEDED")
    vertex.states = [{"state": f"JOB_STATE_{state}"} for state in states]
    assert submit(vertex, "--wait", *tune) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["queued", "running", "the job has succeeded"]
    vertex.states = [{"state": "JOB_STATE_FAILED", "error": {"code": 8, "message": "no machine was free"}}]
    assert submit(vertex, "--wait", *tune) == 1
    assert capsys.readouterr().err.endswith(
        "/4711 ended as JOB_STATE_FAILED, no machine was free; see its log, and run the same command again to resume\n"
    )


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "Permission denied"), "the job: Google answered 403, Permission denied; ask for the roles Vertex AI"),
        ((429, "Quota exceeded"), "Google answered 429, Quota exceeded; request more quota for these machines"),
        ((400, "Invalid image"), "Google answered 400, Invalid image; fix this and run the same command again"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_in_a_sentence(
    refusal: tuple[int, str], message: str, vertex: FakeVertex, capsys: pytest.CaptureFixture[str]
) -> None:
    vertex.refusal = refusal
    assert submit(vertex) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert message in err
    assert "submitted" not in out
    assert len(vertex.requests) == 1, "it is not tried again: there could be two jobs"


def test_a_service_that_does_not_answer_leaves_a_doubt_and_says_so(
    vertex: FakeVertex, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(vertex, "--endpoint=http://127.0.0.1:9") == 1
    err = capsys.readouterr().err
    assert "the job: Google could not be reached" in err
    assert "check with `gcloud ai custom-jobs list --project=street --region=europe-west4`" in err


def test_without_an_account_it_says_how_to_log_in_at_once(tmp_path: Path) -> None:
    """Where the metadata server's address swallows what is sent to it, as outside of Google's machines."""
    nowhere = {"HOME": str(tmp_path), "GCE_METADATA_IP": "198.51.100.1", "CLOUDSDK_CONFIG": str(tmp_path)}
    names = ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST")
    environment = {name: value for name, value in os.environ.items() if name not in names} | nowhere
    command = [sys.executable, "-m", "launch.vertex", *PLACE, f"--dataset={DATASET}", f"--container={CONTAINER}"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: no Google account is set up; log in with `gcloud auth application-default login`, or set "
        "GOOGLE_APPLICATION_CREDENTIALS\n"
    )
    assert "machine hours" in done.stdout
    assert time.monotonic() - started < 15


def test_without_googles_client_it_says_what_to_install_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launch.vertex.package.build_sdist", lambda _: pytest.fail("built"))
    monkeypatch.delitem(sys.modules, "launch.vertex.submit", raising=False)
    monkeypatch.setitem(sys.modules, "google.cloud.aiplatform_v1", None)
    monkeypatch.delattr("google.cloud.aiplatform_v1")
    assert main([*PLACE, f"--dataset={DATASET}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: a required package is not installed (")
    assert error.endswith("): pip install '.[launch]'\n")


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def press(_: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.vertex.package.build_sdist", press)
    assert main([*PLACE, f"--dataset={DATASET}"]) == 130
    assert capsys.readouterr().err == "stopped\n"
