"""Buckets: there, in the job's region, and open to the account that looks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from google.api_core.exceptions import Forbidden
from google.auth.credentials import Credentials
from google.cloud import storage

from beam_pipelines.files.cloud import LOGIN
from launch.account import google_errors
from launch.checks.cloud import SECONDS
from launch.checks.dataset import Reader
from launch.checks.finding import FAILURE, OK, WARNING, Finding
from launch.errors import LaunchError

_CURES = {
    401: LOGIN,
    403: "ask for the role Storage Object Admin in the bucket, for yourself and for the account of the job",
    404: "check the name, or create it: `gcloud storage buckets create gs://BUCKET --location=REGION`",
    429: "try again later",
}
# After https://cloud.google.com/storage/docs/locations. A multi-region bills what is read, also in its regions.
_MULTI_REGIONS = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}
_NOT_OF_THE_EU = ("europe-west2", "europe-west6")
_DUAL_REGIONS = {
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
    "EUR4": ("europe-north1", "europe-west4"),
    "EUR5": ("europe-west1", "europe-west2"),
    "EUR7": ("europe-west2", "europe-west3"),
    "EUR8": ("europe-west3", "europe-west6"),
    "NAM4": ("us-central1", "us-east1"),
}


def check_place(credentials: Credentials, project: str | None, path: str, region: str | None) -> Iterator[Finding]:
    """Whether the bucket of `path` is there, and in `region`. Raises LaunchError where it can't be reached."""
    name = path.removeprefix("gs://").partition("/")[0]
    try:
        with google_errors(f"gs://{name}", _CURES):
            bucket = _client(credentials, project).get_bucket(name, timeout=SECONDS, retry=None)
    except LaunchError as error:
        if not isinstance(error.__cause__, Forbidden):
            raise
        told = f"gs://{name} does not tell where it is: for that ask for the role Storage Legacy Bucket Reader"
        yield Finding(WARNING, "bucket", told)
        return
    where = bucket.location
    if region is None:
        yield Finding(OK, "bucket", f"gs://{name} is in {where}; with --region it is compared")
        return
    chosen = (bucket._properties.get("customPlacementConfig") or {}).get("dataLocations") or ()
    yield compared(name, where, tuple(map(str.lower, chosen)), region)


def compared(name: str, where: str, chosen: tuple[str, ...], region: str) -> Finding:
    """A bucket's location, with the regions that were `chosen` for a dual-region, and a job's region."""
    regions = chosen or _DUAL_REGIONS.get(where) or (() if where in _MULTI_REGIONS else (where.lower(),))
    if region in regions:
        return Finding(OK, "bucket", f"gs://{name} is in {where}, as {region} is")
    inside = region.startswith(_MULTI_REGIONS.get(where, "-")) and not (where == "EU" and region in _NOT_OF_THE_EU)
    if inside and not regions:
        told = f"gs://{name} is all over {where}: reading it in {region} is billed, from a bucket in {region} it is not"
        return Finding(WARNING, "bucket", told)
    told = (
        f"gs://{name} is in {where}, and the job in {region}: every byte is slow, and billed; take a bucket in "
        f"{region}{f', or --region={regions[0]}' if regions else ''}"
    )
    return Finding(FAILURE, "bucket", told)


def check_writing(credentials: Credentials, project: str | None, output: str) -> Iterator[Finding]:
    """Writes an object of a few bytes into the folder, reads it, and deletes it. Raises LaunchError."""
    path = f"{output}/_doctor-{uuid.uuid4().hex[:12]}"
    blob = blob_at(_client(credentials, project), path)
    with google_errors(f"{path} can't be written", _CURES):
        blob.upload_from_string(b"doctor", timeout=SECONDS, retry=None)
    try:
        with google_errors(f"{path} can't be read", _CURES):
            intact = blob.download_as_bytes(timeout=SECONDS, retry=None) == b"doctor"
    finally:
        with google_errors(f"{path} was written and can't be deleted", _CURES):
            blob.delete(timeout=SECONDS, retry=None)
    if intact:
        yield Finding(OK, "writing", f"an object was written to {output}, read and deleted")
    else:
        yield Finding(FAILURE, "writing", f"{path} came back with other bytes: is a cache or a proxy in between?")


def bucket_reader(credentials: Credentials, project: str | None, folder: str) -> Reader:
    """Of a folder in a bucket."""
    name, _, prefix = folder.removeprefix("gs://").partition("/")
    client = _client(credentials, project)

    def sizes() -> dict[str, int]:
        with google_errors(folder, _CURES):
            blobs = client.list_blobs(name, prefix=f"{prefix}/", delimiter="/", timeout=SECONDS, retry=None)
            return {blob.name.rpartition("/")[2]: blob.size for blob in blobs}

    def read(file: str) -> str | None:
        path = f"{folder}/{file}"
        with google_errors(path, _CURES):
            blob = blob_at(client, path)
            if not blob.exists(timeout=SECONDS, retry=None):
                return None
            return str(blob.download_as_text(timeout=SECONDS, retry=None))

    return sizes, read


def _client(credentials: Credentials, project: str | None) -> storage.Client:
    return storage.Client(project=project or "none", credentials=credentials)


def blob_at(client: storage.Client, path: str) -> storage.Blob:
    """The object of a gs:// path; nothing is asked."""
    bucket, _, name = path.removeprefix("gs://").partition("/")
    return client.bucket(bucket).blob(name)
