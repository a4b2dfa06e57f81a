"""The backbones of DeepLabV3+. A new one is a module in this package and a row of `BACKBONES`.

Their modules are imported when a backbone is built, so that command lines can list the names without waiting.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras

    from trainer.models.layers import Convolutions


BLOCK = "backbone"  # name of the block of a model that is its backbone


def backbone_of(model: keras.Model) -> keras.Model:
    """The block of a model that is its backbone; a model without one is a backbone as a whole."""
    return model.get_layer(BLOCK) if BLOCK in {layer.name for layer in model.layers} else model


class Features(NamedTuple):
    """The outputs of a backbone: `low` at stride 4, `high` at the output stride."""

    low: Any
    high: Any


@dataclass(frozen=True)
class Backbone:
    """A row of the table. Functions are `module:name`, relative to this package.

    Attributes:
      builder: (images [B, H, W, 3], convolutions, output_stride=16 or 8, ...) -> Features.
      fixed: keyword arguments of the builder that define this backbone.
      options: names of the model's options that are keyword arguments of the builder.
      weights: (source, and `fixed`) -> a function that copies pretrained weights to a model of width 1 with this
        backbone. `source` is "imagenet" or a file. Raises ModelError if the file has other weights, WeightsError if it
        can't be read.
      pixel_range: (least, most) of the pixels that pretrained weights expect; the model rescales normalized images.
      trained_with: values of `options` that pretrained weights require.
    """

    builder: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    weights: str | None = None
    pixel_range: tuple[float, float] = (-1.0, 1.0)
    trained_with: Mapping[str, Any] = field(default_factory=dict)

    def build(self, images: Any, convolutions: Convolutions, *, output_stride: int, **options: Any) -> Features:
        """Applies the layers of the backbone to `images`."""
        features: Features = _find(self.builder)(
            images, convolutions, output_stride=output_stride, **self.fixed, **options
        )
        return features

    def read_weights(self, source: str) -> Callable[[keras.Model], None]:
        """-> a function that copies the weights of `source` to a model; see `weights`."""
        assert self.weights is not None
        copy: Callable[[keras.Model], None] = _find(self.weights)(source, **self.fixed)
        return copy


def _aligned(variant: str) -> Backbone:
    return Backbone(
        "aligned_xception:build",
        fixed={"variant": variant},
        options=("depthwise_relu",),
        weights="aligned_xception:read_weights",
        trained_with={"depthwise_relu": False},
    )


BACKBONES = {
    "xception65": _aligned("xception_65"),
    "xception41": _aligned("xception_41"),
    "xception71": _aligned("xception_71"),
    "keras_xception": Backbone("keras_xception:build", weights="keras_xception:read_weights"),
    "efficientnet_lite0": Backbone(
        "efficientnet_lite:build",
        weights="efficientnet_lite:read_weights",
        pixel_range=(-127 / 128, 1.0),  # (pixel - 127) / 128: MEAN_RGB and STDDEV_RGB in efficientnet_lite_builder.py
    ),
}


def _find(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return found
