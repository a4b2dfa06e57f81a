"""Runs the checks in the order of their table, each with a timeout, and prints a line for each finding."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from beam_pipelines.errors import BuildError
from launch.doctor.check import Check, Session
from launch.doctor.findings import FAILURE, SKIPPED, STATUSES, Finding
from launch.doctor.google import AccessDeniedError
from launch.doctor.options import DoctorSettings
from launch.errors import LaunchError


def run_checks(checks: Sequence[Check], settings: DoctorSettings) -> int:
    """Prints each finding at once, and finally the number of findings by status.

    Returns:
      The exit code: 1 if there is a failure, else 0.
    """
    session, counts = Session(settings), Counter[str]()
    for check in checks:
        if not check.applies(settings):
            continue
        for finding in run_check(check, session):
            print(finding, flush=True)
            counts[finding.status] += 1
    print(", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]))
    return int(counts[FAILURE] > 0)


def run_check(check: Check, session: Session) -> Iterator[Finding]:
    """Yields the findings of a check, which runs in a thread that is abandoned after the timeout.

    Raises:
      Exception: an error of the check that is neither a LaunchError nor a BuildError.
    """
    if reason := check.reason_to_skip(session):
        yield Finding(SKIPPED, reason, check.name)
        return
    found: queue.Queue[Finding | BaseException | None] = queue.Queue()
    threading.Thread(target=_collect, args=(check, session, found), daemon=True).start()
    deadline = time.monotonic() + check.seconds
    while True:
        try:
            finding = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            message = f"no result within {check.seconds:g} s: check the network, the proxy and the load of this machine"
            yield Finding(FAILURE, message, check.name)
            return
        if finding is None:
            return
        if isinstance(finding, BaseException):
            raise finding
        yield replace(finding, name=finding.name or check.name)


def _collect(check: Check, session: Session, found: queue.Queue[Finding | BaseException | None]) -> None:
    """Puts the findings into the queue, then an exception that is a fault of the program, if any, then None."""
    try:
        for finding in check.find(session):
            found.put(finding)
    except (LaunchError, BuildError) as error:
        status = SKIPPED if isinstance(error, AccessDeniedError) else FAILURE
        found.put(Finding(status, str(error)))
    except BaseException as error:
        found.put(error)
    found.put(None)
