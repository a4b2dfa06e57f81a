"""Builds launch/Dockerfile.trainer with Cloud Build, which pushes the image to Artifact Registry; needs no Docker here.

The requests are those of https://cloud.google.com/build/docs/api/reference/rest/v1/projects.locations.builds and
https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.tags/get.
"""

from __future__ import annotations

import time
from typing import Any

from google.api_core.exceptions import NotFound, from_http_response
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession

from launch.account import LOGIN, google_errors
from launch.buckets import split_path
from launch.errors import LaunchError
from launch.vertex.image import Built

POLL_SECONDS = 10.0
_SECONDS = 60.0  # timeout of a request
_TIMEOUT = 3600  # seconds, of a build
_DOCKER = "gcr.io/cloud-builders/docker"  # Cloud Build's own, with docker as its entry point
_RUNNING = ("STATUS_UNKNOWN", "PENDING", "QUEUED", "WORKING")
_CURES = {
    401: LOGIN,
    403: "ask for the roles Cloud Build Editor and Artifact Registry Reader in the project, and make sure that "
    "cloudbuild.googleapis.com and artifactregistry.googleapis.com are enabled",
    404: "check the project, the region and --build_container",
}


def ensure_image(image: Built, parent: str, sources: str, credentials: Credentials, endpoint: str | None) -> bool:
    """Builds and pushes the image unless the registry has it. -> whether it was built.

    Args:
      parent: projects/PROJECT/locations/REGION of the build.
      sources: gs:// path of the archive that it is built from.
      endpoint: stands in for https://SERVICE.googleapis.com.

    Raises:
      LaunchError: a request was refused, or the build failed.
    """
    with AuthorizedSession(credentials) as session, google_errors(f"the build of {image}", _CURES):
        if _exists(session, image, endpoint):
            return False
        builds = f"{_service('cloudbuild', endpoint)}/v1/{parent}/builds"
        started = _ask(session, "POST", builds, build_request(image, sources))
        _wait(session, f"{builds}/{started['metadata']['build']['id']}", image)
        return True


def build_request(image: Built, sources: str) -> dict[str, Any]:
    """The body of the request that builds the image."""
    bucket, name = split_path(sources)
    arguments = ["--file", "launch/Dockerfile.trainer", "--build-arg", f"ACCELERATOR={image.accelerator}"]
    return {
        "source": {"storageSource": {"bucket": bucket, "object": name}},
        "steps": [{"name": _DOCKER, "args": ["build", *arguments, "--tag", str(image), "."]}],
        "images": [str(image)],
        "timeout": f"{_TIMEOUT}s",
        "options": {"logging": "CLOUD_LOGGING_ONLY"},
    }


def _exists(session: AuthorizedSession, image: Built, endpoint: str | None) -> bool:
    try:
        _ask(session, "GET", f"{_service('artifactregistry', endpoint)}/v1/{image.resource}")
    except NotFound:
        return False
    return True


def _wait(session: AuthorizedSession, url: str, image: Built) -> None:
    """Waits for the end of a build. Raises LaunchError if it failed."""
    while (build := _ask(session, "GET", url)).get("status", _RUNNING[0]) in _RUNNING:
        time.sleep(POLL_SECONDS)
    if build["status"] != "SUCCESS":
        detail = build.get("failureInfo", {}).get("detail") or build.get("statusDetail") or "no reason given"
        raise LaunchError(
            f"the build of {image} ended with {build['status']}, {detail}: see {build.get('logUrl', 'its log')}; the "
            "repository has to exist, and the account of Cloud Build needs the role Artifact Registry Writer"
        )


def _ask(session: AuthorizedSession, method: str, url: str, body: Any = None) -> dict[str, Any]:
    """The JSON answer. Raises GoogleAPICallError if the request is refused."""
    answer = session.request(method, url, json=body, timeout=_SECONDS)
    if answer.status_code >= 400:
        raise from_http_response(answer)
    return dict(answer.json())


def _service(name: str, endpoint: str | None) -> str:
    return endpoint or f"https://{name}.googleapis.com"
