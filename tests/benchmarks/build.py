"""How fast the build is, as a ratio to a reference in the same run; prints JSON.

    python tests/benchmarks/build.py --pairs 512 --source ../shared/data/cityscapes_sample
    python tests/benchmarks/build.py --pairs 128 --against notebook
    python tests/benchmarks/build.py --runner=PrismRunner --prism_location=.runners/2.77.0/prism

Every option that it does not know goes to the real command.

The source's pairs (a Cityscapes tree) are linked under new names until there are enough. The real command and the
reference run in turn, each in a process of its own. References:
  bare      the same decoder, resize, histograms, normalization and writing on a pool of threads: no Beam, no staging
            (all images stay in memory between the passes), no receipts
  notebook  the way it is done by hand: Pillow into float arrays, NumPy mean and std, a second decode, one
            tf.io.TFRecordWriter
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from beam_pipelines.inputs import sample_scenes

PROJECT = Path(__file__).parent.parent.parent
REAL_SCENES = PROJECT.parent / "shared" / "data" / "cityscapes_sample"
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    args = parse()
    if args.reference:
        seconds = {"bare": run_bare, "notebook": run_notebook}[args.reference](Path(args.source), args)
        print(json.dumps({"seconds": seconds}))
        return
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        source = link_pairs(
            Path(args.source) if args.source else default_source(Path(scratch)), Path(scratch), args.pairs
        )
        rounds = [run_round(source, Path(scratch), args) for _ in range(args.rounds)]
    print(json.dumps(summary(rounds, args), indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--source", help="a Cityscapes tree (default: the real sample beside the project, else drawn)")
    parser.add_argument("--against", choices=["bare", "notebook"], default="bare")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image_size", default="256x512")
    parser.add_argument("--image_encoding", default="float32", choices=["float32", "float16"])
    parser.add_argument("--runner", default="DirectRunner")
    parser.add_argument("--scratch", help="where to write (default: the system's temporary folder)")
    parser.add_argument("--reference", choices=["bare", "notebook"], help=argparse.SUPPRESS)  # in the child process
    args, beam_args = parser.parse_known_args()
    args.beam_args = beam_args
    return args


def default_source(scratch: Path) -> Path:
    if REAL_SCENES.is_dir():
        return REAL_SCENES
    for key in sample_scenes.list_scenes({"train": 8}):
        for name, data in sample_scenes.draw_scene_files(key).items():
            (scratch / "drawn" / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "drawn" / name).write_bytes(data)
    return scratch / "drawn"


def link_pairs(source: Path, scratch: Path, count: int) -> Path:
    """A tree of `count` pairs, links to the files of `source`."""
    images = sorted(source.glob("leftImg8bit/train/*/*_leftImg8bit.png"))
    for index in range(count):
        image = images[index % len(images)]
        mask = Path(str(image).replace("leftImg8bit", "gtFine")[: -len("gtFine.png")] + "gtFine_labelIds.png")
        for kind, file, end in (("leftImg8bit", image, "leftImg8bit"), ("gtFine", mask, "gtFine_labelIds")):
            link = scratch / "source" / kind / "train" / "city" / f"city_{index:06d}_000019_{end}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve(strict=True))
    return scratch / "source"


def run_round(source: Path, scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    return run_command(source, scratch / "built", args) | {"reference_seconds": run_reference(source, scratch, args)}


def run_command(source: Path, output: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The real command; its closing lines say how long the pipeline took."""
    command = [sys.executable, "-m", "beam_pipelines.build", f"--input={source}", f"--output={output}"]
    command += [f"--image_size={args.image_size}", f"--image_encoding={args.image_encoding}", f"--runner={args.runner}"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *args.beam_args], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    peaks: dict[str, float] = {}
    watch = threading.Thread(target=watch_memory, args=(process.pid, peaks))
    watch.start()
    printed, _ = process.communicate()
    watch.join()
    total = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"the build failed:\n{printed}")
    pipeline = float(re.search(r"of which the pipeline ([\d.]+) s", printed)[1])  # type: ignore[index]
    written = sum(path.stat().st_size for path in output.glob("*.tfrecord"))
    shutil.rmtree(output)
    return {"pipeline_seconds": pipeline, "fixed_seconds": total - pipeline, "bytes": written, **peaks}


def watch_memory(pid: int, peaks: dict[str, float]) -> None:
    """Highest resident memory of the command's process, and of the process that makes the transform_fn; in MB.

    The kernel keeps each process's peak (VmHWM), so that looking now and then misses nothing but the end.
    """
    while True:
        try:
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                name = (
                    "transform_fn_peak_rss_mb"
                    if "beam_pipelines.metadata.transform_fn" in each.cmdline()
                    else "peak_rss_mb"
                )
                status = Path(f"/proc/{each.pid}/status").read_text()
                peak = re.search(r"VmHWM:\s+(\d+)", status)
                if peak:
                    peaks[name] = max(peaks.get(name, 0.0), int(peak[1]) * 1024 / 1e6)
            if process.status() == psutil.STATUS_ZOMBIE:
                return
        except (psutil.NoSuchProcess, OSError):
            return
        time.sleep(0.05)


def run_reference(source: Path, scratch: Path, args: argparse.Namespace) -> float:
    command = [sys.executable, __file__, f"--reference={args.against}", f"--source={source}", f"--scratch={scratch}"]
    command += [f"--image_size={args.image_size}", f"--image_encoding={args.image_encoding}"]
    printed = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(json.loads(printed.splitlines()[-1])["seconds"])


def run_bare(source: Path, args: argparse.Namespace) -> float:
    """Seconds of a plain loop over the same functions, on one thread for each core."""
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

    options = [f"--input={source}", "--output=none", f"--image_size={args.image_size}"]
    recipe = parse_build([*options, f"--image_encoding={args.image_encoding}"]).recipe
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

    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        start = time.perf_counter()
        with ThreadPoolExecutor(CORES) as pool:
            decoded = list(pool.map(decode, [pairs[index::CORES] for index in range(CORES)]))
            moments = sum((moments for _, moments in decoded), Moments.zero())
            normalizer = Normalizer(moments.normalization, args.image_encoding)
            paths = [Path(folder) / f"{index}.tfrecord" for index in range(CORES)]
            list(pool.map(write, paths, [samples for samples, _ in decoded], [normalizer] * CORES))
        return time.perf_counter() - start


def run_notebook(source: Path, args: argparse.Namespace) -> float:
    """Seconds of what a notebook does; the import of TensorFlow is not counted."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from beam_pipelines.contract.labels import BUILTIN_TABLES

    height, width = map(int, args.image_size.split("x"))
    train_ids = BUILTIN_TABLES["cityscapes19"]().train_id_of

    def load(path: Path) -> Any:
        return np.asarray(Image.open(path).resize((width, height), Image.Resampling.BOX), np.float32) / 255

    def feature(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    images = sorted(source.glob("leftImg8bit/*/*/*.png"))
    masks = [
        Path(str(path).replace("leftImg8bit/", "gtFine/").replace("_leftImg8bit", "_gtFine_labelIds"))
        for path in images
    ]
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        start = time.perf_counter()
        total, squares = np.zeros(3), np.zeros(3)
        for path in images:
            image = load(path)
            total += image.mean((0, 1))
            squares += (image**2).mean((0, 1))
        mean = total / len(images)
        std = np.sqrt(squares / len(images) - mean**2)
        with tf.io.TFRecordWriter(f"{folder}/train.tfrecord") as writer:
            for image_path, mask_path in zip(images, masks, strict=True):
                image = ((load(image_path) - mean) / std).astype(np.float32)
                ids = np.asarray(Image.open(mask_path).resize((width, height), Image.Resampling.NEAREST))
                mask = train_ids[ids].astype(np.uint8)
                features = {"image": feature(image.tobytes()), "mask": feature(mask.tobytes())}
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
        return time.perf_counter() - start


def summary(rounds: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds. `ratio` is the pipeline's speed over the reference's."""
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    seconds, reference = median["pipeline_seconds"], median["reference_seconds"]
    return {
        "pairs": args.pairs,
        "image_size": args.image_size,
        "image_encoding": args.image_encoding,
        "runner": args.runner,
        "cores": CORES,
        "against": args.against,
        "ratio": round(reference / seconds, 3),
        "pipeline_img_per_s": round(args.pairs / seconds, 1),
        "reference_img_per_s": round(args.pairs / reference, 1),
        "pipeline_seconds": [round(each["pipeline_seconds"], 2) for each in rounds],
        "reference_seconds": [round(each["reference_seconds"], 2) for each in rounds],
        "fixed_seconds": round(median["fixed_seconds"], 2),
        "peak_rss_mb": round(median["peak_rss_mb"]),
        "transform_fn_peak_rss_mb": round(median["transform_fn_peak_rss_mb"]),
        "dataset_mb": round(median["bytes"] / 1e6),
    }


if __name__ == "__main__":
    main()
