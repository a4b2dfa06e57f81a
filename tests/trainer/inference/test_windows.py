"""What the model sees by windows is what a plain loop over them gives; one window gives the bits of the whole image."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.color_model import describe
from tests.support.matrix import standing_for
from tests.support.picture_files import saved
from tests.support.tiny import tiny
from trainer.inference.logits import predict_logits
from trainer.inference.saved_model import ExportError, export_model
from trainer.inference.segmenter import Segmenter
from trainer.inference.views import MOST_WINDOWS, Views, ViewsError
from trainer.inference.windows import Axis
from trainer.models import build

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CLASSES = 19
SIZES = ((37, 53), (16, 24), (10, 53), (37, 20), (7, 9), (48, 72))
WINDOW = (16, 24)


def make_model(sides: tuple[int | None, int | None] = (None, None)) -> keras.Model:
    """A convolution that sees 5x5 pixels, so that the edges of windows show."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.RandomNormal(stddev=0.5)
    convolution = keras.layers.Conv2D(CLASSES, 5, kernel_initializer=start, padding="same")
    return keras.Sequential([keras.Input((*sides, 3)), convolution])


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return make_model()


def normalized(size: tuple[int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *size, 3)).astype(np.float32)


def pictures(size: tuple[int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def starts_of(side: int, length: int, overlap: float) -> list[int]:
    """The oracle: as few windows as the overlap allows, spread evenly."""
    if side <= length:
        return [0]
    gaps = math.ceil((side - length) / max(1, length - round(length * overlap)))
    return [number * (side - length) // gaps for number in range(gaps + 1)]


def by_loop(model: keras.Model, images: np.ndarray, window: tuple[int, int], overlap: float) -> np.ndarray:
    """Probabilities, float64[B, H, W, C]."""
    total, count = np.zeros((*images.shape[:3], CLASSES)), np.zeros((*images.shape[:3], 1))
    for top in starts_of(images.shape[1], window[0], overlap):
        for left in starts_of(images.shape[2], window[1], overlap):
            part = np.s_[:, top : top + window[0], left : left + window[1]]
            total[part] += softmax(model(images[part]).numpy().astype(np.float64))
            count[part] += 1
    assert count.min() >= 1
    return total / count


def traced(model: keras.Model, views: Views, *sides: int | None) -> Any:
    """`predict_logits` as a graph of images of these sides."""
    signature = [tf.TensorSpec([None, *sides, 3])]
    return tf.function(lambda images: predict_logits(model, images, views), signature, autograph=False)


@pytest.mark.parametrize(
    ("size", "overlap"), standing_for([*zip(SIZES, (0.5, 0) * 3, strict=True)], itertools.product(SIZES, (0, 0.5)))
)
def test_windows_are_averaged_as_by_a_plain_loop(model: keras.Model, size: tuple[int, int], overlap: float) -> None:
    images, views = normalized(size), Views(window=WINDOW, overlap=overlap)
    expected = by_loop(model, images, WINDOW, overlap)
    known, unknown = (traced(model, views, *sides)(images) for sides in (size, (None, None)))
    for logits in (known, unknown, predict_logits(model, tf.constant(images), views)):
        assert logits.shape == (2, *size, CLASSES)
        np.testing.assert_allclose(softmax(logits.numpy()), expected, atol=1e-5)
    if size[0] > WINDOW[0] or size[1] > WINDOW[1]:
        assert abs(softmax(model(images).numpy()) - expected).max() > 1e-3, "the windows show"


@pytest.mark.parametrize("flip", [False, True])
def test_windows_are_those_of_each_scale_and_of_the_mirror_image(model: keras.Model, flip: bool) -> None:
    images, views = normalized((18, 30)), Views((0.5, 1.5), flip, (8, 10), 0.25)
    found = []
    for scale in views.scales:
        seen = tf.image.resize(images, [round(18 * scale), round(30 * scale)]).numpy()
        for step in (1, -1) if flip else (1,):
            logits = np.log(by_loop(model, seen[:, :, ::step], (8, 10), 0.25))[:, :, ::step]
            found.append(softmax(tf.image.resize(logits, (18, 30)).numpy()))
    for sides in ((18, 30), (None, None)):
        np.testing.assert_allclose(softmax(traced(model, views, *sides)(images).numpy()), np.mean(found, 0), atol=1e-5)


@settings(max_examples=200, deadline=None)
@given(side=st.integers(1, 400), length=st.integers(1, 200), overlap=st.floats(0, 0.99))
def test_windows_cover_a_side_evenly(side: int, length: int, overlap: float) -> None:
    axis = Axis.of(side, length, overlap, None)
    starts = [axis.start(number) for number in range(axis.count)]
    assert starts == starts_of(side, length, overlap)
    assert (starts[0], starts[-1] + axis.length) == (0, side)
    gaps = {after - before for before, after in itertools.pairwise(starts)}
    assert max(gaps, default=0) <= max(1, length - round(length * overlap))
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    counted = np.zeros(side)
    for start in starts:
        counted[start : start + length] += 1
    np.testing.assert_array_equal(axis.cover(), counted)


def test_a_wide_image_does_not_overflow() -> None:
    side, count = 2**31 - 2, MOST_WINDOWS
    axis = Axis.of(tf.constant(side), math.ceil(side / count), 0.0, None)
    assert axis.start(axis.count - 1) + axis.length == side


def test_the_model_sees_one_window_of_each_image_at_a_time(model: keras.Model) -> None:
    seen: list[tuple[int, ...]] = []

    class Watched(keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            tf.py_function(lambda x: seen.append(tuple(x.shape)), [x], [])
            return x

    watched = keras.Model(model.inputs, model(Watched()(model.inputs[0])))
    traced(watched, Views(window=WINDOW, overlap=0.5), None, None)(normalized((37, 53)))
    assert seen == [(2, *WINDOW, 3)] * (4 * 4)


def u2netp() -> keras.Model:
    return build("u2netp", num_classes=CLASSES, options={"width": 1 / 8, "batch_norm_momentum": 0.0})


def deeplabv3plus() -> keras.Model:
    options = {"backbone": "efficientnet_lite0", "decoder": "light", "batch_norm_momentum": 0.0}
    return build("deeplabv3plus", num_classes=CLASSES, options=options)


@pytest.mark.parametrize("sides", [(32, 64), (None, None)])
def test_one_window_gives_the_bits_of_the_whole_image(sides: tuple[int | None, int | None]) -> None:
    model, images = tiny(CLASSES, (None, None, 3)), normalized((32, 64))
    whole = traced(model, Views(), *sides)(images).numpy()
    for window in ((32, 64), (40, 64), (99, 99)):
        assert traced(model, Views(window=window, overlap=0.5), *sides)(images).numpy().tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny(CLASSES, (None, None, 3)),
        pytest.param(u2netp, marks=pytest.mark.torture),
        pytest.param(deeplabv3plus, marks=pytest.mark.slow),
    ],
    ids=["tiny", "u2netp", "deeplabv3plus"],
)
def test_one_window_in_a_saved_model_gives_the_bits_of_a_whole_prediction(
    make: Callable[[], keras.Model], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    model, size, description = make(), (32, 64), describe(size=(32, 64))
    model(normalized(size), training=True)  # activations that differ
    export_model(str(tmp_path / "model"), model, description, views=Views(window=size, overlap=0.5))
    images = pictures(size)
    expected = Segmenter(model, description).probabilities(images).numpy()
    assert expected.std() > 0.01
    signature = tf.saved_model.load(str(tmp_path / "model")).signatures["tensor_probabilities"]
    assert signature(images=tf.constant(images))["probabilities"].numpy().tobytes() == expected.tobytes()


def test_a_saved_model_sees_images_at_their_own_size(model: keras.Model, tmp_path: Path) -> None:
    description, views = describe(size=(20, 40)), Views(window=WINDOW, overlap=0.25)
    export_model(str(tmp_path / "model"), model, description, views=views)
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    for size in ((37, 53), (9, 30)):
        images = pictures(size)
        seen = ((images / 255 - description.mean) / description.std).astype(np.float32)
        expected = by_loop(model, seen, WINDOW, 0.25)
        found = signatures["tensor_probabilities"](images=tf.constant(images))["probabilities"].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
        files = tf.constant([saved(image) for image in images])
        assert signatures["probabilities"](image_bytes=files)["probabilities"].numpy().tobytes() == found.tobytes()
        class_map = signatures["tensor"](images=tf.constant(images))["class_map"]
        np.testing.assert_array_equal(class_map, found.argmax(-1))


def test_a_saved_model_refuses_an_image_of_too_many_windows(model: keras.Model, tmp_path: Path) -> None:
    export_model(str(tmp_path / "model"), model, describe(), views=Views(window=(1, 2), overlap=0.5))
    signature = tf.saved_model.load(str(tmp_path / "model")).signatures["tensor"]
    message = "more than 10,000 windows of 1x2 with overlap 0.5: use a smaller image, a larger window or"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signature(images=tf.constant(pictures((101, 101), 1)))
    with pytest.raises(ViewsError, match=r"an image of 101x101 has 10,100 windows of 1x2 .* more than 10,000: set a l"):
        export_model(str(tmp_path / "no"), model, describe(), size=(101, 101), views=Views(window=(1, 2), overlap=0.5))


@pytest.mark.parametrize("size", [(37, 53), (10, 53), (7, 9), WINDOW])
def test_a_model_of_one_size_sees_images_of_any_size(size: tuple[int, int]) -> None:
    """Smaller ones are padded with the mean."""
    fixed, views, images = make_model(WINDOW), Views(window=WINDOW, overlap=0.5), normalized(size)
    missing = [max(0, least - side) for least, side in zip(WINDOW, size, strict=True)]
    padded = np.pad(images, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)])
    expected = by_loop(fixed, padded, WINDOW, 0.5)[:, : size[0], : size[1]]
    for sides in (size, (None, None)):
        np.testing.assert_allclose(softmax(traced(fixed, views, *sides)(images).numpy()), expected, atol=1e-5)


def test_a_saved_model_of_one_size_takes_images_of_any_size(tmp_path: Path) -> None:
    fixed, views = make_model(WINDOW), Views(window=WINDOW)
    export_model(str(tmp_path / "model"), fixed, describe(), views=views)
    images = pictures((37, 53))
    found = tf.saved_model.load(str(tmp_path / "model")).signatures["tensor"](images=tf.constant(images))["class_map"]
    np.testing.assert_array_equal(found, Segmenter(make_model(), describe(), views=views).class_map(images))
    export_model(str(tmp_path / "fixed"), fixed, describe(), size=(20, 50), views=views)
    with pytest.raises(ExportError, match="--image_size=20x50: the model was built for images of 16x24"):
        export_model(str(tmp_path / "whole"), fixed, describe(), size=(20, 50))


def test_windows_that_a_model_does_not_take_are_refused(tmp_path: Path) -> None:
    wrong = Views(window=(16, 32))
    message = r"--window=16x32: the model was built for images of 16x24: set --window=16x24"
    for use in (
        lambda: Segmenter(make_model(WINDOW), describe(), views=wrong),
        lambda: export_model(str(tmp_path / "model"), make_model(WINDOW), describe(), views=wrong),
    ):
        with pytest.raises(ViewsError, match=message):
            use()
    with pytest.raises(ViewsError, match=r"images of anyx24: set --window=16x24"):
        Segmenter(make_model((None, 24)), describe(), views=wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window": (0, 5)}, "a window of 0x5 has no pixels: set sides of at least 1"),
        ({"window": (4, 5), "overlap": 1.0}, "overlap 1: set at least 0 and less than 1"),
        ({"window": (4, 5), "overlap": math.nan}, "overlap nan: set at least 0 and less than 1"),
        ({"overlap": 0.5}, "overlap 0.5 has no effect without windows: set --window, or no --overlap"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ViewsError, match=message):
        Views(**values)


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
def test_tflite_takes_windows_of_a_fixed_size(model: keras.Model, tmp_path: Path) -> None:
    export_model(str(tmp_path / "model"), model, describe(), size=(37, 53), views=Views(window=WINDOW, overlap=0.25))
    images = tf.constant(pictures((37, 53), 1))
    expected = tf.saved_model.load(str(tmp_path / "model")).signatures["tensor"](images=images)["class_map"]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"), signature_keys=["tensor"])
    runner = tf.lite.Interpreter(model_content=converter.convert()).get_signature_runner("tensor")
    assert (runner(images=images)["class_map"] != expected).numpy().mean() < 1e-3


def test_xla_compiles_windows_of_a_known_size(model: keras.Model) -> None:
    """As TPUs need it."""
    images, views = normalized((37, 53)), Views(window=WINDOW, overlap=0.25)
    compiled = tf.function(
        lambda x: predict_logits(model, x, views), [tf.TensorSpec(images.shape)], autograph=False, jit_compile=True
    )
    np.testing.assert_allclose(softmax(compiled(images).numpy()), by_loop(model, images, WINDOW, 0.25), atol=1e-5)
