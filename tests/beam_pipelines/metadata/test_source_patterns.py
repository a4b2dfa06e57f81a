"""Patterns of names from the pairs of a plan: of each layout that has them, and why others have none."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.metadata.source_patterns import SourceFolder, find_patterns, regex_of
from beam_pipelines.shards.plan import ShardPlan, write_plan
from tests.support.handmade import write_dataset

ROOT = "/home/me/pictures/"
SPLITS = (("train", "training"), ("val", "validation"))
Names = tuple[str, str, str]  # split, image, mask


def of_each(image: str, mask: str, places: Iterable[str] = ("",)) -> list[Names]:
    """Two pairs of each split at each of the places: SPLIT, FOLDER, PLACE and KEY in the names are replaced."""
    found = []
    for (split, folder), place, key in itertools.product(SPLITS, places, ("a", "b(1)")):
        words = {"SPLIT": split, "FOLDER": folder, "PLACE": place, "KEY": key}
        found.append((split, _filled(image, words), _filled(mask, words)))
    return found


def _filled(name: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda word: words[word[0]], name)


CITIES = ("aachen", "ulm")
WITH_PATTERNS: dict[str, tuple[list[Names], list[str], list[str], str]] = {
    "cityscapes": (
        of_each("leftImg8bit/SPLIT/PLACE/KEY_leftImg8bit.png", "gtFine/SPLIT/PLACE/KEY_gtFine_labelIds.png", CITIES),
        ["leftImg8bit/train/*/*_leftImg8bit.png"],
        ["gtFine/train/*/*_gtFine_labelIds.png"],
        "train/aachen/a",
    ),
    "acdc": (
        of_each("rgb_anon/PLACE/SPLIT/KEY_rgb_anon.png", "gt/PLACE/SPLIT/KEY_gt_labelIds.png", ("fog", "rain")),
        ["rgb_anon/fog/train/*_rgb_anon.png", "rgb_anon/rain/train/*_rgb_anon.png"],
        ["gt/fog/train/*_gt_labelIds.png", "gt/rain/train/*_gt_labelIds.png"],
        "fog/train/a",
    ),
    "vistas": (
        of_each("FOLDER/images/KEY.jpg", "FOLDER/v1.2/labels/KEY.png"),
        ["training/images/*.jpg"],
        ["training/v1.2/labels/*.png"],
        "a",
    ),
    "segnet": (of_each("SPLIT/KEY.png", "SPLITannot/KEY.png"), ["train/*.png"], ["trainannot/*.png"], "a"),
    "one folder": (of_each("SPLIT/KEY.jpg", "SPLIT/KEY_mask.png"), ["train/*.jpg"], ["train/*_mask.png"], "train/a"),
    "two endings": (
        of_each("i/SPLIT/KEY.jpg", "m/SPLIT/KEY.jpg.png"),
        ["i/train/*.jpg"],
        ["m/train/*.jpg.png"],
        "train/a",
    ),
    "levels": (
        of_each("i/SPLIT/PLACEKEY.JPG", "m/SPLIT/PLACEKEY.png", ("", "p/", "p/q/")),
        ["i/train/*.JPG", "i/train/*/*.JPG", "i/train/*/*/*.JPG"],
        ["m/train/*.png", "m/train/*/*.png", "m/train/*/*/*.png"],
        "train/a",
    ),
    "odd names": (
        of_each("i[1]/SPLIT/KEY.png", "m*?/SPLIT/KEY.png"),
        ["i[[]1]/train/*.png"],
        ["m[*][?]/train/*.png"],
        "train/a",
    ),
}
WITHOUT: dict[str, tuple[list[Names], str]] = {
    "splits by shares": (of_each("images/SPLITKEY.png", "masks/SPLITKEY.png"), "do not tell the split, or images"),
    "one split without its name": ([("train", "images/a.png", "masks/a.png")], "do not tell the split, or images"),
    "masks that fit the pattern of images": (of_each("SPLIT/KEY.png", "SPLIT/KEY_mask.png"), "or images from masks"),
    "images that fit the pattern of masks": (of_each("SPLIT/i/KEY.png", "SPLIT/KEY.png"), "or images from masks"),
    "keys in two places": (of_each("PLACE/SPLIT/i/KEY.png", "PLACE/SPLIT/m/KEY.png", "pq"), "have the same key"),
    "other beginnings": (of_each("i/SPLIT/rgb_KEY.png", "m/SPLIT/gt_KEY.png"), "begin differently"),
    "TIFF": (of_each("i/SPLIT/KEY.tif", "m/SPLIT/KEY.png"), "some are TIF files"),
    "Labelme": (of_each("SPLIT/KEY.png", "SPLIT/KEY.json"), "drawn from regions"),
    "an archive": (of_each("a.zip!/i/SPLIT/KEY.png", "a.zip!/m/SPLIT/KEY.png"), "in archives"),
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = write_dataset(tmp_path_factory.mktemp("made"), "raw_uint8")
    return Manifest.from_json((folder / "dataset.json").read_text())


def plan_of(folder: Path, names: Iterable[Names], root: str = ROOT) -> str:
    place = Workspace(str(folder))
    by_split: dict[str, list[Pair]] = {}
    for split, image, mask in names:
        by_split.setdefault(split, []).append(Pair(f"{split}/{image}", split, image, root + image, root + mask, 1))
    write_plan(place, [ShardPlan(split, 0, 1, PairList(pairs), "0" * 64) for split, pairs in by_split.items()])
    return place.plan


@pytest.mark.parametrize("layout", WITH_PATTERNS)
def test_each_file_matches_the_pattern_of_its_kind_and_split_alone(
    manifest: Manifest, tmp_path: Path, layout: str
) -> None:
    names, images, masks, first_key = WITH_PATTERNS[layout]
    found = find_patterns(manifest, plan_of(tmp_path, names))
    assert isinstance(found, SourceFolder), found
    assert [glob for each in found.splits[0].images for glob in each.includes] == images
    assert [glob for each in found.splits[0].masks for glob in each.includes] == masks
    patterns = {(each.split, kind): getattr(each, kind) for each in found.splits for kind in ("images", "masks")}
    keys = []
    for split, image, mask in names:
        for kind, name in (("images", image), ("masks", mask)):
            takes = [
                of
                for of, each in patterns.items()
                if any(fnmatch.fnmatchcase(name, glob) for one in each for glob in one.includes)
            ]
            assert takes == [(split, kind)]
            match = re.match(regex_of(patterns[split, kind]), name)
            assert match
            keys.append((split, *filter(None, match.groups())))
    assert keys[::2] == keys[1::2]
    assert len({*keys}) == len(names)
    assert keys[0] == ("train", first_key)


@pytest.mark.parametrize("why", WITHOUT)
def test_what_no_pattern_can_tell_has_a_reason(manifest: Manifest, tmp_path: Path, why: str) -> None:
    names, reason = WITHOUT[why]
    found = find_patterns(manifest, plan_of(tmp_path, names))
    assert isinstance(found, str)
    assert reason in found
    assert ROOT.strip("/") not in found


def test_inputs_that_are_no_folder_have_a_reason(manifest: Manifest, tmp_path: Path) -> None:
    names = WITH_PATTERNS["cityscapes"][0]
    plan = plan_of(tmp_path, names)
    listed, some = (dataclasses.replace(manifest, recipe=each) for each in ({"input": "a.csv"}, {"max_pairs": 3}))
    assert find_patterns(listed, plan) == "a list chose them"
    assert find_patterns(some, plan) == "only a part of them is in the data set"
    assert "an earlier version" in str(find_patterns(manifest, None))
    assert find_patterns(manifest, plan_of(tmp_path, names, "gs://bucket/")) == "they are in a bucket"
    elsewhere = ShardPlan(
        "train", 0, 1, PairList([Pair("a", "train", "i/train/a.png", "/x/i/train/a.png", "/y/a.png", 1)]), ""
    )
    write_plan(Workspace(str(tmp_path)), [elsewhere])
    assert find_patterns(manifest, plan) == "they are in several folders"


def test_the_checksum_is_of_the_names_and_not_of_their_folder(manifest: Manifest, tmp_path: Path) -> None:
    names = WITH_PATTERNS["vistas"][0]
    found = [find_patterns(manifest, plan_of(tmp_path, names, root)) for root in (ROOT, "/elsewhere/")]
    assert found[0] == found[1]
    assert found[0] != find_patterns(manifest, plan_of(tmp_path, names[:-1]))


def test_a_damaged_plan_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    plan = Path(plan_of(tmp_path, WITH_PATTERNS["vistas"][0]))
    plan.write_bytes(plan.read_bytes()[:-9])
    with pytest.raises(BuildError, match="is damaged"):
        find_patterns(manifest, str(plan))
