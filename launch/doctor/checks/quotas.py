"""Whether quotas suffice: of Compute Engine for Dataflow's workers, and of Vertex AI for accelerators."""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Iterator
from typing import Any

from google.api_core.exceptions import NotFound

from launch.doctor.check import Session
from launch.doctor.findings import FAILURE, OK, SKIPPED, WARNING, Finding
from launch.doctor.google import Google
from launch.errors import LaunchError
from launch.vertex.machines import ACCELERATORS

_PAGE = "https://console.cloud.google.com/iam-admin/quotas?project="
_SHARED_CPUS = ("e2", "n1", "custom")  # their vCPUs count as CPUS, those of other families as N2_CPUS and so on


def check_workers(session: Session) -> Iterator[Finding]:
    """Compares the free quotas of the region with what one worker needs, and with what all of them need.

    Raises:
      LaunchError: Google does not report the quotas.
    """
    project, region, workers = session.option("project"), session.option("region"), session.settings.workers
    found = session.google.get("compute", f"compute/v1/projects/{project}/regions/{region}")
    quotas = {quota["metric"]: quota for quota in found.get("quotas", ())}
    family = workers.machine_type.partition("-")[0]
    cpus = "CPUS" if family in _SHARED_CPUS else f"{family.upper()}_CPUS"
    needed = {
        "CPUs": (cpus, workers.vcpus),
        "addresses": ("IN_USE_ADDRESSES", 1),
        "disks": ("DISKS_TOTAL_GB", session.settings.disk_gb),
    }
    for name, (metric, per_worker) in needed.items():
        if metric in quotas:
            yield _compare_workers(name, quotas[metric], per_worker, workers.limit, project, region)
        else:
            message = f"{region} reports no quota {metric}: see {_PAGE}{project}"
            yield Finding(SKIPPED, message, name)


def _compare_workers(
    name: str, quota: dict[str, Any], per_worker: int, limit: int, project: str, region: str
) -> Finding:
    """A failure if not even one worker fits, a warning if fewer than `limit` do."""
    free, metric = quota["limit"] - quota.get("usage", 0), quota["metric"]
    fitting = int(free // per_worker)
    message = (
        f"{free:,g} of {quota['limit']:,g} {metric} free in {region}; {limit} workers need {per_worker * limit:,g}"
    )
    if fitting >= limit:
        return Finding(OK, message, name)
    private = ", or use --no_use_public_ips" if metric == "IN_USE_ADDRESSES" else ""
    fix = f"request more at {_PAGE}{project}, or set --max_num_workers={max(1, fitting)}{private}"
    return Finding(WARNING if fitting else FAILURE, f"{message}: {fix}", name)


def check_accelerators(session: Session) -> Iterator[Finding]:
    """Compares the quota of the region with what the job needs: Vertex AI has quotas of its own for accelerators.

    Raises:
      LaunchError: Google does not report the quota.
    """
    project, region, chosen = session.option("project"), session.option("region"), session.settings
    accelerator = chosen.machine.accelerator
    if accelerator not in ACCELERATORS:
        yield Finding(SKIPPED, f"the name of the quota of {accelerator} is not known here: see {_PAGE}{project}")
        return
    quota = ACCELERATORS[accelerator].quota
    if quota is None:
        yield Finding(SKIPPED, f"none requested: {chosen.hosts} x {chosen.machine}")
        return
    name = f"custom_model_training_{'preemptible_' if chosen.spot else ''}{quota}"
    limit, needed = _limit(session.google, project, region, name), chosen.hosts * chosen.machine.count
    if limit is None:
        message = f"{region} reports no quota {name}: see {_PAGE}{project}"
        yield Finding(SKIPPED, message)
    elif limit < needed:
        fix = f"request more at {_PAGE}{project}, or set another --region or --accelerator"
        yield Finding(FAILURE, f"{name} is {limit:,g} in {region}, the job needs {needed}: {fix}")
    else:
        yield Finding(OK, f"{name} is {limit:,g} in {region}, the job needs {needed}")


def _limit(google: Google, project: str, region: str, name: str) -> float | None:
    """The limit of a Vertex AI quota; None if it is unknown."""
    metric = urllib.parse.quote(f"aiplatform.googleapis.com/{name}", safe="")
    service = f"projects/{project}/services/aiplatform.googleapis.com"
    try:
        found = google.get("serviceusage", f"v1beta1/{service}/consumerQuotaMetrics/{metric}")
    except LaunchError as error:
        if isinstance(error.__cause__, NotFound):
            return None
        raise
    return _limit_in(found, region)


def _limit_in(metric: dict[str, Any], region: str) -> float | None:
    """The limit of the region, or else of any region. Google omits fields that are 0; -1 means unlimited."""
    buckets = [bucket for limit in metric.get("consumerQuotaLimits", ()) for bucket in limit.get("quotaBuckets", ())]
    for dimensions in ({"region": region}, {}):
        for bucket in buckets:
            if bucket.get("dimensions", {}) == dimensions:
                limit = int(bucket.get("effectiveLimit", 0))
                return limit if limit >= 0 else math.inf
    return None
