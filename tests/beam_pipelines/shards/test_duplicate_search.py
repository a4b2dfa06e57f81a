"""The search for duplicates: what it finds and what it must not, against a comparison of all with all."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.inputs.sample_scenes import draw_scene, list_scenes
from beam_pipelines.pixels.fingerprint import fingerprint
from beam_pipelines.shards import duplicate_search
from beam_pipelines.shards.duplicate_search import (
    BANDS,
    COMPARED,
    DISTANCE,
    PARTNERS,
    Duplicate,
    Entry,
    Findings,
    Picture,
    buckets_of,
    closest,
    equal_pairs,
    leaked_examples,
    near_pairs,
    representatives,
)
from tests.support.picture_changes import CHANGES

Found = dict[tuple[str, str], tuple[str, int]]
SCENES = {key: draw_scene(key, 256, 512)[0] for key in list_scenes({"train": 12})}
FULL = 2**64 - 1


def picture(key: str, hash: int, mirror: int | None = None, split: str = "train", digest: str = "") -> Picture:
    """One whose mirror image is like nothing, unless it is given."""
    far = random.Random(f"mirror of {key}").getrandbits(64)
    return Picture(
        key, split, f"{key}.png", f"{split}.tfrecord", digest or key, hash, far if mirror is None else mirror
    )


def of_image(key: str, image: np.ndarray, split: str = "train") -> Picture:
    found = fingerprint(np.ascontiguousarray(image))
    return Picture(key, split, key, "", found.pixels_digest, *(int(text, 16) for text in found.hashes))


packed = msgspec.msgpack.encode


def near(pictures: Iterable[Picture]) -> Found:
    """As the pipeline does it."""
    buckets = defaultdict(list)
    for each in pictures:
        for bucket, entry in buckets_of(each):
            buckets[bucket].append(entry)
    found = defaultdict(list)
    for (band, _), entries in buckets.items():
        for duplicate in near_pairs(band, entries):
            found[duplicate.one.key, duplicate.other.key].append(duplicate)
    best = {keys: closest(duplicates) for keys, duplicates in found.items()}
    return {keys: (each.kind, each.distance) for keys, each in best.items()}


def test_two_that_share_several_bands_are_paired_once() -> None:
    hash = random.Random(5).getrandbits(64)
    alike = [picture("a", hash), picture("b", flipped(hash, [0]))]
    buckets = defaultdict[tuple[int, int], list[Entry]](list)
    for each in alike:
        for bucket, entry in buckets_of(each):
            buckets[bucket].append(entry)
    assert sum(len([*near_pairs(band, entries)]) for (band, _), entries in buckets.items()) == 1


def all_with_all(pictures: Sequence[Picture]) -> Found:
    """The oracle."""
    found = {}
    for one, other in itertools.combinations(sorted(pictures), 2):
        plain = (one.hash ^ other.hash).bit_count()
        mirrored = min((one.hash ^ other.mirror).bit_count(), (one.mirror ^ other.hash).bit_count())
        if min(plain, mirrored) <= DISTANCE:
            found[one.key, other.key] = ("near", plain) if plain <= mirrored else ("mirrored", mirrored)
    return found


def flipped(hash: int, bits: Iterable[int]) -> int:
    for bit in bits:
        hash ^= 1 << bit
    return hash


@given(st.integers(0, 2**32), st.integers(0, 6))
def test_all_pairs_that_are_near_are_found_wherever_their_bits_differ(seed, different) -> None:
    rng = random.Random(seed)
    originals = [picture(f"a{number}", rng.getrandbits(64)) for number in range(6)]
    copies = [
        picture(f"b{number}", flipped(each.hash, rng.sample(range(64), different)), each.mirror)
        for number, each in enumerate(originals)
    ]
    mirrored = [
        picture(f"c{number}", flipped(each.mirror, rng.sample(range(64), different)), each.hash)
        for number, each in enumerate(originals)
    ]
    pictures = [*originals, *copies, *mirrored]
    found = near(pictures)
    assert found == all_with_all(pictures)
    assert len(found) >= (12 if different <= DISTANCE else 0)
    rng.shuffle(pictures)
    assert near(pictures) == found


def test_the_bands_are_one_more_than_the_bits_that_may_differ() -> None:
    assert sum(BANDS) == 64
    assert len(BANDS) == DISTANCE + 1


@pytest.mark.parametrize(
    ("change", "kind", "least"),
    [
        ("JPEG 75", "near", 12),
        ("JPEG 30", "near", 12),
        ("half size", "near", 12),
        ("brighter", "near", 12),
        ("darker", "near", 12),
        ("mirrored", "mirrored", 12),
        ("cropped by 2 %", "near", 8),
        ("cropped by 5 %", "near", 0),
    ],
)
def test_planted_duplicates_of_street_scenes_are_found_and_nothing_else(change: str, kind: str, least: int) -> None:
    originals = [of_image(f"{key}/original", image) for key, image in SCENES.items()]
    changed = [of_image(f"{key}/changed", CHANGES[change](image)) for key, image in SCENES.items()]
    found = near([*originals, *changed])
    assert len(found) >= least
    for keys, (as_what, _) in found.items():
        assert {key.rpartition("/")[2] for key in keys} == {"original", "changed"}
        assert keys[0].rpartition("/")[0] == keys[1].rpartition("/")[0]
        assert as_what == kind


def test_a_wide_crop_is_not_the_same_picture() -> None:
    """The limit of the method is as documented: 5 % is found of few."""
    pictures = [
        of_image(f"{key}{n}", each)
        for key, image in SCENES.items()
        for n, each in enumerate((image, CHANGES["cropped by 5 %"](image)))
    ]
    assert len(near(pictures)) < len(SCENES)


@pytest.mark.parametrize("ones", [0, 1, 7])
@pytest.mark.parametrize("inverted", [False, True])
def test_hashes_that_say_nothing_are_near_to_nothing(ones: int, inverted: bool) -> None:
    hash = (1 << ones) - 1
    alike = [picture(f"k{number}", hash ^ FULL if inverted else hash) for number in range(5)]
    assert not [*itertools.chain.from_iterable(map(buckets_of, alike))]
    assert len([*buckets_of(picture("k", 0xFF))]) == 2 * len(BANDS)


def test_blank_pictures_are_duplicates_only_if_they_are_equal() -> None:
    blank = {level: np.full((256, 512, 3), level, np.uint8) for level in (0, 3, 128, 255)}
    pictures = [of_image(f"{level}", image) for level, image in blank.items()]
    assert not near(pictures)
    again = of_image("again", blank[3])
    assert again.digest in {each.digest for each in pictures}
    assert len({each.digest for each in pictures}) == 4


def test_equal_pictures_make_pairs_with_the_first_and_one_of_each_split_stands_for_all() -> None:
    group = [picture(key, 5, digest="d", split=split) for key, split in (("a", "val"), ("b", "train"), ("c", "train"))]
    for order in itertools.permutations(group):
        pairs = [*equal_pairs(order)]
        assert [(each.kind, each.distance, each.one.key, each.other.key, each.place) for each in pairs] == [
            ("exact", 0, "a", "b", "train/val"),
            ("exact", 0, "a", "c", "train/val"),
        ]
        assert [(each.key, each.copies) for each in representatives(order)] == [("a", 1), ("b", 2)]
        assert dict(itertools.chain(*map(leaked_examples, pairs))) == {("d", "val"): 1, ("d", "train"): 2}
    assert not [*equal_pairs(group[:1])]
    inside = Duplicate("exact", 0, group[1], group[2])
    assert not [*leaked_examples(inside)]


def test_pictures_with_equal_pixels_are_no_near_pair() -> None:
    hash = random.Random(1).getrandbits(64)
    assert not near([picture("a", hash, digest="d"), picture("b", hash, hash, "val", "d")])
    assert near([picture("a", hash, digest="d"), picture("b", hash, digest="e")]) == {("a", "b"): ("near", 0)}


def test_a_symmetric_picture_is_no_duplicate_of_itself() -> None:
    hash = random.Random(2).getrandbits(64)
    assert not near([picture("a", hash, hash)])
    assert near([picture("a", hash, hash), picture("b", hash, hash)]) == {("a", "b"): ("near", 0)}


def test_a_large_bucket_costs_in_proportion_to_its_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry is compared with the next COMPARED ones, counted here, and paired with PARTNERS at most."""
    compared = []
    count = duplicate_search._close

    def counting(hashes: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, columns, distances = count(hashes, start)
        compared.append(len(rows))
        return rows, columns, distances

    monkeypatch.setattr(duplicate_search, "_close", counting)
    hash, number = random.Random(3).getrandbits(64), COMPARED + 1500
    bucket = [(packed(picture(f"{place:05d}", hash, 0)), False) for place in range(number)]
    pairs = {(int(each.one.key), int(each.other.key)) for each in near_pairs(0, bucket)}
    assert sum(compared) == sum(min(COMPARED, number - 1 - place) for place in range(number))
    expected = {(place, other) for place in range(number) for other in range(place + 1, place + 1 + PARTNERS)}
    assert pairs == {(one, other) for one, other in expected if other < number}


def test_of_many_partners_those_of_other_splits_come_first_then_the_nearest() -> None:
    hash = random.Random(4).getrandbits(64)
    first = picture("a", hash)
    same = [picture(f"b{number:03d}", flipped(hash, range(number % 3)), digest=f"{number}") for number in range(90)]
    others = [picture(f"c{number}", flipped(hash, range(4)), split="val") for number in range(5)]
    bucket = [(packed(each), False) for each in (first, *same, *others)]
    found = [each for each in near_pairs(0, bucket) if each.one.key == "a"]
    assert len(found) == PARTNERS
    assert sum(each.leaks for each in found) == len(others)
    assert {each.distance for each in found if not each.leaks} == {0}


def test_findings_count_by_place_and_kind_and_list_leaks_first() -> None:
    a, b, c = picture("a", 1), picture("b", 2), picture("c", 3, split="val")
    inside, across = Duplicate("exact", 0, a, b), Duplicate("mirrored", 3, b, c)
    pairs = {("train/val", "mirrored"): 1, ("train", "near"): 4, ("train", "exact"): 2}
    found = Findings.of(pairs, 2, [inside, across])
    assert found.counts == {"train": {"exact": 2, "near": 4}, "train/val": {"mirrored": 1}}
    assert [*found.counts["train"]] == ["exact", "near"]
    assert found.listed == [across, inside]
