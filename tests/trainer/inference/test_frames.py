"""Videos: their frames become files like those of images, up to where the video can be read."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.color_model import blocky_ids, describe, make_color_model, paint
from trainer.inference.frames import frames_of
from trainer.inference.model_file import save_model
from trainer.predict import main

av = pytest.importorskip("av")

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FRAMES, SIZE = 12, (32, 64)
IDS = [blocky_ids(*SIZE, seed=seed) for seed in range(FRAMES)]
MIB = 2**20


def film(path: Path, codec: str = "ffv1", pixels: str = "bgr0", turned: int = 0, **options: str) -> Path:
    """Writes a video of 12 frames in the colors of the classes, 10 a second; FFV1 in RGB keeps every bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, pixels
        if turned:
            stream.set_display_rotation(turned)
        for ids in IDS:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(paint(ids), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, description = tmp_path_factory.mktemp("run"), describe(size=None)
    save_model(str(folder / "best.keras"), make_color_model(description), description)
    return folder


def predict(run: Path, images: Path, output: Path, *arguments: str) -> int:
    return main([f"--model={run}", f"--images={images}", f"--output={output}", *arguments])


def ids_in(folder: Path) -> dict[int, np.ndarray]:
    """Number of a frame -> its train ids."""
    return {int(path.stem): np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def assert_frames(folder: Path, numbers: list[int]) -> None:
    found = ids_in(folder)
    assert list(found) == numbers
    for number, ids in found.items():
        np.testing.assert_array_equal(ids, IDS[number - 1])


@pytest.mark.parametrize("batch", [1, 5])
def test_each_frame_becomes_ids_colors_and_an_overlay(
    batch: int, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path / "in" / "town" / "ride.MKV")
    Image.fromarray(paint(IDS[0])).save(tmp_path / "in" / "still.png")
    assert predict(run, tmp_path / "in", tmp_path / "out", f"--batch={batch}") == 0
    assert_frames(tmp_path / "out" / "ids" / "town" / "ride", [*range(1, FRAMES + 1)])
    assert len([*(tmp_path / "out" / "colors" / "town" / "ride").glob("??????.png")]) == FRAMES
    assert len([*(tmp_path / "out" / "overlays" / "town" / "ride").glob("??????.jpg")]) == FRAMES
    assert (tmp_path / "out" / "ids" / "still.png").exists()
    captured = capsys.readouterr()
    assert ": 13 of 13 images segmented, 0 skipped; " in captured.out
    assert captured.err == ""


def test_one_of_every_few_frames_first_and_the_others_later(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, output = film(tmp_path / "ride.mkv"), tmp_path / "out"
    assert predict(run, video, output, "--every=5") == 0
    assert_frames(output / "ids" / "ride", [1, 6, 11])
    corrected = Image.fromarray(np.zeros_like(IDS[0]))
    corrected.save(output / "ids" / "ride" / "000006.png")
    assert predict(run, video, output) == 0
    assert ": 9 of 12 images segmented, 0 skipped, 3 kept as they were" in capsys.readouterr().out
    assert list(ids_in(output / "ids" / "ride")) == [*range(1, FRAMES + 1)]
    assert not ids_in(output / "ids" / "ride")[6].any()
    assert predict(run, video, output, "--flip") == 1
    assert "was not written by this command and model" in capsys.readouterr().err


def damaged(kind: str, folder: Path) -> Path:
    """A film whose second half is missing, or is zeros where it matters."""
    video = film(folder / "ride.mp4", "libx264", "yuv420p", g="4") if kind == "zeros" else film(folder / "ride.mkv")
    data = video.read_bytes()
    half = len(data) // 2
    video.write_bytes(data[:half] + (bytes(400) + data[half + 400 :] if kind == "zeros" else b""))
    return video


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            "cut",
            "truncated: the video ends after frame 5 (0.5 s), before its stated length of 1.2 s; "
            "what follows is skipped",
        ),
        ("zeros", "damaged: after frame 4, Invalid data found when processing input; what follows is skipped"),
    ],
)
def test_of_a_damaged_video_the_frames_before_the_damage_are_kept(
    kind: str, told: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, output = damaged(kind, tmp_path), tmp_path / "out"
    assert predict(run, video, output) == 0
    captured = capsys.readouterr()
    assert captured.err == f"{video}: {told}\n"
    count = len(ids_in(output / "ids" / "ride"))
    assert f": {count} of {count + 1} images segmented, 1 skipped; " in captured.out
    assert re.search(rf"after frame {count}\b", told)


def test_a_file_that_is_no_video_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"what is this?" * 99)
    with av.open(str(tmp_path / "in" / "b.mkv"), "w") as container:
        sound: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    film(tmp_path / "in" / "c.mp4", "libx264", "yuv420p", turned=90)
    film(tmp_path / "in" / "d.mkv")
    assert predict(run, tmp_path / "in", tmp_path / "out", "--max_image_pixels=2047") == 1
    first, second, third, fourth = capsys.readouterr().err.splitlines()
    assert "a.mp4: not_a_video: the file is not a video that can be read (Invalid data found" in first
    assert "b.mkv: no_video: the file has sound or text only" in second
    assert "too_many_pixels: 64x32 (WxH) is more than 2,047 pixels: --max_image_pixels=2048 takes it" in third
    assert "too_many_pixels" in fourth
    assert predict(run, tmp_path / "in" / "c.mp4", tmp_path / "out") == 1
    assert "rotated: it is shown turned by 90 degrees" in capsys.readouterr().err


def test_a_video_without_a_frame_is_skipped_with_the_reason(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "empty.mp4").touch()
    (folder / "text.mkv").write_bytes(b"what is this?" * 99)
    whole = film(folder / "index.mp4", "libx264", "yuv420p")
    data = whole.read_bytes()
    whole.write_bytes(data[: data.index(b"moov") - 4])
    assert predict(run, folder, tmp_path / "out") == 1
    said = capsys.readouterr()
    unread = "not_a_video: the file is not a video that can be read (Invalid data found when processing input"
    assert said.err.splitlines() == [
        f"{folder}/empty.mp4: empty_file: the file has no bytes; skipped",
        f"{folder}/index.mp4: {unread}; an mp4 whose download stopped lacks its index): copy or download it again; "
        "skipped",
        f"{folder}/text.mkv: {unread}): copy or download it again; skipped",
    ]
    assert said.out == f"{tmp_path}/out: 0 of 3 images segmented, 3 skipped\n"


def test_without_its_library_a_video_is_named_with_the_cure(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = film(tmp_path / "ride.mkv")
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(run, video, tmp_path / "out") == 1
    told = "video: PyAV, which reads its frames, is not installed: pip install '.[video]'; skipped"
    assert capsys.readouterr().err == f"{video}: {told}\n"


@pytest.mark.parametrize(
    ("names", "arguments", "told"),
    [
        (("a.mkv", "a.avi"), (), "would both be written to"),
        (("a.mkv", "a/000001.png"), (), "would both be written to"),
        (("a.mkv",), ("--as=cityscapes_submission",), "is a video, of which there is no submission: leave out --as"),
        (("b.png",), ("--every=2",), "--every=2 has no effect: there is no video in "),
    ],
)
def test_what_videos_do_not_go_with_is_refused(
    names: tuple[str, ...],
    arguments: tuple[str, ...],
    told: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    assert predict(run, tmp_path / "in", tmp_path / "out", *arguments) == 1
    assert told in capsys.readouterr().err


def test_colors_are_those_of_the_matrix_that_the_video_names(tmp_path: Path) -> None:
    """Pure green, which BT.601 makes of BT.709's numbers another one."""
    for name, space in (("sd", 5), ("hd", 1)):
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as container:
            stream: Any = container.add_stream("libx264", rate=10, options={"qp": "0"})
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv444p"
            stream.codec_context.colorspace = space
            image = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), (0, 255, 0), np.uint8), format="rgb24")
            container.mux(stream.encode(image.reformat(format="yuv444p", dst_colorspace=space)))
            container.mux(stream.encode())
        ((number, found),) = frames_of(str(tmp_path / f"{name}.mkv"), every=1, max_pixels=MIB)
        assert number == 1
        np.testing.assert_allclose(found[5, 5], (0, 255, 0), atol=3, err_msg=name)
