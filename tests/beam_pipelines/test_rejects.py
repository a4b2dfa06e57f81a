"""Bad pairs: each is named and counted, the good ones are built as ever, and too many of them stop the build."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract import record, tfrecord
from beam_pipelines.rejects import REASONS, Rejected, meaning_of
from tests.support.builds import build, digests, make_flat

pytestmark = pytest.mark.usefixtures("without_transform")

SIZE = (32, 64)
RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (*SIZE, 3), np.uint8)


def encoded(pixels: np.ndarray, image_type: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_type, **options)
    return file.getvalue()


def animation() -> bytes:
    frames = [Image.fromarray(np.roll(NOISE, shift, 0)) for shift in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(NOISE, "JPEG", exif=exif)


def transparent() -> bytes:
    return encoded(np.dstack([NOISE, np.full(SIZE, 128, np.uint8)]))


def deep() -> bytes:
    return encoded(np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE))


def damaged() -> bytes:
    data = bytearray(encoded(NOISE))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


GOOD_MASK = encoded(np.kron(RNG.integers(0, 12, (4, 8)), np.ones((8, 8))).astype(np.uint8))

# Name -> image file, mask file (None: there is none), stage, reason, and what the detail has to tell.
BAD: dict[str, tuple[tuple[str, bytes] | None, bytes | None, str, str, str]] = {
    "empty_image": (("png", b""), GOOD_MASK, "read", "empty_file", "has no bytes"),
    "empty_mask": (("png", encoded(NOISE)), b"", "read", "empty_file", "has no bytes"),
    "cut_png": (("png", encoded(NOISE)[:-900]), GOOD_MASK, "decode", "truncated", "the file ends too early, after"),
    "cut_jpeg": (("jpg", encoded(NOISE, "JPEG")[:-300]), GOOD_MASK, "decode", "truncated", "truncated"),
    "cut_mask": (("png", encoded(NOISE)), GOOD_MASK[: len(GOOD_MASK) // 2], "decode", "truncated", "ends too early"),
    "damaged": (("png", damaged()), GOOD_MASK, "decode", "corrupt", "is damaged: copy or download it again"),
    "text": (("png", b"<html>404</html>"), GOOD_MASK, "decode", "not_an_image", "it begins with b'<html>40'"),
    "jpeg_mask": (
        ("png", encoded(NOISE)),
        encoded(NOISE, "JPEG"),
        "decode",
        "mask_format",
        "only PNG is read, as it keeps ids",
    ),
    "other_size": (
        ("png", encoded(NOISE[:16])),
        GOOD_MASK,
        "conform",
        "size_mismatch",
        "the image is 16x64 and the mask 32x64 (height x width)",
    ),
    "no_mask": (("png", encoded(NOISE)), None, "pair", "missing_mask", "has no mask"),
    "no_image": (None, GOOD_MASK, "pair", "missing_image", "has no image"),
    "animated": (("png", animation()), GOOD_MASK, "decode", "animated", "3 frames"),
    "bomb": (
        ("png", encoded(np.zeros((3000, 3000), np.uint8))),
        GOOD_MASK,
        "decode",
        "too_many_pixels",
        "3000x3000 (WxH) is more than 1,000,000 pixels",
    ),
    "transparent": (("png", transparent()), GOOD_MASK, "decode", "transparent", "2,048 pixels are not opaque"),
    "deep": (("png", deep()), GOOD_MASK, "decode", "deep_color", "values up to 2047"),
    "rotated": (("jpg", rotated()), GOOD_MASK, "decode", "rotated", "EXIF orientation"),
    "unknown_ids": (
        ("png", encoded(NOISE)),
        encoded(np.where(np.arange(64) < 5, 77, np.zeros(SIZE)).astype(np.uint8)),
        "conform",
        "unknown_ids",
        "1 ids are not in table camvid11: 77 (160 px)",
    ),
    "unknown_colors": (("png", encoded(NOISE)), encoded(NOISE), "decode", "unknown_colors", "camvid11"),
    "only_void": (
        ("png", encoded(NOISE)),
        encoded(np.full(SIZE, 11, np.uint8)),
        "conform",
        "all_ignore",
        "every pixel of the mask is ignored",
    ),
    "broken_link": (("png", b"link"), GOOD_MASK, "read", "unreadable", "No such file"),
}
ARGUMENTS = ("--labels=camvid11", "--image_size=native", "--max_image_pixels=1000000", "--shards=train=6,val=1")


def add_bad(source: Path) -> Path:
    for name, (image, mask, *_) in BAD.items():
        if mask is not None:
            (source / "masks" / "train" / f"{name}.png").write_bytes(mask)
        if image is not None:
            path = source / "images" / "train" / f"{name}.{image[0]}"
            if image[1] == b"link":
                os.symlink(source / "nowhere.png", path)
            else:
                path.write_bytes(image[1])
    for suffix in ("png", "jpg"):
        (source / "images" / "train" / f"twice.{suffix}").write_bytes(encoded(NOISE, "PNG"))
    (source / "masks" / "train" / "twice.png").write_bytes(GOOD_MASK)
    return source


BAD_PAIRS = len(BAD) + 1


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return add_bad(make_flat(tmp_path / "in"))


def rejected_of(output: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]


def records_of(output: Path) -> dict[str, record.Record]:
    found: dict[str, Any] = {}
    for path in output.glob("*.tfrecord"):
        with path.open("rb") as file:
            found |= {each.filename: each for each in map(record.decode, tfrecord.read_records(file, path.name))}
    return found


@pytest.mark.parametrize("encoding", ["float32", "png"])
def test_every_kind_of_bad_pair_is_named_and_the_good_pairs_are_as_without_them(
    source: Path, tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output, clean = tmp_path / "out", tmp_path / "clean"
    options = (*ARGUMENTS, f"--image_encoding={encoding}")
    assert build(f"--input={source}", f"--output={output}", "--max_rejects=100%", *options) == 0
    assert f"rejected pairs     {BAD_PAIRS}, in rejected.jsonl:" in capsys.readouterr().out
    rejected = {line["key"]: line for line in rejected_of(output)}
    assert len(rejected_of(output)) == len(rejected) == BAD_PAIRS
    for name, (image, mask, stage, reason, detail) in BAD.items():
        line = rejected[f"train/{name}"]
        assert (line["stage"], line["reason"], line["split"]) == (stage, reason, "train")
        assert detail in line["detail"]
        assert line["image"] == (f"{source}/images/train/{name}.{image[0]}" if image else None)
        assert line["mask"] == (f"{source}/masks/train/{name}.png" if mask is not None else None)
    assert rejected["train/twice"]["reason"] == "duplicate_key"
    counted = json.loads((output / "dataset.json").read_text())["rejected"]
    reasons = Counter(line["reason"] for line in rejected.values())
    assert counted == {"pairs": BAD_PAIRS, "by_reason": dict(sorted(reasons.items()))}
    assert reasons.keys() <= REASONS.keys()

    good = make_flat(tmp_path / "good")
    assert build(f"--input={good}", f"--output={clean}", *options) == 0
    assert len(records_of(clean)) == 16
    assert records_of(output) == records_of(clean)


def test_a_damaged_zip_member_costs_one_pair(tmp_path: Path) -> None:
    good, output, archive = make_flat(tmp_path / "in"), tmp_path / "out", tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(good.rglob("*.png")):
            opened.write(path, path.relative_to(good))
    inside = (good / "images" / "train" / "train_0003.png").read_bytes()
    data = bytearray(archive.read_bytes())
    data[data.index(inside) + len(inside) // 2] ^= 0xFF
    archive.write_bytes(data)
    arguments = (f"--input={archive}", f"--output={output}", *ARGUMENTS)
    assert build(*arguments, "--max_rejects=10%") == 0
    (line,) = rejected_of(output)
    assert (line["key"], line["stage"], line["reason"]) == ("train/train_0003", "read", "bad_zip_member")
    assert line["image"] == f"{archive}!/images/train/train_0003.png"
    assert "Bad CRC-32" in line["detail"]
    assert len(records_of(output)) == 15


def test_above_the_budget_nothing_is_published_and_the_second_run_decodes_nothing_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = make_flat(tmp_path / "in", train=20), tmp_path / "out"
    for name in ("train_0002", "train_0011"):
        (source / "images" / "train" / f"{name}.png").write_bytes(b"x" * 300)
    (source / "masks" / "val" / "val_0001.png").write_bytes(encoded(np.full(SIZE, 11, np.uint8)))
    arguments = (f"--input={source}", f"--output={output}", *ARGUMENTS)
    assert build(*arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: 3 of 24 pairs were rejected (12.50%; --max_rejects is 1.00%): ")
    assert "not_an_image 2, all_ignore 1" in message
    assert f"{output}/rejected.jsonl lists each with its reason" in message
    assert "kept, unless the command has --overwrite" in message
    assert "--max_rejects=13%" in message
    assert sorted(line["key"] for line in rejected_of(output)) == [
        "train/train_0002",
        "train/train_0011",
        "val/val_0001",
    ]
    assert not (output / "dataset.json").exists()

    assert build(*arguments, "--max_rejects=12%") == 1
    assert "--max_rejects is 12.00%" in capsys.readouterr().err
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.glob("*.tfrecord")}
    assert len(before) == 7
    expected = {path: path.stat() for path in source.rglob("*.png")}
    kept = tmp_path / "kept"
    shutil.copytree(source, kept)
    for path, state in expected.items():  # what is decoded now would be rejected
        path.write_bytes(bytes(state.st_size))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # or else it would be decoded
    monkeypatch.setattr("beam_pipelines.planner.estimate", estimate_of(kept, source))
    monkeypatch.setattr("beam_pipelines.planner.survey", survey_of(kept, source))
    assert build(*arguments, "--max_rejects=13%") == 0
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.glob("*.tfrecord")} == before
    assert len(rejected_of(output)) == 3
    assert len(records_of(output)) == 21
    assert not (output / "_build").exists()


def estimate_of(kept: Path, source: Path) -> Callable[..., object]:
    """The estimate looks at a few pictures before the work: it gets those that were there before."""
    from dataclasses import replace

    from beam_pipelines.shards.estimate import estimate

    def look(pairs: list, recipe: Any, reading: Any) -> object:
        moved = [
            replace(
                pair,
                image=pair.image.replace(str(source), str(kept)),
                mask=pair.mask.replace(str(source), str(kept)),
            )
            for pair in pairs
        ]
        return estimate(moved, recipe, reading)

    return look


def survey_of(kept: Path, source: Path) -> Callable[..., object]:
    """The same for the survey of the masks."""
    from dataclasses import replace

    from beam_pipelines.shards.survey import survey

    def look(chosen: dict[str, list], recipe: Any) -> object:
        moved = {
            split: [replace(pair, mask=pair.mask.replace(str(source), str(kept))) for pair in pairs]
            for split, pairs in chosen.items()
        }
        return survey(moved, recipe)

    return look


def test_pairs_without_a_partner_above_the_budget_fail_before_anything_is_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = make_flat(tmp_path / "in"), tmp_path / "out"
    for name in ("train_0001", "train_0004"):
        (source / "masks" / "train" / f"{name}.png").unlink()
    arguments = (f"--input={source}", f"--output={output}", *ARGUMENTS)
    assert build(*arguments) == 1
    captured = capsys.readouterr()
    assert "missing_mask: images/train/train_0001.png has no mask" in captured.out
    assert "error: 2 of 16 pairs were rejected (12.50%" in captured.err
    assert "missing_mask 2" in captured.err
    assert "--max_rejects=13%" in captured.err
    assert [line["reason"] for line in rejected_of(output)] == ["missing_mask"] * 2
    assert not list(output.glob("*.tfrecord"))
    assert not list(output.rglob("staged"))
    assert build(*arguments, "--max_rejects=13%") == 0
    assert [line["key"] for line in rejected_of(output)] == ["train/train_0001", "train/train_0004"]


def test_overwrite_deletes_nothing_where_too_many_pairs_lack_a_partner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = make_flat(tmp_path / "in"), tmp_path / "out"
    arguments = (f"--input={source}", f"--output={output}", *ARGUMENTS)
    assert build(*arguments) == 0
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    (source / "masks" / "train" / "train_0001.png").unlink()
    assert build(*arguments, "--overwrite") == 1
    message = capsys.readouterr().err
    assert (
        "missing_mask 1. The first of them are listed above; nothing was deleted. No file has been decoded" in message
    )
    assert "kept" not in message
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
    assert build(*arguments, "--overwrite", "--max_rejects=7%") == 0
    assert [line["key"] for line in rejected_of(output)] == ["train/train_0001"]


def test_a_split_of_which_every_pair_is_bad_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = make_flat(tmp_path / "in", train=3, val=12), tmp_path / "out"
    for path in (source / "images" / "train").iterdir():
        path.write_bytes(b"")
    arguments = (f"--input={source}", f"--output={output}", *ARGUMENTS[:-1])
    assert build(*arguments, "--max_rejects=100%") == 1
    assert capsys.readouterr().err.startswith("error: every pair of the split 'train' was rejected: ")
    assert len(rejected_of(output)) == 3
    assert not (output / "dataset.json").exists()


def test_the_same_bad_pairs_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for name, threads in (("one", 1), ("two", 3)):
        options = (f"--output={tmp_path / name}", "--max_rejects=1.0", f"--direct_num_workers={threads}")
        assert build(f"--input={source}", *options, *ARGUMENTS) == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert (tmp_path / "one" / "rejected.jsonl").read_bytes() == (tmp_path / "two" / "rejected.jsonl").read_bytes()


@pytest.mark.parametrize(("old", "new"), [("deep_colour", "deep_color"), ("unknown_colours", "unknown_colors")])
def test_reasons_of_earlier_versions_are_read(old: str, new: str) -> None:
    rejected = Rejected(
        key="train/a", split="train", image="a.png", mask="b.png", stage="decode", reason=new, detail="of 16 bits"
    )
    assert Rejected.from_json(rejected.to_json().replace(new, old)) == rejected
    assert meaning_of(old) == meaning_of(new) == REASONS[new]
    assert meaning_of("bad_mood") == "a reason that this version does not know"
