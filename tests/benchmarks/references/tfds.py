"""A builder of TensorFlow Datasets, as its users write one: Pillow decodes and resizes, the library shuffles, encodes
and writes shards. It reads each picture once and does not normalize: its users do that while they train.

It has one thread, as generators of the library have; there is no download, and none is looked for.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow  # noqa: F401 (or the library imports it while it is watched)
import tensorflow_datasets as tfds
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.benchmarks.references import Stopwatch, Taken, cityscapes_pairs

TABLE = BUILTIN_TABLES["cityscapes19"]()


def build(source: Path, size: tuple[int, int], encoding: str, scratch: Path) -> Taken:
    tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        watch = Stopwatch()
        prepare(source, size, encoding, Path(folder))
        return watch.taken()


def prepare(source: Path, size: tuple[int, int], encoding: str, folder: Path) -> StreetScenes:
    """The builder, whose data set is there, below `folder`."""
    config = Resized(name=encoding, source=str(source), size=size, encoding=encoding)
    builder = StreetScenes(config=config, data_dir=str(folder))
    builder.download_and_prepare()
    return builder


@dataclasses.dataclass
class Resized(tfds.core.BuilderConfig):
    """The pictures of a Cityscapes tree, with images of float32 in 0 to 1, or as PNG.

    Floats are stored as bytes, which takes the library less time than its default, lists.
    """

    source: str = ""
    size: tuple[int, int] = (0, 0)  # height, width
    encoding: str = "png"


class StreetScenes(tfds.core.GeneratorBasedBuilder):
    """Images and masks of train ids."""

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. To look for checksums, the library imports importlib_resources, which it does not require.
    url_infos: dict[str, Any] | None = None

    def _info(self) -> Any:
        shape = (*self.builder_config.size, 3)
        image = {
            "png": tfds.features.Image(shape=shape, encoding_format="png"),
            "float32": tfds.features.Tensor(shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.BYTES),
        }[self.builder_config.encoding]
        names = [row.name for row in TABLE.classes]
        mask = tfds.features.LabeledImage(labels=names, shape=(*shape[:2], 1), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, "segmentation": mask, "filename": np.str_})
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples(Path(self.builder_config.source))}

    def _generate_examples(self, source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        height, width = self.builder_config.size
        for image_path, mask_path in cityscapes_pairs(source):
            picture = Image.open(image_path).convert("RGB").resize((width, height), Image.Resampling.BOX)
            image = np.asarray(picture)
            if self.builder_config.encoding == "float32":
                image = image.astype(np.float32) / 255
            ids = np.asarray(Image.open(mask_path).resize((width, height), Image.Resampling.NEAREST))
            mask = TABLE.train_id_of[ids][..., np.newaxis].astype(np.uint8)
            yield image_path.stem, {"image": image, "segmentation": mask, "filename": image_path.name}
