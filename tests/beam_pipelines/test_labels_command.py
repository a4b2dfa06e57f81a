"""`python -m beam_pipelines.labels`: the survey and the draft of real and of drawn masks, and the check of a table."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.contract.picture_rules import STRICT
from beam_pipelines.drafter import within_reach
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.inputs.sources import find_pairs
from beam_pipelines.label_drafts.count import CountMasksFn, chunks_of
from beam_pipelines.labels import main as labels
from beam_pipelines.options import parse_labels
from tests.support.builds import build, published
from tests.support.drawn_masks import COLORS, areas, palette_image, png, write_pairs

pytestmark = pytest.mark.usefixtures("without_transform")

DRAWN = [areas(6, seed) for seed in range(5)]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "in", [Image.fromarray(COLORS[ids]) for ids in DRAWN])


def printed(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert labels([*map(str, arguments)]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_draft_builds_as_it_is(scenes: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    draft, output = tmp_path / "draft.yaml", tmp_path / "out"
    out = printed(capsys, scenes, f"--output={draft}")
    assert "the colors are those of camvid11" in out
    assert f"{draft}: fill in its names" in out
    options = ["--splits=train", "--image_size=native", "--image_encoding=uint8", "--shards=train=1"]
    assert build(f"--input={scenes}", f"--output={output}", f"--labels={draft}", *options) == 0
    manifest = published(output)[1]
    drawn = sorted(int((np.stack(DRAWN) == index).sum()) for index in range(6))
    assert sorted(manifest["class_pixels"]["train"]) == drawn
    assert [f"{count:,} pixels" in draft.read_text() for count in drawn] == [True] * 6


def test_the_command_that_is_printed_finds_that_the_draft_fits(
    scenes: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = printed(capsys, scenes, f"--output={tmp_path / 'draft.yaml'}")
    command = out.splitlines()[-1]
    assert command.startswith("python -m beam_pipelines.labels ")
    assert "the table fits every mask" in printed(capsys, *shlex.split(command)[3:])


def test_other_depths_of_the_same_levels_are_read_alike(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    masks = [Image.fromarray((ids.astype(np.uint16) * 257) if index else ids) for index, ids in enumerate(DRAWN)]
    draft = tmp_path / "draft.yaml"
    printed(capsys, write_pairs(tmp_path / "in", masks), f"--output={draft}")
    assert [row.source_ids for row in load_labels(str(draft)).classes] == [(index,) for index in range(6)]
    assert "the table fits every mask" in printed(capsys, tmp_path / "in", f"--labels={draft}")


def test_a_table_that_does_not_fit_is_a_problem(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(DRAWN[0][:-1]).save(scenes / "masks" / "train" / "000.png")
    (scenes / "masks" / "train" / "001.png").unlink()
    out = printed(capsys, scenes, "--labels=camvid11", code=1)
    problems = [line.removeprefix("problem: ") for line in out.splitlines() if line.startswith("problem: ")]
    assert [problem.split(":")[0] for problem in problems] == [
        "missing_mask",
        "size_mismatch",
        "no mask has sign symbol, fence, car, pedestrian, bicyclist",
    ]
    assert "(first: train/001)" in problems[0]
    assert "(first: masks/train/000.png)" in problems[1]
    assert out.splitlines()[-1] == "3 problems"


def test_what_a_build_would_refuse_is_a_problem(
    camvid: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = printed(capsys, camvid, "--labels=cityscapes19", "--max_pairs=20", code=1)
    assert re.search(r"problem: a build stops: the 20 examined masks .* they fit --labels=camvid11", out)


def test_real_masks_fit_their_own_tables(camvid: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = printed(capsys, camvid, f"--output={tmp_path / 'draft.yaml'}", "--max_pairs=30")
    assert "gray, 8 bits │    60 │ 100.00%" in out
    assert "the ids look like those of camvid11: give --labels=camvid11" in out
    table, known = load_labels(str(tmp_path / "draft.yaml")), BUILTIN_TABLES["camvid11"]()
    assert [row.source_ids for row in table.classes] == [row.source_ids for row in known.classes]
    assert not table.names(255)


def test_label_ids_of_cityscapes_are_recognized(
    cityscapes_sample: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = printed(capsys, cityscapes_sample, f"--output={tmp_path / 'draft.yaml'}")
    assert "the ids look like those of cityscapes19 or cityscapes7: give --labels=cityscapes19 or" in out
    draft, known = load_labels(str(tmp_path / "draft.yaml")), BUILTIN_TABLES["cityscapes19"]()
    for row in draft.labels:
        (source_id,) = row.source_ids
        assert (row.train_id == 255) == (known.train_id_of[source_id] == 255)


def test_a_file_that_exists_is_never_overwritten(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft = scenes / "draft.yaml"
    draft.write_text("mine")
    with pytest.raises(SystemExit) as caught:
        labels([str(scenes), f"--output={draft}"])
    assert caught.value.code == 2
    told = f"error: {draft} exists: give another file with --output, or check it with --labels={draft} (see --help)\n"
    assert capsys.readouterr().err == told
    assert draft.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--labels=camvid11", "--output=x.yaml"], "--labels checks a table and --output names a draft"),
        (["--output=gs://street/x.yaml"], "label files are local"),
        (["--output=nowhere/x.yaml"], "the folder nowhere does not exist"),
        (["--labels=nowhere.yaml"], "--labels=nowhere.yaml is neither a file nor one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        labels(["in", *arguments])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_an_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert labels([str(tmp_path), f"--output={tmp_path / 'draft.yaml'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} has no known layout")


def test_labels_of_regions_are_drafted_and_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    square, pairs = [[10, 10], [60, 10], [60, 60]], ["image,mask"]
    for index in range(5):
        Image.fromarray(COLORS[DRAWN[index]]).save(tmp_path / f"{index}.png")
        shapes = [
            {"label": label, "points": square, "shape_type": "polygon"}
            for label in (["car", "no", "no"] if index else ["[red] sign"])
        ]
        content = {"shapes": shapes, "imagePath": f"{index}.png", "imageHeight": 96, "imageWidth": 160}
        (tmp_path / f"{index}.json").write_text(json.dumps(content))
        pairs.append(f"{index}.png,{index}.json")
    source = tmp_path / "pairs.csv"
    source.write_text("\n".join(pairs))
    draft = tmp_path / "draft.yaml"
    out = printed(capsys, source, f"--output={draft}")
    assert re.search(r"│ no +│ +8 │ +4 │", out)
    assert re.search(r"│ \[red\] sign +│", out)
    assert [row.name for row in load_labels(str(draft)).classes] == ["[red] sign", "car", "no"]
    assert "8 regions in 4 of 5 images" in draft.read_text()
    assert "the table fits every mask" in printed(capsys, source, f"--labels={draft}")
    draft.write_text("classes: [car, bus]")
    out = printed(capsys, source, f"--labels={draft}", code=1)
    assert "unknown_labels: 5 masks: labels that draft does not name: 'no' (in 4), '[red] sign' (in 1)" in out
    assert "no mask has bus: 1 of 2 classes" in out


def write_coco(folder: Path, segmentation: object) -> None:
    """Four images with a car each, that of the third as `segmentation` says."""
    square = [[10, 10, 60, 10, 60, 60]]
    images = [{"id": index, "file_name": f"{index}.png", "height": 96, "width": 160} for index in range(4)]
    regions = [
        {"image_id": index, "category_id": 1, "segmentation": segmentation if index == 2 else square}
        for index in range(4)
    ]
    content = {"images": images, "annotations": regions, "categories": [{"id": 1, "name": "car"}]}
    for index in range(4):
        Image.fromarray(COLORS[DRAWN[index]]).save(folder / f"{index}.png")
    (folder / "instances_train.json").write_text(json.dumps(content))


def test_a_box_without_a_segmentation_is_a_problem_of_its_image(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "cars.yaml").write_text("classes: [car]")
    write_coco(tmp_path, None)
    out = printed(capsys, tmp_path, f"--labels={tmp_path / 'cars.yaml'}", code=1)
    assert out.splitlines()[-2:] == [
        "problem: bad_polygons: 1 mask: polygons or other regions that are damaged or can't be drawn (first: 2.png); "
        "draw these regions again, or take the images out",
        "1 problem",
    ]


def test_workers_elsewhere_read_regions_beside_the_result(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_coco(tmp_path / "in", [[10, 10, 60, 10, 60, 60]])
    here = parse_labels([str(tmp_path / "in")])
    found = find_pairs(here.recipe, here.recipe.input)
    assert found.spool is not None
    result = str(tmp_path / "result")
    assert within_reach(found.pairs, result, here) is found.pairs
    pairs = within_reach(found.pairs, result, replace(here, beam_args=("--runner=PrismRunner",)))
    found.spool.close()
    count = CountMasksFn(10**8, None, STRICT)
    count.setup()
    (contents,) = [contents for chunk in chunks_of(pairs) for contents in count.process(chunk)]
    count.teardown()
    assert contents.regions == {"car": 4}


def test_folders_without_splits_need_none_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_pairs(tmp_path, [Image.fromarray(ids) for ids in DRAWN])
    for kind in ("images", "masks"):
        for path in [*(tmp_path / kind / "train").iterdir()]:
            path.rename(tmp_path / kind / path.name)
        (tmp_path / kind / "train").rmdir()
    assert "gray, 8 bits │     5 │" in printed(capsys, tmp_path, f"--output={tmp_path / 'draft.yaml'}")


@pytest.mark.slow
def test_threads_and_processes_draft_the_same_bytes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stored = [
        png(palette_image(ids, COLORS)) if index % 2 else png(Image.fromarray(COLORS[ids]))
        for index, ids in enumerate([areas(6, seed) for seed in range(70)])
    ]
    source, drafts = write_pairs(tmp_path / "in", stored), []
    for mode in ("in_memory", "multi_threading", "multi_processing"):
        draft = tmp_path / f"{mode}.yaml"
        out = printed(
            capsys,
            source,
            f"--output={draft}",
            "--runner=FnApiRunner",
            "--direct_num_workers=2",
            f"--direct_running_mode={mode}",
        )
        drafts.append((draft.read_bytes(), out.replace(mode, "")))
    assert drafts[0] == drafts[1] == drafts[2]
