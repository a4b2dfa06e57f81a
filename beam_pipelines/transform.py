"""The tensorflow-transform output of a data set: `transform_fn/`, a graph that normalizes a raw image with exactly
the numbers of the shards, and `transformed_metadata/`.

    layer = tft.TFTransformOutput(dataset).transform_features_layer()
    layer({"image": tf.constant([png_bytes])})["image"]          # float32[1, height, width, 3], normalized

It is made from the histograms in `dataset.json`, so that its cost does not grow with the pixels, and no worker needs
TensorFlow for it. `import tensorflow_transform` makes `tf.keras` Keras 2 in its process: this module runs in one of
its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from beam_pipelines import storage
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.moments import CHANNELS, LEVELS, Moments
from beam_pipelines.measure import CombineMomentsFn
from beam_pipelines.workspace import TRANSFORM_FOLDERS, Workspace, read_manifest

_RAW = {
    "histogram": tf.io.FixedLenFeature([CHANNELS, LEVELS], tf.int64),
    "image": tf.io.FixedLenFeature([], tf.string),
}


class NormalizationTable(beam.PTransform):
    """Rows of histograms -> float32[3, 256], what each value becomes; by the pipeline's own CombineFn."""

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        moments = rows | beam.FlatMap(_moments_of_rows) | beam.CombineGlobally(CombineMomentsFn())
        return moments | beam.Map(lambda total: total.normalization_table().astype(np.float32))


def preprocessing_fn(height: int, width: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function of tensorflow-transform for images of the data set's size."""

    def preprocess(inputs: dict[str, Any]) -> dict[str, Any]:
        (table,) = tft.experimental.ptransform_analyzer(
            [inputs["histogram"]], NormalizationTable(), [tf.float32], [[CHANNELS, LEVELS]]
        )
        pixels = tf.map_fn(
            lambda encoded: _resized(encoded, height, width), inputs["image"], fn_output_signature=tf.int32
        )
        channels = [tf.gather(table[channel], pixels[..., channel]) for channel in range(CHANNELS)]
        return {"image": tf.ensure_shape(tf.stack(channels, -1), [None, height, width, CHANNELS])}

    return preprocess


def write_transform(manifest: Manifest, workspace: Workspace) -> None:
    """Writes the two folders beside the shards, whichever file system they are on."""
    height, width = manifest.pixels.height, manifest.pixels.width
    assert height is not None
    assert width is not None
    row = {"histogram": manifest.moments.histogram, "image": b""}
    metadata = tft.DatasetMetadata.from_feature_spec(_RAW)
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as scratch:
        with beam.Pipeline(runner="FnApiRunner") as pipeline, tft_beam.Context(temp_dir=scratch):
            rows = pipeline | beam.Create([row])
            analyzed = (rows, metadata) | tft_beam.AnalyzeDataset(preprocessing_fn(height, width))
            analyzed | tft_beam.WriteTransformFn(made)
        _copy(made, workspace)


def _moments_of_rows(batch: tuple[np.ndarray]) -> list[Moments]:
    return [Moments(histogram) for histogram in np.reshape(batch[0], (-1, CHANNELS, LEVELS))]


def _resized(encoded: Any, height: int, width: int) -> Any:
    """Encoded image -> int32[height, width, 3] of 0..255; rounded as the shards are, halves up."""
    image = tf.io.decode_image(encoded, channels=CHANNELS, expand_animations=False)
    resized = tf.image.resize(tf.ensure_shape(image, [None, None, CHANNELS]), (height, width), method="area")
    return tf.cast(tf.floor(resized + 0.5), tf.int32)


def _copy(made: str, workspace: Workspace) -> None:
    """TensorFlow writes to a local folder; the files are copied through Beam's file systems, the graph last."""
    for folder in reversed(TRANSFORM_FOLDERS):
        for name, _ in sorted(storage.list_files(os.path.join(made, folder))):
            with open(os.path.join(made, folder, name), "rb") as file:
                storage.write(storage.join(workspace.root, folder, name), file.read())


def main(root: str) -> None:
    """Writes the output of the published data set in the folder `root`."""
    workspace = Workspace(root)
    manifest = read_manifest(workspace)
    assert manifest is not None, root
    write_transform(manifest, workspace)


if __name__ == "__main__":
    # Beam pickles what is defined here: it must be found in this module, not in __main__.
    from beam_pipelines.transform import main as run

    run(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # all is written; TensorFlow's own way out takes its time, and can crash on it
