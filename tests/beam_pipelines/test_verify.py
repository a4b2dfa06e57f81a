"""`verify` passes what was built, and names each thing that somebody changed, with its shard and record."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.contract.record import Record
from beam_pipelines.files import storage
from beam_pipelines.verify import main as verify
from beam_pipelines.wording import counted
from tests.support.builds import build, digests, make_flat, make_uneven, run_module

pytestmark = pytest.mark.usefixtures("without_transform")

TRAIN, VAL = "train-00001-of-00003.tfrecord", "val-00000-of-00002.tfrecord"
ENCODINGS = ("float32", "float16", "uint8", "png")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, without_transform: None) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("built")
    source = make_flat(folder / "in")

    def of(encoding: str) -> Path:
        output = folder / encoding
        if not output.exists():
            arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=32x64")
            assert build(*arguments, f"--image_encoding={encoding}", "--shards=train=3,val=2") == 0
        return output

    return of


@pytest.fixture
def copy(built: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A data set to spoil."""

    def of(encoding: str = "float32") -> Path:
        return Path(shutil.copytree(built(encoding), tmp_path / "dataset"))

    return of


def problems(dataset: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `verify` lists; it ends with 1 where that is anything."""
    capsys.readouterr()
    code = verify([str(dataset)])
    captured = capsys.readouterr()
    listed = [line.removeprefix("problem: ") for line in captured.out.splitlines() if line.startswith("problem: ")]
    assert captured.err == ""
    assert code == (1 if listed else 0)
    assert (counted(len(listed), "problem") if listed else "all records read, every check passed") in captured.out
    return listed


def edit_manifest(dataset: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = dataset / "dataset.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def records_of(dataset: Path, file: str) -> list[Record]:
    with (dataset / file).open("rb") as opened:
        return [record.decode(serialized) for serialized in tfrecord.read_records(opened, file)]


def rewrite(dataset: Path, file: str, serialized: list[bytes]) -> None:
    """Puts these records into the shard, with fitting checksums in file and manifest: only a deep look can tell."""
    data = b"".join(tfrecord.header_of(each) + each + tfrecord.footer_of(each) for each in serialized)
    (dataset / file).write_bytes(data)

    def change(manifest: dict[str, Any]) -> None:
        split = manifest["splits"][file.split("-")[0]]
        shard = next(shard for shard in split["shards"] if shard["file"] == file)
        shard |= {"examples": len(serialized), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        split["examples"] = sum(shard["examples"] for shard in split["shards"])

    edit_manifest(dataset, change)


def spoil(dataset: Path, change: Callable[[Record], Record], file: str = TRAIN, index: int = 2) -> None:
    records = records_of(dataset, file)
    records[index] = change(records[index])
    rewrite(dataset, file, [record.encode(each) for each in records])


def with_value(value: float, dtype: str = "float32") -> Callable[[Record], Record]:
    """Puts `value` at row 1, column 2, channel 0."""

    def change(found: Record) -> Record:
        image = np.frombuffer(found.image, dtype).copy()
        image[(1 * found.width + 2) * 3] = value
        return replace(found, image=image.tobytes())

    return change


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_was_built_passes(built: Callable[[str], Path], encoding: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert problems(built(encoding), capsys) == []


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_rewritten_shard_of_the_same_records_passes(
    copy: Callable[..., Path], encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = copy(encoding)
    spoil(dataset, lambda found: found)
    assert problems(dataset, capsys) == []


def test_pictures_of_several_sizes_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_uneven(tmp_path / "in")
    assert build(f"--input={source}", f"--output={tmp_path / 'out'}", "--labels=camvid11", "--image_size=native") == 0
    assert problems(tmp_path / "out", capsys) == []


def test_the_command_line_tells_by_its_exit_code(copy: Callable[..., Path], tmp_path: Path) -> None:
    dataset = copy()
    (dataset / VAL).unlink()
    done = run_module("verify", dataset)
    assert done.returncode == 1
    assert f"problem: {VAL}: can't be read" in done.stdout
    assert done.stderr == ""
    told = {
        tmp_path / "nowhere": "does not exist\n",
        tmp_path: "has no dataset.json: there is no data set, or its build ",
    }
    for folder, problem in told.items():
        done = run_module("verify", folder)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {folder} {problem}")
        assert done.stderr.count("\n") == 1


def test_the_command_that_builds_again_is_named_and_gives_a_sound_data_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, output = make_flat(tmp_path / "in", train=4, val=1), tmp_path / "out"
    (source / "masks" / "train" / "train_0001.png").unlink()
    arguments = (f"--input={source}", f"--output={output}", "--labels=camvid11", "--image_size=32x64")
    assert build(*arguments, "--max_rejects=30%") == 0
    before = digests(output)
    shard = next(output.glob("train*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    assert verify([str(output)]) == 1
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("python -m ")]
    assert build(*shlex.split(command)[3:]) == 0
    assert digests(output) == before


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_flipped_byte_is_found(copy: Callable[..., Path], encoding: str, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy(encoding)
    data = bytearray((dataset / TRAIN).read_bytes())
    start = data.index(b"image/encoded", data.index(b"image/encoded") + 1)  # of record 1
    data[start + 100] ^= 1
    (dataset / TRAIN).write_bytes(data)
    found = problems(dataset, capsys)
    assert any(line.startswith(f"{TRAIN}: record 1 at byte ") and "data checksum mismatch" in line for line in found)
    sha256 = json.loads((dataset / "dataset.json").read_text())["splits"]["train"]["shards"][1]["sha256"]
    assert any(
        f"restore the file (its sha256 in dataset.json is {sha256}), or build again with --overwrite" in line
        for line in found
    )


def test_a_flipped_byte_of_a_length_is_found(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy()
    data = bytearray((dataset / VAL).read_bytes())
    data[0] ^= 1
    (dataset / VAL).write_bytes(data)
    assert any(f"{VAL}: record 0 at byte 0: length checksum mismatch" in line for line in problems(dataset, capsys))


def test_a_cut_shard_is_found(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy()
    size = (dataset / TRAIN).stat().st_size
    with (dataset / TRAIN).open("r+b") as file:
        file.truncate(size - 1000)
    found = problems(dataset, capsys)
    assert any(f"{TRAIN}: record 3 at byte " in line and "the file ends inside the record" in line for line in found)
    assert any(f"{TRAIN}: {size - 1000:,} bytes, and the manifest says {size:,}" in line for line in found)
    assert f"{TRAIN}: 3 good records, and the manifest says 4" in found
    assert "train: 11 good records, and the manifest says 12" in found


def test_a_shard_cut_between_records_is_found(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy()
    size = (dataset / TRAIN).stat().st_size
    with (dataset / TRAIN).open("r+b") as file:
        file.truncate(size // 4 * 3)
    assert f"{TRAIN}: 3 good records, and the manifest says 4" in problems(dataset, capsys)


def test_a_missing_an_extra_and_a_swapped_shard_are_found(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = copy()
    extra = "val-00002-of-00003.tfrecord"
    shutil.copy(dataset / VAL, dataset / extra)
    assert problems(dataset, capsys) == [f"{extra}: is not in the manifest; delete it"]
    (dataset / extra).unlink()

    other = "train-00002-of-00003.tfrecord"
    (dataset / TRAIN).rename(dataset / "kept")
    (dataset / other).rename(dataset / TRAIN)
    (dataset / "kept").rename(dataset / other)
    found = problems(dataset, capsys)
    assert [line.split(":")[0] for line in found] == [TRAIN, other]
    assert all(": sha256 is " in line for line in found)

    (dataset / other).unlink()
    assert any(line.startswith(f"{other}: can't be read, ") for line in problems(dataset, capsys))


def shard_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["splits"]["train"]["shards"][1]


MANIFEST_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "examples": (lambda value: shard_of(value).update(examples=5), f"{TRAIN}: 4 good records, and the manifest says 5"),
    "bytes": (lambda value: shard_of(value).update(bytes=7), "bytes, and the manifest says 7;"),
    "sha256": (lambda value: shard_of(value).update(sha256="0" * 64), f"{TRAIN}: sha256 is "),
    "file": (lambda value: shard_of(value).update(file="train-1.tfrecord"), "train-1.tfrecord: can't be read, "),
    "histogram": (
        lambda value: value["moments"]["histogram"][1].sort(),
        "are not (x/255 - mean)/std of any x",
    ),
    "class_pixels": (
        lambda value: value["class_pixels"]["val"].__setitem__(3, 1),
        "val: class pixels are (",
    ),
    "classes": (
        lambda value: value["labels"]["labels"].pop(10),
        "the mask holds [10], and train ids are 0 to 9 and 255",
    ),
    "height": (lambda value: value["pixels"].update(height=16), "record 0: height is 32, and the manifest says 16"),
    "image_format": (
        lambda value: value["pixels"].update(image_format="raw_float16"),
        "record 0: image_format is 'raw_float32', and the manifest says 'raw_float16'",
    ),
}


@pytest.mark.parametrize("change", MANIFEST_CHANGES)
def test_a_changed_manifest_is_found(
    copy: Callable[..., Path], change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = copy()
    apply, told = MANIFEST_CHANGES[change]
    edit_manifest(dataset, apply)
    assert any(told in line for line in problems(dataset, capsys))


def test_ignored_pixels_are_checked(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy()
    edit_manifest(dataset, lambda value: value["ignored_pixels"].update(train=1))
    assert any("train" in line and "ignored" in line for line in problems(dataset, capsys))


@pytest.mark.parametrize("field", ["mean", "std", "sums", "sums_of_squares"])
def test_moments_that_are_not_those_of_the_histogram_beside_them_are_found(
    copy: Callable[..., Path], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = copy()
    edit_manifest(dataset, lambda value: value["moments"][field].__setitem__(1, 1))
    (found,) = problems(dataset, capsys)
    assert found.startswith(f"dataset.json: moments.{field} is [")
    assert ", and the rest of the file says [" in found


@pytest.mark.parametrize("encoding", ["uint8", "png"])
def test_a_histogram_that_is_not_that_of_the_pixels_is_found(
    copy: Callable[..., Path], encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = copy(encoding)
    edit_manifest(dataset, lambda value: value["moments"]["histogram"][2].reverse())
    assert any(
        line.startswith("train: mean (") and line.endswith("are not those of the manifest")
        for line in problems(dataset, capsys)
    )


RECORD_CHANGES: dict[str, tuple[str, Callable[[Record], Record], str]] = {
    "nan": (
        "float32",
        with_value(float("nan")),
        "1 values are not (x/255 - mean)/std of any x, the first nan at row 1, ",
    ),
    "infinity": ("float16", with_value(float("inf"), "float16"), "the first inf at row 1, column 2, channel 0"),
    "off the table": ("float32", with_value(0.123456), "the first 0.12345"),
    "size": (
        "float32",
        lambda found: replace(found, height=16, image=found.image[:12288], mask=found.mask[:1024]),
        "height is 16, and the manifest says 32",
    ),
    "format": (
        "float32",
        lambda found: replace(found, image_format="raw_uint8", image=bytes(32 * 64 * 3)),
        "image_format is 'raw_uint8', and the manifest says 'raw_float32'",
    ),
    "mask format": ("uint8", lambda found: replace(found, mask_format="png"), "mask_format is 'png'"),
    "channels": ("uint8", lambda found: replace(found, channels=1), "channels is 1, and the manifest says 3"),
    "short image": (
        "uint8",
        lambda found: replace(found, image=found.image[:-3]),
        "the image has 6,141 bytes of raw_uint8, and 32x64 takes 6,144",
    ),
    "odd image": (
        "float32",
        lambda found: replace(found, image=found.image[:-1]),
        "the image has 24,575 bytes of raw_float32",
    ),
    "short mask": (
        "float32",
        lambda found: replace(found, mask=found.mask[:-1]),
        "the mask has 2,047 bytes of raw_uint8",
    ),
    "no png": (
        "png",
        lambda found: replace(found, image=b"no picture"),
        "the image has 10 bytes of png, which are not a PNG file",
    ),
    "class": (
        "uint8",
        lambda found: replace(found, mask=b"\x0b" + found.mask[1:]),
        "the mask holds [11], and train ids are 0 to 10 and 255",
    ),
}


@pytest.mark.parametrize("change", RECORD_CHANGES)
def test_a_record_that_is_not_what_the_manifest_says_is_found_though_its_checksums_fit(
    copy: Callable[..., Path], change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encoding, apply, told = RECORD_CHANGES[change]
    dataset = copy(encoding)
    spoil(dataset, apply)
    found = problems(dataset, capsys)
    assert any(line.startswith(f"{TRAIN}: record 2: ") and told in line for line in found)


def test_another_pixel_that_the_table_has_changes_the_moments(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = copy()
    (first, *_) = records_of(dataset, VAL)
    spoil(dataset, lambda found: replace(found, image=first.image))
    assert any(line.startswith("train: mean (") for line in problems(dataset, capsys))


def test_a_record_that_is_there_twice_is_found(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy()
    (first, *_) = records_of(dataset, TRAIN)
    spoil(dataset, lambda _: first)
    assert any(line.startswith("train: class pixels are") for line in problems(dataset, capsys))


def test_what_is_no_example_is_found(copy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copy()
    records = [record.encode(each) for each in records_of(dataset, TRAIN)]
    rewrite(dataset, TRAIN, [*records[:2], b"no example", b""])
    found = problems(dataset, capsys)
    assert any(line.startswith(f"{TRAIN}: record 2: not a serialized tf.train.Example") for line in found)
    assert any(line.startswith(f"{TRAIN}: record 3: the Example has no image/channels") for line in found)


def test_a_shard_that_can_not_be_read_to_its_end_is_a_problem(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 5000:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    def open_read(path: str) -> BinaryIO:
        return Broken(Path(path).read_bytes()) if path.endswith(TRAIN) else opened(path)

    dataset, opened = copy(), storage.open_read
    monkeypatch.setattr(storage, "open_read", open_read)
    (found,) = (line for line in problems(dataset, capsys) if line.startswith(TRAIN))
    assert re.search(r": can't be read beyond byte \d+,\d{3}, \[Errno 5\] Input/output error; restore the file", found)


def test_many_problems_of_one_shard_are_shortened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, dataset = make_flat(tmp_path / "in", train=30, val=4), tmp_path / "dataset"
    arguments = (f"--input={source}", f"--output={dataset}", "--labels=camvid11", "--image_size=32x64")
    assert build(*arguments, "--image_encoding=uint8", "--shards=train=1,val=1") == 0
    edit_manifest(dataset, lambda value: value["pixels"].update(image_format="png"))
    found = [line for line in problems(dataset, capsys) if line.startswith("train-")]
    assert len(found) == 21
    assert any("more problems, most often: image_format is 'raw_uint8'" in line for line in found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"format_version": 2}', "has format version 2 and this code reads 1"),
        ('{"format_version": 1}', "has no field fingerprint"),
        ("{", "is not JSON: it is cut off"),
        ("[]", "expected object, found []"),
    ],
)
def test_a_manifest_that_can_not_be_read_is_told(
    tmp_path: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dataset.json").write_text(text)
    assert verify([str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {tmp_path}/dataset.json")
    assert told in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("damage", ["missing", "cut", "of another shard"])
def test_the_index_of_a_shard_is_checked(
    copy: Callable[..., Path], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    dataset = copy("uint8")
    path = dataset / "index" / TRAIN.replace(".tfrecord", ".jsonl")
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        shutil.copy(path.with_name("train-00000-of-00003.jsonl"), path)
    reasons = {"missing": "does not exist", "cut": "is damaged", "of another shard": f"is not the index of {TRAIN}"}
    (problem,) = problems(dataset, capsys)
    assert problem.startswith(f"index/{path.name}: {reasons[damage]}; restore the file")
