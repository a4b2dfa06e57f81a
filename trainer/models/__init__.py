"""The architectures: a third one is a file with a builder and a line in `MODELS`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trainer import arguments
from trainer.models.backbones import BACKBONES
from trainer.settings import Option

if TYPE_CHECKING:
    import keras

# The module of the builder that has the model's name. Nothing is imported before it is built: command lines list them.
MODELS = {
    "deeplabv3plus": "trainer.models.deeplab",
    "u2net": "trainer.models.u2net",
    "u2netp": "trainer.models.u2net",
}

# Options of the command line that are keywords of builders. None leaves a value to the model.
MODEL_OPTIONS = (
    Option("backbone", help=f"of deeplabv3plus: {', '.join(BACKBONES)}", metavar="NAME"),
    Option(
        "output_stride", type=arguments.whole(1), help="of deeplabv3plus: 16, or 8, which is denser and 4 times slower"
    ),
    Option(
        "backbone_weights",
        metavar="none|imagenet|FILE",
        help=f"of {', '.join(name for name, row in BACKBONES.items() if row.weights)}: pretrained weights",
    ),
    Option(
        "depthwise_relu",
        type=arguments.boolean,
        metavar="true|false",
        help="of xception65 and xception41: ReLU after each depthwise convolution, as in the paper; the published "
        "checkpoints have none (default: true)",
    ),
    Option("dropout", type=arguments.number(0, below=1), help="of deeplabv3plus: before the decoder"),
    Option("batch_norm_momentum", type=arguments.number(0, below=1), help="of the moving statistics: near 1 is slow"),
    Option("width", type=arguments.number(above=0), help="multiplies the numbers of filters"),
)


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    options: Mapping[str, Any] | None = None,
) -> keras.Model:
    """A Keras functional model from normalized images float32[B, H, W, 3] to logits float32[B, H, W, num_classes].

    H and W may be anything, also None: images are padded inside and logits cropped back. U2-Net has seven outputs (deep
    supervision), the one to predict with first; a Keras model with one output returns it bare: see `as_list`.
    `options` are the builder's own keywords: see `option_defaults`.

    Raises ValueError for an unknown model or option, or a value that the builder refuses.
    """
    known = option_defaults(name)
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}: it has {', '.join(known)}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: at least 1 is needed")
    return _builder(name)(num_classes, tuple(input_shape), **dict(options or {}))


def option_defaults(name: str) -> dict[str, Any]:
    """The options of model `name` with their defaults: the keyword-only arguments of its builder."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def as_list(outputs: Any) -> list[Any]:
    """What a call of a model returned, as a list of logits: Keras unpacks a list of one output."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def register_layers() -> None:
    """Makes Keras know the layers of all models, so that it can load their files."""
    for module in set(MODELS.values()):
        importlib.import_module(module)


def _builder(name: str) -> Callable[..., keras.Model]:
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: one of {', '.join(MODELS)}")
    builder: Callable[..., keras.Model] = getattr(importlib.import_module(MODELS[name]), name)
    return builder
