"""Makes the golden files of DeepLabV3+ with the original code, of which nothing is here: it is imported.

    PYTHONPATH=. python tests/golden/weights/make_deeplab.py MODELS/research tests/golden/weights

MODELS is a checkout of tensorflow/models with research/deeplab, at commit 0e2d1f0 (2021-09-01) or later. It needs
tf-slim 1.1.0 besides TensorFlow 2.21. What TensorFlow 1 had and 2.21 has not is put in its place: names of modules,
and `slim.batch_norm`, which is the published formula here.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow.python.keras.legacy_tf_layers as legacy

from tests.support.seeded_weights import picture, seeded

SEED, CLASSES, SIZE, STEPS = 7, 19, (65, 65), (9, 11)
ATROUS_RATES = {16: [6, 12, 18], 8: [12, 24, 36]}  # model_zoo.md, column ASPP


def main(research: str, output: str) -> None:
    """Writes OUTPUT/xception_NN.npz: names and shapes of the variables, the seed, logits by output stride."""
    deeplab = original(research)
    for variant in ("xception_65", "xception_41", "xception_71"):
        logits: dict[str, np.ndarray] = {}
        shapes: dict[str, list[int]] = {}
        for stride in ATROUS_RATES:
            shapes, found = run(deeplab, variant, stride)
            logits[f"logits{stride}"] = found[:, :: STEPS[0], :: STEPS[1]]
            print(variant, stride, len(shapes), found.std(), np.unique(found.argmax(-1)).size)
        np.savez_compressed(
            Path(output) / f"{variant}.npz",
            names="\n".join(shapes),
            shapes=" ".join(",".join(map(str, shape)) for shape in shapes.values()),
            seed=SEED,
            size=SIZE,
            steps=STEPS,
            allow_pickle=False,
            **logits,
        )


def run(deeplab: Any, variant: str, stride: int) -> tuple[dict[str, list[int]], np.ndarray]:
    """-> the shape of each variable, and logits float32[1, H, W, CLASSES] at the size of the picture."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(picture(*SIZE, SEED)[None], tf.float32)
        options = deeplab.common.ModelOptions(
            {"semantic": CLASSES}, crop_size=list(SIZE), atrous_rates=ATROUS_RATES[stride], output_stride=stride
        )._replace(model_variant=variant, decoder_output_stride=[4], add_image_level_feature=True)
        scales = deeplab.model.multi_scale_logits(images, options, image_pyramid=None)
        logits = tf.image.resize_bilinear(scales["semantic"]["merged_logits"], SIZE, align_corners=True)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        shapes = {name: variables[name].shape.as_list() for name in sorted(variables)}
        values = seeded(shapes, SEED)
        for name, variable in variables.items():
            variable.load(values[name], session)
        return shapes, session.run(logits)


def original(research: str) -> Any:
    """The packages deeplab.common and deeplab.model of the checkout."""
    sys.modules["tf_keras.legacy_tf_layers"] = legacy
    for name in ("base", "convolutional", "core", "pooling"):
        sys.modules[f"tf_keras.legacy_tf_layers.{name}"] = importlib.import_module(f"{legacy.__name__}.{name}")
    slim = importlib.import_module("tf_slim")
    vars(slim)["batch_norm"] = slim.add_arg_scope(batch_norm)
    contrib = module("tensorflow.contrib", slim=slim, framework=slim, layers=slim, training=types.SimpleNamespace())
    sys.modules |= {"tensorflow": tf, "tensorflow.contrib.slim": slim}
    tf.contrib = contrib
    module("tensorflow.contrib.slim.nets", resnet_utils=importlib.import_module("tf_slim.nets.resnet_utils"))
    for name in ("tensorflow.contrib.layers", "tensorflow.contrib.layers.python"):
        module(name)
    module("tensorflow.contrib.layers.python.layers", layers=slim.layers, utils=slim.layers.utils)
    module("nets")
    module("nets.mobilenet", **{name: MagicMock() for name in MOBILE})
    sys.path.insert(0, research)
    common = importlib.import_module("deeplab.common")
    common.FLAGS(["deeplab"])
    return types.SimpleNamespace(common=common, model=importlib.import_module("deeplab.model"))


MOBILE = ("conv_blocks", "mobilenet", "mobilenet_v2", "mobilenet_v3")  # backbones that are not asked for


def module(name: str, **values: Any) -> types.ModuleType:
    """A module of that name, in place of one that is not there."""
    made = types.ModuleType(name)
    vars(made).update(values, __path__=[])
    sys.modules[name] = made
    return made


def batch_norm(inputs: Any, epsilon: float = 0.001, scale: bool = False, scope: Any = None, **_: Any) -> Any:
    """Batch normalization with stored statistics, with the variables that slim.batch_norm makes."""
    with tf.variable_scope(scope, "BatchNorm", [inputs]):
        channels = inputs.shape[-1]
        names = ("beta", "gamma", "moving_mean", "moving_variance")
        assert scale
        beta, gamma, mean, variance = (tf.get_variable(name, channels) for name in names)
        return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, epsilon)


if __name__ == "__main__":
    main(*sys.argv[1:])
