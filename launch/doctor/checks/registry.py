"""Whether the public container image exists, as Docker Hub's API tells without an account."""

from __future__ import annotations

from collections.abc import Iterator

import requests

from launch.doctor.check import Session
from launch.doctor.findings import FAILURE, OK, SKIPPED, Finding
from launch.doctor.google import SECONDS
from launch.vertex.image import HUB, PUBLIC

_API = "https://hub.docker.com"


def check_tag(session: Session) -> Iterator[Finding]:
    """Asks for the image's tag: GET /v2/repositories/NAMESPACE/REPOSITORY/tags/TAG."""
    name = PUBLIC.uri(session.settings.machine.has_gpus)
    repository, _, tag = name.removeprefix(f"{HUB}/").partition(":")
    url = f"{session.settings.endpoint or _API}/v2/repositories/{repository}/tags/{tag}"
    try:
        answer = requests.get(url, timeout=SECONDS)
    except requests.RequestException:
        yield Finding(SKIPPED, "Docker Hub could not be reached")
        return
    if answer.status_code == requests.codes.not_found:
        yield Finding(FAILURE, f"Docker Hub has no {name}: set --container or --build_container")
    elif answer.status_code != requests.codes.ok:
        yield Finding(SKIPPED, f"Docker Hub answered {answer.status_code}; try again later")
    else:
        pushed = str(answer.json().get("tag_last_pushed") or "an unknown day").partition("T")[0]
        yield Finding(OK, f"Docker Hub has {name}, pushed on {pushed}")
