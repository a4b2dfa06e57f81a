"""A front before the storage emulator: it makes faults by rule, holds requests to preconditions, which the emulator
does not know, and is the proxy by which TensorFlow, whose addresses are fixed, comes to the emulator.
"""

from __future__ import annotations

import datetime
import http.client
import http.server
import json
import re
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HOSTS = ("storage.googleapis.com", "www.googleapis.com")  # TensorFlow's
AUTHORITY = "authority.pem"
_OF_CONNECTION = {
    "host",
    "connection",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "expect",
    "accept-encoding",
}
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends no farewell


@dataclass
class Fault:
    """What becomes of requests in whose line, `METHOD PATH?QUERY NAME`, unquoted, `pattern` is found. NAME is that of
    the object that is uploaded; of a batch the whole body stands there. `skip` of them pass, then `times` are hit, or
    all; `hits` counts those.

    kind: an HTTP status that is answered at once (int); seconds that the answer comes later (float); a barrier where
    answers wait for each other; or a connection that is reset: "cut request" amid the request, "cut answer" amid the
    answer, "lose answer" when only that is left.
    """

    pattern: str
    kind: int | float | threading.Barrier | str
    times: int | None = 1
    skip: int = 0
    hits: int = 0

    def meets(self, line: str) -> bool:
        if not re.search(self.pattern, line) or (self.times is not None and self.hits >= self.times):
            return False
        self.skip -= 1
        self.hits += self.skip < 0
        return self.skip < 0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Front:
    """Does what the emulator at `emulator`, host:port, does, but for the faults; served at `address`."""

    emulator: str
    authority: str  # the file of the certificate that its clients have to trust
    address: str = ""
    faults: tuple[Fault, ...] = ()
    lines: list[str] = field(default_factory=list)  # of all requests
    _uploads: dict[str, str] = field(default_factory=dict)  # what an upload goes to
    _unheard: dict[str, Answer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def making(self, *faults: Fault) -> Iterator[tuple[Fault, ...]]:
        """Makes these faults, and no others, while the block runs."""
        self.faults = faults
        try:
            yield faults
        finally:
            self.faults = ()

    @property
    def for_tensorflow(self) -> dict[str, str]:
        """The environment of a process whose gs:// comes here."""
        return {
            "HTTPS_PROXY": f"http://{self.address}",
            "CURL_CA_BUNDLE": self.authority,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",
        }

    def line_of(self, method: str, path: str, body: bytes) -> str:
        upload = re.search("upload_id=([^&]+)", path)
        about = body.decode() if "/batch/" in path else self._uploads.get(upload[1], "") if upload else ""
        return urllib.parse.unquote(f"{method} {path} {about or _name(path, body)}")

    def fault_of(self, line: str) -> Fault | None:
        with self._lock:
            self.lines.append(line)
            return next((fault for fault in self.faults if fault.meets(line)), None)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The emulator's answer, or that a precondition does not hold."""
        if path in self._unheard:  # Google says the end of an upload again, the emulator has forgotten it
            return self._unheard.pop(path)
        wanted = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query).get("ifGenerationMatch")
        if wanted is None:
            return self._forward(method, path, headers, body)
        with self._lock:
            holds = self._generation(path, body) == wanted[0]
            return self._forward(method, path, headers, body) if holds else refusal(412, path, body)

    def lose(self, path: str, answer: Answer) -> None:
        if "upload_id=" in path:
            self._unheard[path] = answer

    def _forward(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.emulator, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            answer = Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()
        if upload := re.search("upload_id=([^&]+)", answer.headers.get("Location", "")):
            self._uploads[upload[1]] = _name(path, body)
        if answer.status == 308 and answer.headers.get("Range") == "bytes=0-0":
            # The emulator says so where it has nothing of an upload yet; Google leaves the header out.
            return replace(answer, headers={k: v for k, v in answer.headers.items() if k != "Range"})
        return answer

    def _generation(self, path: str, body: bytes) -> str:
        """Of the object that is to be written or deleted; 0 where there is none."""
        place = urllib.parse.urlsplit(path).path.removeprefix("/upload")
        if name := _name(path, body):
            place += "/" + urllib.parse.quote(name, safe="")
        found = self._forward("GET", place, {}, b"")
        return json.loads(found.body)["generation"] if found.status == 200 else "0"


def _name(path: str, body: bytes) -> str:
    """Of the object that an upload begins with; nothing for other requests."""
    url = urllib.parse.urlsplit(path)
    if not url.path.startswith("/upload/"):
        return ""
    told = re.search(r'"name": ?"([^"]+)"', body[:2000].decode("latin-1"))
    return urllib.parse.parse_qs(url.query).get("name", [told[1] if told else ""])[0]


def refusal(status: int, path: str, body: bytes) -> Answer:
    """As Google refuses: of a batch each of its parts."""
    reason = http.client.responses[status]
    error = json.dumps({"error": {"code": status, "message": f"{reason}, says the rule"}})
    if "/batch/" not in path:
        return Answer(status, {"Content-Type": "application/json"}, error.encode())
    part = f"Content-Type: application/http\r\n\r\nHTTP/1.1 {status} {reason}\r\n\r\n{error}\r\n"
    parts = (f"--part\r\n{part}") * body.count(b"Content-Type: application/http")
    return Answer(200, {"Content-Type": "multipart/mixed; boundary=part"}, f"{parts}--part--".encode())


class _Handler(http.server.BaseHTTPRequestHandler):
    """The requests of a connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def serve(self) -> None:
        front = self.server.front
        body = self._read() if self.command == "POST" else b""  # its beginning says what it is about
        line = front.line_of(self.command, self.path, body)
        fault = front.fault_of(line)
        kind = fault.kind if fault else None
        if kind == "cut request":
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2 if self.command != "POST" else 0)
            return self._reset()
        body = body or self._read()
        if isinstance(kind, int):
            answer = refusal(kind, self.path, body)
        else:
            answer = front.answer(self.command, self.path, self._passed(), body)
        if isinstance(kind, float):
            time.sleep(kind)
        if isinstance(kind, threading.Barrier):
            kind.wait()
        if kind == "lose answer":
            front.lose(self.path, answer)
            return self._reset()
        self._send(answer, cut=kind == "cut answer")
        return None

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = serve  # noqa: N815 names of http.server

    def do_CONNECT(self) -> None:
        """Speaks TLS as the host that was asked for, and serves what is asked then."""
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        try:
            with self.server.tls.wrap_socket(self.connection, server_side=True) as secured:
                type(self)(secured, self.client_address, self.server)
        except OSError:
            pass  # the client has gone

    def _read(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):  # of both, as TensorFlow sends, it counts
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _passed(self) -> dict[str, str]:
        passed = {name: value for name, value in self.headers.items() if name.lower() not in _OF_CONNECTION}
        return passed | {"Host": self.server.front.address}  # the emulator makes links of it

    def _send(self, answer: Answer, cut: bool) -> None:
        self.send_response_only(answer.status)  # its Date is the emulator's
        for name, value in answer.headers.items():
            if name.lower() == "location" and isinstance(self.connection, ssl.SSLSocket):
                value = value.replace(f"http://{self.server.front.address}", f"https://{self.headers['Host']}")
            if name.lower() not in _OF_CONNECTION | {"server", "date"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        if cut:
            self._reset()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, front: Front, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.front, self.tls = front, tls

    def shutdown_request(self, request: Any) -> None:
        """Without the farewell that comes before closing."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that was killed
            super().handle_error(request, client_address)


@contextmanager
def serve(emulator: str, folder: Path) -> Iterator[Front]:
    """A front in threads of this process; `folder` is for the certificates."""
    front = Front(emulator, str(folder / AUTHORITY))
    with _Server(front, _tls(folder)) as server:
        front.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield front
        server.shutdown()
        thread.join()


def _tls(folder: Path) -> ssl.SSLContext:
    """As `HOSTS`, by an authority of our own, whose certificate is written to `folder`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())  # one for both
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])

    def certificate(name: x509.Name, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=True)
        day = datetime.timedelta(days=1)
        made = builder.not_valid_before(now - day).not_valid_after(now + day).sign(key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    (folder / AUTHORITY).write_bytes(certificate(issuer, x509.BasicConstraints(ca=True, path_length=None)))
    host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])])
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in HOSTS])
    (folder / "server.pem").write_bytes(certificate(host, names) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
