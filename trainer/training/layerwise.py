"""What of a model trains, and at which learning rate: frozen layers, and factors for backbone and head.

The head is all that is not the backbone: ASPP, decoder and logits, as `last_layer_gradient_multiplier` has it in
tensorflow/models, research/deeplab/train.py, without `last_layers_contain_logits_only`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import keras

from beam_pipelines.contract.errors import UserError
from trainer.config import TrainConfig
from trainer.models.backbones import BLOCK, backbone_of
from trainer.models.layers import leaves
from trainer.models.weights import INITIAL


class FreezingError(UserError, ValueError):
    """Layers that would stay at random values; the message says what to set."""


def freeze(model: keras.Model, config: TrainConfig) -> None:
    """Freezes what the settings say: its variables don't train, and its batch normalization does inference.

    `--freeze_batch_norm` is for all layers with `--initial_model`, else for the backbone: others have no statistics.
    Call it before the optimizer and the averages are made, which have the trainable variables.

    Raises:
      FreezingError: nothing sets the weights of what would be frozen.
    """
    options = config.optimizer
    for name in ("freeze_backbone", "freeze_batch_norm"):
        if getattr(options, name) and not (config.model.initial_model or _is_pretrained(config)):
            raise FreezingError(f"--{name} would keep random weights: set --initial_model or --backbone_weights, too")
    if options.freeze_backbone:
        model.get_layer(BLOCK).trainable = False
    if options.freeze_batch_norm:
        for layer in leaves(model if config.model.initial_model else backbone_of(model)):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


def check_frozen(model: keras.Model, config: TrainConfig, taken: Collection[str]) -> None:
    """Checks that all that is frozen has weights that something set.

    Args:
      taken: paths of the variables that start from `--initial_model`.

    Raises:
      FreezingError: a layer does not.
    """
    pretrained = _paths(leaves(backbone_of(model))) if _is_pretrained(config) else set()
    frozen = [layer for layer in leaves(model) if layer.weights and not layer.trainable]
    random = [layer.name for layer in frozen if not _paths([layer]) <= pretrained | set(taken)]
    if random:
        raise FreezingError(
            f"--initial_model={config.model.initial_model} has no weights for {len(random)} of the {len(frozen)} layers"
            f" that would be frozen, such as {random[0]}: set another file, or leave out --freeze_backbone and "
            "--freeze_batch_norm"
        )


def multipliers(model: keras.Model, config: TrainConfig) -> dict[str, float]:
    """Path -> factor of the learning rate, of the trainable variables for which it is not 1."""
    of_backbone = config.optimizer.backbone_learning_rate_multiplier
    of_head = config.optimizer.head_learning_rate_multiplier
    if of_backbone == of_head == 1:
        return {}
    backbone = _paths(leaves(model.get_layer(BLOCK)))
    paths = [variable.path for variable in model.trainable_variables]
    factors = {path: of_backbone if path in backbone else of_head for path in paths}
    return {path: factor for path, factor in factors.items() if factor != 1}


def _is_pretrained(config: TrainConfig) -> bool:
    return config.model.given().get("backbone_weights", "none") not in ("none", INITIAL)


def _paths(layers: Iterable[keras.layers.Layer]) -> set[str]:
    return {variable.path for layer in layers for variable in layer.weights}
