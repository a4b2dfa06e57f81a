"""What the doctor is asked to look at."""

from __future__ import annotations

from dataclasses import dataclass

from launch.dataflow import Machines
from launch.machines import Machine


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """A parsed command line. `jobs` are those that are prepared; None is what was not given, and is not checked.

    Attributes:
      workers: the most that a build takes, with `disk_gb` GB each; `worker_image` is their own image, if there is one.
      machine: of each of the `hosts` that train; `trainer_image` is their own image, if there is one.
      endpoint: stands in for https://SERVICE.googleapis.com.
    """

    jobs: tuple[str, ...]
    project: str | None
    region: str | None
    output: str | None
    dataset: str | None
    train_split: str
    val_split: str
    workers: Machines
    disk_gb: int
    worker_image: str | None
    machine: Machine
    hosts: int
    spot: bool
    trainer_image: str | None
    endpoint: str | None
