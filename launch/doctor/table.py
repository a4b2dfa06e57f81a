"""The table of all checks. A new check is a function in `launch.doctor.checks` and a row here.

Order, skipped checks and output follow from the rows: first what needs no network, last what takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from launch.buckets import split_path
from launch.dataset import Files, local_files
from launch.doctor.check import ACCOUNT, Check, Session
from launch.doctor.checks import account, apis, buckets, dataset, graph, quotas, versions
from launch.doctor.findings import Finding
from launch.doctor.options import DoctorSettings


def _is_local(settings: DoctorSettings) -> bool:
    return bool(settings.dataset) and not _is_remote(settings)


def _is_remote(settings: DoctorSettings) -> bool:
    return (settings.dataset or "").startswith("gs://")


def _has_own_bucket(settings: DoctorSettings) -> bool:
    """Whether the data set is in another bucket than the output."""
    return _is_remote(settings) and split_path(settings.dataset or "")[0] != split_path(settings.output or "")[0]


def _trainer(session: Session) -> Iterator[Finding]:
    return versions.check_trainer(session.settings.trainer_image, session.settings.machine)


def _account(session: Session) -> Iterator[Finding]:
    session.account, finding = account.check_account(session.settings.project, session.settings.endpoint)
    yield finding


def _workers(session: Session) -> Iterator[Finding]:
    project, region, chosen = session.option("project"), session.option("region"), session.settings
    return quotas.check_workers(session.google, project, region, chosen.workers, chosen.disk_gb)


def _accelerators(session: Session) -> Iterator[Finding]:
    project, region, chosen = session.option("project"), session.option("region"), session.settings
    return quotas.check_accelerators(session.google, project, region, chosen.machine, chosen.hosts, chosen.spot)


def _location(option: str, session: Session) -> Iterator[Finding]:
    credentials, chosen = session.google.credentials, session.settings
    return buckets.check_location(credentials, chosen.project, session.option(option), chosen.region)


def _writing(session: Session) -> Iterator[Finding]:
    return buckets.check_writing(session.google.credentials, session.settings.project, session.option("output"))


def _local_dataset(session: Session) -> Iterator[Finding]:
    return _dataset(session, local_files(session.option("dataset")))


def _remote_dataset(session: Session) -> Iterator[Finding]:
    folder = session.option("dataset")
    return _dataset(session, buckets.files(session.google.credentials, session.settings.project, folder))


def _dataset(session: Session, files: Files) -> Iterator[Finding]:
    splits = [split for split in (session.settings.train_split, session.settings.val_split) if split]
    return dataset.check_dataset(session.option("dataset"), splits, session.settings.hosts, files)


_PLACE = ("project", "region", ACCOUNT)
CHECKS = (
    Check("beam", lambda session: versions.check_worker(session.settings.worker_image), job="dataflow"),
    Check("trainer image", _trainer, job="vertex"),
    Check("data set", _local_dataset, when=_is_local),
    Check("account", _account),
    Check(
        "APIs",
        lambda session: apis.check_apis(session.google, session.option("project"), session.settings.jobs),
        needs=("project", ACCOUNT),
    ),
    Check("worker quotas", _workers, needs=_PLACE, job="dataflow"),
    Check("accelerators", _accelerators, needs=_PLACE, job="vertex"),
    Check("output bucket", partial(_location, "output"), needs=(ACCOUNT,), when=lambda chosen: bool(chosen.output)),
    Check("data set bucket", partial(_location, "dataset"), needs=(ACCOUNT,), when=_has_own_bucket),
    Check("writing", _writing, needs=("output", ACCOUNT)),
    Check("data set", _remote_dataset, needs=(ACCOUNT,), when=_is_remote),
    Check("graph", lambda _: graph.check_graph(), job="dataflow", seconds=300.0),
)
