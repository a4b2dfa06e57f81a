"""The types of arguments that the launchers share: each takes the text as it is right, or says what it should be."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

# pattern, and what it stands for
_PROJECT = (r"[a-z][-a-z0-9:.]+[a-z0-9]", "a project id, like street-scenes-123 (its name and number are others)")
_REGION = (r"[a-z]+-[a-z]+\d+", "a region, like us-central1 (a zone has one more letter)")
_LABEL = (r"[a-z][-_a-z0-9]{0,62}=[-_a-z0-9]{0,63}", "KEY=VALUE of a-z, 0-9, - and _, a letter first, up to 63 each")
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


def bucket_folder(text: str) -> str:
    """Without a slash at its end."""
    return matching(*_FOLDER)(text).rstrip("/")


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
