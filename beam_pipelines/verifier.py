"""One verification from beginning to end: manifest, pipeline, table, exit code."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import uuid
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipelines import checks, cloud, engines, report, stopping, storage
from beam_pipelines.checks import Checked, CheckShards
from beam_pipelines.contract import manifest as contract
from beam_pipelines.contract.manifest import Manifest, ManifestError, not_built
from beam_pipelines.errors import BuildError, as_build_error, without_worker_tracebacks
from beam_pipelines.options import VerifySettings, is_local_runner, pipeline_options
from beam_pipelines.workspace import Workspace


def run(settings: VerifySettings) -> int:
    """Verifies, prints, and returns the exit code: 0 all holds, 1 something does not, 2 there is no data set, 130
    Ctrl-C stopped it.
    """
    try:
        return _verify(settings)
    except KeyboardInterrupt:
        print(stopping.STOPPED, file=sys.stderr)
        return 130


def _verify(settings: VerifySettings) -> int:
    console = Console(soft_wrap=True, markup=False)  # a path may hold brackets
    if not settings.verbose:
        engines.keep_quiet()
    place, options = Workspace(settings.dataset), pipeline_options(settings.beam_args)
    try:
        cloud.check_login(place.root)
        text = storage.read_text(place.manifest)
        if text is None:
            raise BuildError(not_built(settings.dataset))
        manifest, contradictions = contract.read(text, place.manifest)
        with without_worker_tracebacks(settings.verbose):
            checked = _check(manifest, place, options, is_local_runner(settings.beam_args))
    except Exception as error:
        reason = error if isinstance(error, ManifestError) else as_build_error(error) or engines.engine_error(error)
        if reason is None or settings.verbose:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return 2
    problems = [
        *checks.problems_of_manifest(contradictions),
        *checked.problems,
        *checks.problems_of_splits(checked, manifest),
        *checks.strange_files(manifest, place),
    ]
    report.print_checked(checked, manifest, place.root, problems, console)
    return 1 if problems else 0


def _check(manifest: Manifest, place: Workspace, options: PipelineOptions, local_runner: bool) -> Checked:
    """The result comes back by a file: not every runner runs in this process."""
    with _result_path(place, local_runner) as path:
        with beam.Pipeline(options=options) as pipeline:
            checked = pipeline | "CheckShards" >> CheckShards(manifest, place.root)
            checked | "WriteResult" >> beam.Map(lambda found: storage.write(path, found.to_json().encode()))
        return Checked.from_json(storage.read_text(path) or "", path)


@contextlib.contextmanager
def _result_path(place: Workspace, local_runner: bool) -> Iterator[str]:
    """Beside the shards, which every worker reaches; for this machine's own workers elsewhere: a local data set may be
    read-only.
    """
    if local_runner and storage.is_local(place.root):
        with tempfile.TemporaryDirectory() as folder:
            yield storage.join(folder, "checked")
        return
    path = storage.join(place.root, f"_verify-{uuid.uuid4().hex[:12]}")
    try:
        with stopping.on_stop(lambda: storage.delete([path])):
            yield path
    finally:
        storage.delete([path])
