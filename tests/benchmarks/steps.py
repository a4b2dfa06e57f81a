"""Milliseconds of CPU that each step takes for a pair, on one thread; with and without imgread in turn, where it is
installed.

    python -m tests.benchmarks.steps --source ../shared/data/cityscapes_sample

The least of several rounds counts: other work on the machine only adds to it.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from beam_pipelines import machine
from beam_pipelines.contract import png, record
from beam_pipelines.files.reader import FileReader
from beam_pipelines.inputs.sources import find_pairs
from beam_pipelines.options import parse_build
from beam_pipelines.pixels import conform
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.decode import decode_image
from beam_pipelines.pixels.fingerprint import fingerprint
from beam_pipelines.pixels.mask_readings import PLAIN
from beam_pipelines.pixels.masks import read_mask
from beam_pipelines.pixels.normalize import Normalizer
from beam_pipelines.recipe import Recipe
from beam_pipelines.shards.contents import Contents
from beam_pipelines.shards.finish import normalized
from beam_pipelines.shards.stage import ShardWriter, file_reader, prepare, to_record
from tests.benchmarks.sources import default_source

Times = dict[str, float]
WHOLE = "prepare a pair"  # all steps that are indented below it
PARTS = "  "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="a Cityscapes tree (default: the real sample beside the project, else drawn)")
    parser.add_argument("--image_size", default="256x512")
    parser.add_argument("--image_encoding", default="float32", choices=["float32", "float16"])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    machine.keep_freed_memory()  # as a worker does
    with tempfile.TemporaryDirectory() as folder:
        source = args.source or str(default_source(Path(folder)))
        options = [f"--input={source}", "--output=none", f"--image_size={args.image_size}"]
        recipe = parse_build([*options, f"--image_encoding={args.image_encoding}"]).recipe
        names = dict.fromkeys([png.decoder(), "imagecodecs"])
        least: dict[str, Times] = {}
        for _ in range(args.rounds):
            for name in names:
                with without_imgread() if name == "imagecodecs" else contextlib.nullcontext():
                    taken = times(recipe, Path(folder))
                least[name] = {step: min(taken[step], least.get(name, taken)[step]) for step in taken}
    print_times(least, Console())


def without_imgread() -> contextlib.AbstractContextManager[object]:
    return mock.patch.object(png, "load_numpy_from_bytes", None)


def times(recipe: Recipe, folder: Path) -> Times:
    """Step -> milliseconds of CPU for a pair."""
    pairs = list(find_pairs(recipe, recipe.input).pairs)
    reader, taken = file_reader(recipe), Times()
    samples = list(measured(taken, WHOLE, lambda pair: prepare(pair, recipe, reader, PLAIN), pairs))
    assert all(isinstance(sample, Sample) for sample in samples), samples
    _prepare_in_steps(taken, pairs, recipe, reader)
    _write_in_steps(taken, samples, recipe, folder)
    return taken


def _prepare_in_steps(taken: Times, pairs: Sequence[Any], recipe: Recipe, reader: FileReader) -> None:
    limit, rules, labels = recipe.max_image_pixels, recipe.rules, recipe.labels
    files = measured(taken, f"{PARTS}read the image", lambda pair: reader.read(pair.image), pairs)
    images = measured(taken, f"{PARTS}decode it", lambda data: decode_image(data, limit, rules), files)
    files = measured(taken, f"{PARTS}read the mask", lambda pair: reader.read(pair.mask), pairs)
    masks = measured(taken, f"{PARTS}decode it ", lambda data: read_mask(data, labels, limit, PLAIN, rules).ids, files)
    measured(taken, f"{PARTS}check its ids", lambda ids: conform.check_ids(ids, labels), masks)
    geometries = [conform.fit(mask.shape, recipe.image_size, recipe.aspect) for mask in masks]
    sized = list(zip(images, masks, geometries, strict=True))
    measured(taken, f"{PARTS}resize the image", lambda of: conform.conform_image(of[0], of[2], recipe.resize), sized)
    measured(taken, f"{PARTS}resize the mask", lambda of: conform.conform_mask(of[1], labels, of[2]), sized)
    measured(taken, f"{PARTS}fingerprint", fingerprint, images)


def _write_in_steps(taken: Times, samples: Sequence[Any], recipe: Recipe, folder: Path) -> None:
    contents = Contents()
    measured(taken, "count pixels and classes", lambda sample: contents.add(sample.filename, sample), samples)
    formats = recipe.staged_format, recipe.mask_format
    staged = measured(taken, "encode for staging", lambda each: record.encode(to_record(each, *formats)), samples)
    with (folder / "shard").open("wb") as file:
        measured(taken, "write it", ShardWriter(file, hashed=False).write, staged)
    found = measured(taken, "decode it again", record.decode, staged)
    dtype = record.RAW_DTYPES[recipe.image_format]
    normalizer = Normalizer(contents.moments.normalization, dtype)
    final = measured(taken, "normalize", lambda each: normalized(each, normalizer, recipe.image_format), found)
    encoded = measured(taken, "encode the record", record.encode, final)
    with (folder / "shard").open("wb") as file:
        measured(taken, "write it ", ShardWriter(file).write, encoded)


def measured(taken: Times, step: str, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """The results of `work`; its time for one of the items is put down."""
    start = time.process_time()
    results = [work(item) for item in items]
    taken[step] = (time.process_time() - start) / len(items) * 1000
    return results


def print_times(least: dict[str, Times], console: Console) -> None:
    table = Table("ms of CPU for a pair", *(f"PNG by {name}" for name in least))
    for column in table.columns[1:]:
        column.justify = "right"
    for step in next(iter(least.values())):
        table.add_row(step, *(f"{taken[step]:.2f}" for taken in least.values()))
    table.add_section()
    table.add_row("sum", *(f"{sum(_whole(taken)):.2f}" for taken in least.values()))
    console.print(table)


def _whole(taken: Times) -> Iterator[float]:
    return (milliseconds for step, milliseconds in taken.items() if not step.startswith(PARTS))


if __name__ == "__main__":
    main()
