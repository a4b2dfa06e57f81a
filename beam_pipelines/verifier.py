"""One verification from beginning to end: manifest, pipeline, table, exit code."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipelines import report, runners, stopping
from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract.manifest import Manifest, not_built
from beam_pipelines.errors import BuildError, without_worker_tracebacks
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.options import VerifySettings, pipeline_options
from beam_pipelines.shards import check
from beam_pipelines.shards.check import Checked, CheckShards


def run(settings: VerifySettings) -> int:
    """Verifies, prints, and returns the exit code: 0 all holds, 1 something does not, 2 there is no data set, 130
    Ctrl-C stopped it.
    """
    return runners.guarded(lambda console: _verify(settings, console), settings.verbose, failed=2)


def _verify(settings: VerifySettings, console: Console) -> int:
    place, options = Workspace(settings.dataset), pipeline_options(settings.beam_args)
    cloud.check_login(place.root)
    text = storage.read_text(place.manifest)
    if text is None:
        raise BuildError(not_built(settings.dataset))
    manifest, contradictions = contract.read(text, place.manifest)
    with without_worker_tracebacks(settings.verbose):
        checked = _check(manifest, place, options, runners.runner_in(settings.beam_args).in_process)
    problems = [
        *check.problems_of_manifest(contradictions),
        *checked.problems,
        *check.problems_of_splits(checked, manifest),
        *check.strange_files(manifest, place),
    ]
    report.print_checked(checked, manifest, place.root, problems, console)
    return 1 if problems else 0


def _check(manifest: Manifest, place: Workspace, options: PipelineOptions, in_process: bool) -> Checked:
    """The result comes back by a file: not every runner runs in this process."""
    with _result_path(place, in_process) as path:
        with beam.Pipeline(options=options) as pipeline:
            checked = pipeline | "CheckShards" >> CheckShards(manifest, place.root)
            checked | "WriteResult" >> beam.Map(lambda found: storage.write(path, found.to_json().encode()))
        return Checked.from_json(storage.read_text(path) or "", path)


@contextlib.contextmanager
def _result_path(place: Workspace, in_process: bool) -> Iterator[str]:
    """Beside the shards, which every worker reaches; for this machine's own workers elsewhere: a local data set may be
    read-only.
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
