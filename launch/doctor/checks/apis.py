"""Whether the APIs that jobs use are enabled in the project."""

from __future__ import annotations

from collections.abc import Iterator

from launch.doctor.check import Session
from launch.doctor.findings import FAILURE, OK, Finding

APIS = {
    "dataflow": ("dataflow.googleapis.com", "compute.googleapis.com", "storage.googleapis.com"),
    "vertex": ("aiplatform.googleapis.com", "storage.googleapis.com"),
}


def check_apis(session: Session) -> Iterator[Finding]:
    """Raises LaunchError if Google does not report which APIs are enabled."""
    project = session.option("project")
    needed = sorted({api for job in session.settings.jobs for api in APIS[job]})
    names = "&".join(f"names=projects/{project}/services/{api}" for api in needed)
    found = session.google.get("serviceusage", f"v1/projects/{project}/services:batchGet?{names}")
    states = {service["name"].rpartition("/")[2]: service.get("state") for service in found.get("services", ())}
    disabled = [api for api in needed if states.get(api) != "ENABLED"]
    if disabled:
        fix = f"`gcloud services enable {' '.join(disabled)} --project={project}`"
        yield Finding(FAILURE, f"not enabled: {', '.join(disabled)}; enable with {fix}")
    else:
        yield Finding(OK, f"enabled: {', '.join(needed)}")
