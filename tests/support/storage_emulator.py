"""A bucket on this machine: `python storage_emulator.py BUCKET` serves Google Cloud Storage's API until stdin ends.

It prints one JSON line, `{"storage": PORT, "token": PORT}`; at the second port any service account gets a token.
"""

from __future__ import annotations

import http.server
import json
import socket
import sys
import threading

from gcp_storage_emulator import server

_read_data = server._read_data
# TensorFlow makes "folders" by uploading nothing to names that end in a slash; the emulator takes no bytes for None.
server._read_data = lambda *request: b"" if (data := _read_data(*request)) is None else data


class TokenHandler(http.server.BaseHTTPRequestHandler):
    """The OAuth token endpoint; it trusts everybody."""

    def do_POST(self) -> None:
        body = json.dumps({"access_token": "any", "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


def main(bucket: str) -> None:
    """Serves until stdin ends, which it does with the process that started this one."""
    tokens = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TokenHandler)
    threading.Thread(target=tokens.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with server.create_server("127.0.0.1", port, in_memory=True, default_bucket=bucket):
        print(json.dumps({"storage": port, "token": tokens.server_port}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
