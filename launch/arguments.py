"""Argument types and options that the launch commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beam_pipelines.files.bucket_names import broken_by_bucket, broken_by_folder

# Pattern, and what it stands for.
_PROJECT = (r"[a-z][-a-z0-9:.]+[a-z0-9]", "a project ID such as street-scenes-123 (not the project's name or number)")
_REGION = (r"[a-z]+-[a-z]+\d+", "a region such as us-central1 (a zone has one more letter)")
_LABEL = (
    r"[a-z][-_a-z0-9]{0,62}=[-_a-z0-9]{0,63}",
    "KEY=VALUE, each up to 63 characters of a-z, 0-9, - and _, the key starting with a letter",
)
_IMAGE = (
    r"[a-zA-Z0-9][-\w.:/@]*",
    "a container image such as europe-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG",
)
# Without a tag; a location is a region or a multi-region.
BUILT_IMAGE = (
    r"(?P<location>[a-z][-a-z0-9]*)-docker\.pkg\.dev/(?P<project>[a-z][-a-z0-9]+)/(?P<repository>[a-z][-a-z0-9]*)/"
    r"(?P<name>[a-z0-9][-._a-z0-9]*)"
)
_EMAIL = (r"[^@\s]+@[^@\s]+", "the email address of an account")
_MACHINE = re.compile(r"(?:.+-)?custom-(\d+)-\d+(?:-ext)?|[a-z]\d?[a-z]*-[a-z]+-(\d+)")


def matching(pattern: str, meaning: str) -> Callable[[str], str]:
    """An argparse type: text that matches the whole pattern."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
        return text

    return parse


project, region, label = matching(*_PROJECT), matching(*_REGION), matching(*_LABEL)
# An empty text is refused, too: an unset shell variable would otherwise select the default image silently.
image, email = matching(*_IMAGE), matching(*_EMAIL)
built_image = matching(BUILT_IMAGE, "an image REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME without a tag")


def bucket_folder(text: str) -> str:
    """gs://BUCKET/FOLDER, without a slash at the end."""
    if rule := broken_by_folder(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder in a bucket, gs://BUCKET/FOLDER: {rule}")
    return text.rstrip("/")


def paths(text: str) -> str:
    """Comma-separated paths; each one that starts with gs: must name a bucket."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part.startswith("gs:") and (rule := broken_by_bucket(part)):
            raise argparse.ArgumentTypeError(f"{part!r} is not a path in a bucket, gs://BUCKET/...: {rule}")
    return ",".join(parts)


def labels(text: str) -> Sequence[str]:
    """Comma-separated KEY=VALUE labels."""
    return [label(part.strip()) for part in text.split(",")]


def machine_type(text: str) -> str:
    """A Compute Engine machine type whose name states its number of vCPUs."""
    if not _MACHINE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} does not state its number of vCPUs, as e2-standard-4 and n2-custom-4-16384 do"
        )
    return text


def vcpus_of(machine_type: str) -> int:
    """The number of vCPUs in the name of a `machine_type`."""
    found = _MACHINE.fullmatch(machine_type)
    assert found
    return int(found[1] or found[2])


def whole(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number of at least `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return parse


url = matching(r"https?://[^\s/]+(/\S*)?", "a URL such as https://europe-west4-aiplatform.googleapis.com")

Options = Mapping[str, Mapping[str, Any]]  # name -> the keyword arguments of argparse's add_argument

JOB: Options = {  # where a job runs
    "project": {"metavar": "ID", "type": project, "help": "Google Cloud project of the job"},
    "region": {"type": region, "help": "region of the job, such as us-central1; use the region of the bucket"},
    "output": {"metavar": "DIR", "type": bucket_folder, "help": "gs:// folder that the job writes to"},
    "endpoint": {"metavar": "URL", "type": url, "help": "address of the services; Google's unless set"},
}


def add(group: argparse._ArgumentGroup, options: Options, *names: str, **changes: Any) -> None:
    """Declares options of a table: those of `names`, or all of them. `changes` replace keyword arguments."""
    for name in names or options:
        row = {**options[name], **changes}
        group.add_argument(f"--{name}", *row.pop("aliases", ()), **row)
