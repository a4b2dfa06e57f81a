"""The table of all checks. A new check is a function in `launch.doctor.checks` and a row here.

Order, skipped checks and output follow from the rows: checks that need no network come first, slow ones last.
"""

from __future__ import annotations

from functools import partial

from launch.buckets import split_path
from launch.doctor.check import ACCOUNT, Check
from launch.doctor.checks import account, apis, buckets, dataset, graph, quotas, registry, versions
from launch.doctor.options import DoctorSettings


def _is_local(settings: DoctorSettings) -> bool:
    return bool(settings.dataset) and not _is_remote(settings)


def _is_remote(settings: DoctorSettings) -> bool:
    return (settings.dataset or "").startswith("gs://")


def _is_public(settings: DoctorSettings) -> bool:
    """Whether the training runs in the public image."""
    return settings.trainer_image is None and not settings.machine.is_tpu


def _has_own_bucket(settings: DoctorSettings) -> bool:
    """Whether the data set is in another bucket than the output."""
    return _is_remote(settings) and split_path(settings.dataset or "")[0] != split_path(settings.output or "")[0]


_LOCATION = buckets.check_location
_PLACE = ("project", "region", ACCOUNT)
CHECKS = (
    Check("beam", versions.check_worker, job="dataflow"),
    Check("trainer image", versions.check_trainer, job="vertex"),
    Check("data set", dataset.check_local, when=_is_local),
    Check("image tag", registry.check_tag, job="vertex", when=_is_public),
    Check("account", account.check_account),
    Check("APIs", apis.check_apis, needs=("project", ACCOUNT)),
    Check("worker quotas", quotas.check_workers, needs=_PLACE, job="dataflow"),
    Check("accelerators", quotas.check_accelerators, needs=_PLACE, job="vertex"),
    Check("output bucket", partial(_LOCATION, "output"), needs=(ACCOUNT,), when=lambda chosen: bool(chosen.output)),
    Check("data set bucket", partial(_LOCATION, "dataset"), needs=(ACCOUNT,), when=_has_own_bucket),
    Check("writing", buckets.check_writing, needs=("output", ACCOUNT)),
    Check("data set", dataset.check_remote, needs=(ACCOUNT,), when=_is_remote),
    Check("graph", graph.check_graph, job="dataflow", seconds=300.0),
)
