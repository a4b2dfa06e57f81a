"""The description of a data set in Croissant 1.1: shards with their checksums, classes, and the source pictures.

Properties and types: "Croissant Format Specification", version 1.1 (mlcommons/croissant, docs/croissant-spec-1.1.md).
What the manifest does not know, such as license, creator and citation, is left out. No record set describes the
examples, since Croissant has no way to extract fields of TFRecord files. `sha256` is schema.org's and not Croissant's:
it has no term of its own in the context.

The source pictures are outside the data set, in a folder that whoever reads them names: no path of this machine is
told, and a data set that is moved stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from beam_pipelines.contract import readable_json
from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.labels.table import Color, Label
from beam_pipelines.contract.manifest import Manifest, Shard
from beam_pipelines.metadata.source_patterns import Names, SourceFolder, SplitPatterns, find_patterns, regex_of
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
    "color": ("sc:Text", lambda row: _hexadecimal(row.color) if row.color else ""),
    "source_ids": ("sc:Integer", lambda row: [*row.source_ids]),
    "mask_colors": ("sc:Text", lambda row: [*map(_hexadecimal, row.colors_in_masks)]),
}
_LISTS = ("source_ids", "mask_colors")  # what masks of the source pictures hold
SOURCE = "source"
_HOW = (
    f"The record sets *_pairs read the source pictures from the folder {SOURCE} beside this file, or from one that the "
    "reader maps to it."
)
# `git+https` is what mlcroissant calls a folder that it reads file by file; no other format takes a folder.
_FOLDER_FORMATS = ["inode/directory", "git+https"]


def obstacle(manifest: Manifest) -> None:
    """Every data set can be described."""


def texts(manifest: Manifest, plan: str | None = None) -> dict[str, str]:
    """File name -> its text. `plan` is the path of the plan that the data set keeps.

    Raises:
      BuildError: the plan is damaged.
    """
    return {FILE_NAME: f"{readable_json.render(_dataset(manifest, find_patterns(manifest, plan)))}\n"}


def _dataset(manifest: Manifest, source: SourceFolder | str) -> dict[str, Any]:
    files, record_sets, note = [*_shards(manifest)], [_classes(manifest)], _HOW
    if isinstance(source, SourceFolder):
        files += _files_of(source)
        record_sets += _record_sets(manifest, source)
    else:
        note = f"No record set reads the source pictures: {source}."
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name_of(manifest),
        "description": f"{description_of(manifest)}. {note}",
        "version": VERSION,
        "distribution": files,
        "recordSet": record_sets,
    }


def _shards(manifest: Manifest) -> Iterator[dict[str, str]]:
    for split, shards in manifest.splits.items():
        yield from (_file(split, shard) for shard in shards)


def _file(split: str, shard: Shard) -> dict[str, str]:
    return {
        "@type": "cr:FileObject",
        "@id": _identity(shard.file),
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
            _field(f"{CLASSES}/{name}", kind, **({"isArray": True, "arrayShape": "-1"} if name in _LISTS else {}))
            for name, (kind, _) in _FIELDS.items()
        ],
        "data": [_record(row) for row in manifest.labels.classes],
    }


def _record(row: Label) -> dict[str, Any]:
    return {f"{CLASSES}/{name}": value(row) for name, (_, value) in _FIELDS.items()}


def _identity(name: str) -> str:
    """`name` as a part of an `@id`: mlcroissant refuses white space in it, and JSON-LD what no IRI has."""
    plain = re.sub(r"[^\w.-]", "_", name)
    return name if plain == name else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _hexadecimal(color: Color) -> str:
    return f"#{bytes(color).hex()}"


def _field(identity: str, kind: str, **properties: Any) -> dict[str, Any]:
    name = identity.rpartition("/")[2]
    return {"@type": "cr:Field", "@id": identity, "name": name, "dataType": kind, **properties}


def _files_of(source: SourceFolder) -> Iterator[dict[str, Any]]:
    """The folder of the source pictures, and the images and masks of each split in it."""
    yield {
        "@type": "cr:FileObject",
        "@id": SOURCE,
        "name": SOURCE,
        "description": "The folder of the source pictures. It is no part of the data set; its checksum is that of the "
        "lines IMAGE, a zero byte, MASK with the names of all pairs below it, in the order of the shards",
        "contentUrl": SOURCE,
        "encodingFormat": _FOLDER_FORMATS,
        "sha256": source.sha256,
    }
    for split in source.splits:
        identity = _identity(split.split)
        yield _file_set(f"{identity}_image_files", split.types, split.images)
        yield _file_set(f"{identity}_mask_files", ("image/png",), split.masks)


def _file_set(identity: str, types: Sequence[str], patterns: Sequence[Names]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": identity,
        "name": identity,
        "containedIn": {"@id": SOURCE},
        "encodingFormat": [*types],
        "includes": [glob for names in patterns for glob in names.includes],
    }


def _record_sets(manifest: Manifest, source: SourceFolder) -> Iterator[dict[str, Any]]:
    """Of each split, its images, its masks, and its pairs: mlcroissant joins two record sets, and no more."""
    rejected = sum(manifest.rejected.values())
    left_out = f", with those of the {rejected} rejected pairs that are in it" if rejected else ""
    for split in source.splits:
        identity = _identity(split.split)
        of_images = f"The images of the split {split.split}"
        of_masks = (
            f"The masks of the split {split.split}, in RGB as mlcroissant reads them: what they show is not a train id "
            f"but one of the {_LISTS[0]} of {CLASSES} in each channel, or one of its {_LISTS[1]}"
        )
        yield _pictures(f"{identity}_images", "image", f"{identity}_image_files", split.images, of_images)
        yield _pictures(f"{identity}_masks", "mask", f"{identity}_mask_files", split.masks, of_masks)
        yield _pairs(split, f"The source pictures of the split {split.split}{left_out}. mlcroissant joins in memory")


def _pictures(identity: str, what: str, files: str, patterns: Sequence[Names], description: str) -> dict[str, Any]:
    """A record for each file, with its key and its name below the folder."""
    source, key = {"fileSet": {"@id": files}}, {"transform": {"regex": regex_of(patterns)}}
    path, content = ({"extract": {"fileProperty": name}} for name in ("fullpath", "content"))
    return {
        "@type": "cr:RecordSet",
        "@id": identity,
        "name": identity,
        "description": description,
        "key": {"@id": f"{identity}/key"},
        "field": [
            _field(f"{identity}/key", "sc:Text", source={**source, **path, **key}),
            _field(f"{identity}/filename", "sc:Text", source={**source, **path}),
            _field(f"{identity}/{what}", "sc:ImageObject", source={**source, **content}),
        ],
    }


def _pairs(patterns: SplitPatterns, description: str) -> dict[str, Any]:
    """The join of images and masks by their keys: a mask for each record, since folders may hold other images."""
    split = _identity(patterns.split)
    identity = f"{split}_pairs"
    # `value` is a term of Croissant in its specification, and mlcroissant 1.1 looks for schema.org's.
    of_split = {"value": patterns.split, "sc:value": patterns.split}
    key = {"source": _of(f"{split}_masks/key"), "references": _of(f"{split}_images/key")}
    return {
        "@type": "cr:RecordSet",
        "@id": identity,
        "name": identity,
        "description": description,
        "key": {"@id": f"{identity}/key"},
        "field": [
            _field(f"{identity}/split", "sc:Text", **of_split),
            _field(f"{identity}/key", "sc:Text", **key),
            _field(f"{identity}/filename", "sc:Text", source=_of(f"{split}_images/filename")),
            _field(f"{identity}/image", "sc:ImageObject", source=_of(f"{split}_images/image")),
            _field(f"{identity}/mask", "sc:ImageObject", source=_of(f"{split}_masks/mask")),
        ],
    }


def _of(field: str) -> dict[str, Any]:
    return {"field": {"@id": field}}
