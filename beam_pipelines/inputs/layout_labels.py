"""The label table that fits the masks of an input, by its layout."""

from __future__ import annotations

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTable, LabelTableError
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.inputs.sources import Source


def labels_of(source: Source) -> LabelTable | None:
    """The data set's own table, if it has one, or the built-in one of its layout; None if the layout has none.

    Raises:
      LabelTableError: the data set's own table is missing or can't be read.
    """
    if source.files is None or source.detected is None:
        return None
    masks = source.detected.masks[0]
    own = sorted(filter(masks.table.matches, source.files)) if masks.table else []
    if own:
        return _own_table(source.files[own[0]][0])
    if masks.table and not masks.labels:
        raise LabelTableError(
            f"{source.inputs} has no {masks.table.shown}, which names the classes of its masks ({masks.name}): add it, "
            "or give --labels"
        )
    return BUILTIN_TABLES[masks.labels]() if masks.labels else None


def _own_table(path: str) -> LabelTable:
    try:
        return load_labels(path, called=path)
    except LabelTableError as error:
        raise LabelTableError(f"{error}; or give --labels") from error
