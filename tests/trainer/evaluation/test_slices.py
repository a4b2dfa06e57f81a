"""Scores of parts of a split, against the same images scored alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.support.results import results_of
from trainer.evaluation.metrics import Scores, bootstrap_interval
from trainer.evaluation.results import ImageResults
from trainer.evaluation.slices import KINDS, Slice, groups_of, slices_of

CAMVID = BUILTIN_TABLES["camvid11"]()
NAMES = [f"{city}/{number:03}.png" for city in ("aachen", "bonn") for number in range(6)]


@pytest.fixture(scope="module")
def images() -> ImageResults:
    random = np.random.default_rng(0)
    confusions = random.integers(0, 50, (12, 11, 11)) + 400 * np.eye(11, dtype=np.int64)
    confusions[:, 10] = 0  # of a class in one image only
    confusions[3, 10, 10] = 7
    near = confusions // 3
    brightness = random.permutation(12).astype(np.float32) * 10
    return replace(results_of(confusions), filenames=tuple(NAMES), near=near, brightness=brightness)


def of_kind(slices: list[Slice], kind: str) -> list[Slice]:
    return [each for each in slices if each.kind == kind]


def scored(confusions: np.ndarray) -> float:
    return Scores(confusion=confusions.sum(axis=0), labels=CAMVID).mean_iou


def test_groups_are_scored_as_their_images_alone(images: ImageResults):
    found = of_kind(slices_of(images, CAMVID), "group")
    assert [(each.name, each.images) for each in found] == [("aachen", 6), ("bonn", 6)]
    for each, chosen in zip(found, (images.confusions[:6], images.confusions[6:]), strict=True):
        assert each.iou == pytest.approx(scored(chosen), rel=1e-12)
        assert each.interval == tuple(bootstrap_interval(chosen, seed=0).mean_iou)
        assert each.pixels == chosen.sum()


def test_thirds_by_brightness_have_each_image_once(images: ImageResults):
    found = of_kind(slices_of(images, CAMVID), "brightness")
    assert [each.name for each in found] == ["dark: 0 to 30", "medium: 40 to 70", "bright: 80 to 110"]
    dark = images.confusions[images.brightness < 35]
    assert found[0].iou == pytest.approx(scored(dark), rel=1e-12)
    assert sum(each.pixels for each in found) == images.confusions.sum()


def test_near_and_far_pixels_are_all(images: ImageResults):
    near, far = of_kind(slices_of(images, CAMVID), "boundary")
    assert (near.name, far.name) == ("near", "far")
    assert near.iou == pytest.approx(scored(images.near), rel=1e-12)
    assert far.iou == pytest.approx(scored(images.confusions - images.near), rel=1e-12)
    assert near.pixels + far.pixels == images.confusions.sum()


def test_thirds_by_the_size_of_a_class(images: ImageResults):
    found = of_kind(slices_of(images, CAMVID), "class size")
    sky = [each for each in found if each.of_class == "sky"]
    truth, valid = images.confusions[:, 0].sum(axis=1), images.confusions.sum(axis=(1, 2))
    small = np.argsort(truth / valid, kind="stable")[:4]
    assert sky[0].name == f"small: up to {100 * (truth / valid)[small].max():.3g} % of the valid pixels"
    scores = Scores(confusion=images.confusions[small].sum(axis=0), labels=CAMVID)
    assert sky[0].iou == pytest.approx(scores.class_iou[0], rel=1e-12)
    assert sum(each.pixels for each in sky) == truth.sum()
    assert "bicyclist" not in {each.of_class for each in found}, "one image can't be divided"


def test_slices_of_few_images_and_of_nothing():
    one = slices_of(results_of(np.zeros((1, 11, 11), np.int64)), CAMVID)
    assert [(each.kind, each.name) for each in one] == [("boundary", "near"), ("boundary", "far")]
    assert all(math.isnan(each.iou) for each in one)
    text = json.dumps([each.to_json() for each in one], allow_nan=False)
    assert json.loads(text)[0]["interval"] == [None, None]


def test_slices_come_in_the_order_of_their_table(images: ImageResults):
    kinds = [each.kind for each in slices_of(images, CAMVID)]
    assert list(dict.fromkeys(kinds)) == list(KINDS)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["a/1", "a/2", "b/1", "b/2"], {"a": [0, 1], "b": [2, 3]}),
        (["val/x_1", "val/y_1", "val/x_2", "val/y-2"], {"x": [0, 2], "y": [1, 3]}),
        (["x_1", "x_2", "3", "4"], {"(none)": [2, 3], "x": [0, 1]}),
        (["a/1", "b/1", "c/1", "d/1"], {}),
        (["1", "2", "3", "4"], {}),
        (["x_1", "x_2"], {}),
    ],
    ids=["folders", "beginnings", "some without", "a group each", "no names", "one group"],
)
def test_groups_in_file_names(names: list[str], groups: dict[str, list[int]]):
    assert {name: places.tolist() for name, places in groups_of(tuple(names)).items()} == groups
