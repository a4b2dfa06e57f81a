"""Starts a model from the weights of another one, `--initial_model`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras
from rich.console import Console

from trainer.inference.model_file import load_model
from trainer.models.layers import DivideByMaximum, leaves
from trainer.models.weights import INITIAL
from trainer.training.errors import TrainingError

# What layers without weights do to images before the network sees them; weights that were trained so need it.
_PREPARING = (keras.layers.Rescaling, DivideByMaximum)


# The output stride multiplies the rates that name the branches of ASPP; their places stay.
_RATE = re.compile(r"aspp_rate(\d+)")
_HEAD = ("aspp", "decoder")  # how the names of layers of DeepLabV3+ begin that are not of the backbone


def start_from(path: str, model: keras.Model, console: Console, *, entire: bool = False) -> set[str]:
    """Copies the weights of the model at `path` that have the same name and shape in `model`. -> their paths.

    Branches of ASPP have the same name if they have the same place: those of another output stride start, too.

    Args:
      entire: whether both have to be the same network, except for the number of classes.

    Raises:
      ModelFileError: the model can't be loaded.
      TrainingError: it has no such weights, is another network, or its weights mean something else: it prepares images
        in another way, or has other activations.
    """
    other, description = load_model(path)
    mine, theirs = _by_place(model), _by_place(other)
    taken = {place for place in mine.keys() & theirs.keys() if mine[place].shape == theirs[place].shape}
    if not taken:
        raise TrainingError(
            f"--initial_model={path} has no weights in common with this model: set another file, or leave it out"
        )
    _check(path, other, model)
    differing = sorted(place for place in (mine.keys() | theirs.keys()) - taken if not place.startswith("logits"))
    if entire and differing:
        raise TrainingError(
            f"--backbone_weights={INITIAL} needs the network of --initial_model={path}, a {description.model}, and "
            f"{len(differing)} weights differ, such as {differing[0]}: {_cure(differing, description.model, model)}"
        )
    for place in taken:
        mine[place].assign(theirs[place].numpy())
    console.print(f"{len(taken):,} of {len(mine):,} weights start from {path}", highlight=False, markup=False)
    return {mine[place].path for place in taken}


def _by_place(model: keras.Model) -> dict[str, keras.Variable]:
    """Path -> weight, where branches of ASPP have their place instead of their atrous rate."""
    rates = sorted({int(rate) for variable in model.weights for rate in _RATE.findall(variable.path)})
    return {
        _RATE.sub(lambda found: f"aspp_branch{rates.index(int(found[1]))}", variable.path): variable
        for variable in model.weights
    }


def _cure(differing: Sequence[str], name: str, model: keras.Model) -> str:
    """Which option has to be another one for weights to be the same that differ."""
    if name != model.name:
        return f"set --model={name}"
    in_head = [place for place in differing if place.startswith(_HEAD)]
    return (
        "set --decoder to that of this model" if in_head == list(differing) else "set --backbone to that of this model"
    )


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
