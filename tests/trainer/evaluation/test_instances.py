"""Instance-weighted IoU, against cityscapesScripts' own evaluation of the same files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE
from tests.support.builds import PROJECT
from trainer.evaluation.instance_files import InstanceFiles, InstancesError
from trainer.evaluation.instances import CLASS_SIZES, WEIGHTING, InstanceCounter
from trainer.evaluation.metrics import Scores
from trainer.inference.submission import SubmissionError

pytestmark = pytest.mark.filterwarnings("ignore:`in1d` is deprecated:DeprecationWarning")  # cityscapesScripts uses it

TABLE = BUILTIN_TABLES["cityscapes19"]()
LABEL_IDS = np.array([row.source_ids[0] for row in TABLE.classes], np.uint8)
SIZE = (24, 40)
IMAGES = ("a_000000_000019", "b_000000_000019", "c_000000_000019")


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label ids, instance ids and predicted train ids [H, W], in blocks, with caravans, groups and a single pixel.

    The label of an object is that of its pixels, as in Cityscapes.
    """
    random = np.random.default_rng(seed)
    blocks = random.choice([0, 7, 11, 21, 23, *range(24, 34)], (6, 10)).astype(np.uint16)
    numbers = random.integers(0, 4, blocks.shape).astype(np.uint16)
    has_number = (blocks >= 24) & (random.random(blocks.shape) < 0.8)  # the others are groups
    instances = np.where(has_number, 1000 * blocks + numbers, blocks).repeat(4, 0).repeat(4, 1)
    instances[3, 5] = 24777
    labels = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
    train_ids = np.full(256, IGNORE, np.uint8)
    train_ids[LABEL_IDS] = np.arange(19)
    noise = random.integers(0, 19, SIZE).astype(np.uint8)
    right = (train_ids[labels] != IGNORE) & (random.random(SIZE) < 0.7)
    return labels, instances, np.where(right, train_ids[labels], noise).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return str(path)


def confusion_of(labels: np.ndarray, shown: np.ndarray) -> np.ndarray:
    counts = np.zeros((34, 19), np.int64)
    np.add.at(counts, (labels, shown), 1)
    return counts[LABEL_IDS]


def test_scores_of_objects_are_those_of_the_official_script(
    official: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    truths, guesses, counts = [], [], []
    for seed, name in enumerate(IMAGES):
        labels, instances, shown = draw(seed)
        city = tmp_path / "gt" / name[0]
        truths.append(save(city / f"{name}_gtFine_labelIds.png", labels))
        save(city / f"{name}_gtFine_instanceIds.png", instances)
        guesses.append(save(tmp_path / "pred" / f"{name}_leftImg8bit.png", LABEL_IDS[shown]))
        counts.append(confusion_of(labels, shown))
    monkeypatch.setattr(official.args, "evalInstLevelScore", True)
    expected = official.evaluateImgLists(guesses, truths, official.args)
    counter = InstanceCounter(InstanceFiles(str(tmp_path / "gt")), TABLE)
    filenames = tuple(f"leftImg8bit/val/{name[0]}/{name}_leftImg8bit.png" for name in IMAGES)
    for seed, name in enumerate(filenames):
        counter(name, draw(seed)[2])
    found = counter.scores(Scores(confusion=np.sum(counts, axis=0), labels=TABLE), filenames)
    assert found.classes.shape == (3, 19, 2)
    assert found.class_iou.keys() == CLASS_SIZES.keys()
    assert found.category_iou.keys() == {"human", "vehicle"}
    for name, iou in found.class_iou.items():
        assert iou == pytest.approx(expected["classInstScores"][name], abs=1e-12)
        assert 0 < iou < 1
    for name, iou in found.category_iou.items():
        assert iou == pytest.approx(expected["categoryInstScores"][name], abs=1e-12)
    assert found.mean_class_iou == pytest.approx(expected["averageScoreInstClasses"], abs=1e-12)
    assert found.mean_category_iou == pytest.approx(expected["averageScoreInstCategories"], abs=1e-12)


def test_the_average_sizes_are_those_of_the_official_script(official: Any):
    sizes = official.args.avgClassSize
    assert {name: sizes[name] for name in CLASS_SIZES} == CLASS_SIZES
    assert set(sizes) - set(CLASS_SIZES) == {"caravan", "trailer"}, "which are ignored"


def test_the_readme_says_what_is_weighted_as_the_command_does():
    assert WEIGHTING in (PROJECT / "trainer" / "README.md").read_text()


def test_files_are_found_in_a_folder_or_by_a_pattern(tmp_path: Path):
    ids = draw(0)[1]
    fine = save(tmp_path / "gtFine" / "val" / "a" / "a_1_gtFine_instanceIds.png", ids)
    save(tmp_path / "gtCoarse" / "val" / "a" / "a_1_gtCoarse_instanceIds.png", ids)
    plain = save(tmp_path / "gtFine" / "x.y_instanceIds.png", ids)
    files = InstanceFiles(f"{tmp_path}/gtFine/")
    for filename, path in (("val/a/a_1_leftImg8bit.png", fine), ("rgb/x.y.jpg", plain)):
        found, read = files.read(filename, SIZE)
        assert found == path
        np.testing.assert_array_equal(read, ids)
    assert InstanceFiles(f"{tmp_path}/*/val/a/*_gtFine_*.png").read("a_1.png", SIZE)[0] == fine
    with pytest.raises(InstancesError, match=r"a_1_gtCoarse_instanceIds.png and .* belong to one image: set a folder"):
        InstanceFiles(str(tmp_path))


def test_files_that_do_not_fit_are_named(tmp_path: Path):
    ids = draw(0)[1]
    save(tmp_path / "small_instanceIds.png", ids[1:])
    save(tmp_path / "gray_instanceIds.png", ids.astype(np.uint8))
    save(tmp_path / "road_instanceIds.png", np.full(SIZE, 7001, np.uint16))
    save(tmp_path / "none_instanceIds.png", np.full(SIZE, 34000, np.uint16))
    (tmp_path / "bad_instanceIds.png").write_bytes(b"no picture")
    counter = InstanceCounter(InstanceFiles(str(tmp_path)), TABLE)
    for name, message in {
        "small": r"small_instanceIds.png has 23x40 pixels, and small.png is scored at 24x40: score it at its own size",
        "gray": "gray_instanceIds.png has not one channel of 16 bits",
        "road": "road_instanceIds.png has the id 7001, which is no object of person, rider,",
        "none": "none_instanceIds.png has the id 34000",
        "bad": "bad_instanceIds.png is no PNG file, or is damaged",
        "away": r"there is no file of the instances of away.png, such as away_gtFine_instanceIds.png: add it, or leave",
    }.items():
        with pytest.raises(InstancesError, match=message):
            counter(f"{name}.png", np.zeros(SIZE, np.uint8))
    for place in (tmp_path / "nothing", f"{tmp_path}/nothing/*.png"):
        with pytest.raises(InstancesError, match=r"there are no files \*_instanceIds.png: set their folder"):
            InstanceFiles(str(place))
    with pytest.raises(
        SubmissionError, match=r"--instances needs a model of Cityscapes' 19 classes, .* leave out --instances"
    ):
        InstanceCounter(InstanceFiles(str(tmp_path)), BUILTIN_TABLES["camvid11"]())
