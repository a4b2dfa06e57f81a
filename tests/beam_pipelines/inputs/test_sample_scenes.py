"""The drawn scenes: a function of their key, honest masks, the official layout."""

from __future__ import annotations

import hashlib
import importlib
import io
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.inputs.sample_scenes import (
    CITIES,
    SCENES,
    draw_layers,
    draw_scene,
    draw_scene_files,
    list_scenes,
    scene_file_names,
)
from beam_pipelines.inputs.sample_scenes.canvas import Canvas
from beam_pipelines.inputs.sample_scenes.figures import draw_figure, draw_vehicle

KEY = "train/arvenau/arvenau_000003_000019"
SMALL = (128, 256)  # height, width: enough to see every class, and fast
TABLE = BUILTIN_TABLES["cityscapes19"]()
SOURCE_IDS = {row.name: row.source_ids[0] for row in TABLE.labels}
Arrays = tuple[np.ndarray, np.ndarray]  # image and mask
NEARLY_ALWAYS = ("road", "sky", "building", "vegetation", "sidewalk", "car")


@pytest.fixture(scope="module")
def small() -> dict[str, Arrays]:
    """Key -> that scene at SMALL, for every scene; drawn in other processes, as threads of one only take turns."""
    draw, keys = partial(draw_scene, height=SMALL[0], width=SMALL[1]), list_scenes()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        return dict(zip(keys, pool.map(draw, keys, chunksize=8), strict=True))


@pytest.fixture(scope="module")
def full() -> Arrays:
    """The scene KEY at full size."""
    return draw_scene(KEY)


@pytest.fixture(scope="module")
def ids_of(small) -> dict[str, set[int]]:
    """Key -> the label ids in that scene's mask, for every scene."""
    return {key: set(np.flatnonzero(np.bincount(mask.ravel())).tolist()) for key, (_, mask) in small.items()}


def ids_in(ids_of: dict[str, set[int]], split: str) -> set[int]:
    return set().union(*(ids for key, ids in ids_of.items() if key.startswith(split)))


def test_image_and_mask_are_512_by_1024_unless_asked(full):
    assert [(pixels.shape, pixels.dtype) for pixels in full] == [((512, 1024, 3), np.uint8), ((512, 1024), np.uint8)]


@pytest.mark.parametrize("size", [SMALL, (96, 320)])
def test_image_and_mask_have_the_asked_size(size):
    image, mask = draw_scene(KEY, *size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (mask.shape, mask.dtype) == (size, np.uint8)


def test_a_scene_is_a_function_of_its_key():
    keys = list_scenes()[:3]
    alone = [draw_scene_files(key, *SMALL) for key in keys]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda key: draw_scene_files(key, *SMALL), reversed(keys)))
    assert alone == together[::-1]
    assert len({data for files in alone for data in files.values()}) == 3 * len(keys)  # image, label ids, instance ids


@pytest.mark.parametrize("key", list_scenes()[::32])
@pytest.mark.slow
def test_a_key_is_the_same_scene_at_twice_the_size(small, key):
    medium = draw_scene(key, 2 * SMALL[0], 2 * SMALL[1])[1]
    assert np.mean(medium[1::2, 1::2] == small[key][1]) > 0.9


def test_a_key_is_the_same_scene_at_full_size(small, full):
    assert np.mean(full[1][2::4, 2::4] == small[KEY][1]) > 0.9


def test_another_key_is_another_scene(small):
    masks = [mask for _, mask in small.values()]
    assert max(np.mean(mask == other) for mask, other in pairwise(masks)) < 0.9


def test_the_mask_of_a_key_never_changes(full):
    digest = hashlib.sha256(full[1].tobytes()).hexdigest()
    assert digest == "b3da25bf5fe6e085ea49ff5dedd370d6d0478baa88e3cbac6d00b93a498155f7"


def test_masks_hold_only_ids_of_the_table(ids_of):
    assert set().union(*ids_of.values()) <= set(SOURCE_IDS.values())


def test_train_has_most_classes_and_val_no_other(ids_of):
    classes = {row.source_ids[0] for row in TABLE.classes}
    train, val = ids_in(ids_of, "train") & classes, ids_in(ids_of, "val") & classes
    assert len(train) >= 14
    assert val <= train


@pytest.mark.parametrize("name", NEARLY_ALWAYS)
def test_common_classes_are_in_nearly_every_scene(ids_of, name):
    assert sum(SOURCE_IDS[name] in ids for ids in ids_of.values()) >= 0.95 * len(ids_of)


def test_pixels_to_ignore_are_in_every_scene(ids_of):
    assert all({SOURCE_IDS["ego vehicle"], SOURCE_IDS["out of roi"]} <= ids for ids in ids_of.values())


def test_image_and_mask_show_the_same_shapes(full):
    """Color steps in the image are far stronger where the mask has an edge than elsewhere or beside it."""
    image, mask = full
    step = np.abs(np.diff(image.astype(int).sum(-1), axis=1))
    edge = np.diff(mask.astype(int), axis=1) != 0
    strength = {shift: step[np.roll(edge, shift, axis=1)].mean() for shift in (-6, -3, 0, 3, 6)}
    assert max(strength, key=strength.__getitem__) == 0
    assert strength[0] > 3 * step[~edge].mean()


def test_files_follow_the_official_layout_and_decode_to_the_arrays(small):
    """The arrays are another process's, so this also says that any process draws the same pixels."""
    files = draw_scene_files(KEY, *SMALL)
    assert scene_file_names(KEY) == (
        "leftImg8bit/train/arvenau/arvenau_000003_000019_leftImg8bit.png",
        "gtFine/train/arvenau/arvenau_000003_000019_gtFine_labelIds.png",
        "gtFine/train/arvenau/arvenau_000003_000019_gtFine_instanceIds.png",
    )
    assert tuple(files) == scene_file_names(KEY)
    for pixels, data in zip((*small[KEY], draw_layers(KEY, *SMALL)[2]), files.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def labels_with_instances() -> set[int]:
    official = pytest.importorskip("cityscapesscripts.helpers.labels", reason="cityscapesscripts is not installed")
    return {label.id for label in official.labels if label.hasInstances}


@pytest.mark.parametrize("key", list_scenes()[::40])
def test_instance_ids_have_the_form_of_cityscapes(small, key):
    _, label_ids, instance_ids = draw_layers(key, *SMALL)
    np.testing.assert_array_equal(label_ids, small[key][1])
    assert instance_ids.dtype == np.uint16
    numbered = instance_ids >= 1000
    np.testing.assert_array_equal(np.where(numbered, instance_ids // 1000, instance_ids), label_ids)
    np.testing.assert_array_equal(numbered, np.isin(label_ids, sorted(labels_with_instances())))


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (["cyclist"], {25000, 33000}),
        (["walker", "stander"], {24000, 24001}),
        (["motorcyclist", "bicycle", "walker", "cyclist"], {32000, 33000, 33001, 25000, 25001, 24000}),
        (["lamp"], {17}),
    ],
)
def test_each_figure_is_one_instance_of_each_of_its_labels(figures, expected):
    canvas = Canvas(np.random.default_rng(0), *SMALL)
    for place, name in enumerate(figures):
        draw_figure(canvas, name, 2.0 * place - 3, 9.0)
    found = set(np.unique(np.asarray(canvas.mask)).tolist())
    assert found - {SOURCE_IDS["sky"]} == expected


def test_each_vehicle_is_one_instance_however_many_parts_it_has():
    canvas = Canvas(np.random.default_rng(0), *SMALL)
    for place, name in enumerate(("car", "truck", "car")):
        draw_vehicle(canvas, name, 4.0 * place - 4, 14.0)
    assert set(np.unique(np.asarray(canvas.mask)).tolist()) == {SOURCE_IDS["sky"], 26000, 26001, 27000}


@pytest.mark.filterwarnings("ignore:`in1d` is deprecated:DeprecationWarning")  # which the script uses
def test_the_official_script_scores_labels_against_themselves_and_their_instances(tmp_path, monkeypatch):
    pytest.importorskip("cityscapesscripts", reason="cityscapesscripts is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = importlib.import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    for name, value in (("evalInstLevelScore", True), ("JSONOutput", False), ("quiet", True)):
        monkeypatch.setattr(evaluation.args, name, value)
    for name, data in draw_scene_files(KEY, *SMALL).items():
        (tmp_path / name.rpartition("/")[2]).write_bytes(data)
    (labels,) = map(str, tmp_path.glob("*_labelIds.png"))
    scores = evaluation.evaluateImgLists([labels], [labels], evaluation.args)
    assert (scores["averageScoreClasses"], scores["averageScoreInstClasses"]) == (1.0, 1.0)
    measured = {name for name, score in scores["classInstScores"].items() if score == 1.0}
    assert measured >= {"person", "car"}


def test_scenes_are_listed_in_a_fixed_order_with_their_counts():
    keys = list_scenes()
    assert {split: sum(key.startswith(f"{split}/") for key in keys) for split in SCENES} == SCENES
    assert len(set(keys)) == len(keys)
    assert keys[0] == "train/arvenau/arvenau_000000_000019"
    assert list_scenes({"train": 7}) == keys[:7]


def test_no_city_is_in_two_splits():
    assert not set(CITIES["train"]) & set(CITIES["val"])
