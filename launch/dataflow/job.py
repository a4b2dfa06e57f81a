"""A Dataflow job that builds a data set: its record in the data set's folder, and its progress."""

from __future__ import annotations

import signal
import time

import msgspec
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult, DataflowRunner
from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
from apache_beam.runners.runner import PipelineState
from google.api_core.exceptions import NotFound
from rich.console import Console

from beam_pipelines import progress, report
from beam_pipelines.contract import schema
from beam_pipelines.contract.errors import Stopped
from beam_pipelines.contract.schema import Count, SchemaError
from beam_pipelines.errors import BuildError, as_build_error, first_line
from beam_pipelines.files import storage
from beam_pipelines.files.names import DATAFLOW
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.graph import METRICS
from launch.account import LOGIN, google_errors
from launch.errors import LaunchError

POLL_SECONDS = 10.0
MESSAGE_SECONDS = 30.0  # the reason of a failure may arrive after the state of the job
CURES = {
    401: LOGIN,
    403: "ask for the role roles/dataflow.developer, and enable the API: `gcloud services enable "
    "dataflow.googleapis.com`",
    404: "check --project and --region",
    409: "a job of this name is already running: wait for it to end, cancel it, or set another --job_name",
    429: "a quota is exhausted: wait, or lower --max_num_workers",
}


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A submitted job, as kept in the data set's folder; `decoded` of its `images` were decoded before it started."""

    project: str
    region: str
    id: str
    images: Count
    decoded: Count

    @property
    def page(self) -> str:
        return f"https://console.cloud.google.com/dataflow/jobs/{self.region}/{self.id}?project={self.project}"


def save(record: JobRecord, place: Workspace) -> None:
    """Keeps the record for `find_running`."""
    storage.write(_record_path(place), msgspec.json.encode(record))


class RunningJob:
    """A job that Dataflow runs. Implements `progress.Watched` with the counters of the job."""

    def __init__(self, record: JobRecord, result: DataflowPipelineResult, client: DataflowApplicationClient) -> None:
        self.record, self._result, self._client = record, result, client
        self.images = record.images

    def follow(self, normalized: bool, console: Console) -> report.Took:
        """Shows progress until the job has ended. Ctrl-C cancels the job; other signals only end this process.

        Args:
          normalized: whether the job has a second pass that normalizes.

        Raises:
          LaunchError: the job failed, was canceled, or could not be followed.
          BuildError: the same, with the reason from a worker.
        """
        console.print(f"job {self.record.id}: {self.record.page}", highlight=False)
        start = time.time()
        lost = f"job {self.record.id} is still running, but could not be followed (run the same command again)"
        try:
            with progress.shown(self, normalized, console, remote=True), google_errors(lost, CURES):
                self._wait(console)
        except KeyboardInterrupt as stop:
            if isinstance(stop, Stopped) and stop.number != signal.SIGINT:
                console.print("the job continues; run the same command again to follow it")
            else:
                self._cancel(console)
            raise
        seconds = time.time() - start
        return report.Took(total=seconds, pipeline=seconds, images=self.images - self.record.decoded)

    def _cancel(self, console: Console) -> None:
        """Never raises: if the job could not be canceled, prints that it is still running."""
        console.print("canceling the job; run the same command again to resume from the finished shards")
        try:
            self._result.cancel()
        except Exception as error:  # of Google's client or of Beam: Ctrl-C ends the command in any case
            console.print(
                f"job {self.record.id} could not be canceled ({first_line(error)}) and is still running: cancel it at "
                f"{self.record.page}",
                highlight=False,
            )

    def look(self) -> progress.State:
        """Raises BuildError if the counters could not be read; see `progress.Watched`."""
        try:
            with google_errors(f"the counters of job {self.record.id}", CURES):
                counts = self._counters()
        except LaunchError as error:
            raise BuildError(str(error)) from error
        rejected = sum(count for name, count in counts.items() if name.startswith("rejected_"))
        return progress.State(
            min(self.images, self.record.decoded + counts.get("images", 0) + rejected),
            min(self.images, counts.get("normalized_images", 0)),
            counts.get("staged_bytes", 0) + counts.get("written_bytes", 0),
        )

    def _counters(self) -> dict[str, int]:
        """Name -> value of this project's counters, including uncommitted values.

        Beam's own metrics raise a KeyError until a value is committed.
        """
        counts: dict[str, int] = {}
        for metric in self._client.get_job_metrics(self.record.id).metrics:
            name, is_ours = metric.name.name, metric.name.context.get("namespace") == METRICS
            if is_ours and metric.scalar is not None:
                counts[name] = max(counts.get(name, 0), int(metric.scalar))
        return counts

    def _wait(self, console: Console) -> None:
        """Returns when the job is done. Beam's own wait polls in a thread whose errors are lost."""
        shown = None
        while not PipelineState.is_terminal(state := self._result.state):
            if state != shown:
                console.print(f"job is {state.lower()}", highlight=False)
            shown = state
            time.sleep(POLL_SECONDS)
        if state == PipelineState.DONE:
            return
        messages = self._error_messages() if state == PipelineState.FAILED else []
        if from_worker := as_build_error(RuntimeError("\n".join(messages))):
            raise from_worker
        raise LaunchError(
            f"the job ended as {state}{': ' + _reason(messages) if messages else ''}; run the same command again to "
            f"resume from the finished shards. Job page: {self.record.page}"
        )

    def _error_messages(self) -> list[str]:
        """The job's error messages, as soon as there is one; empty if none arrives."""
        deadline = time.time() + MESSAGE_SECONDS
        while True:
            found, _ = self._client.list_messages(self.record.id, minimum_importance="JOB_MESSAGE_ERROR")
            if found or time.time() > deadline:
                return [message.message_text for message in found]
            time.sleep(1)


def find_running(place: Workspace, beam_options: PipelineOptions) -> RunningJob | None:
    """The job that an earlier command submitted, if it is still running.

    Raises:
      LaunchError: the record of the job is damaged, or Dataflow could not be asked whether it is running.
    """
    record = _find_record(place)
    if record is None:
        return None
    google = beam_options.view_as(GoogleCloudOptions)
    google.project, google.region = record.project, record.region
    client = DataflowApplicationClient(beam_options)
    try:
        with google_errors(f"could not check whether job {record.id} is still writing to {place.root}", CURES):
            # Without Beam's retries, which treat "not found" as temporary and continue for minutes.
            found = client.get_job.__wrapped__(client, record.id)
    except LaunchError as error:
        if isinstance(error.__cause__, NotFound):
            return None  # Dataflow deletes old jobs
        raise
    runner = DataflowRunner()
    runner.dataflow_client = client
    result = DataflowPipelineResult(found, runner, beam_options)
    return None if result.is_in_terminal_state() else RunningJob(record, result, client)


def _find_record(place: Workspace) -> JobRecord | None:
    """The record that `save` has kept; None if there is none. Raises LaunchError if it is damaged."""
    path = _record_path(place)
    content = storage.read_bytes(path)
    try:
        return None if content is None else schema.decode(JobRecord, content, path)
    except SchemaError as error:
        raise LaunchError(
            f"{error}; make sure that no job writes to {place.root}, then delete this file and run the same command "
            "again"
        ) from error


def _record_path(place: Workspace) -> str:
    return storage.join(place.root, DATAFLOW, "job.json")


def _reason(messages: list[str]) -> str:
    """The last line of the most specific message: a worker's traceback if there is one."""
    message = next((text for text in messages if "Traceback" in text), messages[-1])
    return [line.strip() for line in message.splitlines() if line.strip()][-1]
