"""The doctor: each of its checks passes where all is well, and fails with its text where something is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import types
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_google import REGION, FakeGoogle
from google.api_core.exceptions import RetryError, ServiceUnavailable
from google.oauth2.credentials import Credentials

from beam_pipelines import graph
from beam_pipelines.contract.moments import Moments
from beam_pipelines.errors import BuildError
from launch.account import google_errors
from launch.checks import buckets, cloud, images, versions
from launch.checks.cloud import Cloud
from launch.checks.examine import Check, run
from launch.checks.finding import Finding
from launch.checks.graph import check_graph
from launch.doctor import main, parse
from launch.errors import LaunchError
from launch.machines import MACHINES, QUOTAS
from launch.worker import make_worker
from tests.support.builds import PROJECT, build, make_flat, upload

PLACE = ("--project=street", f"--region={REGION}")
L4 = "custom_model_training_nvidia_l4_gpus"
ROOM = {"CPUS": (200.0, 8.0), "IN_USE_ADDRESSES": (70.0, 0.0), "DISKS_TOTAL_GB": (4096.0, 0.0)}
OWN_TRAINER = "--container=europe-west4-docker.pkg.dev/street/images/trainer:1"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, without_transform: None) -> Path:
    """4 and 2 shards of 12 and 4 examples."""
    root = tmp_path_factory.mktemp("data")
    flags = ("--labels=camvid11", "--image_size=32x64", "--shards=train=4,val=2")
    assert build(f"--input={make_flat(root / 'flat')}", f"--output={root / 'made'}", *flags) == 0
    return root / "made"


@pytest.fixture(scope="module")
def regional(bucket: str) -> str:
    """The emulator's bucket, in the region of the job."""
    set_location("EUROPE-WEST4")
    return bucket


def set_location(location: str) -> None:
    url = f"{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/b/street"
    body = json.dumps({"location": location}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PATCH")).close()


@pytest.fixture
def google(bucket: str) -> FakeGoogle:
    """A project in which nothing is missing."""
    buckets_of_l4 = [{"effectiveLimit": "0"}, {"effectiveLimit": "4", "dimensions": {"region": REGION}}]
    return FakeGoogle(quotas=dict(ROOM), accelerators={L4: buckets_of_l4})


def asked(google: FakeGoogle, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    """-> the exit code, and what was looked at -> `STATUS TOLD`, of the training's checks."""
    code = main([*PLACE, "--job=vertex", f"--endpoint={google.start()}", *arguments])
    return code, told(capsys.readouterr().out)


def told(printed: str) -> dict[str, str]:
    lines = printed.splitlines()[:-1]
    return {line[9:25].strip(): f"{line[:9].strip()} {line[25:]}" for line in lines}


# --- the command


def test_help_comes_before_anything_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "launch.doctor", "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "before they cost anything" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "launch" in loaded
    assert not loaded & {"PIL", "apache_beam", "google", "imagecodecs", "packaging", "rich", "tensorflow"}


def test_without_the_packages_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['google.auth'] = None; from launch.doctor import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: a package is missing here (")
    assert "google.auth" in done.stderr
    assert done.stderr.endswith("): pip install '.[launch]'\n")


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def press(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.checks.examine.examine", press)
    assert main(["--job=vertex"]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("--region=us-central1-a", "argument --region: 'us-central1-a' is not a region, like us-central1 (a zone has"),
        ("--project=My Project", "argument --project: 'My Project' is not a project id"),
        ("--output=street/runs", "argument --output: 'street/runs' is not a folder in a bucket, gs://BUCKET/FOLDER"),
        ("--job=flink", "argument --job: invalid choice: 'flink'"),
        ("--accelerator=L4", "--accelerator=L4 is not one of none, NVIDIA_TESLA_T4"),
        ("--accelerator_count=3", "--accelerator_count=3: a machine has 1, 2, 4, 8 of NVIDIA_L4"),
        ("--worker_machine_type=big", "'big' does not say its vCPUs: like e2-standard-4"),
        ("--hosts=0", "argument --hosts: '0' is not a number above 0"),
        ("--regoin=us-central1", "unrecognized arguments: --regoin=us-central1"),
    ],
)
def test_wrong_arguments_are_told(argument: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse([argument])
    assert stopped.value.code == 2
    assert problem in capsys.readouterr().err


def test_without_network_and_account_it_looks_at_what_it_can_and_does_not_wait(dataset: Path, tmp_path: Path) -> None:
    nowhere = {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "GCE_METADATA_IP": "198.51.100.1"}
    nowhere |= {"GCE_METADATA_HOST": "127.0.0.1:9"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "STORAGE_"))}
    options = (*PLACE, "--output=gs://street/runs", f"--dataset={dataset}")
    command = [sys.executable, "-m", "launch.doctor", *options]
    started = time.monotonic()
    quick = subprocess.run(
        [*command, "--job=vertex"], cwd=PROJECT, env=clean | nowhere, capture_output=True, check=False
    )
    assert quick.returncode == 1
    assert time.monotonic() - started < 30
    done = subprocess.run(command, cwd=PROJECT, env=clean | nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = told(done.stdout)
    version = ".".join(map(str, sys.version_info[:2]))
    assert found["python"].endswith(f"workers run Beam's own image for {version}")
    assert found["beam"].startswith("ok ")
    assert "Vertex AI's prebuilt image" in found["trainer image"]
    assert found["data set"] == f"ok {dataset}: 12 examples of train, 4 examples of val, 32x64, raw_float32"
    assert found["account"] == (
        "failure there is no Google account to submit with; log in with `gcloud auth application-default login`, or "
        "set GOOGLE_APPLICATION_CREDENTIALS"
    )
    for name in ("APIs", "worker quotas", "accelerators", "bucket", "writing"):
        assert found[name] == "skipped there is no account to ask with"
    assert found["graph"].startswith("ok all 26 functions pickled, and loaded by a worker that has the package")
    if found["trainer image"].startswith("warning "):  # from a day on, which has a test of its own
        assert done.stdout.splitlines()[-1] == "10 ok, 1 warning, 1 failure, 5 skipped"
    else:
        assert done.stdout.splitlines()[-1] == "11 ok, 1 failure, 5 skipped"


def test_what_is_not_given_is_not_checked(google: FakeGoogle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--job=vertex", OWN_TRAINER, f"--endpoint={google.start()}"]) == 0
    found = told(capsys.readouterr().out)
    assert found["APIs"] == "skipped give --project"
    assert found["accelerators"] == "skipped give --project and --region"
    assert found["writing"] == "skipped give --output"
    assert not {"python", "beam", "graph", "data set", "bucket"} & set(found)
    assert not google.asked


def test_where_all_is_well_nothing_but_ok_is_told(
    google: FakeGoogle, regional: str, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(dataset, f"{regional}/data/mine")
    where = (f"--output={regional}/runs/first", f"--dataset={regional}/data/mine/")
    code, found = asked(google, capsys, *where, OWN_TRAINER, "--hosts=2")
    assert code == 0
    assert not [line for line in found.values() if not line.startswith("ok ")]
    assert found["account"] == "ok tests@street.iam.gserviceaccount.com"
    assert found["APIs"] == "ok aiplatform.googleapis.com, storage.googleapis.com on"
    assert found["accelerators"] == f"ok {L4} is 4 in {REGION}, 2 asked for"
    assert found["bucket"] == f"ok gs://street is in EUROPE-WEST4, as {REGION} is"
    assert found["writing"] == "ok an object was written to gs://street/runs/first, read and deleted"
    assert found["shards"].startswith("ok all 6 are there with their sizes, ")
    assert found["data set"].startswith("ok gs://street/data/mine: 12 examples of train")


def test_a_check_that_hangs_is_given_up() -> None:
    def look() -> Iterator[Finding]:
        yield Finding("ok", "first", "was quick")
        threading.Event().wait(30)

    started = time.monotonic()
    first, last = run(Check("second", look, seconds=0.3))
    assert first.told == "was quick"
    assert str(last).startswith("failure  second          not done in 0.3 s, and given up: is the network")
    assert time.monotonic() - started < 5


def test_a_fault_of_the_program_is_no_finding() -> None:
    def look() -> Iterator[Finding]:
        yield Finding("ok", "first", "was quick")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run(Check("second", look)))


# --- versions


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, more: str = "") -> None:
    """Another version of a package, as far as its metadata goes."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}")
    monkeypatch.syspath_prepend(str(folder))


def worker_findings(own_image: str | None = None) -> dict[str, str]:
    return {found.what: f"{found.status} {found.told}" for found in versions.check_worker(own_image)}


def trainer_findings(*arguments: str) -> dict[str, str]:
    settings = parse(list(arguments))
    found = versions.check_trainer(settings.trainer_image, settings.machine)
    return {finding.what: f"{finding.status} {finding.told}" for finding in found}


def test_another_beam_than_the_builds_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "apache-beam", "2.60.0", "Classifier: Programming Language :: Python :: 3.9\n")
    here = ".".join(map(str, sys.version_info[:2]))
    assert worker_findings() == {
        "python": f"failure {here}, and Beam 2.60.0 has images for 3.9: take one of these",
        "beam": "failure 2.60.0 is not <2.78,>=2.77, which the build is made for: pip install '.[pipelines]'",
    }


def test_a_checkout_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "DISTRIBUTION", "not-to-be-had")
    for find in (worker_findings, trainer_findings):
        with pytest.raises(LaunchError, match=r"^not-to-be-had is not installed here: pip install '\.\[launch\]'$"):
            find()


def test_without_beam_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_installed", {}.get)
    assert worker_findings() == {
        "beam": "failure apache-beam is not installed here: pip install '.[pipelines]', or look at --job=vertex alone"
    }


def test_an_image_for_workers_has_the_python_and_the_beam_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images.worker_image()
    assert worker_findings("p/r/scenes:1")["beam"] == f"ok {image.beam} here and on workers"
    (tmp_path / "Dockerfile.worker").write_text("ARG PYTHON=3.8\nARG BEAM=2.71.0\n")
    monkeypatch.setattr(images, "_HERE", tmp_path)
    here = ".".join(map(str, sys.version_info[:2]))
    assert worker_findings("p/r/scenes:1") == {
        "python": f"failure {here} here and 3.8 in launch/Dockerfile.worker: build the image with --build-arg "
        f"PYTHON={here}",
        "beam": f"failure {image.beam} here and 2.71.0 in launch/Dockerfile.worker: build the image with --build-arg "
        f"BEAM={image.beam}",
    }
    (tmp_path / "Dockerfile.worker").unlink()
    with pytest.raises(LaunchError, match=r"Dockerfile\.worker: start from a checkout of the project"):
        worker_findings("p/r/scenes:1")


def test_the_prebuilt_image_is_told_to_be_past_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PREBUILT_UNTIL", "2001-12-31")
    found = trainer_findings()
    assert found["trainer image"] == (
        "warning Google listed Vertex AI's prebuilt image until 2001-12-31: it gets no updates and may be gone; make "
        "one of launch/Dockerfile.trainer, and give --container"
    )
    assert found["trainer python"] == "ok 3.10 in Vertex AI's prebuilt image; the trainer runs on >=3.10"
    assert found["tensorflow"].startswith("ok 2.17 in Vertex AI's prebuilt image, 2.")
    monkeypatch.setattr(versions, "PREBUILT_UNTIL", "2999-12-31")
    assert trainer_findings()["trainer image"] == "ok Vertex AI's prebuilt image, which Google lists until 2999-12-31"


def test_a_prebuilt_image_that_the_trainer_can_not_run_in_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PREBUILT", "vertex-ai/training/tf-{kind}.2-8.py38:latest")
    found = trainer_findings()
    assert found["trainer python"] == (
        "failure 3.8 in Vertex AI's prebuilt image, and the trainer takes >=3.10: give --container"
    )
    assert found["tensorflow"] == (
        "failure 2.8 in Vertex AI's prebuilt image, and the trainer takes <2.22,>=2.17: give --container"
    )


def test_an_older_keras_here_than_in_the_image_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = images.trainer_image(tpu=False).keras
    assert trainer_findings(OWN_TRAINER)["keras"].startswith(f"ok {there} in launch/Dockerfile.trainer, ")
    install(tmp_path, monkeypatch, "keras", "3.5.0")
    assert trainer_findings(OWN_TRAINER)["keras"] == (
        f"warning 3.5.0 here, {there} in launch/Dockerfile.trainer: a job's models may not load here; pip install "
        f"'keras>={there}'"
    )
    monkeypatch.setattr(versions, "_installed", {}.get)
    assert trainer_findings(OWN_TRAINER)["keras"].startswith(f"skipped {there} in launch/Dockerfile.trainer; not inst")
    assert trainer_findings(OWN_TRAINER, "--accelerator=TPU_V3")["tensorflow"].startswith("skipped 2.20 in launch/")


# --- the graph


def test_a_step_that_can_not_be_pickled_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def initialize(step: graph.StageShardFn, job: graph.Job) -> None:
        step._job, step.numbers = job, (number for number in range(3))

    monkeypatch.setattr(graph.StageShardFn, "__init__", initialize)
    (found,) = check_graph()
    assert str(found).startswith("failure  graph           a step can't be pickled, ")
    assert "generator" in found.told
    assert found.told.endswith("keep what belongs to one process out of it, and make that in setup")


def test_a_step_that_workers_can_not_load_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class is in a module of this process that is not in the package."""
    elsewhere = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)
    exec("from beam_pipelines import graph\nclass Mine(graph.StageShardFn): pass", elsewhere.__dict__)
    monkeypatch.setattr(graph, "StageShardFn", elsewhere.Mine)
    (found,) = run(Check("graph", check_graph, 280))
    assert str(found) == (
        "failure  graph           a worker could not load the graph: ModuleNotFoundError: No module named 'elsewhere'"
    )


def test_a_package_that_workers_can_not_install_is_named(tmp_path: Path) -> None:
    (tmp_path / "workflow.tar.gz").write_bytes(b"no archive")
    with pytest.raises(BuildError, match=r"^a worker could not install workflow\.tar\.gz: "):
        make_worker(tmp_path / "worker", tmp_path / "workflow.tar.gz")


def test_without_beam_there_is_no_graph_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "build", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "build" else name)
    (found,) = check_graph()
    assert found == Finding("skipped", "graph", "build not installed here: pip install '.[pipelines]'")


# --- the account


def test_an_account_file_that_is_not_there_is_named(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    code, found = asked(google, capsys, OWN_TRAINER)
    assert code == 1
    assert found["account"].startswith("failure GOOGLE_APPLICATION_CREDENTIALS=/nowhere/account.json is no account's")
    assert found["APIs"] == "skipped there is no account to ask with"


def test_a_person_is_named_and_pays_by_the_project(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    url = google.start()
    options = {"token_uri": f"{url}/token", "client_id": "id", "client_secret": "none"}
    monkeypatch.setattr(cloud, "login", lambda: Credentials(None, refresh_token="any", **options))
    service = Cloud("street", REGION, url)
    assert [finding.told for finding in service.check_account()] == ["ada@example.org"]
    list(service.check_apis(["vertex"]))
    assert {name.lower(): value for name, value in google.asked[-1][1].items()}["x-goog-user-project"] == "street"
    google.refusals = {"POST /token HTTP": (0, ""), "POST /tokeninfo": (400, "no")}
    assert [finding.told for finding in service.check_account()] == ["a person's account, whose name is not told"]


def test_an_account_that_is_refused_is_a_failure(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    google.refusals = {"POST /token": (400, "invalid_grant: Token has been expired or revoked.")}
    options = {"token_uri": f"{google.start()}/token", "client_id": "id", "client_secret": "none"}
    monkeypatch.setattr(cloud, "login", lambda: Credentials(None, refresh_token="any", **options))
    (found,) = run(Check("account", Cloud("street", REGION, None).check_account))
    assert found.status == "failure"
    assert found.told.startswith("a token for the account: the Google account was refused, ")
    assert "expired or revoked" in found.told
    assert "; log in with `gcloud auth application-default login`" in found.told


def test_a_client_that_gives_up_is_told_in_a_sentence() -> None:
    """The storage's asks again for two minutes."""
    last = ServiceUnavailable("the backend is down")
    with (
        pytest.raises(
            LaunchError, match=r"^gs://street: Google can't be reached, Timeout of 120\.0s exceeded, .*: 503 the"
        ),
        google_errors("gs://street", {}),
    ):
        raise RetryError("Timeout of 120.0s exceeded", last)


# --- APIs and quotas


def test_an_api_that_is_off_is_a_failure_with_the_command(
    google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    google.off = ("aiplatform.googleapis.com",)
    code, found = asked(google, capsys, OWN_TRAINER)
    assert code == 1
    assert found["APIs"] == (
        "failure aiplatform.googleapis.com off: `gcloud services enable aiplatform.googleapis.com --project=street`"
    )


def test_what_this_account_may_not_know_is_no_failure(google: FakeGoogle, capsys: pytest.CaptureFixture[str]) -> None:
    google.refusals = {"GET /v1": (403, "Permission denied")}
    code, found = asked(google, capsys, OWN_TRAINER)
    assert code == 0
    for what in ("APIs", "accelerators"):
        assert found[what] == (
            "skipped serviceusage.googleapis.com: Google answered 403, Permission denied; ask for the role Viewer in "
            "the project, and see that serviceusage.googleapis.com is on"
        )


def test_a_project_that_is_not_there_is_a_failure(google: FakeGoogle, capsys: pytest.CaptureFixture[str]) -> None:
    google.refusals = {"GET /v1/": (404, "no project")}
    code, found = asked(google, capsys, OWN_TRAINER)
    assert code == 1
    assert found["APIs"] == (
        "failure serviceusage.googleapis.com: Google answered 404, no project; check --project and --region"
    )


def test_a_service_that_nobody_answers_for_is_a_failure(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLACE, "--job=vertex", OWN_TRAINER, "--endpoint=http://127.0.0.1:9"]) == 1
    assert told(capsys.readouterr().out)["APIs"].startswith(
        "failure serviceusage.googleapis.com: Google can't be reached, "
    )


def worker_quotas(google: FakeGoogle, *arguments: str) -> dict[str, str]:
    settings = parse([*PLACE, *arguments])
    service = Cloud("street", settings.region, google.start())
    service.credentials = Credentials("any")
    found = run(Check("worker quotas", lambda: service.check_workers(settings.workers, settings.disk_gb)))
    return {finding.what: f"{finding.status} {finding.told}" for finding in found}


def test_the_quotas_of_workers_are_told(google: FakeGoogle) -> None:
    assert worker_quotas(google) == {
        "CPUs": f"ok 192 of 200 CPUS free in {REGION}, 40 for 10 workers",
        "addresses": f"ok 70 of 70 IN_USE_ADDRESSES free in {REGION}, 10 for 10 workers",
        "disks": f"ok 4,096 of 4,096 DISKS_TOTAL_GB free in {REGION}, 300 for 10 workers",
    }


def test_too_small_quotas_are_warnings_and_none_is_a_failure(google: FakeGoogle) -> None:
    google.quotas = {"CPUS": (24.0, 8.0), "IN_USE_ADDRESSES": (8.0, 8.0), "DISKS_TOTAL_GB": (100.0, 0.0)}
    more = "ask for more at https://console.cloud.google.com/iam-admin/quotas?project=street, or take --max_num_workers"
    assert worker_quotas(google) == {
        "CPUs": f"warning 16 of 24 CPUS free in {REGION}, 40 for 10 workers: {more}=4",
        "addresses": f"failure 0 of 8 IN_USE_ADDRESSES free in {REGION}, 10 for 10 workers: {more}=1, "
        "or --no_use_public_ips",
        "disks": f"warning 100 of 100 DISKS_TOTAL_GB free in {REGION}, 300 for 10 workers: {more}=3",
    }
    found = worker_quotas(google, "--worker_machine_type=n2-standard-8", "--max_num_workers=2")
    assert found["CPUs"].startswith(f"skipped {REGION} tells no quota N2_CPUS: look at https://console.")


def test_a_region_that_is_not_there_is_a_failure(google: FakeGoogle) -> None:
    (line,) = worker_quotas(google, "--region=europe-west99").values()
    assert line.startswith("failure compute.googleapis.com: Google answered 404, there is no /compute/v1/projects/")
    assert line.endswith("; check --project and --region")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--accelerator_count=8"], f"failure {L4} is 4 in {REGION}, 8 asked for: ask for more at https://console."),
        (["--hosts=5"], f"failure {L4} is 4 in {REGION}, 5 asked for"),
        (["--spot"], "skipped nothing tells custom_model_training_preemptible_nvidia_l4_gpus in europe-west4: look at"),
        (["--accelerator=NVIDIA_TESLA_T4"], "failure custom_model_training_nvidia_t4_gpus is 0 in"),
        (["--accelerator=NVIDIA_H100_80GB"], "ok custom_model_training_nvidia_h100_gpus is inf in"),
        (["--accelerator=TPU_V2"], "skipped nothing tells custom_model_training_tpu_v2 in"),
        (["--accelerator=none"], "skipped none asked for: 1 x n2-standard-16 without accelerators"),
    ],
)
def test_the_quotas_of_accelerators_are_those_of_vertex_ai(
    arguments: list[str], line: str, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    google.accelerators |= {
        "custom_model_training_nvidia_t4_gpus": [{}],
        "custom_model_training_nvidia_h100_gpus": [{"effectiveLimit": "-1"}],
        "custom_model_training_tpu_v2": [{"effectiveLimit": "8", "dimensions": {"region": "us-central1"}}],
    }
    code, found = asked(google, capsys, OWN_TRAINER, *arguments)
    assert found["accelerators"].startswith(line)
    assert code == int(line.startswith("failure"))


def test_every_accelerator_has_a_quota() -> None:
    assert set(QUOTAS) == set(MACHINES) - {"none"}


# --- buckets


@pytest.mark.parametrize(
    ("where", "chosen", "region", "status", "text"),
    [
        ("EUROPE-WEST4", (), "europe-west4", "ok", "gs://b is in EUROPE-WEST4, as europe-west4 is"),
        ("EUR4", (), "europe-west4", "ok", "gs://b is in EUR4, as"),
        ("EUR4", (), "europe-west1", "failure", "take a bucket in europe-west1, or --region=europe-north1"),
        ("US", ("us-east1", "us-west1"), "us-west1", "ok", "as us-west1 is"),
        ("US", ("us-east1", "us-west1"), "us-central1", "failure", "a bucket in us-central1, or --region=us-east1"),
        ("US", (), "us-central1", "warning", "gs://b is all over US: reading it in us-central1 is billed"),
        ("EU", (), "europe-west4", "warning", "gs://b is all over EU"),
        ("EU", (), "europe-west2", "failure", "billed; take a bucket in europe-west2"),
        ("ASIA", (), "us-central1", "failure", "gs://b is in ASIA, and the job in us-central1: every byte is slow"),
        ("US-EAST1", (), "us-central1", "failure", "a bucket in us-central1, or --region=us-east1"),
    ],
)  # fmt: skip
def test_a_bucket_is_in_the_region_or_not(
    where: str, chosen: tuple[str, ...], region: str, status: str, text: str
) -> None:
    found = buckets.compared("b", where, chosen, region)
    assert found.status == status
    assert text in found.told


def test_a_bucket_in_another_region_is_a_failure(
    google: FakeGoogle, regional: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_location("US-EAST1")
    code, found = asked(google, capsys, OWN_TRAINER, f"--output={regional}/runs")
    set_location("EUROPE-WEST4")
    assert code == 1
    assert found["bucket"] == (
        "failure gs://street is in US-EAST1, and the job in europe-west4: every byte is slow, and billed; take a "
        "bucket in europe-west4, or --region=us-east1"
    )
    assert found["writing"].startswith("ok ")


def test_a_bucket_that_is_not_there_is_a_failure(
    google: FakeGoogle, regional: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = asked(google, capsys, OWN_TRAINER, "--output=gs://nobody/runs")
    assert code == 1
    assert found["bucket"].startswith("failure gs://nobody: Google answered 404, ")
    assert found["bucket"].endswith("create it: `gcloud storage buckets create gs://BUCKET --location=REGION`")
    assert found["writing"].startswith("failure gs://nobody/runs/_doctor-")


@pytest.mark.parametrize(
    ("refusals", "lines"),
    [
        (
            {"GET /storage/v1/b/street?": (403, "no storage.buckets.get")},
            {"bucket": "warning gs://street does not tell where it is: for that ask for", "writing": "ok an object"},
        ),
        (
            {"POST /upload/": (403, "no storage.objects.create")},
            {"bucket": "ok gs://street is in EUR4", "writing": "failure gs://street/runs/_doctor-"},
        ),
        (
            {"DELETE /storage/": (403, "no storage.objects.delete")},
            {"bucket": "ok gs://street is in EUR4", "writing": "failure gs://street/runs/_doctor-"},
        ),
        (
            {"GET /download/": (403, "no storage.objects.get")},
            {"bucket": "ok gs://street is in EUR4", "writing": "failure gs://street/runs/_doctor-"},
        ),
    ],
)
def test_what_may_not_be_done_in_a_bucket_is_told(
    refusals: dict[str, tuple[int, str]],
    lines: dict[str, str],
    google: FakeGoogle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    google.bucket, google.refusals = {"location": "EUR4", "locationType": "dual-region"}, refusals
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.start())
    code, found = asked(google, capsys, OWN_TRAINER, "--output=gs://street/runs")
    for what, start in lines.items():
        assert found[what].startswith(start)
    if "failure" in lines["writing"]:
        ((_, reason),) = refusals.values()
        assert f"{reason}; ask for the role Storage Object Admin in the bucket" in found["writing"]
    assert code == int("failure" in lines["writing"])


def test_a_bucket_that_gives_back_other_bytes_is_a_failure(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    google.bucket, google.content = {"location": "EUROPE-WEST4"}, b"something else"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.start())
    code, found = asked(google, capsys, OWN_TRAINER, "--output=gs://street/runs")
    assert code == 1
    assert found["writing"].startswith("failure gs://street/runs/_doctor-")
    assert found["writing"].endswith(" came back with other bytes: is a cache or a proxy in between?")


# --- the data set


def edited(dataset: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the data set with other values in its manifest."""
    folder.mkdir()
    for path in dataset.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    value = json.loads((folder / "dataset.json").read_text())
    for name, change in changes.items():
        value[name] = value[name] | change
    (folder / "dataset.json").write_text(json.dumps(value))
    return folder


def pixels_of_a_picture(dataset: Path) -> int:
    pixels = json.loads((dataset / "dataset.json").read_text())["pixels"]
    return int(pixels["height"] * pixels["width"])


def moments_to_json(histogram: list[list[int]]) -> dict[str, Any]:
    moments = Moments(np.array(histogram, np.int64))
    names = ("pixels", "sums", "sums_of_squares", "mean", "std")
    return {"histogram": histogram, **{name: getattr(moments, name) for name in names}}


def dataset_lines(folder: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, str]:
    code, found = asked(google, capsys, OWN_TRAINER, f"--dataset={folder}", *more)
    assert code == int(any(line.startswith("failure") for line in found.values()))
    return found


def test_a_data_set_that_can_not_be_trained_on_is_a_failure(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(folder: Path, *more: str) -> str:
        return dataset_lines(folder, google, capsys, *more)["data set"]

    assert line(tmp_path).startswith(f"failure {tmp_path} has no dataset.json: there is no data set, or its build did")
    assert line(dataset / "dataset.json").startswith(f"failure {dataset}/dataset.json has no dataset.json")
    assert line(dataset, "--val_split=test") == f"failure {dataset} has no split 'test'; it has train, val"
    assert line(dataset, "--hosts=3").startswith(f"failure {dataset}: 2 shards of val can't be shared by 3 hosts")
    assert line(dataset, "--hosts=3", "--val_split=").startswith("ok ")
    shards = json.loads((dataset / "dataset.json").read_text())["splits"]["val"]["shards"]
    shards[1] |= {"examples": 0, "bytes": 0}  # all of its pairs were rejected
    held = shards[0]["examples"] * pixels_of_a_picture(dataset)
    empty = edited(
        dataset,
        tmp_path / "empty",
        splits={"val": {"examples": shards[0]["examples"], "shards": shards}},
        class_pixels={"val": [held] + [0] * 10},
        ignored_pixels={"val": 0},
    )
    assert line(empty).startswith("ok ")
    assert line(empty, "--hosts=2").startswith(f"failure {empty}: 1 shards of val can't be shared by 2 hosts")
    other = edited(dataset, tmp_path / "other")
    (other / "dataset.json").write_text('{"format_version": 9}')
    assert line(other).startswith(f"failure {other}/dataset.json has format version 9 and this code reads 1: ")
    (other / "dataset.json").write_bytes(b"\xff")
    assert line(other).startswith(f"failure {other}/dataset.json can't be read: ")
    wrong = edited(dataset, tmp_path / "wrong", moments={"pixels": 7})
    assert line(wrong).startswith(f"failure {wrong}/dataset.json: moments.pixels is 7, and the rest of the file says ")
    none = {"val": {"examples": 0, "shards": []}}
    nothing = {"class_pixels": {"val": [0] * 11}, "ignored_pixels": {"val": 0}}
    assert line(edited(dataset, tmp_path / "none", splits=none, **nothing)) == (
        f"failure {tmp_path / 'none'}: the split 'val' has no examples, every pair was rejected: build it again"
    )


def test_shards_that_are_missing_or_cut_off_are_a_failure(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited(dataset, tmp_path / "cut")
    shard = folder / "val-00001-of-00002.tfrecord"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-7])
    assert dataset_lines(folder, google, capsys)["shards"].startswith(
        f"failure {shard} has {size - 7:,} bytes of {size:,}: restore it (sha256 "
    )
    shard.unlink()
    (folder / "train-00000-of-00004.tfrecord").unlink()
    assert dataset_lines(folder, google, capsys)["shards"].startswith(
        f"failure {folder}/train-00000-of-00004.tfrecord is missing (and 1 more): restore it"
    )
    assert "(and 1 more)" not in dataset_lines(folder, google, capsys, "--val_split=")["shards"]


def test_what_can_not_be_learned_from_is_told(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(name: str, **changes: Any) -> dict[str, str]:
        return dataset_lines(edited(dataset, tmp_path / name, **changes), google, capsys, "--val_split=")

    assert lines("same")["classes"].startswith("ok 11 of 11 in train, ")
    value = json.loads((dataset / "dataset.json").read_text())
    counts, ignored = value["class_pixels"]["train"], value["ignored_pixels"]["train"]
    absent = lines("absent", class_pixels={"train": [*counts[:-2], counts[-2] + counts[-1], 0]})["classes"]
    assert absent.startswith("warning 10 of 11 in train, ")
    assert absent.endswith("; bicyclist can't be learned: add pictures that have them")
    held = sum(counts) + ignored
    mostly = {"class_pixels": {"train": [1] * 11}, "ignored_pixels": {"train": held - 11}}
    assert lines("ignored", **mostly)["classes"] == (
        f"warning 11 of 11 in train, {(held - 11) / held:.1%} of it ignored: is camvid11 the right table "
        "(--labels of the build)?"
    )
    none = {"class_pixels": {"train": [0] * 11}, "ignored_pixels": {"train": held}}
    nothing = lines("nothing", **none)["classes"]
    assert nothing.startswith("failure 0 of 11 in train, 100.0% of it ignored: nothing can be learned or scored")


def test_normalization_is_looked_at(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(name: str, **changes: Any) -> str:
        return dataset_lines(edited(dataset, tmp_path / name, **changes), google, capsys)["normalization"]

    assert line("same").startswith("ok in the records; mean and std 0.")
    assert line("png", pixels={"image_format": "png", "normalized": False}).startswith(
        "ok by the reader; mean and std 0."
    )
    held = json.loads((dataset / "dataset.json").read_text())["moments"]["pixels"]
    flat = moments_to_json([[held] + [0] * 255, [held] + [0] * 255, [held - 4, 4] + [0] * 254])
    assert line("flat", moments=flat) == (
        "warning all values of red, green are equal in train: are these the pictures you mean?"
    )
