"""The account, the APIs and the quotas of a project, as Google tells them. Everything is asked once, with a limit."""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from google.api_core.exceptions import Forbidden, NotFound, from_http_response
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession, Request

from beam_pipelines.files.cloud import LOGIN
from launch.account import google_errors, login
from launch.checks.finding import FAILURE, OK, SKIPPED, WARNING, Finding
from launch.dataflow import Machines
from launch.errors import LaunchError
from launch.machines import QUOTAS, Machine

SECONDS = 5.0  # for an answer
APIS = {
    "dataflow": ("dataflow.googleapis.com", "compute.googleapis.com", "storage.googleapis.com"),
    "vertex": ("aiplatform.googleapis.com", "storage.googleapis.com"),
}
_CURES = {
    401: LOGIN,
    403: "ask for the role Viewer in the project, and see that serviceusage.googleapis.com is on",
    404: "check --project and --region",
}
_MORE = "https://console.cloud.google.com/iam-admin/quotas?project="
_SHARED_CPUS = ("e2", "n1")  # their vCPUs count as CPUS, those of other families as N2_CPUS and so on


class NotToldError(LaunchError):
    """Nothing is known to be wrong: it could not be asked."""


class Cloud:
    """What one account may see of a project. `endpoint` stands in for https://SERVICE.googleapis.com."""

    def __init__(self, project: str | None, region: str | None, endpoint: str | None) -> None:
        self.project, self.region, self._endpoint = project, region, endpoint
        self.credentials: Credentials | None = None  # until `check_account` has found them

    def check_account(self) -> Iterator[Finding]:
        """Raises LaunchError where there is no account, or it is refused."""
        credentials = login()
        with google_errors("a token for the account", _CURES):
            credentials.refresh(_quick)
        name = getattr(credentials, "service_account_email", None) or self._email(credentials)
        if self.project and not getattr(credentials, "service_account_email", None):
            credentials = credentials.with_quota_project(self.project)  # which Google asks for of people
        self.credentials = credentials
        yield Finding(OK, "account", name)

    def check_apis(self, jobs: Sequence[str]) -> Iterator[Finding]:
        """Whether what the jobs use is switched on. Raises LaunchError where nothing tells."""
        needed = sorted({api for job in jobs for api in APIS[job]})
        names = "&".join(f"names=projects/{self.project}/services/{api}" for api in needed)
        found = self._ask("serviceusage", f"v1/projects/{self.project}/services:batchGet?{names}")
        states = {service["name"].rpartition("/")[2]: service.get("state") for service in found.get("services", ())}
        off = [api for api in needed if states.get(api) != "ENABLED"]
        if off:
            told = f"{', '.join(off)} off: `gcloud services enable {' '.join(off)} --project={self.project}`"
            yield Finding(FAILURE, "APIs", told)
        else:
            yield Finding(OK, "APIs", f"{', '.join(needed)} on")

    def check_workers(self, machines: Machines, disk_gb: int) -> Iterator[Finding]:
        """Whether the region has room for one worker, which a job needs, and for all that it may take."""
        found = self._ask("compute", f"compute/v1/projects/{self.project}/regions/{self.region}")
        quotas = {quota["metric"]: quota for quota in found.get("quotas", ())}
        family = machines.kind.partition("-")[0]
        cpus = "CPUS" if family in (*_SHARED_CPUS, "custom") else f"{family.upper()}_CPUS"
        each = {
            "CPUs": (cpus, machines.vcpus),
            "addresses": ("IN_USE_ADDRESSES", 1),
            "disks": ("DISKS_TOTAL_GB", disk_gb),
        }
        for what, (metric, amount) in each.items():
            yield self._room(what, metric, amount, machines.most, quotas.get(metric))

    def _room(self, what: str, metric: str, amount: int, most: int, quota: dict[str, float] | None) -> Finding:
        if quota is None:
            return Finding(SKIPPED, what, f"{self.region} tells no quota {metric}: look at {_MORE}{self.project}")
        free = quota["limit"] - quota.get("usage", 0)
        workers = int(free // amount)
        told = f"{free:,g} of {quota['limit']:,g} {metric} free in {self.region}, {amount * most:,g} for {most} workers"
        if workers >= most:
            return Finding(OK, what, told)
        without = ", or --no_use_public_ips" if metric == "IN_USE_ADDRESSES" else ""
        told += f": ask for more at {_MORE}{self.project}, or take --max_num_workers={max(1, workers)}{without}"
        return Finding(WARNING if workers else FAILURE, what, told)

    def check_accelerators(self, machine: Machine, hosts: int, spot: bool) -> Iterator[Finding]:
        """Vertex AI has quotas of its own for these, which are not those of Compute Engine."""
        if machine.accelerator not in QUOTAS:
            yield Finding(SKIPPED, "accelerators", f"none asked for: {hosts} x {machine}")
            return
        name = f"custom_model_training_{'preemptible_' if spot else ''}{QUOTAS[machine.accelerator]}"
        metric = urllib.parse.quote(f"aiplatform.googleapis.com/{name}", safe="")
        service = f"projects/{self.project}/services/aiplatform.googleapis.com"
        try:
            found = self._ask("serviceusage", f"v1beta1/{service}/consumerQuotaMetrics/{metric}")
        except LaunchError as error:
            if not isinstance(error.__cause__, NotFound):
                raise
            found = {}
        limit = _limit_in(found, self.region or "")
        needed = hosts * machine.count
        if limit is None:
            told = f"nothing tells {name} in {self.region}: look at {_MORE}{self.project}"
            yield Finding(SKIPPED, "accelerators", told)
        elif limit < needed:
            told = f"{name} is {limit:,g} in {self.region}, {needed} asked for: ask for more at {_MORE}{self.project}"
            yield Finding(FAILURE, "accelerators", told + ", or take another --region or --accelerator")
        else:
            yield Finding(OK, "accelerators", f"{name} is {limit:,g} in {self.region}, {needed} asked for")

    def _ask(self, service: str, path: str) -> dict[str, Any]:
        """GET.

        Raises:
          NotToldError: this account may not know; the job's may all the same do what it has to.
          LaunchError: it is refused for another reason, or nobody answers.
        """
        assert self.credentials is not None
        base = self._endpoint or f"https://{service}.googleapis.com"
        try:
            with google_errors(f"{service}.googleapis.com", _CURES), AuthorizedSession(self.credentials) as session:
                answer = session.get(f"{base}/{path}", timeout=SECONDS)
                if answer.status_code >= 400:
                    raise from_http_response(answer)
                return dict(answer.json())
        except LaunchError as error:
            if isinstance(error.__cause__, Forbidden):
                raise NotToldError(str(error)) from error
            raise

    def _email(self, credentials: Credentials) -> str:
        """Of a person's account, whose file does not say it."""
        base = self._endpoint or "https://oauth2.googleapis.com"
        try:
            with google_errors("oauth2.googleapis.com", _CURES):
                answer = AuthorizedSession(credentials).post(
                    f"{base}/tokeninfo", data={"access_token": credentials.token}, timeout=SECONDS
                )
            return str(answer.json()["email"])
        except (LaunchError, ValueError, KeyError, TypeError):
            return "a person's account, whose name is not told"


def _limit_in(metric: dict[str, Any], region: str) -> float | None:
    """Of the region, or where it has none of its own, of any region; None where nothing tells. Of a number that is 0
    Google leaves out the field; -1 is no limit.
    """
    buckets = [bucket for limit in metric.get("consumerQuotaLimits", ()) for bucket in limit.get("quotaBuckets", ())]
    for dimensions in ({"region": region}, {}):
        for bucket in buckets:
            if bucket.get("dimensions", {}) == dimensions:
                limit = int(bucket.get("effectiveLimit", 0))
                return limit if limit >= 0 else math.inf
    return None


def _quick(*args: Any, **options: Any) -> Any:
    """google.auth's way to ask, which by default waits for two minutes."""
    return Request()(*args, **options | {"timeout": SECONDS})
