"""The architectures. A new one is a module with a builder in this package, and a row of `MODELS`.

    model = build("deeplabv3plus", num_classes=19, options={"backbone": "xception41"})
    model.save("mine.keras")

    import trainer.models.layers
    model = keras.models.load_model("mine.keras")

A model is a plain Keras model with a few custom layers. Importing `trainer.models.layers` registers these with Keras in
a process that has not built a model; `import trainer` does not, so that commands start without Keras.
`trainer.inference.model_file` saves and loads a model together with a description of its data set, which
`trainer.evaluate`, `trainer.predict` and `trainer.export` need. Keras is imported when a model is built, so that
command lines can list the names without waiting.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer import arguments
from trainer.models.backbones import BACKBONES
from trainer.models.decoders import DECODERS
from trainer.models.errors import ModelError
from trainer.models.weights import INITIAL
from trainer.settings import Needs, Option, one_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
      builder: `module:function`. (num_classes, input_shape, *, keywords with defaults) -> keras.Model; the keywords are
        the model's options. A model with the option `backbone` has a block of the name `backbones.BLOCK`.
      options: the keywords that are options of the command line, rows of `MODEL_OPTIONS`.
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


_DEEPLAB = ("backbone", "output_stride", "decoder", "backbone_weights", "depthwise_relu", "dropout")
_COMMON = ("batch_norm_momentum", "width")

MODELS = {
    "deeplabv3plus": Architecture("trainer.models.deeplab:deeplabv3plus", (*_DEEPLAB, *_COMMON)),
    "u2net": Architecture("trainer.models.u2net:u2net", ("backbone_weights", *_COMMON)),
    "u2netp": Architecture("trainer.models.u2net:u2netp", ("backbone_weights", *_COMMON)),
}


def having(name: str) -> Needs:
    """Needs a model whose row has the option `name`, in MODELS or added to it later."""
    instead = " or ".join(f"--model={model}" for model, row in MODELS.items() if name in row.options)
    return Needs("model", lambda model: name in MODELS[model].options, instead)


def _option(name: str, *needs: Needs, **rest: Any) -> Option:
    return Option(name, needs=(having(name), *needs), **rest)


_WITH_RELU = tuple(name for name, row in BACKBONES.items() if "depthwise_relu" in row.options)

# Options of the command line that are keywords of builders. None is the model's own default.
MODEL_OPTIONS = (
    _option("backbone", help=f"backbone of deeplabv3plus: {', '.join(BACKBONES)}", metavar="NAME"),
    _option(
        "output_stride",
        type=arguments.whole(1),
        help="output stride of deeplabv3plus: 16, or 8, which is denser and 4 times slower",
    ),
    _option(
        "decoder",
        choices=DECODERS,
        help="ASPP and decoder of deeplabv3plus: full, as in the paper (the default), or light, with half the filters",
    ),
    _option(
        "backbone_weights",
        metavar=f"none|imagenet|{INITIAL}|FILE",
        help="start from published weights: imagenet (keras_xception, efficientnet_lite0), a file, or "
        f"{INITIAL}, if --initial_model has such weights",
    ),
    _option(
        "depthwise_relu",
        one_of("backbone", *_WITH_RELU),
        type=arguments.boolean,
        metavar="true|false",
        help=f"ReLU after each depthwise convolution of {', '.join(_WITH_RELU)}, as in the paper; published weights "
        "have none (default: true without --backbone_weights)",
    ),
    _option("dropout", type=arguments.number(0, below=1), help="dropout rate of deeplabv3plus, before the decoder"),
    _option(
        "batch_norm_momentum",
        type=arguments.number(0, below=1),
        help="momentum of the moving statistics of batch normalization; near 1, they change slowly",
    ),
    _option("width", type=arguments.number(above=0), help="factor of the number of filters of each layer"),
)


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    options: Mapping[str, Any] | None = None,
) -> keras.Model:
    """A Keras functional model from normalized images float32[B, H, W, 3] to logits float32[B, H, W, num_classes].

    H and W may be any size, or None: the model pads images and crops the logits back. U2-Net has seven outputs (deep
    supervision); the first is the prediction. A Keras model with one output does not return a list: see `as_list`.

    Args:
      name: a row of `MODELS`.
      num_classes: at least 1.
      input_shape: (H, W, 3).
      options: keywords of the builder; `option_defaults` lists them.

    Raises:
      ModelError: the model or an option does not exist, or the options do not fit together.
      WeightsError: pretrained weights could not be read or downloaded.
      ValueError: `num_classes` is less than 1.
    """
    known = option_defaults(name)
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise ModelError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(known)}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: at least 1 is needed")
    return _row(name).find()(num_classes, tuple(input_shape), **dict(options or {}))


def option_defaults(name: str) -> dict[str, Any]:
    """The options of model `name` with their defaults: the keyword-only arguments of its builder."""
    parameters = inspect.signature(_row(name).find()).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def as_list(outputs: Any) -> list[Any]:
    """The outputs of a model's call as a list: Keras returns a single output without one."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def register_layers() -> None:
    """Registers the layers of all models with Keras, also those of modules that were added to `MODELS`."""
    for module in {row.module for row in MODELS.values()}:
        importlib.import_module(module)


def _row(name: str) -> Architecture:
    if name not in MODELS:
        raise ModelError(f"unknown model {name!r}; the models are {', '.join(MODELS)}")
    return MODELS[name]
