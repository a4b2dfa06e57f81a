"""APIs and quotas against a service that answers as Google does."""

from __future__ import annotations

import pytest
from google.oauth2.credentials import Credentials

from launch.doctor.__main__ import main
from launch.doctor.google import Google
from launch.vertex.machines import ACCELERATORS
from tests.support.diagnosis import L4, OWN_TRAINER, PLACE, asked, found_by, told
from tests.support.fake_google import REGION, FakeGoogle


def test_an_api_that_is_off_is_a_failure_with_the_command(
    google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    google.off = ("aiplatform.googleapis.com",)
    code, found = asked(google, capsys, OWN_TRAINER)
    assert code == 1
    assert found["APIs"] == (
        "failure not enabled: aiplatform.googleapis.com; enable with `gcloud services enable aiplatform.googleapis.com "
        "--project=street`"
    )


def test_what_this_account_may_not_know_is_no_failure(google: FakeGoogle, capsys: pytest.CaptureFixture[str]) -> None:
    google.refusals = {"GET /v1": (403, "Permission denied")}
    code, found = asked(google, capsys, OWN_TRAINER)
    assert code == 0
    for what in ("APIs", "accelerators"):
        assert found[what] == (
            "skipped serviceusage.googleapis.com: Google answered 403, Permission denied; ask for the role Viewer in "
            "the project, and make sure that serviceusage.googleapis.com is enabled"
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
        "failure serviceusage.googleapis.com: Google could not be reached, "
    )


def worker_quotas(google: FakeGoogle, *arguments: str) -> dict[str, str]:
    return found_by("worker quotas", *PLACE, *arguments, google=Google(Credentials("any"), google.start()))


def test_the_quotas_of_workers_are_told(google: FakeGoogle) -> None:
    assert worker_quotas(google) == {
        "CPUs": f"ok 192 of 200 CPUS free in {REGION}; 10 workers need 40",
        "addresses": f"ok 70 of 70 IN_USE_ADDRESSES free in {REGION}; 10 workers need 10",
        "disks": f"ok 4,096 of 4,096 DISKS_TOTAL_GB free in {REGION}; 10 workers need 300",
    }


def test_too_small_quotas_are_warnings_and_none_is_a_failure(google: FakeGoogle) -> None:
    google.quotas = {"CPUS": (24.0, 8.0), "IN_USE_ADDRESSES": (8.0, 8.0), "DISKS_TOTAL_GB": (100.0, 0.0)}
    more = "request more at https://console.cloud.google.com/iam-admin/quotas?project=street, or set --max_num_workers"
    assert worker_quotas(google) == {
        "CPUs": f"warning 16 of 24 CPUS free in {REGION}; 10 workers need 40: {more}=4",
        "addresses": f"failure 0 of 8 IN_USE_ADDRESSES free in {REGION}; 10 workers need 10: {more}=1, "
        "or use --no_use_public_ips",
        "disks": f"warning 100 of 100 DISKS_TOTAL_GB free in {REGION}; 10 workers need 300: {more}=3",
    }
    found = worker_quotas(google, "--worker_machine_type=n2-standard-8", "--max_num_workers=2")
    assert found["CPUs"].startswith(f"skipped {REGION} reports no quota N2_CPUS: see https://console.")


def test_a_region_that_is_not_there_is_a_failure(google: FakeGoogle) -> None:
    (line,) = worker_quotas(google, "--region=europe-west99").values()
    assert line.startswith("failure compute.googleapis.com: Google answered 404, there is no /compute/v1/projects/")
    assert line.endswith("; check --project and --region")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--accelerator_count=8"],
            f"failure {L4} is 4 in {REGION}, the job needs 8: request more at https://console.",
        ),
        (["--hosts=5"], f"failure {L4} is 4 in {REGION}, the job needs 5"),
        (
            ["--spot"],
            "skipped europe-west4 reports no quota custom_model_training_preemptible_nvidia_l4_gpus: see https",
        ),
        (["--accelerator=NVIDIA_TESLA_T4"], "failure custom_model_training_nvidia_t4_gpus is 0 in"),
        (["--accelerator=NVIDIA_H100_80GB"], "ok custom_model_training_nvidia_h100_gpus is inf in"),
        (["--accelerator=TPU_V2"], "skipped europe-west4 reports no quota custom_model_training_tpu_v2: see https"),
        (
            ["--accelerator=NVIDIA_TESLA_V100", "--machine_type=n1-standard-8"],
            "skipped the name of the quota of NVIDIA_TESLA_V100 is not known here: see https",
        ),
        (["--accelerator=none"], "skipped none requested: 1 x n2-standard-16 without accelerators"),
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
    assert {name for name, offer in ACCELERATORS.items() if offer.quota is None} == {"none"}
