from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from beam_pipelines.contract.pictures import MAX_IMAGE_PIXELS, decode_image
from tests.support.color_model import CITYSCAPES, blocky_ids, describe, make_color_model, paint
from tests.support.picture_table import CASES
from trainer.export import main
from trainer.files import sealed
from trainer.inference.model_file import Description, save_model
from trainer.inference.saved_model import DESCRIPTION, ExportError, export_model
from trainer.inference.segmenter import Segmenter
from trainer.models import build

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PROJECT = Path(__file__).parent.parent.parent
DESCRIBED = describe()
# What a stranger's process does: python -I CODE EXPORTED PICTURE... OUTPUT.npz
STRANGER = """
import sys
banned = ("keras", "tf_keras", "trainer", "beam_pipelines")
assert not set(banned) & set(sys.modules)
sys.modules |= dict.fromkeys(banned)  # importing one of them fails from now on
import numpy as np
import tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
files = [open(path, "rb").read() for path in sys.argv[2:-1]]
found = {}
for name in ("serving_default", "probabilities", "png"):
    found |= signatures[name](image_bytes=tf.constant(files))
found |= signatures["labels"]()
np.savez(sys.argv[-1], **{name: value.numpy() for name, value in found.items()})
assert not any(sys.modules[name] for name in banned)
"""


def encode(image: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that knows colors."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(str(folder), make_color_model(DESCRIBED), DESCRIBED)
    return folder


@pytest.fixture(scope="module")
def loaded(exported: Path) -> Any:
    return tf.saved_model.load(str(exported))


def call(loaded: Any, signature: str, *files: bytes) -> dict[str, np.ndarray]:
    found = loaded.signatures[signature](image_bytes=tf.constant(files))
    return {name: value.numpy() for name, value in found.items()}


def test_a_process_that_knows_only_tensorflow_sees_what_the_trainer_sees(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    options = {"backbone": "xception41", "width": 1 / 16, "batch_norm_momentum": 0.0}
    model = build("deeplabv3plus", num_classes=19, options=options)
    images = [noise(48, 80), noise(48, 80, seed=1)]
    model(np.stack(images) / 128.0 - 1, training=True)  # normalization by what was seen last: outputs that differ
    export_model(str(tmp_path / "model"), model, DESCRIBED)
    for number, image in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(encode(image))
    files = [str(tmp_path / f"{number}.png") for number in range(2)]
    (tmp_path / "stranger").mkdir()
    command = [sys.executable, "-I", "-c", STRANGER, str(tmp_path / "model"), *files, str(tmp_path / "found.npz")]
    done = subprocess.run(command, cwd=tmp_path / "stranger", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz", allow_pickle=True)
    segmenter = Segmenter(model, DESCRIBED)
    class_map = segmenter.class_map(np.stack(images)).numpy()
    assert len(np.unique(class_map)) > 2
    assert found["class_map"].dtype == np.uint8
    np.testing.assert_array_equal(found["class_map"], class_map)
    np.testing.assert_allclose(found["probabilities"], segmenter.probabilities(np.stack(images)), rtol=1e-5, atol=1e-6)
    for png, ids in zip(found["class_map_bytes"], class_map, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), ids)
    assert [name.decode() for name in found["names"]] == [row.name for row in CITYSCAPES.classes]
    assert [tuple(color) for color in found["colors"]] == [row.color for row in CITYSCAPES.classes]


def test_the_stranger_can_fail(tmp_path: Path) -> None:
    code = STRANGER.replace("import numpy as np\n", "import keras\n")
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: import of keras halted" in done.stderr


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG"])
def test_files_are_decoded_as_pillow_decodes_them(loaded: Any, kind: str) -> None:
    smooth = np.asarray(Image.fromarray(noise(6, 9)).resize((90, 60), Image.Resampling.BICUBIC))
    data = encode(smooth, kind)
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    expected = Segmenter(make_color_model(DESCRIBED), DESCRIBED).probabilities(pixels[None])
    np.testing.assert_allclose(call(loaded, "probabilities", data)["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_gray_palette_and_transparent_pictures_become_rgb(loaded: Any, mode: str) -> None:
    file = io.BytesIO()
    Image.fromarray(paint(blocky_ids(32, 64))).convert(mode).save(file, "PNG")
    pixels = np.asarray(Image.open(file).convert("RGB"))
    expected = Segmenter(make_color_model(DESCRIBED), DESCRIBED).class_map(pixels[None])
    np.testing.assert_array_equal(call(loaded, "serving_default", file.getvalue())["class_map"], expected)


def test_a_painted_picture_gives_its_classes(loaded: Any) -> None:
    ids = blocky_ids(32, 64)
    np.testing.assert_array_equal(call(loaded, "serving_default", encode(paint(ids)))["class_map"], ids[None])


def test_pictures_of_several_sizes_go_together_as_png_only(loaded: Any) -> None:
    files = [encode(paint(blocky_ids(*size))) for size in ((32, 64), (64, 128), (16, 16))]
    maps = [np.asarray(Image.open(io.BytesIO(png))) for png in call(loaded, "png", *files)["class_map_bytes"]]
    assert [(ids.shape, ids.dtype) for ids in maps] == [
        ((32, 64), np.uint8),
        ((64, 128), np.uint8),
        ((16, 16), np.uint8),
    ]
    for file, ids in zip(files, maps, strict=True):
        np.testing.assert_array_equal(call(loaded, "serving_default", file)["class_map"][0], ids)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[32,64,3\] vs. \[64,128,3\]"):
        call(loaded, "serving_default", *files)


@pytest.mark.parametrize("signature", ["serving_default", "probabilities", "png"])
def test_a_file_that_is_no_picture_is_named(loaded: Any, signature: str) -> None:
    good = encode(paint(blocky_ids(32, 64)))
    for bad in (b"what is this?", b""):
        message = (
            r"\[image_bytes\] \[1\] \[not_an_image: it is not a JPEG, PNG or BMP file; it has "
            rf"{len(bad)} bytes\]"
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call(loaded, signature, good, bad)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("PNG", r"\[truncated: a PNG file of {size} bytes has no chunk IEND\]"),
        ("JPEG", r"\[truncated: a JPEG file of {size} bytes has no end marker\]"),
        ("BMP", r"\[truncated: it needs 6198 bytes and has {size}\]"),
    ],
)
def test_a_damaged_file_is_refused(loaded: Any, kind: str, message: str) -> None:
    data = encode(noise(32, 64), kind)
    bad = data[: len(data) // 2]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message.format(size=len(bad))):
        call(loaded, "serving_default", bad)


def test_every_picture_is_that_of_the_pipeline_or_refused_by_its_name(loaded: Any) -> None:
    segmenter = Segmenter(make_color_model(DESCRIBED), DESCRIBED)
    for name, case in CASES.items():
        if case.graph != "read":
            with pytest.raises(tf.errors.InvalidArgumentError, match=rf"\[image_bytes\] \[0\] \[{case.graph}: "):
                call(loaded, "serving_default", case.data)
            continue
        found = call(loaded, "serving_default", case.data)["class_map"]
        if not name.startswith("jpeg"):  # of which TensorFlow's pixels are a few levels off
            expected = segmenter.class_map(decode_image(case.data, MAX_IMAGE_PIXELS)[None])
            np.testing.assert_array_equal(found, expected, err_msg=name)


def test_digests_of_all_files_lie_inside(exported: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=copy, check=True)
    sums = (copy / "SHA256SUMS").read_text().splitlines()
    files = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert {line.split("  ")[1] for line in sums} == files - {"SHA256SUMS"}
    graph = bytearray((copy / "saved_model.pb").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / "saved_model.pb").write_bytes(graph)
    english = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(check, cwd=copy, env=english, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "saved_model.pb: FAILED\n")


def test_the_description_lies_inside(exported: Path, loaded: Any) -> None:
    path = exported / "assets" / DESCRIPTION
    assert Description.from_json(json.loads(path.read_text())) == DESCRIBED
    assert loaded.description.asset_path.numpy().decode() == str(path)


def failing_model() -> keras.Model:
    """It takes pictures of four channels, which is found out when it is traced."""
    images = keras.Input((None, None, 4))
    return keras.Model(images, keras.layers.Conv2D(19, 1)(images))


def test_a_model_is_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shape"):
        export_model(str(tmp_path / "model"), failing_model(), DESCRIBED)
    assert not list(tmp_path.iterdir())


def test_only_what_is_whole_replaces_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    export_model(str(folder), make_color_model(DESCRIBED), DESCRIBED)
    with pytest.raises(ExportError, match=r"model already contains a SavedModel: .* replace it with --overwrite"):
        export_model(str(folder), make_color_model(DESCRIBED), DESCRIBED)
    with pytest.raises(ValueError, match="shape"):
        export_model(str(folder), failing_model(), DESCRIBED, overwrite=True)
    assert json.loads((folder / "assets" / DESCRIPTION).read_text())["step"] == 7
    later = dataclasses.replace(DESCRIBED, step=8)
    made, replaced = "model.tmp-0123abcd", "model.old-0123abcd"
    (tmp_path / "model.export.json").write_bytes(sealed({"made": made, "replaced": replaced}))
    for killed in (made, replaced):  # what a run that was killed has left
        (tmp_path / killed).mkdir()
    (tmp_path / "model.tmp-89abcdef").mkdir()
    export_model(f"{folder}/", make_color_model(later), later, overwrite=True)
    assert json.loads((folder / "assets" / DESCRIPTION).read_text())["step"] == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.tmp-89abcdef"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        ExportError, match=r"contains notes.txt, which is not part of a SavedModel: choose another folder"
    ):
        export_model(str(tmp_path), make_color_model(DESCRIBED), DESCRIBED, overwrite=True)
    with pytest.raises(ExportError, match=r"notes.txt is a file: choose a folder"):
        export_model(str(tmp_path / "notes.txt"), make_color_model(DESCRIBED), DESCRIBED, overwrite=True)
    with pytest.raises(ExportError, match=r"notes.txt/below can't be written: .*choose another folder"):
        export_model(str(tmp_path / "notes.txt" / "below"), make_color_model(DESCRIBED), DESCRIBED)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_bucket_gets_the_same_model(exported: Path) -> None:
    """ram:// stands for a bucket: another of TensorFlow's file systems, which renames no folders either."""
    export_model("ram://bucket/model", make_color_model(DESCRIBED), DESCRIBED)
    export_model("ram://bucket/model", make_color_model(DESCRIBED), DESCRIBED, overwrite=True)
    assert set(tf.io.gfile.listdir("ram://bucket/model")) == {path.name for path in exported.iterdir()}
    ids = blocky_ids(32, 64)
    remote = tf.saved_model.load("ram://bucket/model")
    np.testing.assert_array_equal(call(remote, "serving_default", encode(paint(ids)))["class_map"], ids[None])


def test_the_command_exports_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(str(tmp_path / "run" / "best.keras"), make_color_model(DESCRIBED), DESCRIBED)
    arguments = [f"--model={tmp_path / 'run'}", f"--output={tmp_path / 'model'}"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'model'}: deeplabv3plus of 19 classes (cityscapes19), from image_bytes or images to class_map\n"
    )
    ids = blocky_ids(32, 64)
    found = call(tf.saved_model.load(str(tmp_path / "model")), "serving_default", encode(paint(ids)))
    np.testing.assert_array_equal(found["class_map"], ids[None])
    assert main(arguments) == 1
    assert "already contains a SavedModel" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_the_command_exports_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(str(tmp_path / "best.keras"), make_color_model(DESCRIBED), DESCRIBED)
    arguments = [f"--model={tmp_path / 'best.keras'}", f"--output={tmp_path / 'model'}"]
    assert main([*arguments, "--window=16x24", "--overlap=0.5"]) == 0
    assert capsys.readouterr().out.endswith(", from image_bytes or images by windows of 16x24 to class_map\n")
    ids = blocky_ids(50, 70, block=2)  # which would vanish at the height of the data set
    found = call(tf.saved_model.load(str(tmp_path / "model")), "serving_default", encode(paint(ids)))
    np.testing.assert_array_equal(found["class_map"], ids[None])
    with pytest.raises(SystemExit):
        main([*arguments, "--overlap=0.5"])
    assert "overlap 0.5 has no effect without windows" in capsys.readouterr().err


def test_the_command_says_in_one_sentence_why_it_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--model={tmp_path / 'absent'}", f"--output={tmp_path / 'model'}"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {tmp_path / 'absent'} does not exist")
    assert "best.keras" in said


@pytest.mark.parametrize(
    "arguments", [[], ["--model=a"], ["--mod=a", "--output=b"], ["--model=a", "--output=b", "--x"]]
)
def test_wrong_arguments_end_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
