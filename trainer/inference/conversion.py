"""Published weights as a model file, with the description that a trained model has."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from beam_pipelines.contract.labels import BUILTIN_TABLES, Label, LabelTable
from beam_pipelines.contract.normalization import Normalization
from trainer import models
from trainer.errors import refusals
from trainer.inference.model_file import BEST, Description, ModelFileError, save_model
from trainer.inference.request import ConvertSettings
from trainer.models.errors import ModelError
from trainer.models.weights import INITIAL, PUBLISHED, Outputs, Published, recognize
from trainer.models.weights.checkpoint_file import is_checkpoint, open_checkpoint
from trainer.models.weights.pytorch_file import open_state
from trainer.models.weights.slim_names import STEP
from trainer.models.weights.transfer import Account, Source, load


def foreground() -> LabelTable:
    """What a network with one class and a sigmoid tells apart; gray masks have levels up to 255."""
    rows = (
        Label(name="background", source_ids=(0,), train_id=0, color=(0, 0, 0), category="background"),
        Label(name="foreground", source_ids=(1,), train_id=1, color=(255, 255, 255), category="foreground"),
    )
    return LabelTable(name="foreground", labels=rows, threshold=128)


_STRIDE = 16  # that of the published weights when they were trained
_TABLES = {**BUILTIN_TABLES, "foreground": foreground}


def convert_file(settings: ConvertSettings) -> str:
    """Writes the model file. -> a line about it.

    Raises:
      ModelError: the weights are not those of a network in `PUBLISHED`, not all of them, or have other classes.
      WeightsError: there is no such file.
      ModelFileError: the output exists, and `overwrite` is not set.
    """
    with refusals():
        if not settings.overwrite and tf.io.gfile.exists(settings.output):
            raise ModelFileError(f"{settings.output} exists: set --overwrite to replace it, or another --output")
    model, description, account = convert(settings.weights, settings.labels, settings.output_stride)
    with refusals():
        save_model(settings.output, model, description)
    labels = description.labels
    dropped = ", ".join(f"{kind} ({number:,})" for kind, number in account.dropped.items())
    return (
        f"{settings.output}: {description.model} of {labels.num_classes} classes (label table {labels.name}), from all "
        f"{account.used:,} tensors of the network" + (f"; left out: {dropped}" if dropped else "")
    )


def convert(
    weights: str, labels: str | None = None, output_stride: int | None = None
) -> tuple[keras.Model, Description, Account]:
    """-> a model whose variables are all those of the file `weights`, its description, and what was used of the file.

    Args:
      labels: name of a label table; None for that of the published weights with as many classes.
      output_stride: of DeepLabV3+; None for 16.

    Raises:
      ModelError, WeightsError: see `convert_file`.
    """
    if weights.endswith(".keras") or tf.io.gfile.exists(f"{weights.rstrip('/')}/{BEST}"):
        raise ModelError(f"{weights} is a trained model already: set it as --model, or as --initial_model of a run")
    source = open_checkpoint(weights) if is_checkpoint(weights) else open_state(weights)
    row = recognize(source)
    if row is None:
        raise ModelError(_unknown(source))
    options = _options(row, output_stride)
    names = row.find_names(**options)
    if row.logits not in source.shapes:
        raise ModelError(f"{source.path} has no {row.logits}, so it is not a whole model: {names.cure}")
    outputs = _outputs(row, source, labels)
    table = _TABLES[outputs.labels]()
    options |= {"backbone_weights": INITIAL, "normalization": Normalization(row.mean, row.std), **row.options}
    model = models.build(row.model, num_classes=table.num_classes, options=options)
    account = load(source, names, model)
    description = Description(
        model=row.model,
        labels=table,
        mean=row.mean,
        std=row.std,
        size=outputs.size,
        step=int(source.read(STEP)) if STEP in source.shapes else 0,
        mean_iou=None,
        dataset="",
    )
    return model, description, account


def _options(row: Published, output_stride: int | None) -> dict[str, Any]:
    """What there is to choose of the model. Raises ModelError if it has no output stride, and one is set."""
    if "output_stride" in models.MODELS[row.model].options:
        return {"output_stride": _STRIDE if output_stride is None else output_stride}
    if output_stride is not None:
        raise ModelError(
            f"{row.model} has no output stride, and it is set to {output_stride}: leave out --output_stride"
        )
    return {}


def _outputs(row: Published, source: Source, labels: str | None) -> Outputs:
    """What the outputs are. Raises ModelError if that is not known, or `labels` has another number of classes."""
    classes = source.shapes[row.logits][row.axis]
    known = row.outputs.get(classes)
    if labels is None:
        if known is None:
            raise ModelError(_unpublished(row, source.path, classes))
        return known
    if labels not in _TABLES:
        raise ModelError(f"there is no label table {labels!r}; set --labels to one of {', '.join(_TABLES)}")
    expected = _TABLES[labels]().num_classes
    if expected != (_TABLES[known.labels]().num_classes if known else classes):
        cure = f"leave out --labels for {known.labels}" if known else "set another --labels"
        number = f"{classes} class{'' if classes == 1 else 'es'}"
        raise ModelError(f"{source.path} has {number}, and the label table {labels} has {expected}: {cure}")
    return known if known and known.labels == labels else Outputs(labels)


def _unpublished(row: Published, path: str, classes: int) -> str:
    """What to do about a number of classes that no published weights have."""
    tables = {name: make().num_classes for name, make in _TABLES.items()}
    fitting = [name for name, number in tables.items() if number == classes]
    if fitting:
        return (
            f"{path} has {classes} classes: set --labels to the label table that it was trained with, "
            f"{' or '.join(fitting)}; published are "
            f"{', '.join(f'{each.labels} ({number})' for number, each in row.outputs.items())}"
        )
    numbers = ", ".join(map(str, sorted(set(tables.values()))))
    return (
        f"{path} has {classes} classes, and no label table has as many (there are those of {numbers}), so it can't be "
        "converted: start a run from all but its classes by --backbone_weights"
    )


def _unknown(source: Source) -> str:
    networks = ", ".join(" with ".join([row.model, *row.options.values()]) for row in PUBLISHED)
    holds = f"{len(source.shapes):,} tensors" + (f", such as {min(source.shapes)}" if source.shapes else "")
    return (
        f"{source.path} has none of the networks that can be converted ({networks}), but {holds}; set the path of "
        "published weights"
    )
