"""Starts a model from the weights of another one, `--initial_model`."""

from __future__ import annotations

import keras
from rich.console import Console

from trainer.inference.model_file import load_model
from trainer.models.layers import DivideByMaximum, leaves
from trainer.models.weights import INITIAL
from trainer.training.errors import TrainingError

# What layers without weights do to images before the network sees them; weights that were trained so need it.
_PREPARING = (keras.layers.Rescaling, DivideByMaximum)


def start_from(path: str, model: keras.Model, console: Console) -> set[str]:
    """Copies the weights of the model at `path` that have the same name and shape in `model`. -> their paths.

    Raises:
      ModelFileError: the model can't be loaded.
      TrainingError: it has no such weights, or they mean something else: it prepares images in another way, or has
        other activations.
    """
    other, _ = load_model(path)
    known = {variable.path: variable for variable in other.weights}
    pairs = [(variable, known.get(variable.path)) for variable in model.weights]
    taken = [(mine, theirs) for mine, theirs in pairs if theirs is not None and theirs.shape == mine.shape]
    if not taken:
        raise TrainingError(
            f"--initial_model={path} has no weights in common with this model: set another file, or leave it out"
        )
    _check(path, other, model)
    for mine, theirs in taken:
        mine.assign(theirs.numpy())
    console.print(f"{len(taken):,} of {len(pairs):,} weights start from {path}", highlight=False, markup=False)
    return {mine.path for mine, _ in taken}


def _check(path: str, other: keras.Model, model: keras.Model) -> None:
    """Raises TrainingError if the same weights compute something else in `model` than in `other`."""
    mine, theirs = ({each.name for each in leaves(found) if isinstance(each, _PREPARING)} for found in (model, other))
    if mine != theirs:
        does, value = ("has", INITIAL) if theirs - mine else ("lacks", "none")
        raise TrainingError(
            f"--initial_model={path} {does} layers that prepare images ({', '.join(sorted(mine ^ theirs))}), unlike "
            f"this model, so its weights would see other numbers: set --backbone_weights={value}"
        )
    shared = {each.name for each in leaves(model)} & {each.name for each in leaves(other)}
    has, had = (
        {each.name for each in leaves(found) if isinstance(each, keras.layers.ReLU)} for found in (model, other)
    )
    differing = sorted(name for name in has ^ had if name.removesuffix("_relu") in shared)
    if differing:
        does, value = ("has", "true") if differing[0] in had else ("lacks", "false")
        raise TrainingError(
            f"--initial_model={path} {does} {len(differing)} activations such as {differing[0]}, unlike this model: "
            f"set --depthwise_relu={value}"
        )
