"""Buckets, against an emulator and a storage that refuses."""

from __future__ import annotations

import pytest

from launch.doctor.checks import buckets
from tests.support.diagnosis import OWN_TRAINER, asked
from tests.support.fake_google import FakeGoogle, set_location


@pytest.mark.parametrize(
    ("where", "chosen", "region", "status", "text"),
    [
        ("EUROPE-WEST4", (), "europe-west4", "ok", "gs://b is in EUROPE-WEST4, which includes europe-west4"),
        ("EUR4", (), "europe-west4", "ok", "gs://b is in EUR4, which"),
        ("EUR4", (), "europe-west1", "failure", "use a bucket in europe-west1, or --region=europe-north1"),
        ("US", ("us-east1", "us-west1"), "us-west1", "ok", "which includes us-west1"),
        ("US", ("us-east1", "us-west1"), "us-central1", "failure", "a bucket in us-central1, or --region=us-east1"),
        ("US", (), "us-central1", "warning", "in the multi-region US: reading it from us-central1 costs money"),
        ("EU", (), "europe-west4", "warning", "gs://b is in the multi-region EU"),
        ("EU", (), "europe-west2", "failure", "costs money; use a bucket in europe-west2"),
        ("ASIA", (), "us-central1", "failure", "gs://b is in ASIA and the job in us-central1: reading is slow"),
        ("US-EAST1", (), "us-central1", "failure", "a bucket in us-central1, or --region=us-east1"),
    ],
)  # fmt: skip
def test_a_bucket_is_in_the_region_or_not(
    where: str, chosen: tuple[str, ...], region: str, status: str, text: str
) -> None:
    found = buckets.compare_location("b", where, chosen, region)
    assert found.status == status
    assert text in found.message


def test_a_bucket_in_another_region_is_a_failure(
    google: FakeGoogle, regional: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_location("US-EAST1")
    code, found = asked(google, capsys, OWN_TRAINER, f"--output={regional}/runs")
    set_location("EUROPE-WEST4")
    assert code == 1
    assert found["output bucket"] == (
        "failure gs://street is in US-EAST1 and the job in europe-west4: reading is slow and costs money; use a "
        "bucket in europe-west4, or --region=us-east1"
    )
    assert found["writing"].startswith("ok ")


def test_a_bucket_that_is_not_there_is_a_failure(
    google: FakeGoogle, regional: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = asked(google, capsys, OWN_TRAINER, "--output=gs://nobody/runs")
    assert code == 1
    assert found["output bucket"].startswith("failure gs://nobody: Google answered 404, ")
    assert found["output bucket"].endswith(
        "create the bucket: `gcloud storage buckets create gs://BUCKET --location=REGION`"
    )
    assert found["writing"].startswith("failure gs://nobody/runs/_doctor-")


@pytest.mark.parametrize(
    ("refusals", "lines"),
    [
        (
            {"GET /storage/v1/b/street?": (403, "no storage.buckets.get")},
            {"output bucket": "warning the location of gs://street is not visible: ask for", "writing": "ok an object"},
        ),
        (
            {"POST /upload/": (403, "no storage.objects.create")},
            {"output bucket": "ok gs://street is in EUR4", "writing": "failure gs://street/runs/_doctor-"},
        ),
        (
            {"DELETE /storage/": (403, "no storage.objects.delete")},
            {"output bucket": "ok gs://street is in EUR4", "writing": "failure gs://street/runs/_doctor-"},
        ),
        (
            {"GET /download/": (403, "no storage.objects.get")},
            {"output bucket": "ok gs://street is in EUR4", "writing": "failure gs://street/runs/_doctor-"},
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
    assert found["writing"].endswith(" was read back with other bytes: check for a cache or a proxy")
