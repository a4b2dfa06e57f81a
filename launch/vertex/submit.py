"""Submits a job to Vertex AI: checks the data set and the output, uploads the package, creates the job."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from google.auth.credentials import Credentials
from google.cloud import aiplatform_v1, storage

from beam_pipelines.contract.manifest import FILE_NAME, Manifest
from launch.account import LOGIN, google_errors, login
from launch.buckets import blob_at, read_bytes, split_path
from launch.dataset import check_together, open_manifest
from launch.errors import LaunchError
from launch.vertex.cloud_build import ensure_image
from launch.vertex.package import ImageBuild, Package
from launch.vertex.request import TrainingJob
from trainer.config import (
    CONFIG,
    FINISHED,
    TrainConfig,
    another_run,
    datasets_identity,
    is_shorter,
    read_identity,
    without_length,
)

_CURES = {
    401: LOGIN,
    403: "ask for the roles Vertex AI User in the project and Storage Object Admin in the bucket, and make sure that "
    "aiplatform.googleapis.com is enabled",
    404: "check the project, the region and the bucket",
    429: "request more quota for these machines in the region, or use fewer",
}
_SECONDS = 120.0  # timeout of the request that creates the job; the client's default is 5


def submit(
    job: TrainingJob,
    train: TrainConfig,
    request: dict[str, Any],
    package: Package | None,
    build: ImageBuild | None,
    endpoint: str | None,
) -> str:
    """Checks what can be checked at no cost, uploads the package, builds the image and creates the job.

    Args:
      request: of `make_request`.
      package: None if the job runs in a container that has the code.
      build: of that container, if it is built first.
      endpoint: address of the services; None is Google's in the region of the job.

    Returns:
      The resource name of the job.

    Raises:
      LaunchError: a request was refused, or something was not found. No job was created unless the message says so.
    """
    credentials = login()
    client = storage.Client(project=job.project, credentials=credentials)
    try:
        manifests = _check_datasets(client, train, job)
        if job.search is None:  # trials have folders of their own
            _check_output(client, train, manifests, job.hosts)
        for files in (package, build.sources if build else None):
            if files:
                upload(client, files)
    finally:
        client.close()
    if build:
        print(f"building {build.image}, which takes minutes unless it exists", flush=True)
        ensure_image(build.image, job.parent, build.sources.uri, credentials, endpoint)
    return _create(job, request, credentials, endpoint)


def _check_datasets(client: storage.Client, train: TrainConfig, job: TrainingJob) -> list[Manifest]:
    """Raises LaunchError if the training would fail after its machines have started.

    -> the manifests of all data sets; none if one is at a /gcs/ path.
    """
    manifests = {}
    for folder, splits in train.reads.items():
        if folder.startswith("gs://"):
            content = read_bytes(client, f"{folder}/{FILE_NAME}", _CURES)
            manifests[folder] = open_manifest(folder, content, splits, job.hosts)
    check_together(manifests, train, [parameter.name for parameter in job.search.parameters] if job.search else [])
    return [*manifests.values()] if len(manifests) == len(train.reads) else []


def _check_output(client: storage.Client, train: TrainConfig, manifests: list[Manifest], hosts: int) -> None:
    """Raises LaunchError if the output has checkpoints of another run, which the trainer would not resume."""
    content = read_bytes(client, f"{train.places.output}/{CONFIG}", _CURES)
    if content is None or not _has_checkpoints(client, train.places.output):
        return
    datasets = {"dataset": datasets_identity([each.identity for each in manifests])} if manifests else {}
    now = train.identity | {"hosts": hosts} | datasets
    try:
        before = read_identity(content)
        is_finished = read_bytes(client, f"{train.places.output}/{FINISHED}", _CURES) is not None
        is_extended = is_finished and not is_shorter(now, before)
        problem = another_run(train.places.output, before, without_length(now, before) if is_extended else now)
    except ValueError as error:
        raise LaunchError(f"{train.places.output}/{CONFIG}: {error}; set another --output") from error
    if problem:
        raise LaunchError(problem)


def _has_checkpoints(client: storage.Client, output: str) -> bool:
    bucket, folder = split_path(output)
    with google_errors(output, _CURES):
        return any(client.list_blobs(bucket, prefix=f"{folder}/checkpoints/", max_results=1))


def upload(client: storage.Client, package: Package) -> None:
    """Uploads what is not there yet. Raises LaunchError if Google refuses, or can't be reached."""
    for uri, file in package.uploads.items():
        with google_errors(uri, _CURES):
            blob = blob_at(client, uri)
            if not blob.exists():  # its path contains the digest of its content
                blob.upload_from_filename(str(file))


def _create(job: TrainingJob, request: dict[str, Any], credentials: Credentials, endpoint: str | None) -> str:
    """-> the resource name of the job."""
    options = {"api_endpoint": endpoint or f"{job.region}-aiplatform.googleapis.com"}
    client = aiplatform_v1.JobServiceClient(credentials=credentials, transport="rest", client_options=options)
    text = json.dumps(request)
    with client, creating("the job", f"check with `{_gcloud(job, 'list')}`"):
        if job.search is None:
            custom = aiplatform_v1.CustomJob.from_json(text)
            return str(client.create_custom_job(parent=job.parent, custom_job=custom, timeout=_SECONDS).name)
        search = aiplatform_v1.HyperparameterTuningJob.from_json(text)
        made = client.create_hyperparameter_tuning_job(
            parent=job.parent, hyperparameter_tuning_job=search, timeout=_SECONDS
        )
        return str(made.name)


def creating(subject: str, check: str) -> contextlib.AbstractContextManager[None]:
    """Turns the errors of a request that creates something into a LaunchError; `check` tells how to find out."""
    return google_errors(subject, _CURES, f". It may have been created: {check} before you try again")


def instructions(job: TrainingJob, name: str) -> str:
    """The job's name, and how to follow and to cancel it, as lines for people."""
    number = name.rpartition("/")[2]
    rows = {
        "submitted": name,
        "follow": _gcloud(job, f"stream-logs {number}"),
        "cancel": _gcloud(job, f"cancel {number}"),
    }
    return "\n".join(f"{name:<10}{value}" for name, value in rows.items())


def _gcloud(job: TrainingJob, action: str) -> str:
    group = "hp-tuning-jobs" if job.search else "custom-jobs"
    return f"gcloud ai {group} {action} --project={job.project} --region={job.region}"
