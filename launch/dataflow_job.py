"""A build as a Dataflow job: submits it, follows it by its own counters, and finds it again."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult, DataflowRunner
from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient, DataflowJobAlreadyExistsError
from apache_beam.runners.runner import PipelineState
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError, TransportError
from requests.exceptions import RequestException
from rich.console import Console

from beam_pipelines import builder, progress, report
from beam_pipelines.errors import BuildError, as_build_error, first_line
from beam_pipelines.files import cloud, storage, workspace
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.graph import METRICS
from beam_pipelines.options import BuildSettings, pipeline_options
from beam_pipelines.recipe import input_paths
from launch.dataflow import DataflowSettings, make_parser
from launch.dataflow_preview import preview

POLL_SECONDS = 10.0
MESSAGE_SECONDS = 30.0  # a failed job's reason may come after its state
_CURES = {
    401: cloud.LOGIN,
    403: "ask for the role roles/dataflow.developer, and see that the API is on: "
    "`gcloud services enable dataflow.googleapis.com`",
    404: "check --project and --region",
    409: "a job of this name is running: wait for it, cancel it, or give --job_name",
    429: "a quota is used up: wait, or lower --max_num_workers",
}


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A submitted job, as it is kept in the data set's folder; `decoded` of its `images` were so before it began."""

    project: str
    region: str
    id: str
    images: int
    decoded: int

    @property
    def page(self) -> str:
        return f"https://console.cloud.google.com/dataflow/jobs/{self.region}/{self.id}?project={self.project}"


def run(settings: DataflowSettings, started: float) -> int:
    """Builds on Dataflow, or follows the job that does so already, or previews it. -> the exit code."""
    return builder.guarded(functools.partial(_run, settings, started), settings.build.verbose)


def _run(settings: DataflowSettings, started: float, console: Console) -> int:
    build, place = settings.build, Workspace(settings.build.output)
    beam_options = pipeline_options(build.beam_args, list(make_parser()._option_string_actions))
    cloud.check_login(place.root, *input_paths(build.recipe.input))
    if settings.dry_run:
        if not build.overwrite and workspace.finished_build(place, build.recipe):
            console.print(f"{place.root} is complete already: without --dry_run nothing would start", highlight=False)
        return preview(settings, started, console)
    running = None if build.plan_only else _find_running(place, beam_options)
    if running:
        if build.overwrite:
            raise BuildError(f"a job still writes to {place.root}: wait for it, or cancel it at {running.record.page}")
        workspace.finished_build(place, build.recipe)  # refuses another recipe
        if not settings.wait:
            return _leave(running.record, console)
        running.follow(build, console)
    return builder.build(build, started, console, functools.partial(_submit, settings))


def _submit(
    settings: DataflowSettings,
    pipeline: beam.Pipeline,
    watcher: progress.Watcher,
    build: BuildSettings,
    console: Console,
) -> report.Took | None:
    """Submits the job, and follows it. -> None where it is left to itself."""
    before = watcher.look()
    with _service_errors("Dataflow did not take the job"):
        result = pipeline.run()
    if not result.has_job:  # --template_location
        console.print("the template is written; a job that is started from it builds what is planned above")
        return None
    record = JobRecord(
        project=settings.project,
        region=settings.region,
        id=result.job_id(),
        images=watcher.images,
        decoded=before.decoded,
    )
    storage.write(_record_path(Workspace(build.output)), json.dumps(asdict(record)).encode())
    if not settings.wait:
        _leave(record, console)
        return None
    return RunningJob(record, result, pipeline.runner.dataflow_client).follow(build, console)


def _leave(record: JobRecord, console: Console) -> int:
    console.print(f"job {record.id}: {record.page}", highlight=False)
    console.print("it publishes the data set itself; the same command follows it, and finishes up when it is done")
    return 0


class RunningJob:
    """A job that Dataflow has. Its counters say how far it is: see `progress.Watched`."""

    def __init__(self, record: JobRecord, result: DataflowPipelineResult, client: DataflowApplicationClient) -> None:
        self.record, self._result, self._client = record, result, client
        self.images = record.images

    def follow(self, build: BuildSettings, console: Console) -> report.Took:
        """Shows progress until the job has ended. Nothing but Ctrl-C cancels it.

        Raises:
          BuildError: it failed, was cancelled, or can't be followed.
        """
        console.print(f"job {self.record.id}: {self.record.page}", highlight=False)
        start = time.time()
        lost = f"job {self.record.id} goes on, but can't be followed (the same command tries again)"
        try:
            with progress.shown(self, build.recipe.normalized, console, remote=True), _service_errors(lost):
                self._wait(console)
        except KeyboardInterrupt:
            self._cancel(console)
            raise
        seconds = time.time() - start
        return report.Took(total=seconds, pipeline=seconds, images=self.images - self.record.decoded)

    def _cancel(self, console: Console) -> None:
        """Says so where it fails: the job goes on then, and is paid."""
        console.print("cancelling the job")
        try:
            self._result.cancel()
        except Exception as error:  # of Google's client or of Beam's: Ctrl-C ends the command all the same
            reason, page = first_line(error), self.record.page
            console.print(
                f"job {self.record.id} could not be cancelled ({reason}): cancel it at {page}", highlight=False
            )

    def look(self) -> progress.State:
        counts = self._counters()
        rejected = sum(count for name, count in counts.items() if name.startswith("rejected_"))
        return progress.State(
            min(self.images, self.record.decoded + counts.get("images", 0) + rejected),
            min(self.images, counts.get("normalized_images", 0)),
            counts.get("staged_bytes", 0) + counts.get("written_bytes", 0),
        )

    def _counters(self) -> dict[str, int]:
        """Name -> value of our counters, with what is not committed yet. Not by Beam's metrics, which fail with a
        KeyError as long as nothing is.
        """
        with _service_errors(f"job {self.record.id} has no counters"):
            metrics = self._client.get_job_metrics(self.record.id).metrics
        counts: dict[str, int] = {}
        for metric in metrics:
            name, is_ours = metric.name.name, metric.name.context.get("namespace") == METRICS
            if is_ours and metric.scalar is not None:
                counts[name] = max(counts.get(name, 0), int(metric.scalar))
        return counts

    def _wait(self, console: Console) -> None:
        """Until the job has ended; Beam's own wait does this in a thread, whose errors nobody catches."""
        shown = None
        while not PipelineState.is_terminal(state := self._result.state):
            if state != shown:
                console.print(f"job is {state.lower()}", highlight=False)
            shown = state
            time.sleep(POLL_SECONDS)
        if state != PipelineState.DONE:
            messages = self._errors() if state == PipelineState.FAILED else []
            raise as_build_error(RuntimeError("\n".join(messages))) or BuildError(
                f"the job ended as {state}{': ' + _reason(messages) if messages else ''}; the same command goes on "
                f"from the finished shards. Its page: {self.record.page}"
            )

    def _errors(self) -> list[str]:
        """The texts of the job's error messages, once there is one."""
        deadline = time.time() + MESSAGE_SECONDS
        while True:
            found, _ = self._client.list_messages(self.record.id, minimum_importance="JOB_MESSAGE_ERROR")
            if found or time.time() > deadline:
                return [message.message_text for message in found]
            time.sleep(1)


def _find_running(place: Workspace, beam_options: PipelineOptions) -> RunningJob | None:
    """The job that an earlier command left running, whether it was told to or was killed."""
    text = storage.read_text(_record_path(place))
    if text is None:
        return None
    record = JobRecord(**json.loads(text))
    google = beam_options.view_as(GoogleCloudOptions)
    google.project, google.region = record.project, record.region
    client = DataflowApplicationClient(beam_options)
    try:
        with _service_errors(f"nothing tells whether job {record.id} still writes to {place.root}"):
            # Without Beam's retries, which take "not found" for a delay and go on for minutes.
            found = client.get_job.__wrapped__(client, record.id)
    except BuildError as error:
        if isinstance(error.__cause__, NotFound):
            return None  # so long ago that Dataflow has forgotten it
        raise
    runner = DataflowRunner()
    runner.dataflow_client = client
    result = DataflowPipelineResult(found, runner, beam_options)
    return None if result.is_in_terminal_state() else RunningJob(record, result, client)


def _record_path(place: Workspace) -> str:
    return storage.join(place.build, "dataflow", "job.json")


@contextlib.contextmanager
def _service_errors(what: str) -> Iterator[None]:
    """Turns what Dataflow answers into a BuildError with a cure; other errors pass."""
    try:
        yield
    except DataflowJobAlreadyExistsError as error:
        raise BuildError(f"{what}: {error}") from error
    except GoogleAPICallError as error:
        code = int(error.code or 0)
        cure = _CURES.get(code, "try again later" if code >= 500 else "mend that, and start again")
        raise BuildError(f"{what}: it answered {code}, {error.message}; {cure}") from error
    except (GoogleAPIError, TransportError, RequestException) as error:  # RetryError of a client that gave up
        raise BuildError(f"{what}: it can't be reached, {first_line(error)}; try again later") from error
    except GoogleAuthError as error:
        raise BuildError(f"{what}: the Google account was refused, {first_line(error)}; {cloud.LOGIN}") from error


def _reason(messages: list[str]) -> str:
    """The last line of the message that says most: a worker's traceback, if there is one."""
    told = next((text for text in messages if "Traceback" in text), messages[-1])
    return [line.strip() for line in told.splitlines() if line.strip()][-1]
