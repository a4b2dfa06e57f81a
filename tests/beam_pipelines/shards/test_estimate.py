"""What a build will take, by a clock that the test turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipelines.inputs.pairs import Pair
from beam_pipelines.shards.estimate import Estimate, estimate
from tests.support.builds import make_flat, recipe_of


def pairs_in(folder: Path, count: int) -> list[Pair]:
    names = [f"train_{index:04d}.png" for index in range(count)]
    return [
        Pair(name, "train", name, str(folder / "images" / "train" / name), str(folder / "masks" / "train" / name), 1)
        for name in names
    ]


@pytest.mark.parametrize("encoding", ["float32", "png"])
def test_the_time_of_a_pair_is_the_median_of_those_that_were_read(tmp_path: Path, encoding: str) -> None:
    pairs = pairs_in(make_flat(tmp_path, train=5, val=0), 5)
    Path(pairs[1].image).write_bytes(b"no picture")
    turns = iter(
        [0.0, 9.0, 10.0, 20.0, 21.0, 30.0, 33.0]
    )  # 9 s with the decoders, a bad pair at 10 s, then 1 s and 3 s
    recipe = recipe_of("--image_size=32x64", "--labels=camvid11", f"--image_encoding={encoding}")
    found = estimate(pairs, recipe, clock=turns.__next__)
    assert found.pair_seconds == 3.0
    assert not list(turns)
    assert found.example_bytes.keys() == {"float32", "float16", "uint8", "png"}


def test_the_pipeline_shares_the_pairs_among_the_cores() -> None:
    assert Estimate({}, 0.0, pair_seconds=0.05).build_seconds(pairs=3475, cores=2) == pytest.approx(86.875)
