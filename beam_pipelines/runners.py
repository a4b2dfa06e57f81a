"""The Beam runners, as rows of a table, and how a pipeline runs on one: it is run again after a lost worker, and errors
become sentences. A new runner is a row of `RUNNERS`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beam_pipelines import stopping
from beam_pipelines.contract.errors import exit_code_of
from beam_pipelines.errors import LOST_WORKER, BuildError, as_build_error, first_line, without_worker_tracebacks
from beam_pipelines.files.refusals import of_system
from beam_pipelines.machine import cores

# Beam takes a second to import, and options are parsed before that.
if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult
    from rich.console import Console

_LOST_WORKER = (LOST_WORKER, "Channel closed prematurely")  # in the errors of any runner
_WHY_LOST = "it may have been killed, or run out of memory"
_NO_WORKER = "didn't get control connection"
_LOCKED_SECONDS = 0.0016  # that a thread holds the interpreter's lock for a pair; decoding and resizing release it
_PROCESSES_START_SECONDS = 5.0  # until worker processes have imported Beam
_THREADS, _PROCESSES = "multi_threading", "multi_processing"


def _thread_for_each_core() -> list[str]:
    return [f"--direct_num_workers={cores()}", f"--direct_running_mode={_THREADS}"]


def running_mode(cores: int, pairs: int, pair_seconds: float) -> str:
    """Beam's name of what is faster for so many pairs, of which one core does one in `pair_seconds`: a thread for each
    core, of which one at a time can hold the interpreter's lock, or a process for each core, which has to start.
    """
    work = pairs * pair_seconds
    of_threads = work / min(cores, max(1.0, pair_seconds / _LOCKED_SECONDS))
    return _PROCESSES if _PROCESSES_START_SECONDS + work / cores < of_threads else _THREADS


def choose_mode(options: PipelineOptions, beam_args: Sequence[str], pairs: int, pair_seconds: float) -> None:
    """Sets the running mode of a runner in this process, unless the user has said anything about its workers."""
    from apache_beam.options.pipeline_options import DirectOptions

    if runner_in(beam_args).in_process and not any(arg.startswith("--direct_") for arg in beam_args):
        options.view_as(DirectOptions).direct_running_mode = running_mode(cores(), pairs, pair_seconds)


@dataclass(frozen=True, kw_only=True)
class Download:
    """A program that Beam downloads to run a runner on: its name, the option that names a local copy, and the pattern
    of Beam's error if the download fails, with groups for the address and the reason.
    """

    name: str
    option: str
    failed: str


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What this project needs to know about a runner.

    Attributes:
      title: its name in messages.
      names: as Beam accepts them, in any case, with or without "Runner" at the end.
      in_process: whether it runs in this process, with --direct_num_workers workers.
      defaults: its default options; the user's options override them.
      outlives: whether a job with the given options of Beam continues after this process ends.
      retries: whether the runner itself retries failed bundles; running the pipeline again would start another job.
      buckets_only: whether its workers can't reach this machine's files.
      download: what Beam downloads for it.
      log: its logger, if Beam sets the level of that itself when the runner starts.
    """

    title: str
    names: tuple[str, ...]
    in_process: bool = False
    defaults: Callable[[], list[str]] = list
    outlives: Callable[[Mapping[str, Any]], bool] = lambda given: bool(given["job_endpoint"])
    retries: bool = False
    buckets_only: bool = False
    download: Download | None = None
    log: str | None = None


RUNNERS = (
    Runner(
        title="DirectRunner",
        names=("DirectRunner", "FnApiRunner", "SwitchingDirectRunner"),
        in_process=True,
        defaults=_thread_for_each_core,
    ),
    Runner(
        title="Prism",
        names=("PrismRunner",),
        download=Download(
            name="Prism", option="--prism_location", failed=r"Unable to fetch remote prism binary at (\S+): (.*)"
        ),
        log="PrismJobServer",
    ),
    Runner(
        title="Flink",
        names=("FlinkRunner",),
        outlives=lambda given: bool(given["job_endpoint"]) or given["flink_master"] not in ("[local]", "[auto]"),
        download=Download(
            name="Flink's job server",
            option="--flink_job_server_jar",
            failed=r"Unable to fetch remote job server jar at (\S*flink\S*): (.*?)\. Also failed",
        ),
        log="FlinkJarJobServer",
    ),
    Runner(
        title="Dataflow",
        names=("DataflowRunner", "TestDataflowRunner"),
        # Workers don't need a pickled `__main__`: everything is in a package.
        defaults=lambda: ["--no_save_main_session"],
        outlives=lambda given: True,
        retries=True,
        buckets_only=True,
    ),
)
_OTHER = Runner(title="another runner", names=())
_DOWNLOADS = [runner.download for runner in RUNNERS if runner.download]


def runner_of(name: str) -> Runner:
    """The row of the runner that Beam calls `name`, or a default row if it is not in the table."""
    last = name.rpartition(".")[2].lower()
    for runner in RUNNERS:
        if {last, f"{last}runner"} & {known.lower() for known in runner.names}:
            return runner
    return _OTHER


def runner_in(beam_args: Sequence[str]) -> Runner:
    """The row of the runner that `--runner=NAME` names among the arguments."""
    return runner_of(next((arg.removeprefix("--runner=") for arg in beam_args if arg.startswith("--runner=")), ""))


def missing_program(beam_args: Sequence[str]) -> str | None:
    """A message if an argument names a local program that does not exist; Beam would end with a traceback."""
    options = [download.option for download in _DOWNLOADS]
    for argument in beam_args:
        name, _, path = argument.partition("=")
        if name in options and "://" not in path and not os.path.isfile(path):
            return f"{argument}: the file does not exist; `make runners` downloads or compiles it, if that is possible"
    return None


def guarded(work: Callable[[Console], int], verbose: bool, failed: int = 1) -> int:
    """Calls `work` and returns its exit code; an error is printed as one line, and the exit code is `failed`."""
    from rich.console import Console

    console = Console(soft_wrap=True, markup=False)  # a path may contain brackets
    (show_log if verbose else keep_quiet)()

    def attempt() -> int:
        try:
            return work(console)
        except Exception:
            stopping.pause()
            raise

    with without_worker_tracebacks(verbose):  # until all is said: a thread may report its error late
        return exit_code_of(attempt, verbose=verbose, explain=_in_words, failed=failed, stopped=stopping.last_line())


def _in_words(error: Exception) -> str | None:
    if told := as_build_error(error) or runner_error(error):
        return str(told)
    if _is_of_lost_worker(error):
        return f"a worker process died; {_WHY_LOST}. Fewer workers need less memory; run the same command again"
    if isinstance(error, OSError):
        return of_system(error)
    return None


def show_log() -> None:
    """Shows the logs of Beam and its runners in this process, from INFO on."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    logging.getLogger("apache_beam.typehints").setLevel(logging.WARNING)  # a line for each annotation


def keep_quiet() -> None:
    """Turns off the logs of Beam, its runners and Google's clients in this process: errors are raised as well."""
    logging.getLogger().setLevel(logging.CRITICAL + 1)
    for runner in RUNNERS:
        if runner.log:
            logging.getLogger(runner.log).disabled = True


def run_to_end(pipeline: beam.Pipeline, shards_done: Callable[[], int], on_retry: Callable[[str], None]) -> None:
    """Runs the pipeline and waits for its end. Few runners retry the work of a worker that died: after a failed run the
    pipeline is run again, as long as each run finishes more shards.

    Raises:
      BuildError: another run would not help, the runner can't be started, or it stopped responding.
    """
    while True:
        before = shards_done()
        try:
            run(pipeline)
            return
        except Exception as error:
            stopping.pause()
            gives_up = runner_of(type(pipeline.runner).__name__).retries or not _got_on(shards_done, before)
            reason = as_build_error(error) or runner_error(error) or (_lost_worker(error) if gives_up else None)
            if reason and reason is not error:
                raise reason from error
            if reason or gives_up:
                raise
            on_retry(str(error).strip().rpartition("\n")[2])


def runner_error(error: BaseException) -> BuildError | None:
    """A fault of the runner itself, as a BuildError; None for other errors."""
    import grpc

    if isinstance(error, grpc.RpcError):
        return BuildError(
            f"the runner stopped responding ({error.code().name}: {error.details()}): --verbose shows its log; "
            "run the same command again to continue from the finished shards"
        )
    if _NO_WORKER in str(error):
        return BuildError(
            "no worker connected to Prism within a minute: check that the worker pool is running, is not busy and can "
            "reach this machine, and run the same command again"
        )
    for download in _DOWNLOADS:
        if found := re.search(download.failed, str(error)):
            return BuildError(
                f"{download.name} could not be downloaded from {found[1]} ({found[2]}): run `make runners`, or name a "
                f"local copy with {download.option}"
            )
    return None


def _lost_worker(error: BaseException) -> BuildError | None:
    if not _is_of_lost_worker(error):
        return None
    return BuildError(
        f"a worker process died before it finished another shard; {_WHY_LOST}. A smaller --max_image_pixels or fewer "
        "workers need less memory; run the same command again to continue from the finished shards"
    )


def _is_of_lost_worker(error: BaseException) -> bool:
    return any(text in str(error) for text in _LOST_WORKER)


def _got_on(shards_done: Callable[[], int], before: int) -> bool:
    try:
        return shards_done() > before
    except Exception:
        return False  # the folder can't be read: the pipeline's own error is the one to report


def run(pipeline: beam.Pipeline) -> None:
    """Runs the pipeline once and waits for its end. A job that is left early, by an error or a signal, is canceled."""
    from beam_pipelines import worker_processes

    worker_processes.watch()
    result = pipeline.run()
    try:
        with stopping.on_stop(lambda: _cancel(result, pipeline.options)):
            result.wait_until_finish()
    except BaseException:
        if warning := _cancel(result, pipeline.options):
            print(warning, file=sys.stderr)
        raise


def _cancel(result: PipelineResult, options: PipelineOptions) -> str | None:
    """Cancels a job, which must not write after the lease is released. -> a warning if that failed."""
    from apache_beam.runners.runner import PipelineState

    try:
        result.cancel()
    except Exception as error:
        # A local runner ends with this process, and a job that has ended can't be canceled.
        if _outlives(options) and not PipelineState.is_terminal(getattr(result, "_state", None)):
            reason = f"the job could not be canceled ({first_line(error)})"
            return f"warning: {reason}: it may still write; cancel it in the cluster"
    return None


def _outlives(options: PipelineOptions) -> bool:
    """Whether the job continues when this process ends."""
    given = options.get_all_options()
    return runner_of(given["runner"] or "").outlives(given)
