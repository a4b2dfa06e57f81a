"""The description of a data set in Croissant 1.1: its shards with their checksums, and the classes.

Properties and types: "Croissant Format Specification", version 1.1 (mlcommons/croissant, docs/croissant-spec-1.1.md).
What the manifest does not know, such as license, creator and citation, is left out. No record set describes the
examples, since Croissant has no way to extract fields of TFRecord files. `sha256` is schema.org's and not Croissant's:
it has no term of its own in the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beam_pipelines.contract import readable_json
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.labels.table import Label
from beam_pipelines.contract.manifest import Manifest, Shard
from beam_pipelines.metadata.title import VERSION, description_of, name_of

FILE_NAME = "croissant.json"
NAMES = (FILE_NAME,)
CLASSES = "classes"
_TFRECORD = "https://www.tensorflow.org/tutorials/load_data/tfrecord"  # it has no media type
# The context of the specification's appendix 1, with the terms that mlcroissant asks for; each is Croissant's own.
_TERMS = (
    *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract"),
    *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value"),
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
# Field of a class -> its type and its value.
_FIELDS = {
    "train_id": ("sc:Integer", lambda row: row.train_id),
    "name": ("sc:Text", lambda row: row.name),
    "category": ("sc:Text", lambda row: row.category),
    "color": ("sc:Text", lambda row: f"#{bytes(row.color).hex()}" if row.color else ""),
}


def obstacle(manifest: Manifest) -> None:
    """Every data set can be described."""


def texts(manifest: Manifest) -> dict[str, str]:
    """File name -> its text."""
    return {FILE_NAME: f"{readable_json.render(_dataset(manifest))}\n"}


def _dataset(manifest: Manifest) -> dict[str, Any]:
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name_of(manifest),
        "description": description_of(manifest),
        "version": VERSION,
        "distribution": [*_shards(manifest)],
        "recordSet": [_classes(manifest)],
    }


def _shards(manifest: Manifest) -> Iterator[dict[str, str]]:
    for split, shards in manifest.splits.items():
        yield from (_file(split, shard) for shard in shards)


def _file(split: str, shard: Shard) -> dict[str, str]:
    return {
        "@type": "cr:FileObject",
        "@id": shard.file,
        "name": shard.file,
        "description": f"{shard.examples} examples of the split {split}",
        "contentUrl": shard.file,
        "contentSize": f"{shard.bytes} B",
        "encodingFormat": _TFRECORD,
        "sha256": shard.sha256,
    }


def _classes(manifest: Manifest) -> dict[str, Any]:
    """The enumeration of the values that masks hold."""
    return {
        "@type": "cr:RecordSet",
        "@id": CLASSES,
        "name": CLASSES,
        "description": f"The classes by the train ids in masks; {IGNORE} belongs to no class",
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{CLASSES}/train_id"},
        "field": [
            {"@type": "cr:Field", "@id": f"{CLASSES}/{name}", "name": name, "dataType": kind}
            for name, (kind, _) in _FIELDS.items()
        ],
        "data": [_record(row) for row in manifest.labels.classes],
    }


def _record(row: Label) -> dict[str, Any]:
    return {f"{CLASSES}/{name}": value(row) for name, (_, value) in _FIELDS.items()}
