"""A third architecture, so small that a training run takes seconds: one builder, and one line in the table.

python -m tests.support.tiny --dataset=... --model=tiny
"""

from __future__ import annotations

import sys

import keras
from keras import layers

from trainer.models import MODELS, Architecture
from trainer.models.layers import ResizeLike, head_dtype

MODELS["tiny"] = Architecture("tests.support.tiny:tiny", ("dropout",))


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


if __name__ == "__main__":
    from trainer.task import main

    sys.exit(main())
