"""Runs a pipeline on whichever engine its options name: again where it lost a worker, its faults as sentences."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_pipelines import stopping
from beam_pipelines.errors import BuildError, as_build_error, first_line
from beam_pipelines.options import is_dataflow

_LOST_WORKER = ("SDK worker disconnected", "Channel closed prematurely")  # as Prism says it, and FnApiRunner
_NO_WORKER = "didn't get control connection"
_TRIES_ITSELF = "DataflowRunner"  # each bundle four times, and another job would cost money
_JOB_SERVERS = ("PrismJobServer", "FlinkJarJobServer")  # loggers whose level Beam sets itself, when they start
_NOT_FETCHED = {  # by Beam's own download -> what it is, and the option that names a local one
    r"Unable to fetch remote prism binary at (\S+): (.*)": ("Prism", "--prism_location"),
    r"Unable to fetch remote job server jar at (\S+): (.*?)\. Also failed": (
        "Flink's job server",
        "--flink_job_server_jar",
    ),
}


def keep_quiet() -> None:
    """Ends what Beam, its engines and Google's clients log in this process: what matters is raised as well."""
    logging.getLogger().setLevel(logging.CRITICAL + 1)
    for name in _JOB_SERVERS:
        logging.getLogger(name).disabled = True


def run_to_end(pipeline: beam.Pipeline, shards_done: Callable[[], int], on_retry: Callable[[str], None]) -> None:
    """Runs the pipeline and waits for its end. Few engines try again what a worker was at when it died: a run that
    failed is followed by another as long as each of them got more shards done than the one before.

    Raises:
      BuildError: the reason is none that another run could mend, or the engine can't be had or stopped answering.
    """
    while True:
        before = shards_done()
        try:
            _run(pipeline)
            return
        except Exception as error:
            stopping.pause()
            gives_up = type(pipeline.runner).__name__ == _TRIES_ITSELF or not _got_on(shards_done, before)
            reason = as_build_error(error) or engine_error(error) or (_lost_worker(error) if gives_up else None)
            if reason and reason is not error:
                raise reason from error
            if reason or gives_up:
                raise
            on_retry(str(error).strip().rpartition("\n")[2])


def engine_error(error: BaseException) -> BuildError | None:
    """What is wrong with the engine itself, as a sentence; None where `error` says nothing of that."""
    if isinstance(error, grpc.RpcError):
        return BuildError(
            f"the engine stopped answering ({error.code().name}: {error.details()}): --verbose shows its log; "
            "the same command goes on from the finished shards"
        )
    if _NO_WORKER in str(error):
        return BuildError(
            "no worker came to Prism within its minute: see whether the worker pool is busy, and reaches this machine; "
            "the same command tries again"
        )
    for pattern, (engine, option) in _NOT_FETCHED.items():
        if found := re.search(pattern, str(error)):
            return BuildError(
                f"{engine} can't be had from {found[1]} ({found[2]}): `make engines` brings it where it can, "
                f"and {option} names it"
            )
    return None


def _lost_worker(error: BaseException) -> BuildError | None:
    if not any(text in str(error) for text in _LOST_WORKER):
        return None
    return BuildError(
        "a worker process died before it had finished one more shard: was it killed, or out of memory? A smaller "
        "--max_image_pixels or fewer workers take less; the same command goes on from the finished shards"
    )


def _got_on(shards_done: Callable[[], int], before: int) -> bool:
    try:
        return shards_done() > before
    except Exception:
        return False  # the folder can't be read: the pipeline's own error is the one to tell


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
    """A remote job must not write on when the lease is given up. -> a warning where it may."""
    try:
        result.cancel()
    except Exception as error:
        # Here an engine ends with this process, and one that has stopped by itself has nothing to cancel.
        if _is_remote(options) and not PipelineState.is_terminal(getattr(result, "_state", None)):
            reason = f"the job could not be cancelled ({first_line(error)})"
            return f"warning: {reason}: it may still write; cancel it where it runs"
    return None


def _is_remote(options: PipelineOptions) -> bool:
    """Whether the job runs on where this process ends."""
    given = options.get_all_options()
    flink = given["runner"] == "FlinkRunner" and given["flink_master"] not in ("[local]", "[auto]")
    return flink or bool(given["job_endpoint"]) or is_dataflow(given["runner"] or "")
