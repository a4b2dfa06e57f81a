"""Whether buckets exist, are in the region of the job, and can be written by the account that sends the requests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from google.api_core.exceptions import Forbidden
from google.cloud import storage

from launch.account import LOGIN, google_errors
from launch.buckets import blob_at, bucket_files, split_path
from launch.dataset import Files
from launch.doctor.check import Session
from launch.doctor.findings import FAILURE, OK, WARNING, Finding
from launch.doctor.google import SECONDS
from launch.errors import LaunchError

_CURES = {
    401: LOGIN,
    403: "ask for the role Storage Object Admin in the bucket, for yourself and for the account of the job",
    404: "check the name, or create the bucket: `gcloud storage buckets create gs://BUCKET --location=REGION`",
    429: "try again later",
}
_ONCE: dict[str, Any] = {"timeout": SECONDS, "retry": None}  # options of a request
# From https://cloud.google.com/storage/docs/locations. Reading from a multi-region costs money even in its regions.
_MULTI_REGIONS = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}
_NOT_IN_EU = ("europe-west2", "europe-west6")
_DUAL_REGIONS = {
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
    "EUR4": ("europe-north1", "europe-west4"),
    "EUR5": ("europe-west1", "europe-west2"),
    "EUR7": ("europe-west2", "europe-west3"),
    "EUR8": ("europe-west3", "europe-west6"),
    "NAM4": ("us-central1", "us-east1"),
}


def check_location(option: str, session: Session) -> Iterator[Finding]:
    """Checks that the bucket of an option exists, and that it is in the region of the job.

    Raises:
      LaunchError: the bucket does not exist, or could not be reached.
    """
    region, (name, _) = session.settings.region, split_path(session.option(option))
    try:
        with google_errors(f"gs://{name}", _CURES):
            bucket = _client(session).get_bucket(name, **_ONCE)
    except LaunchError as error:
        if not isinstance(error.__cause__, Forbidden):
            raise
        message = f"the location of gs://{name} is not visible: ask for the role Storage Legacy Bucket Reader"
        yield Finding(WARNING, message)
        return
    if region is None:
        yield Finding(OK, f"gs://{name} is in {bucket.location}; set --region to compare the two")
        return
    chosen = (bucket._properties.get("customPlacementConfig") or {}).get("dataLocations") or ()
    yield compare_location(name, bucket.location, tuple(map(str.lower, chosen)), region)


def compare_location(name: str, location: str, chosen: tuple[str, ...], region: str) -> Finding:
    """Compares a bucket's location with the region of a job; `chosen` are the regions of a custom dual-region."""
    single = () if location in _MULTI_REGIONS else (location.lower(),)
    regions = chosen or _DUAL_REGIONS.get(location) or single
    if region in regions:
        return Finding(OK, f"gs://{name} is in {location}, which includes {region}")
    in_multi_region = region.startswith(_MULTI_REGIONS.get(location, "-"))
    if in_multi_region and not regions and not (location == "EU" and region in _NOT_IN_EU):
        message = (
            f"gs://{name} is in the multi-region {location}: reading it from {region} costs money, reading a bucket in "
            f"{region} does not"
        )
        return Finding(WARNING, message)
    message = (
        f"gs://{name} is in {location} and the job in {region}: reading is slow and costs money; use a bucket in "
        f"{region}{f', or --region={regions[0]}' if regions else ''}"
    )
    return Finding(FAILURE, message)


def check_writing(session: Session) -> Iterator[Finding]:
    """Writes an object of a few bytes to --output, reads it and deletes it. Raises LaunchError if a step fails."""
    output = session.option("output")
    path = f"{output}/_doctor-{uuid.uuid4().hex[:12]}"
    blob = blob_at(_client(session), path)
    with google_errors(f"{path} could not be written", _CURES):
        blob.upload_from_string(b"doctor", **_ONCE)
    try:
        with google_errors(f"{path} could not be read", _CURES):
            intact = blob.download_as_bytes(**_ONCE) == b"doctor"
    finally:
        with google_errors(f"{path} was written but could not be deleted", _CURES):
            blob.delete(**_ONCE)
    if intact:
        yield Finding(OK, f"an object was written to {output}, read and deleted")
    else:
        yield Finding(FAILURE, f"{path} was read back with other bytes: check for a cache or a proxy")


def dataset_files(session: Session) -> Files:
    """The files of the data set in a bucket. Each request is sent only once."""
    return bucket_files(_client(session), session.option("dataset"), _CURES, **_ONCE)


def _client(session: Session) -> storage.Client:
    return storage.Client(project=session.settings.project or "none", credentials=session.google.credentials)
