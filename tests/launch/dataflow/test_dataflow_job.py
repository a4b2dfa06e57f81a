"""Real submissions to a Dataflow service made here: followed, found again, canceled, refused."""

from __future__ import annotations

import json
import os
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
from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult
from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
from google.api_core.exceptions import RetryError
from google.auth.exceptions import RefreshError, TransportError

from beam_pipelines.files import storage
from beam_pipelines.verify import main as verify
from launch.dataflow import preview
from tests.support.builds import PROJECT, build, download, published, upload
from tests.support.dataflow_runs import IMAGE, PATHS, RECIPE, STEPS, WHERE, launch
from tests.support.fake_dataflow import FakeDataflow, Job
from trainer import console


def asserted_of_the_job(job: Job, output: str, folder: Path) -> None:
    """What Dataflow was asked for, and what lies in the bucket for its workers."""
    assert job.body["name"].startswith("scenes-the-whole-")
    assert job.body["labels"] == {"app": "street-scenes", "team": "vision"}
    assert job.body["type"] == 1  # JOB_TYPE_BATCH
    environment = job.body["environment"]
    assert "use_runner_v2" in environment["experiments"]
    assert environment["version"]["job_type"] == "FNAPI_BATCH"
    assert environment["tempStoragePrefix"].startswith(
        "storage.googleapis.com/street/out/the whole/_build/dataflow/temp/"
    )
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


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """As in a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c(service: FakeDataflow, number: int = signal.SIGINT) -> None:
    """Sends the signal once the job is followed."""

    def stop() -> None:
        while not any("/metrics" in asked for asked in service.asked):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop, daemon=True).start()


def test_without_an_account_the_command_says_how_to_log_in_and_does_not_wait(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "STORAGE_"))}
    clean |= {"HOME": str(tmp_path), "GCE_METADATA_HOST": "127.0.0.1:9", "NO_PROXY": "*"}
    for extra in ([], ["--dry_run"]):
        start = time.monotonic()
        command = [sys.executable, "-m", "launch.dataflow", *WHERE, *PATHS, *extra]
        done = subprocess.run(command, cwd=PROJECT, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == (
            "error: gs://street/out/mine: no Google account is set up; log in with "
            "`gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS\n"
        )
        assert time.monotonic() - start < 60  # with retries it would be two minutes


@pytest.mark.usefixtures("without_transform")
def test_a_job_builds_the_data_set_of_a_local_build_while_nobody_waits(
    service: FakeDataflow, source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: submitted, package installed and graph run by a worker, then the same command finishes up."""
    output, service.workers = f"{bucket}/out/the whole", tmp_path / "workers"
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
    assert f"{output} is already complete" in capsys.readouterr().out
    assert len(service.jobs) == 1
    assert not [name for name in storage.sizes(output) if name.startswith("_")]
    assert build(f"--input={source}", f"--output={tmp_path / 'local'}", *RECIPE) == 0
    shards, manifest, others = published(download(output, tmp_path / "remote"))
    local_shards, local_manifest, local_others = published(tmp_path / "local")
    assert others.keys() == local_others.keys()
    for files in (others, local_others):
        del files["card/index.html"]  # it shows the recipe
    assert (shards, others) == (local_shards, local_others)
    for value in (manifest, local_manifest):
        del value["fingerprint"], value["recipe"]["input"]
    assert manifest == local_manifest


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
    assert "holds an unfinished build of another recipe (seed: 0, not 3)" in capsys.readouterr().err

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


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\0\0", ": is not JSON: "),
        (b'{"id": "1"}', ": has no field project"),
        (b'{"project": "p", "region": "r", "id": "1", "images": "9", "decoded": 0}', ": images: "),
    ],
)
def test_a_damaged_record_of_a_job_is_told_with_a_cure(
    service: FakeDataflow,
    source: Path,
    bucket: str,
    content: bytes,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = f"{bucket}/out/damaged"
    record = f"{output}/_build/dataflow/job.json"
    storage.write(record, content)
    assert launch(service, output, IMAGE) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {record}{problem}")
    assert f"; make sure that no job writes to {output}, then delete this file and run the same command" in error
    assert not service.jobs


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


def test_a_job_continues_without_the_process_that_follows_it(
    service: FakeDataflow, source: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(signal.SIGTERM, console._end_at_once)  # as `run_main` does
    press_ctrl_c(service, signal.SIGTERM)
    try:
        assert launch(service, f"{bucket}/out/left", IMAGE) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    captured = capsys.readouterr()
    assert "the job continues; run the same command again to follow it" in captured.out
    assert captured.err.endswith("stopped\n")
    assert service.jobs[0].state == "JOB_STATE_RUNNING"


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
