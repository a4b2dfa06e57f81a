"""Each layout as its data set is distributed: found by itself, with its label table, from a folder and from a zip."""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, LabelTableError
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.layout_labels import labels_of
from beam_pipelines.inputs.layouts import LAYOUTS
from beam_pipelines.inputs.sources import Found, find_pairs, open_source
from beam_pipelines.options import parse_build
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.planner import settled
from beam_pipelines.recipe import Recipe
from beam_pipelines.shards.plan import choose_pairs
from beam_pipelines.shards.stage import file_reader, prepare
from beam_pipelines.shards.survey import survey
from tests.support.builds import build, no_transform
from tests.support.miniatures import MINIATURES, draw, names_of


def read(inputs: Path, *options: str) -> tuple[Recipe, Found, dict[str, Sample]]:
    """What a build of `inputs` takes: the recipe with the layout's table, the pairs, and filename -> sample."""
    settings, opened = settled(parse_build([f"--input={inputs}", "--output=out", "--image_size=native", *options]))
    found = find_pairs(settings.recipe, str(inputs), opened[0])
    chosen = choose_pairs(found.pairs, settings.recipe)
    reading = survey(chosen, settings.recipe).reading
    reader = file_reader(settings.recipe)
    samples = [prepare(pair, settings.recipe, reader, reading) for pair in found.pairs]
    reader.close()
    assert all(isinstance(sample, Sample) for sample in samples), samples
    return settings.recipe, found, {sample.filename: sample for sample in samples if isinstance(sample, Sample)}


@pytest.mark.parametrize("name", MINIATURES)
def test_a_layout_is_found_with_its_table_and_its_masks_are_those_that_were_drawn(tmp_path: Path, name: str) -> None:
    miniature = MINIATURES[name]
    drawn = draw(miniature, tmp_path)
    recipe, found, samples = read(tmp_path, *miniature.options)
    wanted = BUILTIN_TABLES[miniature.labels]()
    assert [row.name for row in recipe.labels.classes] == [row.name for row in wanted.classes]
    assert found.rejected == ()
    assert samples.keys() == drawn.keys()
    for filename, sample in samples.items():
        assert np.array_equal(sample.mask, drawn[filename]), filename
    if not miniature.options:
        assert {pair.split for pair in found.pairs} == miniature.splits.keys()
    assert len({pair.key for pair in found.pairs}) == len(drawn)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_zip_of_a_layout_gives_the_same_samples(tmp_path: Path, name: str) -> None:
    miniature = MINIATURES[name]
    draw(miniature, tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path / "set"))
    _, found, samples = read(tmp_path / "set", *miniature.options)
    _, packed, from_zip = read(tmp_path / "set.zip", *miniature.options)
    assert [(pair.key, pair.split) for pair in packed.pairs] == [(pair.key, pair.split) for pair in found.pairs]
    for sample, other in zip(samples.values(), from_zip.values(), strict=True):
        assert np.array_equal(sample.mask, other.mask)
        assert np.array_equal(sample.image, other.image)


@pytest.mark.parametrize("name", [name for name in MINIATURES if name in {row.option for row in LAYOUTS}])
def test_half_a_layout_says_what_is_missing(tmp_path: Path, name: str) -> None:
    miniature = replace(MINIATURES[name], others={})
    draw(miniature, tmp_path)
    for _, mask in names_of(miniature):
        (tmp_path / mask).unlink()
    with pytest.raises(BuildError) as error:
        open_source(parse_build([f"--input={tmp_path}", "--output=out"]).recipe, str(tmp_path))
    layout = next(row for row in LAYOUTS if row.option == name)
    told = (
        "has no known layout. Its first files are " if layout.is_loose else f"has images of the layout {layout.name} ("
    )
    assert told in str(error.value)


def test_every_layout_has_a_miniature_and_a_source() -> None:
    assert {row.option for row in LAYOUTS if not row.is_anywhere} <= MINIATURES.keys()  # of polygons: other tests
    assert all(row.source for row in LAYOUTS if row.option != "folders")


def test_versions_of_a_layout_are_chosen_and_told(tmp_path: Path) -> None:
    draw(MINIATURES["mapillary"], tmp_path)
    recipe = parse_build([f"--input={tmp_path}", "--output=out"]).recipe
    found = find_pairs(recipe, str(tmp_path))
    assert "masks: v1.2 are read; --annotations=v2.0 reads the others" in found.notes
    newer = find_pairs(replace(recipe, annotations="v2.0"), str(tmp_path))
    assert [Path(pair.mask).parts[-3] for pair in newer.pairs] == ["v2.0"]
    table, source = tmp_path / "config_v2.0.json", open_source(replace(recipe, annotations="v2.0"), str(tmp_path))
    for text, told in (("{", ", line 1: "), ('{"labels": [7]}', ": label table 'config_v2.0': label 0: expected")):
        table.write_text(text)
        with pytest.raises(LabelTableError, match=rf"^{re.escape(f'{table}{told}')}.*; or give --labels$"):
            labels_of(source)
    table.unlink()
    with pytest.raises(LabelTableError, match=r"has no config_v2\.0\.json, which names the classes of its masks"):
        labels_of(open_source(replace(recipe, annotations="v2.0"), str(tmp_path)))


def test_lists_of_splits_decide_and_a_key_in_two_of_them_is_refused(tmp_path: Path) -> None:
    draw(MINIATURES["voc"], tmp_path)
    recipe = parse_build([f"--input={tmp_path}", "--output=out"]).recipe
    found = find_pairs(recipe, str(tmp_path))
    assert [pair.key for pair in found.pairs] == ["train/2007_000000", "train/2007_000001", "val/2007_000002"]
    assert any("1 images are left out: they are in none of the lists" in note for note in found.notes)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("2007_000000\n")
    with pytest.raises(BuildError, match="2007_000000 is in the lists of two splits, train and val"):
        find_pairs(recipe, str(tmp_path))
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_bytes(b"2007\xff\n")
    with pytest.raises(BuildError, match=r"Segmentation/val\.txt, line 1: the file is not UTF-8 text"):
        find_pairs(recipe, str(tmp_path))


def test_ignored_pixels_are_drawn_too(tmp_path: Path) -> None:
    """The miniatures would prove little of ignored labels otherwise."""
    assert any((ids == IGNORE).any() for ids in draw(MINIATURES["cityscapes"], tmp_path).values())


def test_a_finished_data_set_is_complete_without_its_input(tmp_path: Path) -> None:
    """The label table came from the layout."""
    draw(MINIATURES["camvid_segnet"], tmp_path / "in")
    arguments = (f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", "--image_size=native")
    with no_transform():
        assert build(*arguments) == 0
        (tmp_path / "in").rename(tmp_path / "gone")
        assert build(*arguments) == 0
        assert build(*arguments[:2], "--image_size=8x16") == 1
