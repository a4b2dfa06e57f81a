"""Starts the workers of each reader, and says what came of every case: a process that dies or hangs is a result."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).parent.parent.parent
CASE_S = 20.0  # seconds that one case may take


class Failure(NamedTuple):
    """What may never happen: the number of the case, one of `KINDS`, and what was told."""

    case: int
    kind: str
    told: str


WRONG, UNTYPED, TIMEOUT = "wrong", "untyped error", "timeout"  # of a case
OUTSIDE, LOST, MEMORY = "outside", "lost", "memory"  # besides
KINDS = (WRONG, UNTYPED, TIMEOUT, OUTSIDE, LOST, MEMORY)


@dataclass
class Result:
    """What came of the cases of one torture: right ("equal"), read as something else, which damage may be, refused by
    a typed error, or a failure. `took_s` are the seconds of all.
    """

    tried: int = 0
    equal: int = 0
    other: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)
    worst_s: float = 0.0
    worst_case: int = 0
    peak_mb: int = 0
    took_s: float = 0.0

    def failed(self, kind: str) -> int:
        return sum(failure.kind == kind for failure in self.failures)

    def add(self, tally: dict[str, Any]) -> None:
        for name in ("tried", "equal", "other", "refused"):
            setattr(self, name, getattr(self, name) + tally[name])
        self.failures += [Failure(*failure) for failure in tally["failures"]]
        self.peak_mb = max(self.peak_mb, tally["peak_mb"])
        self.took(tally["worst_case"], tally["worst_s"])

    def took(self, case: int, seconds: float) -> None:
        if seconds > self.worst_s:
            self.worst_s, self.worst_case = seconds, case


def peak_mb(process: int | str = "self") -> int:
    """Of this program alone: `ru_maxrss` also has what the process held that started it. 0 for one that has ended."""
    try:
        told = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 if process == "self" else 0
    found = re.search(r"VmHWM:\s+(\d+)", told)
    return int(found[1]) // 1024 if found else 0


def torture(reader: str, seed: int, start: int, stop: int, timeout: float = CASE_S) -> Result:
    """Cases `start` to `stop` of the reader."""
    result, skipped = Result(), []  # type: tuple[Result, list[int]]
    with tempfile.TemporaryDirectory() as folder:
        progress, output = Path(folder) / "case", Path(folder) / "output"
        while start < stop:
            start_before = start
            progress.write_bytes(bytes(8))
            progress.write_bytes(start.to_bytes(8, "little"))
            arguments = [reader, str(progress), *map(str, (seed, start, stop, *skipped))]
            command = [sys.executable, "-m", "tests.torture.worker", *arguments]
            with output.open("w") as file, (Path(folder) / "errors").open("w") as errors:
                process = subprocess.Popen(command, cwd=PROJECT, stdout=file, stderr=errors)
                end = _wait(process, progress, timeout)
            for line in output.read_text().splitlines():
                tally = json.loads(line)
                start = tally["next"]
                result.add(tally)
            if start < stop:
                case = int.from_bytes(progress.read_bytes(), "little")
                if case in skipped or (end == "ended with 1" and case == start_before):
                    told = (Path(folder) / "errors").read_text()[-2000:]
                    raise RuntimeError(f"the worker of {reader!r} {end} at case {case}: {told}")
                result.failures.append(Failure(case, TIMEOUT if end.startswith("hung") else UNTYPED, end))
                result.tried += 1
                skipped.append(case)
    return result


def _wait(process: subprocess.Popen[bytes], progress: Path, timeout: float) -> str:
    """-> how the process ended; a case that takes longer than `timeout` ends it."""
    case, since = progress.read_bytes(), time.monotonic() + 60  # what it imports takes its time
    while process.poll() is None:
        time.sleep(0.05)
        if (now := progress.read_bytes()) != case:
            case, since = now, time.monotonic()
        if time.monotonic() - since > timeout:
            process.kill()
            process.wait()
            return f"hung for {timeout:.0f} s"
    if process.returncode < 0:
        return f"died of {signal.Signals(-process.returncode).name}"
    return f"ended with {process.returncode}"
