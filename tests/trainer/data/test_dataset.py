from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import FILE_NAME, ManifestError, Shard
from beam_pipelines.contract.normalization import Normalization
from beam_pipelines.pixels.conform import Sample
from tests.support.builds import PROJECT, build, make_flat
from tests.support.handmade import (
    EXAMPLES,
    SHARDS,
    SIZE,
    make_sample,
    moments_of,
    to_record,
    write_dataset,
    write_shard,
)
from trainer.data.augment import Operation, Target, make_augment
from trainer.data.batches import Epochs, evaluation_batches, files_of_batch, training_batches
from trainer.data.corrupt import check_framing, diagnosis, without_corrupt
from trainer.data.dataset import Split, open_dataset, open_split, share_of, steps_of_epoch
from trainer.data.manifest import DatasetError
from trainer.data.records import lazy_parser, parser
from trainer.data.training_set import TrainingSet

BATCH, STEPS = 6, 8  # the last batch has two padding examples
ORDER: dict[str, Any] = {"seed": 3, "batch": BATCH, "steps": STEPS, "shuffle_mib": 0.006}  # some ten records
LOADING: dict[str, Any] = {"start": (0, 0), "cache_mib": 0, "augment": None}
PADDING = -1
DATA_LOSS = tf.errors.DataLossError(None, None, "corrupted record")
NORMALIZATION = Normalization((0.4,) * 3, (0.25,) * 3)

Batch = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("encodings")
    return {name: str(write_dataset(root / name, name)) for name in record.IMAGE_FORMATS}


@pytest.fixture(scope="module")
def split(folders: dict[str, str]) -> Split:
    return open_split(folders["raw_uint8"], "train")


@pytest.fixture(scope="module")
def undisturbed(split: Split) -> list[Batch]:
    """Three epochs in one run."""
    return take(split, 3 * STEPS)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A data set that a test may damage."""
    return write_dataset(tmp_path / "fresh", "raw_uint8", (2, 3, 1))


def take(split: Split, count: int, **changes: Any) -> list[Batch]:
    """The first batches of a training run."""
    return list(batches_of(split, **changes).take(count).as_numpy_iterator())


def batches_of(split: Split, **changes: Any) -> tf.data.Dataset:
    options = ORDER | LOADING | changes
    epochs = Epochs(**{name: options.pop(name) for name in ORDER})
    return training_batches(TrainingSet((split,)), epochs, **options)


def numbers_of(batches: Sequence[Batch]) -> list[int]:
    """The numbers of the examples in their order, PADDING where every pixel is ignored."""
    masks = np.concatenate([batch["mask"] for batch in batches]).astype(int)
    return [PADDING if (mask == IGNORE).all() else int(mask[0, 0] * 11 + mask[0, 1]) for mask in masks]


def assert_same(batches: Sequence[Batch], others: Sequence[Batch]) -> None:
    """To the bit."""
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], strict=True)


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def starts_of(path: Path) -> list[int]:
    """Where each record's frame starts."""
    starts, position, content = [], 0, path.read_bytes()
    while position < len(content):
        starts.append(position)
        position += 16 + int.from_bytes(content[position : position + 8], "little")
    return starts


# What open_dataset gives.


@pytest.mark.parametrize("image_format", record.IMAGE_FORMATS)
def test_an_opened_dataset_has_static_shapes_and_its_exact_cardinality(
    folders: dict[str, str], image_format: str
) -> None:
    dataset = open_dataset(folders[image_format], "train")
    assert dataset.element_spec == {
        "image": tf.TensorSpec([*SIZE, 3], tf.float32),
        "mask": tf.TensorSpec(SIZE, tf.uint8),
        "filename": tf.TensorSpec([], tf.string),
    }
    assert dataset.cardinality() == EXAMPLES == len(list(dataset))


@pytest.mark.parametrize("image_format", record.IMAGE_FORMATS)
def test_every_encoding_gives_the_same_normalized_pictures_in_stored_order(
    folders: dict[str, str], image_format: str
) -> None:
    names = [f"s{shard}-n{index}" for shard, count in enumerate(SHARDS) for index in range(count)]
    samples = [make_sample(number, name) for number, name in enumerate(names)]
    pixels = np.stack([sample.image for sample in samples]).astype(np.float64) / 255
    expected = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    for example, image, sample in zip(
        open_dataset(folders[image_format], "train").as_numpy_iterator(), expected, samples, strict=True
    ):
        assert example["filename"].decode() == sample.filename
        np.testing.assert_allclose(example["image"], image, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(example["mask"], sample.mask)


@pytest.mark.parametrize("normalization", [None, NORMALIZATION])
@pytest.mark.parametrize("image_format", record.IMAGE_FORMATS)
def test_a_crop_that_is_normalized_is_a_crop_of_the_normalized_image(
    folders: dict[str, str], image_format: str, normalization: Normalization | None
) -> None:
    split = open_split(folders[image_format], "train")
    serialized = next(iter(tf.data.TFRecordDataset(split.paths())))
    whole = parser(split.manifest, normalization)(serialized)["image"]
    image = lazy_parser(split.manifest, normalization)(serialized)["image"]
    window = (slice(1, 3), slice(2, 7))
    np.testing.assert_array_equal(image[window], whole[window], strict=True)
    np.testing.assert_array_equal(tf.reverse(image, [1]), tf.reverse(whole, [1]), strict=True)
    with pytest.raises(ValueError, match="float32"):
        tf.convert_to_tensor(image, tf.uint8)


@pytest.mark.parametrize("image_format", ["raw_float32", "raw_uint8"])
def test_a_channel_of_one_value_is_only_centered(tmp_path: Path, image_format: str) -> None:
    folder = write_dataset(tmp_path, image_format, (1,), [(2, 2)])
    plain = make_sample(0, "", (2, 2)).image
    plain[..., 1] = 77
    moments = moments_of(plain)
    plain[0, 0, 1] = 87  # as a picture of another split may have it
    sample = Sample("a", plain, np.zeros((2, 2), np.uint8))
    (path,) = folder.glob("*.tfrecord")
    shard = write_shard(path, [to_record(sample, image_format, moments=moments)])
    value = json.loads((folder / FILE_NAME).read_text())
    names = ("pixels", "sums", "sums_of_squares", "mean", "std")
    value["moments"] |= {name: getattr(moments, name) for name in names}
    value["moments"]["histogram"] = moments.histogram.tolist()
    value["splits"]["train"]["shards"][0]["bytes"] = shard.bytes
    (folder / FILE_NAME).write_text(json.dumps(value))
    (example,) = open_dataset(str(folder), "train").as_numpy_iterator()
    np.testing.assert_allclose(example["image"][..., 1], np.array([[10 / 255, 0], [0, 0]]), atol=1e-6)
    np.testing.assert_allclose(example["image"][..., 0].std(), 1, rtol=1e-5)


def test_a_built_dataset_opens_as_it_was_built(tmp_path: Path, without_transform: None) -> None:
    make_flat(tmp_path / "in", train=5, val=2, size=(16, 24))
    options = ("--labels=camvid11", "--image_size=native", "--shards=train=2,val=1", "--image_encoding=float16")
    assert build(f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", *options) == 0
    dataset = open_dataset(str(tmp_path / "out"), "train")
    assert dataset.element_spec["image"].shape == (16, 24, 3)
    images = np.stack([example["image"] for example in dataset.as_numpy_iterator()])
    assert len(images) == 5
    np.testing.assert_allclose(images.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(images.std((0, 1, 2)), 1, atol=1e-3)
    (batch,) = take_all(evaluation_batches(open_split(str(tmp_path / "out"), "val"), 2))
    assert sorted(batch["filename"].tolist()) == [b"images/val/val_0000.png", b"images/val/val_0001.png"]


def test_pictures_of_several_sizes_come_one_by_one_or_cut_to_one_size(tmp_path: Path) -> None:
    sizes = [(8, 12), (10, 6)]
    folder = str(write_dataset(tmp_path, "png", (3, 2), sizes))
    assert open_dataset(folder, "train").element_spec["image"].shape.as_list() == [None, None, 3]
    opened = open_split(folder, "train")
    shapes = [batch["mask"].shape for batch in take_all(evaluation_batches(opened, 1))]
    assert shapes == [(1, 8, 12), (1, 10, 6), (1, 8, 12), (1, 8, 12), (1, 10, 6)]
    augment = make_augment(Target((5, 7), NORMALIZATION), {"random_scale": (0.5, 2.0), "color": 0.1, "flip": 0.5})
    assert [batch["image"].shape for batch in take(opened, 2, batch=3, steps=2, augment=augment)] == [(3, 5, 7, 3)] * 2


def take_all(dataset: tf.data.Dataset) -> list[Batch]:
    return list(dataset.as_numpy_iterator())


# What is refused.


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"there is no folder .*/file"):
        open_split(str(tmp_path / "file"), "train")
    with pytest.raises(DatasetError, match=r"has no dataset.json: there is no data set, or its build did not finish"):
        open_split(str(tmp_path), "train")
    with pytest.raises(DatasetError, match=r"there is no folder .*/none"):
        open_split(f"{tmp_path}/none", "train")


def test_a_manifest_of_another_version_is_refused(fresh: Path) -> None:
    manifest = json.loads((fresh / FILE_NAME).read_text()) | {"format_version": 99}
    (fresh / FILE_NAME).write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=r"dataset.json has format version 99 and this code reads 1"):
        open_dataset(str(fresh), "train")


def test_an_unknown_split_is_refused_with_those_that_there_are(fresh: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no split 'test'; it has train, rejected"):
        open_dataset(str(fresh), "test")


def test_a_split_without_examples_is_refused(fresh: Path) -> None:
    with pytest.raises(DatasetError, match=r"split 'rejected' has no examples, all pairs were rejected"):
        open_split(str(fresh), "rejected")


def test_a_missing_shard_is_refused(fresh: Path) -> None:
    (fresh / "train-00001-of-00003.tfrecord").unlink()
    with pytest.raises(DatasetError, match=r"train-00001-of-00003.tfrecord is missing: restore it, or build"):
        open_dataset(str(fresh), "train")


def test_a_truncated_shard_is_refused_with_its_digest(fresh: Path) -> None:
    path = fresh / "train-00001-of-00003.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    expected = f"has {len(whole) - 1:,} bytes, but dataset.json says {len(whole):,}: restore it (sha256 "
    with pytest.raises(DatasetError, match=re.escape(expected + hashlib.sha256(whole).hexdigest())):
        open_dataset(str(fresh), "train")


# Training.


def test_training_batches_have_static_shapes(split: Split) -> None:
    assert batches_of(split).element_spec == {
        "image": tf.TensorSpec([BATCH, *SIZE, 3], tf.float32),
        "mask": tf.TensorSpec([BATCH, *SIZE], tf.uint8),
    }


@pytest.mark.parametrize("shuffle_mib", [0, 0.006, 1])
@pytest.mark.parametrize("cache_mib", [0, 1])
def test_every_epoch_holds_every_example_once_and_padding_at_its_end(
    split: Split, shuffle_mib: float, cache_mib: float
) -> None:
    numbers = numbers_of(take(split, 3 * STEPS, shuffle_mib=shuffle_mib, cache_mib=cache_mib))
    length = BATCH * STEPS
    for epoch in range(3):
        of_epoch = numbers[epoch * length : (epoch + 1) * length]
        assert sorted(of_epoch[:EXAMPLES]) == list(range(EXAMPLES))
        assert of_epoch[EXAMPLES:] == [PADDING] * (length - EXAMPLES)


def test_images_stay_with_their_masks(split: Split, folders: dict[str, str], undisturbed: list[Batch]) -> None:
    stored = [example["image"] for example in open_dataset(folders["raw_uint8"], "train").as_numpy_iterator()]
    images = np.concatenate([batch["image"] for batch in undisturbed])
    for number, image in zip(numbers_of(undisturbed), images, strict=True):
        if number != PADDING:
            np.testing.assert_array_equal(image, stored[number])


def test_a_share_smaller_than_its_epoch_is_filled_by_several_batches(fresh: Path) -> None:
    numbers = numbers_of(take(open_split(str(fresh), "train"), 10, batch=4, steps=5))
    for epoch in (numbers[:20], numbers[20:]):
        assert sorted(epoch) == [PADDING] * 14 + list(range(6))


def test_an_epoch_has_its_steps_even_where_they_do_not_reach_every_example(split: Split) -> None:
    numbers, length = numbers_of(take(split, 12, steps=2)), 2 * BATCH
    for epoch in (numbers[start : start + length] for start in range(0, 6 * length, length)):
        assert PADDING not in epoch
        assert len(set(epoch)) == 2 * BATCH


def test_the_order_is_another_with_another_seed_or_epoch(split: Split, undisturbed: list[Batch]) -> None:
    orders = [tuple(numbers_of(undisturbed[epoch * STEPS : (epoch + 1) * STEPS])) for epoch in range(3)]
    orders += [tuple(numbers_of(take(split, STEPS, seed=seed))) for seed in (0, 4, 1_000_006, 2**40)]
    assert len(set(orders)) == len(orders)


def test_the_shards_come_in_another_order_in_every_epoch(split: Split) -> None:
    numbers, length = numbers_of(take(split, 5 * STEPS, shuffle_mib=0)), STEPS * BATCH
    orders = {tuple(numbers[start : start + length]) for start in range(0, 5 * length, length)}
    assert len(orders) == 5
    assert len({order[0] for order in orders}) > 1


def test_the_order_does_not_depend_on_the_programs_own_seed(split: Split, undisturbed: list[Batch]) -> None:
    try:
        tf.random.set_seed(12345)
        drawn = tf.random.uniform([])
        tf.random.set_seed(12345)
        files = files_of_batch(TrainingSet((split,)), Epochs(**ORDER), (1, 2))
        assert_same(take(split, 2 * STEPS), undisturbed[: 2 * STEPS])
        assert tf.random.uniform([]) == drawn  # nor is that seed touched
        tf.random.set_seed(54321)
        assert files_of_batch(TrainingSet((split,)), Epochs(**ORDER), (1, 2)) == files
    finally:
        tf.random.set_seed(None)


@settings(max_examples=12)
@given(epoch=st.integers(0, 2), step=st.integers(0, STEPS), cached=st.booleans())
def test_a_resumed_run_has_exactly_the_batches_of_an_undisturbed_one(
    split: Split, undisturbed: list[Batch], epoch: int, step: int, cached: bool
) -> None:
    done = epoch * STEPS + step
    resumed = take(split, 3 * STEPS - done, start=(epoch, step), cache_mib=int(cached))
    assert_same(resumed, undisturbed[done:])


def test_a_late_epoch_is_reached_at_once_and_in_its_own_order(split: Split, undisturbed: list[Batch]) -> None:
    numbers = numbers_of(take(split, STEPS, start=(10**9, 0)))
    assert sorted(numbers[:EXAMPLES]) == list(range(EXAMPLES))
    assert numbers != numbers_of(undisturbed[:STEPS])


@pytest.mark.parametrize("shuffle_mib", [0, 0.006])
def test_cached_batches_are_the_streamed_ones_to_the_bit(folders: dict[str, str], shuffle_mib: float) -> None:
    for image_format in ("raw_float16", "png"):
        opened = open_split(folders[image_format], "train")
        changes = {"shuffle_mib": shuffle_mib, "start": (1, 3)}
        assert_same(take(opened, STEPS, cache_mib=1, **changes), take(opened, STEPS, cache_mib=0, **changes))


@pytest.mark.parametrize("shuffle_mib", [0, 0.006])
def test_batches_that_are_read_ahead_are_the_same_to_the_bit(split: Split, shuffle_mib: float) -> None:
    remote = replace(split, folder=f"file://{split.folder}")
    assert remote.is_remote
    assert not split.is_remote
    changes = {"shuffle_mib": shuffle_mib, "start": (1, 3)}
    assert_same(take(remote, 2 * STEPS, **changes), take(split, 2 * STEPS, **changes))


@pytest.mark.parametrize("folder", ["gs://bucket/scenes", "/gcs/bucket/scenes"])
def test_buckets_are_read_ahead_under_both_their_names(split: Split, folder: str) -> None:
    assert replace(split, folder=folder).is_remote


READ_ONCE_AND_FOUR_TIMES = """
import re, sys
from dataclasses import replace
from pathlib import Path
from trainer.data.dataset import open_split
from trainer.data.batches import Epochs, training_batches
from trainer.data.training_set import TrainingSet

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def read(times):
    split = replace(whole, shards=whole.shards * times)
    steps = split.examples // 4
    epochs = Epochs(seed=0, batch=4, steps=steps, shuffle_mib=8)
    options = dict(start=(0, 0), augment=None, cache_mib=float(sys.argv[2]))
    assert sum(1 for _ in training_batches(TrainingSet((split,)), epochs, **options).take(steps)) == steps

whole = open_split(sys.argv[1], "train")
read(1)
once = peak()
read(4)
print(peak() - once, int(4 * whole.examples * whole.example_bytes))
"""


def test_memory_does_not_grow_with_the_data_unless_they_are_cached(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, "raw_float32", (16,) * 8, [(128, 256)])
    grown = {}
    for cache_mib in (0, 1000):
        command = [sys.executable, "-c", READ_ONCE_AND_FOUR_TIMES, str(folder), str(cache_mib)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        grown[cache_mib], size = map(int, done.stdout.split())
    assert size > 200e6
    assert grown[0] < 0.15 * size
    assert grown[1000] > 0.6 * size  # so what is measured can be seen


def test_a_cached_split_is_not_read_again(fresh: Path) -> None:
    opened = open_split(str(fresh), "train")
    cached = batches_of(opened, cache_mib=1, batch=2, steps=3)
    streamed = batches_of(opened, batch=2, steps=3)
    for path in fresh.glob("*.tfrecord"):
        path.unlink()
    assert sorted(numbers_of(list(cached.take(3).as_numpy_iterator()))) == list(range(6))
    with pytest.raises(tf.errors.NotFoundError):
        next(streamed.as_numpy_iterator())


def colorful() -> Operation:
    return make_augment(Target((6, 9), NORMALIZATION), {"random_scale": (0.5, 2.0), "color": 0.3, "flip": 0.5})


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("replicas", [2, 3])
def test_the_order_does_not_depend_on_how_the_global_batch_is_cut_into_replicas(
    split: Split, undisturbed: list[Batch], augmented: bool, replicas: int
) -> None:
    augment = colorful() if augmented else None
    whole = take(split, STEPS, augment=augment) if augmented else undisturbed[:STEPS]
    cut = take(split, STEPS * replicas, batch=BATCH // replicas, steps=STEPS * replicas, augment=augment)
    joined = [
        {name: np.concatenate([part[name] for part in cut[start : start + replicas]]) for name in cut[0]}
        for start in range(0, len(cut), replicas)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("start", [(0, 5), (1, 0), (1, 7)])
def test_augmentation_is_the_same_after_a_resume(split: Split, start: tuple[int, int]) -> None:
    whole = take(split, 2 * STEPS, augment=colorful())
    done = start[0] * STEPS + start[1]
    assert_same(take(split, 2 * STEPS - done, augment=colorful(), start=start), whole[done:])


def seeds_of(batches: list[Batch]) -> list[tuple[int, int]]:
    """What `show_seed` put into the masks."""
    return [tuple(seed) for batch in batches for seed in batch["mask"].tolist()]


def show_seed(
    image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, focus: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    del mask
    assert seed.dtype == tf.int64
    assert seed.shape == [2]
    return image, seed


def test_augmentation_differs_between_examples_epochs_and_seeds(split: Split) -> None:
    seeds: list[tuple[int, int]] = []
    for run_seed in (0, 1):
        batches = take(split, 2 * STEPS, seed=run_seed, augment=show_seed)
        drawn = seeds_of(batches)
        padding = STEPS * BATCH - EXAMPLES
        assert len(set(drawn)) == 2 * EXAMPLES  # padding repeats examples, and what these draw
        assert len(drawn) == 2 * (EXAMPLES + padding)
        seeds += set(drawn)
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("hosts", [2, 3])
def test_what_an_example_draws_does_not_depend_on_the_hosts(split: Split, hosts: int) -> None:
    def drawn(share: Split) -> dict[bytes, tuple[int, int]]:
        batches = take(share, STEPS, augment=show_seed)
        return {
            image.tobytes(): tuple(seed)
            for batch in batches
            for image, seed in zip(batch["image"], batch["mask"].tolist(), strict=True)
        }

    alone = drawn(split)
    shares = [drawn(share_of(split, hosts, index)) for index in range(hosts)]
    assert len(alone) == EXAMPLES
    assert {image: seed for share in shares for image, seed in share.items()} == alone
    assert sum(map(len, shares)) == EXAMPLES


def test_padding_stays_ignored_when_it_is_augmented(split: Split) -> None:
    (last,) = take(split, 1, start=(0, STEPS - 1), augment=colorful())
    assert (last["mask"][EXAMPLES % BATCH :] == IGNORE).all()
    assert (last["mask"][: EXAMPLES % BATCH] != IGNORE).any()


# Shares of hosts.


def split_of(counts: Sequence[int]) -> Split:
    """As of these shards; none is there to be read."""
    shards = tuple(
        Shard(file=f"{index:03d}", examples=count, bytes=count, sha256="") for index, count in enumerate(counts)
    )
    return Split("gs://bucket/scenes", None, shards)  # type: ignore[arg-type]  # no manifest is looked at


@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=30), batch=st.integers(1, 16), data=st.data())
def test_shares_are_disjoint_complete_even_and_covered_by_the_steps(
    counts: list[int], batch: int, data: st.DataObject
) -> None:
    whole = split_of(counts)
    pipelines = data.draw(st.integers(1, len(counts)))
    shares = [share_of(whole, pipelines, index) for index in range(pipelines)]
    assert sorted(shard.file for share in shares for shard in share.shards) == [shard.file for shard in whole.shards]
    loads = [share.examples for share in shares]
    assert min(loads) > 0
    assert max(loads) - min(loads) <= max(counts)
    steps = steps_of_epoch(whole, pipelines, batch)
    assert (steps - 1) * batch < max(loads) <= steps * batch


def test_fewer_shards_than_hosts_are_refused() -> None:
    expected = "gs://bucket/scenes has 2 shards for 3 hosts: build it with a smaller --shard_size_mb, or with --shards"
    with pytest.raises(DatasetError, match=expected):
        share_of(split_of([4, 4]), 3, 0)
    with pytest.raises(DatasetError, match=expected):
        steps_of_epoch(split_of([4, 4]), 3, 8)


def test_the_hosts_together_read_every_example_once_in_an_epoch(split: Split) -> None:
    steps = steps_of_epoch(split, 3, 4)
    read: list[int] = []
    for index in range(3):
        read += numbers_of(take(share_of(split, 3, index), steps, batch=4, steps=steps))
    counts = Counter(read)
    assert counts.pop(PADDING, 0) == 3 * 4 * steps - EXAMPLES
    assert counts == dict.fromkeys(range(EXAMPLES), 1)


# Evaluation.


@pytest.mark.parametrize("batch", [1, 5, EXAMPLES, 64])
@pytest.mark.parametrize("image_format", ["raw_uint8", "raw_float32", "raw_float16", "png"])
def test_evaluation_sees_the_pixels_of_every_example_once_and_ignores_the_filled_tail(
    folders: dict[str, str], batch: int, image_format: str
) -> None:
    stored = list(open_dataset(folders[image_format], "train").as_numpy_iterator())
    batches = take_all(evaluation_batches(open_split(folders[image_format], "train"), batch))
    assert all(len(found["mask"]) == batch for found in batches)
    joined = {name: np.concatenate([found[name] for found in batches]) for name in batches[0]}
    filled = -EXAMPLES % batch
    assert joined["position"].tolist() == [*range(EXAMPLES), *[-1] * filled]
    assert (joined["mask"][EXAMPLES:] == IGNORE).all()
    for name in ("mask", "filename"):
        np.testing.assert_array_equal(joined[name][:EXAMPLES], np.stack([example[name] for example in stored]))
    assert joined["image"].dtype == np.uint8
    drawn = np.stack([make_sample(number, "").image for number in range(EXAMPLES)])
    np.testing.assert_array_equal(joined["image"][:EXAMPLES], drawn)


def test_the_shapes_of_evaluation_batches_are_static(split: Split) -> None:
    spec = evaluation_batches(split, 4).element_spec
    assert spec["image"] == tf.TensorSpec([4, *SIZE, 3], tf.uint8)
    assert spec["mask"] == tf.TensorSpec([4, *SIZE], tf.uint8)
    assert spec["position"] == tf.TensorSpec([4], tf.int64)


# Which files, and what if they rot.


@pytest.mark.parametrize("shuffle_mib", [0, 0.006])
def test_the_files_of_a_batch_are_exactly_those_that_its_examples_came_from(split: Split, shuffle_mib: float) -> None:
    shard_of = [index for index, count in enumerate(SHARDS) for _ in range(count)]
    epochs = Epochs(**ORDER | {"shuffle_mib": shuffle_mib})
    batches = take(split, 3 * STEPS, shuffle_mib=shuffle_mib)
    for at in [(0, 0), (0, 3), (1, 5), (2, STEPS - 2)]:
        numbers = numbers_of([batches[at[0] * STEPS + at[1]]])
        files = {f"train-{shard_of[number]:05d}-of-{len(SHARDS):05d}.tfrecord" for number in numbers}
        assert files_of_batch(TrainingSet((split,)), epochs, at) == sorted(files)
    # The last one has padding, which is of the first shard.
    numbers = numbers_of([batches[STEPS - 1]])
    shards = {shard_of[number] for number in numbers if number != PADDING} | {0}
    files = {f"train-{shard:05d}-of-{len(SHARDS):05d}.tfrecord" for shard in shards}
    assert files_of_batch(TrainingSet((split,)), epochs, (0, STEPS - 1)) == sorted(files)


@pytest.fixture
def rotten(tmp_path: Path) -> Split:
    """Of 5 shards, record 3 of 7 in shard 1 and record 0 of 2 in shard 3 have a flipped byte."""
    folder = write_dataset(tmp_path / "rotten", "raw_uint8", (4, 7, 1, 2, 3))
    for shard, bad in ((1, 3), (3, 0)):
        path = folder / f"train-{shard:05d}-of-00005.tfrecord"
        flip_byte(path, starts_of(path)[bad] + 100)
    return open_split(str(folder), "train")


def test_a_flipped_byte_stops_a_run_and_diagnose_says_where(rotten: Split) -> None:
    with pytest.raises(tf.errors.DataLossError):
        take(rotten, 5, batch=4, steps=5)
    with pytest.raises(tf.errors.DataLossError):
        take(rotten, 5, batch=4, steps=5, cache_mib=1)
    position = starts_of(Path(rotten.paths()[1]))[3]
    assert str(diagnosis(DATA_LOSS, rotten)) == (
        f"{rotten.folder}: train-00001-of-00005.tfrecord: record 3 at byte {position:,}: data checksum mismatch; "
        "4 records of train-00001-of-00005.tfrecord can't be read. "
        "Restore the file, or skip damaged records with --on_corrupt=skip"
    )


def test_reading_on_leaves_out_the_bad_record_and_what_follows_in_its_shard(rotten: Split) -> None:
    good = without_corrupt(rotten)
    assert [(shard.file[6:11], shard.examples) for shard in good.shards] == [
        ("00000", 4),
        ("00001", 3),
        ("00002", 1),
        ("00004", 3),
    ]
    assert good.examples == 11
    assert len(good.corrupt) == 2
    assert good.corrupt[0].endswith("data checksum mismatch; 4 records of train-00001-of-00005.tfrecord can't be read")
    assert good.corrupt[1].startswith("train-00003-of-00005.tfrecord: record 0 at byte 0: data checksum mismatch; 2 ")
    kept = [0, 1, 2, 3, 4, 5, 6, 11, 14, 15, 16]
    for cache_mib in (0, 1):
        numbers = numbers_of(take(good, 6, batch=4, steps=3, cache_mib=cache_mib))
        for epoch in (numbers[:12], numbers[12:]):
            assert sorted(epoch) == [PADDING, *kept]
    evaluated = take_all(evaluation_batches(good, 4))
    assert numbers_of(evaluated) == [*kept, PADDING]
    assert share_of(good, 2, 1).corrupt == good.corrupt


def test_a_flipped_length_is_found_too(fresh: Path) -> None:
    path = fresh / "train-00001-of-00003.tfrecord"
    flip_byte(path, starts_of(path)[2])
    good = without_corrupt(open_split(str(fresh), "train"))
    assert good.examples == 5
    assert "record 2 at byte" in good.corrupt[0]
    assert "length checksum mismatch; 1 records of" in good.corrupt[0]


def test_a_split_without_a_good_record_is_refused_and_still_diagnosed(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "lost", "raw_uint8", (2,))
    flip_byte(folder / "train-00000-of-00001.tfrecord", 50)
    opened = open_split(str(folder), "train")
    with pytest.raises(
        DatasetError, match=r"no shard has an intact record: .*record 0 at byte 0: data checksum mismatch"
    ):
        without_corrupt(opened)
    assert "record 0 at byte 0: data checksum mismatch; 2 records" in str(diagnosis(DATA_LOSS, opened))


def test_nothing_is_left_out_of_good_shards(split: Split) -> None:
    assert without_corrupt(split) == split
    told = f"{split.folder}: reading failed, but every record passes its checksum now; run the same command again"
    assert str(diagnosis(DATA_LOSS, split)) == told
    assert diagnosis(tf.errors.InvalidArgumentError(None, None, "of the model"), split) is None
    check_framing(split)


# What stands in a record, a change that leaves all checksums right, and what is told.
WRONG_CONTENT: dict[str, tuple[str, Callable[[record.Record], bytes], str]] = {
    "no example": ("raw_uint8", lambda found: b"no example", "not a serialized tf.train.Example: "),
    "no fields": ("raw_uint8", lambda found: b"", "the Example has no image/channels"),
    "size": ("raw_uint8", lambda found: record.encode(replace(found, height=2**62)), f"a size of {2**62}x12, but "),
    "product": (
        "raw_uint8",
        lambda found: record.encode(replace(found, height=2**31 - 1, width=2**31 - 1)),
        f"a size of {2**31 - 1}x{2**31 - 1}, but ",
    ),
    "short image": (
        "raw_float32",
        lambda found: record.encode(replace(found, image=found.image[:-1])),
        "the image has 1,151 bytes of raw_float32, and 8x12 takes 1,152",
    ),
    "long mask": (
        "raw_uint8",
        lambda found: record.encode(replace(found, mask=found.mask + b"0")),
        "the mask has 97 bytes of raw_uint8, and 8x12 takes 96",
    ),
    "another format": (
        "raw_uint8",
        lambda found: record.encode(replace(found, image_format="raw_float32", image=found.image * 4)),
        "image_format is 'raw_float32', but the manifest says 'raw_uint8'",
    ),
    "another size": (
        "png",
        lambda found: record.encode(to_record(make_sample(0, "a", (4, 6)), "png", "png")),
        "height is 4, but the manifest says 8",
    ),
    "a PNG of another size": (
        "png",
        lambda found: record.encode(replace(found, image=to_record(make_sample(0, "a", (4, 6)), "png", "png").image)),
        "the image is a PNG of 4x6, and the record says 8x12",
    ),
    "a bomb": (
        "png",
        lambda found: record.encode(
            replace(found, image=found.image[:16] + struct.pack(">II", 60000, 60000) + found.image[24:])
        ),
        "the image is a PNG of 60000x60000, and the record says 8x12",
    ),
    "a broken PNG": (
        "png",
        lambda found: record.encode(replace(found, image=found.image[:60] + bytes(20) + found.image[80:])),
        "a PNG can't be decoded: ",
    ),
}


@pytest.mark.parametrize("change", WRONG_CONTENT)
@pytest.mark.parametrize("cache_mib", [0, 1])
def test_a_record_of_wrong_content_is_told_though_its_checksums_are_right(
    tmp_path: Path, change: str, cache_mib: int
) -> None:
    image_format, apply, told = WRONG_CONTENT[change]
    folder = write_dataset(tmp_path, image_format, (3, 4))
    replace_record(folder, "train-00001-of-00002.tfrecord", 2, apply)
    opened = open_split(str(folder), "train")
    check_framing(opened)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        take(opened, 2, batch=4, steps=2, cache_mib=cache_mib)
    found = str(diagnosis(caught.value, opened))
    assert found.startswith(f"{folder}: train-00001-of-00002.tfrecord: record 2: {told}")
    assert found.endswith(
        "; 2 records of train-00001-of-00002.tfrecord can't be read. "
        "Restore the file, or skip damaged records with --on_corrupt=skip"
    )
    assert "\n" not in found
    assert "{{" not in found
    assert without_corrupt(opened).examples == 5


def replace_record(folder: Path, file: str, index: int, change: Callable[[record.Record], bytes]) -> None:
    """Changes a record, and the shard's size in the manifest; all checksums are right."""
    with (folder / file).open("rb") as opened:
        records = list(tfrecord.read_records(opened, file))
    records[index] = change(record.decode(records[index]))
    content = b"".join(tfrecord.header_of(each) + each + tfrecord.footer_of(each) for each in records)
    (folder / file).write_bytes(content)
    value = json.loads((folder / FILE_NAME).read_text())
    next(shard for shard in value["splits"]["train"]["shards"] if shard["file"] == file)["bytes"] = len(content)
    (folder / FILE_NAME).write_text(json.dumps(value))


@pytest.mark.parametrize("length", [2**31, 10**12, 2**62, 2**64 - 1])
def test_a_huge_length_is_told_before_tensorflow_believes_it(fresh: Path, length: int) -> None:
    path = fresh / "train-00001-of-00003.tfrecord"
    start, data = starts_of(path)[2], bytearray(path.read_bytes())
    data[start : start + 8] = struct.pack("<Q", length)
    data[start + 8 : start + 12] = struct.pack("<I", tfrecord.masked_crc(bytes(data[start : start + 8])))
    path.write_bytes(data)
    opened = open_split(str(fresh), "train")
    told = (
        f"{path.name}: record 2 at byte {start:,}: a length of {length:,} bytes, but at most 2,147,483,647 are possible"
    )
    with pytest.raises(DatasetError, match=re.escape(f"{fresh}: {told}. Restore the file")):
        check_framing(opened)
    assert without_corrupt(opened).corrupt == (f"{told}; 1 records of {path.name} can't be read",)


def test_another_number_of_records_is_told(fresh: Path) -> None:
    value = json.loads((fresh / FILE_NAME).read_text())
    first, second, _ = value["splits"]["train"]["shards"]
    first["examples"], second["examples"] = 3, 2
    (fresh / FILE_NAME).write_text(json.dumps(value))
    with pytest.raises(DatasetError, match=r"has 2 records, but dataset.json says 3: restore it \(sha256 "):
        check_framing(open_split(str(fresh), "train"))
