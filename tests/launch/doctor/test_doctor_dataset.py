"""Data sets that the trainer could not use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipelines.contract.moments import Moments
from launch.dataset import local_files
from launch.doctor.check import Session
from launch.doctor.checks.dataset import check_local
from launch.doctor.options import parse
from launch.errors import LaunchError
from tests.support.diagnosis import OWN_TRAINER, asked
from tests.support.fake_google import FakeGoogle


def edited(dataset: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the data set with other values in its manifest."""
    folder.mkdir()
    for path in dataset.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    value = json.loads((folder / "dataset.json").read_text())
    for name, change in changes.items():
        value[name] = value[name] | change
    (folder / "dataset.json").write_text(json.dumps(value))
    return folder


def pixels_of_a_picture(dataset: Path) -> int:
    pixels = json.loads((dataset / "dataset.json").read_text())["pixels"]
    return int(pixels["height"] * pixels["width"])


def moments_to_json(histogram: list[list[int]]) -> dict[str, Any]:
    moments = Moments(np.array(histogram, np.int64))
    names = ("pixels", "sums", "sums_of_squares", "mean", "std")
    return {"histogram": histogram, **{name: getattr(moments, name) for name in names}}


def dataset_lines(folder: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, str]:
    code, found = asked(google, capsys, OWN_TRAINER, f"--dataset={folder}", *more)
    assert code == int(any(line.startswith("failure") for line in found.values()))
    return found


def test_a_data_set_that_can_not_be_trained_on_is_a_failure(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(folder: Path, *more: str) -> str:
        return dataset_lines(folder, google, capsys, *more)["data set"]

    assert line(tmp_path).startswith(f"failure {tmp_path} has no dataset.json: there is no data set, or its build did")
    assert line(dataset / "dataset.json").startswith(f"failure {dataset}/dataset.json has no dataset.json")
    assert line(dataset, "--val_split=test") == (
        f"failure {dataset} has no split 'test'; it has train, val: name one of these with --val_split, or set "
        "--val_split='' to train without validation"
    )
    assert line(dataset, "--hosts=3").startswith(f"failure {dataset}: 2 shards of val are too few for 3 hosts")
    assert line(dataset, "--hosts=3", "--val_split=").startswith("ok ")
    assert line(dataset, "--val_split=").startswith(f"ok {dataset}: 12 examples of train, 32x64, ")
    shards = json.loads((dataset / "dataset.json").read_text())["splits"]["val"]["shards"]
    shards[1] |= {"examples": 0, "bytes": 0}  # all of its pairs were rejected
    held = shards[0]["examples"] * pixels_of_a_picture(dataset)
    empty = edited(
        dataset,
        tmp_path / "empty",
        splits={"val": {"examples": shards[0]["examples"], "shards": shards}},
        class_pixels={"val": [held] + [0] * 10},
        ignored_pixels={"val": 0},
    )
    assert line(empty).startswith("ok ")
    assert line(empty, "--hosts=2").startswith(f"failure {empty}: 1 shards of val are too few for 2 hosts")
    other = edited(dataset, tmp_path / "other")
    (other / "dataset.json").write_text('{"format_version": 9}')
    assert line(other).startswith(f"failure {other}/dataset.json has format version 9 and this code reads 1: ")
    (other / "dataset.json").write_bytes(b"\xff")
    assert line(other).startswith(f"failure {other}/dataset.json: is not JSON: ")
    wrong = edited(dataset, tmp_path / "wrong", moments={"pixels": 7})
    assert line(wrong).startswith(f"failure {wrong}/dataset.json: moments.pixels is 7, and the rest of the file says ")
    none = {"val": {"examples": 0, "shards": []}}
    nothing = {"class_pixels": {"val": [0] * 11}, "ignored_pixels": {"val": 0}}
    assert line(edited(dataset, tmp_path / "none", splits=none, **nothing)) == (
        f"failure {tmp_path / 'none'}: split 'val' has no examples, all pairs were rejected: rebuild the data set"
    )


def test_a_folder_that_can_not_be_listed_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=f"^{tmp_path}/absent could not be read: .*; fix this and run the same"):
        local_files(f"{tmp_path}/absent").sizes()


def test_shards_that_are_missing_or_cut_off_are_a_failure(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited(dataset, tmp_path / "cut")
    shard = folder / "val-00001-of-00002.tfrecord"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-7])
    assert dataset_lines(folder, google, capsys)["shards"].startswith(
        f"failure {shard} has {size - 7:,} bytes of {size:,}: restore it (sha256 "
    )
    shard.unlink()
    (folder / "train-00000-of-00004.tfrecord").unlink()
    assert dataset_lines(folder, google, capsys)["shards"].startswith(
        f"failure {folder}/train-00000-of-00004.tfrecord is missing (and 1 more): restore it"
    )
    assert "(and 1 more)" not in dataset_lines(folder, google, capsys, "--val_split=")["shards"]


def test_what_can_not_be_learned_from_is_told(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(name: str, **changes: Any) -> dict[str, str]:
        return dataset_lines(edited(dataset, tmp_path / name, **changes), google, capsys, "--val_split=")

    assert lines("same")["classes"].startswith("ok 11 of 11 in train, ")
    value = json.loads((dataset / "dataset.json").read_text())
    counts, ignored = value["class_pixels"]["train"], value["ignored_pixels"]["train"]
    absent = lines("absent", class_pixels={"train": [*counts[:-2], counts[-2] + counts[-1], 0]})["classes"]
    assert absent.startswith("warning 10 of 11 in train, ")
    assert absent.endswith("; bicyclist cannot be learned: add images that contain them")
    held = sum(counts) + ignored
    mostly = {"class_pixels": {"train": [1] * 11}, "ignored_pixels": {"train": held - 11}}
    assert lines("ignored", **mostly)["classes"] == (
        f"warning 11 of 11 in train, {(held - 11) / held:.1%} of its pixels ignored: check that camvid11 is the right "
        "table (--labels of the build)"
    )
    none = {"class_pixels": {"train": [0] * 11}, "ignored_pixels": {"train": held}}
    nothing = lines("nothing", **none)["classes"]
    assert nothing.startswith("failure 0 of 11 in train, 100.0% of its pixels ignored: there is nothing to learn")


def test_a_class_can_be_learned_if_one_of_the_splits_to_train_on_has_it(dataset: Path, tmp_path: Path) -> None:
    """The doctor prints a line for each split."""

    def lines(folder: Path) -> list[str]:
        arguments = [f"--dataset={folder}", "--train_split=train,val", "--val_split="]
        return [str(each) for each in check_local(Session(parse(arguments))) if each.name == "classes"]

    def without_the_last(split: str) -> list[int]:
        *others, last_but_one, last = json.loads((dataset / "dataset.json").read_text())["class_pixels"][split]
        return [*others, last_but_one + last, 0]

    one = edited(dataset, tmp_path / "one", class_pixels={"train": without_the_last("train")})
    train, val = lines(one)
    assert train.startswith("ok       classes          10 of 11 in train, ")
    assert val.startswith("ok       classes          11 of 11 in val, ")
    pixels = {split: without_the_last(split) for split in ("train", "val")}
    for line in lines(edited(dataset, tmp_path / "both", class_pixels=pixels)):
        assert line.startswith("warning  classes          10 of 11 in ")
        assert line.endswith("; bicyclist cannot be learned: add images that contain them")


def test_normalization_is_looked_at(
    dataset: Path, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(name: str, **changes: Any) -> str:
        return dataset_lines(edited(dataset, tmp_path / name, **changes), google, capsys)["normalization"]

    assert line("same").startswith("ok in the records; mean and std 0.")
    assert line("png", pixels={"image_format": "png", "normalized": False}).startswith(
        "ok by the reader; mean and std 0."
    )
    held = json.loads((dataset / "dataset.json").read_text())["moments"]["pixels"]
    flat = moments_to_json([[held] + [0] * 255, [held] + [0] * 255, [held - 4, 4] + [0] * 254])
    assert line("flat", moments=flat) == ("warning all values of red, green are equal in train: check the input images")
