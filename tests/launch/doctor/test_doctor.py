"""The doctor as a command, and its table: order, skipped checks, timeouts, output."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch.doctor import table
from launch.doctor.__main__ import main
from launch.doctor.check import ACCOUNT, Check, Session
from launch.doctor.findings import Finding
from launch.doctor.options import JOBS, parse
from launch.doctor.runner import run_check, run_checks
from launch.doctor.table import CHECKS
from tests.support.builds import PROJECT, upload
from tests.support.diagnosis import L4, OWN_TRAINER, PLACE, asked, told
from tests.support.fake_google import REGION, FakeGoogle


def test_without_the_packages_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['google.auth'] = None; from launch.doctor.__main__ import main; sys.exit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: a required package is not installed (")
    assert "google.auth" in done.stderr
    assert done.stderr.endswith("): pip install '.[launch]'\n")


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def press(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.doctor.runner.run_checks", press)
    assert main(["--job=vertex"]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("--region=us-central1-a", ("--region", "'us-central1-a'", "us-central1")),
        ("--project=My Project", ("--project", "'My Project'", "street-scenes-123")),
        ("--output=street/runs", ("--output", "'street/runs'", "gs://BUCKET/FOLDER")),
        ("--job=flink", ("--job", "'flink'", "vertex")),
        ("--accelerator=L4", ("--accelerator=L4", "NVIDIA_L4")),
        ("--accelerator_count=3", ("--accelerator_count=3", "1, 2, 4, 8 of NVIDIA_L4")),
        ("--machine_type=g2-standrad-48", ("--machine_type=g2-standrad-48", "did you mean g2-standard-48?")),
        ("--accelerator=NVIDIA_V100", ("--accelerator=NVIDIA_V100", "did you mean NVIDIA_TESLA_V100?")),
        ("--worker_machine_type=big", ("--worker_machine_type", "'big'", "e2-standard-4")),
        ("--hosts=0", ("--hosts", "'0'")),
        ("--regoin=us-central1", ("unknown option --regoin; did you mean --region?",)),
    ],
)
def test_wrong_arguments_are_told(argument: str, parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse([argument])
    assert stopped.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert not [part for part in parts if part not in message], message


def test_cures_that_it_names_are_options_of_its_own() -> None:
    chosen = parse(["--accelerator=NVIDIA_TESLA_V100", "--machine_type=n1-standard-8"])
    assert str(chosen.machine) == "n1-standard-8 with 1 x NVIDIA_TESLA_V100"
    image = "europe-docker.pkg.dev/street/images/trainer"
    assert parse([f"--build_container={image}"]).trainer_image == image
    with pytest.raises(SystemExit, match="2"):
        parse([f"--build_container={image}", OWN_TRAINER])


def test_without_network_and_account_it_looks_at_what_it_can_and_does_not_wait(dataset: Path, tmp_path: Path) -> None:
    nowhere = {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "GCE_METADATA_IP": "198.51.100.1"}
    nowhere |= {"GCE_METADATA_HOST": "127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
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
    assert found["python"].endswith(f"workers run Beam's image for {version}")
    assert found["beam"].startswith("ok ")
    assert found["trainer image"].startswith("ok docker.io/tensorflow/tensorflow:")
    assert found["image tag"] == "skipped Docker Hub could not be reached"
    assert found["data set"] == f"ok {dataset}: 12 examples of train, 4 examples of val, 32x64, raw_float32"
    assert found["account"] == (
        "failure no Google account is set up; log in with `gcloud auth application-default login`, or "
        "set GOOGLE_APPLICATION_CREDENTIALS"
    )
    for name in ("APIs", "worker quotas", "accelerators", "output bucket", "writing"):
        assert found[name] == "skipped needs a Google account; see the account check"
    assert found["graph"].startswith("ok all 62 functions pickled, and unpickled by a worker without TensorFlow")
    assert done.stdout.splitlines()[-1] == "12 ok, 1 failure, 6 skipped"


def test_what_is_not_given_is_not_checked(google: FakeGoogle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--job=vertex", OWN_TRAINER, f"--endpoint={google.start()}"]) == 0
    found = told(capsys.readouterr().out)
    assert found["APIs"] == "skipped set --project"
    assert found["accelerators"] == "skipped set --project and --region"
    assert found["writing"] == "skipped set --output"
    assert not {"python", "beam", "graph", "data set", "bucket", "output bucket"} & set(found)
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
    assert found["APIs"] == "ok enabled: aiplatform.googleapis.com, storage.googleapis.com"
    assert found["accelerators"] == f"ok {L4} is 4 in {REGION}, the job needs 2"
    assert found["output bucket"] == f"ok gs://street is in EUROPE-WEST4, which includes {REGION}"
    assert found["writing"] == "ok an object was written to gs://street/runs/first, read and deleted"
    assert found["shards"].startswith("ok all 6 have their size, ")
    assert found["data set"].startswith("ok gs://street/data/mine: 12 examples of train")


def test_a_check_that_hangs_is_given_up() -> None:
    def look(_: Session) -> Iterator[Finding]:
        yield Finding("ok", "was quick", "first")
        threading.Event().wait(30)

    started = time.monotonic()
    first, last = run_check(Check("second", look, seconds=0.3), Session(parse([])))
    assert first.message == "was quick"
    assert str(last).startswith("failure  second           no result within 0.3 s: check the network")
    assert time.monotonic() - started < 5


def test_a_fault_of_the_program_is_no_finding() -> None:
    def look(_: Session) -> Iterator[Finding]:
        yield Finding("ok", "was quick", "first")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run_check(Check("second", look), Session(parse([]))))


# --- the table


def observed(*statuses: str) -> tuple[list[str], Callable[[Session], Iterator[Finding]]]:
    """A check that notes that it ran, and yields findings of these statuses."""
    runs: list[str] = []

    def find(session: Session) -> Iterator[Finding]:
        runs.append(session.settings.project or "")
        for status in statuses:
            yield Finding(status, "canary")

    return runs, find


def test_a_row_is_all_that_a_new_check_takes(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Order, name, skipping and count follow from it."""
    runs, find = observed("ok", "warning")
    after = [check.name for check in CHECKS].index("account") + 1
    canary = Check("canary", find, needs=("project", "region", ACCOUNT), job="vertex")
    rows = (*CHECKS[:after], canary, *CHECKS[after:])
    monkeypatch.setattr(table, "CHECKS", rows)
    place = ("--job=vertex", OWN_TRAINER, f"--endpoint={google.start()}")
    assert main([*PLACE, *place]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[9:26].strip() for line in lines][-7:-1] == [
        *("account", "canary", "canary", "APIs", "accelerators", "writing")
    ]
    assert runs == ["street"]
    assert main([PLACE[0], *place]) == 0
    assert told(capsys.readouterr().out)["canary"] == "skipped set --region"
    assert main([*place]) == 0
    assert told(capsys.readouterr().out)["canary"] == "skipped set --project and --region"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    assert main([*PLACE, *place]) == 1
    assert told(capsys.readouterr().out)["canary"] == "skipped needs a Google account; see the account check"
    assert runs == ["street"]


def test_a_check_of_another_job_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    runs, find = observed("failure")
    rows = (Check("canary", find, job="dataflow"), Check("other", find, when=lambda chosen: bool(chosen.output)))
    assert run_checks(rows, parse(["--job=vertex"])) == 0
    assert not runs
    assert run_checks(rows, parse(["--job=dataflow", "--output=gs://street/runs"])) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "failure  canary           canary",
        "failure  other            canary",
        "2 failure",
    ]


def test_every_row_names_a_job_and_options_that_there_are() -> None:
    settings = parse([])
    assert {row.job for row in CHECKS} <= {None, *JOBS}
    assert all(need == ACCOUNT or hasattr(settings, need) for row in CHECKS for need in row.needs)
    assert all(len(row.name) <= 16 for row in CHECKS), "the output has a column of that width"


@pytest.mark.parametrize(
    ("output", "dataset", "rows"),
    [
        ("gs://street/runs", "gs://street/data", {"output bucket", "writing", "data set"}),
        ("gs://street/runs", "gs://other/data", {"output bucket", "data set bucket", "writing", "data set"}),
        ("gs://street/runs", "out/scenes", {"output bucket", "writing", "data set"}),
        (None, "gs://other/data", {"data set bucket", "writing", "data set"}),
        (None, None, {"writing"}),
    ],
)
def test_each_bucket_is_looked_at_once(output: str | None, dataset: str | None, rows: set[str]) -> None:
    given = {"--output": output, "--dataset": dataset}
    settings = parse([f"{name}={value}" for name, value in given.items() if value])
    applying = [row.name for row in CHECKS if row.applies(settings)]
    assert {name for name in applying if "bucket" in name or name in ("writing", "data set")} == rows
    assert len(set(applying)) == len(applying)
