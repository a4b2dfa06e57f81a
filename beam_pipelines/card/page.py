"""`card/index.html`: what is in a data set, at a glance and in pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_pipelines.card import classes, distributions, drift, duplicates, heat_maps, rejects, samples
from beam_pipelines.card.statistics import FIRST, Statistics
from beam_pipelines.contract import pages
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import FORMAT_VERSION, Manifest
from beam_pipelines.contract.pages.pictures import legend_of
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.wording import counted

_PACKAGE = "beam_pipelines.card"
_MEANT = {"image_size": "height, width"}  # fields of the recipe whose numbers don't tell what they are


def render(manifest: Manifest, statistics: Mapping[str, Statistics], workspace: Workspace) -> str:
    """The page. It has nothing that differs between two builds of the same inputs and recipe.

    Raises:
      BuildError: a shard, an index, `rejected.jsonl` or `duplicates.jsonl` is damaged.
    """
    return pages.render(_PACKAGE, "card.html", values_of(manifest, statistics, workspace))


def values_of(manifest: Manifest, statistics: Mapping[str, Statistics], workspace: Workspace) -> dict[str, Any]:
    """What the template shows."""
    main = manifest.main_split
    order = sorted(statistics, key=lambda split: (split != main, split.startswith("test"), split))
    splits = {split: statistics[split] for split in order}
    rows = classes.class_rows(manifest.labels, splits, main)
    return {
        "counted": counted,
        "manifest": manifest,
        "main": main,
        "splits": splits,
        "rows": rows,
        "present": [row for row in rows if row.pixels],
        "absent": [row.name for row in rows if not row.pixels],
        "ignored": int(splits[main].class_pixels[-1]) / max(1, int(splits[main].class_pixels.sum())),
        "labels": legend_of(manifest.labels),
        "drifts": classes.drifts(rows, splits, main),
        "notable": drift.NOTABLE,
        "notable_factor": drift.NOTABLE_FACTOR,
        "expected": drift.EXPECTED,
        "few_examples": drift.FEW_EXAMPLES,
        "class_charts": classes.class_charts(rows, splits),
        "charted": classes.CHARTED,
        "heat_maps": _heat_maps(rows, splits),
        "together": classes.together(rows, splits),
        "sizes": distributions.sizes(splits),
        "image_charts": distributions.image_charts(splits),
        "normalization_chart": distributions.normalization_chart(manifest.moments),
        "moments": distributions.moments_table(manifest),
        "samples": samples.samples(manifest, splits, rows, workspace),
        "first": FIRST,
        "duplicates": duplicates.duplicates(manifest, workspace),
        "uncolored": [row.name for row in manifest.labels.classes if row.color is None],
        "rejected": rejects.rejected_reasons(manifest, workspace),
        "recipe": _recipe(manifest.recipe),
        "ignore": IGNORE,
        "format_version": FORMAT_VERSION,
    }


def _recipe(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields that have a value, as text."""
    return [
        (
            f"{name} ({_MEANT[name]})" if name in _MEANT else name,
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        )
        for name, value in recipe.items()
        if value not in (None, [], {})
    ]


def _heat_maps(rows: list[classes.ClassRow], splits: Mapping[str, Statistics]) -> list[heat_maps.HeatMap]:
    """Over all splits."""
    cells = np.sum([each.heat_maps for each in splits.values()], axis=0)
    pixels = cells.sum(0)
    return [found for row in rows if (found := heat_maps.heat_map(row.name, cells[row.train_id], pixels))]
