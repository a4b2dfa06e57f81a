"""A label file for annotations of regions, from the labels that they have."""

from __future__ import annotations

import json

from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.label_drafts.contents import Contents
from beam_pipelines.label_drafts.draft import comment
from beam_pipelines.pixels.polygons import BACKGROUND, NEVER_COUNTED
from beam_pipelines.wording import counted


def labels_of(contents: Contents) -> list[str]:
    """The labels, commonest first: by their images, their regions, and then by name."""
    counts = contents.regions
    return sorted(contents.names, key=lambda name: (-contents.names[name].masks, -counts[name], name))


def yaml_of_names(contents: Contents, head: str) -> str:
    """A table with a class for each label, but for the rarest of too many, in the order of the labels."""
    labels = [name for name in labels_of(contents) if name != NEVER_COUNTED]
    kept = labels[:IGNORE]
    ids = {name: number for number, name in enumerate([*sorted(kept), *labels[IGNORE:]])}
    lines = comment(head)
    if not set(labels) & set(BACKGROUND):
        lines.append(f"# Pixels outside all regions are ignored; a class named {BACKGROUND[0]} would have them.")
    lines += ["classes:", *(_line(name, ids[name], contents) for name in sorted(kept))]
    if labels[IGNORE:]:
        lines += ["ignore:", *(_line(name, ids[name], contents) for name in labels[IGNORE:])]
    return "\n".join([*lines, ""])


def _line(name: str, number: int, contents: Contents) -> str:
    regions, images = counted(contents.regions[name], "region"), counted(contents.masks, "image")
    count = f"{regions} in {contents.names[name].masks:,} of {images}"
    return f"  - {{name: {_quoted(name)}, ids: [{number}]}}  # {count}"


def _quoted(text: str) -> str:
    """As YAML and JSON have it; what YAML refuses or takes for the end of a line is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in quoted)
