"""A training job, its REST request and a summary for people. Sends no requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.start import extras_of
from launch.vertex import bootstrap
from launch.vertex.image import PUBLIC
from launch.vertex.machine_types import is_known
from launch.vertex.machines import Machine
from launch.vertex.package import Package
from launch.vertex.search import METRIC, Search

BOOTSTRAP = Path(bootstrap.__file__).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Everything that defines a job. `container` is an image with the trainer; None uses a public one."""

    name: str
    project: str
    region: str
    output: str
    trainer_options: tuple[str, ...]
    machine: Machine
    hosts: int = 1
    container: str | None = None
    spot: bool = False
    timeout_hours: float = 24.0
    service_account: str | None = None
    tensorboard: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    search: Search | None = None

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def image(self) -> str:
        return self.container or PUBLIC.uri(self.machine.has_gpus)


def make_request(job: TrainingJob, package: Package | None) -> dict[str, Any]:
    """The body of the request that creates the job: a CustomJob, or a HyperparameterTuningJob.

    `package` is what the public image installs; None if the job runs in a container that has the code.
    """
    spec: dict[str, Any] = {
        "workerPoolSpecs": _worker_pools(job, package),
        "scheduling": _scheduling(job.timeout_hours, job.spot),
        "baseOutputDirectory": {"outputUriPrefix": job.output},
    }
    if job.service_account:
        spec["serviceAccount"] = job.service_account
    if job.tensorboard:
        spec["tensorboard"] = job.tensorboard
    request: dict[str, Any] = {"displayName": job.name}
    if job.labels:
        request["labels"] = dict(job.labels)
    return request | ({**job.search.to_request(), "trialJobSpec": spec} if job.search else {"jobSpec": spec})


def _worker_pools(job: TrainingJob, package: Package | None) -> list[dict[str, Any]]:
    """The chief, then the workers, all with the same machine and command."""
    pool = {"machineSpec": job.machine.to_request(), **_program(job, package)}
    counts = [1, job.hosts - 1] if job.hosts > 1 else [1]
    return [{"replicaCount": count, **pool} for count in counts]


def _program(job: TrainingJob, package: Package | None) -> dict[str, Any]:
    """The ContainerSpec of a worker pool. The entry point of a container that has the code is trainer.task."""
    environment = {"PYTHONUNBUFFERED": "1", **job.machine.environment}  # log lines appear without delay
    command = {"command": ["python3", "-c", BOOTSTRAP]} if package else {}
    return {
        "containerSpec": {
            "imageUri": job.image,
            **command,
            "args": [*(_start_arguments(job, package) if package else ()), *job.trainer_options],
            "env": [{"name": name, "value": value} for name, value in environment.items()],
        }
    }


def _start_arguments(job: TrainingJob, package: Package) -> list[str]:
    """The arguments of the bootstrap, and of launch.start."""
    gpus = [f"--gpus={job.machine.count}"] if job.machine.has_gpus else []
    return [*package.uploads, f"--extras={','.join(extras_of(job.trainer_options))}", *gpus]


def _scheduling(timeout_hours: float, spot: bool) -> dict[str, Any]:
    return {
        "timeout": f"{round(timeout_hours * 3600)}s",
        # A host that restarts alone would wait for the others forever; together they resume from the checkpoint.
        "restartJobOnWorkerRestart": True,
        "strategy": "SPOT" if spot else "STANDARD",
    }


def summarize(job: TrainingJob, dataset: str, package: Package | None, is_built: bool = False) -> str:
    """A summary of what will be created, and of the most that it can use, as lines for people.

    `is_built` tells that Cloud Build makes the image, unless it exists.
    """
    kind = "hyperparameter tuning job" if job.search else "custom job"
    rows = {
        "job": f"{kind} {job.name} in {job.project}, {job.region}",
        "machines": _machines(job),
        "at most": _limit(job),
        "image": job.image + (" (built by Cloud Build unless it exists)" if is_built else ""),
        "code": package.uri if package else "as installed in the image",
        "data": dataset,
        "results": f"{job.output}/",
    }
    if job.search:
        tuned = "; ".join(map(str, job.search.parameters))
        rows["search"] = f"highest {METRIC}, {job.search.parallel_trials} trials at a time: {tuned}"
    return "\n".join(f"{name:<10}{value}" for name, value in rows.items())


def _machines(job: TrainingJob) -> str:
    workers = f" (chief and {job.hosts - 1} worker{'s' if job.hosts > 2 else ''})" if job.hosts > 1 else ""
    market = "spot: after a preemption the job restarts and resumes from its checkpoint" if job.spot else "on demand"
    unknown = "" if is_known(job.machine.type) else "; only Vertex AI knows what this machine type has"
    return f"{job.hosts} x {job.machine}{workers}, {market}{unknown}"


def _limit(job: TrainingJob) -> str:
    """The most that the job can use: its time limit, for all hosts and trials."""
    trials = job.search.trials if job.search else 1
    hours = trials * job.hosts * job.timeout_hours
    timeout = f"{job.timeout_hours:g} h" + (f" x {trials} trials" if job.search else "")
    accelerators = f", {hours * job.machine.count:,g} accelerator hours" if job.machine.count else ""
    return f"{timeout}: {hours:,g} machine hours{accelerators}"
