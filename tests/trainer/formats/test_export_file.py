"""`python -m trainer.export --format=onnx|litert`: the file, what is said of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.contract.labels import IGNORE
from tests.support.color_model import describe, make_color_model
from tests.support.handmade import make_sample, write_dataset
from trainer.data.dataset import open_split, read_manifest
from trainer.export import main
from trainer.formats import check as checking
from trainer.formats import writing
from trainer.formats.table import FORMATS
from trainer.inference.model_file import Description, load_model, save_model
from trainer.inference.request import SUFFIXES

pytest.importorskip("tf2onnx", reason="tf2onnx is not installed (extra `export`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (extra `export`)")

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SIZE = (8, 12)
IMAGES = 5
CLASSES = 11
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a data set with 5 images of noise, all in the split `train`."""
    return write_dataset(tmp_path_factory.mktemp("scenes"), "raw_float32", [3, 2])


@pytest.fixture(scope="module")
def described(scenes: Path) -> Description:
    return Description.of("deeplabv3plus", read_manifest(str(scenes)))


@pytest.fixture(scope="module")
def model(described: Description, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.keras"
    save_model(str(path), make_color_model(described), described)
    return path


def nearest(images: np.ndarray, description: Description) -> np.ndarray:
    """What the model says, by another formula: the class of the nearest color."""
    colors = description.labels.palette[:CLASSES].astype(np.int64)
    return ((images[..., None, :].astype(np.int64) - colors) ** 2).sum(-1).argmin(-1).astype(np.uint8)


def is_sure(images: np.ndarray, description: Description) -> np.ndarray:
    """bool[B, H, W]: whether one color is nearer than all others."""
    colors = description.labels.palette[:CLASSES].astype(np.int64)
    distances = np.sort(((images[..., None, :].astype(np.int64) - colors) ** 2).sum(-1), -1)
    return np.asarray(distances[..., 0] < distances[..., 1])


def mean_iou(truth: np.ndarray, shown: np.ndarray) -> float:
    truth, shown = truth.ravel().astype(int), shown.ravel().astype(int)
    valid = truth != IGNORE
    counts = np.bincount(truth[valid] * CLASSES + shown[valid], minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hits = counts.diagonal()
    below = counts.sum(0) + counts.sum(1) - hits
    return float((hits[below > 0] / below[below > 0]).mean())


def exported(model: Path, output: Path | str, form: str, *options: str) -> int:
    return main([f"--model={model}", f"--output={output}", f"--format={form}", *options])


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_compared_and_described(
    form: str, model: Path, scenes: Path, described: Description, tmp_path: Path, capfd: Capture
) -> None:
    output = tmp_path / "new" / f"model{SUFFIXES[form]}"
    assert exported(model, output, form, f"--dataset={scenes}", "--split=train") == 0
    out, err = capfd.readouterr()
    samples = [make_sample(number, "") for number in range(IMAGES)]
    images, masks = (np.stack([getattr(each, name) for each in samples]) for name in ("image", "mask"))
    content = output.read_bytes()
    shown = FORMATS[form].runner(content)(images)
    original = writing.Served(load_model(str(model))[0], described, SIZE).run(images)
    sure = is_sure(images, described)
    assert sure.mean() > 0.9
    for found in (shown, original):
        np.testing.assert_array_equal(found[sure], nearest(images, described)[sure])
    before, after, differing = mean_iou(masks, original), mean_iou(masks, shown), (original != shown).mean()
    change = f"{'lost' if after <= before else 'gained'} {100 * abs(before - after):.2f}"
    assert 0.01 < before < 0.99
    assert out == (
        f"{output}: {FORMATS[form].title}, deeplabv3plus of 11 classes (camvid11), from images of 8x12 to class_map\n"
        f"train of {scenes}, 5 images: mean IoU {100 * before:.1f} % → {100 * after:.1f} % ({change}), "
        f"{100 * differing:.3f} % of pixels differ; 0.0 MB\n"
    )
    assert not err
    assert {path.name for path in output.parent.iterdir()} == {output.name, f"{output.name}.json"}
    about = json.loads((output.parent / f"{output.name}.json").read_text())
    assert (about["format"], about["file"], about["bytes"]) == (form, output.name, len(content))
    assert about["sha256"] == hashlib.sha256(content).hexdigest()
    assert about["input"]["shape"] == [FORMATS[form].batch, *SIZE, 3]
    assert about["names"] == [row.name for row in described.labels.classes]
    assert np.shape(about["colors"]) == (CLASSES, 3)
    assert about["normalization"]["mean"] == list(described.mean)
    assert about["versions"].keys() >= {"tensorflow", "keras"} | FORMATS[form].versions().keys()
    assert about.get("opset") == (18 if form == "onnx" else None)
    assert Description.from_json(about["model"]) == described
    check = about["check"]
    assert (check["dataset"], check["split"], check["images"], check["pixels"]) == (str(scenes), "train", 5, masks.size)
    assert check["differing_pixels"] == (original != shown).sum()
    assert check["mean_iou"] == pytest.approx({"model": before, "file": after, "lost": before - after}, abs=1e-12)
    assert check["class_iou"].keys() == set(about["names"])


def test_how_to_call_it_is_said(model: Path, described: Description, tmp_path: Path) -> None:
    """By code that runs."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    images = make_sample(0, "").image[None]
    for form, suffix in SUFFIXES.items():
        output = tmp_path / f"model{suffix}"
        assert exported(model, output, form) == 0
        call = json.loads((tmp_path / f"{output.name}.json").read_text())["call"]
        names = {"FILE": str(output), "images": images, "onnxruntime": onnxruntime, "Interpreter": Interpreter}
        sure = is_sure(images, described)
        np.testing.assert_array_equal(eval(call, names)[sure], nearest(images, described)[sure])


@pytest.mark.parametrize("image_format", ["raw_float32", "raw_float16", "raw_uint8", "png"])
def test_both_get_the_pixels_of_the_records(image_format: str, tmp_path: Path) -> None:
    split = open_split(str(write_dataset(tmp_path, image_format, [2])), "train")
    described = Description.of("deeplabv3plus", split.manifest)
    seen: dict[str, list[np.ndarray]] = {"model": [], "file": []}

    def keep(name: str) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            seen[name].append(images)
            return nearest(images, described)

        return run

    checking.compare(split, described, keep("model"), keep("file"), lambda done, images: None)
    for images in seen.values():
        for number, image in enumerate(images):
            np.testing.assert_array_equal(image, make_sample(number, "").image[None])


def test_what_a_file_loses_is_counted(scenes: Path, described: Description) -> None:
    """Of one that always says the first class."""
    split, told = open_split(str(scenes), "train"), list[tuple[int, int]]()
    masks = np.stack([make_sample(number, "").mask for number in range(IMAGES)])
    shown = np.stack([nearest(make_sample(number, "").image, described) for number in range(IMAGES)])
    found = checking.compare(
        split,
        described,
        lambda images: nearest(images, described),
        lambda images: np.zeros(images.shape[:3], np.uint8),
        lambda done, images: told.append((done, images)),
    )
    before, after = mean_iou(masks, shown), mean_iou(masks, np.zeros_like(masks))
    assert found.differing == (shown != 0).sum() > 0
    assert str(found) == (
        f"mean IoU {100 * before:.1f} % → {100 * after:.1f} % "
        f"({'lost' if before >= after else 'gained'} {100 * abs(before - after):.2f}), "
        f"{100 * (shown != 0).mean():.3f} % of pixels differ"
    )
    assert found.to_json()["mean_iou"]["lost"] == pytest.approx(before - after)
    assert told == [(done, IMAGES) for done in range(1, IMAGES + 1)]


def test_without_a_data_set_it_is_said_that_nothing_was_compared(model: Path, tmp_path: Path, capfd: Capture) -> None:
    output = tmp_path / "model.onnx"
    assert exported(model, output, "onnx", "--image_size=5x9") == 0
    assert capfd.readouterr().out.endswith("not compared with the model: --dataset=DIR does it; 0.0 MB\n")
    about = json.loads((tmp_path / "model.onnx.json").read_text())
    assert (about["check"], about["input"]["shape"]) == (None, [None, 5, 9, 3])


def test_only_an_export_is_replaced(model: Path, tmp_path: Path, capfd: Capture) -> None:
    output, beside = tmp_path / "model.tflite", tmp_path / "model.tflite.json"

    def refused(*options: str) -> str:
        assert exported(model, output, "litert", *options) == 1
        return capfd.readouterr().err

    output.mkdir()
    assert f"{output} is a folder: choose the name of a file in it" in refused("--overwrite")
    output.rmdir()
    for stranger in ("{}", "[", '{"kind": "another"}'):
        beside.write_text(stranger)
        assert f"{beside} is not the description of an exported file" in refused("--overwrite")
        assert beside.read_text() == stranger
    beside.unlink()
    assert not list(tmp_path.iterdir())
    output.write_bytes(b"old")
    assert f"{output} exists: set --overwrite to replace it, or another --output" in refused()
    assert output.read_bytes() == b"old"
    for _ in range(2):
        assert exported(model, output, "litert", "--overwrite") == 0
        assert json.loads(beside.read_text())["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()


def test_a_bucket_gets_both_files(model: Path) -> None:
    """ram:// stands for a bucket: another of TensorFlow's file systems."""
    for options in ((), ("--overwrite",)):
        assert exported(model, "ram://bucket/lite/model.tflite", "litert", *options) == 0
    names = {name.rstrip("/") for name in tf.io.gfile.listdir("ram://bucket/lite")}
    assert names == {"model.tflite", "model.tflite.json"}


def test_the_size_is_needed_where_the_data_set_had_several(
    described: Description, tmp_path: Path, capfd: Capture
) -> None:
    several = Description(**{**vars(described), "size": None})
    save_model(str(tmp_path / "best.keras"), make_color_model(several), several)
    assert exported(tmp_path / "best.keras", tmp_path / "a.onnx", "onnx") == 1
    assert "several sizes, and a file takes images of one: set it with --image_size=HxW" in capfd.readouterr().err
    assert exported(tmp_path / "best.keras", tmp_path / "a.onnx", "onnx", "--image_size=4x4") == 0


def test_a_data_set_that_does_not_fit_is_refused(model: Path, scenes: Path, tmp_path: Path, capfd: Capture) -> None:
    uneven = write_dataset(tmp_path / "uneven", "png", [2], sizes=[(8, 12), (4, 4)])
    cityscapes = tmp_path / "best.keras"
    save_model(str(cityscapes), make_color_model(describe(size=SIZE)), describe(size=SIZE))
    for source, options, message in (
        (model, (f"--dataset={scenes}", "--image_size=8x8"), r"has images of 8x12, .* 8x8 only: set --image_size=8x12"),
        (model, (f"--dataset={uneven}",), r"has images of several sizes, .* built with --image_size=8x12"),
        (cityscapes, (f"--dataset={scenes}",), "has other classes than the model"),
        (model, (f"--dataset={scenes}/none",), "none"),
    ):
        assert exported(source, tmp_path / "a.onnx", "onnx", "--split=train", *options) == 1
        assert re.search(message, capfd.readouterr().err)
    assert exported(model, tmp_path / "a.onnx", "onnx", f"--dataset={scenes}") == 1
    assert "'val'" in capfd.readouterr().err
    assert not list(tmp_path.glob("a.onnx*"))


def test_a_damaged_record_is_named(model: Path, scenes: Path, tmp_path: Path, capfd: Capture) -> None:
    shutil.copytree(scenes, tmp_path / "damaged")
    shard = tmp_path / "damaged" / "train-00001-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 4] ^= 1
    shard.write_bytes(content)
    assert exported(model, tmp_path / "a.onnx", "onnx", f"--dataset={tmp_path / 'damaged'}", "--split=train") == 1
    assert "train-00001-of-00002.tfrecord: record 0" in capfd.readouterr().err
    assert not list(tmp_path.glob("a.onnx*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format=onnx", "--output=model"], "argument --output: model does not end in .onnx"),
        (["--format=litert", "--output=model.onnx"], "argument --output: model.onnx does not end in .tflite"),
        (
            ["--output=a", "--dataset=b"],
            "--dataset: has no effect with --format=savedmodel; leave it out, or set --format",
        ),
        (["--format=onnx", "--output=a.onnx", "--split=val"], "--split: has no effect without --dataset"),
        (["--format=onnx", "--output=a.onnx", "--window=8x8"], "--window: not possible with --format=onnx"),
        (["--output=a.onnx"], "a.onnx is the name of a file, and a SavedModel is a folder: set --format=onnx"),
        (["--output=a.tflite"], "set --format=litert, or another name"),
        (["--format=tflite", "--output=a"], "invalid choice: 'tflite'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: list[str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--model=run", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "package"), [("onnx", "tf2onnx"), ("onnx", "onnxruntime"), ("litert", "ai_edge_litert")]
)
def test_packages_that_are_missing_are_said_before_anything_else(
    form: str, package: str, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    assert exported(Path("nowhere"), f"a{SUFFIXES[form]}", form) == 1
    message = rf"error: {FORMATS[form].title} needs packages .*{package}.*: pip install 'street-scenes\[export\]'"
    assert re.match(message, capfd.readouterr().err)
