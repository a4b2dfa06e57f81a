"""Readers that know nothing of this project: the Python of the README as it stands there, with other folders."""

from __future__ import annotations

import importlib.util
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import FILE_NAME, Manifest
from beam_pipelines.shards.stage import to_record
from tests.support.builds import PROJECT, build, make_flat, no_transform
from tests.support.handmade import make_sample, write_dataset

SHARDS = (3, 2)
SIZES = {"raw_float32": [(8, 12)], "raw_float16": [(8, 12), (6, 10)], "raw_uint8": [(8, 12), (6, 10)], "png": [(8, 12)]}
Pixels = tuple[np.ndarray, np.ndarray]


def blocks() -> list[str]:
    """The blocks of Python in the section "Reading without this project"."""
    text = (PROJECT / "beam_pipelines" / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^### Reading without this project\n(.*?)^### ", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


# The first, of TFDS, has tests of its own.
_, CROISSANT, TENSORFLOW, NUMPY, TORCH, MODEL_GARDEN = blocks()


def here(folder: Path, code: str) -> dict[str, Any]:
    """The names that the block defines."""
    names: dict[str, Any] = {}
    exec(code.replace("out/scenes", str(folder)), names)
    return names


def elsewhere(folder: Path, examples: str, *code: str) -> list[Pixels]:
    """What `examples` yields after the blocks, in a process without TensorFlow: the package tfrecord registers the same
    names of protobuf messages.
    """
    found = folder / "found.pickle"
    save = f"import pickle\npickle.dump(list({examples}), pathlib.Path({str(found)!r}).open('wb'))"
    program = "\n".join([*code, save]).replace("out/scenes", str(folder))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pickle.loads(found.read_bytes())


def oracle(sizes: list[tuple[int, int]]) -> list[Pixels]:
    """Images float64[H, W, 3], normalized, and masks, in the order of their numbers."""
    samples = [make_sample(number, "", sizes[number % len(sizes)]) for number in range(SHARDS[0])]
    samples += [make_sample(SHARDS[0] + number, "", sizes[number % len(sizes)]) for number in range(SHARDS[1])]
    values = np.concatenate([sample.image.reshape(-1, 3) for sample in samples]) / 255
    mean, std = values.mean(0), values.std(0)
    return [((sample.image / 255 - mean) / std, sample.mask) for sample in samples]


def assert_same(found: list[Pixels], wanted: list[Pixels], atol: float = 1e-6) -> None:
    """In any order of the shards: the first two ids of a mask tell its number."""
    found = sorted(found, key=lambda pixels: tuple(pixels[1][0, :2]))
    assert len(found) == len(wanted) == sum(SHARDS)
    for (image, mask), (true_image, true_mask) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(image, true_image, rtol=0, atol=atol)
        np.testing.assert_array_equal(mask, true_mask)
        assert IGNORE in mask


def test_tensorflow_alone_reads_raw_records(tmp_path: Path) -> None:
    write_dataset(tmp_path, "raw_float32", SHARDS)
    (batch,) = here(tmp_path, TENSORFLOW)["batches"]
    images, masks = (tensor.numpy() for tensor in batch)
    assert (images.dtype, masks.dtype) == (np.float32, np.uint8)
    assert_same(list(zip(images, masks, strict=True)), oracle([(8, 12)]))


@pytest.mark.parametrize("image_format", SIZES)
def test_numpy_reads_every_encoding_normalized(tmp_path: Path, image_format: str) -> None:
    sizes = SIZES[image_format]
    write_dataset(tmp_path, image_format, SHARDS, sizes)
    found = elsewhere(tmp_path, "examples(dataset['splits']['train']['shards'])", NUMPY)
    assert {(image.dtype, mask.dtype) for image, mask in found} == {(np.dtype(np.float32), np.dtype(np.int64))}
    assert_same(found, oracle(sizes), atol=2e-3 if image_format == "raw_float16" else 1e-6)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: it takes gigabytes")
def test_pytorch_gets_each_example_once_from_its_workers(tmp_path: Path) -> None:
    write_dataset(tmp_path, "png", SHARDS)
    batches = elsewhere(tmp_path, "[tensor.numpy() for tensor in batch] for batch in batches", NUMPY, TORCH)
    assert [len(images) for images, _ in batches] == list(SHARDS)  # a batch of each worker
    found = [(image.transpose(1, 2, 0), mask) for batch in batches for image, mask in zip(*batch, strict=True)]
    assert_same(found, oracle([(8, 12)]))


# What follows restates how the TF Model Garden reads (tf-models-official 2.20.0, Decoder and Parser in
# official/vision/dataloaders/segmentation_input.py): the package asks for TensorFlow 2.20 and can't be installed here.


def model_garden(serialized: bytes, feature: dict[str, list[float]]) -> Pixels:
    """image float32[H, W, 3], mask [H, W]; `feature` has the mean and the stddev of its config, of 0 to 255."""
    import tensorflow as tf

    spec = {
        "image/encoded": tf.io.FixedLenFeature((), tf.string, default_value=""),
        "image/height": tf.io.FixedLenFeature((), tf.int64, default_value=0),
        "image/width": tf.io.FixedLenFeature((), tf.int64, default_value=0),
        "image/segmentation/class/encoded": tf.io.FixedLenFeature((), tf.string, default_value=""),
    }
    found = tf.io.parse_single_example(serialized, spec)
    size = (found["image/height"], found["image/width"])
    mask = tf.reshape(tf.io.decode_image(found["image/segmentation/class/encoded"], channels=1), size)
    image = tf.io.decode_image(found["image/encoded"], channels=3, dtype=tf.uint8)
    image = tf.image.convert_image_dtype(tf.reshape(image, (*size, 3)), tf.float32)
    mean, stddev = (tf.constant(feature[name]) / 255 for name in ("mean", "stddev"))
    return ((image - mean) / stddev).numpy(), mask.numpy()


def test_the_model_garden_reads_png_records_with_the_config_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, "png", SHARDS)
    monkeypatch.chdir(tmp_path)
    here(tmp_path, MODEL_GARDEN)
    task = json.loads((tmp_path / "model_garden.yaml").read_text())["task"]
    assert task["model"] == {"num_classes": 11, "input_size": [8, 12, 3]}
    assert task["losses"]["ignore_label"] == IGNORE
    assert list(tmp_path.glob(Path(task["train_data"]["input_path"]).name))
    feature = task["validation_data"]["image_feature"]
    assert feature == task["train_data"]["image_feature"]
    moments = Manifest.from_json((tmp_path / FILE_NAME).read_text()).moments
    np.testing.assert_allclose(feature["mean"], np.array(moments.mean) * 255)

    sample = make_sample(0, "0")
    serialized = record.encode(to_record(sample, "png", "png"))  # as the pipeline writes it
    image, mask = model_garden(serialized, feature)
    np.testing.assert_allclose(image, oracle([(8, 12)])[0][0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(mask, sample.mask)
    assert {*mask.ravel()} >= {0, 10, IGNORE}


def test_the_model_garden_refuses_raw_records() -> None:
    import tensorflow as tf

    serialized = record.encode(to_record(make_sample(0, "0"), "raw_uint8", "raw_uint8"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        model_garden(serialized, {"mean": [0.0] * 3, "stddev": [255.0] * 3})


# What rdflib 7.6, which mlcroissant reads with, calls deprecated in itself.
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
def test_croissants_library_reads_the_source_pictures_as_they_are_in_the_shards(tmp_path: Path) -> None:
    pytest.importorskip("mlcroissant", reason="mlcroissant, 170 MB with SciPy, is not installed")
    pictures, output = make_flat(tmp_path / "in", train=1, val=3), tmp_path / "out"
    options = ("--labels=camvid11", "--image_size=native", "--image_encoding=uint8")
    with no_transform():
        assert build(f"--input={pictures}", f"--output={output}", *options) == 0
    found: dict[str, Pixels] = {}
    names: dict[str, Any] = {"found": found}
    code = CROISSANT.replace("out/scenes-source", str(pictures)).replace("out/scenes", str(output))
    exec(f"{code}    found[filename] = image, mask\n", names)
    labels = Manifest.from_json((output / FILE_NAME).read_text()).labels
    assert names["names"] == {row.train_id: row.name for row in labels.classes}
    stored = [each for path in output.glob("val-*.tfrecord") for each in records_of(path)]
    assert {each.filename for each in stored} == found.keys()
    assert len(stored) == 3
    for each in stored:
        image, mask = found[each.filename]
        assert image.tobytes() == each.image
        assert mask.tobytes() == each.mask
        assert mask.dtype == np.uint8


def records_of(path: Path) -> list[record.Record]:
    with path.open("rb") as file:
        return [record.decode(serialized) for serialized in tfrecord.read_records(file, str(path))]
