"""Runs commands where all that they write can be seen, and measures their memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.torture.run import LOST, MEMORY, OUTSIDE, PROJECT, TIMEOUT, UNTYPED, Failure, Result, peak_mb

TIMEOUT_S = 300.0  # of one command
MOST_MB = 4096  # of a command and all that it starts
TYPED = re.compile(r"(?:warning: .*\n)*error: .*\n")
STRANGER = "notes.txt"  # of the user, in the folder that is written to
_POLL_S = 0.05


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, None if it took too long; what it told; what it left in the temporary
    folder that was its own.
    """

    code: int | None
    errors: str
    seconds: float
    peak_mb: int
    left: tuple[str, ...] = ()

    @property
    def is_typed_error(self) -> bool:
        """One sentence, and an exit code that says so."""
        return self.code in (1, 2) and TYPED.fullmatch(self.errors) is not None

    def failure(self, case: int) -> Failure:
        if self.code is None:
            return Failure(case, TIMEOUT, f"not done after {TIMEOUT_S:.0f} s")
        return Failure(case, UNTYPED, f"ended with {self.code}: {self.errors[-300:]}")


@dataclass
class Sandbox:
    """`folder` has the inputs, in `in`; what commands write goes to `allowed`, and all else has to stay as it is."""

    folder: Path
    allowed: tuple[str, ...] = ("out",)
    kept: dict[str, str] = field(default_factory=dict)
    _started: int = 0

    @property
    def source(self) -> Path:
        return self.folder / "in"

    @property
    def output(self) -> Path:
        return self.folder / self.allowed[0]

    def close(self) -> None:
        """From now on nothing outside may change."""
        (self.folder / "here").mkdir(exist_ok=True)
        self.kept = self._outside()

    def begin(self, before: Path | None = None) -> None:
        """The output anew: a copy of `before`, or nothing; and a file of the user's."""
        shutil.rmtree(self.output, ignore_errors=True)
        if before is None:
            self.output.mkdir(parents=True)
        else:
            shutil.copytree(before, self.output, dirs_exist_ok=True)
        (self.output / STRANGER).write_text("mine")

    def start(self, arguments: Sequence[str], **environment: str) -> Running:
        """`python ARGUMENTS`, in a working directory and with a temporary folder of its own."""
        self._started += 1
        scratch = self.folder / "scratch" / str(self._started)
        scratch.mkdir(parents=True)
        (self.folder / "here").mkdir(exist_ok=True)
        return Running([sys.executable, *arguments], self.folder / "here", scratch, environment)

    def run(self, arguments: Sequence[str], **environment: str) -> Ended:
        running = self.start(arguments, **environment)
        running.wait(TIMEOUT_S)
        return running.end()

    def check(self, result: Result, *commands: Ended) -> None:
        """Adds what the commands of the newest case did besides their work."""
        case = result.tried
        for ended in commands:
            result.took(case, ended.seconds)
            result.peak_mb = max(result.peak_mb, ended.peak_mb)
            if ended.peak_mb > MOST_MB:
                result.failures.append(Failure(case, MEMORY, f"{ended.peak_mb:,} MB, more than {MOST_MB:,}"))
            result.failures += [Failure(case, OUTSIDE, f"{name} was left in TMPDIR") for name in ended.left]
        now = self._outside()
        for name in sorted(now.keys() - self.kept.keys()):
            result.failures.append(Failure(case, OUTSIDE, f"{name} was written"))
        lost = [name for name, digest in self.kept.items() if now.get(name) != digest]
        if self.output.is_dir() and not (self.output / STRANGER).is_file():
            lost.append(STRANGER)
        result.failures += [Failure(case, LOST, f"{name} is gone or another") for name in lost]
        self.kept = now

    def _outside(self) -> dict[str, str]:
        found = digests_below(self.folder)
        allowed = tuple(f"{name}/" for name in (*self.allowed, "scratch"))
        return {name: digest for name, digest in found.items() if not name.startswith(allowed)}


class Running:
    """A command that was started, and the largest memory of it and its descendants together that was seen."""

    def __init__(self, command: Sequence[str], place: Path, scratch: Path, environment: dict[str, str]) -> None:
        own = {"PYTHONPATH": str(PROJECT), "TMPDIR": str(scratch), "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._scratch, self._errors = scratch, scratch.with_suffix(".errors")
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=errors, cwd=place, env={**os.environ, **own, **environment}
            )
        self._began, self._peak_mb = time.monotonic(), 0

    def wait(self, seconds: float) -> bool:
        """-> whether it ended by itself within that time."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            self._peak_mb = max(self._peak_mb, sum(map(peak_mb, self._family())))
            time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))
        return self._process.poll() is not None

    def kill(self) -> Ended:
        """As a machine that is taken away does it; nothing can tidy up."""
        self._process.kill()
        return self.end()

    def end(self) -> Ended:
        """Of one that ended or was killed; one that runs took too long, and is stopped."""
        hung = self._process.poll() is None and not self._wait_briefly()
        if hung:
            self._process.kill()
        code = self._process.wait()
        left = tuple(digests_below(self._scratch)) if not hung and code >= 0 else ()
        shutil.rmtree(self._scratch, ignore_errors=True)
        errors = self._errors.read_text(errors="replace")
        return Ended(None if hung else code, errors, time.monotonic() - self._began, self._peak_mb, left)

    def _wait_briefly(self) -> bool:
        """-> whether it has ended now, as one does that was killed."""
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _family(self) -> list[int]:
        try:
            below = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [self._process.pid, *(child.pid for child in below)]


def digests_below(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by its relative path. What a killed command started runs on for a second,
    and may delete some meanwhile.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
