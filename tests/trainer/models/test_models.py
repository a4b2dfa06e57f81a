from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.contract.normalization import Normalization
from trainer.models import as_list, build, option_defaults
from trainer.models.backbones.keras_xception import matching_layers, pretrained_xception
from trainer.models.errors import ModelError, WeightsError
from trainer.models.layers import (
    AtrousMaxPool,
    Convolutions,
    CropLike,
    DivideByMaximum,
    PadToMultiple,
    ResizeLike,
    apply_block,
    leaves,
)

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "xception41": ("deeplabv3plus", {"backbone": "xception41", "width": 1 / 16}),
    "keras_xception": ("deeplabv3plus", {"backbone": "keras_xception", "width": 1 / 16}),
    "efficientnet_lite0": ("deeplabv3plus", {"backbone": "efficientnet_lite0", "decoder": "light", "width": 1 / 8}),
    "u2netp": ("u2netp", {"width": 1 / 8}),
}
each_small = pytest.mark.parametrize("small", SMALL)
MIXED = ("xception41", "efficientnet_lite0", "u2netp")
each_architecture = pytest.mark.parametrize("small", MIXED)
MEAN, STD = (0.41, 0.43, 0.45), (0.31, 0.3, 0.29)
NORMALIZATION = Normalization(MEAN, STD)


@pytest.fixture(scope="module")
def models() -> dict[str, keras.Model]:
    """The small networks, of any size: tests leave them as they find them."""
    keras.utils.set_random_seed(0)
    return {small: build_small(small) for small in SMALL}


def build_small(small: str, *, shape: tuple[int | None, int | None, int] = (None, None, 3), **more: Any) -> keras.Model:
    name, options = SMALL[small]
    return build(name, num_classes=3, input_shape=shape, options={**options, **more})


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    """keras.applications.Xception, not trained, with other statistics of batch normalization than it starts with."""
    keras.utils.set_random_seed(1)
    model = keras.applications.Xception(weights=None, include_top=False)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


@pytest.fixture(scope="module")
def weights_file(reference: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "xception.weights.h5"
    reference.save_weights(path)
    return path


@pytest.fixture(scope="module")
def finetuned(weights_file: Path) -> keras.Model:
    return pretrained(weights_file)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pretrained(weights: Any, **options: Any) -> keras.Model:
    given = {"backbone": "keras_xception", "backbone_weights": str(weights), "normalization": NORMALIZATION, **options}
    return build("deeplabv3plus", num_classes=2, options=given)


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


# Parameter counts


@pytest.mark.parametrize(
    ("backbone", "decoder", "total", "trained"),
    [
        # 41,258,213: DeepLabV3+ (xception) of bonlime/keras-deeplab-v3-plus, into which the official checkpoint
        # (21 classes of PASCAL VOC) was converted, as the README of ZFTurbo/Keras-inference-time-optimizer counts it.
        ("xception65", "full", 41_258_213, 41_055_413),
        # Our own counts, to freeze the architecture.
        ("xception41", "full", 28_241_573, 28_108_661),
        ("xception71", "full", 43_694_413, 43_477_837),
        ("keras_xception", "full", 24_067_181, 23_995_053),
        ("efficientnet_lite0", "full", 3_919_397, 3_872_709),
        ("efficientnet_lite0", "light", 3_347_341, 3_303_309),
    ],
)
def test_deeplab_has_the_published_number_of_parameters(backbone: str, decoder: str, total: int, trained: int) -> None:
    model = build("deeplabv3plus", num_classes=21, options={"backbone": backbone, "decoder": decoder})
    assert (model.count_params(), trainable(model)) == (total, trained)


@pytest.mark.parametrize(("name", "trained"), [("u2net", 44_009_869), ("u2netp", 1_131_181)])
def test_u2net_has_the_published_number_of_parameters(name: str, trained: int) -> None:
    # The official PyTorch classes U2NET and U2NETP with one class, as fvcore counts them: the table "Parameters and
    # FLOPs" in the README of samhaswon/skin_segmentation. PyTorch keeps running statistics outside its parameters.
    assert trainable(build(name, num_classes=1)) == trained


def test_each_map_of_u2net_has_all_classes(models: dict[str, keras.Model]) -> None:
    model = models["u2netp"]
    logits = model.get_layer("logits")
    sides = [logits.get_layer(f"logits_side{number}").kernel.shape for number in range(1, 7)]
    assert {tuple(side) for side in sides} == {(3, 3, 8, 3)}
    assert tuple(logits.get_layer("logits_fused").kernel.shape) == (1, 1, 6 * 3, 3)


# Sizes


@each_small
def test_any_size_goes_in_and_comes_out(models: dict[str, keras.Model], small: str) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def logits(images: tf.Tensor) -> list[tf.Tensor]:
        return as_list(models[small](images, training=False))

    for size in ((33, 47), (1, 1), (64, 32)):
        outputs = logits(noise(2, *size, 3))
        assert [output.shape for output in outputs] == [(2, *size, 3)] * (7 if small == "u2netp" else 1)
        assert all(output.dtype == tf.float32 and np.isfinite(output).all() for output in outputs)


@each_small
def test_a_given_size_stays_static_and_changes_nothing(models: dict[str, keras.Model], small: str) -> None:
    fixed = build_small(small, shape=(40, 50, 3))
    assert {tuple(output.shape) for output in fixed.outputs} == {(None, 40, 50, 3)}
    assert all(None not in layer.output.shape[1:] for layer in leaves(fixed))
    fixed.set_weights(models[small].get_weights())
    images = noise(1, 40, 50, 3)
    for one, other in zip(as_list(fixed(images)), as_list(models[small](images)), strict=True):
        np.testing.assert_array_equal(one, other)


def mirror(model: keras.Model) -> None:
    """Turns every kernel left to right."""
    for variable in model.variables:
        if len(variable.shape) == 4:
            variable.assign(np.flip(variable.numpy(), axis=1))


def mirrored_difference(model: keras.Model, size: tuple[int, int]) -> float:
    """Between mirrored logits and the logits of the mirrored image by the mirrored network, relative to their std."""
    images = noise(1, *size, 3)
    before = as_list(model(images))[0].numpy()
    mirror(model)
    after = as_list(model(images[:, :, ::-1]))[0].numpy()
    mirror(model)
    return float(np.abs(after[:, :, ::-1] - before).max() / before.std())


@each_small
def test_nothing_in_the_network_shifts_the_features(models: dict[str, keras.Model], small: str) -> None:
    assert mirrored_difference(models[small], (32, 64) if small == "u2netp" else (33, 49)) < 1e-3


def test_the_mirror_sees_a_shift(models: dict[str, keras.Model]) -> None:
    # DeepLab pads even sizes on one side, which a mirror does see.
    assert mirrored_difference(models["xception41"], (32, 48)) > 1e-2


# Atrous convolution


def features(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Those at the output stride."""
    padded = keras.Model(model.input, model.get_layer("pad").output)(images)
    return model.get_layer("backbone")(padded)[1].numpy()


@pytest.mark.parametrize("small", ["xception41", "keras_xception", "efficientnet_lite0"])
def test_stride_8_computes_the_features_of_stride_16_and_those_between(
    models: dict[str, keras.Model], small: str
) -> None:
    sparse, dense = models[small], build_small(small, output_stride=8)
    dense.set_weights(sparse.get_weights())
    images = noise(1, 65, 81, 3)
    few, many = features(sparse, images), features(dense, images)
    assert few.shape[1:3] == (5, 6)
    assert many.shape[1:3] == (9, 11)
    np.testing.assert_allclose(many[:, ::2, ::2], few, rtol=1e-4, atol=1e-5 * few.std())


@pytest.mark.parametrize(("output_stride", "step"), [(16, 2), (8, 4)])
def test_keras_xception_computes_what_keras_does(
    reference: keras.Model, weights_file: Path, finetuned: keras.Model, output_stride: int, step: int
) -> None:
    # From the third layer on: the first two pad here and do not there. Keras' features are at stride 32.
    model = finetuned if output_stride == 16 else pretrained(weights_file, output_stride=output_stride)
    theirs = keras.Model(reference.get_layer("block1_conv2_act").output, reference.output)
    backbone = model.get_layer("backbone")
    ours = keras.Model(backbone.get_layer("block1_conv2_relu").output, backbone.output[1])
    x = np.abs(noise(1, 65, 49, 64))
    expected = theirs(x).numpy()
    np.testing.assert_allclose(ours(x).numpy()[:, ::step, ::step], expected, rtol=1e-3, atol=1e-4 * expected.std())


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_the_depthwise_convolution_is_atrous(rate: int) -> None:
    convolutions = Convolutions(width=1, epsilon=0, momentum=0.9, synchronized=False)
    images = keras.Input((None, None, 2))
    outputs = convolutions.separable(images, 4, rate=rate, depthwise_relu=False, relu=False, name="x")
    model = keras.Model(images, outputs)
    x = noise(1, 7, 8, 2).astype(np.float64)
    depthwise, pointwise = (
        model.get_layer(f"x_{name}").get_weights()[0].astype(np.float64) for name in ("depthwise", "pointwise")
    )
    padded = np.pad(x, [(0, 0), (rate, rate), (rate, rate), (0, 0)])
    taps = ((row, column) for row in range(3) for column in range(3))
    between = sum(
        padded[:, row * rate : row * rate + 7, column * rate : column * rate + 8] * depthwise[row, column, :, 0]
        for row, column in taps
    )
    np.testing.assert_allclose(model(x), between @ pointwise[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [1, 2])
def test_the_atrous_maximum(rate: int) -> None:
    x = noise(1, 7, 9, 2) - 5  # below 0: a border of zeros would show
    dense = AtrousMaxPool(rate)(x).numpy()
    for row, column in np.ndindex(rate, rate):
        pooled = keras.layers.MaxPooling2D(3, strides=1, padding="same")(x[:, row::rate, column::rate])
        np.testing.assert_array_equal(dense[:, row::rate, column::rate], pooled)


# Padding, resizing, cropping


@pytest.mark.parametrize(("size", "padded"), [((1, 16), (1, 17)), ((17, 18), (17, 33)), ((33, 32), (33, 33))])
def test_padding_is_zero_and_cropping_undoes_it(size: tuple[int, int], padded: tuple[int, int]) -> None:
    images = noise(2, *size, 3)
    result = PadToMultiple(16, extra=1)(images)
    assert result.shape == (2, *padded, 3)
    assert np.count_nonzero(result) == images.size
    np.testing.assert_array_equal(CropLike()(result, images), images)


def test_resizing_with_aligned_corners_continues_a_ramp() -> None:
    ramp = np.arange(5, dtype=np.float32)[None, :, None, None] * 16 + np.arange(3, dtype=np.float32)[:, None] * 16
    resized = ResizeLike(align_corners=True)(ramp, np.zeros((1, 65, 33, 1))).numpy()[0, :, :, 0]
    np.testing.assert_allclose(resized, np.arange(65)[:, None] + np.arange(33)[None, :], rtol=1e-6)


def test_resizing_at_half_pixel_centers() -> None:
    resized = ResizeLike(align_corners=False)(np.array([0.0, 1.0])[None, None, :, None], np.zeros((1, 2, 4, 1)))
    np.testing.assert_array_equal(resized[0, :, :, 0], [[0, 0.25, 0.75, 1]] * 2)


def test_each_image_is_divided_by_its_own_largest_number() -> None:
    images = np.random.default_rng(0).uniform(0, 0.5, (3, 4, 5, 3)).astype(np.float32)
    images[2] = 1e-7  # black, but for rounding
    divided = DivideByMaximum()(images).numpy()
    np.testing.assert_allclose(divided[:2].max((1, 2, 3)), 1)
    np.testing.assert_allclose(divided[:2], images[:2] / images[:2].max((1, 2, 3), keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(divided[2], 1e-7 * 255, rtol=1e-6)


# Training


@each_small
def test_gradients_reach_every_variable(models: dict[str, keras.Model], small: str) -> None:
    model = models[small]
    before = model.get_weights()
    with tf.GradientTape() as tape:
        # The first output alone: the side outputs of U2-Net are what the fused one is made of.
        loss = tf.reduce_sum(as_list(model(noise(4, 33, 35, 3), training=True))[0] * noise(4, 33, 35, 3, seed=2))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    model.set_weights(before)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        before_norm = small == "u2netp" and variable.path.endswith("bias") and "logits" not in variable.path
        assert before_norm or np.any(gradient), variable.path  # batch normalization takes a bias before it out


@pytest.fixture(scope="module")
def mixed_and_synchronized() -> dict[str, keras.Model]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return {small: build_small(small, sync_batch_norm=True) for small in MIXED}
    finally:
        keras.config.set_dtype_policy("float32")


@each_architecture
def test_logits_are_float32_under_mixed_precision(mixed_and_synchronized: dict[str, keras.Model], small: str) -> None:
    model = mixed_and_synchronized[small]
    heads = [layer for layer in leaves(model) if layer.name.startswith("logits")]
    heads = [layer for layer in heads if not isinstance(layer, keras.layers.InputLayer)]
    assert {layer.compute_dtype for layer in heads} == {"float32"}
    assert {layer.compute_dtype for layer in leaves(model) if "conv1" in layer.name} == {"bfloat16"}
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    outputs = as_list(model(noise(1, 32, 40, 3)))
    assert all(output.dtype == tf.float32 and np.isfinite(output).all() for output in outputs)


@each_architecture
def test_batch_normalization_is_synchronized_on_demand(
    models: dict[str, keras.Model], mixed_and_synchronized: dict[str, keras.Model], small: str
) -> None:
    for built, synchronized in ((models, False), (mixed_and_synchronized, True)):
        norms = [layer for layer in leaves(built[small]) if isinstance(layer, keras.layers.BatchNormalization)]
        assert {layer.synchronized for layer in norms} == {synchronized}


@each_architecture
def test_the_round_trip_through_a_file_changes_nothing(
    models: dict[str, keras.Model], small: str, tmp_path: Path
) -> None:
    images = noise(1, 33, 35, 3)
    models[small].save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(as_list(models[small](images)), as_list(loaded(images)), strict=True):
        np.testing.assert_array_equal(one, other)
    configs = ([layer.get_config() for layer in leaves(model)] for model in (loaded, models[small]))
    assert next(configs) == next(configs)


@pytest.mark.parametrize(
    "layer",
    [
        PadToMultiple(16, extra=1, name="x"),
        ResizeLike(align_corners=True, name="x", dtype="float32"),
        CropLike(name="x", dtype="float32"),
        AtrousMaxPool(2, name="x", dtype="mixed_bfloat16"),
        DivideByMaximum(name="x"),
    ],
)
def test_layers_come_back_from_their_configuration(layer: keras.layers.Layer) -> None:
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert (copy.get_config(), copy.autocast) == (layer.get_config(), layer.autocast)
    assert copy.get_config()["name"] == "x"


@each_architecture
def test_the_summary_names_the_parts(
    models: dict[str, keras.Model], small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models[small].summary(line_length=150)
    text = capsys.readouterr().out
    assert f'Model: "{SMALL[small][0]}"' in text
    for part in ("stage1", "stage1d", "logits") if small == "u2netp" else ("backbone", "aspp", "decoder", "logits"):
        assert f" {part} (" in text
    assert text.count("\n") <= 70


# SHA-256 of the paths of all variables, in the order in which checkpoints number them: `--initial_model` and runs that
# were begun before need both as they are.
PATHS = {
    "xception41": "d6f77ccd222748dbf3a9501acab272599fb8b4363fc227bc3aa22b39b273c019",
    "keras_xception": "f21f728f64da873a8f0f1c29711891fe12772b7894d73ac1b4c80eb3b86bc4d1",
    "efficientnet_lite0": "c98c4d3c97005a16f651f599ca744bbf8836022bf263a6ab70634f508303eb2f",
    "u2netp": "bea089690aa53e08a248403722537a299ffca3a7b285851d0989ac2eb571cb1b",
}


@each_small
def test_variables_keep_their_paths_and_order(models: dict[str, keras.Model], small: str) -> None:
    paths = [variable.path for variable in models[small].variables if "seed_generator" not in variable.path]
    assert hashlib.sha256("\n".join(paths).encode()).hexdigest() == PATHS[small]


def test_a_block_computes_what_its_layers_do() -> None:
    def layers_of(x: Any, y: Any) -> tuple[Any, Any]:
        x = keras.layers.Conv2D(4, 3, padding="same", name="first")(x)
        return x, keras.layers.Conv2D(2, 1, name="second")(keras.layers.Concatenate(name="both")([x, y]))

    def make(in_block: bool) -> keras.Model:
        keras.utils.set_random_seed(5)
        x, y = keras.Input((None, None, 3)), keras.Input((None, None, 1))
        return keras.Model([x, y], list(apply_block("part", layers_of, x, y) if in_block else layers_of(x, y)))

    one, other = make(in_block=True), make(in_block=False)
    assert [layer.name for layer in one.layers if layer.weights] == ["part"]
    assert [each.path for each in one.variables] == [each.path for each in other.variables]
    assert {layer.name for layer in leaves(one)} > {layer.name for layer in leaves(other) if layer.weights}
    given = [noise(1, 5, 6, 3), noise(1, 5, 6, 1)]
    for mine, theirs in zip(one(given), other(given), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# Pretrained weights


def test_a_weights_file_is_loaded_into_all_layers(reference: keras.Model, finetuned: keras.Model) -> None:
    pairs = matching_layers(reference)
    assert sum(theirs.count_params() for theirs, _ in pairs) == reference.count_params()
    assert len({ours for _, ours in pairs}) == len(pairs)
    assert_loaded(finetuned, reference)


def assert_loaded(model: keras.Model, reference: keras.Model) -> None:
    by_name = {layer.name: layer for layer in leaves(model)}
    for theirs, ours in matching_layers(reference):
        for expected, loaded in zip(theirs.get_weights(), by_name[ours].get_weights(), strict=True):
            np.testing.assert_array_equal(loaded, expected)


def test_the_form_of_file_that_keras_downloads_loads_with_its_classifier_too(tmp_path: Path) -> None:
    classifier = keras.applications.Xception(weights=None, classes=1000)
    legacy_h5(classifier, tmp_path / "xception.h5")
    assert_equal_weights(pretrained_xception(str(tmp_path / "xception.h5")), classifier)


def test_a_saved_model_loads(reference: keras.Model, tmp_path: Path) -> None:
    reference.save(tmp_path / "xception.keras")
    assert_equal_weights(pretrained_xception(str(tmp_path / "xception.keras")), reference)


def assert_equal_weights(loaded: keras.Model, reference: keras.Model) -> None:
    for (ours, _), (theirs, _) in zip(matching_layers(loaded), matching_layers(reference), strict=True):
        for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def legacy_h5(model: keras.Model, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{index}" for index in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=weight)


def test_pretrained_filters_see_pixels_between_minus_one_and_one(finetuned: keras.Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 17, 17, 3)).astype(np.float32)
    normalized = ((pixels / 255 - MEAN) / STD).astype(np.float32)
    seen = keras.Model(finetuned.input, finetuned.get_layer("rescale").output)(normalized).numpy()
    np.testing.assert_allclose(seen, keras.applications.xception.preprocess_input(pixels.copy()), atol=1e-6)


def test_a_missing_network_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    if any(Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"), "models").glob("xception_weights*notop.h5")):
        pytest.skip("the weights have been downloaded before")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(WeightsError, match=r"could not be downloaded: .*--backbone_weights") as caught:
        pretrained("imagenet")
    assert "http" not in str(caught.value)


# Refusals


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {}, "unknown model 'unet'; the models are deeplabv3plus, u2net, u2netp"),
        (
            "u2net",
            {"backbone": "xception65"},
            "u2net has no option 'backbone'; its options are backbone_weights, ",
        ),
        (
            "deeplabv3plus",
            {"backbone": "resnet"},
            "unknown backbone 'resnet'; the backbones are xception65, x",
        ),
        ("deeplabv3plus", {"output_stride": 4}, "output_stride is 4: set 16 or 8"),
        ("deeplabv3plus", {"decoder": "heavy"}, "unknown decoder 'heavy'; the decoders are full, light"),
        ("deeplabv3plus", {"backbone_weights": "imagenet"}, "backbone_weights=imagenet needs the `normalization`"),
        (
            "deeplabv3plus",
            {"backbone": "keras_xception", "width": 0.5, "backbone_weights": "x.h5", "normalization": NORMALIZATION},
            "and the model has keras_xception of width 0.5",
        ),
        (
            "deeplabv3plus",
            {"backbone": "keras_xception", "backbone_weights": "x.h5"},
            "backbone_weights=x.h5 needs the `normalization` of the images",
        ),
        (
            "deeplabv3plus",
            {"backbone": "keras_xception", "depthwise_relu": False},
            "backbone keras_xception has no option depthwise_relu",
        ),
    ],
)
def test_refusals_say_what_there_is(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, num_classes=2, options=options)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes is 0: at least 1 is needed"):
        build("u2netp", num_classes=0)


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no file .*absent\.h5; set `none`, `imagenet` or the path"):
        pretrained(tmp_path / "absent.h5")


@pytest.mark.parametrize("name", ["noise.h5", "other.weights.h5"])
def test_a_file_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    if name == "noise.h5":
        (tmp_path / name).write_bytes(b"not HDF5")
    else:
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save_weights(tmp_path / name)
    with pytest.raises(ModelError, match=r"does not contain the weights of keras\.applications\.Xception \("):
        pretrained(tmp_path / name)


def test_option_defaults_are_the_published_network() -> None:
    assert option_defaults("deeplabv3plus")["backbone"] == "xception65"
    assert all(option_defaults(name)["width"] == 1 for name in ("deeplabv3plus", "u2net", "u2netp"))
