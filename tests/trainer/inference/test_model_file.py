from __future__ import annotations

import errno
import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.support.builds import PROJECT
from tests.support.color_model import CITYSCAPES, describe, make_color_model
from tests.support.handmade import write_dataset
from trainer.data.dataset import open_split
from trainer.inference import archive
from trainer.inference.model_file import (
    BEST,
    Description,
    ModelFileError,
    check_labels,
    find_model,
    load_model,
    read_description,
    save_model,
)
from trainer.models import as_list, layers

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 64, 3)).astype(np.float32)
MEMBER = "street_scenes.json"
CURE = "restore the file from a backup, or train the model again"
NEWER = "use the version of this project that saved it"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "colors.keras"
    save_model(str(path), make_color_model(describe()), describe())
    return path


def predictions(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(each) for each in as_list(model(IMAGES, training=False))]


def rewrite(saved: Path, path: Path, change: Callable[[dict], object]) -> Path:
    """A copy of `saved`, whose description `change` has changed."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == MEMBER:
                value = json.loads(content)
                change(value)
                content = json.dumps(value).encode()
            target.writestr(name, content)
    return path


def refusal_of(path: Path | str) -> str:
    with pytest.raises(ModelFileError) as refused:
        load_model(str(path))
    return str(refused.value)


def make_layered_model() -> keras.Model:
    """Of all layers that are this package's own, with two outputs; small, so that it is quickly made."""
    images = keras.Input((None, None, 3))
    padded = layers.PadToMultiple(16, 1)(images)
    coarse = layers.AtrousMaxPool(2)(keras.layers.Conv2D(19, 3, strides=2, padding="same")(padded))
    outputs = [layers.CropLike()(layers.ResizeLike(aligned)(coarse, padded), images) for aligned in (True, False)]
    return keras.Model(images, outputs)


def test_a_model_comes_back_as_it_was(tmp_path: Path):
    model = make_layered_model()
    save_model(f"{tmp_path}/run/{BEST}", model, describe(model="u2net"))
    again, description = load_model(f"{tmp_path}/run")
    assert description == describe(model="u2net")
    for mine, theirs in zip(predictions(model), predictions(again), strict=True):
        np.testing.assert_array_equal(mine, theirs)


PLAIN = """
import sys
import h5py
import keras
import numpy as np

folder = sys.argv[1]
try:
    keras.saving.load_model(f"{folder}/model.keras")
    assert tuple(map(int, keras.__version__.split(".")[:2])) < (3, 9)  # which imported what a file names
except TypeError as error:
    assert "trainer.models.layers" in str(error)  # what to import
import trainer.models.layers
model = keras.saving.load_model(f"{folder}/model.keras")
for index, output in enumerate(model(np.load(f"{folder}/images.npy"), training=False)):
    np.testing.assert_array_equal(output, np.load(f"{folder}/output_{index}.npy"))
"""


def test_keras_alone_reads_the_file_in_another_process(tmp_path: Path):
    model = make_layered_model()
    save_model(f"{tmp_path}/model.keras", model, describe())
    np.save(tmp_path / "images.npy", IMAGES)
    for index, output in enumerate(predictions(model)):
        np.save(tmp_path / f"output_{index}.npy", output)
    command = [sys.executable, "-c", PLAIN, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("changes", [{"size": None}, {"mean_iou": None}, {"labels": BUILTIN_TABLES["camvid11"]()}])
def test_a_description_comes_back_as_it_was(changes: dict):
    before = describe(**changes)
    assert Description.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_a_description_is_that_of_the_data_set(tmp_path: Path):
    manifest = open_split(str(write_dataset(tmp_path / "one", "raw_uint8")), "train").manifest
    found = Description.of("u2net", manifest, step=9, mean_iou=0.25)
    assert (found.model, found.step, found.mean_iou, found.size) == ("u2net", 9, 0.25, (8, 12))
    assert (found.labels, found.dataset) == (manifest.labels, manifest.fingerprint)
    assert (list(found.mean), list(found.std)) == (list(manifest.moments.mean), list(manifest.moments.std))
    several = write_dataset(tmp_path / "several", "raw_uint8", sizes=((8, 12), (16, 8)))
    assert Description.of("u2net", open_split(str(several), "train").manifest, step=9, mean_iou=None).size is None


def test_a_file_is_whole_whenever_it_is_looked_at(tmp_path: Path):
    """What a reader finds at any moment is what would stay, were the process killed then."""
    path, models_saved = tmp_path / "model.keras", 12
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(4096, 9)(images))  # 4 MB, which take time to write

    def save() -> None:
        for step in range(models_saved):
            save_model(str(path), model, describe(step=step))

    saving = threading.Thread(target=save)
    saving.start()
    seen: list[int] = []
    while saving.is_alive():
        if path.exists():
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                assert archive.testzip() is None
                seen.append(json.loads(archive.read(MEMBER))["step"])
    saving.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > 1
    assert read_description(str(path)).step == models_saved - 1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@keras.saving.register_keras_serializable(package="tests")
class Unsaveable(keras.layers.Layer):
    def call(self, inputs):
        return inputs

    def save_own_variables(self, store):
        raise OSError("the disk is full")


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "model.keras"
    images = keras.Input((None, None, 3))
    broken = keras.Model(images, Unsaveable()(images))
    with pytest.raises(OSError, match="the disk is full"):
        save_model(str(path), broken, describe())
    assert not list(tmp_path.iterdir())
    save_model(str(path), make_color_model(describe()), describe(step=1))
    with pytest.raises(OSError, match="the disk is full"):
        save_model(str(path), broken, describe(step=2))
    assert load_model(str(path))[1].step == 1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_run_is_known_by_its_folder(saved: Path, tmp_path: Path):
    best = tmp_path / BEST
    best.write_bytes(saved.read_bytes())
    assert find_model(f"{tmp_path}/") == find_model(str(tmp_path)) == str(best) == find_model(str(best))


def test_a_model_that_is_not_there_is_missed(tmp_path: Path):
    assert refusal_of(tmp_path) == f"{tmp_path} has no {BEST}: a training run writes it after its first evaluation"
    (tmp_path / "saved_model.pb").touch()
    told = f"{tmp_path} is a SavedModel: set the {BEST}, or the folder of the run, that it was made from"
    assert refusal_of(tmp_path) == told
    missing = f"{tmp_path}/mine.keras"
    assert refusal_of(missing) == f"{missing} does not exist: set the path of a {BEST}, or the folder of a training run"


def test_a_file_that_keras_alone_wrote_is_refused(tmp_path: Path):
    path = tmp_path / "plain.keras"
    make_color_model(describe()).save(path)
    assert refusal_of(path) == f"{path} has no {MEMBER}: it was not written by this trainer; {CURE}"


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_file_that_was_cut_is_refused(share: float, saved: Path, tmp_path: Path):
    path, content = tmp_path / "cut.keras", saved.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    told = refusal_of(path)
    assert told.startswith(f"{path} is not a .keras file, or is damaged: ")
    assert told.endswith(f"; {CURE}")


def test_weights_that_are_damaged_are_refused(saved: Path, tmp_path: Path):
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        weights = archive.getinfo("model.weights.h5")
    content[weights.header_offset + weights.compress_size // 2] ^= 1
    path = tmp_path / "damaged.keras"
    path.write_bytes(content)
    assert refusal_of(path) == f"{path} is damaged: the checksum of its model.weights.h5 is wrong; {CURE}"


@given(data=st.data())
def test_a_damaged_byte_is_noticed_or_does_not_matter(data: st.DataObject, saved: Path):
    content = bytearray(saved.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = saved.parent / "damaged.keras"
    path.write_bytes(content)
    try:
        model, description = load_model(str(path))
    except ModelFileError as error:
        refused = error
    else:
        assert description == describe()
        np.testing.assert_array_equal(predictions(model)[0], predictions(make_color_model(describe()))[0])
        return
    assert str(refused).startswith(f"{path} ")


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
    ids=["memory", "disk", "quota"],
)
def test_what_the_machine_lacks_is_no_fault_of_the_file(error: Exception, saved: Path, monkeypatch: pytest.MonkeyPatch):
    def load(path: str):
        raise error

    monkeypatch.setattr(archive, "load", load)
    with pytest.raises(type(error)) as raised:
        load_model(str(saved))
    assert raised.value is error


def test_another_version_is_refused(saved: Path, tmp_path: Path):
    path = rewrite(saved, tmp_path / "newer.keras", lambda value: value.update(version=2))
    assert refusal_of(path).startswith(f"{path} has version 2 of {MEMBER}, but this trainer reads 1: {NEWER}")
    path = rewrite(saved, tmp_path / "none.keras", lambda value: value.pop("version"))
    assert refusal_of(path).startswith(f"{path} has version None of {MEMBER}, but this trainer reads 1: {NEWER}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value.pop("mean"), r"KeyError\('mean'\)"),
        (lambda value: value.update(std=3), r"TypeError\(.*not iterable"),
        (lambda value: value["labels"].pop("labels"), r"LabelTableError\('label table: has no field labels'\)"),
        (lambda value: value["labels"].update(labels=[]), r"LabelTableError\(.*it has no classes"),
    ],
)
def test_a_description_without_its_parts_is_refused(
    change: Callable[[dict], object], reason: str, saved: Path, tmp_path: Path
):
    path = rewrite(saved, tmp_path / "odd.keras", change)
    with pytest.raises(ModelFileError, match=f"odd.keras: its {MEMBER} is damaged: {reason}"):
        load_model(str(path))


def test_a_model_and_a_data_set_must_have_the_same_classes(tmp_path: Path):
    manifest = open_split(str(write_dataset(tmp_path / "data", "raw_uint8")), "train").manifest
    camvid = ", ".join(row.name for row in manifest.labels.classes)
    cityscapes = ", ".join(row.name for row in CITYSCAPES.classes)
    check_labels(describe(labels=replace(manifest.labels, name="renamed")), manifest, "data")
    with pytest.raises(ModelFileError) as refused:
        check_labels(describe(), manifest, "data")
    classes = f"{camvid} (label table 'camvid11'), not {cityscapes} ('cityscapes19')"
    assert str(refused.value).startswith(f"data has other classes than the model: {classes}. ")
    assert "(--labels)" in str(refused.value)


def replaced(saved: Path, path: Path, member: str, content: bytes, how: int = zipfile.ZIP_STORED) -> Path:
    """A copy of `saved` with other bytes for one member."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w", how) as target:
        for name in source.namelist():
            target.writestr(name, content if name == member else source.read(name))
    return path


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"garbage" * 99])
def test_weights_that_are_none_are_refused(content: bytes, saved: Path, tmp_path: Path):
    path = replaced(saved, tmp_path / "model.keras", "model.weights.h5", content)
    assert "is damaged: its model.weights.h5 is not an HDF5 file" in refusal_of(path)


def test_weights_that_are_cut_are_refused(saved: Path, tmp_path: Path):
    with zipfile.ZipFile(saved) as archive:
        content = archive.read("model.weights.h5")
    path = replaced(saved, tmp_path / "model.keras", "model.weights.h5", content[: len(content) // 2])
    assert "is damaged" in refusal_of(path)


def test_a_member_that_is_longer_than_the_file_is_not_read(saved: Path, tmp_path: Path):
    """Python would ask for that much memory at once."""
    content = bytearray(saved.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # of the last member, the description
    content[entry + 20 : entry + 24] = (2**31).to_bytes(4, "little")
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    told = f"is damaged: its {MEMBER} would take 2,147,483,648 of its {len(content):,} bytes"
    assert told in refusal_of(path)


@pytest.mark.filterwarnings("ignore:overflow encountered in divide:RuntimeWarning")  # Keras computes a size
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"Conv2D": {"name": " "}}, "has a layer called ' ', which TensorFlow can't run"),
        ({"InputLayer": {"dtype": "int32"}}, "takes int32 values, but normalized images have fractions"),
        ({"Conv2D": {"strides": [0, 0]}}, "can't load it"),
        ({"Conv2D": {"strides": [2**53, 1]}}, "has a size of 9,007,199,254,740,992, more than 2,147,483,647"),
        (
            {"InputLayer": {"batch_shape": [None, 8, 8, 3]}, "Conv2D": {"strides": [5e-324, 1]}},
            "can't load it (cannot convert float infinity to integer)",
        ),
    ],
)
def test_a_configuration_that_is_none_is_refused(changes: dict[str, dict], told: str, saved: Path, tmp_path: Path):
    refusal = refusal_of(with_layers(saved, tmp_path / "model.keras", changes))
    assert told in refusal
    assert refusal.endswith(CURE)


def test_what_another_keras_has_saved_may_need_it(saved: Path, tmp_path: Path):
    unfit = with_layers(saved, tmp_path / "unfit.keras", {"Conv2D": {"strides": [0, 0]}})
    path = replaced(unfit, tmp_path / "model.keras", "metadata.json", b'{"keras_version": "99.0"}')
    refusal = refusal_of(path)
    assert refusal.startswith(f"{path} was saved by Keras 99.0, and Keras {keras.__version__} can't load it (")
    assert refusal.endswith("): install the version that saved it, or a newer one")


def with_layers(saved: Path, path: Path, changes: dict[str, dict]) -> Path:
    """A copy of `saved` with other values in the configuration of layers of these classes."""
    with zipfile.ZipFile(saved) as archive:
        config = json.loads(archive.read("config.json"))
    for layer in config["config"]["layers"]:
        layer["config"].update(changes.get(layer["class_name"], {}))
    return replaced(saved, path, "config.json", json.dumps(config).encode())


@pytest.mark.parametrize(("block", "layer"), [("_block", "-conv"), (".", "a.b>c")])
def test_names_that_tensorflow_takes_within_a_model_are_taken(block: str, layer: str, tmp_path: Path):
    path = tmp_path / "model.keras"
    save_model(str(path), with_a_block(block, layer), describe())
    loaded, _ = load_model(str(path))
    assert tf.function(loaded)(IMAGES[:, :8, :8]).shape == (2, 8, 8, 19)


@pytest.mark.parametrize(("block", "layer"), [("a block", "conv"), ("block", "conv:0")])
def test_names_that_tensorflow_does_not_take_are_refused_on_all_levels(block: str, layer: str, tmp_path: Path):
    path = tmp_path / "model.keras"
    save_model(str(path), with_a_block(block, layer), describe())
    unfit = block if " " in block else layer
    cure = f"name it with A-Z, a-z, 0-9, _ and -, or {CURE}"
    assert refusal_of(path) == f"{path} has a layer called {unfit!r}, which TensorFlow can't run: {cure}"


def test_a_model_may_take_its_images_by_name(tmp_path: Path):
    inputs = {"images": keras.Input((8, 8, 3), name="images")}
    save_model(f"{tmp_path}/model.keras", keras.Model(inputs, keras.layers.Conv2D(19, 1)(inputs["images"])), describe())
    loaded, _ = load_model(f"{tmp_path}/model.keras")
    assert loaded({"images": IMAGES[:, :8, :8]}).shape == (2, 8, 8, 19)


def with_a_block(block: str, layer: str) -> keras.Model:
    images, inputs = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    inner = keras.Model(images, keras.layers.Conv2D(19, 1, name=layer)(images), name=block)
    return keras.Model(inputs, inner(inputs))


@pytest.mark.parametrize("member", [MEMBER, "config.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"[]", b"null"])
def test_members_that_are_no_description_are_refused(member: str, content: bytes, saved: Path, tmp_path: Path):
    assert refusal_of(replaced(saved, tmp_path / "model.keras", member, content)).startswith(f"{tmp_path}/model.keras")


@pytest.mark.parametrize("member", [MEMBER, "config.json", "model.weights.h5"])
def test_a_member_that_swells_is_not_read(member: str, saved: Path, tmp_path: Path):
    bomb = replaced(saved, tmp_path / "model.keras", member, bytes(80 * 2**20), zipfile.ZIP_DEFLATED)
    assert f"its {member} would have 83,886,080 bytes, more than " in refusal_of(bomb)


def test_links_to_other_files_are_not_followed(saved: Path, tmp_path: Path):
    made = tmp_path / "weights.h5"
    with zipfile.ZipFile(saved) as archive:
        made.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(made, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/")
    path = replaced(saved, tmp_path / "model.keras", "model.weights.h5", made.read_bytes())
    assert "contains a link to another file (model.weights.h5: /elsewhere)" in refusal_of(path)


def test_code_is_not_run(tmp_path: Path):
    images = keras.Input((None, None, 3))
    path = tmp_path / "model.keras"
    save_model(str(path), keras.Model(images, keras.layers.Lambda(lambda x: x)(images)), describe())
    assert "contains code (a layer Lambda), which is not run" in refusal_of(path)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [float("nan"), 0.5, 0.5]},
        {"std": [-0.1, 0.2, 0.2]},
        {"std": [0.1, 0.2]},
        {"mean": "abc"},
        {"size": [0, 32]},
        {"step": -1},
        {"mean_iou": 7},
        {"model": None},
    ],
)
def test_a_description_of_impossible_values_is_refused(change: dict, saved: Path, tmp_path: Path):
    path = rewrite(saved, tmp_path / "odd.keras", lambda value: value.update(change))
    assert f"its {next(iter(change))} is" in refusal_of(path)


def test_layers_and_description_must_be_of_one_model(tmp_path: Path):
    images = keras.Input((None, None, 3))
    path = tmp_path / "model.keras"
    save_model(str(path), keras.Model(images, keras.layers.Conv2D(7, 1)(images)), describe())
    assert "has 7 outputs, but its street_scenes.json describes 19 classes" in refusal_of(path)


GREEDY = """
import resource, sys
import tensorflow as tf
from trainer.inference.model_file import ModelFileError, load_model
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, used + 2**31))
try:
    load_model(sys.argv[1])
except ModelFileError as error:
    print(error)
"""


@pytest.mark.parametrize("filters", [2**30, 2**28])
def test_layers_that_ask_for_more_than_the_file_holds_get_no_memory(filters: int, tmp_path: Path):
    images = keras.Input((None, None, 3))
    path = tmp_path / "small.keras"
    x = keras.layers.Conv2D(5, 1, name="greedy")(images)
    save_model(str(path), keras.Model(images, keras.layers.Conv2D(19, 1)(x)), describe())
    with zipfile.ZipFile(path) as archive:
        config = re.sub(rb"\b5\b", b"%d" % filters, archive.read("config.json"))
    made = replaced(path, tmp_path / "model.keras", "config.json", config)
    done = subprocess.run(
        [sys.executable, "-c", GREEDY, str(made)], cwd=PROJECT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "is damaged: its layers need" in done.stdout
