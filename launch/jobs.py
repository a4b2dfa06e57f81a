"""Vertex AI's job requests as plain values, and what they cost at most. Nothing here talks to the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.machines import Machine

METRIC = "mean_iou"  # trainer.training.journal reports it under this name; a test holds them to be the same
# The newest that Google lists: Python 3.10, TensorFlow 2.17, "end of availability" on this day.
PREBUILT, PREBUILT_UNTIL = "vertex-ai/training/tf-{kind}.2-17.py310:latest", "2026-07-11"
PREBUILT_MODULE = "launch.start"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A trainer's option that a search sets: one of `values`, or from `low` to `high`; then `whole` or not."""

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    logarithmic: bool = False

    def to_request(self) -> dict[str, Any]:
        """The request's ParameterSpec."""
        if self.values:
            return {"parameterId": self.name, "categoricalValueSpec": {"values": list(self.values)}}
        number = int if self.whole else float
        return {
            "parameterId": self.name,
            ("integer" if self.whole else "double") + "ValueSpec": {
                "minValue": number(self.low),
                "maxValue": number(self.high),
            },
            "scaleType": "UNIT_LOG_SCALE" if self.logarithmic else "UNIT_LINEAR_SCALE",
        }

    def __str__(self) -> str:
        if self.values:
            return f"{self.name} in {', '.join(self.values)}"
        return f"{self.name} {self.low:g} to {self.high:g}" + (" (log)" if self.logarithmic else "")


@dataclass(frozen=True, kw_only=True)
class Search:
    """A hyperparameter search for the highest mean IoU."""

    parameters: tuple[Parameter, ...]
    trials: int
    parallel: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that decides a job. `container` is the image of our own Dockerfile; None takes the prebuilt one."""

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
        continent = self.region.partition("-")[0]
        host = {"europe": "europe", "asia": "asia", "australia": "asia"}.get(continent, "us")
        kind = "gpu" if self.machine.has_gpus else "cpu"
        return self.container or f"{host}-docker.pkg.dev/{PREBUILT.format(kind=kind)}"


def request_of(job: Job, package: str | None) -> dict[str, Any]:
    """The body of the REST request that creates the job: a CustomJob, or a HyperparameterTuningJob.

    `package` is the gs:// address of the sdist, which a prebuilt image installs.
    """
    spec: dict[str, Any] = {
        "workerPoolSpecs": _pools(job, package),
        "scheduling": _scheduling(job),
        "baseOutputDirectory": {"outputUriPrefix": job.output},
    }
    if job.service_account:
        spec["serviceAccount"] = job.service_account
    if job.tensorboard:
        spec["tensorboard"] = job.tensorboard
    request: dict[str, Any] = {"displayName": job.name}
    if job.labels:
        request["labels"] = dict(job.labels)
    if job.search is None:
        return request | {"jobSpec": spec}
    return request | {
        "studySpec": {
            "metrics": [{"metricId": METRIC, "goal": "MAXIMIZE"}],
            "parameters": [parameter.to_request() for parameter in job.search.parameters],
        },
        "maxTrialCount": job.search.trials,
        "parallelTrialCount": job.search.parallel,
        "trialJobSpec": spec,
    }


def _pools(job: Job, package: str | None) -> list[dict[str, Any]]:
    """The chief alone, then the workers: all with the same machine and command."""
    pool = {"machineSpec": job.machine.to_request(), **_program(job, package)}
    counts = [1, job.hosts - 1] if job.hosts > 1 else [1]
    return [{"replicaCount": count, **pool} for count in counts]


def _program(job: Job, package: str | None) -> dict[str, Any]:
    environment = {"PYTHONUNBUFFERED": "1", **job.machine.environment}  # the log shows a line when it is printed
    shared = {
        "args": list(job.trainer_options),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
    }
    if job.container:
        return {"containerSpec": {"imageUri": job.image, **shared}}
    return {
        "pythonPackageSpec": {
            "executorImageUri": job.image,
            "packageUris": [package],
            "pythonModule": PREBUILT_MODULE,
            **shared,
        }
    }


def _scheduling(job: Job) -> dict[str, Any]:
    return {
        "timeout": f"{round(job.timeout_hours * 3600)}s",
        # A host that comes back alone would wait for the others forever; together they go on at the checkpoint.
        "restartJobOnWorkerRestart": True,
        "strategy": "SPOT" if job.spot else "STANDARD",
    }


def describe(job: Job, dataset: str, package: str | None) -> str:
    """What will be created, and what it can use up at most: lines for people."""
    trials = job.search.trials if job.search else 1
    kind = "hyperparameter tuning job" if job.search else "custom job"
    hosts = f" (chief and {job.hosts - 1} worker{'s' if job.hosts > 2 else ''})" if job.hosts > 1 else ""
    hours = trials * job.hosts * job.timeout_hours
    limit = f"{job.timeout_hours:g} h" + (f" x {trials} trials" if job.search else "")
    accelerators = f", {hours * job.machine.count:,g} accelerator hours" if job.machine.count else ""
    rows = {
        "job": f"{kind} {job.name} in {job.project}, {job.region}",
        "machines": f"{job.hosts} x {job.machine}{hosts}, "
        + ("spot: restarted when preempted, and goes on at its checkpoint" if job.spot else "on demand"),
        "at most": f"{limit}: {hours:,g} machine hours{accelerators}",
        "image": job.image
        + ("" if job.container else f" (Google listed it until {PREBUILT_UNTIL}: if it is gone, give --container)"),
        "code": package or "as it was built into the image",
        "data": dataset,
        "results": f"{job.output}/",
    }
    if job.search:
        rows["search"] = f"highest {METRIC}, {job.search.parallel} trials at a time: " + "; ".join(
            map(str, job.search.parameters)
        )
    return "\n".join(f"{name:<10}{value}" for name, value in rows.items())
