"""What a notebook does by hand: Pillow into float arrays, a second decode, one tf.io.TFRecordWriter; float32."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.benchmarks.references import Stopwatch, Taken, cityscapes_pairs


def build(source: Path, size: tuple[int, int], encoding: str, scratch: Path) -> Taken:
    height, width = size
    train_ids = BUILTIN_TABLES["cityscapes19"]().train_id_of

    def load(path: Path) -> Any:
        return np.asarray(Image.open(path).resize((width, height), Image.Resampling.BOX), np.float32) / 255

    def feature(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    pairs = cityscapes_pairs(source)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        watch = Stopwatch()
        total, squares = np.zeros(3), np.zeros(3)
        for path, _ in pairs:
            image = load(path)
            total += image.mean((0, 1))
            squares += (image**2).mean((0, 1))
        mean = total / len(pairs)
        std = np.sqrt(squares / len(pairs) - mean**2)
        with tf.io.TFRecordWriter(f"{folder}/train.tfrecord") as writer:
            for image_path, mask_path in pairs:
                image = ((load(image_path) - mean) / std).astype(np.float32)
                ids = np.asarray(Image.open(mask_path).resize((width, height), Image.Resampling.NEAREST))
                mask = train_ids[ids].astype(np.uint8)
                features = {"image": feature(image.tobytes()), "mask": feature(mask.tobytes())}
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
        return watch.taken()
