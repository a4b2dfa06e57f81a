from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from beam_pipelines.pixels.conform import conform_image, fit
from tests.support.builds import build, make_flat
from tests.support.color_model import CITYSCAPES, blocky_ids, colors_of, describe, make_color_model, paint
from trainer.data.dataset import open_dataset, read_manifest
from trainer.inference.logits import predict_logits
from trainer.inference.model_file import Description
from trainer.inference.segmenter import Segmenter, network_input
from trainer.inference.views import Views

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras sets a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PIXELS = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}  # nothing is normalized


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def seen(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """The pixels that a network gets, float64[h, w, 3] of 0..255."""
    inputs = network_input(tf.constant(image[None]), describe(size=size, **PIXELS))
    return inputs[0].numpy().astype(float)


@pytest.mark.usefixtures("without_transform")
@pytest.mark.parametrize("encoding", ["float32", "png"])
def test_what_the_network_gets_is_what_the_shards_hold(tmp_path: Path, encoding: str) -> None:
    source = make_flat(tmp_path / "in", train=3, val=1, size=(64, 128))
    arguments = (f"--input={source}", f"--output={tmp_path / 'out'}", "--labels=camvid11", "--image_size=32x64")
    assert build(*arguments, f"--image_encoding={encoding}") == 0
    manifest = read_manifest(str(tmp_path / "out"))
    description = Description.of("deeplabv3plus", manifest, step=0, mean_iou=None)
    examples = list(open_dataset(str(tmp_path / "out"), "train").as_numpy_iterator())
    assert len(examples) == 3
    for example in examples:
        picture = np.asarray(Image.open(source / example["filename"].decode()))
        inputs = network_input(tf.constant(picture[None]), description)[0].numpy()
        assert inputs.shape == (32, 64, 3)
        np.testing.assert_allclose(inputs, example["image"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 3, 5, 6, 10, 12])
def test_whole_factors_shrink_to_the_very_pixels_of_the_pipeline(factor: int) -> None:
    image = noise(40 * factor, 60 * factor)
    expected = conform_image(image, fit(image.shape[:2], (40, 60), "reject"), "area")
    np.testing.assert_array_equal(np.round(seen(image, (40, 60)), 3), expected)


@pytest.mark.parametrize("size", [(96, 192), (30, 60), (77, 154), (127, 254), (200, 400), (129, 258)])
def test_other_factors_give_the_pixels_of_the_pipeline_to_a_level(size: tuple[int, int]) -> None:
    image = noise(128, 256)
    expected = conform_image(image, fit((128, 256), size, "reject"), "area").astype(float)
    assert abs(seen(image, size) - expected).max() < 1.01


@pytest.mark.parametrize("size", [(64, 128), (40, 40), (200, 300), (64, 300), (200, 128), (128, 256)])
def test_a_fixed_size_gives_the_stretched_pixels_of_the_pipeline_to_a_level(size: tuple[int, int]) -> None:
    image = noise(128, 256)
    expected = conform_image(image, fit((128, 256), size, "stretch"), "area").astype(float)
    inputs = network_input(tf.constant(image[None]), describe(size=(16, 16), **PIXELS), size)
    assert abs(inputs[0].numpy().astype(float) - expected).max() < 1.01


@pytest.mark.parametrize(
    ("picture", "size", "expected"),
    [
        ((64, 128), (32, 64), (32, 64)),
        ((100, 100), (32, 64), (32, 32)),
        ((16, 100), (32, 64), (32, 200)),
        ((30, 41), (32, 64), (32, 44)),  # 43.73
        ((640, 3), (32, 64), (32, 1)),  # 0.15
        ((17, 23), None, (17, 23)),
    ],
)
def test_pictures_get_the_trained_height_and_keep_their_shape(
    picture: tuple[int, int], size: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert seen(noise(*picture), size).shape == (*expected, 3)


def test_inputs_are_normalized_and_a_std_of_0_counts_as_1() -> None:
    description = describe(mean=(0.1, 0.2, 0.3), std=(0.5, 0.0, 0.25), size=None)
    image = noise(4, 5)
    expected = (image / 255.0 - (0.1, 0.2, 0.3)) / (0.5, 1, 0.25)
    np.testing.assert_allclose(network_input(tf.constant(image[None]), description)[0], expected, atol=1e-5)


@pytest.mark.parametrize("picture", [(32, 64), (96, 192), (16, 24), (50, 33)])
def test_a_painted_picture_gives_its_classes_at_its_own_size(picture: tuple[int, int]) -> None:
    description = describe(size=(32, 64))
    ids = blocky_ids(*picture, block=picture[0] // 2)
    segmented = Segmenter(make_color_model(description), description).class_map(paint(ids)[None])
    assert segmented.dtype == tf.uint8
    assert segmented.shape == (1, *picture)
    same = segmented[0].numpy() == ids
    if picture == (32, 64):
        assert same.all()
    assert same.mean() > 0.85  # what is blended lies at the edges of the squares


@pytest.mark.parametrize("picture", [(32, 64), (16, 32), (64, 128)])
def test_probabilities_are_those_of_the_formula(picture: tuple[int, int]) -> None:
    """The oracle: distances to the colors in float64, a softmax, and Pillow's bilinear resizing."""
    description = describe(size=(32, 64))
    image = noise(*picture)
    segmenter = Segmenter(make_color_model(description, sharpness=1e-4), description)
    probabilities = segmenter.probabilities(image[None])[0].numpy()
    pixels = conform_image(image, fit(picture, (32, 64), "reject"), "area").astype(float)
    distances = ((pixels[..., None, :] - colors_of(CITYSCAPES)) ** 2).sum(-1)
    expected = np.exp(-1e-4 * (distances - distances.min(-1, keepdims=True)))
    expected /= expected.sum(-1, keepdims=True)
    if picture[0] < 32:  # Pillow would smooth where it shrinks: at half the size, bilinear is the mean of 2 x 2
        expected = expected.reshape(16, 2, 32, 2, -1).mean((1, 3))
        tolerance = 0.01  # Pillow's enlarged pixels differ by a level
    else:
        planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(expected, -1, 0)]
        resized = [plane.resize(picture[::-1], Image.Resampling.BILINEAR) for plane in planes]
        expected, tolerance = np.stack([np.asarray(plane) for plane in resized], -1), 1e-4
    np.testing.assert_allclose(probabilities, expected, atol=tolerance)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(segmenter.class_map(image[None])[0], probabilities.argmax(-1))


def test_a_picture_of_the_trained_size_is_segmented_as_it_is_evaluated() -> None:
    keras.utils.set_random_seed(0)
    start = keras.initializers.RandomNormal(stddev=0.5)
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(19, 5, kernel_initializer=start, padding="same")]
    )
    images = np.stack([noise(32, 64, seed) for seed in range(2)])
    description = describe()
    views = Views((0.75, 1.0), flip=True)
    normalized = (images / 255 - description.mean) / description.std
    logits = predict_logits(model, tf.constant(normalized, tf.float32), views)
    probabilities = Segmenter(model, description, views=views).probabilities(images)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits), atol=1e-4)
    single = Segmenter(model, description).probabilities(images)
    assert abs(single - probabilities).numpy().max() > 1e-3
