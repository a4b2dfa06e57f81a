"""Exported files, run by the runtimes that they are for: what they see is what the model sees."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support.color_model import describe, make_color_model
from tests.support.matrix import standing_for
from trainer.formats import onnx_file, writing
from trainer.formats.errors import FormatError, UnsupportedOperationError
from trainer.formats.precision import in_float32
from trainer.formats.table import FORMATS
from trainer.inference.request import SUFFIXES
from trainer.inference.segmenter import Segmenter
from trainer.models import as_list, build
from trainer.models.layers import apply_block, leaves

tf2onnx = pytest.importorskip("tf2onnx", reason="tf2onnx is not installed (extra `export`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (extra `export`)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `export`)")

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DESCRIBED = describe()
DISAGREEMENT = 1e-3  # largest share of pixels of which a runtime, which sums in another order, may see another class
WIDTH = 1 / 8


def pictures(size: tuple[int, int], count: int = 2) -> np.ndarray:
    """uint8[count, H, W, 3], smooth."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 5, 7, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize(size[::-1], Image.Resampling.BICUBIC)) for each in noise])


def balanced(model: keras.Model) -> keras.Model:
    """Makes activations vary as those of a trained model do, and the mean logits of all classes equal."""
    inputs = (pictures((64, 96), 4) / 255.0 - DESCRIBED.mean) / DESCRIBED.std
    model(inputs, training=True)
    logits = as_list(model(inputs, training=False))[0]
    (last,) = (layer for layer in leaves(model) if layer.name in ("logits", "logits_fused"))
    last.bias.assign_sub(tf.reduce_mean(logits, [0, 1, 2]))
    return model


@functools.cache
def model_of(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    own = {"backbone": "efficientnet_lite0", "decoder": "light"} if name == "deeplabv3plus" else {}
    options = {"width": WIDTH, "batch_norm_momentum": 0.0}
    return balanced(build(name, num_classes=19, options={**own, **options}))


def converted(
    model: keras.Model, form: str, size: tuple[int, int]
) -> tuple[bytes, Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """-> a file, what runs it, and the same in TensorFlow."""
    content, run = writing.convert(writing.Served(model, DESCRIBED, size, FORMATS[form].batch), form, size)
    return content, run, writing.Served(model, DESCRIBED, size).run


def test_every_format_has_a_suffix() -> None:
    assert FORMATS.keys() == SUFFIXES.keys()


SIZES = {"deeplabv3plus": (64, 96), "u2netp": (33, 71)}  # tf2onnx alone gets the first one wrong


@functools.cache
def seen_by(name: str) -> tuple[np.ndarray, np.ndarray]:
    """-> pictures, and what the signature `tensor` of a SavedModel gives for them."""
    images = pictures(SIZES[name])
    segmenter = Segmenter(model_of(name), DESCRIBED, size=SIZES[name])
    return images, segmenter.class_map_of_size(tf.constant(images)).numpy()


# What U2-Net adds are more of the same operations, which LiteRT's converter takes long for.
STANDING = [("deeplabv3plus", "onnx"), ("deeplabv3plus", "litert"), ("u2netp", "onnx")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), standing_for(STANDING, itertools.product(SIZES, FORMATS)))
def test_a_file_sees_the_classes_of_its_model(name: str, form: str) -> None:
    images, expected = seen_by(name)
    served = writing.Served(model_of(name), DESCRIBED, SIZES[name], FORMATS[form].batch)
    found = writing.convert(served, form, SIZES[name])[1](images)
    assert (found.dtype, found.shape) == (np.uint8, expected.shape)
    assert len(np.unique(expected)) >= 3
    assert (found != expected).mean() <= DISAGREEMENT


def test_onnx_takes_any_number_of_images_by_name() -> None:
    content, run, original = converted(make_color_model(DESCRIBED), "onnx", (8, 12))
    graph = onnx.load_from_string(content).graph
    for tensor, shape in ((graph.input[0], ["batch", 8, 12, 3]), (graph.output[0], ["batch", 8, 12])):
        assert [each.dim_param or each.dim_value for each in tensor.type.tensor_type.shape.dim] == shape
    assert (graph.input[0].name, graph.output[0].name) == ("images", "class_map")
    for count in (1, 5):
        images = pictures((8, 12), count)
        np.testing.assert_array_equal(run(images), original(images))


def test_litert_has_static_shapes_only() -> None:
    """Which delegates need."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=converted(make_color_model(DESCRIBED), "litert", (8, 12))[0])
    interpreter.allocate_tensors()
    shapes = [list(each["shape_signature"]) for each in interpreter.get_tensor_details()]
    assert [1, 8, 12, 3] in shapes
    assert not [shape for shape in shapes if -1 in shape]


class Resizes(tf.Module):
    """[B, 7, 5, 1] resized to several sizes beside images of these sizes, as one row for each image.

    The quotient of 25 and 7 in float32 is a little less than that.
    """

    def __init__(self, align_corners: bool, half_pixel_centers: bool) -> None:
        super().__init__()

        def resize(images: tf.Tensor) -> dict[str, tf.Tensor]:
            large, rows = tf.pad(images, [[0, 0], [0, 99], [0, 99], [0, 0]]), []
            for height, width in ((17, 25), (25, 17), (4, 11), (7, 49), (1, 1)):
                resized = tf.raw_ops.ResizeBilinear(
                    images=images,
                    size=(height, width),
                    align_corners=align_corners,
                    half_pixel_centers=half_pixel_centers,
                )
                together = tf.concat([resized, large[:, :height, :width]], -1)
                rows.append(tf.reshape(together, [-1, height * width * 2]))
            return {"class_map": tf.concat(rows, 1)}

        signature = [tf.TensorSpec([None, 7, 5, 1], tf.float32, name="images")]
        self.tensor = tf.function(resize, input_signature=signature, autograph=False)


@pytest.mark.parametrize("alignment", [(True, False), (False, True), (False, False)])
def test_onnx_resizes_to_the_size_itself(alignment: tuple[bool, bool]) -> None:
    module = Resizes(*alignment)
    images = np.random.default_rng(0).random((2, 7, 5, 1), np.float32)
    found = onnx_file.Runner(onnx_file.convert(module))(images)
    np.testing.assert_allclose(found, module.tensor(tf.constant(images))["class_map"].numpy(), atol=1e-5)


def test_the_converter_alone_does_not() -> None:
    """So the test above can fail."""
    function = Resizes(True, False).tensor
    model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=onnx_file.OPSET)
    with pytest.raises(FormatError, match=r"ONNX Runtime can't run the converted model \(.*export a SavedModel"):
        onnx_file.Runner(model.SerializeToString())(np.zeros((1, 7, 5, 1), np.float32))


@keras.saving.register_keras_serializable(package="tests")
class Digamma(keras.layers.Layer):
    """An operation that neither ONNX nor LiteRT has."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.digamma(x)


@pytest.mark.parametrize("form", FORMATS)
def test_an_operation_that_a_format_lacks_is_named(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    color = make_color_model(DESCRIBED)
    model = keras.Model(color.input, Digamma(name="strange")(color.output))
    with pytest.raises(UnsupportedOperationError) as caught:
        converted(model, form, (8, 12))
    assert caught.value.operations == ("Digamma",)
    title = FORMATS[form].title
    assert str(caught.value).startswith(f"{title} can't express the operation Digamma")
    assert str(caught.value).endswith("build the model of other layers")
    assert form != "onnx" or "/strange" in str(caught.value), "and where it is"
    assert not capfd.readouterr().err, "what the converter says itself"


@pytest.fixture
def mixed() -> keras.Model:
    """A model of mixed precision with two blocks, of which the second gets bfloat16."""
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    images = keras.Input((None, None, 3))
    x = apply_block("first", lambda x: keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x), images)
    x = apply_block("second", lambda x: keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x), x)
    logits = keras.layers.Conv2D(19, 1, dtype="float32")(x)
    keras.config.set_dtype_policy(before)
    return keras.Model(images, logits)


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_of_mixed_precision_is_converted_in_float32(form: str, mixed: keras.Model) -> None:
    plain = in_float32(mixed)
    assert {layer.compute_dtype for layer in leaves(plain)} == {"float32"}
    assert {each.dtype for layer in plain.layers for each in as_list(layer.input)} == {"float32"}
    for ours, theirs in zip(mixed.weights, plain.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours, theirs)
    _, run, original = converted(plain, form, (16, 24))
    images = pictures((16, 24), 1)
    assert (run(images) != original(images)).mean() <= DISAGREEMENT
    with pytest.raises(FormatError):
        converted(mixed, form, (16, 24))


def test_a_model_of_float32_stays_the_same() -> None:
    model: Any = make_color_model(DESCRIBED)
    assert in_float32(model) is model
