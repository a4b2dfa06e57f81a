"""What a bucket refuses, in a sentence with a cure. TensorFlow has then tried again for as long as it may help."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

_CURES = {
    "401": "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "403": "ask for read and write access to the bucket",
    "404": "check the bucket and the path",
}


class BucketError(OSError):
    """A bucket that can't be read or written; the message says what to do."""


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns what the cloud answers to TensorFlow, and that nothing answers, into a BucketError; other errors pass."""
    try:
        yield
    except tf.errors.OpError as error:
        told = refusal(error)
        if told is None:
            raise
        raise BucketError(told) from error


def refusal(error: Exception) -> str | None:
    """What `error` says of a bucket; None where it comes from elsewhere."""
    # ...: HTTP response code 403 with body '...' when initiating an upload to gs://... ; or: libcurl code 6 meaning ...
    text = " ".join(str(error).split())
    found = re.search(r"Error executing an HTTP request: (.*?)( when \w+ing .*)?$", text)
    if not found:
        return None
    path = re.search(r"gs://\S*[^\s.,;:'\"\[)]", text)
    status = re.match(r"HTTP response code (\d+)", found[1])
    said = f"the storage answered {status[1]}" if status else f"the storage can't be reached, {found[1]}"
    cure = _CURES.get(status[1] if status else "", "start the same command later")
    return f"{path[0] if path else 'gs://'}: {said}; {cure}"
