"""The drawn scenes: a function of their key, honest masks, the official layout."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.sample_scenes import CITIES, SCENES, draw_scene, draw_scene_files, list_scenes

KEY = "train/arvenau/arvenau_000003_000019"
SMALL = (128, 256)  # height, width: enough to see every class, and fast
TABLE = BUILTIN_TABLES["cityscapes19"]()
SOURCE_IDS = {row.name: row.source_ids[0] for row in TABLE.labels}
NEARLY_ALWAYS = ("road", "sky", "building", "vegetation", "sidewalk", "car")


@pytest.fixture(scope="module")
def ids_of() -> dict[str, set[int]]:
    """Key -> the label ids in that scene's mask, for every scene."""
    return {key: set(np.unique(draw_scene(key, *SMALL)[1]).tolist()) for key in list_scenes()}


def ids_in(ids_of: dict[str, set[int]], split: str) -> set[int]:
    return set().union(*(ids for key, ids in ids_of.items() if key.startswith(split)))


@pytest.mark.parametrize("size", [(512, 1024), SMALL, (96, 320)])
def test_image_and_mask_have_the_asked_size(size):
    image, mask = draw_scene(KEY, *size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (mask.shape, mask.dtype) == (size, np.uint8)


def test_a_scene_is_a_function_of_its_key():
    keys = list_scenes()[:6]
    alone = [draw_scene_files(key, *SMALL) for key in keys]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda key: draw_scene_files(key, *SMALL), reversed(keys)))
    assert alone == together[::-1]
    assert len({data for files in alone for data in files.values()}) == 2 * len(keys)


@pytest.mark.parametrize("key", list_scenes()[::20])
def test_a_key_is_the_same_scene_at_any_size(key):
    large, small = (draw_scene(key, *size)[1] for size in ((512, 1024), SMALL))
    assert np.mean(large[2::4, 2::4] == small) > 0.9


def test_the_mask_of_a_key_never_changes():
    mask = draw_scene(KEY)[1]
    assert (
        hashlib.sha256(mask.tobytes()).hexdigest() == "b3da25bf5fe6e085ea49ff5dedd370d6d0478baa88e3cbac6d00b93a498155f7"
    )


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


def test_image_and_mask_show_the_same_shapes():
    """Colour steps in the image are far stronger where the mask has an edge than elsewhere or beside it."""
    image, mask = draw_scene(KEY)
    step = np.abs(np.diff(image.astype(int).sum(-1), axis=1))
    edge = np.diff(mask.astype(int), axis=1) != 0
    strength = {shift: step[np.roll(edge, shift, axis=1)].mean() for shift in (-6, -3, 0, 3, 6)}
    assert max(strength, key=strength.__getitem__) == 0
    assert strength[0] > 3 * step[~edge].mean()


def test_files_follow_the_official_layout_and_decode_to_the_arrays():
    files = draw_scene_files(KEY, *SMALL)
    assert list(files) == [
        "leftImg8bit/train/arvenau/arvenau_000003_000019_leftImg8bit.png",
        "gtFine/train/arvenau/arvenau_000003_000019_gtFine_labelIds.png",
    ]
    for pixels, data in zip(draw_scene(KEY, *SMALL), files.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_scenes_are_listed_in_a_fixed_order_with_their_counts():
    keys = list_scenes()
    assert {split: sum(key.startswith(f"{split}/") for key in keys) for split in SCENES} == SCENES
    assert len(set(keys)) == len(keys)
    assert keys[0] == "train/arvenau/arvenau_000000_000019"
    assert list_scenes({"train": 7}) == keys[:7]


def test_no_city_is_in_two_splits():
    assert not set(CITIES["train"]) & set(CITIES["val"])
