"""One verification: reads the manifest, runs the pipeline, prints the table, and returns the exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipelines import report, runners, stopping
from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract.manifest import Manifest, not_built
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.options import VerifySettings, pipeline_options
from beam_pipelines.options.command import command_of
from beam_pipelines.options.parser import MAX_REJECTS
from beam_pipelines.shards import check
from beam_pipelines.shards.check import Checked, CheckShards
from beam_pipelines.wording import rounded_up


def run(settings: VerifySettings) -> int:
    """Verifies, prints, and returns the exit code: 0 if every check passed, 1 if one failed or there is no data set, 2
    if an error kept it from checking, 130 after Ctrl-C.
    """
    return runners.guarded(lambda console: _verify(settings, console), settings.verbose, failed=2)


def _verify(settings: VerifySettings, console: Console) -> int:
    place, options = Workspace(settings.dataset), pipeline_options(settings.beam_args)
    cloud.check_login(place.root)
    text = storage.read_text(place.manifest)
    if text is None:
        print(f"error: {_missing(settings.dataset)}", file=sys.stderr)
        return 1
    manifest, contradictions = contract.read(text, place.manifest)
    checked = _check(manifest, place, options, runners.runner_in(settings.beam_args).in_process)
    problems = [
        *check.problems_of_manifest(contradictions),
        *checked.problems,
        *check.problems_of_splits(checked, manifest),
        *check.strange_files(manifest, place),
    ]
    report.print_checked(checked, manifest, place.root, problems, console)
    if problems:
        console.print(_cure(manifest, place), highlight=False)
    return 1 if problems else 0


def _missing(dataset: str) -> str:
    if storage.is_local(dataset) and not os.path.lexists(dataset):
        return f"{dataset} does not exist"
    return not_built(dataset)


def _cure(manifest: Manifest, place: Workspace) -> str:
    """How to repair the data set. As many pairs may be rejected as before."""
    rejected = sum(manifest.rejected.values())
    share = rejected / max(1, rejected + sum(map(manifest.examples, manifest.splits)))
    options = ["--overwrite", *([f"--max_rejects={rounded_up(share)}"] if share > MAX_REJECTS else [])]
    command = command_of(manifest.recipe, place.root, *options)
    rebuild = f":\n{command}" if command else f", by its own command with {' '.join(options)}"
    return f"restore the files that are named above, or build the data set again{rebuild}"


def _check(manifest: Manifest, place: Workspace, options: PipelineOptions, in_process: bool) -> Checked:
    """Passes the result through a file, since not every runner runs in this process."""
    with _result_path(place, in_process) as path:
        pipeline = beam.Pipeline(options=options)
        checked = pipeline | "CheckShards" >> CheckShards(manifest, place.root)
        checked | "WriteResult" >> beam.Map(lambda found: storage.write(path, found.to_json().encode()))
        runners.run(pipeline)
        return Checked.from_json(storage.read_text(path) or "", path)


@contextlib.contextmanager
def _result_path(place: Workspace, in_process: bool) -> Iterator[str]:
    """A path that every worker can write: beside the shards, or in a temporary folder if the workers are in this
    process, since a local data set may be read-only.
    """
    if in_process and storage.is_local(place.root):
        with tempfile.TemporaryDirectory() as folder:
            yield storage.join(folder, "checked")
        return
    path = storage.join(place.root, f"_verify-{uuid.uuid4().hex[:12]}")
    try:
        with stopping.on_stop(lambda: storage.delete([path])):
            yield path
    finally:
        storage.delete([path])
