"""Class-uniform sampling: which examples are drawn, and where crops lie."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines.contract.index import GRID, ClassPlace, Example
from beam_pipelines.contract.labels import IGNORE
from tests.support.builds import build, make_flat, no_transform
from tests.support.handmade import write_dataset
from tests.support.small_index import EXAMPLE
from trainer.data import geometry
from trainer.data.augment import AUGMENTATIONS, Target, make_augment
from trainer.data.batches import Epochs, files_of_batch, training_batches
from trainer.data.dataset import open_split
from trainer.data.manifest import DatasetError
from trainer.data.sampling import ClassPlaces, class_places, draw
from trainer.data.training_set import TrainingSet, read_places

SIZE, RARE = (32, 64), 7
BATCH, STEPS = 4, 10
Batch = dict[str, np.ndarray]


def example_of(cells: Mapping[int, Mapping[int, int]]) -> Example:
    """Train id -> cell of the grid -> its weight."""
    grids = {train_id: bytes(weights.get(cell, 0) for cell in range(32)) for train_id, weights in cells.items()}
    places = {train_id: ClassPlace(max(1, sum(grid)), grid) for train_id, grid in grids.items()}
    return Example(**{**vars(EXAMPLE), "classes": places})


def places_of(*examples: Mapping[int, Mapping[int, int]]) -> ClassPlaces:
    return class_places([example_of(cells) for cells in examples])


EXAMPLES = st.lists(
    st.dictionaries(
        st.sampled_from([0, 3, 9, IGNORE]),
        st.dictionaries(st.integers(0, 31), st.integers(1, 255), min_size=1, max_size=3),
        max_size=4,
    ),
    min_size=1,
    max_size=12,
)


@given(EXAMPLES, st.integers(0, 5), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_half_of_an_epoch_lies_in_cells_that_have_a_class(
    examples: list[dict[int, dict[int, int]]], seed: int, epoch: int
) -> None:
    draws = draw(places_of(*examples), seed, epoch)
    assert draws.counts.sum() == len(examples) == len(draws.focus)
    np.testing.assert_array_equal(draws.first, np.cumsum(draws.counts) - draws.counts)
    owners = np.repeat(np.arange(len(examples)), draws.counts)
    has_class = any(train_id != IGNORE for cells in examples for train_id in cells)
    is_plain = draws.focus[:, 0] < 0
    assert is_plain.sum() == len(examples) - (len(examples) // 2 if has_class else 0)
    assert max(Counter(owners[is_plain]).values()) == 1
    for owner, (y, x) in zip(owners[~is_plain], draws.focus[~is_plain], strict=True):
        cell = int(y * GRID[0]) * GRID[1] + int(x * GRID[1])
        assert any(cell in cells for train_id, cells in examples[owner].items() if train_id != IGNORE)


def test_classes_are_drawn_equally_often_and_cells_by_their_weight() -> None:
    """Of 1,000 examples 980 have class 0 alone, and 20 class 1 alone, in two cells."""
    examples = [{0: {5: 255}}] * 980 + [{1: {0: 30, 31: 10}}] * 20
    draws = draw(places_of(*examples), seed=1, epoch=0)
    is_rare = np.repeat(np.arange(1000) >= 980, draws.counts)
    focused = draws.focus[:, 0] >= 0
    assert (is_rare & focused).sum() == 250
    assert (~is_rare & focused).sum() == 250
    of_first_cell = (draws.focus[is_rare & focused, 0] < 0.5).mean()
    assert 0.65 < of_first_cell < 0.85


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    places = places_of(*[{n % 5: {n % 32: 9}} for n in range(40)])
    first, again, other, later = (draw(places, *key) for key in [(1, 2), (1, 2), (2, 2), (1, 3)])
    np.testing.assert_array_equal(first.focus, again.focus)
    np.testing.assert_array_equal(first.counts, again.counts)
    assert not np.array_equal(first.focus, other.focus)
    assert not np.array_equal(first.focus, later.focus)


def test_the_draws_of_a_release_are_those_of_the_next() -> None:
    """A run that is resumed with another NumPy has to draw the same."""
    draws = draw(places_of(*[{n % 3: {n: 1 + n}, IGNORE: {0: 255}} for n in range(8)]), seed=3, epoch=5)
    assert draws.counts.tolist() == [0, 0, 2, 1, 1, 0, 2, 2]
    focused = draws.focus[draws.focus[:, 0] >= 0]
    np.testing.assert_allclose(focused, FROZEN, atol=1e-4)


FROZEN = [[0.1711, 0.2532], [0.1642, 0.8270], [0.2064, 0.8237], [0.1680, 0.9700]]


SHAPES = st.tuples(st.integers(1, 50), st.integers(1, 50))
PARTS = st.tuples(*[st.floats(0, 1, width=32, exclude_max=True)] * 2)


@given(SHAPES, SHAPES, st.floats(0.25, 3, width=32), PARTS, PARTS)
@settings(max_examples=100, deadline=None)
def test_a_window_contains_its_focus(
    shape: tuple[int, int], size: tuple[int, int], zoom: float, place: tuple[float, float], focus: tuple[float, float]
) -> None:
    given = (tf.constant(shape), size, tf.constant(zoom), tf.constant(place))
    spans = geometry.window_of(*given, tf.constant(focus))
    for span, length, other, point in zip(spans, shape, geometry.window_of(*given), focus, strict=True):
        assert (span.taken, span.resized) == (other.taken, other.resized)
        assert 0 <= span.start <= length - span.taken
        assert span.start <= int(np.float32(length) * np.float32(point)) < span.start + span.taken
    nowhere = geometry.window_of(*given, tf.constant([-1.0, -1.0]))
    assert [int(span.start) for span in nowhere] == [int(span.start) for span in geometry.window_of(*given)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 images to train on, of which one has 16 pixels of the class RARE, and 10 shards."""
    root = make_flat(tmp_path_factory.mktemp("rare") / "flat", train=40, val=1)
    for number, path in enumerate(sorted((root / "masks" / "train").iterdir())):
        mask = np.asarray(Image.open(path)).copy()
        mask[mask == RARE] = 0
        if number == 23:
            mask[20:24, 40:44] = RARE
        Image.fromarray(mask).save(path)
    options = ("--labels=camvid11", "--image_size=32x64", "--image_encoding=uint8", "--shards=train=10,val=1")
    with no_transform():
        assert build(f"--input={root}", f"--output={root.parent / 'made'}", *options) == 0
    return str(root.parent / "made")


@pytest.fixture(scope="module")
def training(folder: str) -> TrainingSet:
    return TrainingSet((open_split(folder, "train"),), is_class_uniform=True)


def batches(training: TrainingSet, count: int, start: tuple[int, int] = (0, 0), **changes: Any) -> list[Batch]:
    values = {row.option.name: row.option.default for row in AUGMENTATIONS} | {"random_scale": (1.0, 1.0)}
    target = Target((8, 16), training.manifest.moments.normalization)
    options = {"cache_mib": 0, "augment": make_augment(target, values)} | changes
    epochs = Epochs(seed=2, batch=BATCH, steps=STEPS, shuffle_mib=0.05)
    return list(training_batches(training, epochs, start=start, **options).take(count).as_numpy_iterator())


def pixels_of(found: list[Batch]) -> np.ndarray:
    return np.bincount(np.concatenate([batch["mask"].ravel() for batch in found]), minlength=256)[:11]


def test_crops_have_a_rare_class_many_times_as_often(folder: str, training: TrainingSet) -> None:
    drawn = pixels_of(batches(training, 10 * STEPS))
    uniform = pixels_of(batches(TrainingSet((open_split(folder, "train"),)), 10 * STEPS))
    share, expected = drawn[RARE] / drawn.sum(), 16 / (40 * 32 * 64)
    assert share > 5 * uniform[RARE] / uniform.sum()
    assert share > 10 * expected


@pytest.mark.parametrize("start", [(0, 3), (1, 0), (2, 7)])
def test_a_resumed_run_draws_the_same(training: TrainingSet, start: tuple[int, int]) -> None:
    undisturbed = batches(training, 3 * STEPS)
    position = start[0] * STEPS + start[1]
    for resumed, expected in zip(
        batches(training, 3 * STEPS - position, start, cache_mib=100), undisturbed[position:], strict=True
    ):
        np.testing.assert_array_equal(resumed["mask"], expected["mask"])
        np.testing.assert_array_equal(resumed["image"], expected["image"])


def test_an_example_that_is_drawn_again_is_augmented_otherwise(training: TrainingSet) -> None:
    """Half of the crops of one class are of one image."""
    found = batches(training, 5 * STEPS)
    most = 0
    for first in range(0, len(found), STEPS):
        masks = [mask for batch in found[first : first + STEPS] for mask in batch["mask"]]
        crops = [tuple(mask.ravel()) for mask in masks if (mask == RARE).any()]
        most = max(most, len(crops))
        assert len(set(crops)) == len(crops)
    assert most > 1


def test_the_files_of_a_batch_are_those_that_were_drawn(training: TrainingSet) -> None:
    (split,) = training.splits
    epochs = Epochs(seed=2, batch=BATCH, steps=STEPS, shuffle_mib=0.05)
    owner = {}
    for shard in split.shards:
        for record in tf.data.TFRecordDataset(f"{split.folder}/{shard.file}"):
            example = tf.train.Example.FromString(record.numpy())
            owner[example.features.feature["image/encoded"].bytes_list.value[0]] = shard.file
    normalization = training.manifest.moments.normalization
    for at in [(0, 0), (1, 4)]:
        (batch,) = batches(training, 1, at, augment=None)
        files = {owner[normalization.to_pixels(image).tobytes()] for image in batch["image"]}
        assert files_of_batch(training, epochs, at) == sorted(files)


def test_an_index_is_needed_and_has_to_be_whole(tmp_path: Path, folder: str) -> None:
    older = open_split(str(write_dataset(tmp_path / "older", "raw_uint8", (2, 1))), "train")
    with pytest.raises(
        DatasetError, match=r"needs the index of .*older, which was built by an earlier version: build it"
    ):
        read_places(older)
    shutil.copytree(folder, tmp_path / "damaged")
    index = sorted((tmp_path / "damaged" / "index").glob("train-*"))[3]
    index.write_bytes(index.read_bytes().replace(b"a", b"b", 1))
    damaged = open_split(str(tmp_path / "damaged"), "train")
    with pytest.raises(DatasetError, match=f"{index.name}: is damaged; restore the file, or build the data set again"):
        read_places(damaged)
    index.unlink()
    with pytest.raises(DatasetError, match=f"{index.name}: does not exist; restore"):
        read_places(damaged)
