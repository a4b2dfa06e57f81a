"""What is tortured: each reader with sound files, a way to damage them, and the errors that it may raise."""

from __future__ import annotations

import io
import itertools
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.torture import mutations
from tests.torture.models import MODELS
from tests.torture.reader import Reader
from tests.torture.trained import OF_RUNS

GOLDEN = Path(__file__).parents[1] / "golden"
MAX_PIXELS = 10_000


def manifest() -> Reader:
    from beam_pipelines.contract.manifest import Manifest, ManifestError

    def read(data: bytes, _: Path) -> str:
        return Manifest.from_json(data).to_json()

    return Reader([(GOLDEN / "dataset.json").read_bytes()], mutations.mutate_json, read, (ManifestError,))


def records() -> Reader:
    """A serialized Example, and what checks its pixels."""
    from beam_pipelines.contract import record

    def read(data: bytes, _: Path) -> record.Record:
        found = record.decode(data)
        record.check(found)
        return found

    return Reader([record.encode(each) for each in _records()], mutations.mutate, read, (record.RecordError,))


def tfrecords() -> Reader:
    from beam_pipelines.contract import record, tfrecord

    def read(data: bytes, _: Path) -> list[record.Record]:
        found = [record.decode(each) for each in tfrecord.read_records(io.BytesIO(data), "shard")]
        for each in found:
            record.check(each)
        return found

    serialized = [record.encode(each) for each in _records()]
    shard = b"".join(tfrecord.header_of(each) + each + tfrecord.footer_of(each) for each in serialized)
    refusals = (record.RecordError, tfrecord.CorruptRecordError)
    return Reader([shard], mutations.mutate_tfrecord, read, refusals)


def verified_records() -> Reader:
    """What `verify` does with a record; a problem that it lists is a refusal."""
    from beam_pipelines.contract import record, tfrecord
    from beam_pipelines.contract.manifest import Manifest
    from beam_pipelines.shards.record_check import RecordChecker

    checker = RecordChecker(Manifest.from_json((GOLDEN / "dataset.json").read_bytes()))

    def read(data: bytes, _: Path) -> bytes:
        problems, tally = checker.check(data)
        if problems:
            raise record.RecordError(problems[0])
        return tally.moments.histogram.tobytes() + tally.class_pixels.tobytes()

    with (GOLDEN / "raw_float32.tfrecord").open("rb") as file:
        samples = list(tfrecord.read_records(file, "golden"))
    return Reader(samples, mutations.mutate, read, (record.RecordError,))


def labels() -> Reader:
    from beam_pipelines.contract.labels import LabelTableError
    from beam_pipelines.inputs.label_files import load_labels

    text = """name: mine
classes:
  - {name: road, ids: [7, 8], color: [128, 64, 128], category: flat}
  - {name: car, ids: [26], color: null}
ignore: [0, {name: void, ids: [1, 2], color: [0, 0, 0]}]
"""
    samples = [text.encode(), text.replace("[0, {name: void, ids: [1, 2], color: [0, 0, 0]}]", "rest").encode()]
    samples += [
        b"nc: 2\nnames: {0: road, 1: car}\n",
        b'{"labels": [{"name": "a--b", "readable": "b", "color": [1, 2, 3], "evaluate": true}]}',
        b'{"#804080": "road", "#0000ff": "Car 1", "#0000c8": "Car 2"}',
    ]
    return Reader(samples, mutations.mutate, lambda data, path: load_labels(_written(data, path)), (LabelTableError,))


def label_lists() -> Reader:
    from beam_pipelines.contract.labels import LabelTableError
    from beam_pipelines.inputs.label_files.errors import FileError
    from beam_pipelines.inputs.label_files.forms import table_of

    def read(data: bytes, _: Path) -> object:
        text = data.decode("utf-8", "replace")
        return table_of(text, "mine", ".csv" if text.startswith("n") else ".txt")

    samples = [b"name,r,g,b\nroad,128,64,128\n", b"# label:color_rgb:parts:actions\nroad:128,64,128::\n"]
    return Reader(samples, mutations.mutate, read, (LabelTableError, FileError))


def region_files() -> Reader:
    """Files of COCO and CVAT, and what a worker draws of each image."""
    from beam_pipelines.errors import BuildError
    from beam_pipelines.inputs.coco import read_coco
    from beam_pipelines.inputs.cvat import read_cvat

    def read(data: bytes, _: Path) -> list[tuple[str, str, bytes]]:
        return list(read_cvat(io.BytesIO(data), "file") if b"<" in data[:2] else read_coco(data, "file"))

    cvat = """<annotations><image id="0" name="a.png" subset="Train" width="48" height="32">
<polygon label="car" points="0.0,0.0;20.0,0.0;20.0,20.0" z_order="0"></polygon>
<box label="sky" xtl="1" ytl="2" xbr="9" ybr="8" rotation="30"></box></image></annotations>"""
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 32, "width": 48}],
        "annotations": [{"image_id": 1, "category_id": 2, "segmentation": [[0, 0, 20, 0, 20, 20]]}],
        "categories": [{"id": 2, "name": "car"}],
    }
    return Reader([cvat.encode(), json.dumps(coco).encode()], mutations.mutate, read, (BuildError,))


def regions() -> Reader:
    """What a worker draws."""
    from beam_pipelines.contract.labels import LabelTable
    from beam_pipelines.pixels import polygons
    from beam_pipelines.rejects import BadInputError

    rows: list[dict[str, Any]] = [
        {"name": name, "source_ids": [], "train_id": number, "color": None, "category": ""}
        for number, name in enumerate(("car", "sky"))
    ]
    table = LabelTable.from_json({"name": "two", "ignore_rest": False, "labels": rows})

    def read(data: bytes, _: Path) -> bytes:
        return polygons.draw(data, table, (32, 48)).tobytes()

    shapes = [{"label": "car", "points": [[0, 0], [20, 0], [20, 20]], "shape_type": "polygon"}]
    labelme = {"shapes": shapes, "imageHeight": 32, "imageWidth": 48, "imageData": "QUJD"}
    runs = {"size": [32, 48], "counts": [10, 100, 1426]}
    document = {"height": 32, "width": 48, "regions": [{"label": "sky", "segmentation": runs}]}
    samples = [json.dumps(value).encode() for value in (labelme, document)]
    return Reader(samples, mutations.mutate_json, read, (BadInputError,))


def pair_lists() -> Reader:
    from beam_pipelines.errors import BuildError
    from beam_pipelines.inputs.lists import read_pairs
    from tests.support.builds import recipe_of

    recipe = recipe_of("--splits=train=0.5,val=0.5", "--pool_splits")

    def read(data: bytes, path: Path) -> list[object]:
        target = path.with_suffix(".jsonl" if data[:1] == b"{" else ".csv")
        return list(read_pairs(recipe, _written(data, target))[0])

    rows = [{"image": f"gs://b/{n}.png", "mask": f"gs://b/m/{n}.png", "split": "train"} for n in range(2)]
    lines = "\n".join(",".join(row.values()) for row in rows)
    samples = [f"image,mask,split\n{lines}\n".encode(), "\n".join(map(json.dumps, rows)).encode()]
    return Reader(samples, mutations.mutate, read, (BuildError,), slowness=10)


def images() -> Reader:
    from beam_pipelines.pixels.decode import decode_image
    from beam_pipelines.rejects import BadInputError

    return Reader(
        _pictures(),
        _mutate_picture,
        lambda data, _: decode_image(data, MAX_PIXELS).tobytes(),
        (BadInputError,),
    )


def png_decoders() -> Reader:
    """By every way to decode them, which have to agree."""
    from tests.support.png_decoders import agree, outcome

    def read(data: bytes, _: Path) -> bytes:
        found = outcome(data)
        if not agree(data):
            raise AssertionError("the decoders differ")
        if isinstance(found, tuple):
            raise ValueError(found)
        return found.tobytes()

    rgb = [np.random.default_rng(0).integers(0, 256, size).astype(np.uint8) for size in ((9, 7, 3), (1, 1, 3))]
    samples = [_saved(Image.fromarray(pixels), compress_level=level) for pixels in rgb for level in (0, 6)]
    samples += [_saved(Image.fromarray(rgb[0]), dpi=(72, 72)), _saved(Image.linear_gradient("L").convert("RGB"))]
    samples += [_saved(Image.fromarray(rgb[0]).convert(mode)) for mode in ("L", "P", "1", "LA", "RGBA")]
    samples.append(_saved(Image.fromarray(rgb[0][..., 0].astype(np.uint16) * 257)))
    return Reader(samples, mutations.mutate_png, read, (ValueError,))


def masks() -> Reader:
    from beam_pipelines.contract.labels import BUILTIN_TABLES
    from beam_pipelines.pixels.mask_readings import MaskReading, all_ways
    from beam_pipelines.pixels.masks import read_mask
    from beam_pipelines.rejects import BadInputError

    table = BUILTIN_TABLES["camvid11"]()
    reading = MaskReading(all_ways(table), ())
    ids = np.random.default_rng(0).integers(0, 12, (12, 16)).astype(np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette([value for label in table.labels for value in label.color or (0, 0, 0)])
    colors = np.array([label.color for label in table.labels], np.uint8)[ids]
    samples = [_saved(Image.fromarray(ids)), _saved(palette), _saved(Image.fromarray(colors))]
    samples.append(_saved(Image.fromarray(ids.astype(np.uint16))))
    return Reader(
        samples,
        mutations.mutate_png,
        lambda data, _: read_mask(data, table, MAX_PIXELS, reading).ids.tobytes(),
        (BadInputError,),
    )


def zips() -> Reader:
    from beam_pipelines.errors import BuildError
    from beam_pipelines.files.archives import list_members
    from beam_pipelines.files.reader import FileReader, member_path
    from beam_pipelines.rejects import BadInputError

    def read(data: bytes, path: Path) -> dict[str, bytes]:
        archive = path.with_suffix(".zip")
        archive.write_bytes(data)
        reader = FileReader(MAX_PIXELS)
        try:
            names = [member.stored for member in itertools.islice(list_members(str(archive)), 10)]
            return {name: reader.read(member_path(str(archive), name)) for name in names}
        finally:
            reader.close()

    samples = [_zipped(zipfile.ZIP_STORED), _zipped(zipfile.ZIP_DEFLATED)]
    return Reader(samples, mutations.mutate_zip, read, (BuildError, BadInputError))


def receipts() -> Reader:
    from beam_pipelines.contract.manifest import Shard
    from beam_pipelines.contract.moments import Moments
    from beam_pipelines.contract.schema import SchemaError
    from beam_pipelines.shards.receipts import StagedShard

    staged = StagedShard(
        plan_digest="0" * 64,
        split="train",
        shard=Shard(file="train-00000-of-00001.tfrecord", examples=1, bytes=100, sha256="0" * 64),
        crc32c=7,
        index_bytes=9,
        index_crc32c=8,
        moments=Moments.zero(),
        class_pixels=np.zeros(256, np.int64),
        heights=(1, 2),
        widths=(3, 4),
        rejected=(_rejected(),),
    )

    def read(data: bytes, _: Path) -> str:
        return StagedShard.from_json(_text(data), "receipt").to_json()

    return Reader([staged.to_json().encode()], mutations.mutate_json, read, (SchemaError,))


def finished_receipts() -> Reader:
    from beam_pipelines.contract.manifest import Shard
    from beam_pipelines.contract.schema import SchemaError
    from beam_pipelines.shards.receipts import FinishedShard

    shard = Shard(file="train-00000-of-00001.tfrecord", examples=1, bytes=100, sha256="0" * 64)
    finished = FinishedShard(digest="0" * 64, shard=shard, crc32c=7)

    def read(data: bytes, _: Path) -> str:
        return FinishedShard.from_json(_text(data), "receipt").to_json()

    return Reader([finished.to_json().encode()], mutations.mutate_json, read, (SchemaError,))


def sealed_lists() -> Reader:
    """What stands in a build's folder beside the receipts, with a seal that fits: what is wrong is no list."""
    from beam_pipelines.contract.seal import sealed
    from beam_pipelines.files.workspace import Workspace
    from beam_pipelines.shards import leftovers
    from beam_pipelines.shards.own_files import listed

    def read(data: bytes, path: Path) -> list[str]:
        place = Workspace(str(path.with_suffix(".dataset")))
        for file in (place.journal, place.transform_files, place.plan, place.staged_receipt("a.tfrecord")):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(sealed(_text(data).encode().decode()))
        leftovers.transform_is_whole(place)
        names = listed(place)
        if any(name.startswith("/") or ".." in name.split("/") for name in names):
            raise AssertionError(names)
        return names

    samples = [json.dumps(value).encode() for value in (["a.tfrecord", "a/b"], {"a/b": [3, 4], "c": [1, 2]})]
    return Reader(samples, mutations.mutate_json, read, (UnicodeError,))


def plans() -> Reader:
    from beam_pipelines.errors import BuildError
    from beam_pipelines.files.workspace import Workspace
    from beam_pipelines.inputs.sources import Pair
    from beam_pipelines.shards.plan import ShardPlan, ShardReference, list_shards, read_shard, write_plan

    def read(data: bytes, path: Path) -> ShardPlan:
        return read_shard(ShardReference(_written(data, path), 0, len(data)))

    pair = Pair("a", "train", "a.png", "/in/a.png", "/in/a_mask.png", 10, 7)
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(folder)
        write_plan(place, [ShardPlan("train", 0, 1, (pair, pair), "0" * 64)])
        (line,) = list_shards(place.plan)
        sample = Path(place.plan).read_bytes()[: line.length]
    return Reader([sample], mutations.mutate_json, read, (BuildError,))


def rejected_lines() -> Reader:
    from beam_pipelines.contract.schema import SchemaError
    from beam_pipelines.rejects import Rejected

    def read(data: bytes, _: Path) -> str:
        return Rejected.from_json(_text(data)).to_json()

    return Reader([_rejected().to_json().encode()], mutations.mutate_json, read, (SchemaError,))


def fault() -> Reader:
    """Does what `TORTURE_FAULT` says at case 3 of seed 0: what the harness itself is tested with."""
    from tests.torture.worker import damaged

    def read(data: bytes, path: Path) -> bytes:
        if data == faulty:
            exec(os.environ["TORTURE_FAULT"], {"os": os, "time": time, "path": path})
        return b""

    reader = Reader([b"sample"], lambda _, random: random.randbytes(8), read, (ValueError,))
    _, faulty = damaged(reader, "fault", seed=0, case=3)
    return reader


def indexes() -> Reader:
    from beam_pipelines.contract.index import Index
    from beam_pipelines.contract.schema import SchemaError
    from tests.support.small_index import SMALL

    def read(data: bytes, _: Path) -> bytes:
        return Index.from_bytes(data, "index").to_bytes()

    return Reader([SMALL.to_bytes()], mutations.mutate, read, (SchemaError,))


def statistics() -> Reader:
    """Of the card."""
    from beam_pipelines.card import statistics_file
    from beam_pipelines.card.statistics import Statistics
    from beam_pipelines.contract.schema import SchemaError
    from tests.support.small_index import SMALL

    def read(data: bytes, _: Path) -> str:
        return statistics_file.to_json(statistics_file.from_json(data.decode(), 2, "statistics"))

    text = statistics_file.to_json({"train": Statistics.of(SMALL, "train-00000-of-00001.tfrecord", 2)})
    return Reader([text.encode()], mutations.mutate_json, read, (SchemaError, UnicodeDecodeError))


READERS: dict[str, Callable[[], Reader]] = {
    "index": indexes,
    "manifest": manifest,
    "record": records,
    "tfrecord": tfrecords,
    "verified record": verified_records,
    "labels": labels,
    "label lists": label_lists,
    "region files": region_files,
    "regions": regions,
    "pair lists": pair_lists,
    "image": images,
    "png decoders": png_decoders,
    "mask": masks,
    "zip": zips,
    "receipt": receipts,
    "finished receipt": finished_receipts,
    "sealed lists": sealed_lists,
    "statistics": statistics,
    "plan": plans,
    "rejected line": rejected_lines,
    **OF_RUNS,
    **MODELS,
}
ALL = {**READERS, "fault": fault}


def _text(data: bytes) -> str:
    """As text, whatever the bytes are."""
    return data.decode(errors="surrogateescape")


def _rejected() -> Any:
    from beam_pipelines.rejects import Rejected

    return Rejected(key="a", split="train", image="a", mask=None, stage="pair", reason="missing_mask", detail="d")


def _written(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    return str(path)


def _saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _records() -> list[Any]:
    from beam_pipelines.contract.record import Record

    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    raw = Record(
        filename="a.png",
        height=4,
        width=6,
        image=pixels.tobytes(),
        image_format="raw_uint8",
        mask=pixels[..., 0].tobytes(),
        mask_format="raw_uint8",
    )
    encoded = {
        "image": _saved(Image.fromarray(pixels)),
        "image_format": "png",
        "mask": _saved(Image.fromarray(pixels[..., 0].copy())),
        "mask_format": "png",
    }
    return [raw, Record(**(asdict(raw) | encoded))]


def _pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(np.kron(rng.integers(0, 256, (3, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8))
    pictures = [_saved(rgb.convert(mode)) for mode in ("RGB", "L", "P", "1", "RGBA")]
    pictures.append(_saved(Image.fromarray((rng.integers(0, 256, (12, 16)) * 257).astype(np.uint16))))
    pictures += [
        _saved(rgb, "JPEG", quality=90),
        _saved(rgb, "JPEG", progressive=True),
        _saved(rgb.convert("L"), "JPEG"),
    ]
    pictures += [_saved(rgb, "BMP"), _saved(rgb.convert("P"), "BMP")]
    pictures += [_saved(rgb, "TIFF", compression=kind) for kind in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg")]
    return [*pictures, _saved(rgb, "WEBP", lossless=True), _saved(rgb, "WEBP", quality=80)]


def _mutate_picture(data: bytes, random: Any) -> bytes:
    return mutations.mutate_png(data, random) if data.startswith(b"\x89PNG") else mutations.mutate(data, random)


def _zipped(compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in ("a.png", "folder/b.png", "ä.png"):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), name.encode() * 40, compression)
    return file.getvalue()
