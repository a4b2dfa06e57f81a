"""A plain loop over the pipeline's own functions, on one thread for each core."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from beam_pipelines.contract import record
from beam_pipelines.contract.moments import Moments
from beam_pipelines.files.reader import FileReader
from beam_pipelines.inputs.sources import find_pairs
from beam_pipelines.options import parse_build
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.mask_readings import PLAIN
from beam_pipelines.pixels.measure import class_pixels_of, moments_of
from beam_pipelines.pixels.normalize import Normalizer
from beam_pipelines.shards.finish import normalized
from beam_pipelines.shards.stage import ShardWriter, prepare, to_record
from tests.benchmarks.references import Stopwatch, Taken

CORES = len(os.sched_getaffinity(0))


def build(source: Path, size: tuple[int, int], encoding: str, scratch: Path) -> Taken:
    options = [f"--input={source}", "--output=none", f"--image_size={size[0]}x{size[1]}"]
    recipe = parse_build([*options, f"--image_encoding={encoding}"]).recipe
    pairs = find_pairs(recipe, recipe.input).pairs

    def decode(own: Any) -> Any:
        reader = FileReader(8 * recipe.max_image_pixels)
        samples, moments, counts = [], Moments.zero(), np.zeros(256, np.int64)
        for pair in own:
            sample = prepare(pair, recipe, reader, PLAIN)
            assert isinstance(sample, Sample), sample
            moments, counts = moments + moments_of(sample.image), counts + class_pixels_of(sample.mask)
            samples.append(sample)
        return samples, moments

    def write(path: Path, samples: Any, normalizer: Normalizer) -> None:
        with open(path, "wb") as file:
            writer = ShardWriter(file)
            for sample in samples:
                staged = to_record(sample, "raw_uint8", recipe.mask_format)
                writer.write(record.encode(normalized(staged, normalizer, recipe.image_format)))

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        watch = Stopwatch()
        with ThreadPoolExecutor(CORES) as pool:
            decoded = list(pool.map(decode, [pairs[index::CORES] for index in range(CORES)]))
            moments = sum((moments for _, moments in decoded), Moments.zero())
            normalizer = Normalizer(moments.normalization, encoding)
            paths = [Path(folder) / f"{index}.tfrecord" for index in range(CORES)]
            list(pool.map(write, paths, [samples for samples, _ in decoded], [normalizer] * CORES))
        return watch.taken()
