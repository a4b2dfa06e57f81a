"""The files by which TensorFlow Datasets reads a data set without this package.

    builder = tfds.builder_from_directory("data")
    dataset = builder.as_dataset(split="train[:3]", as_supervised=True)          # (image, mask)

They are JSON of the messages `DatasetInfo` and `Feature` of TensorFlow Datasets 4
(tensorflow_datasets/core/proto/dataset_info.proto and feature.proto), written here from the manifest alone, so that a
build needs no such library. A field of our records is a feature of the same flat name, `image/encoded`: only names
without levels can be the supervised keys. The names of the classes are in a file of their own, where
`features.LabeledImage` looks for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from beam_pipelines.contract import readable_json
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import Manifest, Shard
from beam_pipelines.contract.pixel import CHANNELS
from beam_pipelines.contract.record import RAW_DTYPES
from beam_pipelines.metadata.title import VERSION, description_of, name_of

INFO = "dataset_info.json"
FEATURES = "features.json"
IMAGE, MASK, FILENAME = "image/encoded", "image/segmentation/class/encoded", "image/filename"
CLASS_NAMES = f"{MASK.replace('/', '.')}.labels.txt"
NAMES = (INFO, FEATURES, CLASS_NAMES)
_TEMPLATE = "{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}"
_UPDATED = "{SPLIT}-{SHARD_INDEX}-of-COUNT.{FILEFORMAT}"
_NAME = re.compile(r"(?P<split>.*)-(?P<index>\d{5,})-of-(?P<count>\d{5,})\.tfrecord")
_CONNECTORS = "tensorflow_datasets.core.features"
_DOCUMENTED = "description"


def obstacle(manifest: Manifest) -> str | None:
    """Why TensorFlow Datasets can't read this data set; None if it can."""
    pixels = manifest.pixels
    raw = RAW_DTYPES.keys() & {pixels.image_format, pixels.mask_format}
    if raw and pixels.height is None and pixels.width is None:
        return f"it reads records of {min(raw)} only if they have one height or one width, and these have several"
    for split, shards in manifest.splits.items():
        if _places(split, shards) is None:
            return f"it would look for the {len(shards):,} shards of {split} under other names"
    return None


def texts(manifest: Manifest) -> dict[str, str]:
    """File name -> its text. `obstacle` must be None."""
    files = {INFO: _info(manifest), FEATURES: _features(manifest)}
    found = {name: f"{readable_json.render(value)}\n" for name, value in files.items()}
    if manifest.pixels.mask_format == "png" and (names := _class_names(manifest)):
        found[CLASS_NAMES] = names
    return found


def _info(manifest: Manifest) -> dict[str, Any]:
    """A `DatasetInfo`."""
    return {
        "name": name_of(manifest),
        _DOCUMENTED: description_of(manifest),
        "version": VERSION,
        "splits": [_split(name, shards) for name, shards in manifest.splits.items()],
        "supervisedKeys": {"input": IMAGE, "output": MASK},
        "fileFormat": "tfrecord",
    }


def _split(name: str, shards: tuple[Shard, ...]) -> dict[str, Any]:
    """A `SplitInfo`. An update has shards beyond those that it replaced: a number without a shard has no examples, and
    the count in the names is not that of the shards.
    """
    places, count = _places(name, shards) or ({}, "")
    lengths = [places.get(index, 0) for index in range(max(places, default=-1) + 1)]
    return {
        "name": name,
        "shardLengths": lengths,
        "numBytes": sum(shard.bytes for shard in shards),
        "filepathTemplate": _TEMPLATE if len(lengths) == int(count or 0) else _UPDATED.replace("COUNT", count),
    }


def _places(split: str, shards: tuple[Shard, ...]) -> tuple[dict[int, int], str] | None:
    """-> number in the name of a shard -> its examples, and the count that all names have; None for other names.

    The names are those of `ShardedFileTemplate` (tensorflow_datasets/core/naming.py).
    """
    found = [_NAME.fullmatch(shard.file) for shard in shards]
    counts = {each["count"] for each in found if each and each["split"] == split}
    if not all(found) or len(counts) > 1 or (shards and not counts):
        return None
    numbers = [int(each["index"]) for each in found if each and each["split"] == split]
    examples = [shard.examples for shard in shards]
    return dict(zip(numbers, examples, strict=True)), counts.pop() if counts else ""


def _features(manifest: Manifest) -> dict[str, Any]:
    """A `Feature` that holds those of the record's fields."""
    features = {IMAGE: _image(manifest), FILENAME: _feature("text_feature.Text", {"text": {}}), MASK: _mask(manifest)}
    return _feature("features_dict.FeaturesDict", {"featuresDict": {"features": features}})


def _image(manifest: Manifest) -> dict[str, Any]:
    pixels = manifest.pixels
    told = {_DOCUMENTED: "RGB, 0 to 255"}
    if pixels.normalized:
        by = manifest.moments.normalization
        told = {_DOCUMENTED: f"RGB, (pixel / 255 - mean) / std with mean {[*by.mean]} and std {[*by.std]}"}
    shape = _shape(manifest, CHANNELS)
    if pixels.image_format == "png":
        return _feature("image_feature.Image", told | {"image": _png(shape)})
    return _tensor(told, pixels.image_format, shape)


def _mask(manifest: Manifest) -> dict[str, Any]:
    classes = ", ".join(f"{row.train_id} {row.name}" for row in manifest.labels.classes)
    told = {_DOCUMENTED: f"train ids: {classes}; {IGNORE} belongs to no class"}
    shape = _shape(manifest, 1)
    if manifest.pixels.mask_format != "png":
        return _tensor(told, manifest.pixels.mask_format, shape)
    image = {**_png(shape), "useColormap": True, "label": {"numClasses": manifest.labels.num_classes}}
    return _feature("labeled_image.LabeledImage", told | {"image": image})


def _feature(connector: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": f"{_CONNECTORS}.{connector}", **content}


def _tensor(told: Mapping[str, Any], pixel_format: str, shape: dict[str, Any]) -> dict[str, Any]:
    tensor = {"shape": shape, "dtype": RAW_DTYPES[pixel_format], "encoding": "bytes"}
    return _feature("tensor_feature.Tensor", {**told, "tensor": tensor})


def _png(shape: dict[str, Any]) -> dict[str, Any]:
    return {"shape": shape, "dtype": "uint8", "encodingFormat": "png"}


def _shape(manifest: Manifest, channels: int) -> dict[str, Any]:
    """-1 is a size that differs from record to record."""
    sizes = (manifest.pixels.height, manifest.pixels.width)
    return {"dimensions": [*(-1 if size is None else size for size in sizes), channels]}


def _class_names(manifest: Manifest) -> str | None:
    """A line for each class; None if a name is not a line as it is read: the classes then have numbers only."""
    text = "".join(f"{row.name}\n" for row in manifest.labels.classes)
    read = [line.strip() for line in text.split("\n") if line.strip()]
    return text if read == [row.name for row in manifest.labels.classes] else None
