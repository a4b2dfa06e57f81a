"""Image and mask files as a data set at their own size: `beam_pipelines.build` reads them, in a process of its own.

So a score is of the very pixels that training would read, by the same rules for layouts, label tables and bad files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO

from rich.console import Console

from beam_pipelines.contract.errors import Stopped, UserError
from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTable

_SECONDS = 40.0  # that a build may take to clean up after it is stopped
_COPYING_SECONDS = 5.0  # for its last lines; a worker that outlives it may hold its output open
_LISTED = 10
_REJECTED_BYTES = 2**30
_SIGNALED = 128  # the exit code of a build that a signal stopped is this and its number
_STOPPED = "stopped"  # what its last line begins with then
_TELLING = ("found ", "drawing ", "decoded ", "the run failed", "ignored pixels", "that is unusually many", "warning: ")
_REJECTED = "rejected.jsonl"  # in the folder of a data set: a line of JSON for each pair that is left out


class SourceFilesError(UserError, ValueError):
    """Image and mask files that can't be read as a data set; the message says how to fix it."""


def check_installed() -> None:
    """Raises SourceFilesError if Beam is not installed."""
    if importlib.util.find_spec("apache_beam") is None:
        raise SourceFilesError(
            "--input reads image and mask files with beam_pipelines, whose apache-beam is not installed: run "
            "pip install '.[pipelines]', or build them with --image_size=native where it is, and set --dataset"
        )


@contextlib.contextmanager
def folder_for(keep: str | None) -> Iterator[str]:
    """The folder for the data set: `keep`, or a temporary one, which is removed in the end."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="street-scenes-", ignore_cleanup_errors=True) as folder:
        yield f"{folder}/native"


def build(
    folder: str, split: str, files: Mapping[str, str], labels: LabelTable, console: Console, shows_all: bool
) -> int:
    """Builds the split in `folder`, and names the pairs that are left out. The build says itself what is wrong.

    Args:
      files: option -> value; see `trainer.evaluation.options.FILES_OPTIONS`.
      labels: the table of the model.
      shows_all: what the build prints of the data set, too, which tells nothing once that is removed.

    Returns:
      the exit code of the build: 0 the data set is there, 1 it is not, 2 an option is wrong.

    Raises:
      SourceFilesError: no label table is set, and that of the model is not built in; or the build was killed.
      Stopped: a signal has stopped the build alone.
    """
    options = {"labels": _name_of(labels, files), "splits": split, "moments_split": split, **files}
    command = [sys.executable, "-m", "beam_pipelines.build", "--image_size=native", "--image_encoding=png"]
    command += ["--no_transform_fn", f"--output={folder}", *(f"--{name}={value}" for name, value in options.items())]
    console.file.flush()
    code = _run(command, shows_all)
    if code > _SIGNALED:
        raise Stopped(code - _SIGNALED)
    if code < 0:
        raise SourceFilesError(
            f"the build of the data set was killed by signal {-code}, perhaps for its memory: run the command again, "
            "with --keep_dataset to continue it"
        )
    for line in _rejected(f"{folder}/{_REJECTED}"):
        console.print(line, highlight=False, markup=False)
    return code


def _name_of(labels: LabelTable, files: Mapping[str, str]) -> str:
    if "labels" in files or (labels.name in BUILTIN_TABLES and BUILTIN_TABLES[labels.name]() == labels):
        return labels.name
    raise SourceFilesError(
        f"the label table of the model, {labels.name!r}, is not built in: set --labels to the label file that its data "
        "set was built with"
    )


def telling_lines(lines: Iterable[str]) -> Iterator[str]:
    """Of the lines that a build prints, those that tell of scores: how the files are read, how far the build is, and
    what looks wrong. Pairs that it rejects are named after it.
    """
    is_shown = False
    for line in lines:
        is_shown = line.startswith(_TELLING) or (is_shown and line.startswith("  ") and _REJECTED not in line)
        if is_shown:
            yield line


def _run(command: list[str], shows_all: bool) -> int:
    """The exit code of a build, which is stopped if this process is. Of its output, all or the `telling_lines` are
    shown; of its errors all but the line that says that it was stopped, which this process says itself.
    """
    pipe = None if shows_all else subprocess.PIPE  # a build that has the terminal itself shows bars
    process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.PIPE, text=True, errors="replace")
    ways = ((process.stderr, _but_stopped, sys.stderr), (process.stdout, telling_lines, sys.stdout))
    threads = [_copying(source, chosen, target) for source, chosen, target in ways if source is not None]
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS)
        process.kill()
        process.wait()
        raise
    finally:
        for thread in threads:
            thread.join(_COPYING_SECONDS)


def _but_stopped(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if not line.startswith(_STOPPED))


def _copying(source: IO[str], choose: Callable[[Iterable[str]], Iterable[str]], target: IO[str]) -> threading.Thread:
    """A thread that copies the chosen lines, as they come."""

    def copy() -> None:
        with contextlib.suppress(OSError), source:  # of a target that is closed, which the build then hears itself
            for line in choose(source):
                target.write(line)
                target.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _rejected(path: str) -> Iterator[str]:
    """A line for each of the first pairs that were left out, and their number."""
    from trainer.files import read_bytes

    try:
        lines = read_bytes(path, _REJECTED_BYTES).decode().split("\n")
    except FileNotFoundError:  # the build did not come that far, and has said why
        return
    pairs = [json.loads(line) for line in lines if line]
    for pair in pairs[:_LISTED]:
        yield f"not scored: {pair['key']}, {pair['reason']}: {pair['detail']}"
    if len(pairs) > _LISTED:
        yield f"not scored: {len(pairs) - _LISTED:,} more pairs"
