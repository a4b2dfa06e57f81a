"""The launcher of Dataflow jobs: its command line, what it would do, and real submissions to a service made here."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
from fake_dataflow import FakeDataflow, Job
from google.api_core.exceptions import RetryError
from google.auth.exceptions import RefreshError, TransportError

from beam_pipelines import progress, storage
from beam_pipelines.options import parse_build
from beam_pipelines.verify import main as verify
from launch.dataflow import job as job_module
from launch.dataflow import options, preview
from launch.dataflow.__main__ import main
from launch.dataflow.cost import Price, predict
from launch.dataflow.options import parse
from launch.dataflow.worker import load_graph, make_worker, run_worker
from launch.dataflow.workers import Workers
from tests.conftest import PROJECT, build, download, make_uneven, published, upload

WHERE = ("--project=street-scenes", "--region=us-central1")
PATHS = ("--input=gs://street/in", "--output=gs://street/out/mine")
RECIPE = ("--labels=camvid11", "--image_size=native", "--shards=train=4,val=2")
IMAGE = "--sdk_container_image=p/r/scenes:1"  # nothing has to be packed
STEPS = ["ListShards", "StageShards", "CombineMoments", "CombineClassPixels", "FinishShards", "PublishDataset"]


# --- the command line


def refusal_of(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse([*WHERE, *PATHS, *options])
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("python -m launch.dataflow: error: ")


def test_the_defaults() -> None:
    settings = parse([*WHERE, *PATHS])
    staging = "gs://street/out/mine/_build/dataflow"
    assert settings.command == (
        "--input=gs://street/in",
        "--output=gs://street/out/mine",
        "--runner=DataflowRunner",
        "--project=street-scenes",
        "--region=us-central1",
        settings.command[5],
        "--label=app=street-scenes",
        f"--temp_location={staging}/temp",
        f"--staging_location={staging}/staging",
        "--worker_machine_type=e2-standard-4",
        "--num_workers=1",
        "--max_num_workers=10",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        "--disk_size_gb=30",
        "--number_of_worker_harness_threads=2",
        f"--setup_file={PROJECT / 'setup.py'}",
    )
    assert re.fullmatch(r"--job_name=scenes-mine-[0-9a-f]{8}", settings.command[5])
    assert (settings.project, settings.region) == ("street-scenes", "us-central1")
    assert settings.workers == Workers(machine_type="e2-standard-4", vcpus=4, limit=10)
    assert settings.price == Price(usd=0.0702, date="2025-06")
    assert (settings.images_per_second, settings.dry_run, settings.wait) == (16.0, False, True)


def test_the_command_is_one_of_the_build_with_the_same_recipe() -> None:
    options = ("--labels=camvid11", "--image_size=64x128", "--max_rejects=5%", "--seed=3", "--no_use_public_ips")
    settings = parse([*WHERE, *PATHS, *options, "--max_num_workers=3", "--job_labels=team=vision,cost=1"])
    assert parse_build(settings.command) == settings.build
    assert settings.build.recipe == parse_build([*PATHS, *options[:4]]).recipe
    assert settings.build.max_rejects == 0.05
    assert {"--no_use_public_ips", "--max_num_workers=3"} <= set(settings.build.beam_args)
    labels = [argument for argument in settings.command if argument.startswith("--label=")]
    assert labels == ["--label=app=street-scenes", "--label=team=vision", "--label=cost=1"]


def test_spaces_after_commas_are_none_of_a_path() -> None:
    build = parse([*WHERE, "--input=gs://street/a.zip, gs://street/b.zip", PATHS[1]]).build
    assert build.recipe.input == "gs://street/a.zip,gs://street/b.zip"


def test_each_folder_has_a_job_name_of_its_own() -> None:
    def name(output: str) -> str:
        (found,) = [a for a in parse([*WHERE, PATHS[0], f"--output={output}"]).command if a.startswith("--job_name=")]
        return found.removeprefix("--job_name=")

    outputs = ["gs://street/a", "gs://street/b/a", "gs://other/a", "gs://street/A_Very.Long/" + "Name_" * 30]
    names = [name(output) for output in outputs]
    assert len(set(names)) == len(outputs)
    assert names[0] == name("gs://street/a/")
    assert all(re.fullmatch(r"[a-z][-a-z0-9]{1,61}[a-z0-9]", found) for found in names)


@pytest.mark.parametrize(
    ("options", "machine", "vcpus"),
    [
        ([], "e2-standard-4", 4),
        (["--max_image_pixels=200000000"], "e2-standard-4", 4),
        (["--max_image_pixels=220000000"], "e2-highmem-4", 8 // 2),
        (["--max_image_pixels=400000000", "--number_of_worker_harness_threads=1"], "e2-standard-4", 4),
        (["--worker_machine_type=n2-highcpu-16", "--max_image_pixels=900000000"], "n2-highcpu-16", 16),
        (["--machine_type=custom-6-20480"], "custom-6-20480", 6),
        (["--machine_type=n2-custom-8-16384-ext"], "n2-custom-8-16384-ext", 8),
        (["--machine_type=n2d-standard-32"], "n2d-standard-32", 32),
    ],
)
def test_the_machine_has_the_memory_that_its_threads_need(options: list[str], machine: str, vcpus: int) -> None:
    workers = parse([*WHERE, *PATHS, *options]).workers
    assert (workers.machine_type, workers.vcpus) == (machine, vcpus)


def test_with_an_image_nothing_is_installed_unless_asked() -> None:
    assert IMAGE in parse([*WHERE, *PATHS, IMAGE]).command
    assert not [a for a in parse([*WHERE, *PATHS, IMAGE]).command if a.startswith("--setup_file")]
    both = parse([*WHERE, *PATHS, IMAGE, f"--setup_file={PROJECT / 'setup.py'}"]).command
    assert {IMAGE, f"--setup_file={PROJECT / 'setup.py'}"} <= set(both)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--project=123"], "argument --project: '123' is not a project ID such as street-scenes-123 (not the"),
        (["--region=us-central1-a"], "argument --region: 'us-central1-a' is not a region such as us-central1"),
        (["--output=out"], "argument --output: 'out' is not a folder in a bucket, gs://BUCKET/FOLDER"),
        (["--output=gs://bucket"], "argument --output: 'gs://bucket' is not a folder in a bucket"),
        (["--input=in"], "--input: Dataflow's workers can't reach in: it must be in a bucket, gs://BUCKET/FOLDER"),
        (["--input=gs://"], "argument --input: 'gs://' is not a path in a bucket, gs://BUCKET/..."),
        (
            ["--sdk_container_image="],
            "argument --sdk_container_image: '' is not a container image such as europe-docker.",
        ),
        (["--runner=DirectRunner"], "--runner: this command always uses Dataflow; for other runners use `python -m"),
        (["--temp_location=/tmp"], "argument --temp_location: '/tmp' is not a folder in a bucket"),
        (
            ["--job_name=My_Job"],
            "argument --job_name: 'My_Job' is not a job name: up to 63 characters of a-z, 0-9 and -",
        ),
        (["--job_labels=Team=a"], "argument --job_labels: 'Team=a' is not KEY=VALUE, each up to 63 characters"),
        (["--job_labels=team"], "argument --job_labels: 'team' is not KEY=VALUE"),
        (["--machine_type=e2-medium"], "'e2-medium' does not state its number of vCPUs, as e2-standard-4"),
        (["--num_workers=0"], "argument --num_workers: '0' is not a number above 0"),
        (["--num_workers=11"], "--num_workers=11 is more than --max_num_workers=10"),
        (["--setup_file=other.py"], "argument --setup_file: 'other.py' is not an existing setup.py or pyproject.toml"),
        (["--vcpu_hour=0.07"], "argument --vcpu_hour: '0.07' is not a price and its date, such as 0.0702@2025-06"),
        (["--vcpu_hour=x@2025-06"], "argument --vcpu_hour: 'x' is not a number above 0"),
        (["--max_image_pixels=500000000"], "2 threads with images of 500,000,000 pixels need 8.7 GB per vCPU"),
        (["--shards=train=1", "--shard_size_mb=2"], "--shards and --shard_size_mb both set the number of shards"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], options: list[str], problem: str
) -> None:
    assert problem in refusal_of(capsys, *options)


@pytest.mark.parametrize("missing", ["--project", "--region", "--input", "--output"])
def test_what_is_needed_is_asked_for(capsys: pytest.CaptureFixture[str], missing: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse([option for option in (*WHERE, *PATHS) if not option.startswith(missing)])
    assert f"the following arguments are required: {missing}" in capsys.readouterr().err


def test_without_a_setup_file_the_command_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(options, "SETUP_FILE", tmp_path / "setup.py")
    assert refusal_of(capsys) == (
        f"{tmp_path / 'setup.py'} does not exist, so there is no package to send to the workers: run this command from "
        "a checkout of the project, or set --setup_file, or --sdk_container_image with an image that has the package"
    )
    assert parse([*WHERE, *PATHS, IMAGE])


def test_help_comes_before_anything_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "launch.dataflow", "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "Builds a data set on Google Cloud Dataflow" in done.stdout
    loaded = set(re.findall(r"^import time:.*\| +(\w+)", done.stderr, re.MULTILINE))
    assert "beam_pipelines" in loaded
    assert not loaded & {"PIL", "apache_beam", "google", "google_crc32c", "imagecodecs", "rich", "tensorflow", "yaml"}


def test_without_an_account_the_command_says_how_to_log_in_and_does_not_wait(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "STORAGE_"))}
    clean |= {"HOME": str(tmp_path), "GCE_METADATA_HOST": "127.0.0.1:9", "NO_PROXY": "*"}
    for extra in ([], ["--dry_run"]):
        start = time.monotonic()
        command = [sys.executable, "-m", "launch.dataflow", *WHERE, *PATHS, *extra]
        done = subprocess.run(command, cwd=PROJECT, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == (
            "error: gs://street/out/mine: there is no Google account to use it with; log in with "
            "`gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS\n"
        )
        assert time.monotonic() - start < 15


# --- the image for workers


def test_the_worker_image_has_the_versions_and_the_files_of_the_project() -> None:
    lines = (PROJECT / "launch" / "Dockerfile.worker").read_text().splitlines()
    versions = dict(line.removeprefix("ARG ").split("=") for line in lines if line.startswith("ARG "))
    pinned = (PROJECT / "constraints.txt").read_text().splitlines()
    assert f"apache-beam=={versions['BEAM']}" in pinned
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert set(copied) == {"setup.py", "pyproject.toml", "beam_pipelines"}
    assert all((PROJECT / name).exists() for name in copied)
    assert not [line for line in lines if line.startswith(("ENTRYPOINT", "CMD"))], "Beam's own starts the worker"


# --- what would be done


def offline(*options: str) -> apiclient.Job:
    """Beam's own dry run of a job in buckets that nobody has: nothing is asked of anybody."""
    paths = ("--input=gs://nobody/in", "--output=gs://nobody/out")
    return preview.dry_run(parse([*WHERE, *paths, *options]).build, time.time())


@pytest.fixture(scope="module")
def job() -> apiclient.Job:
    return offline("--job_labels=team=vision", "--no_use_public_ips")


def test_the_graph_has_the_steps_of_the_build(job: apiclient.Job) -> None:
    assert [name for name, _ in preview.steps(job.proto_pipeline)] == STEPS
    assert all(len(what) > 20 for _, what in preview.steps(job.proto_pipeline))
    leaves = {transform.unique_name for transform in job.proto_pipeline.components.transforms.values()}
    assert {"StageShards/Stage", "FinishShards/Normalize", "PublishDataset/Publish"} <= leaves


def test_the_graph_stays_small_and_shuffles_no_pixel(job: apiclient.Job) -> None:
    """A graph over 10 MB is refused by Dataflow; this one holds no path and does not grow with the data."""
    assert job.proto_pipeline.ByteSize() < 200_000
    shuffles = {
        transform.unique_name
        for transform in job.proto_pipeline.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    }
    assert {name.partition("/")[0] for name in shuffles} == {
        "ListShards",
        "CombineMoments",
        "CombineClassPixels",
        "PublishDataset",
    }


def test_the_environment_is_beams_container_with_the_package(job: apiclient.Job) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    beam = importlib.metadata.version("apache-beam")
    expected = f"gcr.io/cloud-dataflow/v1beta3/beam_python{version}_sdk:{beam}"
    assert preview.container_image(job.proto_pipeline) == expected
    sent = dict(preview.staged_files(job))
    assert set(sent) == {"workflow.tar.gz", "submission_environment_dependencies.txt"}
    with tarfile.open(sent["workflow.tar.gz"]) as package:
        names = {name.partition("/")[2] for name in package.getnames()}
    assert {"setup.py", "beam_pipelines/graph.py", "beam_pipelines/contract/record.py", "PKG-INFO"} <= names
    assert not {name for name in names if name.startswith("tests")}
    assert job.proto.labels == {"app": "street-scenes", "team": "vision"}


def test_an_image_of_ones_own_gets_nothing_sent_but_the_graph() -> None:
    job = offline(IMAGE)
    assert preview.container_image(job.proto_pipeline) == "p/r/scenes:1"
    assert [name for name, _ in preview.staged_files(job)] == ["submission_environment_dependencies.txt"]


def test_without_normalization_there_is_no_second_pass() -> None:
    names = {
        transform.unique_name
        for transform in offline("--image_encoding=png").proto_pipeline.components.transforms.values()
    }
    assert "FinishShards/AsWritten" in names
    assert "FinishShards/Normalize" not in names


def test_the_cost_is_that_of_the_start_and_of_the_work() -> None:
    """By hand: 57,600 images at 16 img/s are an hour of one vCPU; so much for 4, 40, and where only 8 have a shard."""
    one, ten = predict(57_600, 1000, Workers(machine_type="e2-standard-4", vcpus=4, limit=10), 16.0)
    assert (one.workers, one.minutes, one.vcpu_hours) == pytest.approx((1, 4 + 15, 4 * 19 / 60))
    assert (ten.workers, ten.minutes, ten.vcpu_hours) == pytest.approx((10, 4 + 1.5, 40 * 5.5 / 60))
    _, idle = predict(57_600, 8, Workers(machine_type="e2-standard-4", vcpus=4, limit=10), 16.0)
    assert (idle.minutes, idle.vcpu_hours) == pytest.approx((4 + 7.5, 40 * 11.5 / 60))
    (single,) = predict(57_600, 8, Workers(machine_type="e2-standard-4", vcpus=4, limit=1), 16.0)
    assert single.workers == 1


# --- a worker


@pytest.fixture(scope="module")
def worker(job: apiclient.Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the package that was sent, and no other code of this project."""
    sent = dict(preview.staged_files(job))
    return make_worker(tmp_path_factory.mktemp("worker") / "env", Path(sent["workflow.tar.gz"]))


def test_a_worker_installs_the_pixel_path_only(worker: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('street-scenes')))"
    found = json.loads(run_worker(worker, "-c", code, cwd=tmp_path).stdout)
    needed = {re.match(r"[\w-]+", line)[0] for line in found if "extra ==" not in line}  # type: ignore[index]
    assert needed == {"google-crc32c", "imagecodecs", "numpy", "pillow"}


def test_every_function_of_the_graph_unpickles_on_a_worker_without_tensorflow(job: apiclient.Job, worker: Path) -> None:
    graph = job.proto_pipeline.SerializeToString()
    found = load_graph(graph, worker)
    pardos = {
        transform.unique_name
        for transform in job.proto_pipeline.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn
    }
    assert set(found.functions) == pardos
    assert found.functions["StageShards/Stage"] == "StageShardFn"
    assert found.functions["FinishShards/Normalize"] == "FinishShardFn"
    tops = {name.partition(".")[0] for name in found.modules} - sys.stdlib_module_names
    assert tops <= {"PIL", "beam_pipelines", "google_crc32c", "imagecodecs", "numpy"}
    assert "beam_pipelines.shards" in found.modules
    assert load_graph(graph).modules == found.modules


def test_the_probe_of_a_worker_can_fail(job: apiclient.Job, worker: Path, tmp_path: Path) -> None:
    place = run_worker(worker, "-c", "import beam_pipelines; print(beam_pipelines.__file__)", cwd=tmp_path).stdout
    assert Path(place.strip()).is_relative_to(worker.parent.parent)
    refused = run_worker(worker, "-c", "import tensorflow", cwd=tmp_path)
    assert "ImportError: a worker has no tensorflow" in refused.stderr
    bare = make_worker(tmp_path / "bare", None)
    assert run_worker(bare, "-c", "import apache_beam, imagecodecs", cwd=tmp_path).returncode == 0
    assert "No module named 'beam_pipelines'" in run_worker(bare, "-c", "import beam_pipelines", cwd=tmp_path).stderr


# --- submissions


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDataflow]:
    """Dataflow, which is looked at more often than the real one."""
    monkeypatch.setattr(job_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(job_module, "MESSAGE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.1)
    with FakeDataflow() as service:
        yield service
        service.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, bucket: str) -> Path:
    """A folder that is in the bucket, too, at gs://street/in."""
    folder = make_uneven(tmp_path_factory.mktemp("flat"))
    upload(folder, f"{bucket}/in")
    return folder


def launch(service: FakeDataflow, output: str, *options: str) -> int:
    where = (*WHERE, "--input=gs://street/in", f"--output={output}", *RECIPE)
    return main([*where, "--no_auth", f"--dataflow_endpoint={service.url}", *options])


@pytest.mark.usefixtures("without_transform")
def test_a_job_builds_the_data_set_of_a_local_build_while_nobody_waits(
    service: FakeDataflow, source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: submitted, package installed and graph run by a worker, then the same command finishes up."""
    output, service.workers = f"{bucket}/out/whole", tmp_path / "workers"
    service.workers.mkdir()
    assert launch(service, output, "--no_wait", "--job_labels=team=vision") == 0
    (job,) = service.jobs
    printed = capsys.readouterr().out
    page = f"https://console.cloud.google.com/dataflow/jobs/us-central1/{job.id}?project=street-scenes"
    assert f"job {job.id}: {page}" in printed
    assert "the job publishes the data set itself; run the same command again to follow it and to finish up" in printed
    assert job.done.wait(240)
    assert job.state == "JOB_STATE_DONE", job.messages
    assert (job.counters["images"], job.counters["normalized_images"]) == (17, 17)
    assert verify([output]) == 0

    asserted_of_the_job(job, output, tmp_path)
    capsys.readouterr()
    assert launch(service, output, "--no_wait", "--job_labels=team=vision") == 0
    assert f"{output} is complete already" in capsys.readouterr().out
    assert len(service.jobs) == 1
    assert not [name for name in storage.sizes(output) if name.startswith("_")]
    assert build(f"--input={source}", f"--output={tmp_path / 'local'}", *RECIPE) == 0
    shards, manifest = published(download(output, tmp_path / "remote"))
    local_shards, local_manifest = published(tmp_path / "local")
    assert shards == local_shards
    for value in (manifest, local_manifest):
        del value["fingerprint"], value["recipe"]["input"]
    assert manifest == local_manifest


def asserted_of_the_job(job: Job, output: str, folder: Path) -> None:
    """What Dataflow was asked for, and what lies in the bucket for its workers."""
    assert job.body["name"].startswith("scenes-whole-")
    assert job.body["labels"] == {"app": "street-scenes", "team": "vision"}
    assert job.body["type"] == 1  # JOB_TYPE_BATCH
    environment = job.body["environment"]
    assert "use_runner_v2" in environment["experiments"]
    assert environment["version"]["job_type"] == "FNAPI_BATCH"
    assert environment["tempStoragePrefix"].startswith("storage.googleapis.com/street/out/whole/_build/dataflow/temp/")
    pool = job.pool
    assert (pool["machineType"], pool["diskSizeGb"], pool["numWorkers"]) == ("e2-standard-4", 30, 1)
    assert pool["autoscalingSettings"] == {"algorithm": 2, "maxNumWorkers": 10}  # AUTOSCALING_ALGORITHM_BASIC
    assert pool["numThreadsPerWorker"] == 2
    (container,) = pool["sdkHarnessContainerImages"]
    assert container["useSingleCorePerContainer"], "a process for each vCPU"
    assert [package["name"] for package in pool["packages"]] == [
        "workflow.tar.gz",
        "submission_environment_dependencies.txt",
    ]
    assert job.options["save_main_session"] is False
    assert job.options["pipelineUrl"].startswith(f"{output}/_build/dataflow/staging/{job.body['name']}.")
    with storage.open_read(job.options["pipelineUrl"]) as file:
        graph = protos.Pipeline.FromString(file.read())
    assert [name for name, _ in preview.steps(graph)] == STEPS
    with tarfile.open(job.stage("workflow.tar.gz", folder)) as package:
        assert any(name.endswith("beam_pipelines/graph.py") for name in package.getnames())


def test_a_dry_run_says_that_the_data_set_is_there(
    service: FakeDataflow, source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, options = f"{bucket}/out/there", ("--input=gs://street/in", *RECIPE)
    assert build(*options, f"--output={output}") == 0
    assert launch(service, output, IMAGE, "--dry_run") == 0
    assert f"{output} is already complete: without --dry_run no job would start" in capsys.readouterr().out
    assert launch(service, output, IMAGE, "--dry_run", "--seed=3") == 1
    assert "holds a finished data set of another recipe (seed: 0, not 3)" in capsys.readouterr().err
    assert launch(service, output, IMAGE, "--dry_run", "--seed=3", "--overwrite") == 0
    assert not service.asked


@pytest.mark.usefixtures("without_transform")
def test_what_stops_a_job_is_told_in_a_sentence(
    service: FakeDataflow, source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker's BuildError comes back through Dataflow's messages."""
    inputs, output, service.workers = f"{bucket}/bad", f"{bucket}/out/bad", tmp_path / "workers"
    service.workers.mkdir()
    upload(source, inputs)
    storage.write(f"{inputs}/images/train/train_0003.png", b"no picture")
    assert launch(service, output, f"--input={inputs}", IMAGE) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: 1 of 17 pairs were rejected")
    assert "Traceback" not in captured.err
    assert f"job {service.jobs[0].id}: https://console" in captured.out


def test_a_job_is_followed_by_its_counters(
    service: FakeDataflow, source: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    running = "JOB_STATE_RUNNING"
    service.script = [
        *[("JOB_STATE_PENDING", {}, [])] * 5,
        *[(running, {"images": 5, "rejected_empty_file": 1, "staged_bytes": 1000}, [])] * 8,
        *[(running, {"images": 16, "rejected_empty_file": 1, "normalized_images": 9}, [])] * 8,
        ("JOB_STATE_FAILED", {}, ["Workflow failed.", "Traceback (most recent call last):\n ...\nOSError: no disk\n"]),
    ]
    assert launch(service, f"{bucket}/out/followed", IMAGE) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line for line in lines if line.startswith("job is")] == ["job is pending", "job is running"]
    assert any(line.startswith("decoded 0 of 17 images, normalized 0; ") for line in lines)
    assert any(line.startswith("decoded 6 of 17 images, normalized 0; ") for line in lines)
    assert any(line.startswith("decoded 17 of 17 images, normalized 9; ") for line in lines)
    (job,) = service.jobs
    assert captured.err.splitlines()[-1] == (
        "error: the job ended as FAILED: OSError: no disk; run the same command again to resume from the finished "
        f"shards. Job page: https://console.cloud.google.com/dataflow/jobs/us-central1/{job.id}?project=street-scenes"
    )


def test_a_job_that_runs_is_followed_and_not_doubled(
    service: FakeDataflow, source: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{bucket}/out/twice"
    assert launch(service, output, IMAGE, "--no_wait") == 0
    (job,) = service.jobs
    capsys.readouterr()

    assert launch(service, output, IMAGE, "--no_wait") == 0
    assert f"job {job.id}: https://console" in capsys.readouterr().out
    assert launch(service, output, IMAGE, "--overwrite") == 1
    assert (
        f"error: a job is still writing to {output}: wait for it to end, or cancel it at https"
        in capsys.readouterr().err
    )
    assert launch(service, output, IMAGE, "--seed=3") == 1
    assert "holds a half-finished build of another recipe (seed: 0, not 3)" in capsys.readouterr().err

    job.script = [("JOB_STATE_RUNNING", {"images": 3}, [])] * 4 + [("JOB_STATE_CANCELLED", {}, [])]
    assert launch(service, output, IMAGE) == 1
    captured = capsys.readouterr()
    assert "decoded 3 of 17 images" in captured.out
    assert captured.err.startswith("error: the job ended as CANCELLED; run the same command again to resume")
    assert len(service.jobs) == 1

    assert launch(service, output, IMAGE, "--no_wait") == 0
    assert len(service.jobs) == 2
    del service.jobs[1]  # forgotten, as Dataflow forgets after a time
    assert launch(service, output, IMAGE, "--no_wait") == 0
    assert len(service.jobs) == 2


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """As in a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c(service: FakeDataflow) -> None:
    """Once the job is followed."""

    def stop() -> None:
        while not any("/metrics" in asked for asked in service.asked):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()


@pytest.mark.usefixtures("heard_ctrl_c")
def test_ctrl_c_cancels_the_job(
    service: FakeDataflow, source: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    press_ctrl_c(service)
    assert launch(service, f"{bucket}/out/stopped", IMAGE) == 130
    captured = capsys.readouterr()
    assert "canceling the job; run the same command again to resume" in captured.out
    assert captured.err.endswith("stopped\n")
    assert any(asked.startswith("PUT ") for asked in service.asked)
    assert service.jobs[0].state == "JOB_STATE_CANCELLED"


@pytest.mark.usefixtures("heard_ctrl_c")
def test_a_job_that_ctrl_c_could_not_cancel_is_told_to_run_on(
    service: FakeDataflow, source: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service.keep = (403, "you may only look")
    press_ctrl_c(service)
    assert launch(service, f"{bucket}/out/kept", IMAGE) == 130
    (job,) = service.jobs
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "could not be canceled" in line)
    assert line.startswith(f"job {job.id} could not be canceled (403 ")
    page = f"https://console.cloud.google.com/dataflow/jobs/us-central1/{job.id}?project=street-scenes"
    assert line.endswith(f"you may only look) and is still running: cancel it at {page}")
    assert job.state == "JOB_STATE_RUNNING"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RefreshError("Token has been expired or revoked."), "Google rejected the account, Token has been expired"),
        (TransportError("no route"), "Google could not be reached, no route; try again later"),
        (RetryError("Timeout of 120.0s exceeded", None), "Google could not be reached, Timeout of 120.0s exceeded"),
        (requests.exceptions.ConnectionError("no route"), "Google could not be reached, no route; try again later"),
    ],
)
def test_a_job_that_can_not_be_followed_any_more_goes_on(
    service: FakeDataflow,
    source: Path,
    bucket: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: str,
) -> None:
    """What Beam's client raises when it has asked again for minutes; in the thread that shows progress as well."""

    def fail(*_: object) -> None:
        if any("/metrics" in asked for asked in service.asked):
            time.sleep(0.3)  # the other thread looks again
            raise error

    def counters(client: DataflowApplicationClient, job: str) -> object:
        fail()
        return metrics(client, job)

    metrics = DataflowApplicationClient.get_job_metrics
    monkeypatch.setattr(DataflowApplicationClient, "get_job_metrics", counters)
    monkeypatch.setattr(DataflowPipelineResult, "_update_job", fail)
    assert launch(service, f"{bucket}/out/{type(error).__name__}", IMAGE) == 1
    (job,) = service.jobs
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: job {job.id} is still running, but could not be followed (run the same command again): {told}"
    )


@pytest.mark.parametrize(
    ("status", "reason", "cure"),
    [
        (400, "the network is not there", "fix this and run the same command again"),
        (403, "Dataflow API has not been used", "enable the API: `gcloud services enable dataflow.googleapis"),
        (404, "no such region", "check --project and --region"),
        (
            409,
            "there is a job",
            "a job of this name is already running: wait for it to end, cancel it, or set another --job_name",
        ),
    ],
)
def test_what_the_service_refuses_is_told_with_a_cure(
    service: FakeDataflow,
    source: Path,
    bucket: str,
    capsys: pytest.CaptureFixture[str],
    status: int,
    reason: str,
    cure: str,
) -> None:
    service.refuse = (status, reason)
    assert launch(service, f"{bucket}/out/refused-{status}", IMAGE) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: Dataflow did not accept the job: Google answered {status}, ")
    assert reason in error
    assert cure in error
    assert not storage.exists(f"{bucket}/out/refused-{status}/_build/dataflow/job.json")


def test_a_mistyped_option_is_told_before_anything_is_sent(service: FakeDataflow, source: Path, bucket: str) -> None:
    with pytest.raises(SystemExit, match=r"^unknown option --no_wiat; did you mean --no_wait\?$"):
        launch(service, f"{bucket}/out/mistyped", "--no_wiat")
    with pytest.raises(SystemExit, match=r"^unknown option --subnetwrk; did you mean --subnetwork\?$"):
        launch(service, f"{bucket}/out/mistyped", "--subnetwrk=x")
    assert not service.asked
    assert storage.sizes(f"{bucket}/out/mistyped") == {}


def test_a_dry_run_says_all_and_does_nothing(
    service: FakeDataflow, source: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{bucket}/out/dry"
    assert launch(service, output, "--dry_run", "--max_num_workers=5", "--vcpu_hour=1@2030-02") == 0
    printed = capsys.readouterr().out
    assert f"dry run: nothing is submitted, and nothing is written to {output}" in printed
    assert "found 17 pairs in gs://street/in" in printed
    command = printed[printed.index("python -m beam_pipelines.build") :].partition("\ngraph: ")[0]
    arguments = re.findall(r"^    (\S+)", command, re.MULTILINE)
    settings = parse([*WHERE, PATHS[0], f"--output={output}", *RECIPE, "--max_num_workers=5"])
    assert set(settings.command) <= set(arguments)
    assert parse_build(arguments).recipe == settings.build.recipe
    for step in STEPS:
        assert f"\n  {step} " in printed
    assert re.search(r"\n  workflow\.tar\.gz  \d+ kB\n", printed)
    assert "imports besides Beam: PIL, google_crc32c, imagecodecs, and " in printed
    assert "tensorflow" not in printed
    assert "prediction for 17 images, 6 shards" in printed
    assert re.search(r"1 │ +4 │ +4\.0 │ +0\.27 │ +0\.27 ", printed)
    assert "more than 2 workers stay idle" in printed
    assert "1 USD per vCPU-hour with memory as of 2030-02" in printed
    assert not service.asked
    assert storage.sizes(output) == {}


@pytest.mark.usefixtures("without_transform")
def test_a_template_starts_the_planned_build_later(
    service: FakeDataflow, source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{bucket}/out/template"
    assert launch(service, output, f"--template_location={bucket}/templates/scenes", IMAGE) == 0
    assert "the template is written; a job started from it builds what is planned above" in capsys.readouterr().out
    assert not service.jobs
    template = json.loads(storage.read_text(f"{bucket}/templates/scenes") or "")
    service.workers = tmp_path / "workers"
    service.workers.mkdir()
    job = service.create(template)
    assert job.done.wait(240)
    assert job.state == "JOB_STATE_DONE", job.messages
    assert storage.exists(f"{output}/dataset.json")
