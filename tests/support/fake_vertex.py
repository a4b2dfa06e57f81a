"""A service on this machine that takes Vertex AI's job requests, and answers as Google would."""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeVertex:
    """`requests` holds (method, path, body) of each request; `refusal` is (status, message) of the next answers."""

    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None

    def start(self) -> str:
        """-> the address. Serves as long as this process lives."""
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append((self.command, self.path.partition("?")[0], body))
                status, answer = fake._answer(self.path.partition("?")[0], body)
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
        made = {"name": f"{path.removeprefix('/v1/')}/4711", "state": "JOB_STATE_PENDING"}
        return 200, body | made | {"createTime": "2026-01-01T00:00:00Z"}
