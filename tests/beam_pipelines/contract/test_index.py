"""The index of a shard says what its records hold, and a damaged one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines.contract import index, record, tfrecord
from beam_pipelines.contract.index import Example, Index
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.png import decode_png
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.contract.seal import sealed, unsealed
from tests.support.builds import build, make_uneven, no_transform
from tests.support.small_index import EXAMPLE, SMALL


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = make_uneven(tmp_path_factory.mktemp("in"), train=5, val=2)
    output = tmp_path_factory.mktemp("out")
    with no_transform():
        arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=native")
        assert build(*arguments, "--image_encoding=png", "--mask_encoding=png", "--shards=train=2,val=1") == 0
    return output


def read(dataset: Path, shard: str) -> Index:
    path = dataset / index.file_name(shard)
    return Index.from_bytes(path.read_bytes(), str(path))


def test_an_index_describes_the_records_of_its_shard(dataset: Path) -> None:
    manifest = Manifest.from_json((dataset / "dataset.json").read_text())
    assert manifest.indexed
    for split, shards in manifest.splits.items():
        total = Moments.zero()
        for shard in shards:
            found = read(dataset, shard.file)
            assert found.split == split
            with (dataset / shard.file).open("rb") as file:
                records = [record.decode(each) for each in tfrecord.read_records(file, shard.file)]
            assert len(found.examples) == len(records)
            heat_maps = {train_id: np.zeros(index.HEAT_MAP, np.int64) for train_id in found.heat_maps}
            for example, stored in zip(found.examples, records, strict=True):
                _check_example(example, stored, heat_maps)
            assert {train_id: cells.tolist() for train_id, cells in found.heat_maps.items()} == {
                train_id: cells.tolist() for train_id, cells in heat_maps.items()
            }
            total += found.moments
        if split == "train":
            assert total == manifest.moments
    totals = np.sum([read(dataset, shard.file).class_pixels for shard in manifest.splits["train"]], axis=0)
    assert tuple(totals[:11].tolist()) == manifest.class_pixels["train"]


def _check_example(example: Example, stored: record.Record, heat_maps: dict[int, np.ndarray]) -> None:
    """Counts pixel by pixel."""
    image, mask = decode_png(stored.image), decode_png(stored.mask)
    height, width = mask.shape
    assert (example.filename, example.size) == (stored.filename, (height, width))
    assert example.source_size == (height, width)  # native
    values = image.astype(np.int64)
    assert example.levels == (values.sum(), (values**2).sum())
    assert {train_id: place.pixels for train_id, place in example.classes.items()} == {
        train_id: (mask == train_id).sum() for train_id in np.unique(mask).tolist()
    }
    counts = {train_id: np.zeros(index.GRID, int) for train_id in example.classes}
    cells = np.zeros(index.GRID, int)
    for y in range(height):
        for x in range(width):
            row, column = y * 16 // height, x * 32 // width
            heat_maps[int(mask[y, x])][row, column] += 1
            counts[int(mask[y, x])][row // 4, column // 4] += 1
            cells[row // 4, column // 4] += 1
    for train_id, place in example.classes.items():
        expected = -(-255 * counts[train_id] // np.maximum(cells, 1))
        assert list(place.grid) == expected.reshape(-1).tolist()


def test_an_index_is_read_as_it_was_written() -> None:
    found = Index.from_bytes(SMALL.to_bytes(), "a.jsonl")
    assert found.examples == [EXAMPLE]
    assert found.to_bytes() == SMALL.to_bytes()
    assert (found.minus_ones, found.repairs) == (0, {"shift": 2})


def changed(line: int, **values: object) -> bytes:
    lines = [json.loads(each) for each in (unsealed(SMALL.to_bytes()) or "").splitlines()]
    lines[line] |= values
    return sealed("".join(json.dumps(each) + "\n" for each in lines))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "does not exist"),
        (b"", "does not exist"),
        (SMALL.to_bytes()[:-9], "is damaged"),
        (SMALL.to_bytes().replace(b"train/a", b"train/b"), "is damaged"),
        (changed(0, examples=2), "examples: is 2, and 1 lines follow"),
        (changed(0, heat_maps={"0": [1] * 512}), "heat_maps: do not count the pixels"),
        (changed(0, histogram=[[1] + [0] * 255] * 3), "each channel counts every pixel once"),
        (changed(1, classes={"0": [2, "AAAA"]}), "describes no example"),
        (changed(1, other=1), "describes no example"),
    ],
)
def test_a_damaged_index_is_refused(data: bytes | None, problem: str) -> None:
    with pytest.raises(SchemaError, match=problem):
        Index.from_bytes(data, "index/a.jsonl")
