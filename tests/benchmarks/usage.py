"""What a command takes, with all the processes that it starts: time, CPU and memory. On Linux."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL_SECONDS = 0.1
TRANSFORM_FN = "beam_pipelines.metadata.transform_fn"  # the process that makes it has memory and CPU of its own
UNSEEN = 0.2  # CPU seconds by which looks at processes and the kernel's sum may differ
ORPHAN_SECONDS = 10.0
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


@dataclass(frozen=True)
class Usage:
    """Of one command that ended well. Memory is in MB of 10^6 bytes."""

    seconds: float
    cpu_seconds: float  # user and system, of the command and all its descendants
    printed: str
    transform_fn_cpu_seconds: float  # part of cpu_seconds
    memory: dict[str, float]


@dataclass
class Seen:
    """What looks at the running processes found."""

    cpu_seconds: dict[tuple[int, float], float] = field(default_factory=dict)  # (process, when it began) -> at last
    transform_fn: set[tuple[int, float]] = field(default_factory=set)
    memory: dict[str, float] = field(default_factory=dict)

    def keep(self, name: str, megabytes: float) -> None:
        self.memory[name] = max(self.memory.get(name, 0.0), megabytes)

    def transform_fn_cpu_seconds(self) -> float:
        return sum(self.cpu_seconds[each] for each in self.transform_fn)


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Usage:
    """Runs a command to its end.

    The kernel adds the CPU of a process to that of its parent when the parent waits for it. Descendants that nobody
    waited for, as Prism, come to this process when the command ends, and are waited for here.

    Raises:
      SystemExit: the command failed, left a process that goes on, or used CPU that is not counted.
    """
    seen = Seen()
    with adopted_orphans():
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True)
        watch = threading.Thread(target=look_until_end, args=(process.pid, seen))
        watch.start()
        assert process.stdout is not None
        with process.stdout:
            printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.join()
        counted = used.ru_utime + used.ru_stime + sum(wait_for_orphan(pid) for pid, _ in seen.cpu_seconds)
    if process.returncode:
        output = f":\n{printed}" if printed else ""
        raise SystemExit(f"`{' '.join(command)}` in {cwd} exited with {process.returncode}{output}")
    check_counted(counted, sum(seen.cpu_seconds.values()))
    return Usage(seconds, counted, printed, seen.transform_fn_cpu_seconds(), seen.memory)


@contextlib.contextmanager
def adopted_orphans() -> Iterator[None]:
    """During the block, descendants whose parents end become children of this process."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    try:
        yield
    finally:
        library.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def wait_for_orphan(pid: int) -> float:
    """CPU seconds of a process that came to this one; 0 if its own parent has waited for it."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < deadline:
        try:
            ended, _, used = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            return 0.0
        if ended:
            return used.ru_utime + used.ru_stime
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"process {pid} goes on {ORPHAN_SECONDS:.0f} s after the command that it belongs to has ended")


def check_counted(counted: float, seen: float) -> None:
    """Raises SystemExit if processes used more CPU than is counted."""
    if seen > counted + UNSEEN:
        raise SystemExit(f"processes were seen to use {seen:.1f} s of CPU, of which {counted:.1f} s are counted")


def look_until_end(pid: int, seen: Seen) -> None:
    """Looks at a process and its descendants until it has ended."""
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            resident = [look(each, seen) for each in (process, *process.children(recursive=True))]
            seen.keep("all_processes_rss_mb", sum(resident))
            time.sleep(POLL_SECONDS)
    except psutil.NoSuchProcess:
        return


def look(process: psutil.Process, seen: Seen) -> float:
    """Notes CPU and the highest resident memory so far, which the kernel keeps (VmHWM). -> MB that are resident now."""
    try:
        identity = (process.pid, process.create_time())
        used, command = process.cpu_times(), process.cmdline()
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except (psutil.NoSuchProcess, OSError):
        return 0.0
    if command:  # a process that has ended has none
        seen.cpu_seconds[identity] = used.user + used.system
    if TRANSFORM_FN in command:
        seen.transform_fn.add(identity)
    if peak := _megabytes("VmHWM", status):
        seen.keep("transform_fn_peak_rss_mb" if TRANSFORM_FN in command else "peak_rss_mb", peak)
    return _megabytes("VmRSS", status)


def _megabytes(name: str, status: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e6 if found else 0.0
