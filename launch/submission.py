"""What talks to Google Cloud: the account, the data set, the upload, and the job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.auth.credentials import Credentials
from google.cloud import aiplatform_v1, storage

from beam_pipelines.contract.manifest import FILE_NAME, Manifest
from beam_pipelines.files.cloud import LOGIN
from launch.account import google_errors, login
from launch.checks.buckets import blob_at
from launch.checks.dataset import check_size, open_dataset
from launch.errors import LaunchError
from launch.jobs import Job
from launch.options import LaunchSettings
from trainer.config import CONFIG, TrainConfig, changes, read_identity

_CURES = {
    401: LOGIN,
    403: "ask for the roles Vertex AI User in the project and Storage Object Admin in the bucket, and see that "
    "aiplatform.googleapis.com is enabled",
    404: "check the project, the region and the bucket",
    429: "ask for quota of these machines in the region, or take fewer",
}
_SECONDS = 120.0  # for Google to answer; by default its client waits for 5


def submit(settings: LaunchSettings, request: dict[str, Any], sdist: Path | None, package: str | None) -> str:
    """Checks what can be checked for nothing, uploads the sdist and creates the job. -> what to tell the user.

    Raises:
      LaunchError: something was refused or not found; no job was created, unless the message says otherwise.
    """
    job, credentials = settings.job, login()
    client = storage.Client(project=job.project, credentials=credentials)
    try:
        manifest = _check_dataset(client, settings.train, job)
        if job.search is None:  # whose trials have folders of their own
            _check_output(client, settings.train, manifest, job.hosts)
        if sdist is not None and package is not None:
            _upload(client, sdist, package)
    finally:
        client.close()
    return _report(job, _create(job, request, credentials, settings.endpoint))


def _check_dataset(client: storage.Client, train: TrainConfig, job: Job) -> Manifest | None:
    """Raises LaunchError where the run would fail when its machines are already paid for."""
    if not train.places.dataset.startswith("gs://"):
        return None
    text = _read(client, f"{train.places.dataset}/{FILE_NAME}")
    manifest = open_dataset(train.places.dataset, text, (train.data.train_split, train.data.val_split), job.hosts)
    tuned = [parameter.name for parameter in job.search.parameters] if job.search else []
    check_size(manifest, train.places.dataset, train.data.crop_size is not None or "crop_size" in tuned)
    return manifest


def _check_output(client: storage.Client, train: TrainConfig, manifest: Manifest | None, hosts: int) -> None:
    """Raises LaunchError where another run has its checkpoints: the trainer would not go on with it."""
    text = _read(client, f"{train.places.output}/{CONFIG}")
    bucket, _, folder = train.places.output.removeprefix("gs://").partition("/")
    with google_errors(train.places.output, _CURES):
        if text is None or not any(client.list_blobs(bucket, prefix=f"{folder}/checkpoints/", max_results=1)):
            return
    now = train.identity | {"hosts": hosts} | ({"dataset": manifest.fingerprint} if manifest else {})
    try:
        changed = changes(read_identity(text), now)
    except ValueError as error:
        raise LaunchError(f"{train.places.output}/{CONFIG}: {error}; give another --output") from error
    if changed:
        raise LaunchError(
            f"{train.places.output} holds another run: {', '.join(changed)}. Give another --output, or the same values"
        )


def _upload(client: storage.Client, sdist: Path, uri: str) -> None:
    with google_errors(uri, _CURES):
        blob = blob_at(client, uri)
        if not blob.exists():  # its folder is named by its contents
            blob.upload_from_filename(str(sdist), content_type="application/gzip")


def _create(job: Job, request: dict[str, Any], credentials: Credentials, endpoint: str | None) -> str:
    """-> the name of the job's resource."""
    options = {"api_endpoint": endpoint or f"{job.region}-aiplatform.googleapis.com"}
    text = json.dumps(request)
    client = aiplatform_v1.JobServiceClient(credentials=credentials, transport="rest", client_options=options)
    where = f"--project={job.project} --region={job.region}"
    doubt = f". It may have been created all the same: look with `gcloud ai {_group(job)} list {where}`"
    with client, google_errors("the job", _CURES, doubt):
        if job.search is None:
            custom = aiplatform_v1.CustomJob.from_json(text)
            return str(client.create_custom_job(parent=job.parent, custom_job=custom, timeout=_SECONDS).name)
        search = aiplatform_v1.HyperparameterTuningJob.from_json(text)
        made = client.create_hyperparameter_tuning_job(
            parent=job.parent, hyperparameter_tuning_job=search, timeout=_SECONDS
        )
        return str(made.name)


def _report(job: Job, name: str) -> str:
    number = name.rpartition("/")[2]
    where = f"--project={job.project} --region={job.region}"
    rows = {
        "submitted": name,
        "follow": f"gcloud ai {_group(job)} stream-logs {number} {where}",
        "cancel": f"gcloud ai {_group(job)} cancel {number} {where}",
    }
    return "\n".join(f"{name:<10}{value}" for name, value in rows.items())


def _group(job: Job) -> str:
    """Of gcloud's commands."""
    return "hp-tuning-jobs" if job.search else "custom-jobs"


def _read(client: storage.Client, uri: str) -> str | None:
    """None where there is no such object."""
    with google_errors(uri, _CURES):
        blob = blob_at(client, uri)
        return str(blob.download_as_text()) if blob.exists() else None
