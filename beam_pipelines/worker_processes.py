"""FnApiRunner's worker processes: a run fails when one of them dies.

Beam itself notices that only while the connections of the worker are open. It waits without end for a worker that dies
before it connects, and for one that connects only after the run has failed because of another.
"""

from __future__ import annotations

import contextlib
import threading

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler, WorkerHandler

from beam_pipelines.errors import LOST_WORKER

_POLL_SECONDS = 0.5


def watch() -> None:
    """Makes FnApiRunner watch the worker processes that it starts from now on."""
    WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(WatchedWorkerHandler)


class WatchedWorkerHandler(SubprocessSdkWorkerHandler):
    """Beam's handler, which also fails what waits for the worker once its process has ended."""

    def start_worker(self) -> None:
        self._closed = threading.Event()
        super().start_worker()
        threading.Thread(target=self._watch, name="watch_worker", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        super().close()

    def stop_worker(self) -> None:
        while self.worker_thread.is_alive():
            self.control_conn.close()  # again, since this tells only a worker that is connected to end
            self.worker_thread.join(_POLL_SECONDS)

    def _watch(self) -> None:
        self.worker_thread.join()
        if not self._closed.is_set():
            self.data_conn.close()
        while not self._closed.wait(_POLL_SECONDS):  # a request may still be sent, and would never be answered
            with contextlib.suppress(RuntimeError):  # the requests changed while they were gone through
                self.control_conn.abort(RuntimeError(LOST_WORKER))
