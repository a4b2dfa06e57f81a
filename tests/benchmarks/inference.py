"""What evaluation and prediction take beside bare loops over the same images; prints a table.

    python tests/benchmarks/inference.py --rounds 5
    python tests/benchmarks/inference.py --model out/run --image_size 128x256 --source ../shared/data/camvid

The pipeline builds the embedded scenes, or the images of `--source`. Each way runs once before the first round,
and all take turns in every round:
  evaluate   the evaluator: the confusion of each image, boundaries, confidence and suspected labels
  bare       a loop of tf.data, the same compiled model, and one confusion matrix
  predict    `trainer.predict`, from image files to ids, colors and overlays; it also loads and traces the model
  bare       a loop of Pillow, the same compiled model, and the same files
Figures are medians over the rounds, of wall time and of the CPU time of all threads, for an image. A ratio is of two
ways in the same round: above 1, ours takes longer.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from trainer import models
from trainer.data.dataset import Split, open_split
from trainer.evaluation.evaluator import Evaluator
from trainer.inference.model_file import BEST, Description, load_model, save_model
from trainer.inference.prediction import predict
from trainer.inference.request import PredictSettings
from trainer.training.devices import make_strategy

PROJECT = Path(__file__).parent.parent.parent
Seconds = tuple[float, float]  # wall and CPU
RIVALS = {"evaluate": "bare evaluation", "predict": "bare prediction"}


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        split, pictures = build(Path(scratch), args)
        ways = ways_of(split, pictures, Path(scratch), args)
        for way in ways.values():
            way()
        rounds = [{name: time_one(way) for name, way in ways.items()} for _ in range(args.rounds)]
    images = {name: len(pictures) if "predict" in name else split.examples for name in ways}
    print(f"{split.examples} and {len(pictures)} images, TensorFlow {tf.__version__}, {os.cpu_count()} cores")
    print("way | wall, ms/image | CPU, ms/image | ratio of wall | ratio of CPU")
    for name in ways:
        figures = [1000 * statistics.median(each[name][kind] for each in rounds) / images[name] for kind in (0, 1)]
        print(" | ".join([name, *(f"{figure:.1f}" for figure in figures), *ratios(rounds, name)]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--image_size", default="128x256")
    parser.add_argument("--pictures", type=int, default=200, help="files to predict, copies of the images")
    parser.add_argument("--model", help="a trained model (default: U2-NetP with random weights)")
    parser.add_argument("--source", help="images and masks of the classes of --labels (default: the embedded scenes)")
    parser.add_argument("--labels", default="cityscapes7")
    parser.add_argument("--scratch", help="where to write (default: the system's temporary folder)")
    return parser.parse_args()


def build(scratch: Path, args: argparse.Namespace) -> tuple[Split, list[Path]]:
    """-> the validation split, and its images as PNG files of their stored size."""
    command = [sys.executable, "-m", "beam_pipelines.build", f"--output={scratch / 'data'}", f"--labels={args.labels}"]
    command += [f"--image_size={args.image_size}", "--image_encoding=png"]
    command += [f"--input={args.source}"] if args.source else []
    subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    split = open_split(str(scratch / "data"), "val")
    (scratch / "pictures").mkdir()
    paths = [scratch / "pictures" / f"{number:04}.png" for number in range(args.pictures)]
    for path, example in zip(paths, examples(split).repeat().as_numpy_iterator(), strict=False):
        Image.fromarray(example["image"]).save(path)
    return split, paths


def ways_of(
    split: Split, pictures: list[Path], scratch: Path, args: argparse.Namespace
) -> Mapping[str, Callable[[], object]]:
    """Name -> what runs once over all images."""
    if args.model:
        model, _ = load_model(args.model)
    else:
        model = models.build("u2netp", num_classes=split.manifest.labels.num_classes, options={})
    file = f"{scratch}/{BEST}"
    save_model(file, model, Description.of("u2netp", split.manifest))
    evaluator = Evaluator(model, split, batch=args.batch, strategy=make_strategy("one"))
    compiled = compiled_of(model, split)
    return {
        "evaluate": evaluator,
        "bare evaluation": functools.partial(evaluate_bare, compiled, split, args.batch),
        "predict": functools.partial(predict_ours, file, scratch),
        "bare prediction": functools.partial(predict_bare, compiled, split, pictures, scratch / "bare"),
    }


def examples(split: Split) -> tf.data.Dataset:
    """{image: RGB uint8[H, W, 3], mask: train ids uint8[H, W]}, as a reader writes it by hand."""
    features = {
        name: tf.io.FixedLenFeature([], tf.string) for name in ("image/encoded", "image/segmentation/class/encoded")
    }

    def parse_one(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.io.parse_single_example(serialized, features)
        image, mask = (tf.io.decode_png(found[name], channels) for name, channels in zip(features, (3, 1), strict=True))
        return {"image": image, "mask": mask[..., 0]}

    return tf.data.TFRecordDataset(split.paths()).map(parse_one, num_parallel_calls=os.cpu_count())


def compiled_of(model: keras.Model, split: Split) -> tf.types.experimental.PolymorphicFunction:
    """RGB uint8[B, H, W, 3] -> train ids int64[B, H, W]."""
    shift, factor = split.manifest.moments.normalization.shift_and_factor()

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)], autograph=False)
    def compiled(images: tf.Tensor) -> tf.Tensor:
        outputs = model((tf.cast(images, tf.float32) - shift) * factor, training=False)
        return tf.argmax(outputs[0] if isinstance(outputs, list) else outputs, -1)

    return compiled


def evaluate_bare(compiled: Callable[[tf.Tensor], tf.Tensor], split: Split, batch: int) -> np.ndarray:
    classes = split.manifest.labels.num_classes
    total = np.zeros((classes, classes), np.int64)
    for example in examples(split).batch(batch).prefetch(2):
        truth, shown = example["mask"].numpy().ravel(), compiled(example["image"]).numpy().ravel()
        valid = truth < classes
        cells = classes * truth[valid].astype(np.int64) + shown[valid]
        total += np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    return total


def predict_ours(file: str, scratch: Path) -> None:
    shutil.rmtree(scratch / "ours", ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        predict(PredictSettings(model=file, images=str(scratch / "pictures"), output=str(scratch / "ours")))


def predict_bare(compiled: Callable[[tf.Tensor], tf.Tensor], split: Split, pictures: list[Path], output: Path) -> None:
    palette = split.manifest.labels.palette
    for kind in ("ids", "colors", "overlays"):
        (output / kind).mkdir(parents=True, exist_ok=True)
    for path in pictures:
        image = np.asarray(Image.open(path).convert("RGB"))
        ids = compiled(image[np.newaxis])[0].numpy().astype(np.uint8)
        colored = Image.fromarray(ids)
        colored.save(output / "ids" / path.name)
        colored.putpalette(palette.tobytes())
        colored.save(output / "colors" / path.name)
        blended = Image.blend(Image.fromarray(image), Image.fromarray(palette[ids]), 0.5)
        blended.save(output / "overlays" / f"{path.stem}.jpg", quality=92, subsampling=0)


def time_one(way: Callable[[], object]) -> Seconds:
    start, cpu = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - start, time.process_time() - cpu


def ratios(rounds: list[dict[str, Seconds]], name: str) -> list[str]:
    """Of wall and CPU to those of the bare loop; nothing for the loop itself."""
    if name not in RIVALS:
        return ["", ""]
    rival = RIVALS[name]
    return [f"{statistics.median(each[name][kind] / each[rival][kind] for each in rounds):.2f}" for kind in (0, 1)]


if __name__ == "__main__":
    main()
