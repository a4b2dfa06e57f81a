"""What a data set is called where a description needs a name: the manifest knows only its label table."""

from __future__ import annotations

import re

from beam_pipelines.contract.manifest import FORMAT_VERSION, Manifest

VERSION = f"{FORMAT_VERSION}.0.0"  # MAJOR.MINOR.PATCH


def name_of(manifest: Manifest) -> str:
    """An identifier."""
    return f"segmentation_{re.sub(r'[^0-9A-Za-z]+', '_', manifest.labels.name).strip('_').lower()}".rstrip("_")


def description_of(manifest: Manifest) -> str:
    """A sentence."""
    return f"Images and masks of train ids by the label table {manifest.labels.name}"
