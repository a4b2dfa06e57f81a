"""The transform_fn of a data set, loaded in a process of its own, gives a raw picture exactly the record's numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.pixels.decode import decode_image
from tests.support.builds import PROJECT, build, make_flat, make_uneven
from tests.support.matrix import standing_for
from tests.support.picture_table import CASES, HEIGHT, WIDTH

# `import tensorflow_transform` changes tf.keras for its process, and takes seconds: one process does it for all tests.
# A line is a list: the data set, the encoded pictures by name as an archive, and the result, an archive of the images;
# of what is refused it has the reason. Nothing refused, all of them in one batch have to give the same.
APPLY = """
import json, re, sys
import numpy as np, tensorflow as tf, tensorflow_transform as tft

def alone(layer, encoded):
    try:
        return layer({"image": tf.constant([encoded])})["image"].numpy()[0]
    except tf.errors.InvalidArgumentError as error:
        return np.array(re.search(r"assertion failed: \\[(\\w+): ", error.message).group(1))

for line in sys.stdin:
    dataset, pictures, result = json.loads(line)
    layer = tft.TFTransformOutput(dataset).transform_features_layer()
    encoded = {name: data.tobytes() for name, data in np.load(pictures).items()}
    found = {name: alone(layer, data) for name, data in encoded.items()}
    if all(image.ndim for image in found.values()):
        together = layer({"image": tf.constant(list(encoded.values()))})["image"].numpy()
        assert np.array_equal(together, np.stack(list(found.values())))
    np.savez(result, **found)
    print("done", flush=True)
"""
Transform = Callable[[Path, Mapping[str, bytes]], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transform]:
    """(data set, encoded pictures by name) -> name -> the image, or the reason why it is refused."""
    scratch = tmp_path_factory.mktemp("transform")
    pictures, result = scratch / "in.npz", scratch / "out.npz"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        open(scratch / "errors", "w+") as errors,
        subprocess.Popen([sys.executable, "-c", APPLY], cwd=PROJECT, stderr=errors, **pipes) as process,
    ):
        asks, answers = process.stdin, process.stdout
        assert asks is not None
        assert answers is not None

        def apply(dataset: Path, encoded: Mapping[str, bytes]) -> dict[str, np.ndarray]:
            files: dict[str, Any] = {name: np.frombuffer(data, np.uint8) for name, data in encoded.items()}
            np.savez(pictures, **files)
            print(json.dumps([str(dataset), str(pictures), str(result)]), file=asks, flush=True)
            assert answers.readline() == "done\n", Path(errors.name).read_text()
            return dict(np.load(result).items())

        yield apply
        process.kill()


def transformed(transform: Transform, dataset: Path, pictures: list[Path]) -> np.ndarray:
    """The images, float32[N, H, W, 3], in the order of the pictures."""
    found = transform(dataset, {str(number): picture.read_bytes() for number, picture in enumerate(pictures)})
    return np.stack([found[str(number)] for number in range(len(pictures))])


def images_of(dataset: Path, split: str) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Filename -> the image as stored."""
    manifest = Manifest.from_json((dataset / "dataset.json").read_text())
    found = {}
    for shard in manifest.splits[split]:
        with (dataset / shard.file).open("rb") as file:
            for each in map(record.decode, tfrecord.read_records(file, shard.file)):
                values = np.frombuffer(each.image, record.RAW_DTYPES[each.image_format])
                found[each.filename] = values.reshape(each.height, each.width, 3)
    return manifest, found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are resized by 4 rows and 2 columns."""
    return make_flat(tmp_path_factory.mktemp("made"), train=6, val=2, size=(128, 128))


@pytest.fixture(scope="module", params=standing_for(["crop"], ["stretch", "crop", "pad"]))
def dataset(request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dataset")
    arguments = (f"--input={made}", f"--output={output}", "--labels=camvid11", f"--aspect={request.param}")
    assert build(*arguments, "--image_size=32x64") == 0
    return output


def test_a_resized_picture_becomes_exactly_its_record(made: Path, dataset: Path, transform: Transform) -> None:
    wanted = images_of(dataset, "train")[1] | images_of(dataset, "val")[1]
    assert len(wanted) == 8
    found = transformed(transform, dataset, [made / name for name in wanted])
    np.testing.assert_array_equal(found, np.stack(list(wanted.values())), strict=True)


@pytest.mark.parametrize(
    ("resize", "size"),
    standing_for([("area", "97x200")], [("area", "37x91"), ("area", "97x200"), ("bilinear", "37x91")]),
)
def test_where_the_factor_is_not_whole_a_picture_is_within_a_level_of_its_record(
    made: Path, transform: Transform, tmp_path: Path, resize: str, size: str
) -> None:
    """Pillow rounds between the rows and the columns. With "area", what must grow is interpolated."""
    arguments = ("--labels=camvid11", "--aspect=stretch", f"--resize={resize}", f"--image_size={size}")
    assert build(f"--input={made}", f"--output={tmp_path / 'out'}", *arguments) == 0
    manifest, wanted = images_of(tmp_path / "out", "val")
    found = transformed(transform, tmp_path / "out", [made / name for name in wanted])
    levels = np.abs(found - np.stack(list(wanted.values()))) * 255 * np.array(manifest.moments.std)
    assert levels.max() < 1.01


def test_a_full_size_cityscapes_picture_becomes_exactly_its_record(
    cityscapes_sample: Path, transform: Transform, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert build(f"--input={cityscapes_sample}", f"--output={output}", "--image_size=256x512", "--shards=train=1") == 0
    _, wanted = images_of(output, "train")
    assert len(wanted) == 4
    found = transformed(transform, output, [cityscapes_sample / name for name in wanted])
    assert np.abs(found - np.stack(list(wanted.values()))).max() == 0.0


def test_of_pixels_as_stored_it_is_the_table_and_comes_back_when_it_is_deleted(
    camvid: Path, transform: Transform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for split in ("train", "val"):
        for path in sorted((camvid / "masks" / split).iterdir())[:3]:
            for kind in ("images", "masks"):
                (source / kind / split).mkdir(parents=True, exist_ok=True)
                (source / kind / split / path.name).symlink_to(camvid / kind / split / path.name)
    arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=native")
    assert build(*arguments, "--image_encoding=uint8") == 0
    kept = {path: path.stat().st_mtime_ns for path in output.iterdir() if path.is_file()}
    shutil.rmtree(output / "transform_fn")
    assert build(*arguments, "--image_encoding=uint8", "--no_transform_fn") == 0
    assert not (output / "transform_fn").exists()
    capsys.readouterr()
    assert build(*arguments, "--image_encoding=uint8") == 0
    assert "is already complete" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.iterdir() if path.is_file()} == kept

    manifest, pixels = images_of(output, "val")
    assert len(pixels) == 3
    found = transformed(transform, output, [source / name for name in pixels])
    for index, (name, image) in enumerate(pixels.items()):
        np.testing.assert_array_equal(image, np.asarray(Image.open(source / name)))
        table = manifest.moments.normalization.table().astype(np.float32)
        np.testing.assert_array_equal(found[index], np.stack([table[c][image[..., c]] for c in range(3)], -1))


def test_pictures_of_several_sizes_have_none_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = make_uneven(tmp_path / "in"), tmp_path / "out"
    assert build(f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=native") == 0
    assert "its graph needs one image size" in capsys.readouterr().out
    assert not (output / "transform_fn").exists()


def test_every_picture_is_that_of_the_pipeline_or_refused_by_its_name(transform: Transform, tmp_path: Path) -> None:
    source, output = make_flat(tmp_path / "in", train=1, val=1, size=(HEIGHT, WIDTH)), tmp_path / "out"
    assert build(f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=native") == 0
    table = Manifest.from_json((output / "dataset.json").read_text()).moments.normalization.table().astype(np.float32)
    images = transform(output, {name: case.data for name, case in CASES.items()})
    assert images.keys() == CASES.keys()
    for name, found in images.items():
        case = CASES[name]
        assert ("read" if found.ndim else str(found)) == case.graph, name
        if found.ndim and not name.startswith("jpeg"):  # of which TensorFlow's pixels are a few levels off
            pixels = decode_image(case.data, HEIGHT * WIDTH)
            expected = np.stack([table[channel][pixels[..., channel]] for channel in range(3)], -1)
            np.testing.assert_array_equal(found, expected, err_msg=name)
