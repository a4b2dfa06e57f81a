"""A label file for annotations of regions, from the labels that they have."""

from __future__ import annotations

import json

from beam_pipelines.label_drafts.colors import MOST_CLASSES
from beam_pipelines.label_drafts.contents import Contents
from beam_pipelines.pixels.polygons import BACKGROUND, NEVER_COUNTED


def labels_of(contents: Contents) -> list[str]:
    """The labels, commonest first: by their images, their regions, and then by name."""
    counts = contents.regions
    return sorted(contents.names, key=lambda name: (-contents.names[name].masks, -counts[name], name))


def yaml_of_names(contents: Contents, head: str) -> str:
    """A table with a class for each label, but for the rarest of too many, in the order of the labels."""
    labels = [name for name in labels_of(contents) if name != NEVER_COUNTED]
    kept = labels[:MOST_CLASSES]
    ids = {name: number for number, name in enumerate([*sorted(kept), *labels[MOST_CLASSES:]])}
    lines = [f"# {head}"]
    if not set(labels) & set(BACKGROUND):
        lines.append(f"# Pixels outside all regions are ignored; a class named {BACKGROUND[0]} would have them.")
    lines += ["classes:", *(_line(name, ids[name], contents) for name in sorted(kept))]
    if labels[MOST_CLASSES:]:
        lines += ["ignore:", *(_line(name, ids[name], contents) for name in labels[MOST_CLASSES:])]
    return "\n".join([*lines, ""])


def _line(name: str, number: int, contents: Contents) -> str:
    images = contents.names[name].masks
    count = f"{contents.regions[name]:,} regions in {images:,} of {contents.masks:,} images"
    return f"  - {{name: {json.dumps(name, ensure_ascii=False)}, ids: [{number}]}}  # {count}"
