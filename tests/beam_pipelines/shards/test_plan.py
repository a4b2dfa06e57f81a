"""The plan: every pair once, in shards of equal size, by seed and key alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import BuildError
from beam_pipelines.files.reader import FileReader
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.sources import Pair
from beam_pipelines.shards.estimate import estimate
from beam_pipelines.shards.plan import (
    MIN_SHARD_PAIRS,
    MIN_SHARDS,
    ShardReference,
    choose_pairs,
    cut_shards,
    list_files,
    list_shards,
    read_shard,
    write_plan,
)
from tests.support.builds import recipe_of

EXAMPLE_BYTES = 1_000_000.0


def pair(key: str, split: str = "train", size: int = 10) -> Pair:
    return Pair(key, split, f"images/{key}.png", f"/in/images/{key}.png", f"/in/masks/{key}.png", size)


def pairs_of(train: int, val: int = 0) -> list[Pair]:
    named = [("train", index) for index in range(train)] + [("val", index) for index in range(val)]
    return [pair(f"{split}/{index:04d}", split) for split, index in named]


def shards_of(pairs, *arguments: str, example_bytes: float = EXAMPLE_BYTES):
    recipe = recipe_of(*arguments)
    return cut_shards(choose_pairs(pairs, recipe), recipe, example_bytes)


def test_an_estimate_that_fails_closes_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BuildError("the disk is gone")

    closed = list[FileReader]()
    monkeypatch.setattr(FileReader, "close", lambda reader: closed.append(reader))
    monkeypatch.setattr("beam_pipelines.shards.estimate.prepare", fail)
    with pytest.raises(BuildError, match="the disk is gone"):
        estimate(pairs_of(1), recipe_of())
    assert len(closed) == 1


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
data_sets = st.dictionaries(names, st.sampled_from(["train", "val", "test"]), max_size=60).map(
    lambda splits: [pair("first", "train"), *(pair(f"{key}!", split) for key, split in splits.items())]
)


@given(data_sets, st.sampled_from([0.5, 3, 1000]), st.integers(0, 2**63))
def test_every_pair_is_in_exactly_one_shard_of_its_split(pairs, shard_size_mb, seed) -> None:
    shards = shards_of(pairs, f"--shard_size_mb={shard_size_mb}", f"--seed={seed}")
    planned = [pair for shard in shards for pair in shard.pairs]
    assert Counter(planned) == Counter(pairs)
    assert all(pair.split == shard.split for shard in shards for pair in shard.pairs)


@given(data_sets, st.sampled_from([0.5, 3, 1000]))
def test_shards_of_a_split_differ_by_one_pair_at_most_and_are_numbered(pairs, shard_size_mb) -> None:
    shards = shards_of(pairs, f"--shard_size_mb={shard_size_mb}")
    for split in {shard.split for shard in shards}:
        own = [shard for shard in shards if shard.split == split]
        sizes = [len(shard.pairs) for shard in own]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1
        assert [(shard.index, shard.count) for shard in own] == [(index, len(own)) for index in range(len(own))]


@given(st.data(), data_sets, st.integers(0, 5))
def test_the_order_in_which_pairs_are_found_changes_nothing(data, pairs, seed) -> None:
    permuted = data.draw(st.permutations(pairs))
    assert shards_of(permuted, f"--seed={seed}") == shards_of(pairs, f"--seed={seed}")


@given(data_sets)
def test_order_depends_on_seed_and_key_alone(pairs) -> None:
    """Pairs of other paths and sizes stand where those of the same keys stood."""
    moved = [replace(pair, image="gs://b/" + pair.image, mask="elsewhere", bytes=pair.bytes + 1) for pair in pairs]
    keys = [[pair.key for pair in shard.pairs] for shard in shards_of(pairs)]
    assert [[pair.key for pair in shard.pairs] for shard in shards_of(moved)] == keys


def test_another_seed_shuffles_otherwise_and_the_shuffle_is_not_the_order_of_the_keys() -> None:
    orders = [
        [pair.key for pair in choose_pairs(pairs_of(50), recipe_of(f"--seed={seed}"))["train"]] for seed in (0, 1)
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != sorted(orders[0])


def test_a_new_pair_does_not_change_the_order_of_the_others() -> None:
    before = choose_pairs(pairs_of(100), recipe_of())["train"]
    after = choose_pairs(pairs_of(101), recipe_of())["train"]
    assert [pair for pair in after if pair in before] == list(before)


@given(st.integers(1, 40), st.integers(0, 40))
def test_max_pairs_takes_the_first_of_the_whole_order_of_each_split(train, val) -> None:
    everything = choose_pairs(pairs_of(train, val), recipe_of())
    for limit in (1, 7, 100):
        chosen = choose_pairs(pairs_of(train, val), recipe_of(f"--max_pairs={limit}"))
        assert chosen == {split: pairs[:limit] for split, pairs in everything.items()}


@pytest.mark.parametrize(
    ("pairs", "shard_size_mb", "count"),
    [
        (1, 128, 1),
        (MIN_SHARD_PAIRS * 2 - 1, 128, 1),  # too few for a second shard
        (MIN_SHARD_PAIRS * 2, 128, 2),
        (MIN_SHARD_PAIRS * MIN_SHARDS * 10, 1000, MIN_SHARDS),  # work for many workers
        (640, 20, 32),  # 640 MB by size
        (640, 20.1, 32),
        (640, 19.9, 33),
        (10, 0.1, 10),  # never more shards than pairs
    ],
)
def test_the_number_of_shards_comes_from_their_size_but_is_enough_for_many_workers(pairs, shard_size_mb, count) -> None:
    assert len(shards_of(pairs_of(pairs), f"--shard_size_mb={shard_size_mb}")) == count


def test_shards_sets_the_numbers_and_files_are_named_after_them() -> None:
    shards = shards_of(pairs_of(10, 5), "--shards=train=3,val=2")
    assert [shard.file for shard in shards] == [
        *(f"train-{index:05d}-of-00003.tfrecord" for index in range(3)),
        *(f"val-{index:05d}-of-00002.tfrecord" for index in range(2)),
    ]
    assert [len(shard.pairs) for shard in shards] == [3, 3, 4, 2, 3]


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ("train=2", r"--shards must name each split \(train, val\) once; wrong or missing: val"),
        ("train=2,val=1,test=4", r"--shards must name each split \(train, val\) once; wrong or missing: test"),
        ("train=11,val=1", "--shards=train=11 is more than its 10 pairs"),
    ],
)
def test_shards_that_do_not_fit_the_splits_are_refused(shards, message) -> None:
    with pytest.raises(BuildError, match=message):
        shards_of(pairs_of(10, 5), f"--shards={shards}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--splits=train=0.5,val=0.5", "--group_by=^([^/]+)"),
            "--splits: of 10 pairs in 1 group the hash assigned none to val=0.5: give it a larger share, "
            "a --group_by that makes more than 1, or a list of pairs with the column split",
        ),
        (
            ("--splits=train=0.5,val=0.5", "--group_by=[0-9]", "--pool_splits"),
            "--splits: of 10 pairs in 1 group the hash assigned none to val=0.5: give it a larger share, "
            "a --group_by that makes more than 1, or a list of pairs with the column split",
        ),
        (
            ("--splits=train=0.5,val=0.4999,test=0.0001",),
            "--splits: of 10 pairs the hash assigned none to test=0.0001 and val=0.4999: give them a larger share, "
            "or a list of pairs with the column split",
        ),
    ],
)
def test_a_split_that_the_hash_gives_nothing_tells_how_many_there_are(options, message) -> None:
    with pytest.raises(BuildError) as caught:
        shards_of(pairs_of(10), *options)
    assert str(caught.value) == message


def test_without_the_split_of_the_moments_there_is_no_plan() -> None:
    message = "mean and std are those of the split 'train', but the input has only test, val: give --moments_split=test"
    with pytest.raises(BuildError, match=message):
        shards_of([pair("a", "val"), pair("b", "test")])
    assert len(shards_of([pair("a", "val"), pair("b", "test")], "--moments_split=test")) == 2


@given(data_sets)
def test_the_plan_file_gives_back_every_shard(tmp_path_factory, pairs) -> None:
    place = Workspace(str(tmp_path_factory.mktemp("plan")))
    shards = shards_of(pairs, "--shard_size_mb=3")
    write_plan(place, shards)
    assert [read_shard(reference) for reference in list_shards(place.plan)] == shards
    assert list_files(place.plan) == [shard.file for shard in shards]


def test_the_plan_file_keeps_names_with_spaces_quotes_line_separators_and_other_alphabets(tmp_path) -> None:
    keys = ['a "b"', "Zürich/straße 1", "北京\u2028\u0085x", "new\nline", "e\u0301", "\U0001f6b2"]
    shards = shards_of([pair(key) for key in keys], "--shards=train=3")
    place = Workspace(str(tmp_path))
    write_plan(place, shards)
    references = list(list_shards(place.plan))
    assert len(references) == 3
    # In any order, as workers read them.
    assert [read_shard(reference) for reference in reversed(references)] == shards[::-1]


def test_the_digest_is_of_recipe_keys_sizes_and_places() -> None:
    def digest(pairs=None, *arguments: str) -> str:
        return "".join(shard.digest for shard in shards_of(pairs or pairs_of(6), "--shards=train=2", *arguments))

    same, *others = [
        digest(pairs_of(6)[::-1]),
        digest(None, "--seed=1"),
        digest(None, "--image_size=64x128"),
        digest(None, "--labels=camvid11"),
        digest([replace(pair, bytes=pair.bytes + (pair.key == "train/0003")) for pair in pairs_of(6)]),
        digest([replace(pair, key=pair.key.replace("3", "x")) for pair in pairs_of(6)]),
        digest([replace(pair, mask=pair.mask + "x") for pair in pairs_of(6)]),
        "".join(shard.digest for shard in shards_of(pairs_of(6), "--shards=train=3")),
        digest([replace(pair, modified=1) for pair in pairs_of(6)]),
    ]
    assert same == digest()
    assert len({same, *others}) == 1 + len(others)


def test_only_the_shard_with_the_changed_file_gets_another_digest() -> None:
    before = shards_of(pairs_of(20), "--shards=train=5")
    changed = before[2].pairs[1]
    after = shards_of(
        [replace(pair, bytes=99) if pair == changed else pair for pair in pairs_of(20)], "--shards=train=5"
    )
    assert [old.digest != new.digest for old, new in zip(before, after, strict=True)] == [
        False,
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "is not JSON: it is cut off"),
        (b"\xff", "is not JSON: invalid character (byte 0)"),
        (b"{}", "expected array, found {}"),
        (b'["train", 0, 1]', 'expected array of length 7, found ["train", 0, 1]'),
        (b'["train", -1, 1, "d", [], [[], [], []], null]', "[1]: expected int >= 0, found -1"),
        (
            b'["train", 0, 1, "d", [["k", "train", "f", "i", "m", true, 0]], [[], [], []], null]',
            "[4][0][5]: expected int, found true",
        ),
    ],
)
def test_a_damaged_line_is_told_with_its_place(tmp_path: Path, line: bytes, problem: str) -> None:
    (tmp_path / "plan").write_bytes(line)
    with pytest.raises(BuildError) as caught:
        read_shard(ShardReference(str(tmp_path / "plan"), 0, len(line)))
    assert str(caught.value).startswith(f"{tmp_path}/plan: line at byte 0: ")
    assert str(caught.value).endswith("; run the same command again, which writes the plan again")
    assert problem in str(caught.value)
