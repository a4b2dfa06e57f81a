"""One look at the masks of an input: counts what they hold, then drafts a label table, or checks one."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from rich.console import Console

from beam_pipelines import report, runners, stopping
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.spool import DOCUMENTS, reference_of
from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.inputs.pairs import PairList
from beam_pipelines.inputs.sources import Found, Pair, find_pairs, open_source
from beam_pipelines.inputs.splits import NoSplitsError
from beam_pipelines.label_drafts import draft, fits, lint, meanings, printed
from beam_pipelines.label_drafts.contents import Contents
from beam_pipelines.label_drafts.count import CountMasks
from beam_pipelines.label_drafts.examine import Check
from beam_pipelines.label_drafts.names import yaml_of_names
from beam_pipelines.options import LabelsSettings, pipeline_options
from beam_pipelines.pixels.mask_readings import OPTION, MaskReading, all_ways
from beam_pipelines.recipe import Recipe, input_paths
from beam_pipelines.shards.documents import copy_documents, has_documents
from beam_pipelines.shards.plan import choose_pairs
from beam_pipelines.shards.survey import Surveyed, survey
from beam_pipelines.wording import counted

_Chosen = Mapping[str, Sequence[Pair]]


def run(settings: LabelsSettings) -> int:
    """Counts, prints, and returns the exit code: 0 if a draft was written or the table fits, 1 if the table has a
    problem, 2 if an error kept it from counting, 130 after Ctrl-C.
    """
    return runners.guarded(lambda console: _look(settings, console), settings.verbose, failed=2)


def _look(settings: LabelsSettings, console: Console) -> int:
    recipe, options = settings.recipe, pipeline_options(settings.beam_args)
    cloud.check_login(*input_paths(recipe.input))
    found = _find(recipe)
    report.print_found(replace(found, rejected=()), recipe.input, console)
    chosen = choose_pairs(found.pairs, recipe)
    pairs = PairList(pair for pairs in chosen.values() for pair in pairs).sorted_by_key()

    def file(index: int) -> str:
        return _shown_file(pairs[index]).removeprefix(f"{recipe.input}/")

    if found.rejected and not settings.check:
        first, count = found.rejected[0], counted(len(found.rejected), "is no pair", "are no pair")
        console.print(f"  {count}, such as {first.key}: {first.detail}", highlight=False)
    if not settings.check:
        contents = _count(pairs, None, settings, options, console)
        return _draft(contents, chosen, file, settings, console)
    surveyed, problems = _survey(chosen, recipe)
    contents = _count(pairs, Check(recipe.labels, surveyed.reading), settings, options, console)
    problems += lint.problems_of(contents, recipe.labels, file, found.rejected, whole=recipe.max_pairs is None)
    printed.print_problems(problems, console)
    return 1 if problems else 0


def _shown_file(pair: Pair) -> str:
    """The mask; or the image, if one file has the regions of many."""
    return pair.image if reference_of(pair.mask) else pair.mask


def _find(recipe: Recipe) -> Found:
    """The pairs; without splits, where the folders have none, since only a build needs them."""
    source = open_source(recipe, recipe.input)
    try:
        return find_pairs(recipe, recipe.input, source)
    except NoSplitsError:
        return find_pairs(replace(recipe, split_fractions={"all": 1.0}), recipe.input, source)


def _survey(chosen: _Chosen, recipe: Recipe) -> tuple[Surveyed, list[lint.Problem]]:
    """How a build would read the masks; if it would refuse them, every way, and the reason as a problem."""
    try:
        surveyed = survey(chosen, recipe)
    except BuildError as error:
        return Surveyed(MaskReading(all_ways(recipe.labels), ()), ()), [lint.Problem(f"a build stops: {error}", (), "")]
    warnings = [note for note in surveyed.notes if "warning: " in note]
    return surveyed, [lint.Problem(f"a build says: {warning}", (), "") for warning in warnings]


def _draft(
    contents: Contents, chosen: _Chosen, file: Callable[[int], str], settings: LabelsSettings, console: Console
) -> int:
    printed.print_contents(contents, file, console)
    if contents.names and not contents.values:
        head = f"Drafted from the regions of {counted(contents.masks, 'image')} of {settings.recipe.input}."
        _write_new(settings.output, yaml_of_names(contents, head))
        command, todo = _check_command(settings), "say what it ignores"
    else:
        meaning = meanings.meaning_of(contents, settings.recipe.masks_are)
        fit = fits.fit_of(meaning)
        drafted = draft.draft_of(meaning, fit)
        for sentence in (*fit.sentences, *drafted.decisions):
            console.print(sentence, highlight=False, markup=False)
        masks, pixels = counted(meaning.masks, "mask"), counted(meaning.pixels, "pixel")
        head = f"Drafted from {masks} with {pixels} of {settings.recipe.input}."
        _write_new(settings.output, draft.yaml_of(drafted, meaning, [head, *fit.sentences]))
        command = _check_command(settings, *_masks_are(meaning.way, chosen, settings))
        todo = "fill in its names and what it ignores"
    console.print(
        f"{settings.output}: {todo}; then check it with\n{command}",
        highlight=False,
        markup=False,
    )
    return 0


def _write_new(path: str, text: str) -> None:
    """Raises BuildError if the file exists: its names may have been filled in while the masks were read."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BuildError(f"{path} exists by now and is left as it is: give another file with --output") from error


def _masks_are(way: str, chosen: _Chosen, settings: LabelsSettings) -> list[str]:
    """--masks_are, if a build would not read the masks as the draft does."""
    recipe = replace(settings.recipe, labels=load_labels(settings.output))
    try:
        # A mask in which all is gray may hold ids, so its colors are repaired only if the user says that they are some.
        as_drafted = way in survey(chosen, recipe).reading.ways and not recipe.labels.nearest_color
    except BuildError:
        as_drafted = False
    return [] if as_drafted or recipe.masks_are == way else [f"{OPTION}={way}"]


def _check_command(settings: LabelsSettings, *options: str) -> str:
    arguments = [settings.recipe.input, *settings.given, f"--labels={settings.output}", *options]
    return shlex.join(["python", "-m", "beam_pipelines.labels", *arguments])


def _count(
    pairs: Sequence[Pair], check: Check | None, settings: LabelsSettings, options: PipelineOptions, console: Console
) -> Contents:
    """Passes the result through a file, since not every runner runs in this process."""
    with _result_path(settings, options) as path, console.status(f"reading {counted(len(pairs), 'mask')}"):
        recipe, pipeline = settings.recipe, beam.Pipeline(options=options)
        pairs = within_reach(pairs, path, settings)
        contents = pipeline | "CountMasks" >> CountMasks(pairs, recipe.max_image_pixels, check, recipe.rules)
        contents | "WriteResult" >> beam.Map(lambda found: storage.write(path, found.to_json()))
        runners.run(pipeline)
        return Contents.from_json(storage.read_bytes(path) or b"")


def within_reach(pairs: Sequence[Pair], path: str, settings: LabelsSettings) -> Sequence[Pair]:
    """The pairs, with documents where every worker can read them: beside the result. A job's request is limited."""
    if runners.runner_in(settings.beam_args).in_process or not has_documents(pairs):
        return pairs
    return copy_documents(pairs, _documents_of(path))


def _documents_of(path: str) -> str:
    return f"{path}-{DOCUMENTS}"


@contextlib.contextmanager
def _result_path(settings: LabelsSettings, options: PipelineOptions) -> Iterator[str]:
    """A path that every worker can write: in a temporary folder if the workers are in this process, otherwise in
    Beam's --temp_location, or in the current folder.
    """
    if runners.runner_in(settings.beam_args).in_process:
        with tempfile.TemporaryDirectory() as folder:
            yield storage.join(folder, "contents")
        return
    folder = options.view_as(GoogleCloudOptions).temp_location or os.getcwd()
    path = storage.join(folder, f"_labels-{uuid.uuid4().hex[:12]}")
    files = [path, _documents_of(path)]
    try:
        with stopping.on_stop(lambda: storage.delete(files)):
            yield path
    finally:
        storage.delete(files)
