"""Starts the workers of each reader, and says what came of every case: a process that dies or hangs is a result."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent.parent
TIMEOUT = 20.0  # seconds of one case


@dataclass
class Result:
    """What came of the cases of one reader. `failures` are (case, what happened)."""

    tried: int = 0
    equal: int = 0
    other: int = 0
    refused: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    worst_s: float = 0.0
    worst_case: int = 0
    peak_mb: int = 0

    def add(self, tally: dict[str, Any]) -> None:
        for name in ("tried", "equal", "other", "refused"):
            setattr(self, name, getattr(self, name) + tally[name])
        self.failures += [(case, told) for case, told in tally["failures"]]
        self.peak_mb = max(self.peak_mb, tally["peak_mb"])
        if tally["worst_s"] > self.worst_s:
            self.worst_s, self.worst_case = tally["worst_s"], tally["worst_case"]


def torture(reader: str, seed: int, start: int, stop: int, timeout: float = TIMEOUT) -> Result:
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
                result.failures.append((case, end))
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
