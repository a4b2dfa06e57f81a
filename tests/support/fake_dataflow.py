"""Google Dataflow's REST API on this machine: takes jobs, runs their staged graphs, tells their states and counters."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beam_pipelines.files import storage
from launch.dataflow.worker import make_worker, run_worker
from tests.support.builds import PROJECT

RUN_GRAPH = Path(__file__).parent / "run_graph.py"


class Job:
    """A job that was created. `script` holds the (state, counters, messages) that one look after the other finds."""

    def __init__(self, body: dict[str, Any], number: int, script: Sequence[tuple[str, dict[str, int], list[str]]]):
        self.body, self.id, self.script = body, f"2026-11-23_00_00_0{number}-{number}", list(script)
        self.state, self.counters, self.messages = self.script[0]
        self.done = threading.Event()

    @property
    def options(self) -> dict[str, Any]:
        """Beam's options, as workers get them."""
        found: dict[str, Any] = self.body["environment"]["sdkPipelineOptions"]["options"]
        return found

    @property
    def pool(self) -> dict[str, Any]:
        (pool,) = self.body["environment"]["workerPools"]
        return dict(pool)

    def stage(self, name: str, folder: Path) -> Path:
        """Downloads a file that was sent along."""
        (package,) = (package for package in self.pool["packages"] if package["name"] == name)
        path = folder / name
        with storage.open_read(package["location"].replace("storage.googleapis.com/", "gs://")) as file:
            path.write_bytes(file.read())
        return path

    def run(self, folder: Path) -> None:
        """Does what Dataflow does, with one worker: installs the package that was sent, and runs the graph. With an
        image of the user's own, which has the package, it is this Python that runs it.
        """
        try:
            folder.mkdir()
            if self.options.get("sdk_container_image"):
                python, more = Path(sys.executable), {"PYTHONPATH": str(PROJECT)}
            else:
                python, more = make_worker(folder / "worker", self.stage("workflow.tar.gz", folder)), {}
            done = run_worker(python, str(RUN_GRAPH), self.options["pipelineUrl"], cwd=folder, **more)
        except Exception:
            self.state, self.messages = "JOB_STATE_FAILED", [traceback.format_exc()]
        else:
            if done.returncode:
                self.state, self.messages = "JOB_STATE_FAILED", ["Workflow failed.", done.stderr]
            else:
                self.counters = json.loads(done.stdout.splitlines()[-1])
                self.state = "JOB_STATE_DONE"
        self.done.set()

    def look(self) -> dict[str, Any]:
        """The job as the API tells it; the script goes one step on."""
        if len(self.script) > 1:
            del self.script[0]
            self.state, self.counters, self.messages = self.script[0]
        return {
            "id": self.id,
            "projectId": "street-scenes",
            "location": "us-central1",
            "name": self.body["name"],
            "type": "JOB_TYPE_BATCH",
            "currentState": self.state,
            "createTime": "2026-11-23T00:00:00Z",
        }

    def cancel(self) -> None:
        self.script = [("JOB_STATE_CANCELLED", self.counters, [])] * 2


class FakeDataflow(http.server.ThreadingHTTPServer):
    """`jobs` are those created so far. The next one is answered with `refuse`, (status, reason), if that is set, runs
    in a folder of `workers`, if that is set, and else follows `script`. `keep` answers those who cancel one.
    """

    def __init__(self) -> None:
        super().__init__(("localhost", 0), Handler)
        self.jobs: list[Job] = []
        self.asked: list[str] = []
        self.refuse: tuple[int, str] | None = None
        self.keep: tuple[int, str] | None = None
        self.workers: Path | None = None
        self.script: Sequence[tuple[str, dict[str, int], list[str]]] = [("JOB_STATE_RUNNING", {}, [])]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"

    def create(self, body: dict[str, Any]) -> Job:
        running: list[tuple[str, dict[str, int], list[str]]] = [("JOB_STATE_RUNNING", {}, [])]
        job = Job(body, len(self.jobs), running if self.workers else self.script)
        self.jobs.append(job)
        if self.workers:
            threading.Thread(target=job.run, args=(self.workers / job.id,), daemon=True).start()
        return job

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(f"{method} {path.partition('?')[0]}")
        if self.refuse:
            return _error(*self.refuse)
        if method == "POST":
            return 200, self.create(body).look()
        job = next((job for job in self.jobs if f"/jobs/{job.id}" in path), None)
        if job is None:
            return _error(404, "there is no such job")
        if method == "PUT":
            if self.keep:
                return _error(*self.keep)
            job.cancel()
        if "/messages" in path:
            return 200, {"jobMessages": [_message(text) for text in job.messages]}
        if "/metrics" in path:
            return 200, {
                "metrics": [metric for name, count in job.counters.items() for metric in _metrics(name, count)]
            }
        return 200, job.look()


class Handler(http.server.BaseHTTPRequestHandler):
    """JSON in, JSON out."""

    protocol_version = "HTTP/1.1"
    server: FakeDataflow

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, value = self.server.answer(self.command, self.path, json.loads(body) if body else {})
        except Exception:
            status, value = _error(400, traceback.format_exc())
        answer = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


def _error(status: int, reason: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": status, "message": reason, "status": "REFUSED"}}


def _message(text: str) -> dict[str, str]:
    time = "2026-11-23T00:00:01Z"
    return {"id": "1", "time": time, "messageText": text, "messageImportance": "JOB_MESSAGE_ERROR"}


def _metrics(name: str, count: int) -> list[dict[str, Any]]:
    """What is counted so far, and what of it is committed, a part, once there is one; a distribution; another's."""
    ours, others = {"namespace": "beam_pipelines", "step": "s1"}, {"namespace": "others", "step": "s1"}
    found: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        (name, ours | {"tentative": "true"}, {"scalar": count}),
        (name, others, {"scalar": 999}),
        ("decode_milliseconds", ours, {"distribution": {"sum": 9, "count": 2, "min": 4, "max": 5}}),
    ]
    if count > 3:
        found.append((name, ours, {"scalar": count - 3}))
    return [{"name": {"origin": "user", "name": name, "context": context}, **value} for name, context, value in found]
