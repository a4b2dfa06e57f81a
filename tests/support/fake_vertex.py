"""A service on this machine that takes the requests of Vertex AI, Cloud Build and Artifact Registry, and answers as
Google would.
"""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeVertex:
    """`requests` holds (method, path, body) of each request that makes something; `refusal` is (status, message) of the
    next answers.

    Attributes:
      tags: of Artifact Registry, by the names of their resources.
      states: of the build or the job, one for each time that it is asked for.
    """

    tags: set[str] = field(default_factory=set)
    states: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None

    def start(self) -> str:
        """-> the address. Serves as long as this process lives."""
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                path = self.path.partition("?")[0]
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append((self.command, path, body))
                self._tell(*fake._answer(path, body))

            def do_GET(self) -> None:
                self._tell(*fake._found(self.path.partition("?")[0].removeprefix("/v1/")))

            def _tell(self, status: int, answer: Any) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Keeps quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    def _answer(self, path: str, body: Any) -> tuple[int, Any]:
        if self.refusal:
            status, message = self.refusal
            return status, {"error": {"code": status, "message": message, "status": "REFUSED"}}
        if path.endswith("/builds"):
            return 200, {
                "name": "operations/build/any",
                "metadata": {"build": body | {"id": "4711", "status": "QUEUED"}},
            }
        made = {"name": f"{path.removeprefix('/v1/')}/4711", "state": "JOB_STATE_PENDING"}
        return 200, body | made | {"createTime": "2026-01-01T00:00:00Z"}

    def _found(self, name: str) -> tuple[int, Any]:
        if name.endswith("/builds/4711"):
            return 200, {"id": "4711", "logUrl": "https://console/builds/4711"} | self.states.pop(0)
        if name.endswith("/4711"):
            return 200, {"name": name} | self.states.pop(0)
        if name in self.tags:
            return 200, {"name": name, "version": "any"}
        return 404, {"error": {"code": 404, "message": f"there is no {name}", "status": "NOT_FOUND"}}
