from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf
from cityscapesscripts.helpers.labels import trainId2label
from PIL import Image

from beam_pipelines.contract.image_types import IMAGE_TYPES
from beam_pipelines.contract.labels import BUILTIN_TABLES, Label, LabelTable
from beam_pipelines.contract.pictures import MAX_IMAGE_PIXELS, PictureError
from beam_pipelines.pixels.decode import decode_image
from beam_pipelines.rejects import BadInputError
from tests.support.color_model import CITYSCAPES, blocky_ids, describe, make_color_model, paint
from tests.support.picture_table import CASES
from trainer.inference.drawing import overlay
from trainer.inference.model_file import save_model
from trainer.inference.pictures import TYPES, find_pictures, load_picture
from trainer.inference.request import parse_predict
from trainer.inference.segmenter import Segmenter
from trainer.inference.views import Views
from trainer.predict import main

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DESCRIBED = describe(size=None)  # every picture at its own size, so that painted ones are segmented exactly


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_model(str(folder / "best.keras"), make_color_model(DESCRIBED), DESCRIBED)
    return folder


@pytest.fixture
def predict(run: Path) -> Callable[..., int]:
    """The command with the model that knows colors."""

    def call(images: object, output: object, *arguments: str) -> int:
        return main([f"--model={run}", f"--images={images}", f"--output={output}", *arguments])

    return call


def save(path: Path, image: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def paint_picture(path: Path, size: tuple[int, int] = (32, 64), seed: int = 0, **options: Any) -> np.ndarray:
    """Writes a picture in the colors of the classes. -> its train ids."""
    ids = blocky_ids(*size, seed=seed)
    save(path, paint(ids), **options)
    return ids


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files_below(folder: Path) -> list[str]:
    """Without the record of the command."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if path.is_file())


def test_each_picture_becomes_ids_colors_and_an_overlay_in_the_same_tree(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    painted = {
        "one": paint_picture(source / "one.png"),
        "aachen/first.left": paint_picture(source / "aachen" / "first.left.bmp", (40, 24), seed=1),
        "aachen/deep/two": paint_picture(source / "aachen" / "deep" / "two.TIFF", (25, 31), seed=2),
        "three": paint_picture(source / "three.webp", seed=3, lossless=True),
    }
    (source / "notes.txt").write_text("no picture")
    shutil.copy(source / "one.png", source / "._one.png")
    assert predict(source, output) == 0
    kinds = (("ids", "png"), ("colors", "png"), ("overlays", "jpg"))
    assert files_below(output) == sorted(f"{kind}/{name}.{suffix}" for kind, suffix in kinds for name in painted)
    for name, ids in painted.items():
        np.testing.assert_array_equal(read(output / f"ids/{name}.png"), ids)
        with Image.open(output / f"colors/{name}.png") as colors:
            assert colors.mode == "P"
            np.testing.assert_array_equal(np.asarray(colors), ids)
            np.testing.assert_array_equal(np.asarray(colors.convert("RGB")), paint(ids))
        assert abs(read(output / f"overlays/{name}.jpg").astype(int) - paint(ids)).mean() < 3
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{output}: 4 of 4 images segmented, 0 skipped; ")
    assert captured.err == ""


def test_the_speed_is_that_of_images_without_the_tracing_of_the_model(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, trace, clock = [0.0], Segmenter._probabilities, time.monotonic

    def slowly_traced(segmenter: Segmenter, images: tf.Tensor) -> tf.Tensor:
        passed[0] += 1e6
        return trace(segmenter, images)

    monkeypatch.setattr(Segmenter, "_probabilities", slowly_traced)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + passed[0])
    paint_picture(tmp_path / "in" / "one.png")
    assert predict(tmp_path / "in", tmp_path / "out") == 0
    assert passed == [1e6]
    assert not capsys.readouterr().out.endswith("; 0.0 images/s\n")


def test_an_overlay_mixes_the_picture_and_the_colors() -> None:
    image = np.array([[[100, 200, 50], [0, 0, 255]]], np.uint8)
    ids = np.array([[0, 13]], np.uint8)  # road (128, 64, 128), car (0, 0, 142)
    palette = CITYSCAPES.palette
    np.testing.assert_array_equal(overlay(image, ids, palette, 0.25), [[[107, 166, 70], [0, 0, 227]]])
    np.testing.assert_array_equal(overlay(image, ids, palette, 0), image)
    np.testing.assert_array_equal(overlay(image, ids, palette, 1), [[[128, 64, 128], [0, 0, 142]]])


def test_the_opacity_is_that_of_the_command(predict: Callable[..., int], tmp_path: Path) -> None:
    image = np.full((32, 64, 3), (120, 70, 120), np.uint8)  # nearest to road
    picture = save(tmp_path / "gray.png", image)
    assert predict(picture, tmp_path / "out", "--overlay_opacity=0.75") == 0
    np.testing.assert_allclose(read(tmp_path / "out" / "overlays" / "gray.jpg")[5, 5], (126, 65.5, 126), atol=2)


@pytest.mark.parametrize(
    ("opacity", "message"),
    [
        ("0.5x", "'0.5x' is not a number"),
        ("1.5", "1.5: expected at least 0 and at most 1"),
        ("nan", "nan: expected at least 0"),
    ],
)
def test_an_opacity_outside_0_to_1_is_refused(opacity: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--model=a", "--images=b", "--output=c", f"--overlay_opacity={opacity}"])
    assert ended.value.code == 2
    assert f"--overlay_opacity: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        *("--scales=0", "--scales=1,", "--scales=inf", "--scales=1,x", "--as=png", "--fli"),
        *("--window=0x5", "--window=5", "--overlap=0.5", "--window=5x5 --overlap=1"),
        "--as=cityscapes_submission --overlay_opacity=0.5",
    ],
)
def test_wrong_arguments_end_with_2(wrong: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--model=a", "--images=b", "--output=c", *wrong.split()])
    assert ended.value.code == 2


def test_views_are_parsed_and_used(predict: Callable[..., int], tmp_path: Path) -> None:
    settings = parse_predict(["--model=a", "--images=b", "--output=c", "--scales=0.5,1.25", "--flip"])
    assert settings.views == Views((0.5, 1.25), flip=True)
    picture = save(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8))
    assert predict(picture, tmp_path / "one") == 0
    assert predict(picture, tmp_path / "many", "--scales=0.5") == 0
    assert (read(tmp_path / "one/ids/noise.png") != read(tmp_path / "many/ids/noise.png")).any()


def test_windows_are_those_of_pictures_at_their_own_size(tmp_path: Path) -> None:
    """Without them, the pictures get the height of the data set, in which their squares vanish."""
    described = describe(size=(16, 32))
    save_model(str(tmp_path / "best.keras"), make_color_model(described), described)
    ids = blocky_ids(50, 70, block=2)
    picture = save(tmp_path / "squares.png", paint(ids))
    arguments = [f"--model={tmp_path / 'best.keras'}", f"--images={picture}"]
    assert main([*arguments, f"--output={tmp_path / 'windows'}", "--window=16x32", "--overlap=0.25"]) == 0
    np.testing.assert_array_equal(read(tmp_path / "windows/ids/squares.png"), ids)
    assert main([*arguments, f"--output={tmp_path / 'whole'}"]) == 0
    assert (read(tmp_path / "whole/ids/squares.png") != ids).mean() > 0.1


def test_other_windows_are_another_command(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paint_picture(tmp_path / "in" / "one.png")
    assert predict(tmp_path / "in", tmp_path / "out", "--window=16x16", "--overlap=0.5") == 0
    assert predict(tmp_path / "in", tmp_path / "out", "--window=16x16", "--overlap=0.5") == 0
    for other in ([], ["--window=16x16"], ["--window=16x8", "--overlap=0.5"]):
        capsys.readouterr()
        assert predict(tmp_path / "in", tmp_path / "out", *other) == 1
        assert "was not written by this command and model" in capsys.readouterr().err


def test_a_picture_of_too_many_windows_is_skipped(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = (
        paint_picture(tmp_path / "in" / "small.png"),
        paint_picture(tmp_path / "in" / "large.png", (101, 100)),
    )
    assert predict(tmp_path / "in", tmp_path / "out", "--window=1x1") == 0
    np.testing.assert_array_equal(read(tmp_path / "out/ids/small.png"), small)
    assert not (tmp_path / "out/ids/large.png").exists()
    said = capsys.readouterr().err
    assert said.startswith(
        f"{tmp_path / 'in/large.png'}: an image of 101x100 has 10,100 windows of 1x1 with overlap 0, "
    )
    assert large.shape == (101, 100)


def test_a_submission_holds_the_label_ids_of_cityscapes(predict: Callable[..., int], tmp_path: Path) -> None:
    names = ("aachen/aachen_000000_000019_leftImg8bit", "bonn/bonn_000001_000019_leftImg8bit")
    painted = {name: paint_picture(tmp_path / "in" / f"{name}.png", seed=n) for n, name in enumerate(names)}
    assert predict(tmp_path / "in", tmp_path / "out", "--as=cityscapes_submission") == 0
    assert files_below(tmp_path / "out") == [f"{name.partition('/')[2]}.png" for name in names]
    official = np.array([trainId2label[train_id].id for train_id in range(19)], np.uint8)
    for name, ids in painted.items():
        written = read(tmp_path / "out" / f"{Path(name).name}.png")
        assert written.dtype == np.uint8
        np.testing.assert_array_equal(written, official[ids])


def test_a_real_scene_keeps_its_size(predict: Callable[..., int], cityscapes_sample: Path, tmp_path: Path) -> None:
    pattern = cityscapes_sample / "leftImg8bit" / "train" / "*" / "*_000000_*.png"
    assert predict(pattern, tmp_path, "--as=cityscapes_submission") == 0
    (written,) = tmp_path.glob("[!.]*")
    assert written.name == "aachen_000000_000019_leftImg8bit.png"
    ids = read(written)
    assert ids.shape == (1024, 2048)
    assert set(np.unique(ids)) <= {trainId2label[train_id].id for train_id in range(19)}


def as_trained(rows: list[Label], name: str = "mine") -> LabelTable:
    return LabelTable(name=name, labels=tuple(replace(row, train_id=index) for index, row in enumerate(rows)))


def submit(labels: LabelTable, folder: Path) -> tuple[int, np.ndarray]:
    """Submits a picture in the colors of all classes. -> (the exit code, its train ids)."""
    description = describe(labels=labels, size=None)
    save_model(str(folder / "best.keras"), make_color_model(description), description)
    ids = (blocky_ids(32, 64) % labels.num_classes).astype(np.uint8)
    picture = save(folder / "a.png", paint(ids, labels))
    arguments = [f"--model={folder}", f"--images={picture}", f"--output={folder / 'out'}"]
    return main([*arguments, "--as=cityscapes_submission"]), ids


OFFICIAL = list(CITYSCAPES.classes)
ROAD, SIDEWALK = OFFICIAL[:2]
FOREIGN_TABLES = {
    "camvid": BUILTIN_TABLES["camvid11"](),
    "categories": BUILTIN_TABLES["cityscapes7"](),
    "18 classes": as_trained(OFFICIAL[:18]),
    "one without an id": as_trained([replace(ROAD, source_ids=()), *OFFICIAL[1:]]),
    "one with two ids": as_trained([replace(ROAD, source_ids=(7, 9)), *OFFICIAL[1:]]),
    "two with each other's ids": as_trained(
        [replace(ROAD, source_ids=(8,)), replace(SIDEWALK, source_ids=(7,)), *OFFICIAL[2:]]
    ),
    "one with another name": as_trained([replace(ROAD, name="street"), *OFFICIAL[1:]]),
    "one more": as_trained([*OFFICIAL, replace(ROAD, name="lane", source_ids=(40,), color=None)]),
}


@pytest.mark.parametrize("labels", FOREIGN_TABLES.values(), ids=FOREIGN_TABLES)
def test_a_model_of_other_classes_makes_no_submission(
    labels: LabelTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(labels, tmp_path)[0] == 1
    said = capsys.readouterr().err
    assert said.startswith("error: --as=cityscapes_submission needs a model of Cityscapes' 19 classes")
    assert "--labels=cityscapes19" in said
    assert f"the model's label table {labels.name!r} has others" in said
    assert not [*(tmp_path / "out").iterdir()]


def test_a_submission_is_refused_by_the_names_of_the_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(FOREIGN_TABLES["one with another name"], tmp_path)
    assert "'mine' has others (foreign: street; missing: road): " in capsys.readouterr().err


@pytest.mark.parametrize("ids", ["label ids", "train ids"])
@pytest.mark.parametrize("order", ["as they are", "reversed"])
def test_label_ids_are_those_of_the_names(ids: str, order: str, tmp_path: Path) -> None:
    rows = OFFICIAL if ids == "label ids" else [replace(row, source_ids=(row.train_id,)) for row in OFFICIAL]
    labels = as_trained(rows[::-1] if order == "reversed" else rows)
    code, drawn = submit(labels, tmp_path)
    assert code == 0
    official = {row.name: row.id for row in trainId2label.values()}
    expected = np.array([official[row.name] for row in labels.classes], np.uint8)
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), expected[drawn])


def test_a_model_of_a_map_to_the_classes_of_cityscapes_makes_a_submission(tmp_path: Path) -> None:
    code, drawn = submit(BUILTIN_TABLES["mapillary_to_cityscapes19"](), tmp_path)
    assert code == 0
    official = np.array([trainId2label[train_id].id for train_id in range(19)], np.uint8)
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), official[drawn])


def test_other_tables_have_their_own_colors(tmp_path: Path) -> None:
    description = describe(labels=BUILTIN_TABLES["cityscapes7"](), size=None)
    save_model(str(tmp_path / "best.keras"), make_color_model(description), description)
    ids = (blocky_ids(16, 16) % 7).astype(np.uint8)
    picture = save(tmp_path / "a.png", paint(ids, description.labels))
    assert main([f"--model={tmp_path}", f"--images={picture}", f"--output={tmp_path / 'out'}"]) == 0
    np.testing.assert_array_equal(read(tmp_path / "out/ids/a.png"), ids)


def deep_pictures(folder: Path) -> dict[str, str]:
    """Name -> what is said of it."""
    gray = np.linspace(0, 65535, 32 * 64).reshape(32, 64).astype(np.uint16)
    save(folder / "deep_gray.png", gray)
    save(folder / "deep_gray2.tif", gray)
    save(folder / "float.tif", gray.astype(np.float32))
    rgb = tf.io.encode_png(np.stack([gray] * 3, -1)).numpy()  # Pillow writes no such file
    (folder / "deep_rgb.png").write_bytes(rgb)
    return {
        "deep_gray.png": "deep_color: 16 bits per channel",
        "deep_gray2.tif": "deep_color: 16 bits per channel",
        "deep_rgb.png": "deep_color: 16 bits per channel",
        "float.tif": "unsupported_mode: mode F",
    }


def broken_pictures(folder: Path) -> dict[str, str]:
    paint_picture(folder / "whole.png", (64, 64))
    whole = (folder / "whole.png").read_bytes()
    save(folder / "whole.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "half2.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:1500])
    (folder / "text.png").write_text("what is this?")
    (folder / "empty.png").touch()
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.remove(folder / "whole.png")
    os.remove(folder / "whole.jpg")
    return {
        "half.png": "truncated: ",
        "half2.jpg": "truncated: ",
        "text.png": "not_an_image: it begins with b'what is '",
        "empty.png": "empty_file: the file has no bytes",
        "gone.png": "unreadable: ",
    }


@pytest.mark.parametrize("make", [deep_pictures, broken_pictures])
def test_pictures_that_cannot_be_read_are_named_and_left_out(
    make: Callable[[Path], dict[str, str]],
    predict: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    faults = make(source)
    assert predict(source, output) == 1
    assert capsys.readouterr().out.startswith(f"{output}: 0 of {len(faults)} images segmented, {len(faults)} skipped")
    assert not files_below(output)
    paint_picture(source / "good.png")
    assert predict(source, output) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{output}: 1 of {len(faults) + 1} images segmented, {len(faults)} skipped; ")
    said = sorted(captured.err.splitlines())
    assert len(said) == len(faults)
    for line, name in zip(said, sorted(faults), strict=True):
        assert line.startswith(f"{source / name}: {faults[name]}")
        assert line.endswith("; skipped")
    assert files_below(output) == ["colors/good.png", "ids/good.png", "overlays/good.jpg"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_other_modes_are_read_as_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(paint(blocky_ids(32, 64))).convert(mode)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load_picture(str(tmp_path / "a.tif")), np.asarray(image.convert("RGB")))


def test_every_picture_is_that_of_the_pipeline_or_refused_for_its_reason(tmp_path: Path) -> None:
    for name, case in CASES.items():
        path = tmp_path / name
        path.write_bytes(case.data)
        if case.pipeline == "read":
            np.testing.assert_array_equal(load_picture(str(path)), decode_image(case.data, MAX_IMAGE_PIXELS))
            continue
        with pytest.raises(PictureError) as refused:
            load_picture(str(path))
        with pytest.raises(BadInputError) as rejected:
            decode_image(case.data or b"\0", MAX_IMAGE_PIXELS)
        found = refused.value.reason, refused.value.detail
        if not case.data:
            assert found == ("empty_file", "the file has no bytes")
            continue
        assert found[0] == rejected.value.reason, name
        assert rejected.value.detail.startswith(found[1]), name  # an option of the pipeline may follow


def test_a_turned_picture_is_left_out(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    paint_picture(tmp_path / "turned.jpg", exif=exif)
    assert predict(tmp_path / "turned.jpg", tmp_path / "out") == 1
    assert "turned.jpg: rotated: the EXIF orientation is not 1: turn the picture upright" in capsys.readouterr().err


def test_the_limit_of_pixels_is_that_of_the_pipeline(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse_predict(["--model=a", "--images=b", "--output=c"]).max_image_pixels == MAX_IMAGE_PIXELS
    paint_picture(tmp_path / "a.png")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    (tmp_path / "long.png").write_bytes((tmp_path / "a.png").read_bytes() + bytes(8 * 32 * 64))
    assert predict(tmp_path / "a.png", tmp_path / "out", f"--max_image_pixels={32 * 64}") == 0
    cure = "--max_image_pixels={} takes it, if it is no decompression bomb"
    for name, limit, found in (
        ("a", 32 * 64 - 1, f"64x32 (WxH) is more than 2,047 pixels: {cure.format(2048)}"),
        ("bomb", MAX_IMAGE_PIXELS, f"20000x10000 (WxH) is more than 100,000,000 pixels: {cure.format(200_000_000)}"),
        ("long", 32 * 64, "the file has more than 16,384 bytes"),
    ):
        assert predict(tmp_path / f"{name}.png", tmp_path / "out2", f"--max_image_pixels={limit}") == 1
        assert f"{name}.png: too_many_pixels: {found}; skipped\n" in capsys.readouterr().err


def test_pictures_are_found_by_folder_file_or_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "a/2.jpg", "b/3.JPEG", "b/c/4.webp"):
        paint_picture(tmp_path / name, (8, 8))
    (tmp_path / "b/5.txt").touch()
    names = {picture.name: picture.path for picture in find_pictures(f"{tmp_path}/")}
    assert names == {
        "a/1": str(tmp_path / "a/1.png"),
        "a/2": str(tmp_path / "a/2.jpg"),
        "b/3": str(tmp_path / "b/3.JPEG"),
        "b/c/4": str(tmp_path / "b/c/4.webp"),
    }
    assert [picture.name for picture in find_pictures(str(tmp_path / "a/1.png"))] == ["1"]
    assert [picture.name for picture in find_pictures(str(tmp_path / "*" / "*"))] == ["a/1", "a/2", "b/3"]
    assert [picture.name for picture in find_pictures(str(tmp_path / "a" / "[2-9].*"))] == ["2"]
    monkeypatch.chdir(tmp_path)
    for images, name in (
        ("*/1.png", "a/1"),
        ("./b/*.JPEG", "3"),
        ("b/c/", "4"),
        (f"../{tmp_path.name}/a/2.*", "2"),
    ):
        assert [picture.name for picture in find_pictures(images)] == [name]


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    paint_picture(tmp_path / "[raw]*" / "1.png", (8, 8))
    assert [picture.name for picture in find_pictures(str(tmp_path / "[raw]*"))] == ["1"]


@pytest.mark.parametrize("folder", ["[1]", "my *", "what?", "back\\slash", "a [b]/c [d]"])
def test_a_pattern_begins_in_a_folder_whose_name_looks_like_one(folder: str, tmp_path: Path) -> None:
    for name in (f"{folder}/1.png", f"{folder}/d/2.png", "1/3.png", "my other/4.png", "whats/5.png"):
        paint_picture(tmp_path / name, (8, 8))
    found = {picture.name: picture.path for picture in find_pictures(f"{tmp_path}/{folder}/*.png")}
    assert found == {"1": f"{tmp_path}/{folder}/1.png"}
    assert [picture.name for picture in find_pictures(f"{tmp_path}/{folder}/[a-e]/?.png")] == ["d/2"]


def test_every_type_that_a_build_reads_is_segmented(tmp_path: Path) -> None:
    names = {f"1.{ending}" for kind in (*IMAGE_TYPES, "jpe", "jfif") for ending in (kind, kind.upper())}
    for name in names:
        (tmp_path / name).touch()
    assert {os.path.basename(picture.path) for picture in find_pictures(str(tmp_path))} == names


def test_nothing_to_segment_is_an_error(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    assert predict(tmp_path, tmp_path.parent / "out") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {tmp_path}: none of 1 files is an image")
    assert all(kind in said for kind in TYPES)
    for images in (tmp_path / "absent", tmp_path / "absent" / "*.png"):
        assert predict(images, tmp_path.parent / "out") == 1
        assert capsys.readouterr().err.startswith(f"error: --images={images}: there is no such file or folder")


def test_the_same_command_continues_and_keeps_what_is_there(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Corrections of a predicted mask are not lost, and a command that was killed is completed."""
    ids = {name: paint_picture(tmp_path / "in" / f"{name}.png", seed=seed) for seed, name in enumerate("abc")}
    output = tmp_path / "out"
    assert predict(tmp_path / "in", output) == 0
    whole = files_below(output)
    corrected = save(output / "ids" / "a.png", np.zeros_like(ids["a"])).read_bytes()
    (output / "colors" / "b.png").unlink()
    (output / "overlays" / "c.jpg").unlink()
    capsys.readouterr()
    assert predict(f"{tmp_path / 'in'}/", output) == 0
    assert ": 2 of 3 images segmented, 0 skipped, 1 kept as they were (--overwrite " in capsys.readouterr().out
    assert files_below(output) == whole
    assert (output / "ids" / "a.png").read_bytes() == corrected
    assert predict(tmp_path / "in", output) == 0
    assert ": 0 of 3 images segmented, 0 skipped, 3 kept " in capsys.readouterr().out
    assert predict(tmp_path / "in", output, "--overwrite") == 0
    np.testing.assert_array_equal(read(output / "ids" / "a.png"), ids["a"])


@pytest.mark.parametrize(
    "case", ["a file of the user", "other options", "another model", "other images", "a damaged record"]
)
def test_files_of_others_are_replaced_only_with_overwrite(
    case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("in", "in2"):
        paint_picture(tmp_path / folder / "x.png")
    output, mine = tmp_path / "out", tmp_path / "out" / "ids" / "x.png"
    command = [f"--model={run}", f"--images={tmp_path / 'in'}", f"--output={output}"]
    if case != "a file of the user":
        assert main(command) == 0
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    if case == "other options":
        command.append("--flip")
    elif case == "other images":
        command[1] = f"--images={tmp_path / 'in2'}"
    elif case == "another model":
        other = describe(size=None, step=99)
        save_model(str(tmp_path / "best.keras"), make_color_model(other), other)
        command[0] = f"--model={tmp_path}"
    elif case == "a damaged record":
        (output / ".predict.json").write_bytes(bytes(99))
    capsys.readouterr()
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {output}/")
    assert "--overwrite" in said
    assert mine.read_bytes() == b"mine"
    assert main([*command, "--overwrite"]) == 0
    assert mine.read_bytes() != b"mine"
    assert main(command) == 0


def test_a_command_that_replaces_leaves_no_record_until_it_is_done(
    predict: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the command that is run again would keep files that were still to be replaced."""
    for name in "abc":
        paint_picture(tmp_path / "in" / f"{name}.png")
    assert predict(tmp_path / "in", tmp_path / "out", "--flip") == 0

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("trainer.inference.prediction.write", stop)
        assert predict(tmp_path / "in", tmp_path / "out", "--overwrite") == 130
    assert predict(tmp_path / "in", tmp_path / "out") == 1
    assert predict(tmp_path / "in", tmp_path / "out", "--overwrite") == 0


def test_no_file_is_written_twice_or_over_a_picture(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    paint_picture(source / "a/x.png")
    paint_picture(source / "b/x.png")
    assert predict(source, tmp_path / "out", "--as=cityscapes_submission") == 1
    told = f"{source}/a/x.png and {source}/b/x.png would both be written to {tmp_path}/out/x.png: rename one of them"
    assert capsys.readouterr().err == f"error: {told}\n"
    save(source / "b/x.jpg", np.zeros((8, 8, 3), np.uint8))
    assert predict(source / "b", tmp_path / "out") == 1
    assert f"would both be written to {tmp_path}/out/ids/x.png" in capsys.readouterr().err
    before = (source / "a/x.png").read_bytes()
    assert predict(source / "a/x.png", source / "a", "--as=cityscapes_submission") == 1
    assert capsys.readouterr().err == f"error: {source}/a/x.png is one of the images: choose another --output\n"
    assert (source / "a/x.png").read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "/out"])
def test_output_inside_the_images_is_refused(
    below: str, predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paint_picture(tmp_path / "x.png")
    assert predict(tmp_path, f"{tmp_path}{below}") == 1
    assert capsys.readouterr().err.startswith(
        f"error: --output={tmp_path}{below} is inside --images={tmp_path}, so the "
    )
    assert files_below(tmp_path) == ["x.png"]


def test_an_output_that_cannot_be_written_ends_the_command(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(9):
        paint_picture(tmp_path / "in" / f"{seed}.png", seed=seed)
    (tmp_path / "file").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "colors").touch()
    for output, found in (("file", "file"), ("out", "out/colors/0.png")):
        assert predict(tmp_path / "in", tmp_path / output) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"error: {tmp_path}/{found} can't be written: ")
        assert said.endswith("; fix this or choose another --output")


def test_an_output_that_cannot_be_written_is_found_before_the_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paint_picture(tmp_path / "x.png")
    (tmp_path / "file").touch()
    arguments = ["--model=nowhere", f"--images={tmp_path / 'x.png'}", f"--output={tmp_path / 'file'}"]
    assert main(arguments) == 1
    assert "file can't be written" in capsys.readouterr().err


def test_buckets_are_read_and_written(predict: Callable[..., int], tmp_path: Path) -> None:
    """ram:// stands for a bucket: another of TensorFlow's file systems."""
    ids = paint_picture(tmp_path / "x.png")
    tf.io.gfile.makedirs("ram://pictures/a")
    tf.io.gfile.copy(str(tmp_path / "x.png"), "ram://pictures/a/x.png")
    assert predict("ram://pictures", "ram://found") == 0
    tf.io.gfile.copy("ram://found/ids/a/x.png", str(tmp_path / "found.png"))
    np.testing.assert_array_equal(read(tmp_path / "found.png"), ids)


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint_picture(tmp_path / "x.png")
    (tmp_path / "run").mkdir()
    assert main([f"--model={tmp_path / 'run'}", f"--images={tmp_path / 'x.png'}", f"--output={tmp_path / 'out'}"]) == 1
    assert "run has no best.keras" in capsys.readouterr().err
