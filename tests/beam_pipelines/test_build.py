"""Whole builds: what is read back is what the pictures hold; neither threads nor processes nor zips change a byte."""

from __future__ import annotations

import itertools
import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract import record
from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.inputs import sample_scenes
from tests.support.builds import build, digests, make_flat, make_uneven, published
from tests.support.matrix import standing_for

pytestmark = pytest.mark.usefixtures("without_transform")

CAMVID_MEAN = (0.41189488, 0.42513280, 0.43267069)
CAMVID_STD = (0.30707349, 0.31161108, 0.30721843)
Pixels = tuple[np.ndarray, np.ndarray]


def read_back(dataset: Path, split: str) -> dict[str, Pixels]:
    """Filename -> image and mask, as TensorFlow reads them."""
    import tensorflow as tf

    manifest = Manifest.from_json((dataset / "dataset.json").read_text())
    pixels = manifest.pixels
    parse = partial(
        record.parse,
        image_format=pixels.image_format,
        mask_format=pixels.mask_format,
        height=pixels.height,
        width=pixels.width,
    )
    files = [str(dataset / shard.file) for shard in manifest.splits[split]]
    examples = list(tf.data.TFRecordDataset(files).map(parse).as_numpy_iterator())
    found = {example["filename"].decode(): (example["image"], example["mask"]) for example in examples}
    assert len(found) == len(examples) == manifest.examples(split)
    return found


def flat_pixels(source: Path, split: str) -> dict[str, Pixels]:
    """The oracle for camvid11 as stored: filename -> RGB, and train ids with void ignored."""
    found = {}
    for path in sorted((source / "images" / split).iterdir()):
        ids = np.asarray(Image.open(source / "masks" / split / path.name))
        image = np.asarray(Image.open(path).convert("RGB"))
        found[f"images/{split}/{path.name}"] = image, np.where(ids == 11, IGNORE, ids).astype(np.uint8)
    return found


def normalized(pixels: dict[str, Pixels], train: dict[str, Pixels], dtype: str) -> dict[str, Pixels]:
    """The oracle of normalization, in float64 over all train pixels at once."""
    values = np.concatenate([image.reshape(-1, 3) for image, _ in train.values()]) / 255.0
    mean, std = values.mean(0), values.std(0)
    return {name: (((image / 255.0 - mean) / std).astype(dtype), mask) for name, (image, mask) in pixels.items()}


def assert_same(found: dict[str, Pixels], wanted: dict[str, Pixels]) -> None:
    assert found.keys() == wanted.keys()
    for name, (image, mask) in wanted.items():
        np.testing.assert_array_equal(found[name][1], mask, strict=True)
        if image.dtype == np.uint8:
            np.testing.assert_array_equal(found[name][0], image, strict=True)
        else:
            assert found[name][0].dtype == image.dtype
            np.testing.assert_array_max_ulp(found[name][0], image, maxulp=1)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("flat"), train=9, val=4)


ENCODINGS = itertools.product(["float32", "float16", "uint8", "png"], ["uint8", "png"])
EACH_ENCODING = [("float32", "uint8"), ("float16", "png"), ("uint8", "uint8"), ("png", "png")]


@pytest.mark.parametrize(("image_encoding", "mask_encoding"), standing_for(EACH_ENCODING, ENCODINGS))
def test_every_encoding_reads_back_as_the_pictures_are(
    flat: Path, tmp_path: Path, image_encoding: str, mask_encoding: str
) -> None:
    options = [f"--image_encoding={image_encoding}", f"--mask_encoding={mask_encoding}"]
    assert build(f"--input={flat}", f"--output={tmp_path}", "--labels=camvid11", "--image_size=native", *options) == 0
    train = flat_pixels(flat, "train")
    for split in ("train", "val"):
        wanted = flat_pixels(flat, split)
        if image_encoding.startswith("float"):
            wanted = normalized(wanted, train, image_encoding)
        assert_same(read_back(tmp_path, split), wanted)


def test_camvid_reads_back_as_it_is_and_has_its_known_moments(camvid: Path, tmp_path: Path) -> None:
    arguments = (f"--input={camvid}", f"--output={tmp_path}", "--labels=camvid11", "--image_size=native")
    assert build(*arguments, "--image_encoding=uint8") == 0
    manifest = Manifest.from_json((tmp_path / "dataset.json").read_text())
    assert (manifest.examples("train"), manifest.examples("val")) == (367, 101)
    np.testing.assert_allclose(manifest.moments.mean, CAMVID_MEAN, rtol=0, atol=1e-8)
    np.testing.assert_allclose(manifest.moments.std, CAMVID_STD, rtol=0, atol=1e-8)
    val = flat_pixels(camvid, "val")
    assert_same(read_back(tmp_path, "val"), val)
    masks = np.stack([mask for _, mask in val.values()])
    assert manifest.class_pixels["val"] == tuple(np.bincount(masks.ravel(), minlength=256)[:11])
    assert manifest.ignored_pixels["val"] == np.count_nonzero(masks == IGNORE)


def cityscapes_pixels(source: Path, table: str) -> dict[str, Pixels]:
    """The oracle at a quarter of the size: exact means of 4 x 4 pixels, and the ids at their centers."""
    found = {}
    for path in sorted(source.glob("leftImg8bit/*/*/*.png")):
        mask = str(path).replace("leftImg8bit.png", "gtFine_labelIds.png").replace("leftImg8bit", "gtFine")
        image, ids = np.asarray(Image.open(path), np.int64), np.asarray(Image.open(mask))
        height, width = ids.shape
        sums = image.reshape(height // 4, 4, width // 4, 4, 3).sum((1, 3))
        train_ids = np.full(256, IGNORE, np.uint8)
        for row in BUILTIN_TABLES[table]().labels:
            train_ids[list(row.source_ids)] = row.train_id
        image = ((sums + 8) // 16).astype(np.uint8)
        found[path.relative_to(source).as_posix()] = image, train_ids[ids[2::4, 2::4]]
    return found


def make_zips(source: Path, folder: Path, compression: int) -> Path:
    """The two archives as Cityscapes is downloaded."""
    folder.mkdir()
    for kind in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(folder / f"{kind}_trainvaltest.zip", "w", compression) as archive:
            archive.writestr("license.txt", "terms")
            for path in sorted((source / kind).rglob("*.png")):
                archive.write(path, path.relative_to(source))
    return folder


@pytest.mark.parametrize("table", standing_for(["cityscapes19"], ["cityscapes19", "cityscapes7"]))
def test_zips_give_the_bytes_of_the_tree_and_these_are_the_pictures(
    cityscapes_sample: Path, tmp_path: Path, table: str
) -> None:
    stored = make_zips(cityscapes_sample, tmp_path / "stored", zipfile.ZIP_STORED)
    deflated = make_zips(cityscapes_sample, tmp_path / "deflated", zipfile.ZIP_DEFLATED)
    both = f"{deflated}/leftImg8bit_trainvaltest.zip,{deflated}/gtFine_trainvaltest.zip"
    for name, source in (("tree", cityscapes_sample), ("zip", stored), ("zips", both)):
        options = (f"--labels={table}", "--shards=train=2")
        assert build(f"--input={source}", f"--output={tmp_path / name}", *options) == 0
    assert digests(tmp_path / "tree") == digests(tmp_path / "zip") == digests(tmp_path / "zips")
    pixels = cityscapes_pixels(cityscapes_sample, table)
    assert len(pixels) == 4
    assert_same(read_back(tmp_path / "tree", "train"), normalized(pixels, pixels, "float32"))


def test_threads_processes_and_folders_do_not_change_a_byte(flat: Path, tmp_path: Path) -> None:
    arguments = (f"--input={flat}", "--labels=camvid11", "--image_size=native", "--shards=train=5,val=2")
    runs = {
        "one": ["--direct_num_workers=1"],
        "three": ["--direct_num_workers=3"],
        "again": ["--direct_num_workers=3"],
        "processes": ["--direct_num_workers=2", "--direct_running_mode=multi_processing"],
    }
    for name, options in runs.items():
        assert build(*arguments, f"--output={tmp_path / name}", *options) == 0
    one = published(tmp_path / "one")
    assert len(one[0]) == 7
    assert all(published(tmp_path / name) == one for name in runs)


def test_another_seed_gives_other_shards(flat: Path, tmp_path: Path) -> None:
    arguments = (f"--input={flat}", "--labels=camvid11", "--image_size=native", "--image_encoding=uint8")
    for seed in (0, 1):
        assert build(*arguments, f"--output={tmp_path / str(seed)}", f"--seed={seed}") == 0
    assert digests(tmp_path / "0") != digests(tmp_path / "1")
    assert read_back(tmp_path / "0", "train").keys() == read_back(tmp_path / "1", "train").keys()


def test_links_names_with_spaces_and_unicode_are_read(camvid: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "Straßen szenen", tmp_path / "données [1]"
    names = ["a b.png", "été à Zürich.png", "東京 01.png", "under/score & more.png"]
    chosen = sorted((camvid / "images" / "train").iterdir())[::90]
    for split, count in (("train", 4), ("val", 1)):
        for path, name in zip(chosen[:count], names, strict=False):
            for kind in ("images", "masks"):
                link = source / kind / split / name
                link.parent.mkdir(parents=True, exist_ok=True)
                os.symlink(camvid / kind / "train" / path.name, link)
    arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=180x240")
    assert build(*arguments, "--image_encoding=png") == 0
    found = read_back(output, "train")
    assert sorted(found) == sorted(f"images/train/{name}" for name in names)
    image, mask = (np.asarray(Image.open(camvid / kind / "train" / chosen[2].name)) for kind in ("images", "masks"))
    halved = (image.astype(np.int64).reshape(180, 2, 240, 2, 3).sum((1, 3)) + 2) // 4
    np.testing.assert_array_equal(found[f"images/train/{names[2]}"][0], halved)
    np.testing.assert_array_equal(found[f"images/train/{names[2]}"][1], np.where(mask == 11, 255, mask)[1::2, 1::2])


def test_without_an_input_the_drawn_scenes_are_built_and_drawn_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sample_scenes.SCENES, "train", 3)
    monkeypatch.setitem(sample_scenes.SCENES, "val", 2)
    output = tmp_path / "scenes"
    assert build(f"--output={output}", "--image_encoding=uint8") == 0
    assert f"drawing 5 street scenes into {output}-source" in capsys.readouterr().out
    train, keys = read_back(output, "train"), sample_scenes.list_scenes(sample_scenes.SCENES)
    assert set(train) | set(read_back(output, "val")) == {sample_scenes.scene_file_names(key)[0] for key in keys}
    assert_same(train, {name: cityscapes_half(Path(f"{output}-source"), name) for name in train})
    first = published(output)
    assert build(f"--output={output}", "--image_encoding=uint8", "--overwrite") == 0
    assert "drawing" not in capsys.readouterr().out
    assert published(output) == first

    _, labels, instances = (Path(f"{output}-source", name) for name in sample_scenes.scene_file_names(keys[0]))
    drawn, before = instances.read_bytes(), labels.stat().st_mtime_ns
    instances.unlink()  # as an earlier version left it
    assert build(f"--output={output}", "--image_encoding=uint8", "--overwrite") == 0
    assert "drawing 1 street scenes" in capsys.readouterr().out
    assert (instances.read_bytes(), labels.stat().st_mtime_ns) == (drawn, before)


def test_only_the_scenes_that_the_plan_takes_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sample_scenes.SCENES, "train", 5)
    monkeypatch.setitem(sample_scenes.SCENES, "val", 4)
    arguments = ("--max_pairs=2", "--image_size=32x64", "--no_transform_fn")
    assert build(f"--output={tmp_path / 'few'}", *arguments) == 0
    assert len(list((tmp_path / "few-source").rglob("*_leftImg8bit.png"))) == 4
    assert build(f"--output={tmp_path / 'all'}", *arguments[1:]) == 0  # draws them all
    (tmp_path / "all-source").rename(tmp_path / "some-source")
    assert build(f"--output={tmp_path / 'some'}", *arguments) == 0  # and takes the same
    assert digests(tmp_path / "some") == digests(tmp_path / "few")


def cityscapes_half(source: Path, name: str) -> Pixels:
    image = np.asarray(Image.open(source / name), np.int64)
    mask = name.replace("leftImg8bit.png", "gtFine_labelIds.png").replace("leftImg8bit", "gtFine")
    train_ids = np.full(256, IGNORE, np.uint8)
    for row in BUILTIN_TABLES["cityscapes19"]().labels:
        train_ids[list(row.source_ids)] = row.train_id
    halved = (image.reshape(256, 2, 512, 2, 3).sum((1, 3)) + 2) // 4
    return halved.astype(np.uint8), train_ids[np.asarray(Image.open(source / mask))[1::2, 1::2]]


def test_the_plan_tells_sizes_and_writes_nothing(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (f"--input={flat}", "--labels=camvid11", "--image_size=native", "--image_encoding=uint8")
    output = tmp_path / "dataset"
    assert build(*arguments, f"--output={output}", "--plan") == 0
    assert not list(tmp_path.iterdir())
    printed = capsys.readouterr().out
    assert "found 14 pairs" in printed
    for encoding in ("float32", "float16", "uint8", "png"):
        assert encoding in printed
    assert "in an epoch of train: a batch of 4 makes 3, 8 makes 2," in printed
    assert "the pipeline takes about " in printed
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    assert build(*arguments, f"--output={output}", "--plan") == 0
    assert [path.name for path in output.iterdir()] == ["notes.txt"]


def test_the_foretold_size_is_the_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = make_flat(tmp_path / "in"), tmp_path / "out"
    arguments = (f"--input={source}", "--labels=camvid11", "--image_size=32x64", f"--output={output}")
    assert build(*arguments) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "<- this build" in line)
    assert [cell.strip() for cell in row.split("│")[1:3]] == ["float32", "26.92 kB"]
    sizes = [path.stat().st_size for path in output.glob("*.tfrecord")]
    assert sum(sizes) / 16 == pytest.approx(26_920, abs=5)
