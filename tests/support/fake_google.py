"""Google's Service Usage, Compute Engine and account services, Docker Hub, and a storage that refuses; all here."""

from __future__ import annotations

import http.server
import json
import os
import threading
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

REGION = "europe-west4"


@dataclass
class FakeGoogle:
    """What a project has. `refusals` is the start of a request's line -> (status, message) that answers it."""

    off: tuple[str, ...] = ()
    quotas: dict[str, tuple[float, float]] = field(default_factory=dict)  # metric -> limit, used
    accelerators: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # metric -> its buckets
    bucket: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    content: bytes = b"doctor"  # of every object
    tags: tuple[str, ...] = ("/v2/repositories/tensorflow/tensorflow/tags/2.21.0-gpu",)  # that Docker Hub has
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def start(self) -> str:
        """-> the address. Serves as long as this process lives."""
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                line = f"{self.command} {self.path}"
                fake.asked.append((line, dict(self.headers)))
                status, value = fake._answer(line)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keeps quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    def _answer(self, line: str) -> tuple[int, Any]:
        for start, (status, message) in self.refusals.items():
            if line.startswith(start):
                return status, {"error": {"code": status, "message": message, "status": "REFUSED"}}
        method, target = line.split(" ", 1)
        path, _, query = target.partition("?")
        if path == "/token":
            return 200, {"access_token": "any", "expires_in": 3600, "token_type": "Bearer"}
        if path == "/tokeninfo":
            return 200, {"email": "ada@example.org", "expires_in": "3000"}
        if path == "/v1/projects/street/services:batchGet":
            names = urllib.parse.parse_qs(query)["names"]
            assert all(name.startswith("projects/street/services/") for name in names)
            return 200, {"services": [self._service(name.rpartition("/")[2]) for name in names]}
        if path == f"/compute/v1/projects/street/regions/{REGION}":
            rows = [{"metric": name, "limit": limit, "usage": used} for name, (limit, used) in self.quotas.items()]
            return 200, {"name": REGION, "status": "UP", "quotas": rows}
        if path in self.tags:
            return 200, {"name": path.rpartition("/")[2], "tag_last_pushed": "2026-03-09T18:22:01.123456Z"}
        metrics = "/v1beta1/projects/street/services/aiplatform.googleapis.com/consumerQuotaMetrics/"
        if path.startswith(metrics):
            metric = urllib.parse.unquote(path.removeprefix(metrics)).removeprefix("aiplatform.googleapis.com/")
            if metric in self.accelerators:
                return 200, {"metric": metric, "consumerQuotaLimits": [{"quotaBuckets": self.accelerators[metric]}]}
        if path == "/storage/v1/b/street":
            return 200, {"name": "street"} | self.bucket
        if path.startswith("/upload/storage/v1/b/street/o"):
            return 200, {"bucket": "street", "name": "runs/_doctor", "generation": "1"}
        if path.startswith("/download/storage/v1/b/street/o/"):
            return 200, self.content
        if method == "DELETE":
            return 204, b""
        return 404, {"error": {"code": 404, "message": f"there is no {path}", "status": "NOT_FOUND"}}

    def _service(self, name: str) -> dict[str, Any]:
        return {"name": f"projects/4711/services/{name}", "state": "DISABLED" if name in self.off else "ENABLED"}


def set_location(location: str) -> None:
    """Moves the storage emulator's bucket."""
    url = f"{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/b/street"
    body = json.dumps({"location": location}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PATCH")).close()
