"""The label ids of Cityscapes, which its evaluation takes."""

from __future__ import annotations

import numpy as np

from beam_pipelines.contract.errors import UserError
from beam_pipelines.contract.labels import BUILTIN_TABLES, Label, LabelTable


class SubmissionError(UserError, ValueError):
    """A model of other classes than the benchmark has; the message says how to fix it."""


def label_ids_of(labels: LabelTable, option: str) -> np.ndarray:
    """uint8[C]: train id -> the official label id of the class of that name.

    option: what needs them, for the message.

    Raises:
      SubmissionError: the classes are not exactly those of the benchmark.
    """
    name = option.partition("=")[0]
    official = BUILTIN_TABLES["cityscapes19"]().classes
    id_of = {row.name: row.source_ids[0] for row in official}
    make = BUILTIN_TABLES.get(labels.name)
    is_built_in = make is not None and make() == labels  # such as a map of another data set to these classes
    wrong = [
        row.name for row in labels.classes if not (_is_official(row, official) or (is_built_in and row.name in id_of))
    ]
    missing = sorted(id_of.keys() - {row.name for row in labels.classes})
    if wrong or missing:
        listed = [
            f"{title}: {', '.join(names)}" for title, names in (("foreign", wrong), ("missing", missing)) if names
        ]
        raise SubmissionError(
            f"{option} needs a model of Cityscapes' {len(official)} classes, with their names and ids; the "
            f"model's label table {labels.name!r} has others ({'; '.join(listed)}): leave out {name}, or "
            "train on a data set that is built with --labels=cityscapes19"
        )
    return np.array([id_of[row.name] for row in labels.classes], np.uint8)


def _is_official(row: Label, official: tuple[Label, ...]) -> bool:
    """Whether a class of the benchmark has the same name, and its label id or train id is the only source id."""
    return any(row.name == known.name and row.source_ids in (known.source_ids, (known.train_id,)) for known in official)
