"""How long the search for duplicates takes, and how much memory, for random hashes with planted near ones; prints JSON.

    python tests/benchmarks/duplicates.py --examples 100000 --planted 1000
    python tests/benchmarks/duplicates.py --beam   # the steps of the pipeline as well, on Beam's runner in this process

Random hashes are the worst case for bands: every bucket has entries, and none of them belong together. A planted one
differs from its original in 0 to 4 bits; half of them are mirror images.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines.graph import PairDuplicates
from beam_pipelines.shards.duplicate_search import DISTANCE, Entry, Picture, buckets_of, near_pairs

Keys = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--planted", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beam", action="store_true")
    args = parser.parse_args()
    pictures, planted = make_pictures(args.examples, args.planted, args.seed)
    measured = {"search": measure(search, pictures, planted)}
    if args.beam:
        measured["beam"] = measure(search_with_beam, pictures, planted)
    print(json.dumps({"examples": args.examples, "planted": args.planted, **measured}, indent=2))


def make_pictures(examples: int, planted: int, seed: int) -> tuple[list[Picture], set[Keys]]:
    """-> the pictures, the last of which are planted, and the pairs of keys to find."""
    rng = random.Random(seed)
    pictures: list[Picture] = []
    pairs = set()
    for number in range(examples):
        key, hash, mirror = f"{number:08d}", rng.getrandbits(64), rng.getrandbits(64)
        original = number - (examples - planted)
        if original >= 0:
            hash, mirror = pictures[original].hash, pictures[original].mirror
            for bit in rng.sample(range(64), rng.randint(0, DISTANCE)):
                hash ^= 1 << bit
                mirror ^= 1 << bit
            hash, mirror = (mirror, hash) if original % 2 else (hash, mirror)
            pairs.add((pictures[original].key, key))
        pictures.append(Picture(key, "val" if number % 5 == 0 else "train", key, "", key, hash, mirror))
    return pictures, pairs


def measure(find: Any, pictures: Sequence[Picture], planted: set[Keys]) -> dict[str, float]:
    start, cpu_start = time.perf_counter(), time.process_time()
    found = find(pictures)
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu_start, 2),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
        "recall": len(found & planted) / max(1, len(planted)),
        "others": len(found - planted),
    }


def search(pictures: Iterable[Picture]) -> set[Keys]:
    buckets = defaultdict[tuple[int, int], list[Entry]](list)
    for picture in pictures:
        for bucket, entry in buckets_of(picture):
            buckets[bucket].append(entry)
    return {
        (pair.one.key, pair.other.key) for (band, _), entries in buckets.items() for pair in near_pairs(band, entries)
    }


def search_with_beam(pictures: Iterable[Picture]) -> set[Keys]:
    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as root:
            pairs = root | beam.Create(pictures) | PairDuplicates()
            keys = pairs | beam.Map(lambda pair: f"{pair.one.key} {pair.other.key}")
            keys | beam.io.WriteToText(f"{folder}/pairs")
        lines = [line.split() for path in Path(folder).iterdir() for line in path.read_text().splitlines()]
    return {(one, other) for one, other in lines}


if __name__ == "__main__":
    main()
