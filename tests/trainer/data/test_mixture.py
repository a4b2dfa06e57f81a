"""Several data sets, or several splits, as one training set."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.support.handmade import make_sample, write_dataset
from trainer.data.batches import Epochs, files_of_batch, training_batches
from trainer.data.dataset import Split, open_split
from trainer.data.manifest import DatasetError
from trainer.data.mixture import alternation, apportioned
from trainer.data.training_set import TrainingSet, training_set

BATCH, STEPS = 4, 5
FIRST = 100  # number of the first example of the second data set
EPOCHS = Epochs(seed=3, batch=BATCH, steps=STEPS, shuffle_mib=0.004)
WEIGHTS = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)
Batch = dict[str, np.ndarray]


@given(WEIGHTS, st.integers(1, 1000))
def test_parts_of_a_total_are_within_one_of_their_shares(weights: list[float], total: int) -> None:
    counts = apportioned(weights, total)
    assert counts.sum() == total
    assert np.abs(counts - np.array(weights) * total / np.sum(weights)).max() < 1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4).filter(any))
def test_any_part_of_an_epoch_has_nearly_its_shares(counts: list[int]) -> None:
    turns = alternation(counts)
    assert np.bincount(turns, minlength=len(counts)).tolist() == counts
    for number, count in enumerate(counts):
        so_far = np.cumsum(turns == number)
        even = count / len(turns) * np.arange(1, len(turns) + 1)
        assert np.abs(so_far - even).max() <= len(counts) / 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """9 examples of uint8 and 4 of float32, whose mean is another one."""
    root = tmp_path_factory.mktemp("mixed")
    return str(write_dataset(root / "a", "raw_uint8", (4, 3, 2))), str(
        write_dataset(root / "b", "raw_float32", (1, 3), first=FIRST)
    )


@pytest.fixture(scope="module")
def splits(folders: tuple[str, str]) -> list[Split]:
    return [open_split(folder, "train") for folder in folders]


@pytest.fixture(scope="module")
def mixed(splits: list[Split]) -> TrainingSet:
    return training_set(splits, mix=(0.7, 0.3), is_class_uniform=False)


def take(training: TrainingSet, count: int, start: tuple[int, int] = (0, 0), **changes: Any) -> list[Batch]:
    options: dict[str, Any] = {"cache_mib": 0, "augment": None} | changes
    return list(training_batches(training, EPOCHS, start=start, **options).take(count).as_numpy_iterator())


def drawn(found: list[Batch]) -> list[tuple[int, int]]:
    """(data set, number of the example in it) of each image of the batches."""
    numbers = [number_of(mask) for batch in found for mask in batch["mask"]]
    return [(int(number >= FIRST), number % FIRST) for number in numbers]


def number_of(mask: np.ndarray) -> int:
    return int(mask[0, 0]) * 11 + int(mask[0, 1])


def test_an_epoch_has_the_exact_share_of_each_and_repeats_none_before_all_were_drawn(
    mixed: TrainingSet, splits: list[Split]
) -> None:
    keys = drawn(take(mixed, 4 * STEPS))
    length = BATCH * STEPS
    for epoch in range(4):
        of_epoch = Counter(which for which, _ in keys[epoch * length : (epoch + 1) * length])
        assert of_epoch == {0: 14, 1: 6}
    for which, split in enumerate(splits):
        stream = [number for found, number in keys if found == which]
        for first in range(0, len(stream) - split.examples + 1, split.examples):
            assert sorted(stream[first : first + split.examples]) == list(range(split.examples))


def test_images_of_all_are_normalized_as_those_of_the_first(splits: list[Split], mixed: TrainingSet) -> None:
    assert splits[0].manifest.moments.normalization != splits[1].manifest.moments.normalization
    shift, factor = splits[0].manifest.moments.normalization.shift_and_factor()
    for batch in take(mixed, STEPS):
        for image, mask in zip(batch["image"], batch["mask"], strict=True):
            pixels = make_sample(number_of(mask), "").image.astype(np.float32)
            np.testing.assert_allclose(image, (pixels - shift) * factor, atol=2e-6)


@pytest.mark.parametrize("start", [(0, 3), (1, 0), (2, 4)])
def test_a_resumed_run_has_exactly_the_batches_of_an_undisturbed_one(
    mixed: TrainingSet, start: tuple[int, int]
) -> None:
    undisturbed = take(mixed, 3 * STEPS)
    position = start[0] * STEPS + start[1]
    resumed = take(mixed, 3 * STEPS - position, start, cache_mib=100)
    for found, expected in zip(resumed, undisturbed[position:], strict=True):
        np.testing.assert_array_equal(found["image"], expected["image"])
        np.testing.assert_array_equal(found["mask"], expected["mask"])


def test_the_files_of_a_batch_are_those_that_were_drawn(mixed: TrainingSet, splits: list[Split]) -> None:
    undisturbed = take(mixed, 3 * STEPS)
    for at in [(0, 0), (1, 2), (2, 4)]:
        files = set()
        for which, number in drawn([undisturbed[at[0] * STEPS + at[1]]]):
            ends = np.cumsum([shard.examples for shard in splits[which].shards])
            files.add(
                f"{splits[which].folder}/{splits[which].shards[int(np.searchsorted(ends, number, 'right'))].file}"
            )
        assert files_of_batch(mixed, EPOCHS, at) == sorted(files)


def test_without_a_mix_shares_follow_from_the_sizes(splits: list[Split]) -> None:
    training = training_set(splits, mix=None, is_class_uniform=False)
    assert training.mix == (9 / 13, 4 / 13)
    assert training.steps_of_epoch(1, BATCH) == 4
    total = np.sum([split.manifest.class_pixels["train"] for split in splits], axis=0)
    np.testing.assert_allclose(training.class_pixels(["train"]), total)


def test_class_pixels_follow_the_mix(splits: list[Split]) -> None:
    training = training_set(splits, mix=(0.5, 0.5), is_class_uniform=False)
    first, second = (np.array(split.manifest.class_pixels["train"]) / split.examples for split in splits)
    np.testing.assert_allclose(training.class_pixels(["train"]), 13 * (first + second) / 2)


def test_hosts_read_their_own_shares_of_each(mixed: TrainingSet) -> None:
    shares = [mixed.share_of(2, number) for number in range(2)]
    assert [share.mix for share in shares] == [mixed.mix] * 2
    names = [{shard.file for shard in share.splits[0].shards} for share in shares]
    assert not names[0] & names[1]
    assert sum(share.examples for share in shares) == mixed.examples


def test_other_classes_and_other_numbers_of_shares_are_refused(splits: list[Split]) -> None:
    other = replace(splits[1], manifest=replace(splits[1].manifest, labels=BUILTIN_TABLES["cityscapes7"]()))
    expected = "has the label table cityscapes7, and .* has camvid11, with other classes: train id 0 is flat, not sky"
    with pytest.raises(DatasetError, match=expected):
        training_set([splits[0], other], mix=None, is_class_uniform=False)
    with pytest.raises(DatasetError, match="--mix has 3 shares for 2 data sets: set one share for each --dataset"):
        training_set(splits, mix=(0.2, 0.2, 0.6), is_class_uniform=False)


def test_tables_of_the_same_classes_may_be_mixed(splits: list[Split]) -> None:
    """As those of Cityscapes and of IDD are."""
    tables = [BUILTIN_TABLES[name]() for name in ("cityscapes19", "idd_to_cityscapes19")]
    assert tables[0] != tables[1]
    both = [
        replace(split, manifest=replace(split.manifest, labels=table))
        for split, table in zip(splits, tables, strict=True)
    ]
    assert training_set(both, mix=None, is_class_uniform=False).manifest.labels == tables[0]


def test_a_share_of_less_than_an_image_is_refused(splits: list[Split]) -> None:
    training = training_set(splits, mix=(0.999, 0.001), is_class_uniform=False)
    expected = f"{re.escape(splits[1].folder)} has no image in an epoch of 20: set a larger share in --mix"
    with pytest.raises(DatasetError, match=expected):
        training.counts(BATCH * STEPS)


def test_a_mix_of_a_data_set_in_memory_and_one_from_files_is_the_same(mixed: TrainingSet, splits: list[Split]) -> None:
    sizes = [split.examples * split.example_bytes / 2**20 for split in splits]
    assert sizes[0] != sizes[1]
    between = sum(sizes) / 2
    for found, expected in zip(take(mixed, STEPS, cache_mib=between), take(mixed, STEPS), strict=True):
        np.testing.assert_array_equal(found["image"], expected["image"])
