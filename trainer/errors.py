"""Explains errors of TensorFlow, of buckets and of the system in one sentence, with a fix."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from beam_pipelines.contract.errors import UserError

_CURES = {
    "401": "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "403": "ask for read and write access to the bucket",
    "404": "check the bucket and the path",
}


# Beginnings of the lines that TensorFlow puts before the message of an error in a graph.
_GRAPH_LINES = ("Graph execution error:", "Detected at node", "File ", "<stack traces unavailable>", "2 root error(s)")


class BucketError(UserError, OSError):
    """A bucket that can't be read or written; the message says how to fix it."""


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns an error of a bucket, or a failure to reach it, into a BucketError. Other errors are raised as they are."""
    try:
        yield
    except tf.errors.OpError as error:
        told = refusal(error)
        if told is None:
            raise
        raise BucketError(told) from error


def refusal(error: Exception) -> str | None:
    """A sentence about the answer of a bucket; None if `error` is about something else."""
    # ...: HTTP response code 403 with body '...' when initiating an upload to gs://... ; or: libcurl code 6 meaning ...
    text = " ".join(str(error).split())
    found = re.search(r"Error executing an HTTP request: (.*?)( when \w+ing .*)?$", text)
    if not found:
        return None
    path = re.search(r"gs://\S*[^\s.,;:'\"\[)]", text)
    status = re.match(r"HTTP response code (\d+)", found[1])
    said = f"the storage answered {status[1]}" if status else f"the storage can't be reached, {found[1]}"
    cure = _CURES.get(status[1] if status else "", "run the same command again later")
    return f"{path[0] if path else 'gs://'}: {said}; {cure}"


def explain(error: Exception, less_memory: str, hosts: int = 1) -> str | None:
    """The message for an error that is not a UserError; None if it is a fault of the program.

    Args:
      less_memory: how to use less memory. TensorFlow raises the same error for a full disk and for too little memory.
      hosts: number of hosts of the run.
    """
    told = refusal(error)
    if told is not None:
        return told
    found, whole = cause_of(error), str(error).lower()
    if isinstance(error, tf.errors.ResourceExhaustedError):
        if "no space" in whole or "quota" in whole:
            return f"no space left to write: {found}; free some space and run the same command again"
        return f"out of memory: {found}. {less_memory}"
    if isinstance(error, (tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError, OSError)):
        return f"a file can't be read or written: {found}; fix this and run the same command again"
    if hosts > 1 and isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
        return (
            f"another host of this run was lost ({found}). Run the same command on all hosts again to resume from the "
            "newest checkpoint"
        )
    return None


def cause_of(error: Exception) -> str:
    """The first line of the message of an error, without the location in a graph that TensorFlow puts before it."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(_GRAPH_LINES)]
    return (telling or lines or [type(error).__name__])[0] or type(error).__name__
