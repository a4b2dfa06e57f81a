"""Architectures so small that a training run takes seconds: a builder and a line in the table for each.

python -m tests.support.tiny --dataset=... --model=tiny
"""

from __future__ import annotations

import sys
from typing import Any

import keras
from keras import layers

from trainer.models import MODELS, Architecture
from trainer.models.layers import ResizeLike, apply_block, head_dtype

MODELS["tiny"] = Architecture("tests.support.tiny:tiny", ("dropout",))
MODELS["tiny_parts"] = Architecture("tests.support.tiny:tiny_parts", ("backbone", "width"))


def tiny(
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    *,
    dropout: float = 0.1,
    sync_batch_norm: bool = False,
) -> keras.Model:
    """Normalized images float32[B, H, W, 3] -> logits float32[B, H, W, num_classes]."""
    images = keras.Input(input_shape)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="features")(images)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.5, synchronized=sync_batch_norm, name="norm")(x))
    x = layers.Dropout(dropout)(x)
    x = layers.Conv2D(num_classes, 3, padding="same", dtype=head_dtype(), name="logits")(x)
    return keras.Model(images, ResizeLike(align_corners=False, dtype="float32")(x, images), name="tiny")


def tiny_parts(
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    *,
    backbone: str = "plain",
    width: float = 1,
    sync_batch_norm: bool = False,
) -> keras.Model:
    """The same in two parts: a backbone, and a head of `width` * 4 filters. Each has a kernel and a normalization."""

    def convolved(x: Any, filters: int, name: str, stride: int) -> Any:
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.5, synchronized=sync_batch_norm, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    images = keras.Input(input_shape)
    x = apply_block("backbone", lambda x: convolved(x, 8, backbone, 2), images)
    x = convolved(x, round(4 * width), "head", 1)
    x = layers.Conv2D(num_classes, 1, dtype=head_dtype(), name="logits")(x)
    return keras.Model(images, ResizeLike(align_corners=False, dtype="float32")(x, images), name="tiny_parts")


if __name__ == "__main__":
    from trainer.task import main

    sys.exit(main())
