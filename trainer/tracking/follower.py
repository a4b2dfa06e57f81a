"""Follows a run in a tracker from a thread of its own: training never waits for a tracker, and never fails with it."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import tensorflow as tf
from rich.console import Console

from trainer.files import is_local, sha256_of
from trainer.tracking import TRACKERS
from trainer.tracking.facts import About, Record, Rows, TrackedRun, as_local, read_record, write_record

FINISH_SECONDS = 600.0  # how long the end of a run waits for its files to be kept
REACH_SECONDS = 60.0  # or less, if the tracker was never reached
STOP_SECONDS = 10.0  # and a run that is stopped: a machine that is taken away leaves 30
_PASSWORD = re.compile(r"://[^/\s]*@")
_GOES_ON = "training goes on, and what is missing is added later"


class Follower:
    """Hands a tracker the rows of metrics.jsonl that a checkpoint covers, so that they are final.

    What a tracker did not get, since it failed or hung, it gets the next time, or when the same command is run again:
    `tracking.json` in the folder of the run keeps how far it is. Used in a `with` statement, at whose end it waits,
    for a limited time. All methods are called by the main thread.

    Args:
      folder: of the run.
    """

    def __init__(self, tracker: str, about: About, folder: str, console: Console) -> None:
        self._tracker, self._about, self._folder, self._console = tracker, about, folder, console
        self._record = read_record(folder, tracker) or Record(key=uuid.uuid4().hex)
        self._run: TrackedRun | None = None  # as are the record's fields, of the thread alone
        self._wanted: Callable[[], None] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_over = self._is_behind = self._is_in_doubt = False
        self._unsaid = {"place", "problem"}
        self._place = self._problem = self._kept = ""
        self._outcome = "stopped"

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self._outcome = "failed"
        self._wait(FINISH_SECONDS if self._outcome == "finished" else STOP_SECONDS)

    def follow(self, rows: Rows) -> None:
        """Hands over the rows of the run so far. Returns at once."""
        handed = list(rows)
        self._hand_over(lambda: self._log(handed))

    def finish(self, rows: Rows, find_files: Callable[[], Mapping[str, str]]) -> None:
        """Hands over all of a finished run. Does nothing if that has been done.

        Args:
          find_files: -> name -> path of the files to keep.
        """
        handed, files = list(rows), find_files()
        digest = _digest(files)
        self._outcome = "finished"
        if self._thread is None and self._record.files == digest and not self._record.missing(handed):
            return
        self._hand_over(lambda: self._keep(handed, files, digest))

    def _hand_over(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"follow in {self._tracker}", daemon=True)
            self._thread.start()
        with self._changed:
            self._wanted, self._is_behind = work, True  # in place of an earlier one, of which it has all rows
            self._changed.notify_all()
        self._say()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(min(seconds, REACH_SECONDS))
            self._thread.join(max(0.0, deadline - time.monotonic()) if self._place else 0.0)
            if self._thread.is_alive() and not self._problem:
                self._problem = "it has not answered yet"
        self._say()
        if self._is_behind:
            self._print("not all of the run is there; the same command, run again, adds what is missing")

    def _say(self) -> None:
        """Prints where the run is, and the first thing that goes wrong, once each."""
        said = {"place": self._place, "problem": self._problem and f"{self._problem}; {_GOES_ON}"}
        for name in [name for name in sorted(self._unsaid) if said[name]]:
            self._unsaid.remove(name)
            self._print(said[name])

    def _print(self, text: str) -> None:
        shown = _PASSWORD.sub("://", text)  # an address may have one
        self._console.print(f"--track={self._tracker}: {shown}", highlight=False, markup=False)

    # What follows runs in the thread.

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._is_over)
                work, self._wanted = self._wanted, None
            is_done = self._attempt(work or self._end)
            with self._changed:
                self._is_behind = self._wanted is not None or not is_done or (work is None and self._is_behind)
            if work is None:
                return

    def _attempt(self, work: Callable[[], None]) -> bool:
        """-> whether it worked. Not even a fault of the tracker's library may end a training."""
        try:
            work()
            return True
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            self._problem, self._is_in_doubt = first or type(error).__name__, True
            return False

    def _opened(self) -> TrackedRun:
        if self._run is None:
            self._write_record()  # before there is a run that only it knows
            module, _, name = TRACKERS[self._tracker].partition(":")
            make: Any = getattr(importlib.import_module(module), name)
            self._run, self._is_in_doubt = make(self._about, self._record), True
        if self._is_in_doubt:
            self._run.correct(self._record)
            self._write_record()
            self._place, self._is_in_doubt = self._run.place, False
        return self._run

    def _log(self, rows: Rows) -> None:
        run = self._opened()
        if missing := self._record.missing(rows):
            run.log(missing)
            self._record.add(missing)
            self._write_record()

    def _keep(self, rows: Rows, files: Mapping[str, str], digest: str) -> None:
        self._log(rows)
        if self._record.files != digest:
            with as_local(files) as local:
                self._opened().keep(local)
        self._kept = digest

    def _end(self) -> None:
        if self._run is not None:
            self._run.end(self._outcome)
        if self._kept and not self._is_behind:  # only now they are where they belong
            self._record.files = self._kept
            self._write_record()

    def _write_record(self) -> None:
        write_record(self._folder, self._tracker, self._record)


class NoFollower(Follower):
    """For a run that is not tracked, and for hosts other than the chief."""

    def __init__(self) -> None:
        self._thread = None

    def follow(self, rows: Rows) -> None: ...

    def finish(self, rows: Rows, find_files: Callable[[], Mapping[str, str]]) -> None: ...


def _digest(files: Mapping[str, str]) -> str:
    """Of the names, and of the content of the files that are local; of the others, of their size."""
    facts = [
        (name, sha256_of(path) if is_local(path) else tf.io.gfile.stat(path).length)
        for name, path in sorted(files.items())
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
