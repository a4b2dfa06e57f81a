"""What a build will do: the pairs of its input, how they are read, and the shards that they make."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from beam_pipelines import report
from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.manifest import Manifest, ManifestError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage, workspace
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs import sample_scenes
from beam_pipelines.inputs.layout_labels import labels_of
from beam_pipelines.inputs.pairs import PairList
from beam_pipelines.inputs.placement import check_apart, check_not_among
from beam_pipelines.inputs.sample_scenes import drawing
from beam_pipelines.inputs.sources import Found, Source, find_pairs, open_source
from beam_pipelines.machine import cores
from beam_pipelines.options import BuildSettings
from beam_pipelines.recipe import SCENES, Recipe
from beam_pipelines.shards.estimate import Estimate, estimate
from beam_pipelines.shards.plan import ShardPlan, choose_pairs, cut_shards, first_keys
from beam_pipelines.shards.survey import survey
from beam_pipelines.shards.update import Changes, Difference, compare, update_shards


@dataclass(frozen=True)
class BuildPlan:
    """The result of planning, before any shard is written; an update has a `difference`."""

    found: Found
    chosen: Mapping[str, PairList]
    shards: Sequence[ShardPlan]
    estimate: Estimate
    difference: Difference | None = None

    @property
    def decoded(self) -> list[ShardPlan]:
        """The shards whose pairs are decoded, or whose records are copied."""
        return [shard for shard in self.shards if not shard.is_whole]

    @property
    def files(self) -> list[str]:
        """The shards that the build may write, and their indexes."""
        return [name for shard in self.shards if not shard.is_kept for name in shard.files]


def settled(settings: BuildSettings) -> tuple[BuildSettings, list[Source]]:
    """The settings with the label table of the input's layout, if none was given; and the input, if it was opened, for
    `make_plan`.

    Raises:
      LabelTableError: the layout has a label table of its own, which can't be read.
    """
    if settings.labels_given or settings.recipe.input == SCENES:
        return settings, []
    try:
        opened = [open_source(settings.recipe, settings.recipe.input)]
    except BuildError:  # a finished data set does not need its input; a build raises the error again
        opened = []
    labels = labels_of(opened[0]) if opened else _labels_of_finished(settings)
    recipe = replace(settings.recipe, labels=labels) if labels else settings.recipe
    return replace(settings, recipe=recipe), opened


def _labels_of_finished(settings: BuildSettings) -> LabelTable | None:
    """The label table of the data set in `--output`, if its recipe is the same besides; else None."""
    with contextlib.suppress(BuildError, ManifestError):
        found = workspace.read_manifest(Workspace(settings.output))
        if found and replace(settings.recipe, labels=found.labels).fingerprint == found.fingerprint:
            return found.labels
    return None


def make_plan(
    recipe: Recipe,
    place: Workspace,
    console: Console,
    opened: list[Source] | None = None,
    before: Manifest | None = None,
) -> BuildPlan:
    """Finds the pairs, divides them into shards, and prints the plan. Writes nothing, except the embedded scenes if
    they are the input. An `opened` input is taken out of its list, so that nothing else holds the list of its files.

    Args:
      before: the data set in `place`, for an update of it.
    """
    inputs = _draw_scenes(recipe, place, console) if recipe.input == SCENES else recipe.input
    if recipe.input != SCENES:
        check_apart(inputs, place.root)
    source = opened.pop() if opened else open_source(recipe, inputs)
    if recipe.input != SCENES:
        check_not_among(source, place.root)
    found = find_pairs(recipe, inputs, source)
    form = "" if recipe.input == SCENES else f"{source.form}, label table {recipe.labels.name}"
    del source  # the list of all files
    report.print_found(found, inputs, console, form)
    chosen = choose_pairs(found.pairs, recipe)
    surveyed = survey(chosen, recipe)
    report.print_notes(surveyed.notes, console)
    expected = estimate(itertools.chain.from_iterable(chosen.values()), recipe, surveyed.reading)
    example_bytes = expected.example_bytes[recipe.image_encoding]
    if before is None:
        shards = cut_shards(chosen, recipe, example_bytes, surveyed.reading)
        report.print_plan(chosen, shards, expected, recipe, console)
        return BuildPlan(found, chosen, shards, expected)
    difference = compare(place, before, chosen, found.rejected)
    shards = update_shards(difference, before, chosen, recipe, example_bytes, surveyed.reading)
    report.print_update(difference, shards, console)
    return BuildPlan(found, chosen, shards, expected, difference)


def changes_since(settings: BuildSettings, before: Manifest, opened: list[Source]) -> Changes | None:
    """What has changed since the data set was built; None if it is of the embedded scenes, or keeps no list of pairs.

    Raises:
      BuildError: the input or the list can't be read.
    """
    recipe = settings.recipe
    if recipe.input == SCENES or not before.indexed:
        return None
    source = opened.pop() if opened else open_source(recipe, recipe.input)
    found = find_pairs(recipe, recipe.input, source)
    return compare(Workspace(settings.output), before, choose_pairs(found.pairs, recipe), found.rejected).changes


def _draw_scenes(recipe: Recipe, place: Workspace, console: Console) -> str:
    """Draws the embedded scenes that the recipe takes, beside the data set, unless they are there. -> their folder."""
    folder = f"{place.root}-source"
    of_splits = [sample_scenes.list_scenes({split: count}) for split, count in sample_scenes.SCENES.items()]
    scenes = [key for keys in of_splits for key in first_keys(keys, recipe)]
    there = storage.sizes(folder)
    missing = [key for key in scenes if not all(name in there for name in sample_scenes.scene_file_names(key))]
    if missing:
        console.print(f"drawing {len(missing)} street scenes into {folder}", highlight=False)

        def write(name: str, data: bytes) -> None:
            if name not in there:  # earlier versions drew no instance ids; what they drew stays untouched
                storage.write(storage.join(folder, name), data)

        drawing.draw_scenes(missing, cores(), write)
    return folder
