"""All checks in their order, each with a limit of time; prints a line for each finding."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from beam_pipelines.errors import BuildError
from launch.checks import buckets, dataset, versions
from launch.checks.cloud import Cloud, NotToldError
from launch.checks.finding import FAILURE, OK, SKIPPED, WARNING, Finding
from launch.checks.graph import check_graph
from launch.checks.settings import DoctorSettings
from launch.errors import LaunchError

NETWORK_SECONDS, WORK_SECONDS = 20.0, 300.0


@dataclass(frozen=True)
class Check:
    """`look` yields findings, or raises an error that is told as a failure; after `seconds` it is given up."""

    what: str
    look: Callable[[], Iterator[Finding]]
    seconds: float = NETWORK_SECONDS


def examine(settings: DoctorSettings) -> int:
    """Prints what is found, as it is found. -> the exit code: 1 where there is a failure."""
    counts: Counter[str] = Counter()
    for finding in (finding for check in _checks(settings) for finding in run(check)):
        print(finding, flush=True)
        counts[finding.status] += 1
    print(", ".join(f"{counts[status]} {status}" for status in (OK, WARNING, FAILURE, SKIPPED) if counts[status]))
    return int(counts[FAILURE] > 0)


def run(check: Check) -> Iterator[Finding]:
    """The check's findings, found in a thread that is left to itself when it takes too long."""
    found: queue.Queue[Finding | BaseException | None] = queue.Queue()

    def look() -> None:
        try:
            for finding in check.look():
                found.put(finding)
            found.put(None)
        except (LaunchError, BuildError) as error:
            status = SKIPPED if isinstance(error, NotToldError) else FAILURE
            found.put(Finding(status, check.what, str(error)))
            found.put(None)
        except BaseException as error:
            found.put(error)

    threading.Thread(target=look, daemon=True).start()
    deadline = time.monotonic() + check.seconds
    while True:
        try:
            finding = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            told = f"not done in {check.seconds:g} s, and given up: is the network, a proxy, or this machine too busy?"
            yield Finding(FAILURE, check.what, told)
            return
        if finding is None:
            return
        if isinstance(finding, BaseException):
            raise finding
        yield finding


def _checks(settings: DoctorSettings) -> Iterator[Check]:
    """What needs no network first, and what takes seconds last."""
    if "dataflow" in settings.jobs:
        yield Check("beam", lambda: versions.check_worker(settings.worker_image))
    if "vertex" in settings.jobs:
        yield Check("trainer image", lambda: versions.check_trainer(settings.trainer_image, settings.machine))
    if settings.dataset and not settings.dataset.startswith("gs://"):
        yield _dataset_check(settings.dataset, settings, dataset.local_reader(settings.dataset))
    cloud = Cloud(settings.project, settings.region, settings.endpoint)
    yield Check("account", cloud.check_account)
    yield from _cloud_checks(settings, cloud)
    if "dataflow" in settings.jobs:
        yield Check("graph", check_graph, WORK_SECONDS)


def _cloud_checks(settings: DoctorSettings, cloud: Cloud) -> Iterator[Check]:
    """What is asked of Google; the account's check has been made before, so that it is clear whether one can ask."""
    project, region, output, account = settings.project, settings.region, settings.output, cloud.credentials
    paths = [path for path in (output, settings.dataset) if path and path.startswith("gs://")]
    place = {"--project": project, "--region": region}
    rows: list[tuple[str, dict[str, str | None], Callable[[], Iterator[Finding]]]] = []
    rows.append(("APIs", {"--project": project}, lambda: cloud.check_apis(settings.jobs)))
    if "dataflow" in settings.jobs:
        rows.append(("worker quotas", place, lambda: cloud.check_workers(settings.workers, settings.disk_gb)))
    if "vertex" in settings.jobs:
        machine = settings.machine
        rows.append(("accelerators", place, lambda: cloud.check_accelerators(machine, settings.hosts, settings.spot)))
    for path in {_bucket_of(path): path for path in paths}.values():
        rows.append(("bucket", {}, partial(buckets.check_place, account, project, path, region)))
    rows.append(("writing", {"--output": output}, partial(buckets.check_writing, account, project, output or "")))
    for what, needed, look in rows:
        lacking = [option for option, value in needed.items() if not value]
        yield Check(what, look if account and not lacking else partial(_skip, what, lacking))
    if settings.dataset in paths:
        if account:
            reader = buckets.bucket_reader(account, project, settings.dataset)
            yield _dataset_check(settings.dataset, settings, reader)
        else:
            yield Check("data set", partial(_skip, "data set", []))


def _skip(what: str, lacking: Sequence[str]) -> Iterator[Finding]:
    yield Finding(SKIPPED, what, f"give {' and '.join(lacking)}" if lacking else "there is no account to ask with")


def _dataset_check(folder: str, settings: DoctorSettings, reader: dataset.Reader) -> Check:
    splits = [split for split in (settings.train_split, settings.val_split) if split]
    return Check("data set", partial(dataset.check_dataset, folder, splits, settings.hosts, reader))


def _bucket_of(path: str) -> str:
    return path.removeprefix("gs://").partition("/")[0]
