"""No pipeline of the trainer is tuned by tf.data, whose iterators may take long to end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tensorflow as tf

from tests.support.builds import PROJECT
from tests.support.handmade import write_dataset
from trainer.data.batches import Epochs, evaluation_batches, files_of_batch, training_batches
from trainer.data.dataset import Split, open_dataset, open_split
from trainer.data.pipeline import untuned
from trainer.data.training_set import TrainingSet, training_set

EPOCHS = Epochs(seed=0, batch=4, steps=8, shuffle_mib=1)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, Split]:
    root = tmp_path_factory.mktemp("data")
    one, other = (open_split(str(write_dataset(root / name, "raw_uint8")), "train") for name in ("one", "other"))
    return one, other


@pytest.fixture
def iterated(monkeypatch: pytest.MonkeyPatch) -> list[tf.data.Options]:
    """The options of each data set that an iterator is made of, from now on."""
    found: list[tf.data.Options] = []
    start = tf.data.Dataset.__iter__

    def noticed(dataset: tf.data.Dataset) -> Iterator[Any]:
        found.append(dataset.options())
        return start(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", noticed)
    return found


def training(splits: Sequence[Split]) -> TrainingSet:
    return training_set(splits, mix=None, is_class_uniform=False)


def is_untuned(options: tf.data.Options) -> bool:
    return options.autotune.enabled is False and options.experimental_optimization.map_parallelization is False


@pytest.mark.parametrize("cache_mib", [0, 100], ids=["streamed", "cached"])
@pytest.mark.parametrize("sets", [1, 2])
def test_training_is_untuned(
    splits: tuple[Split, Split], iterated: list[tf.data.Options], sets: int, cache_mib: int
) -> None:
    batches = training_batches(training(splits[:sets]), EPOCHS, start=(0, 0), cache_mib=cache_mib, augment=None)
    next(iter(batches))
    assert len(iterated) == 1 + sets * bool(cache_mib)
    assert all(map(is_untuned, iterated))


def test_evaluation_is_untuned(splits: tuple[Split, Split], iterated: list[tf.data.Options]) -> None:
    for _ in evaluation_batches(splits[0], 4).take(1):
        pass
    assert len(iterated) == 1
    assert is_untuned(iterated[0])


def test_the_search_for_files_is_untuned(splits: tuple[Split, Split], iterated: list[tf.data.Options]) -> None:
    assert files_of_batch(training(splits[:1]), EPOCHS, (0, 1))
    assert len(iterated) == 1
    assert is_untuned(iterated[0])


def test_a_data_set_for_others_is_tuned_as_they_like(
    splits: tuple[Split, Split], iterated: list[tf.data.Options]
) -> None:
    dataset = open_dataset(splits[0].folder, "train")
    next(iter(dataset))
    next(iter(untuned(dataset)))
    assert [is_untuned(options) for options in iterated] == [False, True]


def test_no_step_leaves_its_parallelism_to_tuning() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in Path(PROJECT, "trainer").rglob("*.py")}
    assert [name for name, source in sources.items() if "tf.data.AUTOTUNE" in source] == ["dataset.py"]
