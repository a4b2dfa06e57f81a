"""The signatures that take a tensor: what they give is what a file gives, and TFLite takes those of a fixed size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support.builds import real_scenes
from tests.support.color_model import describe, make_color_model
from tests.support.picture_files import saved
from tests.support.tiny import tiny
from trainer.export import main
from trainer.inference.model_file import save_model
from trainer.inference.saved_model import ExportError, export_model
from trainer.models import as_list, build
from trainer.models.layers import leaves

pytestmark = [
    # TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # The package that it names in its place has no wheel for every Python.
    pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning"),
]

SIZE = (32, 64)
DESCRIBED = describe(size=SIZE)
DISAGREEMENT = 1e-3  # largest share of pixels of which TFLite, which sums in another order, may see another class


def pictures(size: tuple[int, int] = SIZE, count: int = 2) -> np.ndarray:
    """uint8[count, H, W, 3], smooth."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 5, 7, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize(size[::-1], Image.Resampling.BICUBIC)) for each in noise])


def make_model(sides: tuple[int | None, int | None] = (None, None)) -> keras.Model:
    """Of a convolution that sees 5x5 pixels, and answers every change of one."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.RandomNormal(stddev=0.5)
    convolution = keras.layers.Conv2D(19, 5, kernel_initializer=start, padding="same")
    return keras.Sequential([keras.Input((*sides, 3)), convolution])


@pytest.fixture(scope="module")
def free_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("free") / "model"
    export_model(str(folder), make_model(), DESCRIBED)
    return folder


@pytest.fixture(scope="module")
def free(free_folder: Path) -> Any:
    return tf.saved_model.load(str(free_folder))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The size of the data set does not matter."""
    folder = tmp_path_factory.mktemp("fixed") / "model"
    export_model(str(folder), make_model(), describe(size=(16, 16)), size=SIZE)
    return tf.saved_model.load(str(folder))


def of_files(loaded: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> class maps and probabilities of the images as PNG files."""
    files = tf.constant([saved(image) for image in images])
    names = {"serving_default": "class_map", "probabilities": "probabilities"}
    found = [loaded.signatures[signature](image_bytes=files)[name].numpy() for signature, name in names.items()]
    return found[0], found[1]


def of_tensor(loaded: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names = {"tensor": "class_map", "tensor_probabilities": "probabilities"}
    tensor = tf.constant(images)
    found = [loaded.signatures[signature](images=tensor)[name].numpy() for signature, name in names.items()]
    return found[0], found[1]


def check_equal(loaded: Any, images: np.ndarray) -> None:
    """To the bit."""
    for tensor, files in zip(of_tensor(loaded, images), of_files(loaded, images), strict=True):
        assert tensor.dtype == files.dtype
        assert tensor.tobytes() == files.tobytes()
        assert tensor.shape == files.shape


@pytest.mark.parametrize("exported", ["free", "fixed"])
def test_a_tensor_gives_the_bits_of_its_files(exported: str, request: pytest.FixtureRequest) -> None:
    loaded = request.getfixturevalue(exported)
    images = pictures()
    check_equal(loaded, images)
    class_map, probabilities = of_tensor(loaded, images)
    assert class_map.dtype == np.uint8
    assert class_map.shape == (2, *SIZE)
    assert len(np.unique(class_map)) > 2
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    changed = images.copy()
    changed[0, 3, 3, 1] ^= 1
    assert of_tensor(loaded, changed)[1].tobytes() != probabilities.tobytes(), "a level of a pixel is seen"


def test_real_scenes_give_the_bits_of_their_files(free: Any, fixed: Any) -> None:
    """Of 1024x2048 pixels, which both signatures resize if the size is free."""
    paths = sorted(real_scenes("cityscapes_sample").rglob("*_leftImg8bit.png"))[:2]
    with Image.open(paths[0]) as first, Image.open(paths[1]) as second:
        check_equal(free, np.asarray(first)[None])
        small = [np.asarray(each.resize(SIZE[::-1], Image.Resampling.BOX)) for each in (first, second)]
    check_equal(fixed, np.stack(small))


@pytest.mark.parametrize("size", [(64, 128), (16, 40), (50, 33)])
def test_a_free_tensor_is_resized_as_its_file_is(free: Any, size: tuple[int, int]) -> None:
    check_equal(free, pictures(size))


@pytest.mark.parametrize("size", [(64, 128), (16, 40), (64, 33)])
def test_with_a_fixed_size_files_are_resized_to_it_and_their_results_back(fixed: Any, size: tuple[int, int]) -> None:
    class_map, probabilities = of_files(fixed, pictures(size))
    assert class_map.shape == (2, *size)
    resized = [Image.fromarray(each).resize(SIZE[::-1], Image.Resampling.BILINEAR) for each in pictures(size)]
    seen = of_tensor(fixed, np.stack([np.asarray(each) for each in resized]))[1]
    expected = tf.image.resize(seen, size).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=0.2)  # pixels are up to some levels off
    assert (class_map == expected.argmax(-1)).mean() > 0.95


@pytest.mark.parametrize("signature", ["tensor", "tensor_probabilities"])
def test_a_tensor_of_another_size_is_refused(fixed: Any, signature: str) -> None:
    function = fixed.signatures[signature]
    assert function.structured_input_signature[1]["images"].shape.as_list() == [None, *SIZE, 3]
    message = r"tensor images \[2,32,32,3\] is not compatible with expected shape \[\?,32,64,3\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        function(images=tf.constant(pictures((32, 32))))


def test_a_model_that_was_built_for_one_size_keeps_it(tmp_path: Path) -> None:
    model = make_model(SIZE)
    with pytest.raises(ExportError, match=r"--image_size=64x64: .* for images of 32x64: leave --image_size out"):
        export_model(str(tmp_path / "model"), model, DESCRIBED, size=(64, 64))
    assert not list(tmp_path.iterdir())
    export_model(str(tmp_path / "model"), model, DESCRIBED)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert loaded.signatures["tensor"].structured_input_signature[1]["images"].shape.as_list() == [None, *SIZE, 3]
    check_equal(loaded, pictures())


def test_the_command_fixes_the_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(str(tmp_path / "best.keras"), make_color_model(DESCRIBED), DESCRIBED)
    arguments = [f"--model={tmp_path / 'best.keras'}", f"--output={tmp_path / 'model'}", "--image_size=24x40"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'model'}: deeplabv3plus of 19 classes (cityscapes19), from image_bytes or images of 24x40 to "
        "class_map\n"
    )
    check_equal(tf.saved_model.load(str(tmp_path / "model")), pictures((24, 40)))
    with pytest.raises(SystemExit):
        main([*arguments[:2], "--image_size=24"])
    assert "'24' is not HEIGHTxWIDTH" in capsys.readouterr().err


def convert(folder: Path, signature: str = "tensor") -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signature])
    assert converter.target_spec.supported_ops == {tf.lite.OpsSet.TFLITE_BUILTINS}
    assert not converter.allow_custom_ops
    content: bytes = converter.convert()
    return content


def balance(model: keras.Model, inputs: np.ndarray) -> None:
    """Makes activations vary as those of a trained model do, and the mean logits of all classes equal."""
    model(inputs, training=True)
    logits = as_list(model(inputs, training=False))[0]
    (last,) = (layer for layer in leaves(model) if layer.name in ("logits", "logits_fused"))
    last.bias.assign_sub(tf.reduce_mean(logits, [0, 1, 2]))


def tiny_model() -> keras.Model:
    return tiny(19, (None, None, 3))


def u2netp() -> keras.Model:
    return build("u2netp", num_classes=19, options={"width": 1 / 8, "batch_norm_momentum": 0.0})


def deeplabv3plus() -> keras.Model:
    options = {"backbone": "efficientnet_lite0", "decoder": "light", "batch_norm_momentum": 0.0}
    return build("deeplabv3plus", num_classes=19, options=options)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (tiny_model, SIZE),
        pytest.param(u2netp, (40, 72), marks=pytest.mark.torture),
        pytest.param(deeplabv3plus, (64, 96), marks=pytest.mark.slow),
    ],
)
def test_tflite_sees_the_classes_of_the_saved_model(
    make: Callable[[], keras.Model], size: tuple[int, int], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    model = make()
    images = pictures(size, 4)
    balance(model, (images / 255.0 - DESCRIBED.mean) / DESCRIBED.std)
    export_model(str(tmp_path / "model"), model, DESCRIBED, size=size)
    expected = of_tensor(tf.saved_model.load(str(tmp_path / "model")), images)[0]
    shares = np.bincount(expected.ravel(), minlength=19) / expected.size
    assert sorted(shares)[-3] > 10 * DISAGREEMENT, "at least three classes that count"
    interpreter = tf.lite.Interpreter(model_content=convert(tmp_path / "model"))
    runner = interpreter.get_signature_runner("tensor")
    one_by_one = np.concatenate([runner(images=image[None])["class_map"] for image in images])
    for found in (one_by_one, runner(images=images)["class_map"]):
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        assert (found != expected).mean() <= DISAGREEMENT


@pytest.mark.slow
@pytest.mark.parametrize(("signature", "operation"), [("tensor", "ScaleAndTranslate"), ("probabilities", "TensorList")])
def test_what_resizes_or_decodes_is_not_converted(free_folder: Path, signature: str, operation: str) -> None:
    """So the test above can fail."""
    with pytest.raises(Exception, match=operation):
        convert(free_folder, signature)
