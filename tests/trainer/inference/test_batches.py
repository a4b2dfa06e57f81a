"""Images that the model gets several at a time: the same files as one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support.color_model import describe
from tests.support.tiny import tiny
from trainer.inference.model_file import save_model
from trainer.inference.outputs import Picture
from trainer.inference.prediction import by_size
from trainer.inference.request import parse_predict
from trainer.inference.segmenter import Segmenter
from trainer.predict import main

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

WIDE, TALL = (32, 64), (48, 24)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("run")
    save_model(str(folder / "best.keras"), tiny(19, (None, None, 3)), describe(size=None))
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 of one size and 4 of another in between, of which one is damaged."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(13):
        size = TALL if number % 3 == 1 else WIDE
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{number:02}.png")
    whole = (folder / "06.png").read_bytes()
    (folder / "06.png").write_bytes(whole[: len(whole) // 2])
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def predict(run: Path, images: Path, output: Path, *arguments: str) -> dict[str, bytes]:
    assert main([f"--model={run}", f"--images={images}", f"--output={output}", *arguments]) == 0
    return files_of(output)


@pytest.fixture(scope="module")
def one_by_one(run: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return predict(run, images, tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("batch", ["--batch_per_replica=4", "--batch=64"])
def test_the_files_are_those_of_one_by_one(
    batch: str,
    run: Path,
    images: Path,
    one_by_one: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict(run, images, tmp_path, batch) == one_by_one
    captured = capsys.readouterr()
    assert ": 12 of 13 images segmented, 1 skipped; " in captured.out
    (told,) = captured.err.splitlines()
    assert told.startswith(f"{images}/06.png: truncated: ")
    assert told.endswith("; skipped")
    assert len({one_by_one[name] for name in one_by_one if name.startswith("ids/")}) == 12, "the images differ"


def test_the_model_gets_images_of_one_size_together(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced, shapes = Segmenter._probabilities, list[tuple[int, ...]]()

    def note(shape: np.ndarray) -> np.int32:
        shapes.append(tuple(shape.tolist()))
        return np.int32(0)

    def noted(segmenter: Segmenter, batch: tf.Tensor) -> tf.Tensor:
        tf.numpy_function(note, [tf.shape(batch)], tf.int32)
        return traced(segmenter, batch)

    monkeypatch.setattr(Segmenter, "_probabilities", noted)
    predict(run, images, tmp_path, "--batch=4")
    assert sorted(shapes) == [(4, *WIDE, 3), (4, *WIDE, 3), (4, *TALL, 3)]


def test_a_batch_that_does_not_fit_is_taken_apart(
    run: Path,
    images: Path,
    one_by_one: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A device with memory for one wide image, and for none of the others."""
    traced = Segmenter._probabilities

    def small(segmenter: Segmenter, batch: tf.Tensor) -> tf.Tensor:
        tf.numpy_function(full, [tf.shape(batch)], tf.int32)
        return traced(segmenter, batch)

    def full(shape: np.ndarray) -> np.int32:
        if shape[0] > 1 or shape[1] == TALL[0]:
            raise MemoryError("no memory")  # TensorFlow makes a ResourceExhaustedError of it
        return np.int32(0)

    monkeypatch.setattr(Segmenter, "_probabilities", small)
    wide = {name: content for name, content in one_by_one.items() if int(Path(name).stem) % 3 != 1}
    assert predict(run, images, tmp_path, "--batch=4") == wide
    told = capsys.readouterr().err.splitlines()
    cure = "do not fit into the memory of the device together, and are segmented one by one: set less than"
    assert [line for line in told if "together" in line] == [f"4 images of 64x32 (WxH) {cure} --batch_per_replica=4"]
    assert f"{images}/01.png: 24x48 (WxH) does not fit into the memory of the device; skipped" in told


def test_only_a_few_images_wait_for_others_of_their_size() -> None:
    taken = 0

    def each_of_its_own_size() -> Iterator[tuple[Picture, np.ndarray]]:
        nonlocal taken
        for taken in range(1, 1001):
            yield Picture(str(taken), str(taken)), np.zeros((1, taken, 3), np.uint8)

    batches = by_size(each_of_its_own_size(), 3)
    for number, batch in enumerate(batches, 1):
        assert [picture.name for picture, _ in batch] == [str(number)]
        assert taken - number < 12
    assert number == 1000


def test_a_batch_is_at_least_one_image(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--model=a", "--images=b", "--output=c"]
    assert parse_predict([*command, "--batch=3"]).batch_per_replica == 3
    with pytest.raises(SystemExit):
        parse_predict([*command, "--batch_per_replica=0"])
    assert "--batch_per_replica: 0 is less than 1" in capsys.readouterr().err
