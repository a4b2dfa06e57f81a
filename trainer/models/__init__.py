"""The architectures: a new one is a module with a builder here, and a row of `MODELS`.

    model = build("deeplabv3plus", num_classes=19, options={"backbone": "xception41"})
    model.save("mine.keras")

    register_layers()
    model = keras.models.load_model("mine.keras")

A model is a plain Keras model with a few layers of ours in it: `register_layers` makes Keras know them in a process
that has built none. `trainer.inference.model_file` saves a model together with a description of its data set, which
`trainer.evaluate`, `trainer.predict` and `trainer.export` need, and loads it again. Nothing heavy is imported before a
model is built: command lines list their names.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer import arguments
from trainer.models.backbones import BACKBONES
from trainer.settings import Option

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
      builder: `module:function`. (num_classes, input_shape, *, keywords with defaults) -> keras.Model; the keywords are
        the model's options.
      options: those of them that are rows of `MODEL_OPTIONS`, and so on the command line.
    """

    builder: str
    options: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.builder.partition(":")[0]

    def find(self) -> Callable[..., keras.Model]:
        """Imports the builder."""
        found: Callable[..., keras.Model] = getattr(
            importlib.import_module(self.module), self.builder.partition(":")[2]
        )
        return found


_DEEPLAB = ("backbone", "output_stride", "backbone_weights", "depthwise_relu", "dropout")
_COMMON = ("batch_norm_momentum", "width")

MODELS = {
    "deeplabv3plus": Architecture("trainer.models.deeplab:deeplabv3plus", (*_DEEPLAB, *_COMMON)),
    "u2net": Architecture("trainer.models.u2net:u2net", _COMMON),
    "u2netp": Architecture("trainer.models.u2net:u2netp", _COMMON),
}

# Options of the command line that are keywords of builders. None leaves a value to the model.
MODEL_OPTIONS = (
    Option("backbone", help=f"backbone of deeplabv3plus: {', '.join(BACKBONES)}", metavar="NAME"),
    Option(
        "output_stride",
        type=arguments.whole(1),
        help="output stride of deeplabv3plus: 16, or 8, which is denser and 4 times slower",
    ),
    Option(
        "backbone_weights",
        metavar="none|imagenet|FILE",
        help=f"pretrained weights of {', '.join(name for name, row in BACKBONES.items() if row.weights)}",
    ),
    Option(
        "depthwise_relu",
        type=arguments.boolean,
        metavar="true|false",
        help="of xception65 and xception41: ReLU after each depthwise convolution, as in the paper; the published "
        "checkpoints have none (default: true)",
    ),
    Option("dropout", type=arguments.number(0, below=1), help="dropout of deeplabv3plus, before the decoder"),
    Option(
        "batch_norm_momentum",
        type=arguments.number(0, below=1),
        help="momentum of the moving statistics: near 1 is slow",
    ),
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

    Args:
      name: a row of `MODELS`.
      num_classes: at least 1.
      input_shape: (H, W, 3).
      options: keywords of the builder; `option_defaults` lists them.

    Raises:
      ValueError: the model or an option does not exist, or the builder refuses a value.
    """
    known = option_defaults(name)
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}: it has {', '.join(known)}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: at least 1 is needed")
    return _row(name).find()(num_classes, tuple(input_shape), **dict(options or {}))


def option_defaults(name: str) -> dict[str, Any]:
    """The options of model `name` with their defaults: the keyword-only arguments of its builder."""
    parameters = inspect.signature(_row(name).find()).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def as_list(outputs: Any) -> list[Any]:
    """What a call of a model returned, as a list of logits: Keras unpacks a list of one output."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def register_layers() -> None:
    """Makes Keras know the layers of all models: `keras.models.load_model` reads a best.keras after this call."""
    for module in {row.module for row in MODELS.values()}:
        importlib.import_module(module)


def _row(name: str) -> Architecture:
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: one of {', '.join(MODELS)}")
    return MODELS[name]
