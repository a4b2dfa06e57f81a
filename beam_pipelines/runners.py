"""The Beam runners as rows of a table, and how a pipeline is run on one: again if it lost a worker, its errors as
sentences. A new runner is one row of `RUNNERS`.
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
from beam_pipelines.errors import BuildError, as_build_error, first_line
from beam_pipelines.machine import cores

# Beam takes a second to import, and options are parsed before that.
if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult
    from rich.console import Console

_LOST_WORKER = ("SDK worker disconnected", "Channel closed prematurely")  # as Prism says it, and FnApiRunner
_NO_WORKER = "didn't get control connection"
_JOB_SERVERS = ("PrismJobServer", "FlinkJarJobServer")  # loggers whose level Beam sets itself, when they start


def _thread_for_each_core() -> list[str]:
    """Decoding releases the interpreter's lock."""
    return [f"--direct_num_workers={cores()}", "--direct_running_mode=multi_threading"]


@dataclass(frozen=True, kw_only=True)
class Download:
    """A program that Beam downloads to run a runner on: its name, the option that names a local copy, and the pattern
    of Beam's error where it could not be downloaded, with groups for the address and the reason.
    """

    name: str
    option: str
    failed: str


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What this project has to know about a runner.

    Attributes:
      title: what messages call it.
      names: as Beam takes them, in any case and with or without "Runner" at the end.
      in_process: whether it runs in this process, with --direct_num_workers workers.
      defaults: the options that suit it; the user's come later and win.
      outlives: whether, with the given options of Beam, a job continues after this process ends.
      retries: whether it tries a failed bundle again itself; another run would be another job.
      buckets_only: whether its workers can't reach this machine's files.
      download: what Beam downloads for it.
    """

    title: str
    names: tuple[str, ...]
    in_process: bool = False
    defaults: Callable[[], list[str]] = list
    outlives: Callable[[Mapping[str, Any]], bool] = lambda given: bool(given["job_endpoint"])
    retries: bool = False
    buckets_only: bool = False
    download: Download | None = None


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
    ),
    Runner(
        title="Flink",
        names=("FlinkRunner",),
        outlives=lambda given: bool(given["job_endpoint"]) or given["flink_master"] not in ("[local]", "[auto]"),
        download=Download(
            name="Flink's job server",
            option="--flink_job_server_jar",
            failed=r"Unable to fetch remote job server jar at (\S+): (.*?)\. Also failed",
        ),
    ),
    Runner(
        title="Dataflow",
        names=("DataflowRunner", "TestDataflowRunner"),
        # No pickled `__main__`: all that a worker needs is in a package.
        defaults=lambda: ["--no_save_main_session"],
        outlives=lambda given: True,
        retries=True,
        buckets_only=True,
    ),
)
_OTHER = Runner(title="another runner", names=())
_DOWNLOADS = [runner.download for runner in RUNNERS if runner.download]


def runner_of(name: str) -> Runner:
    """The row of the runner that Beam takes `name` for; the plain row for one that has none."""
    last = name.rpartition(".")[2].lower()
    for runner in RUNNERS:
        if {last, f"{last}runner"} & {known.lower() for known in runner.names}:
            return runner
    return _OTHER


def runner_in(beam_args: Sequence[str]) -> Runner:
    """The row of the runner that `--runner=NAME` names among the arguments."""
    return runner_of(next((arg.removeprefix("--runner=") for arg in beam_args if arg.startswith("--runner=")), ""))


def missing_program(beam_args: Sequence[str]) -> str | None:
    """What is wrong with an argument that names a local program which is not there: Beam has a traceback for it."""
    options = [download.option for download in _DOWNLOADS]
    for argument in beam_args:
        name, _, path = argument.partition("=")
        if name in options and "://" not in path and not os.path.isfile(path):
            return f"{argument}: there is no such file; `make runners` downloads or compiles it where possible"
    return None


def guarded(work: Callable[[Console], int], verbose: bool, failed: int = 1) -> int:
    """Does `work`, which returns the exit code; what it raises becomes one line, and the exit code `failed`."""
    from rich.console import Console

    console = Console(soft_wrap=True, markup=False)  # a path may hold brackets
    if not verbose:
        keep_quiet()

    def attempt() -> int:
        try:
            return work(console)
        except Exception:
            stopping.pause()
            raise

    return exit_code_of(attempt, verbose=verbose, explain=_in_words, failed=failed, stopped=stopping.STOPPED)


def _in_words(error: Exception) -> str | None:
    told = as_build_error(error) or runner_error(error)
    return None if told is None else str(told)


def keep_quiet() -> None:
    """Turns off what Beam, its runners and Google's clients log in this process: what matters is raised as well."""
    logging.getLogger().setLevel(logging.CRITICAL + 1)
    for name in _JOB_SERVERS:
        logging.getLogger(name).disabled = True


def run_to_end(pipeline: beam.Pipeline, shards_done: Callable[[], int], on_retry: Callable[[str], None]) -> None:
    """Runs the pipeline and waits for its end. Few runners retry the work of a worker that died: a failed run is
    followed by another one as long as each gets more shards done than the one before.

    Raises:
      BuildError: another run would not help, or the runner can't be started or stopped answering.
    """
    while True:
        before = shards_done()
        try:
            _run(pipeline)
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
    """What is wrong with the runner itself, as a sentence; None if `error` is about something else."""
    import grpc

    if isinstance(error, grpc.RpcError):
        return BuildError(
            f"the runner stopped answering ({error.code().name}: {error.details()}): --verbose shows its log; "
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
    if not any(text in str(error) for text in _LOST_WORKER):
        return None
    return BuildError(
        "a worker process died before it had finished one more shard: was it killed, or out of memory? A smaller "
        "--max_image_pixels or fewer workers need less memory; run the same command again to continue from the "
        "finished shards"
    )


def _got_on(shards_done: Callable[[], int], before: int) -> bool:
    try:
        return shards_done() > before
    except Exception:
        return False  # the folder can't be read: the pipeline's own error is the one to report


def _run(pipeline: beam.Pipeline) -> None:
    result = pipeline.run()
    try:
        with stopping.on_stop(lambda: _cancel(result, pipeline.options)):
            result.wait_until_finish()
    except BaseException:
        if warning := _cancel(result, pipeline.options):
            print(warning, file=sys.stderr)
        raise


def _cancel(result: PipelineResult, options: PipelineOptions) -> str | None:
    """A remote job must not write any more when the lease is released. -> a warning if it may."""
    from apache_beam.runners.runner import PipelineState

    try:
        result.cancel()
    except Exception as error:
        # A local runner ends with this process, and a job that has stopped by itself has nothing to cancel.
        if _outlives(options) and not PipelineState.is_terminal(getattr(result, "_state", None)):
            reason = f"the job could not be cancelled ({first_line(error)})"
            return f"warning: {reason}: it may still write; cancel it where it runs"
    return None


def _outlives(options: PipelineOptions) -> bool:
    """Whether the job continues when this process ends."""
    given = options.get_all_options()
    return runner_of(given["runner"] or "").outlives(given)
