"""The hosts of a job as processes on this machine, which are started and stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

from launch.errors import LaunchError

GRACE_SECONDS = 30.0  # between SIGTERM and SIGKILL, as on Vertex AI
_Process = subprocess.Popen[bytes]


def run_hosts(command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> int:
    """Runs `command` once per environment, chief first, until the chief is done or a host fails.

    Returns:
      0, or 128 + the number of the signal that stopped the hosts.

    Raises:
      LaunchError: a host failed.
      OSError: a host could not be started; the others are stopped.
    """
    processes: list[_Process] = []
    with _forwarded_signals(processes) as received:
        try:
            for environment in environments:
                if not received:
                    processes.append(_start(command, environment))
            if not received:  # a host may have been started while the signal was forwarded
                _wait_for_chief(processes, received)
        finally:
            codes = [process.poll() for process in processes]  # before the others are stopped because of one
            _end(processes)
    if received and (len(codes) < len(environments) or codes[0] is None or any(codes)):
        return 128 + next(iter(received))
    failed = [f"{_name(index)} {_outcome(code)}" for index, code in enumerate(codes) if code]
    if failed:
        raise LaunchError(f"{'; '.join(failed)}. Run the same command again to resume from the latest checkpoint")
    return 0


def _start(command: Sequence[str], environment: Mapping[str, str]) -> _Process:
    """Starts a host in a session of its own, so that Ctrl-C reaches only this process, which forwards it once."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(command, env={**inherited, **environment}, start_new_session=True)


def _wait_for_chief(processes: Sequence[_Process], received: Mapping[int, float]) -> None:
    """Waits until the chief has succeeded, a host has failed, or the grace period after a signal is over."""
    while processes[0].poll() != 0 and not any(process.poll() for process in processes):
        if received and time.monotonic() > _deadline(received):
            return
        time.sleep(0.1)
    if received:
        _wait(processes, _deadline(received))


def _end(processes: Sequence[_Process]) -> None:
    """Stops the hosts that are still running: a job ends when the chief finishes or a host fails."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    _wait(processes, time.monotonic() + GRACE_SECONDS)
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def _deadline(received: Mapping[int, float]) -> float:
    """The end of the grace period after the first signal, in seconds of time.monotonic."""
    return min(received.values()) + GRACE_SECONDS


def _wait(processes: Sequence[_Process], deadline: float) -> None:
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.1)


@contextlib.contextmanager
def _forwarded_signals(processes: Sequence[_Process]) -> Iterator[dict[int, float]]:
    """Forwards SIGINT and SIGTERM to the processes. Yields signal -> when it first arrived, filled as they arrive."""
    received: dict[int, float] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        received.setdefault(number, time.monotonic())
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name(index: int) -> str:
    return "the chief" if index == 0 else f"worker {index - 1}"


def _outcome(code: int) -> str:
    return f"failed with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
