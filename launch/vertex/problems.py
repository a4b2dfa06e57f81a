"""Finds options that cannot work together, before anything is built, uploaded or requested."""

from __future__ import annotations

import os
import re

from beam_pipelines.files.bucket_names import broken_by_bucket, broken_by_folder
from beam_pipelines.files.names import BUILD, TRANSFORM_FOLDERS
from launch.vertex.machines import Machine
from launch.vertex.request import TrainingJob
from trainer.config import TrainConfig
from trainer.models.weights import INITIAL

_SHARED = ("gs://", "/gcs/")  # paths that all hosts of a job can read; Vertex AI mounts buckets at /gcs
_OF_RUNS = ("checkpoints", "logs", "model", "packages", "pipeline")  # what a job writes in its output
_OF_BUILDS = (BUILD, *TRANSFORM_FOLDERS)  # what a build deletes in its output
_TENSORBOARD = re.compile(r"projects/[^/]+/locations/([^/]+)/tensorboards/[^/]+")


def submission_problem(job: TrainingJob, train: TrainConfig, build_container: str | None) -> str | None:
    """Why the job cannot be submitted, with a fix; None if it can."""
    for option, value in {"project": job.project, "region": job.region}.items():
        if not value:
            return f"--{option} is required to submit a job"
    if not job.output.startswith("gs:"):
        return f"--output={job.output} must be gs://BUCKET/FOLDER: files on the machines of a job are lost when it ends"
    if rule := broken_by_folder(job.output):
        return f"--output={_as_given(job.output)} is not a folder in a bucket, gs://BUCKET/FOLDER: {rule}"
    if job.container and build_container:
        return "--container and --build_container name the image of the job: leave out one of them"
    return (
        next(filter(None, (_path_problem("dataset", folder) for folder in train.places.datasets)), None)
        or _path_problem("initial_model", train.model.initial_model)
        or _path_problem("backbone_weights", train.model.options.get("backbone_weights"))
        or _tracking_problem(train.reporting.track, job.container)
        or _tpu_problem(job.machine, job.container or build_container, job.hosts)
        or _tensorboard_problem(job.tensorboard, job.region, job.service_account)
    )


def output_problem(train: TrainConfig) -> str | None:
    """Why the run and a data set would write or delete each other's files, with a fix; None if they don't."""
    given = train.places.output
    output = _real(given)
    for dataset in train.places.datasets:
        folder = _real(dataset)
        if folder == output:
            problem = f"--output={given} is also --dataset: the run would write among the files of the data set"
        elif _first_below(output, folder) in _OF_RUNS:
            problem = f"--dataset={dataset} is in a folder that a run with --output={given} writes to"
        elif _first_below(folder, output) in _OF_BUILDS:
            problem = f"--output={given} is in a folder that a build of --dataset={dataset} deletes"
        else:
            continue
        return f"{problem}; choose another --output"
    return None


def _real(path: str) -> str:
    """The path in the form that two of the same folder have in common; Vertex AI mounts buckets at /gcs."""
    if path.startswith("/gcs/"):
        return f"gs://{path.removeprefix('/gcs/')}"
    return path if "://" in path else os.path.realpath(path)


def _first_below(folder: str, path: str) -> str:
    """The first part of `path` below `folder`; empty if it is not below it."""
    return path.removeprefix(f"{folder}/").partition("/")[0] if path.startswith(f"{folder}/") else ""


def rehearsal_problem(is_search: bool, is_dry_run: bool) -> str | None:
    """Why the job cannot be rehearsed, with a fix; None if it can."""
    if is_search or is_dry_run:
        return f"--local runs one training on this machine: leave out {'--tune' if is_search else '--dry_run'}"
    return None


def _as_given(path: str) -> str:
    """A path whose last slashes have been taken off."""
    return "gs://" if path == "gs:" else path


def _path_problem(option: str, path: str | None) -> str | None:
    if path and path.startswith("gs:") and (rule := broken_by_bucket(path)):
        return f"--{option}={_as_given(path)} is not a path in a bucket, gs://BUCKET/...: {rule}"
    if path and path not in ("none", "imagenet", INITIAL) and not path.startswith(_SHARED):
        return f"--{option}={path} is a local path, which a job cannot read: copy it to gs:// and use that path"
    return None


def _tracking_problem(track: str | None, container: str | None) -> str | None:
    """The variables of a tracker may be secrets, which a request must not have."""
    if track and not container:
        return (
            f"--track={track}: the public image does not know where to track to; set --container to an image with "
            "the tracker's package and settings, or leave out --track"
        )
    return None


def _tpu_problem(machine: Machine, container: str | None, hosts: int) -> str | None:
    if machine.is_tpu and not container:
        return "a TPU needs --container or --build_container: the public image of TensorFlow has no support for TPUs"
    if machine.is_tpu and hosts > 1:
        return f"--hosts={hosts}: training on a TPU runs on one host; leave out --hosts"
    return None


def _tensorboard_problem(tensorboard: str | None, region: str, service_account: str | None) -> str | None:
    if not tensorboard:
        return None
    found = _TENSORBOARD.fullmatch(tensorboard)
    if not found:
        return f"--tensorboard={tensorboard} is not projects/PROJECT/locations/REGION/tensorboards/ID"
    if found[1] != region:
        return f"--tensorboard is in {found[1]} and the job in {region}: both must be in the same region"
    if not service_account:
        return "--tensorboard needs --service_account: the account that writes to it"
    return None
