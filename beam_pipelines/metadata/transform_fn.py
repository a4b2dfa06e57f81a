"""The tensorflow-transform output of a data set: `transform_fn/`, a graph that normalizes a raw image with exactly
the numbers of the shards, and `transformed_metadata/`.

    layer = tft.TFTransformOutput(dataset).transform_features_layer()
    layer({"image": tf.constant([png_bytes])})["image"]          # float32[1, height, width, 3], normalized

It is made from the histograms in `dataset.json`, so that its cost does not grow with the pixels, and no worker needs
TensorFlow for it. `import tensorflow_transform` makes `tf.keras` Keras 2 in its process: this module runs in one of
its own.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

gc.disable()  # a fifth of this short process's time would go into looking for garbage among imported modules
if __name__ == "__main__" and len(sys.argv) > 2:
    from beam_pipelines.stopping import end_with_parent

    end_with_parent(int(sys.argv[2]))  # before TensorFlow, which takes seconds to import
    # TensorFlow imports Keras, and Keras imports matplotlib, if it can, for plots: a tenth of this process's time.
    sys.modules["matplotlib"] = None  # type: ignore[assignment]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import google_crc32c
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.picture_graph import decode_picture
from beam_pipelines.contract.pixel import CHANNELS, LEVELS
from beam_pipelines.contract.seal import sealed
from beam_pipelines.files import storage
from beam_pipelines.files.names import TRANSFORM_FILES, TRANSFORM_FOLDERS
from beam_pipelines.files.workspace import Workspace, read_manifest
from beam_pipelines.pixels.conform import ASPECT_TOLERANCE
from beam_pipelines.pixels.filters import FILTERS
from beam_pipelines.pixels.measure import CombineMomentsFn
from beam_pipelines.shards import ownership

# Float32 sums of a block can end up below the half that they are; means of up to 500 pixels differ by more than this.
_HALF = 0.5 + 1e-3
_RAW = {
    "histogram": tf.io.FixedLenFeature([CHANNELS, LEVELS], tf.int64),
    "image": tf.io.FixedLenFeature([], tf.string),
}


class NormalizationTable(beam.PTransform):
    """Rows of histograms -> float32[3, 256], what each value becomes; by the pipeline's own CombineFn."""

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        moments = rows | beam.FlatMap(_moments_of_rows) | beam.CombineGlobally(CombineMomentsFn())
        return moments | beam.Map(lambda total: total.normalization.table().astype(np.float32))


def preprocessing_fn(
    height: int, width: int, resize: str, aspect: str, max_pixels: int
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function of tensorflow-transform for a data set of one image size; `resize` and `aspect` as in its recipe."""

    def preprocess(inputs: dict[str, Any]) -> dict[str, Any]:
        (table,) = tft.experimental.ptransform_analyzer(
            [inputs["histogram"]], NormalizationTable(), [tf.float32], [[CHANNELS, LEVELS]]
        )
        if tf.get_static_value(table) is None:  # while it is analyzed, for which no pixel is needed
            pixels = tf.zeros([tf.size(inputs["image"]), height, width, CHANNELS], tf.int32)
        else:
            pixels = _pixels(height, width, resize, aspect, max_pixels)(inputs["image"])
        channels = [tf.gather(table[channel], pixels[..., channel]) for channel in range(CHANNELS)]
        return {"image": tf.ensure_shape(tf.stack(channels, -1), [None, height, width, CHANNELS])}

    return preprocess


@functools.cache
def _pixels(height: int, width: int, resize: str, aspect: str, max_pixels: int) -> Callable[[Any], Any]:
    """string[B] -> int32[B, height, width, 3], a function: tensorflow-transform traces what calls it five times."""

    def pixels_of(encoded: Any) -> Any:
        return _conformed(decode_picture(encoded, max_pixels=max_pixels), (height, width), resize, aspect)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def pixels(images: Any) -> Any:
        return tf.map_fn(pixels_of, images, fn_output_signature=tf.int32)

    return pixels  # type: ignore[no-any-return]


def write_transform(manifest: Manifest, workspace: Workspace) -> None:
    """Writes the two folders beside the shards, whichever file system they are on."""
    height, width = manifest.pixels.height, manifest.pixels.width
    assert height is not None
    assert width is not None
    row = {"histogram": manifest.moments.histogram, "image": _pixel()}
    metadata = tft.DatasetMetadata.from_feature_spec(_RAW)
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as scratch:
        with beam.Pipeline(runner="FnApiRunner") as pipeline, tft_beam.Context(temp_dir=scratch):
            rows = pipeline | beam.Create([row])
            recipe = manifest.recipe
            preprocess = preprocessing_fn(height, width, recipe["resize"], recipe["aspect"], recipe["max_image_pixels"])
            analyzed = (rows, metadata) | tft_beam.AnalyzeDataset(preprocess)
            analyzed | tft_beam.WriteTransformFn(made)
        _copy(made, workspace)


def _moments_of_rows(batch: tuple[np.ndarray]) -> list[Moments]:
    return [Moments(histogram) for histogram in np.reshape(batch[0], (-1, CHANNELS, LEVELS))]


def _pixel() -> bytes:
    """A picture for the row that is analyzed, on which the graph's assertions are run."""
    encoded: bytes = tf.io.encode_png(np.zeros((1, 1, CHANNELS), np.uint8)).numpy()
    return encoded


def _conformed(image: Any, size: tuple[int, int], resize: str, aspect: str) -> Any:
    """What conform.py does to an image, in TensorFlow -> int32[height, width, 3] of 0..255, halves rounded up.

    A graph can't reject: with aspect `reject` a picture of another shape is stretched.
    """
    height, width = (tf.cast(tf.shape(image)[axis], tf.float64) for axis in (0, 1))
    ratio = (width * size[0]) / (height * size[1])  # above 1: the picture is wider than the target
    other_shape = tf.abs(ratio - 1) > ASPECT_TOLERANCE
    wider, taller = tf.where(other_shape, tf.maximum(ratio, 1), 1), tf.where(other_shape, tf.minimum(ratio, 1), 1)
    if aspect == "crop":
        image = _middle(image, _whole(height * taller), _whole(width / wider))
    inner = (_whole(size[0] / wider), _whole(size[1] * taller)) if aspect == "pad" else size
    resized = _resized(image, tf.stack(inner), resize)
    pixels = tf.cast(tf.clip_by_value(tf.floor(resized + _HALF), 0, LEVELS - 1), tf.int32)
    return tf.ensure_shape(_edge_padded(pixels, size), [*size, CHANNELS])


def _resized(image: Any, size: Any, resize: str) -> Any:
    """uint8[h, w, 3] -> float32[*size, 3]. TensorFlow's own "area" weighs the pixels at the edge of a block, and is off
    by tens of levels where the factor is not whole: the box filter is the same as Pillow's.
    """
    if resize != "area":
        return tf.image.resize(image, size, method=FILTERS[resize].tensorflow, antialias=True)
    shape = tf.shape(image)[:2]

    def means() -> Any:
        pixels = tf.raw_ops.ScaleAndTranslate(
            images=tf.cast(image[tf.newaxis], tf.float32),
            size=size,
            scale=tf.cast(size, tf.float32) / tf.cast(shape, tf.float32),
            translation=tf.zeros([2]),
            kernel_type=FILTERS[resize].tensorflow,
            antialias=True,
        )
        return pixels[0]

    return tf.cond(tf.reduce_any(shape < size), lambda: tf.image.resize(image, size, antialias=True), means)


def _middle(image: Any, height: Any, width: Any) -> Any:
    """Cut by hand: the assertions in TensorFlow's own crop would be run on the analyzed row, which has one pixel."""
    top, left = (tf.shape(image)[0] - height) // 2, (tf.shape(image)[1] - width) // 2
    return image[top : top + height, left : left + width]


def _edge_padded(pixels: Any, size: tuple[int, int]) -> Any:
    """The picture in the middle of `size`, its edge repeated around it."""
    for axis in (0, 1):
        inner = tf.shape(pixels)[axis]
        places = tf.range(size[axis]) - (size[axis] - inner) // 2
        pixels = tf.gather(pixels, tf.clip_by_value(places, 0, inner - 1), axis=axis)
    return pixels


def _whole(length: Any) -> Any:
    return tf.maximum(1, tf.cast(tf.round(length), tf.int32))


def _copy(made: str, workspace: Workspace) -> None:
    """TensorFlow writes to a local folder; the files are copied through Beam's file systems, the graph
    and then the list of them last.
    """
    names = [f"{folder}/{name}" for folder in TRANSFORM_FOLDERS for name, _ in storage.list_files(f"{made}/{folder}")]
    files = {name: Path(made, name).read_bytes() for name in names}
    ownership.refuse_foreign_transform(workspace, files)
    ownership.add_to_journal(workspace, [*names, TRANSFORM_FILES])
    graph, states = workspace.transform_graph, {}
    for name in sorted(names, key=lambda name: (storage.join(workspace.root, name) == graph, name)):
        workspace.write(storage.join(workspace.root, name), files[name])
        states[name] = (len(files[name]), google_crc32c.value(files[name]))
    workspace.write(workspace.transform_files, sealed(json.dumps(states)))


def main(root: str, token: str = "") -> None:
    """Writes the output of the published data set in the folder `root`, for the build that has the `token`."""
    workspace = Workspace(root, token)
    manifest = read_manifest(workspace)
    assert manifest is not None, root
    write_transform(manifest, workspace)


if __name__ == "__main__":
    # Beam pickles what is defined here: it must be found in this module, not in __main__.
    from beam_pipelines.metadata.transform_fn import main as run

    if len(sys.argv) <= 2 or sys.stdin.readline():  # nothing comes if there is no data set in the end
        run(sys.argv[1], *sys.argv[3:])
    sys.stdout.flush()
    os._exit(0)  # all is written; TensorFlow's own way out takes its time, and can crash on it
