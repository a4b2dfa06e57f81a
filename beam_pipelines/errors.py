"""The error that ends a build with a sentence for the user. Runners pass errors on as text; it is found there again."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

from beam_pipelines.contract.errors import UserError

LOST_WORKER = "SDK worker disconnected"  # Beam's error for a worker process that died
_MARK = "BuildError: "


class BuildError(UserError):
    """An error that the user can fix. The message says what was found and what to do."""


class ReplacedBuildError(BuildError):
    """What a build is told that is not finished when another one takes its folder, or deletes what it has written."""


def as_build_error(error: BaseException) -> BuildError | None:
    """The BuildError that `error` is or quotes; None if it is a fault of the program.

    Runners raise their own errors, with the worker's traceback as text. The message is taken from the traceback's line
    `...BuildError: MESSAGE`, so only the first line of a message is kept.
    """
    if isinstance(error, BuildError):
        return error
    found = re.findall(rf"^\S*{_MARK}(.*?)(?: \[while running .*)?$", str(error), re.MULTILINE)
    return BuildError(found[-1]) if found else None


def first_line(error: object) -> str:
    """The first line of the error's text, or the name of its type if it has no text."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def without_worker_tracebacks(verbose: bool) -> Iterator[None]:
    """Drops the tracebacks that Beam's threads print on stderr for errors that Beam raises as well."""
    if verbose:
        yield
        return
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        with contextlib.redirect_stderr(_TracebackFilter(sys.stderr)):
            yield
    finally:
        threading.excepthook = hook


class _TracebackFilter(io.TextIOBase):
    """A stream that drops tracebacks; Beam prints each of them with a single call."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._dropped = stream, False

    def write(self, text: str) -> int:
        self._dropped = text.startswith("Traceback (most recent call last):") or (self._dropped and text == "\n")
        return len(text) if self._dropped else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()
