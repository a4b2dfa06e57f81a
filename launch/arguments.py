"""The types of arguments that the launchers share: each takes the text as it is right, or says what it should be."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

# pattern, and what it stands for
_PROJECT = (r"[a-z][-a-z0-9:.]+[a-z0-9]", "a project id, like street-scenes-123 (its name and number are others)")
_REGION = (r"[a-z]+-[a-z]+\d+", "a region, like us-central1 (a zone has one more letter)")
_LABEL = (r"[a-z][-_a-z0-9]{0,62}=[-_a-z0-9]{0,63}", "KEY=VALUE of a-z, 0-9, - and _, a letter first, up to 63 each")
_IMAGE = (r"[a-zA-Z0-9][-\w.:/@]*", "a container image, like europe-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG")
_EMAIL = (r"[^@\s]+@[^@\s]+", "an account's email address")
_IN_BUCKET = (r"gs://[a-z0-9][-_.a-z0-9]+[a-z0-9](/.*)?", "in a bucket, gs://BUCKET/...")
_FOLDER = (r"gs://[a-z0-9][-_.a-z0-9]+[a-z0-9](/[^/\s]+)+/?", "a folder in a bucket, gs://BUCKET/FOLDER")
_MACHINE = re.compile(r"(?:.+-)?custom-(\d+)-\d+(?:-ext)?|[a-z]\d?[a-z]*-[a-z]+-(\d+)")


def matching(pattern: str, meaning: str) -> Callable[[str], str]:
    """An argparse type: text that the whole of the pattern fits."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
        return text

    return parse


project, region, label = matching(*_PROJECT), matching(*_REGION), matching(*_LABEL)
# Not empty either: an unset variable of a shell would silently take another image.
image, email = matching(*_IMAGE), matching(*_EMAIL)


def is_bucket_folder(text: str) -> bool:
    """Whether it is gs://BUCKET/FOLDER."""
    return re.fullmatch(_FOLDER[0], text) is not None


def is_in_bucket(text: str) -> bool:
    """Whether it is gs://BUCKET, or below that."""
    return re.fullmatch(_IN_BUCKET[0], text) is not None


def bucket_folder(text: str) -> str:
    """Without a slash at its end."""
    return matching(*_FOLDER)(text).rstrip("/")


def paths(text: str) -> str:
    """Several paths with commas; those that start like a bucket's must name one."""
    parts = [part.strip() for part in text.split(",")]
    return ",".join(matching(*_IN_BUCKET)(part) if part.startswith("gs:") else part for part in parts)


def machine_type(text: str) -> str:
    """Of Compute Engine, such that it says how many vCPUs it has."""
    if not _MACHINE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} does not say its vCPUs: like e2-standard-4 or n2-custom-4-16384")
    return text


def vcpus_of(machine: str) -> int:
    """Of a `machine_type`."""
    found = _MACHINE.fullmatch(machine)
    assert found
    return int(found[1] or found[2])
